"""``tool shelf``: look at what rollbacks have put on the shelf, and drop what is no longer needed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rollout import memory, verify
from rollout.database import describe, engine_for
from rollout.errors import CHANGED, UNTOUCHED, RollbackFailed
from rollout.messages import say
from rollout.shelf.entries import Entry, drop, entries

if TYPE_CHECKING:
    from collections.abc import Callable

    from rollout.run import Run
    from rollout.settings import Settings


def on_shelf(settings: Settings, run: Run, run_id: str | None = None) -> list[Entry]:
    """Return what is on the shelf, of one rollback or of all; raise ``RollbackFailed`` where that one left nothing."""
    engine = engine_for(settings.target)
    with engine.connect() as connection:
        run.target = describe(connection, settings.target)
    with engine.connect() as connection:
        verify.read_only(connection, settings)
        found = entries(connection)
    return found if run_id is None else of_run(found, run_id)


def drop_run(settings: Settings, run: Run, run_id: str, confirm: Callable[[list[Entry]], bool]) -> None:
    """Drop what one rollback put on the shelf, after ``confirm``; fills ``run.result`` with ``entries``.

    Raises ``RollbackFailed`` where there is nothing of that rollback, or nobody said yes.
    """
    with memory.recorded(settings, run) as session:
        chosen = of_run(entries(session.own), run_id)
        run.result["entries"] = [entry.as_json() for entry in chosen]
        if not confirm(chosen):
            raise RollbackFailed(say("not confirmed"), hint=say("Answer y, or call with --yes."), database=UNTOUCHED)
        with run.step("drop") as step, session.engine.begin() as connection:
            drop(connection, chosen)
            step.detail = say("{count} object(s)", count=len(chosen))
        run.database = CHANGED


def of_run(found: list[Entry], run_id: str) -> list[Entry]:
    """Return the entries of one rollback."""
    chosen = [entry for entry in found if entry.run_id == run_id]
    if not chosen:
        raise RollbackFailed(
            say("there is nothing of run {run} on the shelf", run=run_id),
            hint=say("`tool shelf list` says what there is."),
            database=UNTOUCHED,
        )
    return chosen
