"""Our own memory (schema rollout) against the version table: without it no way leads back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import text

from rollout import history, plan
from rollout.adopt import LEGACY_MARK
from rollout.checks.registry import Area, Subject, check
from rollout.findings import WARNING, Finding, first_few
from rollout.messages import say

if TYPE_CHECKING:
    from collections.abc import Iterator

_THERE = text(
    """
SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = 'rollout' AND c.relkind = 'r' AND c.relpersistence = 'p'
"""
)
_TABLES = ("applied_revisions", "preexisting_objects", "runs")
_APPLIED = text("SELECT revision, family, file_name FROM rollout.applied_revisions")


@check(Area.STRUCTURE)
def the_memory_is_there(subject: Subject) -> Iterator[Finding]:
    """The tables of the schema rollout that a rollback needs are there, and logged (no schema at all: a warning)."""
    if subject.revision is None:
        return
    there = set(subject.connection.execute(_THERE).scalars())
    lost = [one for one in _TABLES if one not in there]
    if len(lost) == len(_TABLES):
        problem = say("it is missing: a rollback cannot know what was there before")
        yield Finding("schema rollout", problem, _from_a_backup(), WARNING)
        return
    for table in lost:
        yield Finding(
            f"rollout.{table}",
            say("it is missing, or not logged: a rollback cannot know what was there before"),
            say("ALTER TABLE rollout.{table} SET LOGGED; where it is gone, bring it back from a backup.", table=table),
        )


def _from_a_backup() -> str:
    """Return what to do where revisions are not remembered."""
    return say(
        "Bring the rows of schema rollout back from a backup (`tool backup list`); until then a rollback refuses."
    )


@check(Area.STRUCTURE)
def applied_revisions_are_remembered(subject: Subject) -> Iterator[Finding]:
    """The schema rollout remembers exactly the revisions that the version table says, as they were (warnings)."""
    if not subject.remembers or subject.revision is None:
        return
    wanted = {one.id: one for one in plan.up_to(plan.current(subject.connection))}
    found = {row.revision: row for row in subject.connection.execute(_APPLIED)}
    missing, more = [one for one in wanted if one not in found], sorted(found.keys() - wanted.keys())
    if missing:  # no error: without that memory an upgrade works, and makes it anew for what it brings
        problem = say(
            "{count} applied revision(s) are not remembered: {revisions}",
            count=len(missing),
            revisions=first_few(missing),
        )
        yield Finding("rollout.applied_revisions", problem, _from_a_backup(), WARNING)
    if more:
        problem = say(
            "{count} revision(s) are remembered that are not applied: {revisions}",
            count=len(more),
            revisions=first_few(more),
        )
        yield Finding("rollout.applied_revisions", problem, _from_a_backup(), WARNING)
    for revision, row in found.items():
        known = wanted.get(revision)
        if known is not None and (row.family, row.file_name) != (known.family, known.path.name):
            yield Finding(
                "rollout.applied_revisions",
                say("{revision} is remembered as another one: {file}", revision=revision, file=row.file_name),
                f"UPDATE rollout.applied_revisions SET family = '{known.family}', file_name = '{known.path.name}'"
                f" WHERE revision = '{revision}';",
                WARNING,
            )


# What `people` counted, the first upgrade found: users who were there before us.
_FOUND_USERS = text(
    "SELECT run_id FROM rollout.runs WHERE command = 'migrate' AND ok AND from_revision IS NULL"
    " AND (record::json -> 'people' ->> 'users')::bigint > 0 ORDER BY number LIMIT 1"
)


@check(Area.STRUCTURE)
def what_was_there_is_remembered(subject: Subject) -> Iterator[Finding]:
    """Where the first upgrade found users, their table is remembered as there before us: a rollback never drops it."""
    if not subject.remembers or subject.revision is None or LEGACY_MARK in subject.preexisting:
        return
    run = subject.connection.execute(_FOUND_USERS).scalar()
    if run is not None:
        problem = say(
            "it no longer says that users was there before us, as run {run} found: a rollback would take it for ours",
            run=run,
        )
        yield Finding("rollout.preexisting_objects", problem, _from_a_backup())


_NO_RUNS = text(
    "SELECT NOT EXISTS (SELECT FROM rollout.runs) AND has_sequence_privilege('rollout.runs_number_seq', 'SELECT')"
)
# Not pg_sequences, which takes a stronger lock.
_NUMBERS_WERE_GIVEN = text("SELECT is_called FROM rollout.runs_number_seq")


@check(Area.STRUCTURE)
def past_runs_are_as_written(subject: Subject) -> Iterator[Finding]:
    """No record of a past run was edited or removed: each carries the hash of the one before (warnings)."""
    if not subject.remembers:
        return
    problems = history.verify_chain(subject.connection)
    if problems:
        yield Finding("rollout.runs", problems[0], say("`tool history` shows every such run."), WARNING)
    empty = subject.connection.execute(_NO_RUNS).scalar_one()
    if empty and subject.connection.execute(_NUMBERS_WERE_GIVEN).scalar_one():
        yield Finding(
            "rollout.runs",
            say(
                "it holds no run, though one was begun (emptied, or that one was never written):"
                " `tool rollback --to before-last-run` does not know the last run"
            ),
            say("Past runs also stand in the reports (ROLLOUT_DIR) and in backups; name the revision: --to REVISION."),
            WARNING,
        )
