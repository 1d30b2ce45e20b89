"""The one transaction in which an upgrade or a rollback happens, on one connection."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from rollout import interrupt
from rollout.database import LOCK_KEY, another_run, first_line, lift_limits, quote, raw_connection, sqlstate
from rollout.errors import (
    ROLLED_BACK,
    UNKNOWN,
    DatabaseUnavailable,
    LockNotAcquired,
    MigrationFailed,
    PartialChange,
    RollbackFailed,
    RolloutError,
)
from rollout.messages import say

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from sqlalchemy import Connection, Engine

LOCK_NOT_AVAILABLE = "55P03"
DEADLOCK_DETECTED = "40P01"
DEPENDENT_OBJECTS = "2BP01"

# A server that went down before anything of the transaction was on its disk has forgotten the number: to it, it is one
# of the future. A replica may only be behind.
_STATUS = text(
    "SELECT CASE WHEN CAST(:id AS bigint) >= txid_snapshot_xmax(txid_current_snapshot()) AND NOT pg_is_in_recovery()"
    " THEN 'aborted' ELSE txid_status(CAST(:id AS bigint)) END"
)

# A session in ``run_lock`` holds LOCK_KEY; the transaction takes the next one, which also holds behind a pooler that
# hands one session to two clients.
TRANSACTION_LOCK_KEY = LOCK_KEY + 1


@contextmanager
def open_transaction(
    engine: Engine, locks: Mapping[str, str], *, lock_timeout: float, statement_timeout: float = 0.0
) -> Iterator[Connection]:
    """Yield a connection inside REPEATABLE READ, all ``locks`` (table of public → mode) taken before anything was read.

    A SELECT before LOCK TABLE would fix the snapshot too early: rows committed while we wait would be missed
    (https://www.postgresql.org/docs/current/sql-lock.html). Ends with ROLLBACK unless the caller has committed; a
    signal cancels what the server is doing, also while we wait for a lock. Raises ``LockNotAcquired``.
    """
    with engine.connect().execution_options(isolation_level="REPEATABLE READ") as connection:
        transaction = connection.begin()
        try:
            with interrupt.cancelling(raw_connection(connection)):
                _take_locks(connection, locks, lock_timeout, statement_timeout)
                yield connection
        finally:
            if transaction.is_active:
                _roll_back(connection)


def _take_locks(
    connection: Connection, locks: Mapping[str, str], lock_timeout: float, statement_timeout: float
) -> None:
    """Set the transaction's timeouts, then take every lock."""
    # SET LOCAL, not set_config(): a SELECT would take the snapshot.
    connection.exec_driver_sql(f"SET LOCAL lock_timeout = {round(lock_timeout * 1000)}")
    connection.exec_driver_sql(f"SET LOCAL statement_timeout = {round(statement_timeout * 1000)}")
    lift_limits(connection)
    connection.exec_driver_sql("SET LOCAL search_path = public")
    # Rows that row security would hide from us make an error; nothing is done to the rest as if it were all.
    connection.exec_driver_sql("SET LOCAL row_security = off")
    end_with_us(connection)
    for table, mode in locks.items():
        try:
            connection.exec_driver_sql(f"LOCK TABLE {quote('public', table)} IN {mode} MODE")
        except DBAPIError as error:  # noqa: PERF203 - a handful of tables, and each error names its own
            if sqlstate(error) not in {LOCK_NOT_AVAILABLE, DEADLOCK_DETECTED}:
                raise
            raise LockNotAcquired(
                say("no {mode} lock on table {table} within {seconds} s", mode=mode, table=table, seconds=lock_timeout),
                hint=say(
                    "End the long transaction on {table} (see pg_stat_activity), or raise ROLLOUT_LOCK_TIMEOUT.",
                    table=table,
                ),
            ) from error
    if not connection.execute(
        text("SELECT pg_try_advisory_xact_lock(:key)"), {"key": TRANSACTION_LOCK_KEY}
    ).scalar_one():
        raise another_run(connection, TRANSACTION_LOCK_KEY)


def end_with_us(connection: Connection) -> None:
    """Have the server end our statement, and with it its locks, when we are gone: from 14 on, not on every system.

    https://www.postgresql.org/docs/current/runtime-config-connection.html#GUC-CLIENT-CONNECTION-CHECK-INTERVAL
    """
    connection.exec_driver_sql("SAVEPOINT before_check_interval")
    try:
        connection.exec_driver_sql("SET LOCAL client_connection_check_interval = 1000")
    except DBAPIError:
        connection.exec_driver_sql("ROLLBACK TO SAVEPOINT before_check_interval")
    # Released in both cases: rows that are written below a savepoint do not carry the transaction's own id.
    connection.exec_driver_sql("RELEASE SAVEPOINT before_check_interval")


def no_lock(error: BaseException, message: str = "") -> LockNotAcquired | None:
    """Return what to raise where a statement of ours did not get its lock, and so was rolled back; None otherwise.

    ``message``: what is said of it, where the server's own words are not enough.
    """
    if sqlstate(error) not in {LOCK_NOT_AVAILABLE, DEADLOCK_DETECTED}:
        return None
    return LockNotAcquired(
        message or say("a lock did not come in time: {reason}", reason=first_line(error)),
        hint=say("Run this again when less is going on, or raise ROLLOUT_LOCK_TIMEOUT."),
        database=ROLLED_BACK,
    )


def refused(error: Exception, step: str, *, downwards: bool) -> RolloutError:
    """Return what to raise where the server refused a statement inside the transaction."""
    locked = no_lock(error)
    if locked is not None:
        return locked
    reason = first_line(error)
    if sqlstate(error) == DEPENDENT_OBJECTS and isinstance(error, DBAPIError):
        detail = getattr(getattr(error.orig, "diag", None), "message_detail", None) or ""
        reason = " ".join([reason, *detail.splitlines()[:1]])
    return (RollbackFailed if downwards else MigrationFailed)(
        say("failed in step {step}: {reason}", step=step, reason=reason),
        hint=say("Nothing was changed. Mend what the server names, then run this again; the report has the details."),
    )


def _roll_back(connection: Connection) -> None:
    """Roll back; a server that is gone has done so already."""
    try:
        connection.rollback()
    except DBAPIError:
        connection.invalidate()


def commit(connection: Connection, engine: Engine) -> None:
    """COMMIT; where the answer is lost, ask the server what became of the transaction.

    Raises ``MigrationFailed`` where it was rolled back, ``PartialChange`` where nobody can tell.
    https://www.postgresql.org/docs/current/functions-info.html (txid_status)
    """
    transaction_id = connection.execute(text("SELECT txid_current()")).scalar_one()
    raw = raw_connection(connection)
    try:
        connection.commit()
    except DBAPIError as error:
        if not raw.closed:
            raise MigrationFailed(
                say("COMMIT was refused: {reason}", reason=first_line(error)),
                hint=say("Mend what the server names, then run this again."),
            ) from error
        _ask_for(transaction_id, engine, error)


def _ask_for(transaction_id: int, engine: Engine, error: DBAPIError) -> None:
    """Find out whether a transaction whose COMMIT got no answer is committed."""
    for _ in range(30):
        try:
            with engine.connect() as connection:
                status = connection.execute(_STATUS, {"id": transaction_id}).scalar_one()
        except (DatabaseUnavailable, DBAPIError):
            status = None
        if status == "committed":
            return
        if status == "aborted":
            raise MigrationFailed(
                say("the connection was lost at COMMIT: {reason}", reason=first_line(error)),
                hint=say("Nothing was changed; run the same command again."),
                database=ROLLED_BACK,
            ) from error
        time.sleep(1)
    raise PartialChange(
        say("the connection was lost at COMMIT, and the server cannot be asked what became of it"),
        hint=say("When it is back: SELECT txid_status({id}); then `tool status`.", id=transaction_id),
        database=UNKNOWN,
    ) from error
