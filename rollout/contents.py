"""What a database holds, on one snapshot: every table's fingerprint, sequences, large objects, definitions.

Taken beside a dump and again after its restore; equal contents are what makes a backup proven.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import psycopg2

from rollout import catalog
from rollout.database import quote, raw_connection
from rollout.fingerprint import Fingerprint, pin_settings, rows_fingerprint, table_fingerprint
from rollout.messages import say

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from sqlalchemy import Connection, Engine

    from rollout.catalog import Catalog

T = TypeVar("T")

_SQL = Path(__file__).parent / "sql"
_LOCKS_AT_ONCE, _SEQUENCES_AT_ONCE = 200, 100
_TRANSACTION_TIMEOUT_SINCE = 170_000

# Piece by piece: bytea ends at 1 GB, a large object at 4 TB.
_LARGE_OBJECTS = """
WITH RECURSIVE pieces AS (
    SELECT m.oid, 0::bigint AS n, length(p.piece) AS bytes, md5(p.piece) AS hash
    FROM pg_largeobject_metadata m, LATERAL (SELECT lo_get(m.oid, 0, 4194304) AS piece OFFSET 0) p
    UNION ALL
    SELECT l.oid, l.n + 1, length(p.piece), md5(p.piece)
    FROM pieces l, LATERAL (SELECT lo_get(l.oid, (l.n + 1) * 4194304, 4194304) AS piece OFFSET 0) p
    WHERE l.bytes = 4194304
) SELECT oid, n, bytes, hash FROM pieces
"""


@dataclass(frozen=True)
class Relation:
    """Something with rows or a position: ``kind`` as in pg_class.relkind, ``size`` in bytes on disk."""

    kind: str
    schema: str
    name: str
    columns: tuple[str, ...]
    size: int
    of_extension: bool

    @property
    def is_compared(self) -> bool:
        """Whether it is a table whose rows a dump holds as they are."""
        return self.kind == "r" and not self.of_extension


@dataclass(frozen=True)
class TableContent:
    """One table's content: ``fingerprint`` over ``columns``, in this order."""

    schema: str
    name: str
    columns: tuple[str, ...]
    rows: int
    fingerprint: str


@dataclass(frozen=True)
class SequencePosition:
    """A sequence's (last_value, is_called): sequences are not in snapshots, so ``last`` may be past ``first``."""

    schema: str
    name: str
    first: tuple[int, bool]
    last: tuple[int, bool]


@dataclass
class Contents:
    """What a database holds. ``not_compared``: what has rows that a dump does not hold as they are, and why."""

    tables: list[TableContent] = field(default_factory=list)
    sequences: list[SequencePosition] = field(default_factory=list)
    large_objects: Fingerprint = field(default_factory=lambda: Fingerprint(0, ""))
    not_compared: list[dict[str, str]] = field(default_factory=list)
    catalog: Catalog = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Return everything but the catalog, for the manifest."""
        values = asdict(self)
        del values["catalog"]
        return values

    @classmethod
    def from_json(cls, values: Mapping[str, Any], definitions: Catalog) -> Contents:
        """Return the contents that ``as_json`` wrote down."""
        return cls(
            tables=[TableContent(**{**table, "columns": tuple(table["columns"])}) for table in values["tables"]],
            sequences=[
                SequencePosition(s["schema"], s["name"], _position(s["first"]), _position(s["last"]))
                for s in values["sequences"]
            ],
            large_objects=Fingerprint(**values["large_objects"]),
            not_compared=list(values["not_compared"]),
            catalog=definitions,
        )


def _position(values: Iterable[Any]) -> tuple[int, bool]:
    """Return a sequence's position from JSON or from a row."""
    last_value, is_called = values
    return int(last_value), bool(is_called)


@contextmanager
def snapshot(engine: Engine, *, lock_timeout: float) -> Iterator[Connection]:
    """Yield a connection in a read-only REPEATABLE READ transaction that waits ``lock_timeout`` seconds for a lock.

    Everything that the text of values depends on is pinned, the server's own timeouts are off. All of that is done with
    SET LOCAL, which takes no snapshot: the first query does.
    """
    options = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
    with engine.connect().execution_options(**options) as connection:
        pin_settings(connection)
        connection.exec_driver_sql("SET LOCAL search_path = pg_catalog")  # names of types and tables come qualified
        connection.exec_driver_sql(f"SET LOCAL lock_timeout = {round(lock_timeout * 1000)}")
        connection.exec_driver_sql("SET LOCAL statement_timeout = 0")
        connection.exec_driver_sql("SET LOCAL idle_in_transaction_session_timeout = 0")
        if raw_connection(connection).server_version >= _TRANSACTION_TIMEOUT_SINCE:
            connection.exec_driver_sql("SET LOCAL transaction_timeout = 0")
        yield connection


def relations(connection: Connection) -> list[Relation]:
    """Return all that holds rows or a position outside the system's schemas, by schema and name."""
    sql = (_SQL / "contents.sql").read_text(encoding="utf-8")
    return [
        Relation(kind, schema, name, tuple(columns), size, of_extension)
        for kind, schema, name, columns, size, of_extension in connection.exec_driver_sql(sql)
    ]


def lock(connection: Connection, found: Iterable[Relation]) -> None:
    """Lock the tables in ACCESS SHARE, as pg_dump does: nobody can truncate or change them while we read."""
    names = [f"ONLY {quote(one.schema, one.name)}" for one in found if one.is_compared]
    for start in range(0, len(names), _LOCKS_AT_ONCE):
        some = ", ".join(names[start : start + _LOCKS_AT_ONCE])
        connection.exec_driver_sql(f"LOCK TABLE {some} IN ACCESS SHARE MODE")


def read(
    connection: Connection,
    found: Iterable[Relation],
    *,
    columns: Mapping[tuple[str, str], tuple[str, ...]] | None = None,
    told: Callable[[int], None] = lambda _: None,
) -> Contents:
    """Read the contents in a ``snapshot``.

    ``columns``: of which columns, and in which order, where a table's own are not meant. ``told`` hears the bytes of
    each table that is done.
    """
    contents = Contents()
    with _savepoint(connection):
        contents.catalog = catalog.read(connection)
    for one in found:
        if one.is_compared:
            of = (columns or {}).get((one.schema, one.name), one.columns)
            contents.tables.append(table_content(connection, one, of))
            told(one.size)
        elif one.kind != "S":
            contents.not_compared.append({"object": f"{one.schema}.{one.name}", "reason": _why_not(one)})
    contents.sequences = [
        SequencePosition(schema, name, position, position)
        for (schema, name), position in sequence_positions(connection, found).items()
    ]
    with _savepoint(connection):
        contents.large_objects = rows_fingerprint(connection, _LARGE_OBJECTS, ["oid", "n", "bytes", "hash"])
    return contents


def table_content(connection: Connection, table: Relation, columns: tuple[str, ...]) -> TableContent:
    """Return one table's content over these columns."""
    with _savepoint(connection):
        content = table_fingerprint(connection, table.schema, table.name, columns)
    return TableContent(table.schema, table.name, columns, content.rows, content.digest)


def sequence_positions(connection: Connection, found: Iterable[Relation]) -> dict[tuple[str, str], tuple[int, bool]]:
    """Return where every sequence stands at this moment: no snapshot holds them."""
    sequences = [one for one in found if one.kind == "S" and not one.of_extension]
    positions = {}
    for start in range(0, len(sequences), _SEQUENCES_AT_ONCE):
        some = sequences[start : start + _SEQUENCES_AT_ONCE]
        selects = (
            f"SELECT {i}, last_value, is_called FROM {quote(one.schema, one.name)}" for i, one in enumerate(some)
        )
        with _savepoint(connection):
            for i, *position in connection.exec_driver_sql(" UNION ALL ".join(selects)):
                positions[some[i].schema, some[i].name] = _position(position)
    return positions


def _why_not(one: Relation) -> str:
    """Say why this one's rows cannot be compared."""
    if one.of_extension:
        return say("it belongs to an extension, which makes it anew")
    if one.kind == "f":
        return say("its rows live on another server")
    return say("a restore computes it anew")


@contextmanager
def _savepoint(connection: Connection) -> Iterator[None]:
    """Give back what the block locked: a query locks every index of its tables, and 2,000 tables have many."""
    nested = connection.begin_nested()
    try:
        yield
    finally:
        nested.rollback()


@contextmanager
def in_background(connection: Connection, work: Callable[[], T]) -> Iterator[Future[T]]:
    """Do ``work``, which uses ``connection``, in another thread; a block that fails cancels its query and waits for it.

    psycopg2 hears no Ctrl-C while a query runs, and some of ours run for minutes.
    """
    raw = raw_connection(connection)
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(work)
        try:
            yield future
        except BaseException:
            while not future.done():
                with suppress(psycopg2.Error):  # without a connection the query has ended by itself
                    raw.cancel()
                wait([future], 0.2)
            raise


def patiently(connection: Connection, work: Callable[[], T], watch: Callable[[], None] = lambda: None) -> T:
    """Return what ``work`` returns, which uses ``connection``; Ctrl-C cancels its query. ``watch`` is called often."""
    with in_background(connection, work) as future:
        while not future.done():
            wait([future], 0.2)
            watch()
        return future.result()
