"""What rollbacks have put on the shelf: the upgrade gives back only what is as it was put away."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rollout.checks.registry import Area, Subject, check
from rollout.database import identifier
from rollout.findings import Finding
from rollout.messages import say
from rollout.shelf.entries import SHELF, entries
from rollout.shelf.proof import is_as_it_was

if TYPE_CHECKING:
    from collections.abc import Iterator


@check(Area.PREFLIGHT)
def the_shelf_is_as_it_was(subject: Subject) -> Iterator[Finding]:
    """What the upgrade would give back from the shelf is as it was put away, or somebody accepted it as it is."""
    assert subject.steps is not None  # noqa: S101
    pending = {revision.id for revision in subject.steps.revisions}
    for entry in entries(subject.connection):
        if entry.revision in pending and not is_as_it_was(subject.connection, entry):
            table = identifier(SHELF, entry.name)
            yield Finding(
                table,
                say(
                    "somebody changed what a rollback put away: the upgrade would make {object} without it",
                    object=entry.object,
                ),
                say(
                    "If rightly: tool shelf accept {run}; to upgrade without it, and leave it there:"
                    " COMMENT ON TABLE {table} IS NULL;",
                    run=entry.run_id,
                    table=table,
                ),
            )
