"""What a staged value has to be, as SQL: the conversion that never raises, and the predicates that say what is wrong.

A conversion yields NULL for a value that does not fit; a predicate tells that NULL from one that was there before. Both
refer to the staging table as ``s`` and to the table of conversions (``merge.convert``) as ``w``.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from datamigrations.mapping import Field, Kind, Table
from datamigrations.sqltext import BLANKS, UUID_PATTERN, as_key, literal
from rollout.database import quote

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection

    from datamigrations.source import SourceTable
    from datamigrations.staged import Staged

HELPERS_SQL = Path(__file__).parent / "sql" / "helpers.sql"

# ASCII blanks only: the regular expression's \s knows more of them than the cast does.
_INTEGER = r"E'^[ \t\n\r]*[+-]?0*[0-9]{1,10}[ \t\n\r]*$'"
_DIGITS = r"E'^[ \t\n\r]*[+-]?[0-9]+[ \t\n\r]*$'"
_INT4 = "BETWEEN -2147483648 AND 2147483647"

# A time without zone this far from the ends of the range can be given any zone without leaving it.
# https://www.postgresql.org/docs/current/datatype-datetime.html
_TIMES = "BETWEEN '4713-01-03 00:00:00 BC'::timestamp AND '294276-12-29 00:00:00'::timestamp"

TRUE = "'t', 'true', '1', 'y', 'yes', 'on'"
_FALSE = "'f', 'false', '0', 'n', 'no', 'off'"

_TRIMMED = ("email",)

# PostgreSQL 16 can test input without an exception, and so without a subtransaction for each value; but what is nested
# too deep, or too large, raises all the same.
# https://www.postgresql.org/docs/current/functions-info.html#FUNCTIONS-INFO-VALIDITY
_SOFT_INPUT = (16,)
_SOFT_JSON = """
ALTER FUNCTION pg_temp.json_value(text) RENAME TO any_json_value;
CREATE FUNCTION pg_temp.json_value(text) RETURNS jsonb LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    IF octet_length($1) > 1000 THEN
        RETURN pg_temp.any_json_value($1);
    ELSIF pg_input_is_valid($1, 'jsonb') THEN
        RETURN $1::jsonb;
    END IF;
    RETURN NULL;
END $$
"""

_NATIVE = {Kind.UUID: ("uuid",), Kind.BOOLEAN: ("boolean",), Kind.TIME: ("timestamptz",), Kind.JSON: ("jsonb",)}
_NOT = {
    Kind.UUID: ("not_a_uuid", "is not a uuid"),
    Kind.BOOLEAN: ("not_a_boolean", "is neither true nor false"),
    Kind.TIME: ("not_a_time", "is not a time that fits"),
    Kind.JSON: ("not_json", "is not json that the target can hold"),
}


@dataclass(frozen=True)
class Rule:
    """Rows for which ``predicate`` (SQL) holds do not fit: ``code`` and ``message`` say why."""

    code: str
    predicate: str
    message: str


def create_helpers(connection: Connection) -> None:
    """Create the session's functions for what no expression can test without raising (``pg_temp``)."""
    connection.exec_driver_sql(HELPERS_SQL.read_text(encoding="utf-8"))
    if connection.dialect.server_version_info >= _SOFT_INPUT:  # type: ignore[operator]
        connection.exec_driver_sql(_SOFT_JSON)


def is_direct(field: Field, staged: Staged) -> bool:
    """Tell whether a value goes from the staging table to the target as it stands: what can be large, and fits."""
    return field.is_large and staged.type == ("jsonb" if field.kind is Kind.JSON else "text")


def value(field: Field, source: SourceTable) -> str:
    """Return where a field's converted value is: in the staging table or in the table of conversions."""
    staged = source.columns[field.name]
    return f"{'s' if is_direct(field, staged) else 'w'}.{quote(field.name)}"


def mapped(source: SourceTable) -> dict[str, str]:
    """Return the SQL of each value that this source gives a column of the target (``w``: ``import_plan_T``)."""
    table = source.table
    values: dict[str, str] = {}
    for field in table.fields:
        if field.name in source.columns:
            found = value(field, source)
            values[field.column] = f"coalesce({found}, {field.default})" if field.default else found
    if table.user is not None:
        values[table.field(table.user).column] = "w.ref_user"
    if table.project is not None:
        values[table.field(table.project).column] = "w.ref_project"
    values[table.created] = "w.new_created"
    if table.updated is not None:
        values[table.updated] = "w.new_updated"
    return values


def hash_column(name: str) -> str:
    """Return the name of the staging column that holds the hash of a large value."""
    return f"h_{name}"


def large_hash(sql: str) -> str:
    """Return SQL for the 64-bit hash of a large value (text or jsonb)."""
    return f"hashtextextended(({sql})::text, 0)"


def hashes(source: SourceTable) -> dict[str, str]:
    """Return the values that move on as they are, by the source's column: SQL for the hash of what the target gets.

    It stands beside them in the staging table, in their ``hash_column``.
    """
    found = {}
    for field in source.table.fields:
        if field.name in source.columns and is_direct(field, source.columns[field.name]):
            column = quote(field.name)
            found[field.name] = large_hash(f"coalesce({column}, {field.default})" if field.default else column)
    return found


def large(source: SourceTable) -> dict[str, str]:
    """Return, for each column of the target whose values may be large, the SQL (of ``w``) of the hash."""
    staged, values = hashes(source), mapped(source)
    return {
        field.column: f"w.{quote(hash_column(field.name))}" if field.name in staged else large_hash(value)
        for field in source.table.fields
        if field.is_large and (value := values.get(field.column)) is not None
    }


def same_key(table: Table, planned: str = "w") -> str:
    """Return the condition that a row of the target (``t``) has the key of a planned one."""
    return " AND ".join(f"t.{quote(table.field(name).column)} = {planned}.{quote(name)}" for name in table.key)


def conversion(field: Field, staged: Staged, zone: str) -> str:
    """Return SQL that converts a staged value (of ``s``) and yields NULL where that is not possible.

    ``zone``: the time zone of times without one.
    """
    column = f"s.{quote(field.name)}"
    if staged.type in _NATIVE.get(field.kind, ()):
        return column
    if field.kind is Kind.KEY and staged.type == "uuid":
        return f"{column}::text"
    text = f"pg_temp.utf8({column})" if staged.type == "bytea" else column
    if field.kind is Kind.TIME and staged.type == "timestamp":
        fits = f"{column} {_TIMES} OR NOT isfinite({column})"
        return f"CASE WHEN {fits} THEN {column} AT TIME ZONE {literal(zone)} END"
    if field.kind is Kind.INTEGER and staged.type == "bigint":
        return f"CASE WHEN {column} {_INT4} THEN {column}::integer END"
    if field.name in _TRIMMED:
        return f"nullif(btrim({text}, {BLANKS}), '')"
    return {
        Kind.KEY: as_key(text),
        Kind.UUID: f"CASE WHEN {text} ~ {UUID_PATTERN} THEN {text}::uuid END",
        Kind.INTEGER: f"CASE WHEN {text} ~ {_INTEGER} AND {text}::bigint {_INT4} THEN {text}::integer END",
        Kind.BOOLEAN: f"CASE WHEN lower(btrim({text})) IN ({TRUE}) THEN true"
        f" WHEN lower(btrim({text})) IN ({_FALSE}) THEN false END",
        Kind.TIME: f"pg_temp.time_value({text}, {literal(zone)})",
        Kind.JSON: f"pg_temp.json_value({text})",
        Kind.SET: f"nullif(btrim({text}), '')",
        Kind.TEXT: text,
    }[field.kind]


def rules(source: SourceTable) -> Iterator[Rule]:
    """Yield the rules of a table's fields, in the order of its columns."""
    for field in source.table.fields:
        staged = source.columns.get(field.name)
        if staged is not None:
            yield from _rules(field, staged, value(field, source))


def _rules(field: Field, staged: Staged, converted: str) -> Iterator[Rule]:
    """Yield one field's rules. Their messages are kept in the database, so they are in one language."""
    raw, name = f"s.{quote(field.name)}", field.name
    lost = f"{raw} IS NOT NULL AND {converted} IS NULL"
    if field.required:
        absent = f"{converted} IS NULL" if field.kind is Kind.SET else f"{raw} IS NULL"
        yield Rule("missing", absent, f"{name} is missing")
    if field.kind is Kind.INTEGER:
        text = {"bigint": f"{raw}::text", "bytea": f"pg_temp.utf8({raw})"}.get(staged.type, raw)
        digits = f"({text} ~ {_DIGITS})"
        yield Rule("not_an_integer", f"{lost} AND {digits} IS NOT TRUE", f"{name} is not an integer")
        yield Rule("out_of_range", f"{lost} AND {digits}", f"{name} is out of the range of an integer")
    elif field.kind in _NOT and staged.type not in _NATIVE[field.kind]:
        code, message = _NOT[field.kind]
        yield Rule(code, lost, f"{name} {message}")
    elif staged.type == "bytea":
        yield Rule("not_utf8", f"{raw} IS NOT NULL AND pg_temp.utf8({raw}) IS NULL", f"{name} is not UTF-8")
    if field.length is not None:
        yield Rule(
            "too_long", f"char_length({converted}) > {field.length}", f"{name} is longer than {field.length} characters"
        )
    if field.values:
        allowed = ", ".join(literal(one) for one in field.values)
        yield Rule("unknown_value", f"{converted} NOT IN ({allowed})", f"{name} is none of {', '.join(field.values)}")
