"""What we remember in the schema ``rollout``: runs, applied revisions, and what was there before us.

Created on first use. Runs are written on a connection of their own, so that a failed run is remembered too; what an
upgrade found before it (``preexisting_objects``) is written inside the upgrade's transaction, and stands or falls with
it.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from rollout import interrupt
from rollout.database import describe, engine_for, expected, first_line, run_lock, sqlstate
from rollout.errors import Interrupted, MigrationFailed, PreflightFailed, RolloutError
from rollout.messages import say

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from sqlalchemy import Connection, Engine

    from rollout.run import Run
    from rollout.settings import Settings

READ_ONLY, INSUFFICIENT_PRIVILEGE = "25006", "42501"

GRANT_MEMORY = say("As its owner: GRANT ALL ON SCHEMA rollout, and ALL ON ALL TABLES IN SCHEMA rollout, to this user.")
"""The hint for a role that has no rights in our schema."""

SCHEMA_SQL = Path(__file__).parent / "sql" / "rollout_schema.sql"


def exists(connection: Connection) -> bool:
    """Tell whether our memory is there."""
    return bool(connection.execute(text("SELECT to_regclass('rollout.runs') IS NOT NULL")).scalar_one())


def readable(connection: Connection) -> bool:
    """Tell whether our memory is there and we may read it; never raises, whatever our rights are."""
    return bool(
        connection.execute(
            text(
                "SELECT count(*) = 3 AND bool_and(has_schema_privilege(n.oid, 'USAGE')"
                " AND has_table_privilege(c.oid, 'SELECT'))"
                " FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
                " WHERE n.nspname = 'rollout' AND c.relname IN ('runs', 'applied_revisions', 'preexisting_objects')"
            )
        ).scalar_one()
    )


def create(connection: Connection) -> None:
    """Create the schema ``rollout`` where it is missing; raise ``PreflightFailed`` where we may not."""
    if exists(connection):
        return
    try:
        connection.exec_driver_sql(SCHEMA_SQL.read_text(encoding="utf-8"))
    except DBAPIError as error:
        hint = say("As the database's owner: GRANT CREATE ON DATABASE … TO the user of DATABASE_URL;")
        raise _unusable(error, hint) from error


def preexisting(connection: Connection) -> frozenset[str]:
    """Return the objects (manifest keys) that were there before our revisions; empty without a memory."""
    if not exists(connection):
        return frozenset()
    return frozenset(connection.execute(text("SELECT object FROM rollout.preexisting_objects")).scalars())


def remember_preexisting(connection: Connection, objects: Iterable[tuple[str, str]]) -> None:
    """Remember (object, revision) pairs as there before us; what is known already stays."""
    rows = [{"object": key, "revision": revision} for key, revision in objects]
    if rows:
        connection.execute(
            text(
                "INSERT INTO rollout.preexisting_objects (object, revision) VALUES (:object, :revision)"
                " ON CONFLICT (object) DO NOTHING"
            ),
            rows,
        )


def forget_preexisting(connection: Connection, revisions: Iterable[str]) -> None:
    """Forget what was there before revisions that are no longer applied."""
    connection.execute(
        text("DELETE FROM rollout.preexisting_objects WHERE revision = ANY(:revisions)"), {"revisions": list(revisions)}
    )


def applied(connection: Connection) -> set[str]:
    """Return the revisions that we remember as applied; empty without a memory."""
    if not exists(connection):
        return set()
    return set(connection.execute(text("SELECT revision FROM rollout.applied_revisions")).scalars())


@dataclass
class Session:
    """A recorded run's way to the database: ``engine`` for work, ``own`` (autocommit) holds the lock and the memory."""

    engine: Engine
    own: Connection
    settings: Settings

    def still_ours(self) -> None:
        """Raise ``MigrationFailed`` where ``own`` has ended, and the lock with it: another run may have begun since."""
        with suppress(SQLAlchemyError, RolloutError):
            self.own.execute(text("SELECT"))
            return
        raise MigrationFailed(
            say("the session that holds this run's lock was ended; another run may have begun since"),
            hint=say("Nothing was changed. See in `tool history` that no other run is under way, then run this again."),
        )


@contextmanager
def recorded(settings: Settings, run: Run) -> Iterator[Session]:
    """Open the target, take the run lock, record the run's start, and its outcome whatever happens.

    Sets ``run.target``, ``run.run_id``, ``run.error``; raises what the block raised. The report is the caller's.
    """
    engine = engine_for(settings.target)
    with _outcome_of(run):
        if run.target is None:  # `tool adopt` has looked, and asked, before
            with run.step("connect"), engine.connect() as connection:
                run.target = describe(connection, settings.target)
        with run_lock(engine) as own:
            _begin(own, run)
            try:
                with _outcome_of(run):
                    yield Session(engine, own, settings)
            finally:
                with interrupt.finishing():
                    run.finish()
                    _end(engine, own, run)


@contextmanager
def _outcome_of(run: Run) -> Iterator[None]:
    """Keep in the run what ended the block."""
    try:
        with expected(run):
            yield
    except RolloutError as error:
        run.failed(error)
        raise
    except KeyboardInterrupt:
        if run.error is None:
            run.failed(Interrupted(database=run.database if run.database != "changed" else "unknown"))
        raise
    except BaseException:
        run.exit_code, run.database = 1, "unknown"
        raise


def _begin(own: Connection, run: Run) -> None:
    """Record that a run has begun; raise ``PreflightFailed`` where it cannot be."""
    create(own)
    try:
        own.execute(
            text("INSERT INTO rollout.runs (run_id, command, started_at) VALUES (:run_id, :command, :started_at)"),
            {"run_id": run.run_id, "command": run.command, "started_at": run.started_at},
        )
    except DBAPIError as error:
        raise _unusable(error, GRANT_MEMORY) from error
    run.recorded = True


def _unusable(error: DBAPIError, hint: str) -> PreflightFailed:
    """Say why our memory cannot be written; ``hint``: what to do where a right is missing."""
    if sqlstate(error) == READ_ONLY:
        hint = say(
            "ALTER DATABASE … (or ROLE …) SET default_transaction_read_only = off;"
            " if it is a replica, use the primary in DATABASE_URL."
        )
    elif sqlstate(error) != INSUFFICIENT_PRIVILEGE:
        hint = say("If a schema rollout is there that is not this tool's: ALTER SCHEMA rollout RENAME TO …;")
    return PreflightFailed(say("the schema rollout cannot be written: {reason}", reason=first_line(error)), hint=hint)


def _end(engine: Engine, own: Connection, run: Run) -> None:
    """Record a run's outcome, on a new connection where our own is gone; a server that is gone cannot be told."""
    try:
        _record(own, run)
    except (SQLAlchemyError, RolloutError):
        try:
            with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
                _record(connection, run)
        except (SQLAlchemyError, RolloutError) as error:
            run.listener.note(
                say("the outcome could not be recorded in the database: {reason}", reason=first_line(error))
            )


def _record(own: Connection, run: Run) -> None:
    """Write a run's outcome, chained to the one before."""
    # The end of the chain, not the latest clock: clocks of two machines differ.
    previous = own.execute(
        text(
            "SELECT hash FROM rollout.runs r WHERE hash IS NOT NULL"
            " AND NOT EXISTS (SELECT FROM rollout.runs n WHERE n.previous_hash = r.hash)"
            " ORDER BY number DESC LIMIT 1"
        )
    ).scalar()
    record = json.dumps(run.as_json(), ensure_ascii=False, sort_keys=True, default=str)
    own.execute(
        text(
            "UPDATE rollout.runs SET finished_at = :finished_at, from_revision = :from_revision,"
            " to_revision = :to_revision, ok = :ok, exit_code = :exit_code, record = :record,"
            " previous_hash = :previous, hash = :hash WHERE run_id = :run_id"
        ),
        {
            "run_id": run.run_id,
            "finished_at": run.finished_at,
            "from_revision": run.result.get("from_revision"),
            "to_revision": run.result.get("to_revision"),
            "ok": run.exit_code == 0,
            "exit_code": run.exit_code,
            "record": record,
            "previous": previous,
            "hash": chain_hash(previous, record),
        },
    )


def chain_hash(previous: str | None, record: str) -> str:
    """Return the hash that chains a run's record to the one before."""
    return hashlib.sha256(((previous or "") + record).encode()).hexdigest()


def command_of(connection: Connection, run_id: str) -> str | None:
    """Return what a past run was; None where there was none with that id."""
    found = connection.execute(text("SELECT command FROM rollout.runs WHERE run_id = :id"), {"id": run_id})
    command: str | None = found.scalar_one_or_none()
    return command


def runs(connection: Connection, limit: int = 100) -> list[dict[str, Any]]:
    """Return the past runs, newest first, as cli.md's ``runs``."""
    if not exists(connection):
        return []
    rows = connection.execute(
        text(
            "SELECT run_id, command, ok, exit_code, started_at, finished_at, from_revision, to_revision,"
            " coalesce(record LIKE '%\"dry_run\": true%', false) AS dry_run"
            " FROM rollout.runs ORDER BY number DESC LIMIT :limit"
        ),
        {"limit": limit},
    )
    return [
        {
            "run_id": row.run_id,
            "command": row.command,
            "ok": row.ok,
            "exit_code": row.exit_code,
            "started_at": row.started_at.isoformat(),
            "seconds": (row.finished_at - row.started_at).total_seconds() if row.finished_at else None,
            "from_revision": row.from_revision,
            "to_revision": row.to_revision,
            "dry_run": row.dry_run,
        }
        for row in rows
    ]
