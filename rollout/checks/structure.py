"""Structure: what we own is what the manifest of the revision says, and nothing of later revisions is left over."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rollout import adopt, catalog
from rollout.checks.registry import ERROR, WARNING, Area, Finding, Subject, check
from rollout.messages import say

if TYPE_CHECKING:
    from collections.abc import Iterator

_PARTS = ("index ", "trigger ", "rule ", "policy ", "constraint ", "column ")


def _compare(subject: Subject, kind: str) -> Iterator[Finding]:
    """Yield every object of one kind that is missing or differs; comments are warnings."""
    for key, expected in subject.manifest.objects.items():
        if not key.startswith(kind + " ") or subject.manifest.made_by[key] == subject.baseline:
            continue
        name = key.partition(" ")[2]
        kept = subject.manifest.was_there(key, subject.preexisting)
        found = adopt.find(key, expected, subject.catalog) if kept else subject.catalog.get(key)
        if found is None:
            yield Finding(
                name,
                say("{kind} is missing", kind=kind),
                say("`tool plan --sql` shows how it is made; `tool restore PATH` brings back a backup."),
            )
            continue
        how = catalog.differences(catalog.definition_of(expected), catalog.definition_of(found))
        if how:
            yield Finding(
                name,
                say("{kind} differs: {how}", kind=kind, how="; ".join(how)),
                say("Alter it to what is expected; `tool plan --sql` shows how it is made."),
            )
        if expected.get("comment") != found.get("comment") and not kept:
            yield Finding(
                name,
                say(
                    "the comment differs: expected {expected}, found {found}",
                    expected=expected.get("comment"),
                    found=found.get("comment"),
                ),
                say("COMMENT ON … IS '{comment}';", comment=expected.get("comment")),
                WARNING,
            )


@check(Area.STRUCTURE)
def tables_are_as_expected(subject: Subject) -> Iterator[Finding]:
    """Every table of ours is there, of the right kind, logged, with the expected row security and options."""
    yield from _compare(subject, "table")


@check(Area.STRUCTURE)
def columns_are_as_expected(subject: Subject) -> Iterator[Finding]:
    """Every column has its type with modifiers, nullability, default, identity, collation."""
    yield from _compare(subject, "column")


@check(Area.STRUCTURE)
def constraints_are_as_expected(subject: Subject) -> Iterator[Finding]:
    """Every primary key, unique, foreign key and check has its definition and is validated."""
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
    """Every view has its query."""
    yield from _compare(subject, "view")


@check(Area.STRUCTURE)
def sequences_are_as_expected(subject: Subject) -> Iterator[Finding]:
    """Every sequence has its type and owner column."""
    yield from _compare(subject, "sequence")


@check(Area.STRUCTURE)
def types_are_as_expected(subject: Subject) -> Iterator[Finding]:
    """Every type of ours has its labels in their order."""
    yield from _compare(subject, "type")


@check(Area.STRUCTURE)
def nothing_is_left_over(subject: Subject) -> Iterator[Finding]:
    """Nothing that only later revisions make is there, but for what was there before us."""
    for key in subject.later.objects:
        if key in subject.manifest or key not in subject.catalog or subject.later.was_there(key, subject.preexisting):
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
    """Columns, constraints, indexes, triggers, rules and policies that others put on our tables (a warning)."""
    owned = {
        key.removeprefix("table ")
        for key, revision in subject.manifest.made_by.items()
        if key.startswith("table ") and revision != subject.baseline and key not in subject.preexisting
    }
    for key, found in subject.catalog.items():
        if not key.startswith(_PARTS) or key in subject.manifest:
            continue
        kind, _, name = key.partition(" ")
        table = found.get("table") or name.rpartition(".")[0]
        if table in owned:
            severity = ERROR if kind in {"rule", "policy"} else WARNING
            yield Finding(
                name,
                say("{kind} on our table {table} is not ours", kind=kind, table=table),
                say("Keep it if it is meant; a rollback refuses while something of others depends on our tables."),
                severity,
            )
