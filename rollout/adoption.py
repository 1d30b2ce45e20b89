"""``tool adopt``: say object by object what a database has of every revision, and record where it stands."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from alembic import command
from sqlalchemy import text

from rollout import adopt as objects
from rollout import environment, memory, plan, transaction, verify
from rollout.checks.registry import CHECKS, run_checks
from rollout.database import describe, engine_for
from rollout.errors import PreflightFailed
from rollout.findings import ERROR
from rollout.messages import say

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Connection

    from rollout.run import Run
    from rollout.settings import Settings


def adopt(settings: Settings, run: Run, confirm: Callable[[str], bool]) -> None:
    """Compare the database with every revision; after ``confirm``, record the last one that is there in full.

    Fills ``run.result``: ``objects`` [{object, revision, state, how}], ``summary_of_objects``, ``stands_at``,
    ``recorded``, ``alembic_version`` (an older tool chain's, which is left alone). Raises ``PreflightFailed`` where the
    legacy core is not what we need.
    """
    engine = engine_for(settings.target)
    try:
        with run.step("connect"), engine.connect() as connection:
            run.target = describe(connection, settings.target)
        with run.step("look") as step, engine.connect() as connection:
            verify.read_only(connection, settings)
            recorded = plan.current(connection)
            found = objects.inspect(connection, plan.make(None, plan.history()[-1].id))
            stands_at = _stands_at(found)
            _describe(connection, run, found, stands_at, recorded)
            legacy = run_checks(
                [CHECKS["legacy_core_is_compatible"]], verify.subject_at(connection, recorded)
            )
            run.findings += legacy.findings
            step.detail = say("stands at {revision}", revision=stands_at or "-")
    finally:
        engine.dispose()
    errors = [finding for finding in run.findings if finding.severity == ERROR]
    if errors:
        raise PreflightFailed(
            say("{subject}: {problem}", subject=errors[0].subject, problem=errors[0].problem), hint=errors[0].hint
        )
    if recorded is None and stands_at is not None and confirm(stands_at):
        _record(settings, run, stands_at)


def _describe(
    connection: Connection, run: Run, found: list[objects.ObjectState], stands_at: str | None, recorded: str | None
) -> None:
    """Put what was found into the run's result."""
    states = [state.state for state in found]
    run.result |= {
        "objects": [{"object": one.key, "revision": one.revision, "state": one.state, "how": one.how} for one in found],
        "counts": {state: states.count(state) for state in (objects.PRESENT, objects.MISSING, objects.DIFFERENT)},
        "stands_at": stands_at,
        "recorded": recorded,
        "alembic_version": _older_tool_chain(connection),
    }


def _older_tool_chain(connection: Connection) -> list[Any]:
    """Return the ids in an older tool chain's version table; it is theirs and stays as it is."""
    if connection.execute(text("SELECT to_regclass('public.alembic_version')")).scalar_one() is None:
        return []
    return list(connection.execute(text("SELECT version_num FROM public.alembic_version")).scalars())


def _stands_at(found: list[objects.ObjectState]) -> str | None:
    """Return the last revision of which, and of all before it, every object is present; None where not even the first.

    A revision that only fills in rows makes no object: it counts as there when the next one that makes some is there.
    """
    incomplete = {state.revision for state in found if state.state != objects.PRESENT and not state.is_legacy}
    making = {state.revision for state in found}
    stands_at = None
    for revision in plan.history():
        if revision.id in incomplete:
            break
        if revision.id in making:
            stands_at = revision.id
    return stands_at


def _record(settings: Settings, run: Run, revision: str) -> None:
    """Record the revision, and everything that is there as there before us."""
    with memory.recorded(settings, run) as session, run.step("record") as step:
        steps = plan.make(None, revision)
        with transaction.open_transaction(session.engine, {}, lock_timeout=settings.lock_timeout) as connection:
            preexisting = environment.prepare(connection, steps)
            config = plan.alembic_config()
            config.attributes |= {"connection": connection, "preexisting": preexisting}
            command.stamp(config, revision)
            transaction.commit(connection, session.engine)
        run.database = "changed"
        run.result |= {"recorded": revision, "from_revision": None, "to_revision": revision}
        step.detail = revision
