"""How each command's result reads to a person: one function a command, the result's keys of cli.md in, lines out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from commands.views_data import VIEWS as DATA_VIEWS
from commands.views_data import users_upgrade
from commands.views_kept import VIEWS as KEPT_VIEWS
from commands.views_rehearsal import VIEWS as REHEARSAL_VIEWS
from rollout.errors import CHANGED
from rollout.messages import say
from rollout.presentation import duration, place, result_lines, revision_name, size, table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rollout.presentation import Speaker
    from rollout.run import Run


def lines_of(run: Run, speak: Speaker) -> Iterator[str]:
    """Yield the lines about a run's result; the last one says what happened, or where the report is."""
    view = VIEWS.get(run.command)
    if view is not None:
        yield from view(run, speak)
    else:
        yield from result_lines({key: value for key, value in run.result.items() if key != "report"}, speak)
    upgraded = run.command == "migrate" and run.database == CHANGED
    told = run.command == "rehearse" or (upgraded and run.result["from_revision"] != run.result["to_revision"])
    if isinstance(run.result.get("report"), str) and not told:
        yield speak(say("report: {path}", path=run.result["report"]))


def _checks(result: dict[str, Any], speak: Speaker) -> Iterator[str]:
    """Say how many checks passed, where any ran."""
    summary = result["summary"]
    if not any(summary.values()):
        return
    text = say(
        "{passed} checks passed, {failed} failed, {warnings} warning(s)",
        passed=summary["passed"],
        failed=summary["failed"],
        warnings=summary["warnings"],
    )
    yield speak(text)


def _migrate(run: Run, speak: Speaker) -> Iterator[str]:
    """Say what was preserved and put back, and in one line what happened."""
    result = run.result
    if not run.exit_code:
        yield from users_upgrade(run, speak)
    if run.database != CHANGED or result["from_revision"] == result["to_revision"]:
        if not run.exit_code:
            at = {"place": place(run), "revision": revision_name(result["to_revision"])}
            done = run.database == CHANGED
            yield speak(
                say("{place}: the schema is at {revision} already.", **at)
                if done
                else say("{place}: nothing to do, it is at {revision}.", **at)
            )
        return
    yield from _unshelved(result, speak)
    kept = result["preserved"]
    yield speak(
        say(
            "{tables} tables that were there are as they were; the content of {rows} of their rows was compared.",
            tables=kept["tables"],
            rows=f"{kept['rows']:,}",
        )
    )
    yield from _checks(result, speak)
    yield speak(
        say(
            "{place}: upgraded from {start} to {end} in {time}; backup: {backup}; report: {report}",
            place=place(run),
            start=revision_name(result["from_revision"]),
            end=revision_name(result["to_revision"]),
            time=duration(run.seconds),
            backup=result["backup"] or say("none, as asked"),
            report=result.get("report"),
        )
    )


def _unshelved(result: dict[str, Any], speak: Speaker) -> Iterator[str]:
    """Say what came back from the shelf, and what did not and why."""
    found = result.get("unshelved", [])
    back = sum(one["returned"] for one in found)
    if back:
        yield speak(say("{count} row(s) came back from the shelf, and are what was put away.", count=f"{back:,}"))
    for one in found:
        if one["left"]:
            yield speak(
                say(
                    "{object}: {left} of {rows} row(s) stay on the shelf: {why}",
                    object=one["object"],
                    left=one["left"],
                    rows=one["rows"],
                    why="; ".join(speak(reason) for reason in one["why"]),
                )
            )


def _preflight(run: Run, speak: Speaker) -> Iterator[str]:
    """Say whether anything stops the upgrade."""
    result = run.result
    yield from _checks(result, speak)
    if not run.exit_code:
        start, end = revision_name(result["from_revision"]), revision_name(result["to_revision"])
        yield speak(
            say("{place}: nothing stops the upgrade from {start} to {end}.", place=place(run), start=start, end=end)
        )


def _verify(run: Run, speak: Speaker) -> Iterator[str]:
    """Say how the checks came out, area by area and in all."""
    heads = (say("area"), say("passed"), say("failed"), say("warnings"))
    areas = ((speak.area(one["area"]), one["passed"], one["failed"], one["warnings"]) for one in run.result["areas"])
    yield from table(heads, areas, speak)
    yield from _checks(run.result, speak)
    if run.result.get("revision") is not None:
        at = revision_name(run.result["revision"])
        yield speak(say("{place} was compared with {revision}.", place=place(run), revision=at))


def _plan(run: Run, speak: Speaker) -> Iterator[str]:
    """Show what would run, what it locks and touches."""
    result = run.result
    start, end = revision_name(result["from_revision"]), revision_name(result["to_revision"])
    if not result["revisions"]:
        if not run.exit_code:
            yield speak(say("{place}: nothing to do, it is at {revision}.", place=place(run), revision=end))
        return
    rows = ([one["revision"], one["family"], one["summary"]] for one in result["revisions"])
    yield from table([say("revision"), say("family"), say("what it does")], rows, speak)
    yield ""
    yield from _locks(result, speak)
    if result["kept"]:
        yield ""
        yield speak(say("there already, and left as it is: {objects}", objects=", ".join(result["kept"])))
    if result["lint"]:
        yield ""
        lint = ([one["revision"], one["rule"], one["message"]] for one in result["lint"])
        yield from table([say("revision"), say("rule"), say("what squawk says")], lint, speak)
    yield ""
    estimate = duration(result["estimate_seconds"])
    yield speak(
        say(
            "{place}: {count} revision(s) from {start} to {end}, in one transaction of about {time}.",
            place=place(run),
            count=len(result["revisions"]),
            start=start,
            end=end,
            time=estimate,
        )
    )


def _locks(result: dict[str, Any], speak: Speaker) -> Iterator[str]:
    """Show which tables are locked, and what that means."""
    touched = {one["table"]: one for one in result["touched"]}
    rows = []
    for name, mode in result["locks"].items():
        one = touched.get(name, {})
        rows.append([name, mode, one.get("rows"), size(one.get("bytes")), one.get("written", False)])
    heads = [say("table"), say("lock"), say("rows"), say("size"), say("rows are filled in")]
    yield from table(heads, rows, speak)


def receipt_lines(result: dict[str, Any], speak: Speaker) -> Iterator[str]:
    """Show what a rollback takes away: tables, columns, views and functions; the rest goes with them."""
    shown, others = [], 0
    without = any(one["missing"] and one["object"].startswith("table ") for one in result["receipt"])
    for one in result["receipt"]:
        kind = one["object"].partition(" ")[0]
        if one["missing"] and (kind == "table" or not without):
            shown.append([one["object"], None, None, None, say("is not there any more")])
        elif kind not in {"table", "column", "view", "function", "type", "extension", "rows"}:
            others += 1
        elif kind != "column" or one["rows"]:
            counted = kind in {"table", "column", "rows"}
            kept = say("on the shelf") if one["shelved"] else say("gone") if one["rows"] else ""
            rows = [one["rows"], one["entered"], one["made_by_upgrade"]] if counted else [None, None, None]
            shown.append([one["object"], *rows, kept])
        else:
            others += 1
    heads = [say("goes"), say("rows"), say("entered since"), say("made by the upgrade"), say("then")]
    yield from table(heads, shown, speak)
    if others:
        yield speak(say("  and {count} columns, constraints, indexes, triggers and sequences with them", count=others))
    if result.get("rights"):
        yield speak(say("  and rights, which the shelf does not keep; after the next upgrade give them again:"))
        yield from (f"      → {statement}" for statement in result["rights"])


def _rollback(run: Run, speak: Speaker) -> Iterator[str]:
    """Show the receipt where that was asked for, and say what happened."""
    result = run.result
    if "from_revision" not in result or result["from_revision"] is None:
        return
    start, end = revision_name(result["from_revision"]), revision_name(result["to_revision"])
    if run.database == CHANGED:
        yield from _shelved(result, speak)
        yield speak(
            say(
                "{place}: rolled back from {start} to {end}: {count} object(s) are gone.",
                place=place(run),
                start=start,
                end=end,
                count=len(result["receipt"]),
            )
        )
    elif not run.exit_code and result["receipt"]:
        yield from receipt_lines(result, speak)
        yield speak(say("{place}: this would go, from {start} to {end}.", place=place(run), start=start, end=end))
    elif not run.exit_code:
        yield speak(say("{place}: nothing to do, it is at {revision}.", place=place(run), revision=start))


def _shelved(result: dict[str, Any], speak: Speaker) -> Iterator[str]:
    """Say how many rows are on the shelf: of tables, as the question had them, and with the values of columns."""
    shelf = result.get("shelf", [])
    rows = sum(one["rows"] for one in shelf)
    tables = sum(one["rows"] for one in shelf if one["object"].startswith("table "))
    if rows:
        counts = {"count": f"{rows:,}", "tables": f"{tables:,}", "values": f"{rows - tables:,}"}
        yield speak(say("{count} row(s) are on the shelf, {tables} of tables and {values} with values of columns;"
                        " the next upgrade gives them back.", **counts))  # fmt: skip


def adopt_lines(result: dict[str, Any], speak: Speaker) -> Iterator[str]:
    """Count the objects of each family, and list what is not as it should be."""
    families: dict[str, dict[str, int]] = {}
    for one in result.get("objects", []):
        counts = families.setdefault(one["family"], {"present": 0, "missing": 0, "different": 0})
        counts[one["state"]] += 1
    heads = [say("family"), say("present"), say("missing"), say("different")]
    yield from table(heads, ([name, *counts.values()] for name, counts in families.items()), speak)
    states = {"missing": say("missing"), "different": say("different")}
    for one in result.get("objects", []):
        counts = families[one["family"]]
        # Of a family that is not there at all, the count says enough.
        if one["state"] == "different" or (one["state"] == "missing" and counts["present"] + counts["different"]):
            yield f"  {speak(states[one['state']])}: {one['object']}  {speak(one['how'])}".rstrip()
            yield from (f"      → {statement}" for statement in one.get("mend", []))
            yield from (speak(say("      → its owner: {statement}", statement=one)) for one in one.get("by_owner", []))
    if result.get("alembic_version"):
        yield speak(
            say(
                "alembic_version ({ids}) is another tool chain's; it is left alone.",
                ids=", ".join(result["alembic_version"]),
            )
        )


def _adopt(run: Run, speak: Speaker) -> Iterator[str]:
    """Say where the database stands, and what to do next."""
    result = run.result
    if "objects" not in result or run.exit_code:
        return
    where, stands_at = place(run), revision_name(result["stands_at"])
    if "mended" in result:
        left = result["counts"]["different"]
        yield speak(
            say(
                "{place}: {count} statement(s) run, {left} object(s) differ.",
                place=where,
                count=len(result["mended"]),
                left=left,
            )
        )
    elif run.database == CHANGED:
        yield speak(say("{place}: recorded as {revision}. Next: tool migrate", place=where, revision=stands_at))
    elif result["recorded"] is not None:
        recorded = revision_name(result["recorded"])
        yield speak(
            say("{place}: recorded as {revision} already; nothing was changed.", place=where, revision=recorded)
        )
    elif result["stands_at"] is None:
        yield speak(say("{place}: nothing of ours is there yet. Next: tool migrate", place=where))
    else:
        yield speak(say("{place}: stands at {revision}; nothing was recorded.", place=where, revision=stands_at))


VIEWS: dict[str, Callable[[Run, Speaker], Iterator[str]]] = {
    "migrate": _migrate,
    "preflight": _preflight,
    "verify": _verify,
    "plan": _plan,
    "rollback": _rollback,
    "adopt": _adopt,
    **KEPT_VIEWS,
    **REHEARSAL_VIEWS,
    **DATA_VIEWS,
}
