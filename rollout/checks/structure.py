"""Structure: what we own is what the manifest of the revision says, and nothing of later revisions is left over."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rollout import accepts, catalog
from rollout.checks import repairs
from rollout.checks.registry import Area, Subject, check
from rollout.findings import ERROR, WARNING, Finding
from rollout.messages import say

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rollout.catalog import Definition

_PARTS = ("index ", "trigger ", "rule ", "policy ", "constraint ", "column ")


def _compare(subject: Subject, kind: str) -> Iterator[Finding]:
    """Yield every object of one kind that is missing or differs; what surrounds it is a warning."""
    for key, expected in subject.manifest.objects.items():
        if not key.startswith(kind + " ") or not subject.is_ours(key) or _is_part_of_nothing(subject, key, expected):
            continue
        kept = subject.manifest.was_there(key, subject.preexisting)
        there = key if key in subject.catalog else _under_another_name(subject, key, expected)
        if there is None:
            yield Finding(
                key.partition(" ")[2],
                say("{kind} is missing", kind=kind),
                repairs.missing(key, expected, subject.catalog),
                ERROR,
            )
        elif there != key and not kept:
            yield _renamed(kind, key, there, expected)
        if there is not None:
            yield from _differences(subject, key, there, kept=kept)


def _is_part_of_nothing(subject: Subject, key: str, expected: Definition) -> bool:
    """Tell whether an object's table is missing, which is a finding of its own."""
    kind, _, name = key.partition(" ")
    if kind == "column":
        table = name.rpartition(".")[0]
        return f"table {table}" not in subject.catalog and f"view {table}" not in subject.catalog
    return "table" in expected and f"table {expected['table']}" not in subject.catalog


def _under_another_name(subject: Subject, key: str, expected: Definition) -> str | None:
    """Return the constraint or index that does the same under a name that is not ours."""
    kind = key.split(" ", 1)[0]
    if kind not in {"constraint", "index"}:
        return None
    others = {
        name: found
        for name, found in subject.catalog.items()
        if name.startswith(kind + " ") and found["table"] == expected["table"] and name not in subject.manifest
    }
    for name, found in others.items():
        if catalog.definition_of(found) == catalog.definition_of(expected):
            return name
    return next((name for name, found in others.items() if _accept_the_same(subject, expected, found)), None)


def _renamed(kind: str, key: str, there: str, expected: Definition) -> Finding:
    """Say that an object has another name than ours."""
    name, other = key.partition(" ")[2], there.partition(" ")[2]
    if kind == "index":
        hint = f"ALTER INDEX {other} RENAME TO {name};"
    else:
        old, new = other.rpartition(".")[2], name.rpartition(".")[2]
        hint = f"ALTER TABLE {expected['table']} RENAME CONSTRAINT {old} TO {new};"
    return Finding(name, say("{kind} has another name: {name}", kind=kind, name=other), hint, WARNING)


def _differences(subject: Subject, key: str, there: str, *, kept: bool) -> Iterator[Finding]:
    """Yield in what an object that is there differs, and what of its surroundings does."""
    kind, _, name = key.partition(" ")
    expected, found = subject.manifest.objects[key], subject.catalog[there]
    how = catalog.differences(catalog.definition_of(expected), catalog.definition_of(found))
    if how and not _accept_the_same(subject, expected, found):
        yield Finding(
            name,
            say("{kind} differs: {how}", kind=kind, how=catalog.in_a_row(how)),
            repairs.differing(key, expected, found, subject.catalog),
        )
    for field in catalog.surroundings_of(expected):
        if kept or field in {"owner", "acl"} or expected.get(field) == found.get(field):
            continue
        yield Finding(
            name,
            say(
                "{field} differs: expected {expected}, found {found}",
                field=field,
                expected=expected.get(field, "none"),
                found=found.get(field, "none"),
            ),
            repairs.surrounding(key, field, expected),
            WARNING,
        )


def _accept_the_same(subject: Subject, expected: Definition, found: Definition) -> bool:
    """Tell whether two CHECK constraints differ in nothing but how they are written."""
    if not expected.get("type") == found.get("type") == "c":
        return False
    one, other = (
        catalog.definition_of(values, leave_out=(*catalog.SURROUNDINGS, "definition", "columns"))
        for values in (expected, found)
    )
    prefix = f"column {found['table']}."
    types = {
        key.removeprefix(prefix): str(values["type"])
        for key, values in subject.catalog.items()
        if key.startswith(prefix)
    }
    return one == other and accepts.same(subject.connection, expected, found, types)


@check(Area.STRUCTURE)
def tables_are_as_expected(subject: Subject) -> Iterator[Finding]:
    """Every table of ours is there, of the right kind, logged, with the expected row security."""
    yield from _compare(subject, "table")


@check(Area.STRUCTURE)
def columns_are_as_expected(subject: Subject) -> Iterator[Finding]:
    """Every column has its type with modifiers, nullability, default, identity, collation."""
    yield from _compare(subject, "column")


@check(Area.STRUCTURE)
def constraints_are_as_expected(subject: Subject) -> Iterator[Finding]:
    """Every primary key, unique, foreign key and check has its definition, is validated and enforced."""
    yield from _compare(subject, "constraint")


@check(Area.STRUCTURE)
def indexes_are_as_expected(subject: Subject) -> Iterator[Finding]:
    """Every index has its columns, order, method, predicate, uniqueness, and is valid."""
    yield from _compare(subject, "index")


@check(Area.STRUCTURE)
def triggers_are_as_expected(subject: Subject) -> Iterator[Finding]:
    """Every trigger has its timing, events and condition, and is enabled."""
    yield from _compare(subject, "trigger")


@check(Area.STRUCTURE)
def functions_are_as_expected(subject: Subject) -> Iterator[Finding]:
    """Every function has its body, language and volatility."""
    yield from _compare(subject, "function")


@check(Area.STRUCTURE)
def views_are_as_expected(subject: Subject) -> Iterator[Finding]:
    """Every view has its query and options."""
    yield from _compare(subject, "view")


@check(Area.STRUCTURE)
def sequences_are_as_expected(subject: Subject) -> Iterator[Finding]:
    """Every sequence has its type, limits, increment and owner column."""
    yield from _compare(subject, "sequence")


@check(Area.STRUCTURE)
def types_are_as_expected(subject: Subject) -> Iterator[Finding]:
    """Every type of ours has its labels in their order."""
    yield from _compare(subject, "type")


@check(Area.STRUCTURE)
def nothing_is_left_over(subject: Subject) -> Iterator[Finding]:
    """Nothing that only later revisions make is there, but for what was there before us."""
    # Without a memory: a legacy core that is there was there before us; the baseline would not make it.
    legacy = None if subject.revision or subject.remembers else subject.baseline
    for key in subject.later.objects:
        if key in subject.manifest or key not in subject.catalog or subject.later.was_there(key, subject.preexisting):
            continue
        if subject.later.made_by[key] == legacy:
            continue
        kind, _, name = key.partition(" ")
        yield Finding(
            name,
            say("{kind} belongs to a later revision", kind=kind),
            say("`tool adopt` tells where the database stands."),
            WARNING if subject.revision is None else ERROR,
        )


@check(Area.STRUCTURE)
def our_tables_carry_nothing_else(subject: Subject) -> Iterator[Finding]:
    """Columns, constraints, indexes, triggers that others put on our tables are warnings; rules and policies errors."""
    owned = {
        key.partition(" ")[2]
        for key in subject.manifest.objects
        if key.startswith(("table ", "view ")) and subject.is_ours(key) and key not in subject.preexisting
    }
    for key, found in subject.catalog.items():
        if not key.startswith(_PARTS) or key in subject.manifest or key in subject.later:
            continue
        kind, _, name = key.partition(" ")
        table = found.get("table") or name.rpartition(".")[0]
        if table in owned:
            yield Finding(
                name,
                say("{kind} on our table {table} is not ours", kind=kind, table=table),
                say("Keep it if it is meant; a rollback refuses while something of others depends on our tables."),
                ERROR if kind in {"rule", "policy"} else WARNING,
            )
