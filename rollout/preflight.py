"""Run the preflight checks: inside ``tool migrate``, and as ``tool preflight``."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from rollout import interrupt, plan, postgres_tools, scratch, verify
from rollout.checks.registry import CHECKS, Area, Outcome, run_checks
from rollout.database import describe, engine_for, raw_connection, server_major
from rollout.errors import PreflightFailed
from rollout.findings import Finding
from rollout.messages import say

if TYPE_CHECKING:
    from collections.abc import Collection

    from sqlalchemy import Connection, Engine

    from rollout.run import Run
    from rollout.settings import Settings


def preflight(
    settings: Settings,
    run: Run,
    *,
    to: str = plan.HEAD,
    leave_out: Collection[str] = frozenset(),
    on: str | None = None,
) -> None:
    """Find everything that could stop an upgrade to ``to``; change nothing. Raises ``PreflightFailed``.

    ``leave_out``: checks that it can do without (``rollout.checks.backups.not_needed``). ``on``: where else a proof is
    to run, which is looked at too.
    """
    engine = engine_for(settings.target)
    with run.step("connect"), engine.connect() as connection:
        run.target = describe(connection, settings.target)
        start = plan.current(connection)
    steps = plan.make(start, plan.resolve(to))
    run.result |= {"from_revision": start, "to_revision": steps.target}
    check(engine, settings, run, steps, leave_out)
    if on is not None:
        scratch.expect(settings, settings.target, on, PreflightFailed)


def check(
    engine: Engine, settings: Settings, run: Run, steps: plan.Plan, leave_out: Collection[str] = frozenset()
) -> None:
    """Run the checks in a read-only transaction; put findings into the run; raise ``PreflightFailed`` on an error."""
    with run.step("preflight") as step:
        with engine.connect() as connection, interrupt.cancelling(raw_connection(connection)):
            verify.read_only(connection, settings)
            outcome = _outcome(connection, settings, steps, leave_out)
        verify.report(run, outcome)
        if outcome.errors:
            first = outcome.errors[0]
            raise PreflightFailed(
                say("{subject}: {problem}", subject=first.subject, problem=first.problem),
                hint=first.hint,
                findings=outcome.findings,
            )
        step.detail = say("{passed} checks passed", passed=outcome.passed)


def _outcome(connection: Connection, settings: Settings, steps: plan.Plan, leave_out: Collection[str]) -> Outcome:
    """Run all preflight checks, on the database and on our client programs."""
    subject = replace(verify.subject_at(connection, steps.start), settings=settings, steps=steps)
    chosen = [one for one in CHECKS.values() if one.area is Area.PREFLIGHT or one.name == "legacy_core_is_compatible"]
    outcome = run_checks([one for one in chosen if one.name not in leave_out], subject)
    try:
        postgres_tools.tool_for("pg_dump", server_major(connection))
    except PreflightFailed as error:
        outcome.failed += 1
        outcome.findings.append(
            Finding("pg_dump", error.message, error.hint, check="client_tools_fit", area=Area.PREFLIGHT.value)
        )
    return outcome
