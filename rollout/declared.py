"""What the revisions of a step declare, in the manifests: all that may differ afterwards, everything else may not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rollout import manifest, plan
from rollout.database import server_major

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from sqlalchemy import Connection


@dataclass(frozen=True)
class Declared:
    """What a step may do.

    ``objects``: keys that it makes, alters or takes away. ``columns``: keys of columns that it fills in. ``tables``:
    tables of schema public that rows may come to (``downwards``: that seed rows may go from).
    """

    objects: frozenset[str]
    columns: frozenset[str]
    tables: frozenset[str]
    downwards: bool

    def is_changed(self, table: str, column: str) -> bool:
        """Tell whether a column of schema public may hold something else afterwards, or go."""
        key = f"column {table}.{column}"
        return key in self.objects or key in self.columns


def by(connection: Connection, steps: plan.Plan, preexisting: frozenset[str], added_to: Iterable[str] = ()) -> Declared:
    """Return what ``steps`` declare on this server; ``preexisting`` objects stay as they are.

    ``added_to``: tables to which other work in the same transaction adds rows.

    A family is whole in itself: its tables and columns are filled in by its own revisions, and by no others.
    """
    major = server_major(connection)
    highest = steps.start if steps.downwards else steps.target
    there = manifest.at([one.id for one in plan.up_to(highest)], major=major)
    touched = manifest.touched([one.id for one in steps.revisions], major=major)
    families = {one.family for one in steps.revisions}
    filled = {one.id for one in plan.history() if one.family in families}
    return Declared(
        objects=frozenset(key for key in touched if not there.was_there(key, preexisting)),
        columns=frozenset(key for key in _made_by(there, filled, "column ") if not there.was_there(key, preexisting)),
        tables=frozenset(
            key.removeprefix("table ")
            for key in _made_by(there, filled, "table ")
            if not (steps.downwards and key in preexisting) and not _is_legacy(key, preexisting)
        ).union(added_to),
        downwards=steps.downwards,
    )


def _made_by(there: manifest.Manifest, revisions: set[str], kind: str) -> Iterator[str]:
    """Yield the keys of one kind that these revisions made."""
    return (key for key, revision in there.made_by.items() if revision in revisions and key.startswith(kind))


def _is_legacy(key: str, preexisting: frozenset[str]) -> bool:
    """Tell whether a table belongs to the legacy core of an existing database: no revision adds rows to it."""
    return key in preexisting and key in manifest.at([plan.history()[0].id], major=0)
