"""The staging area: source rows as they came, in UNLOGGED tables of the schema ``rollout``.

Each is filled and committed on its own, outside of the transaction that touches the target. COPY freezes the rows: the
transaction sees them although its snapshot may be older. A run takes the tables away at its end, or, where it was
killed, the next one at its beginning. Large values are compressed once: they keep the form they get here when they move
on. And they are hashed once, here, while they are at hand (columns ``h_…``): merge and reconciliation need not read
them again.
https://www.postgresql.org/docs/current/storage-toast.html, sql-copy.html (FREEZE)
"""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

import psycopg2
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from datamigrations import rules
from datamigrations.pipe import Pipe, compress_by_lz4, copy_in, copy_out, hang_up, session, take_time, unreadable
from rollout.database import first_line, quote, raw_connection, sqlstate
from rollout.errors import UNTOUCHED, MigrationFailed, PreflightFailed, RolloutError
from rollout.memory import GRANT_MEMORY, INSUFFICIENT_PRIVILEGE
from rollout.messages import say

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy import Connection, Engine

    from datamigrations.source import Source, SourceTable

_SCHEMA = "rollout"
_LARGE_TYPES = ("text", "jsonb", "bytea")

# Every part costs the source a scan of the whole table, though not of its large values.
_SPLIT_BYTES = 64 << 20
_SHARES = (2, 2, 3, 1)
"""Eighths of a large table that its parts take. The last is small: while that is merged, nothing is copied."""
_ROWS_OF_A_PART = 1 << 40
"""Where the numbers of the next part's rows begin."""


@dataclass
class Part:
    """What goes into one staging table: the rows of one condition after the other's, each through a pipe of its own.

    ``definition``: the statements that make the table. ``begun``, ``ended``: when the copying did. ``copied``: how many
    rows there are, once all have come and are committed. ``whole``: where this is the last part, how many rows the
    source's table has.
    """

    source: SourceTable
    definition: list[str]
    conditions: list[Callable[[], str]]
    pipes: list[Pipe] = field(init=False)
    begun: float | None = None
    ended: float | None = None
    copied: int | None = None
    whole: int | None = None

    def __post_init__(self) -> None:
        """Make the pipes."""
        self.pipes = [Pipe() for _ in self.conditions]

    @property
    def name(self) -> str:
        """The table's name in reports."""
        return self.source.table.name

    @property
    def rows(self) -> int:
        """How many rows have come so far."""
        return sum(max(pipe.rows, 0) for pipe in self.pipes)

    @property
    def seconds(self) -> float:
        """How long the copying took, or has taken so far."""
        if self.begun is None:
            return 0.0
        return (self.ended or time.monotonic()) - self.begun

    @property
    def waited(self) -> float:
        """For how many of these seconds there was nothing to read."""
        return sum(pipe.waited for pipe in self.pipes)

    def abandon(self) -> None:
        """Make the copying stop where it is."""
        for pipe in self.pipes:
            pipe.abandon()


@contextmanager
def area(own: Connection) -> Iterator[None]:
    """Give a run an empty staging area, and take it away afterwards.

    ``own`` is in autocommit and holds the run's lock: what is there was left by a run that was killed.
    """
    _drop(own)
    try:
        yield
    finally:
        # Where the server is gone, or this session is, the next run drops them. The outcome is still to be recorded.
        with suppress(SQLAlchemyError):
            _drop(own)


def _drop(own: Connection) -> None:
    """Drop every staging table."""
    tables = own.execute(
        text(
            "SELECT relname FROM pg_class WHERE relnamespace = to_regnamespace(:schema) AND relkind = 'r'"
            " AND relname LIKE 'staged\\_%'"
        ),
        {"schema": _SCHEMA},
    ).scalars()
    for table in list(tables):
        own.exec_driver_sql(f"DROP TABLE IF EXISTS {quote(_SCHEMA, table)}")


def _definition(source: SourceTable, storage: str) -> list[str]:
    """Return what makes one staging table: ``n`` numbers the rows, ``h_…`` hash the large values, more is the source's.

    ``storage``: that of large values. No two rows of a source table have the same number.
    """
    first = source.part * _ROWS_OF_A_PART + 1
    columns = [f"n bigint GENERATED ALWAYS AS IDENTITY (START WITH {first})"]
    columns += [f"{quote(name)} {column.type}" for name, column in source.columns.items()]
    columns += [
        f"{quote(rules.hash_column(name))} bigint GENERATED ALWAYS AS ({sql}) STORED"
        for name, sql in rules.hashes(source).items()
    ]
    relation = quote(_SCHEMA, source.staged)
    settings = "autovacuum_enabled = false, toast.autovacuum_enabled = false"
    large = [quote(name) for name, column in source.columns.items() if column.type in _LARGE_TYPES]
    return [
        f"CREATE UNLOGGED TABLE {relation} ({', '.join(columns)}) WITH ({settings})",
        f"ALTER TABLE {relation} ALTER n SET STATISTICS 1",
        f"ALTER TABLE {relation} " + ", ".join(f"ALTER {name} SET STORAGE {storage}" for name in large),
    ]


def _storage(own: Connection, source: SourceTable) -> str:
    """Return how large values are to be stored.

    Where the target has most rows already, few of them will move on: they are left uncompressed. Else they are
    compressed for good; and up to a page they stay in their row (MAIN), which saves a detour through the TOAST table.
    """
    there = own.execute(
        text("SELECT reltuples FROM pg_class WHERE oid = to_regclass(:table)"),
        {"table": f"public.{source.table.target}"},
    ).scalar()
    return "EXTERNAL" if there and there >= (source.rows or 0) / 2 else "MAIN"


def parts_of(source: Source, name: str, own: Connection) -> Iterator[Part]:
    """Yield the parts of a table: one, or several where it is large; what is read again on its own is one."""
    table = source.tables[name]
    again = source.only.get(name)
    divided = table.table.divisible and again is None and table.bytes > _SPLIT_BYTES
    count = len(_SHARES) if divided else 1
    storage = _storage(own, table)
    for number in range(count):
        part = replace(table, part=number, parts=count)
        yield Part(part, _definition(part, storage), again if again is not None else [partial(_share, part)])


def _share(source: SourceTable) -> str:
    """Return the condition that a row (``s``) is in this part of its table.

    Rows of one key (of one project, for details), however it is written, are in the same part.
    """
    if source.parts == 1:
        return "true"
    column = "s." + quote(source.table.key[0])
    native = source.columns[source.table.key[0]].type == "uuid"
    key = f"uuid_hash({column})" if native else f'hashtext(lower({column}::text COLLATE "C"))'
    first, after = sum(_SHARES[: source.part]), sum(_SHARES[: source.part + 1])
    return f"(coalesce({key}, 0) & 2147483647) % {sum(_SHARES)} BETWEEN {first} AND {after - 1}"


def copy(source: Source, part: Part, there: psycopg2.extensions.connection, engine: Engine) -> int:
    """Copy one part from a session of the source, on a session of its own in the target; return the number of rows."""
    part.begun = time.monotonic()
    rows = 0
    with session(engine) as here:
        try:
            here.exec_driver_sql("SET LOCAL client_min_messages = error")  # see ``copy_in``
            take_time(here)
            compress_by_lz4(here)
            for statement in part.definition:
                here.exec_driver_sql(statement)
            for condition, pipe in zip(part.conditions, part.pipes, strict=True):
                rows += _pass_on(source.query(part.source, condition()), there, part, pipe, raw_connection(here))
            here.exec_driver_sql(f"ANALYZE {quote(_SCHEMA, part.source.staged)} (n)")
            here.commit()
        except DBAPIError as error:
            raise _not_staged(part, error) from error
    part.ended = time.monotonic()
    return rows


def _pass_on(
    query: str,
    there: psycopg2.extensions.connection,
    part: Part,
    pipe: Pipe,
    here: psycopg2.extensions.connection,
) -> int:
    """Copy the rows of one query into a part's table; return how many."""
    columns = ", ".join(quote(name) for name in part.source.columns)
    writer = threading.Thread(target=copy_out, args=(there, query, pipe), daemon=True)
    writer.start()
    try:
        return copy_in(here, f"{quote(_SCHEMA, part.source.staged)} ({columns})", pipe)
    except psycopg2.Error as error:
        unread = pipe.error
        hang_up(there)  # the writer may be waiting for the next row
        if unread is not None:
            raise unreadable(part.name, unread) from error
        raise _not_staged(part, error) from error
    finally:
        pipe.abandon()
        writer.join()


def _not_staged(part: Part, error: DBAPIError | psycopg2.Error) -> RolloutError:
    """Return the error for a target that did not take the rows."""
    if sqlstate(error) == INSUFFICIENT_PRIVILEGE:
        return PreflightFailed(say("a right is missing: {reason}", reason=first_line(error)), hint=GRANT_MEMORY)
    return MigrationFailed(
        say("the rows of {table} could not be staged: {reason}", table=part.name, reason=first_line(error)),
        hint=say("Nothing was changed; mend what the server names, then run this again."),
        database=UNTOUCHED,
    )
