"""All checks on the database as it is: inside the upgrade's transaction, after it (audit), and as ``tool verify``."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from rollout import manifest, memory, plan
from rollout.checks import (  # noqa: F401 - they register
    accounts,
    business,
    data,
    legacy,
    performance,
    preflight,
    security,
    seeds,
    sign_in,
    structure,
)
from rollout.checks.registry import CHECKS, Area, Outcome, Subject, run_checks
from rollout.database import describe, engine_for, server_major
from rollout.errors import UNTOUCHED, VerificationFailed
from rollout.findings import Finding
from rollout.messages import say

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from sqlalchemy import Connection

    from rollout.run import Run
    from rollout.settings import Settings


def subject_at(connection: Connection, revision: str | None, *, in_upgrade: bool = False) -> Subject:
    """Return what checks need to look at a database that stands at ``revision``."""
    major = server_major(connection)
    connection.exec_driver_sql("SET LOCAL search_path = public")
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


def run_areas(subject: Subject, areas: Collection[Area]) -> Outcome:
    """Run every check of these areas."""
    return run_checks([check for check in CHECKS.values() if check.area in areas], subject)


VERIFIED = tuple(area for area in Area if area is not Area.PREFLIGHT)


def verify(settings: Settings, run: Run, *, areas: Iterable[str] = (), at: str | None = None) -> None:
    """Run the checks in one read-only transaction; raise ``VerificationFailed`` where one found an error.

    ``areas``: names of areas (none: all). ``at``: verify against this revision instead of the database's own. Needs
    read rights only; works on a replica.
    """
    chosen = [area for area in VERIFIED if not areas or area.value in set(areas)]
    engine = engine_for(settings.target)
    try:
        with run.step("connect"), engine.connect() as connection:
            run.target = describe(connection, settings.target)
        with run.step("verify") as step, engine.connect() as connection:
            read_only(connection, settings)
            revision = plan.resolve(at) if at else plan.current(connection)
            outcome = run_areas(replace(subject_at(connection, revision), settings=settings), chosen)
            if revision is None:
                outcome.failed += 1
                outcome.findings.append(
                    Finding(
                        "database",
                        say("no revision of ours is recorded: the database has not been upgraded"),
                        say("tool preflight, then tool migrate; `tool adopt` if it was upgraded by hand."),
                        check="revision_is_recorded",
                        area=Area.STRUCTURE.value,
                    )
                )
            step.detail = say("revision {revision}", revision=revision or "-")
        run.result["revision"] = revision
        report(run, outcome)
    finally:
        engine.dispose()
    stop_on_errors(outcome, database=UNTOUCHED)


def read_only(connection: Connection, settings: Settings) -> None:
    """Begin a read-only transaction that waits for nobody."""
    connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
    connection.exec_driver_sql(f"SET LOCAL lock_timeout = {round(settings.lock_timeout * 1000)}")
    connection.exec_driver_sql(f"SET LOCAL statement_timeout = {round(settings.statement_timeout * 1000)}")
    connection.exec_driver_sql("SET LOCAL search_path = public")


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
