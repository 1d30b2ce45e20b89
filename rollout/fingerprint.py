"""Content fingerprints: what a table holds, independent of the order of its rows, comparable across databases.

Each row's text form (every value as PostgreSQL's output function writes it, NULL told from the empty string, so every
byte counts) is hashed as one string with two seeds of the 64-bit ``hashtextextended`` (PostgreSQL 11+); the sums over
all rows and the count make the fingerprint. Hashing the row as a whole, not column by column, is what makes a value
that changed places with another one show. The settings that the text form depends on are pinned.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import text

from rollout.database import quote

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection

_SEEDS = (0x5EED, 0x0DDBA11)

# What the text form of values depends on (https://www.postgresql.org/docs/current/runtime-config-client.html).
_PINNED = {
    "timezone": "UTC",
    "datestyle": "ISO, YMD",
    "intervalstyle": "postgres",
    "extra_float_digits": "3",
    "bytea_output": "hex",
    "lc_monetary": "C",
    "xmloption": "content",
    "row_security": "off",
}


@dataclass(frozen=True)
class Fingerprint:
    """``rows`` and an order-independent hash of their content."""

    rows: int
    digest: str


def pin_settings(connection: Connection) -> None:
    """Pin, for this transaction, the settings that the text of values depends on.

    ``row_security = off`` makes a filtered table an error, instead of a table that looks smaller than it is.
    """
    for name, value in _PINNED.items():
        connection.execute(text(f"SET LOCAL {name} = '{value}'"))


def rows_fingerprint(connection: Connection, query: str, columns: Sequence[str]) -> Fingerprint:
    """Fingerprint the rows of a query (SQL text without a semicolon) over the named columns, in their order."""
    row = ", ".join(f"q.{quote(column)}" for column in columns)
    sums = ", ".join(f"coalesce(sum(hashtextextended(r, {seed})), 0)" for seed in _SEEDS)
    # OFFSET 0 keeps the planner from computing the row's text once per hash.
    result = connection.exec_driver_sql(
        f"SELECT count(*), {sums} FROM (SELECT ROW({row})::text AS r FROM ({query}) AS q OFFSET 0) AS t"
    ).one()
    digest = "-".join(format(int(value) % 2**80, "020x") for value in result[1:])
    return Fingerprint(int(result[0]), digest)


def table_fingerprint(connection: Connection, schema: str, table: str, columns: Sequence[str]) -> Fingerprint:
    """Fingerprint one table (of itself: rows of tables that inherit from it are theirs)."""
    return rows_fingerprint(connection, f"SELECT * FROM ONLY {quote(schema, table)}", columns)
