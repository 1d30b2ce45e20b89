"""Connections: how one is opened, what is said when it cannot be, and the lock that lets one run in at a time."""

from __future__ import annotations

import hashlib
import re
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, cast

import psycopg2
from sqlalchemy import Connection, Engine, NullPool, create_engine, text
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from rollout.errors import DatabaseUnavailable, LockNotAcquired, PreflightFailed
from rollout.messages import say

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rollout.run import Run
    from rollout.settings import Server

OUR_SCHEMAS = ("rollout", "rollout_shelf")
"""Schemas of our own: not under Alembic, left out of verification and fingerprints."""

VERSION_TABLE = "lawsker_schema_version"
"""Our version table, in ``public``; an older tool chain's ``alembic_version`` is never ours."""

OLDEST_SERVER = 12
"""The oldest major version that we support."""

LOCK_KEY = 0x6C61777363686D61
"""Advisory lock key of a run ("lawschma"): the same for ``tool`` and for plain ``alembic``."""

_preparer = postgresql.dialect().identifier_preparer  # type: ignore[no-untyped-call]


@dataclass(frozen=True)
class Target:
    """A database as the server describes itself; ``server_version`` like '16.4', ``version_number`` like 160004."""

    host: str
    port: int
    dbname: str
    user: str
    server_version: str
    version_number: int

    @property
    def major(self) -> int:
        """The server's major version."""
        return self.version_number // 10_000

    @property
    def place(self) -> str:
        """The database as host:port/database."""
        return place(self.host, self.port, self.dbname)

    def as_json(self) -> dict[str, Any]:
        """Return what cli.md names ``target``."""
        values = asdict(self)
        del values["version_number"]
        return values


def place(host: str, port: int, dbname: str) -> str:
    """Name a database by where it is: what is of one database is found by that."""
    return f"{host}:{port}/{dbname}"


def quote(*names: str) -> str:
    """Quote an identifier, or a schema-qualified one, for ``exec_driver_sql``: its percent signs are doubled."""
    return ".".join(_preparer.quote(name) for name in names)


def identifier(*names: str) -> str:
    """Quote an identifier as an operator types it, and as a value is bound (``to_regclass``)."""
    return quote(*names).replace("%%", "%")


def in_text(*names: str) -> str:
    """Quote an identifier for ``text()``, which doubles percent signs itself and takes ``:name`` for a parameter."""
    return identifier(*names).replace(":", r"\:")


# A backup takes hours: a connection that is silent meanwhile must not be taken for dead on its way, nor a dead one for
# silent (https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-KEEPALIVES-IDLE).
_PATIENCE = {"connect_timeout": "10", "keepalives_idle": "60", "keepalives_interval": "15", "keepalives_count": "8"}


def engine_for(server: Server, *, application_name: str = "lawsker-schema") -> Engine:
    """Return an engine whose every connection is a new session (``NullPool``): locks and settings never linger.

    It keeps nothing open, so that there is nothing to dispose of.
    """

    def connect() -> psycopg2.extensions.connection:
        try:
            parameters: dict[str, Any] = {"application_name": application_name, **_PATIENCE}
            # Comments and names are Chinese: another encoding that a database or PGCLIENTENCODING asks for has no words
            # for them.
            parameters |= {**server.parameters, "client_encoding": "UTF8"}
            connection: psycopg2.extensions.connection = psycopg2.connect(**parameters)
            # A database may ask for backslashes that escape; in our SQL they stand for themselves.
            if connection.get_parameter_status("standard_conforming_strings") == "off":
                with connection, connection.cursor() as cursor:
                    cursor.execute("SET standard_conforming_strings = on")
        except psycopg2.Error as error:
            raise _unavailable(server, str(error)) from None
        return connection

    return create_engine("postgresql+psycopg2://", creator=connect, poolclass=NullPool, hide_parameters=True)


def _unavailable(server: Server, reason: str) -> DatabaseUnavailable:
    """Say in one line why a connection failed, and what to do; libpq's text never holds the password."""
    key = server.key
    where = f"{server.parameters.get('host', 'localhost')}:{server.parameters.get('port', '5432')}"
    # libpq asks back where it was refused ("Is the server running …?"); what happened stands above that.
    lines = [line.strip() for line in reason.strip().splitlines() if line.strip() and not line.endswith("?")]
    lines = [line for line in lines if not line.startswith("Either provide the file")]  # the hint says that better
    last = lines[-1] if lines else "unknown"
    if re.search(r"authentication failed|no password supplied|pg_hba\.conf|not permitted to log in", reason):
        return DatabaseUnavailable(
            say("{where} does not let us in: {reason}", where=where, reason=last),
            hint=say("Check user and password in {key} (or ~/.pgpass), and pg_hba.conf on the server.", key=key),
        )
    if re.search(r'database ".*" does not exist', reason):
        return DatabaseUnavailable(
            say("{where} has no such database: {reason}", where=where, reason=last),
            hint=say("Check the database's name in {key}; psql -l lists those there are.", key=key),
        )
    if re.search(r"could not translate host name|Name or service not known", reason):
        return DatabaseUnavailable(
            say("the host of {key} is unknown: {reason}", key=key, reason=last),
            hint=say("Check the host name in {key}.", key=key),
        )
    if re.search(r"certificate|does not support SSL|SSL error", reason):
        return DatabaseUnavailable(
            say("no secure connection to {where}: {reason}", where=where, reason=last),
            hint=say("Check sslmode and sslrootcert in {key}, and the server's certificate.", key=key),
        )
    if re.search(r"too many (clients|connections)|connection slots", reason):
        return DatabaseUnavailable(
            say("{where} takes no more sessions: {reason}", where=where, reason=last),
            hint=say(
                "End sessions that nobody needs, or raise CONNECTION LIMIT or max_connections; a run needs a few."
            ),
        )
    return DatabaseUnavailable(
        say("no connection to {where}: {reason}", where=where, reason=last),
        hint=say("Check host and port in {key}, and that the server runs and accepts connections.", key=key),
    )


def describe(connection: Connection, server: Server) -> Target:
    """Ask the server who and where it is; host and port as the client reached them.

    Raises ``PreflightFailed`` where the server is older than all that we support.
    """
    raw = raw_connection(connection)
    if raw.server_version < OLDEST_SERVER * 10_000:
        raise PreflightFailed(
            say("the server is PostgreSQL {version}: too old", version=raw.info.parameter_status("server_version")),
            hint=say("PostgreSQL {oldest} or newer is needed.", oldest=OLDEST_SERVER),
        )
    row = connection.execute(
        text("SELECT current_database(), current_user, current_setting('server_version'), version()")
    ).one()
    reached = raw.get_dsn_parameters()
    return Target(
        host=raw.info.host or reached.get("host", server.parameters.get("host", "")),
        port=int(raw.info.port),
        dbname=row[0],
        user=row[1],
        server_version=row[2].split(" ")[0],
        version_number=raw.server_version,
    )


def raw_connection(connection: Connection) -> psycopg2.extensions.connection:
    """Return psycopg2's own connection (COPY, cancel, backend pid)."""
    return cast("psycopg2.extensions.connection", connection.connection.dbapi_connection)


def server_major(connection: Connection) -> int:
    """Return the server's major version."""
    return raw_connection(connection).server_version // 10_000


# Rolled back by the server, resources and limits, objects in use, an operator, the system, an internal error.
_NOT_OUR_FAULT = frozenset({"40", "53", "54", "55", "57", "58", "XX"})

_HAS_IDLE_SESSION_TIMEOUT = 14
_HAS_TRANSACTION_TIMEOUT = 17


def lift_limits(connection: Connection) -> None:
    """Lift, for this transaction, the limits that a database or a role may have on long and idle transactions.

    Ours has limits of its own. Takes no snapshot.
    https://www.postgresql.org/docs/current/runtime-config-client.html#GUC-TRANSACTION-TIMEOUT
    """
    connection.exec_driver_sql("SET LOCAL idle_in_transaction_session_timeout = 0")
    if server_major(connection) >= _HAS_TRANSACTION_TIMEOUT:
        connection.exec_driver_sql("SET LOCAL transaction_timeout = 0")


@contextmanager
def run_lock(engine: Engine, key: int = LOCK_KEY) -> Iterator[Connection]:
    """Hold the exclusive lock of a run on a connection of its own, in autocommit; yield that connection.

    The lock is one of the database that ``engine`` leads to; ``key`` tells it from others (``key_of``).
    Tries, and never waits: a waiter would deadlock with a CREATE INDEX CONCURRENTLY of the holder. Gives the lock back
    in so many words: a session that is only closed still holds it until the server has noticed, and the next run, begun
    right after, would be refused. Raises ``LockNotAcquired``.
    """
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        if not connection.execute(text("SELECT pg_try_advisory_lock(:key)"), {"key": key}).scalar_one():
            raise another_run(connection, key)
        try:
            if server_major(connection) >= _HAS_IDLE_SESSION_TIMEOUT:
                # The lock lasts as long as this session, which is silent most of the time.
                connection.execute(text("SET idle_session_timeout = 0"))
            yield connection
        finally:
            # A session that is gone has given it back, and must not be opened anew for that.
            if not (connection.closed or connection.invalidated):
                with suppress(SQLAlchemyError):
                    connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": key})


def key_of(name: str) -> int:
    """Return the key of the advisory lock that stands for a name."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big", signed=True)


def halves(key: int) -> dict[str, int]:
    """Return the ``high`` (classid) and the ``low`` half (objid) of an advisory lock's key, as ``pg_locks`` has them.

    https://www.postgresql.org/docs/current/view-pg-locks.html
    """
    return {"high": key >> 32 & 0xFFFFFFFF, "low": key & 0xFFFFFFFF}


def another_run(connection: Connection, key: int = LOCK_KEY) -> LockNotAcquired:
    """Say who holds the lock, as far as the server tells."""
    row = connection.execute(
        text(
            "SELECT a.pid, a.usename, coalesce(a.client_addr::text, 'local'), a.backend_start::timestamptz(0)"
            " FROM pg_locks l JOIN pg_stat_activity a USING (pid) JOIN pg_database d ON d.oid = l.database"
            " WHERE d.datname = current_database() AND l.locktype = 'advisory' AND l.granted AND l.objsubid = 1"
            " AND l.classid::bigint = :high AND l.objid::bigint = :low LIMIT 1"
        ),
        halves(key),
    ).one_or_none()
    who = f"pid {row[0]}, {row[1]}@{row[2]}, since {row[3]}" if row else "-"
    return LockNotAcquired(
        say("another run holds the lock ({who})", who=who), hint=say("Wait until it has ended, then run this again.")
    )


def sqlstate(error: BaseException | None) -> str | None:
    """Return the SQLSTATE of a driver error, also when SQLAlchemy wrapped it."""
    original = getattr(error, "orig", error)
    return getattr(original, "pgcode", None)


@contextmanager
def expected(run: Run) -> Iterator[None]:
    """Turn what the driver raises into what an operator can read, where the server is gone or lacks what it needs.

    What else it raises is a bug of ours, and goes on up as it is.
    https://www.postgresql.org/docs/current/errcodes-appendix.html
    """
    try:
        yield
    except DBAPIError as error:
        if error.connection_invalidated:
            raise DatabaseUnavailable(
                say("the connection was lost: {reason}", reason=first_line(error)),
                hint=say("See that the server runs (its log tells why it stopped), then run this again."),
                database=run.database,
            ) from error
        if (sqlstate(error) or "")[:2] not in _NOT_OUR_FAULT:
            raise
        raise PreflightFailed(
            say("the server refused: {reason}", reason=first_line(error)),
            hint=say("Mend what the server names, then run this again."),
            database=run.database,
        ) from error


def first_line(error: BaseException) -> str:
    """Return the first line of an error's text: what the server said, without the statement or its values."""
    original = getattr(error, "orig", None) or error
    lines = str(original).strip().splitlines()
    return lines[0] if lines else type(original).__name__
