"""What of our schema is there already: object by object ``present``, ``missing`` or ``different``.

Something of ours that is there with the same definition (names of constraints and indexes aside) is taken as it is and
remembered as there before us; something that differs stops the upgrade before it begins.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rollout import catalog, manifest, plan
from rollout.database import server_major
from rollout.errors import PreflightFailed
from rollout.messages import say

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from sqlalchemy import Connection

    from rollout.catalog import Catalog, Definition

PRESENT = "present"
MISSING = "missing"
DIFFERENT = "different"

BASELINE_FAMILY = "baseline"
WRITTEN = ("users",)
"""Legacy tables whose rows the upgrade fills in."""

_SHOWN = 3

LEGACY_MARK = "table users"
"""The table whose presence tells an existing database from an empty one."""


@dataclass(frozen=True)
class ObjectState:
    """One object of a revision, and what the database has of it; ``how``: in what it differs."""

    key: str
    revision: str
    state: str
    how: str = ""
    is_legacy: bool = False

    @property
    def in_short(self) -> str:
        """In what it differs, as far as it fits into a line."""
        parts = catalog.one_by_one(self.how)
        if len(parts) <= _SHOWN:
            return self.how
        return say("{some}; … ({count})", some=catalog.in_a_row(parts[:_SHOWN]), count=len(parts))

    @property
    def is_kept(self) -> bool:
        """Tell whether revisions leave it alone: it is there, or part of an existing database's legacy core."""
        return self.is_legacy or self.state == PRESENT


def inspect(connection: Connection, steps: plan.Plan, there: Catalog | None = None) -> list[ObjectState]:
    """Compare what the pending revisions would make with what is there; ``steps`` leads upwards.

    On a database with a legacy core the baseline makes nothing: all its objects are kept, there or not
    (``rollout.checks.legacy`` tells whether what is there is good enough).
    """
    wanted = manifest.at([revision.id for revision in plan.up_to(steps.target)], major=server_major(connection))
    pending = {revision.id: revision.family for revision in steps.revisions}
    there = catalog.read(connection) if there is None else there
    existing = LEGACY_MARK in there
    taken = taken_names(there)
    found: list[ObjectState] = []
    for key, definition in wanted.of_revisions(pending):
        revision = wanted.made_by[key]
        other = in_the_way(key, definition, there, taken)
        if pending[revision] == BASELINE_FAMILY:
            # An extension is no part of anybody's legacy core: the baseline makes it where it is missing.
            if key in there or (existing and not key.startswith("extension ")):
                state = PRESENT if key in there else MISSING
                found.append(ObjectState(key, revision, state, is_legacy=existing))
        elif other is not None:
            found.append(ObjectState(key, revision, DIFFERENT, say("its name is taken by {other}", other=other)))
        elif not _is_part(key, wanted):
            found.append(_state(key, revision, definition, wanted, there))
    if existing and "extension pgcrypto" in there:
        found.append(ObjectState("extension pgcrypto", plan.history()[0].id, PRESENT))
    return found


def taken_names(there: Catalog) -> dict[str, str]:
    """Return the names in public that belong to relations (indexes of constraints too) and types, and to which."""
    taken = {}
    for key, values in there.items():
        kind, _, name = key.partition(" ")
        if kind in {"table", "view", "sequence", "index", "type"}:
            taken[name] = key
        elif kind == "constraint" and values["type"] in {"p", "u", "x"}:
            taken[name.rpartition(".")[2]] = key
    return taken


def in_the_way(key: str, definition: Definition, there: Catalog, taken: dict[str, str]) -> str | None:
    """Return what has the name of an object that is to be made, where it is something of another kind."""
    kind, _, name = key.partition(" ")
    if kind == "constraint" and definition["type"] in {"p", "u", "x"}:
        name = name.rpartition(".")[2]
    elif kind not in {"table", "view", "sequence", "index"}:
        return None
    other = taken.get(name)
    if kind == "sequence" and key in there:
        # One of this name that belongs to no table of ours: a serial column would get a sequence of another name.
        return None if f"table {str(definition['owned_by']).rpartition('.')[0]}" in there else key
    if key in there or other is None or (other.startswith("type ") and kind not in {"table", "view"}):
        return None
    return other


def baseline_objects() -> Iterator[tuple[str, str]]:
    """Yield (key, revision) of everything that the baseline would make on an empty database."""
    first = plan.history()[0].id
    for key in manifest.at([first], major=0).objects:
        yield key, first


def made_by(connection: Connection, steps: plan.Plan) -> Iterator[tuple[str, Definition]]:
    """Yield (key, definition) of everything that these revisions make on this server, with what tables bring along."""
    highest = steps.start if steps.downwards else steps.target
    wanted = manifest.at([revision.id for revision in plan.up_to(highest)], major=server_major(connection))
    yield from wanted.of_revisions([revision.id for revision in steps.revisions])


def our_tables(revision: str | None) -> list[str]:
    """Return the tables that our revisions made up to this one, without the legacy core."""
    wanted = manifest.at([one.id for one in plan.up_to(revision)], major=0)
    later = [one.id for one in plan.up_to(revision)[1:]]
    return [key.removeprefix("table ") for key, _ in wanted.of_revisions(later) if key.startswith("table ")]


def _is_part(key: str, wanted: manifest.Manifest) -> bool:
    """Tell whether CREATE TABLE makes this object with its table (a column, a constraint, a serial's sequence)."""
    kind, _, name = key.partition(" ")
    if kind == "sequence":
        return True
    table = name.rpartition(".")[0]
    return kind in {"column", "constraint"} and wanted.made_by.get(f"table {table}") == wanted.made_by[key]


def _state(key: str, revision: str, definition: Definition, wanted: manifest.Manifest, there: Catalog) -> ObjectState:
    """Tell what the database has of one object."""
    actual = find(key, definition, there)
    if actual is None:
        return ObjectState(key, revision, MISSING)
    how = catalog.differences(catalog.definition_of(definition), catalog.definition_of(actual))
    if key.startswith("table "):
        how += list(_table_differences(key.removeprefix("table "), wanted, there))
    return ObjectState(key, revision, DIFFERENT if how else PRESENT, catalog.in_a_row(how))


def find(key: str, definition: Definition, there: Catalog) -> Definition | None:
    """Return what is there under this key or, for constraints and indexes, with this definition under another name."""
    found = find_key(key, definition, there)
    return None if found is None else there[found]


def find_key(key: str, definition: Definition, there: Catalog) -> str | None:
    """Return the key of what ``find`` returns; one that is only switched off comes after one that is whole."""
    if key in there:
        return key
    kind = key.split(" ", 1)[0]
    if kind not in {"constraint", "index"}:
        return None
    alike = {
        name: other
        for name, other in there.items()
        if name.startswith(kind + " ") and other["table"] == catalog.definition_of(definition)["table"]
    }
    for form in (catalog.definition_of, as_written):
        for name, other in alike.items():
            if form(other) == form(definition):
                return name
    return None


def as_written(definition: Definition) -> Definition:
    """Return a definition without what somebody did to the triggers that keep it."""
    return {k: v for k, v in catalog.definition_of(definition).items() if k not in {"triggers_off", "triggers_edited"}}


def _table_differences(table: str, wanted: manifest.Manifest, there: Catalog) -> Iterator[str]:
    """Yield how a table that is there differs in its columns and constraints, names of constraints aside."""
    parts = dict(wanted.parts_of(table))
    for key, definition in parts.items():
        actual = find(key, definition, there)
        if actual is None:
            yield say("{key} is missing", key=key)
        else:
            for line in catalog.differences(catalog.definition_of(definition), catalog.definition_of(actual)):
                yield say("{key}: {how}", key=key, how=line)
    yield from (say("{key} is not ours", key=key) for key in not_ours(table, wanted, there))


def not_ours(table: str, wanted: manifest.Manifest, there: Catalog) -> Iterator[str]:
    """Yield the columns that our table has not, and the constraints that do what none of ours does."""
    expected = [as_written(definition) for _, definition in wanted.parts_of(table)]
    for key, actual in there.items():
        if key.startswith(f"column {table}.") and key not in wanted:
            yield key
        if key.startswith(f"constraint {table}.") and as_written(actual) not in expected:
            yield key


def refuse_differences(found: Iterable[ObjectState]) -> None:
    """Raise ``PreflightFailed`` where something that is there differs from what a revision would make."""
    different = [state for state in found if state.state == DIFFERENT]
    if different:
        first = different[0]
        raise PreflightFailed(
            say(
                "{count} object(s) exist with another definition, first: {key}: {how}",
                count=len(different),
                key=first.key,
                how=first.in_short,
            ),
            hint=say("`tool adopt` lists every difference; alter or rename what differs, then run this again."),
        )
