"""How a source column is staged: as the type that loses nothing, so that one code path serves all installations.

What does not fit is found later, by rules, and never by an error while rows are copied.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from datamigrations.mapping import Kind
from rollout.database import quote

if TYPE_CHECKING:
    from datamigrations.mapping import Field


@dataclass(frozen=True)
class Staged:
    """How one source column is staged: ``type`` of the staging column, ``expression`` on the source that yields it."""

    type: str
    expression: str


def staged(field: Field, source_type: str, *, ascii_only: bool = False) -> Staged:
    """Choose how a column of ``source_type`` (pg_type.typname) is staged.

    ``ascii_only``: the source is SQL_ASCII, which checks nothing; text is staged as the bytes it is.
    """
    column = "s." + quote(field.name)
    native = {
        Kind.KEY: {"uuid": ("uuid", column)},
        Kind.UUID: {"uuid": ("uuid", column)},
        Kind.INTEGER: {
            **dict.fromkeys(("int2", "int4", "int8"), ("bigint", f"{column}::bigint")),
            "numeric": ("text", f"CASE WHEN {column} = trunc({column}) THEN trunc({column}) ELSE {column} END::text"),
        },
        Kind.BOOLEAN: {"bool": ("boolean", column)},
        Kind.TIME: {
            "timestamp": ("timestamp", column),
            "timestamptz": ("timestamptz", column),
            "date": ("timestamp", f"{column}::timestamp"),
        },
        Kind.JSON: {"jsonb": ("jsonb", column)},
    }.get(field.kind, {})
    expression = f"{column}::text"
    if field.kind is Kind.JSON and source_type.startswith("_"):
        if source_type == "_json":
            expression = f"to_json({column})::text"
        else:
            native = {source_type: ("jsonb", f"to_jsonb({column})")}
            expression = f"to_jsonb({column})::text"
    if ascii_only and (source_type not in native or field.kind is Kind.JSON):
        return Staged("bytea", f"convert_to({expression}, 'SQL_ASCII')")
    return Staged(*native[source_type]) if source_type in native else Staged("text", expression)
