"""How the commands on what is kept read: backups, the shelf, history, reports, checks, status."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from rollout.errors import CHANGED, RESTORED
from rollout.messages import say
from rollout.presentation import duration, moment, place, result_lines, revision_name, size, table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rollout.presentation import Speaker
    from rollout.run import Run


def _backup_create(run: Run, speak: Speaker) -> Iterator[str]:
    """Say where the backup is, and whether it has been proven."""
    result = run.result
    if result.get("path"):
        tables = result.get("tables", [])
        rows = sum(one["rows"] for one in tables)
        proven = say("proven by a restore") if result.get("proven") else say("NOT proven")
        yield speak(
            say(
                "backup: {path} ({size}, {tables} tables, {rows} rows), {proven}",
                path=result["path"],
                size=size(result.get("bytes")),
                tables=len(tables),
                rows=f"{rows:,}",
                proven=proven,
            )
        )


def _backup_list(run: Run, speak: Speaker) -> Iterator[str]:
    """Show the backups, newest first."""
    now = datetime.now(timezone.utc)
    rows = []
    for one in run.result.get("backups", []):
        age = duration((now - datetime.fromisoformat(one["created_at"])).total_seconds()) if one["created_at"] else None
        proven = say("problem: {problem}", problem=one["problem"]) if one["problem"] else one["proven"]
        at = revision_name(one["revision"]) if not one["problem"] else None
        rows.append([one["name"], age, one["database"], size(one["bytes"]), at, proven])
    heads = [say("backup"), say("age"), say("database"), say("size"), say("revision"), say("proven")]
    yield from table(heads, rows, speak, indent="")
    if not rows and not run.exit_code:
        yield speak(say("no backups yet"))


def _backup_verify(run: Run, speak: Speaker) -> Iterator[str]:
    """Say what of the backup was checked, and found to be what it was."""
    if not run.exit_code:
        text = say("its files are what they were; no restore has proven it yet")
        if run.result.get("proven"):
            text = say("its files are what they were; a restore has proven it before, none was made now")
        if any(step.name == "restore" for step in run.steps):
            text = say("it restores to what was backed up")
        yield speak(say("{path}: {outcome}", path=run.result.get("path"), outcome=text))


def _backup_prune(run: Run, speak: Speaker) -> Iterator[str]:
    """Name what was deleted."""
    for path in run.result.get("removed", []):
        yield speak(say("deleted: {path}", path=path))
    for name, why in run.result.get("kept", {}).items():
        yield speak(say("kept: {name}: {why}", name=name, why=why))
    if not run.exit_code:
        yield speak(say("{count} backup(s) deleted", count=len(run.result.get("removed", []))))


def _restore(run: Run, speak: Speaker) -> Iterator[str]:
    """Say which database is where, and how to go back or on."""
    result = run.result
    if run.database != RESTORED:
        return
    yield speak(say("{place}: restored from {path}", place=place(run), path=result.get("path")))
    if result.get("replaced_database"):
        yield speak(say("the replaced database is kept as {name}", name=result["replaced_database"]))
        for statement in result.get("swap_back", []):
            yield speak(say("  to swap back: {statement}", statement=statement))
        yield speak(say("  to drop it: {statement}", statement=result.get("drop_replaced")))


def _history(run: Run, speak: Speaker) -> Iterator[str]:
    """Show the past runs, newest first."""
    rows = []
    for one in run.result.get("runs", []):
        ended = say("not finished") if one["ok"] is None else say("done") if one["ok"] else f"{one['exit_code']}"
        ended = say("tried only") if one["ok"] and one.get("dry_run") else ended
        start, end = one["from_revision"], one["to_revision"]
        way = f"{speak(revision_name(start))} → {speak(revision_name(end))}" if start != end else ""
        rows.append([one["run_id"], moment(one["started_at"]), one["command"], ended, duration(one["seconds"]), way])
    heads = [say("run"), say("began (UTC)"), say("command"), say("ended with"), say("time"), say("revisions")]
    yield from table(heads, rows, speak, indent="")
    if not rows and not run.exit_code:
        yield speak(say("no runs yet"))


def _report(run: Run, speak: Speaker) -> Iterator[str]:
    """Show what a report holds in short."""
    values: Any = run.result.get("report")
    if not isinstance(values, dict):
        return
    target = values.get("target") or {}
    at = f"{target.get('host')}:{target.get('port')}/{target.get('dbname')}" if target else "-"
    seconds = duration(values.get("seconds"))
    yield f"{values['command']}  {values.get('run_id', '-')}  {moment(values['started_at'])}  {at}  {seconds}"
    for step in values.get("steps", []):
        mark, name = "✓" if step["ok"] else "✗", speak.step_name(step["name"])
        yield f"  {mark} {name}  {duration(step['seconds'])}  {_told(step, 'detail', speak)}".rstrip()
    for one in values.get("findings", []):
        yield f"  {'✗' if one['severity'] == 'error' else '!'} {one['subject']}: {_told(one, 'problem', speak)}"
    general = {"command", "ok", "exit_code", "run_id", "database", "target", "started_at", "finished_at", "seconds",
               "steps", "findings", "error"}  # fmt: skip
    rest = {k: v for k, v in values.items() if k not in general and isinstance(v, (str, int, float, dict)) and v != {}}
    yield from result_lines(rest, speak, "  ")
    if values.get("error"):
        yield speak(say("error: {message}", message=_told(values["error"], "message", speak)))
        yield speak(say("hint:  {hint}", hint=_told(values["error"], "hint", speak)))
    yield speak(
        say(
            "exit code {code}; the database is {state}.",
            code=values["exit_code"],
            state=speak.state(values["database"]),
        )
    )


def _told(values: dict[str, Any], key: str, speak: Speaker) -> str:
    """Return a text of a record, in Chinese where it has one and that is wanted."""
    chinese = values.get(f"{key}_zh") if speak.chinese else None
    return str(chinese or values.get(key, ""))


def _checks(run: Run, speak: Speaker) -> Iterator[str]:
    """Show the registry, area by area."""
    area = None
    for one in sorted(run.result.get("checks", []), key=lambda one: one["area"]):
        if one["area"] != area:
            area = one["area"]
            yield speak.area(area)
        yield f"  {one['check']}: {speak(one['does'])}"


def _status(run: Run, speak: Speaker) -> Iterator[str]:
    """Say in a few lines how the database is."""
    result = run.result
    if not result.get("metrics"):  # nothing was looked at
        return
    metrics = result.get("metrics", {})
    yield speak(
        say("{place}: at {revision}", place=place(run), revision=revision_name(result["current_revision"]) or "-")
    )
    if result["pending"]:
        families = ", ".join(dict.fromkeys(one["family"] for one in result["pending"]))
        yield speak(say("{count} revision(s) pending: {families}", count=len(result["pending"]), families=families))
    yield speak(say("healthy: {healthy}", healthy=speak.value(result.get("healthy"))))
    shown = (
        (say("size"), size(metrics.get("database_bytes"))),
        (say("users"), _users(metrics, speak)),
        (say("connections"), f"{metrics.get('connections')} / {metrics.get('max_connections')}"),
        (say("longest transaction"), duration(metrics.get("longest_transaction_seconds"))),
        (say("lock waits"), metrics.get("lock_waits")),
        (say("a run is in progress"), metrics.get("run_in_progress")),
        (say("last backup"), _aged(metrics.get("last_backup_age_seconds"), metrics.get("last_backup_proven"))),
        (say("last run"), _last_run(metrics.get("last_run"))),
    )
    for name, value in shown:
        if value is not None:
            yield f"  {speak(name)}: {speak.value(value)}"
    for key in ("users_without_workspace", "lawyers_without_level", "clients_without_credits"):
        if metrics.get(key):
            yield f"  {key}: {speak.value(metrics[key])}"
    for key, reason in metrics.get("unknown", {}).items():
        yield speak(say("  {name} is not known: {reason}", name=key, reason=reason))


def _users(metrics: dict[str, Any], speak: Speaker) -> object:
    """Say how many users there are, or about how many."""
    users = metrics.get("users")
    return say("about {number}", number=speak.value(users)) if "users" in metrics.get("estimated", ()) else users


def _aged(seconds: float | None, proven: object) -> str:
    """Say how old the last backup is."""
    if seconds is None:
        return say("none")
    return say("{age} old, {proven}", age=duration(seconds), proven=say("proven") if proven else say("NOT proven"))


def _last_run(one: dict[str, Any] | None) -> str:
    """Say what the last run was."""
    if not one:
        return say("none")
    ended = say("done") if one["ok"] else say("exit code {code}", code=one["exit_code"])
    if one["ok"] is None:
        ended = say("not finished")
    return say(
        "{command} {run} at {when}: {ended}",
        command=one["command"],
        run=one["run_id"],
        when=moment(one["started_at"]),
        ended=ended,
    )


def _shelf_list(run: Run, speak: Speaker) -> Iterator[str]:
    """Show what is on the shelf."""
    entries = run.result.get("entries", [])
    rows = (
        [one["run_id"], one["object"], one["rows"], size(one["bytes"]), moment(one["shelved_at"])] for one in entries
    )
    yield from table([say("run"), say("object"), say("rows"), say("size"), say("since (UTC)")], rows, speak, indent="")
    for one in entries:
        if one["why"]:
            yield speak(
                say("  {object} did not come back: {why}", object=one["object"], why="; ".join(map(speak, one["why"])))
            )
    if not entries and not run.exit_code:
        yield speak(say("there is nothing on the shelf"))


def _shelf_show(run: Run, speak: Speaker) -> Iterator[str]:
    """Show what of one run is on the shelf, and how to look into it."""
    yield from _shelf_list(run, speak)
    for one in run.result.get("entries", []):
        yield f"  SELECT * FROM {one['table']};"


def _shelf_drop(run: Run, speak: Speaker) -> Iterator[str]:
    """Say what is gone."""
    if run.database == CHANGED:
        rows = sum(one["rows"] for one in run.result.get("entries", []))
        yield speak(say("{place}: {count} row(s) dropped from the shelf", place=place(run), count=f"{rows:,}"))


def _shelf_accept(run: Run, speak: Speaker) -> Iterator[str]:
    """Say what the next upgrade gives back."""
    if run.database == CHANGED:
        rows = sum(one["rows"] for one in run.result.get("entries", []))
        yield speak(
            say(
                "{place}: {count} row(s) are accepted; the next upgrade gives them back",
                place=place(run),
                count=f"{rows:,}",
            )
        )


VIEWS: dict[str, Callable[[Run, Speaker], Iterator[str]]] = {
    "backup create": _backup_create,
    "backup list": _backup_list,
    "backup verify": _backup_verify,
    "backup prune": _backup_prune,
    "restore": _restore,
    "history": _history,
    "report": _report,
    "checks": _checks,
    "status": _status,
    "shelf list": _shelf_list,
    "shelf show": _shelf_show,
    "shelf accept": _shelf_accept,
    "shelf drop": _shelf_drop,
}
