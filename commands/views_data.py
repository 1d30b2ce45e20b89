"""How the commands on data read: users upgrade, pagtive import, rejects, undo; and the demo."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rollout.errors import CHANGED
from rollout.messages import say
from rollout.presentation import place, table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rollout.presentation import Speaker
    from rollout.run import Run

_SHOWN = 20
"""How many single rows a person wants to read; --json and --csv have them all."""


def users_upgrade(run: Run, speak: Speaker) -> Iterator[str]:
    """Say how many accounts there are now, and who has none; also where it was a part of ``migrate``."""
    result = run.result
    if "accounts" not in result:
        return
    for one in result["skipped"][:_SHOWN]:
        yield f"  {one['user_id']}: {speak(one['reason'])}"
    if len(result["skipped"]) > _SHOWN:
        yield speak(say("… and {count} more", count=len(result["skipped"]) - _SHOWN))
    rows = ([name, count] for name, count in result["by_provider"].items())
    yield from table([say("provider"), say("accounts")], rows, speak)
    for reason, count in result.get("without_account", {}).items():
        yield speak(say("  without any account: {count} ({reason})", count=count, reason=reason))
    made = result["accounts"]
    text = say(
        "{place}: {feishu} Feishu and {email} e-mail account(s) made for {users} users, {skipped} skipped",
        place=place(run),
        feishu=made["feishu"],
        email=made["email"],
        users=result["users"],
        skipped=len(result["skipped"]),
    )
    yield speak(_kept(run, text))


def _kept(run: Run, text: str) -> str:
    """Add that a trial run has kept nothing."""
    return say("{text}; tried only, nothing was kept", text=text) if run.result.get("dry_run") else text


def _pagtive_import(run: Run, speak: Speaker) -> Iterator[str]:
    """Account for every row, table by table."""
    result = run.result
    tables = result.get("tables", {})
    yield from _counts(tables, speak)
    reasons = ([reason, count] for reason, count in result.get("reasons", {}).items())
    yield from table([say("quarantined because"), say("rows")], reasons, speak)
    yield from _identity(run, speak)
    if tables and not run.exit_code:
        read = sum(counts.get("read", 0) for counts in tables.values())
        out = sum(counts.get("quarantined", 0) for counts in tables.values())
        text = say(
            "{place}: {read} rows read, all accounted for; {quarantined} in quarantine; {accounts} account(s) made",
            place=place(run),
            read=f"{read:,}",
            quarantined=f"{out:,}",
            accounts=result.get("accounts_created", 0),
        )
        yield from _left_as_it_is(run, speak)
        yield speak(_kept(run, text))
        yield from _what_next(run, speak, quarantined=bool(out))


def _counts(tables: dict[str, dict[str, int]], speak: Speaker) -> Iterator[str]:
    """Show what became of the rows of each table."""
    names = list(dict.fromkeys(name for counts in tables.values() for name in counts))
    known = {
        "read": say("read"), "inserted": say("inserted"), "updated": say("updated"), "unchanged": say("unchanged"),
        "merged": say("merged"), "quarantined": say("quarantined"), "defaulted": say("defaulted"),
    }  # fmt: skip
    heads = [say("table"), *(known.get(name, name) for name in names)]
    yield from table(heads, ([name, *(counts.get(key, 0) for key in names)] for name, counts in tables.items()), speak)


def _left_as_it_is(run: Run, speak: Speaker) -> Iterator[str]:
    """Say what the table of counts does not: rows that differ and stay, and logs that lost their project."""
    if kept := run.result.get("kept"):
        listed = ", ".join(f"{name} ({rows})" for name, rows in kept.items())
        yield speak(say("changed on both sides, or newer in the target, and left as it is: {tables}", tables=listed))
    if logs := run.result.get("logs_without_project"):
        yield speak(say("{count} log(s) name a project that is not there, and come without", count=logs))


def _what_next(run: Run, speak: Speaker, *, quarantined: bool) -> Iterator[str]:
    """Say what can be typed after an import: for the rows that did not fit, and where it was a mistake."""
    if run.result.get("dry_run"):
        return
    if quarantined:
        yield speak(say("what did not fit, and why: tool pagtive rejects --csv rejects.csv"))
        yield speak(say("once that is mended in the source: tool pagtive import --retry-rejects"))
    if run.database == CHANGED:
        yield speak(say("if this import was a mistake: tool pagtive undo {run}", run=run.run_id))


def _pagtive_plan(run: Run, speak: Speaker) -> Iterator[str]:
    """Show who the source's users would be, and what collides; whole only in the CSV."""
    found = run.result.get("identity", {})
    if run.exit_code or not found:
        return
    rows = (
        [one.get("source_id"), one["matched_by"], one.get("target_user_id"), _noted(one, speak)]
        for one in found["users"][:_SHOWN]
    )
    yield from table([say("source user"), say("matched by"), say("user of the target"), say("note")], rows, speak)
    users = sum(found["matched"].values())
    if users > _SHOWN:
        yield speak(say("… and {count} more (--csv FILE writes them all)", count=users - _SHOWN))
    for one in found["colliding"][:_SHOWN]:
        yield f"  {speak(_COLLISION[one['kind']])}: {', '.join(one['users'][:_SHOWN])}"
    yield from _identity(run, speak)
    if "csv" in run.result:
        yield speak(say("{count} user(s) in {path}, with their e-mail addresses", count=users, path=run.result["csv"]))
    yield speak(say("{place}: planned only, nothing was changed", place=place(run)))


_COLLISION = {
    "source_email": say("source users with one e-mail address"),
    "source_feishu": say("source users with one Feishu id"),
    "target_email": say("users of the target with one e-mail address"),
}


def _noted(one: dict[str, str], speak: Speaker) -> str:
    """Say what is special about one source user."""
    notes = [one[name] for name in ("change", "withheld_role", "reasons") if name in one]
    if "username_taken" in one:
        notes.append(speak(say("username is taken")))
    if "merged_into" in one:
        notes.append(speak(say("merged into source user {source_id}", source_id=one["merged_into"])))
    return ", ".join(notes)


def _identity(run: Run, speak: Speaker) -> Iterator[str]:
    """Say in figures how the users would be matched."""
    found = run.result.get("identity", {})
    rows = ([rule, count] for rule, count in found.get("matched", {}).items())
    yield from table([say("matched by"), say("users")], rows, speak)
    for kind, count in found.get("collisions", {}).items():
        yield speak(say("{count} case(s) of {kind}", count=count, kind=_COLLISION[kind]))
    if found.get("taken_usernames"):
        yield speak(say("{count} username(s) are taken and get a number", count=found["taken_usernames"]))
    yield from _withheld(run, speak)


def _withheld(run: Run, speak: Speaker) -> Iterator[str]:
    """Say how many people who were here before are changed, and how many roles would have risen."""
    if run.result.get("users_changed"):
        yield speak(
            say(
                "{count} user(s) of the target get another status or role from the source (listed in the report)",
                count=run.result["users_changed"],
            )
        )
    if run.result.get("role_escalations_withheld"):
        yield speak(
            say(
                "{count} role(s) would have risen and were withheld (--allow-role-escalation lets them)",
                count=run.result["role_escalations_withheld"],
            )
        )


def _rejects(run: Run, speak: Speaker) -> Iterator[str]:
    """Show the quarantined rows: where, which, why; their content is in --json and --csv only."""
    if "csv" in run.result:
        yield speak(say("{count} quarantined row(s) in {path}", count=run.result["rejected"], path=run.result["csv"]))
        return
    from datamigrations.told import told

    found = run.result.get("rejects", [])
    rows = (
        [one["table_name"], one["source_key"], ", ".join(one["reasons"]), "; ".join(map(speak, told(one["message"])))]
        for one in found[:_SHOWN]
    )
    yield from table([say("table"), say("source key"), say("reasons"), say("message")], rows, speak, indent="")
    if len(found) > _SHOWN:
        yield speak(say("… and {count} more (--csv FILE writes them all)", count=len(found) - _SHOWN))
    if not run.exit_code:
        yield speak(say("{count} quarantined row(s)", count=len(found)))


def _undo(run: Run, speak: Speaker) -> Iterator[str]:
    """Say what was taken back, table by table."""
    tables = run.result.get("tables", {})
    names = list(dict.fromkeys(name for counts in tables.values() for name in counts))
    known = {"deleted": say("deleted"), "restored": say("restored")}
    heads = [say("table"), *(known.get(name, name) for name in names)]
    yield from table(heads, ([t, *(c.get(n, 0) for n in names)] for t, c in tables.items()), speak)
    if run.database == CHANGED:
        yield speak(say("{place}: import {run} was taken back", place=place(run), run=run.result.get("undone", "-")))


def _demo(run: Run, speak: Speaker) -> Iterator[str]:
    """Show what the demo did, and where its reports are."""
    yield from _counts(run.result.get("pagtive", {}), speak)
    for path in run.result.get("reports", []):
        yield speak(say("report: {path}", path=path))


VIEWS: dict[str, Callable[[Run, Speaker], Iterator[str]]] = {
    "users upgrade": users_upgrade,
    "pagtive plan": _pagtive_plan,
    "pagtive import": _pagtive_import,
    "pagtive rejects": _rejects,
    "pagtive undo": _undo,
    "demo": _demo,
}
