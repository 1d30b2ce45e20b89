"""All checks on the database as it is: inside the upgrade's transaction, after it (audit), and as ``tool verify``."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from rollout import manifest, memory, plan
from rollout.checks import (  # noqa: F401 - they register
    accounts,
    backups,
    business,
    data,
    definers,
    every_row,
    guards,
    legacy,
    levels,
    performance,
    preflight,
    ranges,
    rejected_rows,
    remembered,
    rights,
    security,
    seeds,
    sessions,
    shelved,
    sign_in,
    structure,
    workspaces,
)
from rollout.checks.registry import CHECKS, Area, Outcome, Subject, run_checks
from rollout.database import VERSION_TABLE, describe, engine_for, lift_limits, server_major
from rollout.errors import UNTOUCHED, PreflightFailed, VerificationFailed
from rollout.findings import Finding
from rollout.messages import say

if TYPE_CHECKING:
    from collections.abc import Collection

    from sqlalchemy import Connection

    from rollout.run import Listener, Run
    from rollout.settings import Settings


# For this transaction, whatever the server, the database or the role has set. Rows that row security hides make an
# error, not a pass; queries that run once are not compiled; two processes at most work for us, with room to hash a
# million rows: https://www.postgresql.org/docs/current/runtime-config-resource.html#GUC-WORK-MEM
_SETTINGS = "SET LOCAL search_path = public; SET LOCAL row_security = off; SET LOCAL jit = off"
_RESOURCES = """
SELECT set_config('max_parallel_workers_per_gather',
                  least(current_setting('max_parallel_workers_per_gather')::int, 1)::text, true),
       set_config('work_mem',
                  greatest(pg_size_bytes(current_setting('work_mem')) / 1024, 64 * 1024)::text || 'kB', true)
"""


def subject_at(connection: Connection, revision: str | None, *, in_upgrade: bool = False) -> Subject:
    """Return what checks need to look at a database that stands at ``revision``."""
    major = server_major(connection)
    connection.exec_driver_sql(_SETTINGS)
    connection.exec_driver_sql(_RESOURCES)
    remembers = memory.readable(connection)
    return Subject(
        connection,
        revision,
        manifest.at([one.id for one in plan.up_to(revision)], major=major),
        manifest.at([one.id for one in plan.history()], major=major),
        memory.preexisting(connection) if remembers else frozenset(),
        remembers,
        in_upgrade,
    )


def run_areas(subject: Subject, areas: Collection[Area], listener: Listener | None = None) -> Outcome:
    """Run every check of these areas, the structure's first; ``listener`` hears how far it is."""
    chosen = [check for area in Area if area in areas for check in CHECKS.values() if check.area is area]
    return run_checks(chosen, subject, listener)


VERIFIED = tuple(area for area in Area if area is not Area.PREFLIGHT)


BOUND_SECONDS = 60.0
"""How long a statement of ``verify`` may take where nobody set ROLLOUT_STATEMENT_TIMEOUT; none with ``--deep``."""


def verify(
    settings: Settings, run: Run, *, areas: Collection[str] = (), at: str | None = None, deep: bool = False
) -> None:
    """Run the checks in one read-only transaction; raise ``VerificationFailed`` where one found an error.

    ``areas``: names of areas (none: all). ``at``: verify against this revision instead of the database's own. ``deep``:
    read every row of ours, and put a fingerprint of each table into the result (``content``). Needs read rights only;
    works on a replica.
    """
    chosen = [area for area in VERIFIED if not areas or area.value in areas]
    limit = settings.statement_timeout or (0.0 if deep else BOUND_SECONDS)
    engine = engine_for(settings.target)
    with run.step("connect"), engine.connect() as connection:
        run.target = describe(connection, settings.target)
    with engine.connect() as connection:
        read_only(connection, replace(settings, statement_timeout=limit))
        with run.step("verify") as step:
            revision = _revision(connection, at, run)
            subject = replace(subject_at(connection, revision), settings=settings, deep=deep)
            outcome = run_areas(subject, chosen, run.listener)
            if revision is None:
                outcome.count(Area.STRUCTURE.value, failed=True)
                outcome.findings.append(_not_upgraded())
            step.detail = say("revision {revision}", revision=revision) if revision else say("not upgraded yet")
        _sampled(run, subject)
        if "content" in subject.shared:
            run.result["content"] = subject.shared["content"]
    run.result |= {"revision": revision, "areas": outcome.by_area()}
    report(run, outcome)
    stop_on_errors(outcome, database=UNTOUCHED)


def _revision(connection: Connection, at: str | None, run: Run) -> str | None:
    """Return the revision to verify against; where nobody can tell which, that is what verification finds."""
    if at:
        return plan.resolve(at)
    try:
        return plan.current(connection)
    except PreflightFailed as error:
        outcome = Outcome(0, 0, [unknown_revision(error)])
        outcome.count(Area.STRUCTURE.value, failed=True)
        run.result |= {"revision": None, "areas": outcome.by_area()}
        report(run, outcome)
        raise VerificationFailed(
            error.message, hint=error.hint, database=UNTOUCHED, findings=outcome.findings
        ) from None


def unknown_revision(error: PreflightFailed) -> Finding:
    """Make a finding of what ``plan.current`` could not accept."""
    return Finding(VERSION_TABLE, error.message, error.hint, check="revision_is_known", area=Area.STRUCTURE.value)


def _not_upgraded() -> Finding:
    """Say that no revision of ours is recorded."""
    return Finding(
        "database",
        say("no revision of ours is recorded: the database has not been upgraded"),
        say("tool preflight, then tool migrate; `tool adopt` if it was upgraded by hand."),
        check="revision_is_recorded",
        area=Area.STRUCTURE.value,
    )


def _sampled(run: Run, subject: Subject) -> None:
    """Say which tables were too big to be read whole."""
    run.result["sampled"] = [{"table": table, "rows": rows} for table, rows in subject.sampled.items()]
    for table, rows in subject.sampled.items():
        run.listener.note(
            say("{table} has about {rows} rows: a sample was looked at; --deep reads them all", table=table, rows=rows)
        )


def read_only(connection: Connection, settings: Settings) -> None:
    """Begin a read-only transaction that waits for nobody."""
    connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
    connection.exec_driver_sql(f"SET LOCAL lock_timeout = {round(settings.lock_timeout * 1000)}")
    connection.exec_driver_sql(f"SET LOCAL statement_timeout = {round(settings.statement_timeout * 1000)}")
    connection.exec_driver_sql("SET LOCAL search_path = public; SET LOCAL row_security = off")
    lift_limits(connection)


def report(run: Run, outcome: Outcome) -> None:
    """Put an outcome into the run's result (the last one stands)."""
    run.result["summary"] = outcome.summary()
    run.findings[:] = outcome.findings


def stop_on_errors(outcome: Outcome, *, database: str) -> None:
    """Raise ``VerificationFailed`` with the first error, where there is one."""
    if outcome.errors:
        first = outcome.errors[0]
        raise VerificationFailed(
            say(
                "{count} check(s) failed, first: {subject}: {problem}",
                count=outcome.failed,
                subject=first.subject,
                problem=first.problem,
            ),
            hint=first.hint,
            database=database,
            findings=outcome.findings,
        )
