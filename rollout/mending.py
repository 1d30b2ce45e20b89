"""The statements that make an object that differs into ours, as far as they lose no row and no value."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from rollout import adopt, catalog
from rollout.database import identifier

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rollout.catalog import Catalog, Definition
    from rollout.manifest import Manifest

_VARYING = re.compile(r"character varying\((\d+)\)")
_INTEGERS = ("smallint", "integer", "bigint")


def statements(key: str, wanted: Manifest, there: Catalog) -> list[str]:
    """Return what mends an object of ours that differs: its columns, constraints and indexes, none that narrows."""
    kind, _, name = key.partition(" ")
    if key not in wanted or adopt.find(key, wanted.objects[key], there) is None:
        return []  # Something else has its name.
    parts = dict(wanted.parts_of(name)) if kind == "table" else {key: wanted.objects[key]}
    return [statement for part, definition in parts.items() for statement in _mends(part, definition, there)]


def _mends(key: str, definition: Definition, there: Catalog) -> Iterator[str]:
    """Yield what mends one column, constraint or index."""
    kind, _, name = key.partition(" ")
    actual = adopt.find(key, definition, there)
    if actual is not None and catalog.definition_of(actual) == catalog.definition_of(definition):
        return
    table, _, last = name.rpartition(".")
    if kind == "column":
        yield from _column(table, last, definition, actual)
    elif kind == "constraint":
        if actual is not None:
            yield f"ALTER TABLE {identifier(table)} DROP CONSTRAINT {identifier(last)};"
        yield f"ALTER TABLE {identifier(table)} ADD CONSTRAINT {identifier(last)} {definition['definition']};"
    elif kind == "index" and actual is not None and actual.get("table") == definition["table"]:
        yield f"DROP INDEX {identifier(name)};"
        yield str(definition["definition"]).replace("INDEX ON", f"INDEX {identifier(name)} ON", 1) + ";"


def _column(table: str, column: str, definition: Definition, actual: Definition | None) -> Iterator[str]:
    """Yield what mends a column; nothing where its type would have to be narrowed or read anew."""
    default, required = definition.get("default"), bool(definition["not_null"])
    if definition.get("identity") or definition.get("generated"):
        return
    if actual is None:
        rest = (f" DEFAULT {default}" if default else "") + (" NOT NULL" if required else "")
        yield f"ALTER TABLE {identifier(table)} ADD COLUMN {identifier(column)} {definition['type']}{rest};"
        return
    alter = f"ALTER TABLE {identifier(table)} ALTER COLUMN {identifier(column)}"
    if actual["type"] != definition["type"]:
        if not _is_wider(str(definition["type"]), str(actual["type"])):
            return
        yield f"{alter} TYPE {definition['type']};"
    if actual.get("default") != default:
        yield f"{alter} SET DEFAULT {default};" if default else f"{alter} DROP DEFAULT;"
    if bool(actual["not_null"]) != required:
        yield f"{alter} {'SET' if required else 'DROP'} NOT NULL;"


def _is_wider(ours: str, theirs: str) -> bool:
    """Tell whether every value of their type is one of ours."""
    if ours in _INTEGERS and theirs in _INTEGERS:
        return _INTEGERS.index(ours) > _INTEGERS.index(theirs)
    wide, narrow = _VARYING.fullmatch(ours), _VARYING.fullmatch(theirs)
    return wide is not None and narrow is not None and int(wide[1]) > int(narrow[1])
