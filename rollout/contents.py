"""What a database holds, on one snapshot: every table's fingerprint, sequences, large objects, definitions.

Taken beside a dump and again after its restore; equal contents are what makes a backup proven.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rollout import catalog
from rollout.database import quote
from rollout.fingerprint import Fingerprint, row_hash, rows_fingerprint
from rollout.messages import say
from rollout.snapshot import savepoint

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from sqlalchemy import Connection

    from rollout.catalog import Catalog

_SQL = Path(__file__).parent / "sql"
_LOCKS_AT_ONCE, _SEQUENCES_AT_ONCE = 200, 100

# Small tables share a query: 2,000 of them would be 2,000 times three round trips.
_SMALL, _TABLES_AT_ONCE = 2**20, 40

# Piece by piece: bytea ends at 1 GB, a large object at 4 TB. Whose it is, and who may use it, stands in no pg_dump -s.
_LARGE_OBJECTS = """
WITH RECURSIVE pieces AS (
    SELECT m.oid, 0::bigint AS n, length(p.piece) AS bytes, md5(p.piece) AS hash, concat(
               pg_get_userbyid(m.lomowner), ' ', obj_description(m.oid, 'pg_largeobject'), ' ',
               (SELECT string_agg(a::text, ' ' ORDER BY a::text)
                FROM unnest(coalesce(m.lomacl, acldefault('L', m.lomowner))) a)) AS told
    FROM pg_largeobject_metadata m, LATERAL (SELECT lo_get(m.oid, 0, 4194304) AS piece OFFSET 0) p
    UNION ALL
    SELECT l.oid, l.n + 1, length(p.piece), md5(p.piece), ''
    FROM pieces l, LATERAL (SELECT lo_get(l.oid, (l.n + 1) * 4194304, 4194304) AS piece OFFSET 0) p
    WHERE l.bytes = 4194304
) SELECT oid, n, bytes, hash, told FROM pieces
"""


@dataclass(frozen=True)
class Relation:
    """Something with rows or a position: ``kind`` as in pg_class.relkind, ``size`` in bytes on disk.

    ``types``: the oids of the columns' types, that of text for an enum, 0 for a domain.
    """

    kind: str
    schema: str
    name: str
    columns: tuple[str, ...]
    types: tuple[int, ...]
    size: int
    of_extension: bool

    @property
    def is_compared(self) -> bool:
        """Whether it is a table whose rows a dump holds as they are."""
        return self.kind == "r" and not self.of_extension


_Wanted = tuple[Relation, tuple[str, ...]]
"""A table, and over which columns it is read."""


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


def relations(connection: Connection, *, measured: bool = True) -> list[Relation]:
    """Return all that holds rows or a position outside the system's schemas, by schema and name.

    ``measured``: with sizes, for which the server locks every table for a moment.
    """
    sql = (_SQL / "contents.sql").read_text(encoding="utf-8")
    if not measured:
        sql = sql.replace("pg_table_size(c.oid)", "0")
    return [
        Relation(kind, schema, name, tuple(columns), tuple(types), size, of_extension)
        for kind, schema, name, columns, types, size, of_extension in connection.exec_driver_sql(sql)
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
    beside: Sequence[Connection] = (),
) -> Contents:
    """Read the contents in a ``snapshot``.

    ``columns``: of which columns, and in which order, where a table's own are not meant. ``told`` hears the bytes of
    each table that is done. ``beside``: more connections to a database where nobody writes; they share the tables.
    """
    contents = Contents()
    found = list(found)
    with savepoint(connection):
        contents.catalog = catalog.read(connection)
    tables = [(one, _columns_of(one, columns or {})) for one in found if one.is_compared]
    contents.tables = _tables([connection, *beside], tables, told)
    contents.not_compared = [
        {"object": f"{one.schema}.{one.name}", "reason": _why_not(one)}
        for one in found
        if not one.is_compared and one.kind != "S"
    ]
    contents.sequences = [
        SequencePosition(schema, name, position, position)
        for (schema, name), position in sequence_positions(connection, found).items()
    ]
    with savepoint(connection):
        contents.large_objects = rows_fingerprint(connection, _LARGE_OBJECTS, ["oid", "n", "bytes", "hash", "told"])
    return contents


def _tables(
    connections: Sequence[Connection], tables: list[_Wanted], told: Callable[[int], None]
) -> list[TableContent]:
    """Return the contents of tables, in their order; each connection takes the largest of those that wait."""
    waiting = sorted(_together(tables), key=lambda some: sum(one.size for one, _ in some))
    done: dict[tuple[str, str], TableContent] = {}

    def work(connection: Connection) -> None:
        while waiting:
            try:
                some = waiting.pop()
            except IndexError:  # another one was faster
                return
            try:
                for one in table_contents(connection, some):
                    done[one.schema, one.name] = one
            except BaseException:
                waiting.clear()  # the others need not go on
                raise
            told(sum(one.size for one, _ in some))

    with ThreadPoolExecutor(len(connections)) as pool:
        for ended in [pool.submit(work, connection) for connection in connections]:
            ended.result()
    return [done[one.schema, one.name] for one, _ in tables]


def _together(tables: Iterable[_Wanted]) -> Iterator[list[_Wanted]]:
    """Yield the tables, small ones in groups."""
    some: list[_Wanted] = []
    for table in tables:
        if table[0].size > _SMALL:
            yield [table]
            continue
        some.append(table)
        if len(some) == _TABLES_AT_ONCE:
            yield some
            some = []
    if some:
        yield some


def _columns_of(table: Relation, columns: Mapping[tuple[str, str], tuple[str, ...]]) -> tuple[str, ...]:
    """Return the columns that are asked for, where the table has them all; else its own."""
    wanted = columns.get((table.schema, table.name), table.columns)
    return wanted if set(wanted) <= set(table.columns) else table.columns


def table_contents(connection: Connection, tables: Iterable[_Wanted]) -> list[TableContent]:
    """Return the contents of tables, each over some of its columns, in one query."""
    wanted = list(tables)
    selects = []
    for number, (table, columns) in enumerate(wanted):
        hashed = hash_of(table, columns)
        selects.append(
            f"SELECT {number}, count(*), coalesce(sum({hashed}), 0) FROM ONLY {quote(table.schema, table.name)} AS q"
        )
    with savepoint(connection):
        rows = connection.exec_driver_sql(" UNION ALL ".join(selects)).all()
    found = {int(number): Fingerprint.of(count, total) for number, count, total in rows}
    return [
        TableContent(table.schema, table.name, columns, found[number].rows, found[number].digest)
        for number, (table, columns) in enumerate(wanted)
    ]


def hash_of(table: Relation, columns: Iterable[str]) -> str:
    """Return the SQL of the hash of a table's row (named ``q``) over some of its columns."""
    types = dict(zip(table.columns, table.types, strict=True))
    return row_hash([(f"q.{quote(column)}", types[column]) for column in columns])


def sequence_positions(connection: Connection, found: Iterable[Relation]) -> dict[tuple[str, str], tuple[int, bool]]:
    """Return where every sequence stands at this moment: no snapshot holds them."""
    sequences = [one for one in found if one.kind == "S" and not one.of_extension]
    positions = {}
    for start in range(0, len(sequences), _SEQUENCES_AT_ONCE):
        some = sequences[start : start + _SEQUENCES_AT_ONCE]
        selects = (
            f"SELECT {i}, last_value, is_called FROM {quote(one.schema, one.name)}" for i, one in enumerate(some)
        )
        with savepoint(connection):
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
