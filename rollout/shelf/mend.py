"""What is wrong with what the shelf gives back is mended on the shelf: where to look, and ``tool shelf accept``."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from rollout import memory
from rollout.checks.registry import Area
from rollout.errors import CHANGED, UNTOUCHED, RollbackFailed, VerificationFailed
from rollout.findings import ERROR
from rollout.fingerprint import table_fingerprint
from rollout.messages import Message, say
from rollout.shelf.care import of_run
from rollout.shelf.entries import SHELF, Entry, columns_of, entries

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from sqlalchemy import Connection

    from rollout.run import Run
    from rollout.settings import Settings


def advice(error: VerificationFailed, unshelved: Iterable[dict[str, Any]]) -> VerificationFailed:
    """Say where to mend what verification found, where it may be what came back: our tables are gone again by then."""
    back = [one for one in unshelved if one["returned"]]
    worst = next((one for one in error.findings if one.severity == ERROR), None)
    if not back or worst is None or worst.area not in {Area.DATA.value, Area.BUSINESS.value}:
        return error
    hint, of = error.hint, None
    for one in back:
        there = _on_shelf(hint, one)
        if there != hint:
            hint, of = there, of or one["run_id"]
    if of:
        told = say(
            "It came back from the shelf, and is there again; mend it there: {hint} Then `tool shelf accept {run}`, and"
            " run this again.",
            hint=hint,
            run=of,
        )
    else:
        told = say(
            "{hint} If it came back from the shelf: mend it there (`tool shelf show {run}` names the tables), then"
            " `tool shelf accept {run}`, and run this again.",
            hint=hint,
            run=back[0]["run_id"],
        )
    return VerificationFailed(error.message, hint=told, database=error.database, findings=error.findings)


_OBJECT = re.compile(r"(?:table (?P<table>\S+)|columns (?P<of>\S+) \((?P<columns>.*)\))")


def _on_shelf(hint: str, one: dict[str, Any]) -> str:
    """Return a hint whose statements name the table on the shelf instead of the one that its rows came from."""
    if isinstance(hint, Message) and hint.values:
        values = {k: _on_shelf(v, one) if isinstance(v, str) else v for k, v in hint.values.items()}
        return Message(hint.template, values)
    found = _OBJECT.fullmatch(one["object"])
    assert found is not None  # noqa: S101 - Entry.object is of this form
    if found["of"] and not any(re.search(rf"\b{name}\b", hint) for name in found["columns"].split(", ")):
        return hint
    source = re.escape(found["table"] or found["of"])
    return re.sub(rf"\b(FROM|JOIN|UPDATE|INTO) {source}\b", lambda place: f"{place[1]} {one['table']}", hint)


def accept_run(settings: Settings, run: Run, run_id: str, confirm: Callable[[list[Entry]], bool]) -> None:
    """Take what a rollback put on the shelf as it is now, after ``confirm``; fills ``run.result`` with ``entries``.

    Raises ``RollbackFailed`` where there is nothing of that rollback, a column is gone, or nobody said yes.
    """
    with memory.recorded(settings, run) as session:
        changed = [one for one in (_now(session.own, entry) for entry in of_run(entries(session.own), run_id)) if one]
        run.result["entries"] = [entry.as_json() for entry in changed]
        if not changed:
            run.listener.note(say("nothing to do: all of it is as it was put away"))
            return
        if not confirm(changed):
            raise RollbackFailed(say("not confirmed"), hint=say("Answer y, or call with --yes."), database=UNTOUCHED)
        with run.step("record") as step, session.engine.begin() as connection:
            for entry in changed:
                entry.label(connection)
            step.detail = say("{count} object(s)", count=len(changed))
        run.database = CHANGED


def _now(connection: Connection, entry: Entry) -> Entry | None:
    """Return an entry as it is now; None where it is as it was."""
    gone = [name for name in entry.fingerprinted if name not in columns_of(connection, entry.table)]
    if gone:
        raise RollbackFailed(
            say("{table} has lost the column {column}", table=entry.as_json()["table"], column=gone[0]),
            hint=say("Add it again: an upgrade cannot put back rows without it."),
            database=UNTOUCHED,
        )
    found = table_fingerprint(connection, SHELF, entry.name, entry.fingerprinted)
    if (found.rows, found.digest) == (entry.rows, entry.digest):
        return None
    return replace(entry, rows=found.rows, digest=found.digest, why=())
