"""Content fingerprints: what a table holds, independent of the order of its rows, comparable across databases.

Every value goes into one 64-bit hash a row, column after column, each hash the seed of the next one: a value that
changed places with another one, in its row or its column, shows. Whole numbers, uuids, moments and truth values are
hashed as they are, all others as the text that PostgreSQL's output function writes, so every byte counts
(``hashtextextended`` and its kin, PostgreSQL 11+). The sum over all rows and the count make the fingerprint. The
settings that the text depends on are pinned. A third of the cost of hashing ``ROW(…)::text``, which looks at every
byte for what it would have to quote.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import text

from rollout.database import quote

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection

TEXT = 25
"""The oid of the type text."""

_SEED = 0x0DDBA115EED
_NULL = r"E'\x01NULL e5b6c1d0f7a24c3e\x02'"
"""What stands for NULL: no value of anybody's."""

# Types of which equal values are equal bytes, and their own hash functions, by oid (pg_type); NULL has a stand-in.
# Faster than their text: writing out a timestamp costs more than all else. What has eight bytes is hashed twice: the
# server folds its halves into one another first, so that -1 and 4294967295 would be the same. A moment that is moved
# folds otherwise; in an array it need not become some zone's time first; at the ends of time it is moved inwards. Of an
# array of NULLs alone the hash would be the same whatever the seed: what came before would be lost.
_WHOLE = "hashint8extended(coalesce({x}::int8, -6917529027641081857), {seed})"
_MOVED = "CASE WHEN {x} < '2000-01-01' THEN {x} + interval '1:02:03.456789' ELSE {x} - interval '1:02:03.456789' END"
_MOMENT = f"hash_array_extended(ARRAY[coalesce({{x}}, '2873-11-05 03:14:15.926535'), {_MOVED}], {{seed}})"
_NATIVE = {
    16: "hashint4extended(coalesce({x}::int4, -8675309), {seed})",  # bool
    20: _WHOLE.format(x="{x}", seed="hashint4extended(coalesce(({x} >> 32)::int4, -8675309), {seed})"),
    21: _WHOLE,
    23: _WHOLE,
    1114: _MOMENT,
    1184: _MOMENT,
    2950: "uuid_hash_extended(coalesce({x}, '5b0e1c53-2a8f-4a8e-9c6d-7f1e2d3c4b5a'), {seed})",
}

# Types of which the cast to text is what their output function writes: bytea name text oid json xml float4 float8 inet
# varchar date time interval timetz varbit numeric record jsonb. Others (char(n) loses blanks) go through a row's text
# (https://www.postgresql.org/docs/current/catalog-pg-type.html).
_RECORD = 2249
_CAST = {17, 19, 25, 26, 114, 142, 700, 701, 869, 1043, 1082, 1083, 1186, 1266, 1562, 1700, _RECORD, 3802}

# Hashes are nested as deep as there are columns; the server's stack is not endless.
_DEEPEST, _AT_ONCE = 100, 32

# What the text form of values depends on (https://www.postgresql.org/docs/current/runtime-config-client.html). And no
# just-in-time compilation: it costs more than it brings to a chain of calls.
_PINNED = {
    "timezone": "UTC",
    "datestyle": "ISO, YMD",
    "intervalstyle": "postgres",
    "extra_float_digits": "3",
    "bytea_output": "hex",
    "lc_monetary": "C",
    "xmloption": "content",
    "row_security": "off",
    "jit": "off",
}


@dataclass(frozen=True)
class Fingerprint:
    """``rows`` and an order-independent hash of their content."""

    rows: int
    digest: str

    @classmethod
    def of(cls, rows: int, total: int) -> Fingerprint:
        """Return the fingerprint of a count and a sum of hashes."""
        return cls(int(rows), format(int(total) % 2**96, "024x"))

    def __add__(self, other: Fingerprint) -> Fingerprint:
        """Return the fingerprint of both contents together."""
        return self.of(self.rows + other.rows, int(self.digest, 16) + int(other.digest, 16))


def pin_settings(connection: Connection) -> None:
    """Pin, for this transaction, the settings that the text of values depends on.

    ``row_security = off`` makes a filtered table an error, instead of a table that looks smaller than it is.
    """
    for name, value in _PINNED.items():
        connection.execute(text(f"SET LOCAL {name} = '{value}'"))


def row_hash(columns: Sequence[tuple[str, int]]) -> str:
    """Return the SQL expression of a row's hash (bigint).

    ``columns``: their SQL and the oid of their type, ``TEXT`` for all whose text is told by a cast.
    """
    if len(columns) > _DEEPEST:
        groups = [columns[start : start + _AT_ONCE] for start in range(0, len(columns), _AT_ONCE)]
        columns = [(f"ROW({', '.join(name for name, _ in group)})", _RECORD) for group in groups]
    hashed = str(_SEED)
    for name, kind in columns:
        if kind in _NATIVE:
            hashed = _NATIVE[kind].format(x=name, seed=hashed)
        else:
            # "C": a collation that calls two texts equal would give them one hash.
            value = name if kind in _CAST else f"ROW({name})"
            hashed = f'hashtextextended(coalesce({value}::text, {_NULL}) COLLATE "C", {hashed})'
    return hashed


def rows_fingerprint(connection: Connection, query: str, columns: Sequence[str]) -> Fingerprint:
    """Fingerprint the rows of a query (SQL text without a semicolon) over the named columns, in their order."""
    names = ", ".join(f"q.{quote(column)}" for column in columns)
    described = connection.exec_driver_sql(f"SELECT {names} FROM ({query}) AS q LIMIT 0").cursor
    types = [int(str(column[1])) for column in described.description or ()] if described else []
    row = row_hash([(f"q.{quote(column)}", kind) for column, kind in zip(columns, types, strict=True)])
    result = connection.exec_driver_sql(f"SELECT count(*), coalesce(sum({row}), 0) FROM ({query}) AS q").one()
    return Fingerprint.of(*result)


def table_fingerprint(connection: Connection, schema: str, table: str, columns: Sequence[str]) -> Fingerprint:
    """Fingerprint one table (of itself: rows of tables that inherit from it are theirs)."""
    return rows_fingerprint(connection, f"SELECT * FROM ONLY {quote(schema, table)}", columns)
