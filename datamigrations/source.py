"""The source database: what it has, one read-only snapshot of it, and the rows as COPY sends them.

Types differ between installations; how each column is staged is said in ``staged``.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psycopg2
import psycopg2.extensions
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from datamigrations import pipe
from datamigrations.mapping import DETAILS, PROJECTS, TABLES, USERS
from datamigrations.sqltext import as_key, literal
from datamigrations.staged import Staged, staged
from rollout.database import engine_for, identifier, quote, raw_connection
from rollout.errors import ConfigurationError, PreflightFailed
from rollout.fingerprint import pin_settings
from rollout.messages import say
from rollout.settings import SOURCE_KEY
from rollout.transaction import end_with_us

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy import Connection, Engine

    from datamigrations.mapping import Table
    from rollout.settings import Settings

_COLUMNS = """
SELECT c.oid, c.relname, n.nspname, c.relkind, c.reltuples::bigint AS rows, a.attname,
       (WITH RECURSIVE base AS (
            SELECT t.typname, t.typtype, t.typbasetype
            UNION ALL
            SELECT b.typname, b.typtype, b.typbasetype FROM base JOIN pg_catalog.pg_type b ON b.oid = base.typbasetype
        ) SELECT typname FROM base WHERE typtype <> 'd') AS type,
       has_column_privilege(c.oid, a.attnum, 'SELECT') AS readable
FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
WHERE c.relname = ANY(:names) AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
  AND pg_catalog.pg_table_is_visible(c.oid) AND n.nspname <> 'pg_catalog'
ORDER BY c.relname, a.attnum
"""

_SIZES = "SELECT c.oid, pg_table_size(c.oid) AS bytes FROM pg_catalog.pg_class AS c WHERE c.oid = ANY(:oids)"

_LOCKABLE = ("r", "p")
_SHORTLY = 1.0
"""Seconds that another session of a snapshot waits for a lock that the snapshot has already."""

_OPTIONS = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}


@dataclass(frozen=True)
class SourceTable:
    """One table of the import as this source has it: staged columns by name, its size, and how many rows it may have.

    ``lacking``: optional columns that it does not have; ``ignored``: columns that are not imported. ``part`` of
    ``parts``: where its rows are staged and merged in several tables, the one that this is about.
    """

    table: Table
    relation: str
    columns: dict[str, Staged]
    rows: int | None
    bytes: int
    lacking: tuple[str, ...]
    ignored: tuple[str, ...]
    part: int = 0
    parts: int = 1

    @property
    def staged(self) -> str:
        """The staging table, in the schema ``rollout``."""
        return f"staged_{self.table.name}" + (f"_{self.part}" if self.parts > 1 else "")

    def has(self, name: str) -> bool:
        """Tell whether the source has this (optional) column."""
        return name in self.columns


class Source:
    """One snapshot of the source: its tables, the queries that read them, and sessions that see the same."""

    def __init__(
        self, connection: Connection, tables: dict[str, SourceTable], limit_users: int | None, relations: dict[str, str]
    ) -> None:
        """Keep the connection (inside its transaction), what was found, and what is locked; export the snapshot.

        ``only``: of each table, what makes the conditions on its rows (``s``) that are read, one a part of the work;
        all rows where there is none.
        """
        self.connection = connection
        self.tables = tables
        self.limit_users = limit_users
        self.relations = relations
        self.only: dict[str, list[Callable[[], str]]] = {}
        self._snapshot = connection.execute(text("SELECT pg_export_snapshot()")).scalar_one()

    @contextmanager
    def session(
        self, table: str, opened: Callable[[psycopg2.extensions.connection], None]
    ) -> Iterator[psycopg2.extensions.connection]:
        """Yield psycopg2's connection of a new session that sees this snapshot (usable in another thread).

        ``opened`` gets it before anything is asked of the server, so that it can be hung up where no answer comes.

        It has the locks that the snapshot has: whoever wants to change a table now waits until both have ended. Without
        them it would wait behind that one, who waits for the snapshot. Raises ``DatabaseUnavailable``, also where the
        snapshot is gone, ``LockNotAcquired``; ``table`` is what it is for.
        """
        with _reading(self.connection.engine) as fresh:
            connection = fresh.execution_options(**_OPTIONS)
            opened(raw_connection(connection))
            try:
                connection.exec_driver_sql(f"SET TRANSACTION SNAPSHOT {literal(self._snapshot)}")
                _pin(connection)
            except DBAPIError as error:
                raise pipe.gone(table, error) from error
            _lock(connection, self.relations, _SHORTLY)
            yield raw_connection(connection)

    def query(self, source: SourceTable, condition: str) -> str:
        """Return the SELECT that yields a table's staged columns, in their order, of rows (``s``) that are meant."""
        columns = ", ".join(f"{column.expression} AS {quote(key)}" for key, column in source.columns.items())
        return f"SELECT {columns} FROM {self._rows(source.table)} AS s WHERE {condition}"

    def count(self, name: str, there: psycopg2.extensions.connection) -> int:
        """Count a table's rows in this snapshot, in one of its sessions; raises what ``pipe.unreadable`` returns."""
        try:
            with there.cursor() as cursor:
                cursor.execute(f"SELECT count(*) FROM {self._rows(self.tables[name].table)} AS s")
                [(rows,)] = cursor.fetchall()
                return int(rows)
        except psycopg2.Error as error:
            raise pipe.unreadable(name, error) from error

    def _rows(self, table: Table) -> str:
        """Return the relation to read, under ``--limit-users`` the oldest users and what belongs to them."""
        relation = self.tables[table.name].relation
        if self.limit_users is None:
            return relation
        users = self.tables[USERS.name].relation
        oldest = f"SELECT * FROM {users} AS u ORDER BY u.created_at, u.id::text LIMIT {int(self.limit_users)}"
        if table is USERS:
            return f"({oldest})"
        theirs = f"SELECT {as_key('o.id::text')} FROM ({oldest}) AS o"
        if table is DETAILS:
            projects = self.tables[PROJECTS.name].relation
            owned = (
                f"SELECT {as_key('p.id::text')} FROM {projects} AS p WHERE {as_key('p.user_id::text')} IN ({theirs})"
            )
            return f"(SELECT * FROM {relation} AS d WHERE {as_key('d.project_id::text')} IN ({owned}))"
        user = f"d.{quote(table.user or '')}::text"
        return f"(SELECT * FROM {relation} AS d WHERE {as_key(user)} IN ({theirs}))"


@contextmanager
def _reading(engine: Engine) -> Iterator[Connection]:
    """Yield a connection; close it without a ROLLBACK, which nobody needs and a silent server would not answer."""
    connection = engine.connect()
    try:
        yield connection
    finally:
        connection.invalidate()
        connection.close()


@contextmanager
def snapshot(settings: Settings, *, limit_users: int | None = None) -> Iterator[Source]:
    """Yield the source inside one REPEATABLE READ, READ ONLY transaction, its tables locked against ALTER and DROP.

    Raises ``ConfigurationError`` without a source, ``DatabaseUnavailable``, ``LockNotAcquired``, and
    ``PreflightFailed`` where a required table or column is missing or may not be read.
    """
    if settings.source is None:
        raise ConfigurationError(
            say("{key} is not set", key=SOURCE_KEY),
            hint=say(
                "Set {key}=postgresql://user@host:5432/pagtive_previews in the environment or in .env", key=SOURCE_KEY
            ),
        )
    with _reading(engine_for(settings.source)) as fresh:
        relations = _relations(fresh)
        fresh.rollback()
        connection = fresh.execution_options(**_OPTIONS)
        pipe.take_time(connection)  # before the lock: how long to wait for that is ours to say
        _lock(connection, relations, settings.lock_timeout)
        _pin(connection)
        yield Source(connection, _discover(connection), limit_users, relations)


def _relations(connection: Connection) -> dict[str, str]:
    """Return the tables of the import that can be locked: name → qualified name, as ``exec_driver_sql`` takes it."""
    rows = connection.execute(text(_COLUMNS), {"names": [table.source for table in TABLES]})
    return {row.relname: quote(row.nspname, row.relname) for row in rows if row.relkind in _LOCKABLE and row.readable}


def _lock(connection: Connection, relations: dict[str, str], lock_timeout: float) -> None:
    """Lock what can be, before anything is read, so that what is found stays as it is.

    LOCK TABLE takes no snapshot (https://www.postgresql.org/docs/current/sql-lock.html).
    """
    connection.exec_driver_sql(f"SET LOCAL lock_timeout = {round(lock_timeout * 1000)}")
    if relations:
        try:
            connection.exec_driver_sql(f"LOCK TABLE {', '.join(relations.values())} IN ACCESS SHARE MODE")
        except DBAPIError as error:
            raise pipe.unreadable(", ".join(relations), error) from error


def _pin(connection: Connection) -> None:
    """Set what a long read needs: no timeouts, an end when we are gone, values' text independent of settings."""
    pipe.take_time(connection)
    end_with_us(connection)
    pin_settings(connection)


def _refuse_unreadable(table: str, columns: list[str]) -> None:
    """Raise ``PreflightFailed`` where we may not read columns that we need."""
    if columns:
        raise PreflightFailed(
            say("column {column} of the source may not be read", column=f"{table}.{columns[0]}"),
            hint=say("On the source: GRANT SELECT ON {table} TO the user of {key};", table=table, key=SOURCE_KEY),
        )


def _discover(connection: Connection) -> dict[str, SourceTable]:
    """Look at the source's catalogs; raise ``PreflightFailed`` that names everything required that is missing."""
    rows = connection.execute(text(_COLUMNS), {"names": [table.source for table in TABLES]}).all()
    encoding = connection.execute(text("SELECT current_setting('server_encoding')")).scalar_one()
    sizes = {row.oid: row.bytes for row in connection.execute(text(_SIZES), {"oids": list({row.oid for row in rows})})}
    missing: list[str] = []
    tables: dict[str, SourceTable] = {}
    for table in TABLES:
        found = {row.attname: row for row in rows if row.relname == table.source}
        if not found:
            missing += [] if table.optional else [table.source]
            continue
        wanted = {field.name: field for field in table.fields}
        lacking = [name for name in wanted if name not in found]
        missing += [f"{table.source}.{name}" for name in lacking if not wanted[name].optional]
        _refuse_unreadable(table.source, [name for name in wanted if name in found and not found[name].readable])
        first = next(iter(found.values()))
        tables[table.name] = SourceTable(
            table=table,
            relation=identifier(first.nspname, first.relname),
            columns={
                name: staged(field, found[name].type, ascii_only=encoding == "SQL_ASCII")
                for name, field in wanted.items()
                if name in found
            },
            rows=first.rows if first.rows > 0 else None,
            bytes=sizes[first.oid],
            lacking=tuple(lacking),
            ignored=tuple(name for name in found if name not in wanted),
        )
    if missing:
        raise PreflightFailed(
            say("the source lacks {names}", names=", ".join(missing)),
            hint=say("Check that {key} points to the Pagtive database; these are required.", key=SOURCE_KEY),
        )
    return tables
