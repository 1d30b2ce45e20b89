"""What the schema must be at each revision: generated, in ``rollout/expected/``, one file per revision.

Each file holds what its revision adds, changes and takes away, as PostgreSQL's catalogs describe it
(``python -m rollout.expected_manifests`` writes them from a real server); the manifest of a revision is all files up to
it, laid over each other. Read rights and this module are all that verification needs.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from rollout.catalog import definition_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from rollout.catalog import Catalog, Definition

EXPECTED = Path(__file__).parent / "expected"


@dataclass
class Manifest:
    """Every object of ours at one revision: ``objects`` by key, and the revision that made each (``made_by``)."""

    objects: Catalog = field(default_factory=dict)
    made_by: dict[str, str] = field(default_factory=dict)

    def __contains__(self, key: str) -> bool:
        """Tell whether the schema has this object."""
        return key in self.objects

    def of_revisions(self, revisions: Iterable[str]) -> Iterator[tuple[str, Definition]]:
        """Yield the objects made by these revisions."""
        chosen = set(revisions)
        for key, definition in self.objects.items():
            if self.made_by[key] in chosen:
                yield key, definition

    def parts_of(self, table: str) -> Iterator[tuple[str, Definition]]:
        """Yield what CREATE TABLE made with a table: its columns and constraints of the same revision."""
        revision = self.made_by.get(f"table {table}")
        for key, definition in self.objects.items():
            if self.made_by[key] == revision and key.startswith((f"column {table}.", f"constraint {table}.")):
                yield key, definition

    def was_there(self, key: str, preexisting: Collection[str]) -> bool:
        """Tell whether an object was there before us, itself or as a part of a table that was."""
        if key in preexisting:
            return True
        name = key.partition(" ")[2]
        if key.startswith("sequence "):
            name = str(self.objects.get(key, {}).get("owned_by", name))
        table = f"table {name.rpartition('.')[0]}"
        return table in preexisting and key in self.made_by and self.made_by.get(table) == self.made_by[key]


@cache
def _file(revision: str) -> dict[str, Catalog | list[str]]:
    """Read one revision's file."""
    values: dict[str, Catalog | list[str]] = json.loads((EXPECTED / f"{revision}.json").read_text(encoding="utf-8"))
    return values


def at(revisions: Iterable[str], *, major: int) -> Manifest:
    """Return the manifest after these revisions (in order, from the first) on a server of this major version."""
    manifest = Manifest()
    for revision in revisions:
        values = _file(revision)
        added = {**values["added"], **_variant(values, "added", major)}  # type: ignore[dict-item]
        changed = {**values["changed"], **_variant(values, "changed", major)}  # type: ignore[dict-item]
        for key in values["removed"]:
            manifest.objects.pop(key, None)
            manifest.made_by.pop(key, None)
        manifest.objects.update(changed)
        manifest.objects.update(added)
        manifest.made_by.update(dict.fromkeys(added, revision))
    return manifest


def touched(revisions: Iterable[str], *, major: int) -> set[str]:
    """Return the keys of everything that these revisions make, alter or take away on a server of this major version."""
    keys: set[str] = set()
    for values in map(_file, revisions):
        for part in ("added", "changed", "removed"):
            keys |= {*values[part], *_variant(values, part, major)}
    return keys


def _variant(values: dict[str, Catalog | list[str]], part: str, major: int) -> Catalog:
    """Return the definitions whose text differs on this server major."""
    variants: dict[str, dict[str, Catalog]] = values.get("variants", {})  # type: ignore[assignment]
    return variants.get(str(major), {}).get(part, {})


def delta(before: Catalog, after: Catalog) -> dict[str, Catalog | list[str]]:
    """Return what one revision did, as its file holds it: owners and grants are not the schema's, comments are."""
    left_out = ("owner", "acl")
    old = {key: definition_of(values, leave_out=left_out) for key, values in before.items()}
    new = {key: definition_of(values, leave_out=left_out) for key, values in after.items()}
    return {
        "added": {key: new[key] for key in sorted(new.keys() - old.keys())},
        "changed": {key: new[key] for key in sorted(new.keys() & old.keys()) if new[key] != old[key]},
        "removed": sorted(old.keys() - new.keys()),
    }
