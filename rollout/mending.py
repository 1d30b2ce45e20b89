"""What makes an object that differs into ours: statements that lose nothing, and those its owner has to decide."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rollout import adopt, catalog
from rollout.database import identifier

if TYPE_CHECKING:
    from rollout.catalog import Catalog, Definition
    from rollout.manifest import Manifest

_VARYING = re.compile(r"character varying\((\d+)\)")
_INTEGERS = ("smallint", "integer", "bigint")
_THEIRS = "_theirs"


@dataclass
class Mends:
    """What to type for one object that differs.

    ``lossless``: no row and no value goes, ``tool adopt --mend`` runs these. ``by_owner``: something that is not ours
    goes or gets another name, or values have to fit a narrower type; nobody but its owner can decide that.
    """

    lossless: list[str] = field(default_factory=list)
    by_owner: list[str] = field(default_factory=list)


def mends(key: str, wanted: Manifest, there: Catalog, taken: dict[str, str]) -> Mends:
    """Return what makes an object of ours that differs into ours, with its columns and constraints.

    ``taken``: ``adopt.taken_names(there)``.
    """
    kind, _, name = key.partition(" ")
    definition = wanted.objects[key]
    other = adopt.in_the_way(key, definition, there, taken)
    if other is not None:
        return Mends(by_owner=[_renamed(other, there)])
    if kind in {"function", "view"}:
        return Mends(by_owner=[_renamed(key, there)])  # the upgrade makes ours
    if kind == "trigger":
        trigger, _, table = name.partition(" on ")
        return Mends(by_owner=[f"DROP TRIGGER {identifier(trigger)} ON {identifier(table)};"])
    if kind not in {"table", "column", "constraint", "index"}:
        return Mends()
    found = Mends()
    for part, one in [*wanted.parts_of(name)] if kind == "table" else [(key, definition)]:
        _part(found, part, one, there)
    if kind == "table":
        found.by_owner += [_dropped(one) for one in adopt.not_ours(name, wanted, there) if one not in wanted]
    return found


def _renamed(other: str, there: Catalog) -> str:
    """Return what gives something that has the name of ours another name."""
    kind, _, name = other.partition(" ")
    table, _, last = name.rpartition(".")
    if kind == "constraint":
        return f"ALTER TABLE {identifier(table)} RENAME CONSTRAINT {identifier(last)} TO {identifier(last + _THEIRS)};"
    if kind == "function":
        bare, _, arguments = name.partition("(")
        return f"ALTER FUNCTION {identifier(bare)}({arguments} RENAME TO {identifier(bare + _THEIRS)};"
    if kind == "view" and there[other]["kind"] == "m":
        kind = "materialized view"
    return f"ALTER {kind.upper()} {identifier(name)} RENAME TO {identifier(name + _THEIRS)};"


def _dropped(other: str) -> str:
    """Return what takes a column or constraint that ours has not away from its table."""
    kind, _, name = other.partition(" ")
    table, _, last = name.rpartition(".")
    return f"ALTER TABLE {identifier(table)} DROP {kind.upper()} {identifier(last)};"


def _part(found: Mends, key: str, definition: Definition, there: Catalog) -> None:
    """Find what mends one column, constraint or index."""
    kind, _, name = key.partition(" ")
    place = adopt.find_key(key, definition, there)
    actual = there[place] if place is not None else None
    if actual is not None and catalog.definition_of(actual) == catalog.definition_of(definition):
        return
    table, _, last = name.rpartition(".")
    if kind == "column":
        _column(found, table, last, definition, actual)
    elif kind == "constraint":
        if place is not None:
            last = place.rpartition(".")[2]  # one whose triggers are off keeps the name that it has
            found.lossless.append(f"ALTER TABLE {identifier(table)} DROP CONSTRAINT {identifier(last)};")
        added = f"ADD CONSTRAINT {identifier(last)} {definition['definition']}"
        found.lossless.append(f"ALTER TABLE {identifier(table)} {added};")
    elif actual is not None and actual.get("table") != definition["table"]:
        found.by_owner.append(_renamed(key, there))
    elif actual is not None:
        made = str(definition["definition"]).replace("INDEX ON", f"INDEX {identifier(name)} ON", 1)
        found.lossless += [f"DROP INDEX {identifier(name)};", f"{made};"]


def _column(found: Mends, table: str, column: str, definition: Definition, actual: Definition | None) -> None:
    """Find what mends a column."""
    default, required = definition.get("default"), bool(definition["not_null"])
    if definition.get("identity") or definition.get("generated"):
        return
    if actual is None:
        rest = (f" DEFAULT {default}" if default else "") + (" NOT NULL" if required else "")
        added = f"ADD COLUMN {identifier(column)} {definition['type']}{rest}"
        found.lossless.append(f"ALTER TABLE {identifier(table)} {added};")
        return
    alter = f"ALTER TABLE {identifier(table)} ALTER COLUMN {identifier(column)}"
    ours, theirs = str(definition["type"]), str(actual["type"])
    if ours != theirs and not _is_wider(ours, theirs):
        found.by_owner.append(f"{alter} TYPE {ours};")  # no USING: a cast would cut what is too long
        return
    if ours != theirs:
        found.lossless.append(f"{alter} TYPE {ours};")
    if actual.get("default") != default:
        found.lossless.append(f"{alter} SET DEFAULT {default};" if default else f"{alter} DROP DEFAULT;")
    if bool(actual["not_null"]) != required:
        found.lossless.append(f"{alter} {'SET' if required else 'DROP'} NOT NULL;")


def _is_wider(ours: str, theirs: str) -> bool:
    """Tell whether every value of their type is one of ours."""
    if ours in _INTEGERS and theirs in _INTEGERS:
        return _INTEGERS.index(ours) > _INTEGERS.index(theirs)
    wide, narrow = _VARYING.fullmatch(ours), _VARYING.fullmatch(theirs)
    if ours == "text":
        return narrow is not None or theirs == "character varying"
    return wide is not None and narrow is not None and int(wide[1]) > int(narrow[1])
