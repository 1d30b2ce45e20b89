"""How a rehearsal reads to a person: times and sizes, locks, plans, and what to expect of the night."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rollout.messages import say
from rollout.presentation import duration, size, table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rollout.presentation import Speaker
    from rollout.run import Run

_WORSE = 1.5
"""A query whose cost grows by more than this is shown."""


def _rehearse(run: Run, speak: Speaker) -> Iterator[str]:
    """Show every stage, the locks of the upgrade, plans that changed, and the estimate."""
    result = run.result
    stages = result.get("stages", [])
    rows = (
        [
            speak.step_name(one["name"]),
            duration(one["seconds"]),
            size(one["wal_bytes"]),
            size(max(one["database_bytes"], 0)),
            duration(max((lock["seconds"] for lock in one["locks"]), default=0.0)),
        ]
        for one in stages
    )
    heads = [say("stage"), say("time"), say("WAL"), say("growth"), say("longest lock")]
    yield from table(heads, rows, speak, indent="")
    if stages:
        yield ""
        locks = ([one["table"], one["mode"], duration(one["seconds"]), one["blocks"]] for one in stages[0]["locks"])
        yield from table([say("table"), say("lock"), say("held"), say("others wait with")], locks, speak, indent="")
    yield from _plans(result.get("plans", {}), speak)
    if result.get("report"):
        yield speak(say("report: {path}", path=result["report"]))
    estimate = result.get("estimate")
    if estimate:
        yield ""
        yield speak(
            say(
                "expect about {minutes} minute(s) and {server} GB free on the server, {backup} GB for the backup"
                " (tables locked for {locked}, a restore takes {restore})",
                minutes=estimate["minutes"],
                server=estimate["server_gb"],
                backup=estimate["backup_gb"],
                locked=duration(estimate["locked_seconds"]),
                restore=duration(estimate["restore_seconds"]),
            )
        )


def _plans(plans: dict[str, dict[str, Any]], speak: Speaker) -> Iterator[str]:
    """Show the queries that became slower by the planner's reckoning; count the others."""
    both = {query: one for query, one in plans.items() if one["before"] and one["after"]}
    worse = {query: one for query, one in both.items() if one["after"]["cost"] > one["before"]["cost"] * _WORSE}
    if plans:
        yield ""
        yield speak(
            say(
                "{count} top queries: {worse} cost more after the upgrade, {new} are new",
                count=len(plans),
                worse=len(worse),
                new=len(plans) - len(both),
            )
        )
    for query, one in worse.items():
        before, after = one["before"], one["after"]
        yield f"  {query}: {before['cost']:,} ({before['plan']}) → {after['cost']:,} ({after['plan']})"


VIEWS: dict[str, Callable[[Run, Speaker], Iterator[str]]] = {"rehearse": _rehearse}
