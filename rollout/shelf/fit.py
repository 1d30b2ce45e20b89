"""Which values on the shelf the tables of today take, where people altered ours before they were put away.

A value that the column's type, NOT NULL, a check or a unique constraint refuses stays on the shelf, and keeps nothing
else there. Constraints that later revisions make count already: when those run it is too late to leave a value out.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from sqlalchemy import text

from rollout import manifest, plan
from rollout.database import quote, server_major
from rollout.shelf.entries import SHELF, Entry

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection

_OTHER_TYPES = """
SELECT t.attname, format_type(t.atttypid, t.atttypmod) FROM pg_attribute t JOIN pg_attribute s USING (attname)
WHERE t.attrelid = CAST(:table AS regclass) AND s.attrelid = CAST(:shelf AS regclass) AND t.attnum > 0
  AND NOT t.attisdropped AND NOT s.attisdropped AND (t.atttypid, t.atttypmod) <> (s.atttypid, s.atttypmod)
"""

_SOMEBODY_DROPPED_COLUMNS = """
SELECT EXISTS (SELECT FROM pg_attribute WHERE attrelid = CAST(:shelf AS regclass) AND attnum > 0 AND attisdropped)
"""

# pg_input_is_valid() is there from 16 on only.
_FITS = f"""
CREATE FUNCTION {SHELF}.fits(value text, type text) RETURNS boolean LANGUAGE plpgsql AS $fits$
DECLARE
    same boolean;
BEGIN
    EXECUTE format('SELECT CAST(CAST($1 AS %%s) AS text) IS NOT DISTINCT FROM $1', type) INTO same USING value;
    RETURN same;
EXCEPTION WHEN data_exception OR integrity_constraint_violation OR syntax_error_or_access_rule_violation THEN
    RETURN false;
END
$fits$
"""

_CHECK = re.compile(r"CHECK (\(.*\))", re.DOTALL)


class Fit:
    """How the rows ``s`` of one table on the shelf become rows of the table that they came from."""

    def __init__(self, connection: Connection, entry: Entry) -> None:
        """Look which columns have another type here than on the shelf: enums, and what people altered."""
        self.connection = connection
        self.entry = entry
        self.table = quote("public", entry.source)
        found = connection.execute(text(_OTHER_TYPES), {"table": self.table, "shelf": entry.table})
        self.others: dict[str, str] = {row[0]: row[1] for row in found if row[0] in entry.columns}
        if (
            self.others
            and not connection.execute(
                text("SELECT to_regprocedure(:name) IS NOT NULL"), {"name": f"{SHELF}.fits(text, text)"}
            ).scalar_one()
        ):
            connection.exec_driver_sql(_FITS)

    def value(self, column: str) -> str:
        """Return the expression of a column's value, of the type that the table has."""
        return f"s.{quote(column)}" + (f"::text::{self.others[column]}" if column in self.others else "")

    def same(self, there: str, column: str) -> str:
        """Return the condition that a value is that of a column of ``s``; as text where people altered its type."""
        kind = "::text" if column.strip('"') in self.others else ""
        return f"{there}{kind} = s.{column}{kind}"

    def same_key(self) -> str:
        """Return the condition that a row of ``t`` has the key of the row ``s`` of the shelf."""
        return " AND ".join(self.same(f"t.{quote(name)}", quote(name)) for name in self.entry.key)

    def taken(self, columns: Iterator[str] | tuple[str, ...]) -> str:
        """Return the condition that the types here take the values of these columns, and neither cut nor alter them."""
        calls = [
            f"{SHELF}.fits(s.{quote(name)}::text, {_literal(self.others[name])})"
            for name in columns
            if name in self.others
        ]
        return " AND ".join(["true", *calls])

    def is_as_made(self) -> bool:
        """Tell whether rows that nobody wrote since the upgrade hold what it gave them: nobody dropped a column."""
        shelf = {"shelf": self.entry.table}
        return not self.connection.execute(text(_SOMEBODY_DROPPED_COLUMNS), shelf).scalar_one()

    def refused(self) -> dict[str, str]:
        """Return, for each column of which not every value is taken, the condition that one is."""
        conditions = {column: " AND ".join(self._conditions(column)) for column in self.entry.columns}
        if not conditions:
            return {}
        some = ", ".join(f"coalesce(bool_and({condition}), true)" for condition in conditions.values())
        taken = self.connection.exec_driver_sql(f"SELECT {some} FROM {self.entry.table} AS s").one()
        return {
            column: f"({conditions[column]})" for column, all_are in zip(conditions, taken, strict=True) if not all_are
        }

    def _conditions(self, column: str) -> Iterator[str]:
        """Yield what a value must be: of the type, there where it has to be, and what checks and unique ones accept."""
        wanted = manifest.at([one.id for one in plan.history()], major=server_major(self.connection)).objects
        taken = self.taken((column,))
        yield taken
        if wanted.get(f"column {self.entry.source}.{column}", {}).get("not_null"):
            yield f"s.{quote(column)} IS NOT NULL"
        for key, one in wanted.items():
            if not key.startswith("constraint ") or one.get("table") != self.entry.source:
                continue
            if list(one.get("columns", ())) != [column]:
                continue
            found = _CHECK.match(str(one["definition"]))
            if one["type"] == "c" and found is not None:
                row = f"(SELECT {self.value(column)} AS {quote(column)}) AS v"
                check = f"coalesce((SELECT {found[1].replace('%', '%%')} FROM {row}), true)"
                yield f"CASE WHEN {taken} THEN {check} ELSE false END"
            elif one["type"] in {"p", "u"}:
                yield from self._first(column)

    def _first(self, column: str) -> Iterator[str]:
        """Yield the condition that a row is the first of those with its value; nothing where each value is unique."""
        key = ", ".join(f"s.{quote(name)}" for name in self.entry.key)
        pairs = f"{self.entry.table} AS s JOIN {self.table} AS t ON {self.same_key()}"
        rows = f"FROM {pairs} WHERE s.{quote(column)} IS NOT NULL"
        if self.connection.exec_driver_sql(
            f"SELECT EXISTS (SELECT {rows} GROUP BY s.{quote(column)} HAVING count(*) > 1)"
        ).scalar_one():
            numbered = f"SELECT {key}, row_number() OVER (PARTITION BY s.{quote(column)} ORDER BY {key}) AS n {rows}"
            names = ", ".join(quote(name) for name in self.entry.key)
            yield f"({key}) NOT IN (SELECT {names} FROM ({numbered}) AS x WHERE n > 1)"


def if_taken(condition: str | None, value: str, otherwise: str = "NULL") -> str:
    """Return the SQL of a value that is taken where the condition holds."""
    return value if condition is None else f"CASE WHEN {condition} THEN {value} ELSE {otherwise} END"


def forget(connection: Connection) -> None:
    """Drop what looked at values."""
    connection.exec_driver_sql(f"DROP FUNCTION IF EXISTS {SHELF}.fits(text, text)")


def _literal(value: str) -> str:
    return "'" + value.replace("'", "''").replace("%", "%%") + "'"
