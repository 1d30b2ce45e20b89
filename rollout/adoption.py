"""``tool adopt``: say object by object what a database has of every revision, and record where it stands."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from alembic import command
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from rollout import adopt as objects
from rollout import catalog, environment, manifest, memory, mending, plan, transaction, verify
from rollout.checks.registry import CHECKS, Area, run_checks
from rollout.database import VERSION_TABLE, describe, engine_for, first_line, server_major
from rollout.errors import CHANGED, LockNotAcquired, MigrationFailed, PreflightFailed
from rollout.findings import ERROR
from rollout.messages import say

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Connection, Engine

    from rollout.run import Run
    from rollout.settings import Settings


def adopt(settings: Settings, run: Run, confirm: Callable[[str], bool]) -> None:
    """Compare the database with every revision; after ``confirm``, record the last one that is there in full.

    Fills ``run.result``: ``objects`` [{object, revision, family, state, how}], where one differs also ``mend`` and
    ``by_owner`` (``mending.Mends``), ``counts`` {state: number},
    ``stands_at``, ``recorded``, ``alembic_version`` (an older tool chain's, which is left alone). Raises
    ``PreflightFailed`` where the legacy core is not what we need, or the version table makes no sense.
    """
    engine = engine_for(settings.target)
    with run.step("connect"), engine.connect() as connection:
        run.target = describe(connection, settings.target)
    recorded, problem = _look(engine, settings, run)
    stands_at = run.result["stands_at"]
    if problem is not None:
        raise PreflightFailed(problem.message, hint=_mended(problem, stands_at), findings=run.findings)
    errors = [finding for finding in run.findings if finding.severity == ERROR]
    if errors:
        raise PreflightFailed(
            say("{subject}: {problem}", subject=errors[0].subject, problem=errors[0].problem), hint=errors[0].hint
        )
    if recorded is None and stands_at is not None and confirm(stands_at):
        _record(settings, run, stands_at)


def _look(engine: Engine, settings: Settings, run: Run) -> tuple[str | None, PreflightFailed | None]:
    """Look at everything in one read-only transaction; return the recorded revision, or what is wrong with it."""
    recorded, problem = None, None
    with run.step("look") as step, engine.connect() as connection:
        verify.read_only(connection, settings)
        try:
            recorded = plan.current(connection)
        except PreflightFailed as error:
            problem = error
        there = catalog.read(connection)
        found = _inspect(connection, there)
        mends = {} if problem else _mends(connection, recorded, there)
        stands_at = _stands_at(connection, found)
        states, families = [one.state for one in found], plan.family_of()
        run.result |= {
            "objects": [_as_json(one, families[one.revision], mends.get(one.key)) for one in found],
            "counts": {state: states.count(state) for state in (objects.PRESENT, objects.MISSING, objects.DIFFERENT)},
            "stands_at": stands_at,
            "recorded": recorded,
            "alembic_version": _older_tool_chain(connection),
        }
        legacy = run_checks([CHECKS["legacy_core_is_compatible"]], verify.subject_at(connection, recorded))
        run.findings += legacy.findings
        step.detail = say("stands at {revision}", revision=stands_at) if stands_at else say("not upgraded yet")
    return recorded, problem


def _mended(problem: PreflightFailed, stands_at: str | None) -> str:
    """Say how the version table is set right, where the objects tell."""
    if stands_at is None or VERSION_TABLE not in problem.message:
        return problem.hint
    return say(
        "The objects are those of {revision}: DELETE FROM {table}; INSERT INTO {table} VALUES ('{revision}');",
        table=VERSION_TABLE,
        revision=stands_at,
    )


def _as_json(one: objects.ObjectState, family: str, mends: mending.Mends | None) -> dict[str, Any]:
    """Return one object as the run's result names it."""
    values = {"object": one.key, "revision": one.revision, "family": family}
    typed = {"mend": mends.lossless, "by_owner": mends.by_owner} if mends else {}
    return {**values, "state": one.state, "how": one.how, **typed}


def _inspect(connection: Connection, there: catalog.Catalog) -> list[objects.ObjectState]:
    """Return the state of every object of every revision; the legacy core's with their differences too.

    What differs in the legacy core stops nothing by itself: the check of the legacy core tells what we need of it.
    """
    head = plan.history()[-1].id
    found = objects.inspect(connection, plan.make(None, head), there)
    first = plan.history()[0].id
    wanted = manifest.at([first], major=server_major(connection)).objects
    legacy = {one.key for one in found if one.revision == first}
    states = [_legacy_state(one, wanted, there) if one.is_legacy else one for one in found]
    missing = [objects.ObjectState(key, first, objects.MISSING) for key in wanted if key not in legacy]
    return [*missing, *states]


def _legacy_state(one: objects.ObjectState, wanted: catalog.Catalog, there: catalog.Catalog) -> objects.ObjectState:
    """Return the state of an object of the legacy core: by its definition, whatever its constraints are called."""
    expected = wanted.get(one.key)
    actual = objects.find(one.key, expected, there) if expected is not None else None
    if expected is None or actual is None:
        return one
    how = catalog.differences(catalog.definition_of(expected), catalog.definition_of(actual))
    return replace(one, state=objects.DIFFERENT if how else objects.PRESENT, how=catalog.in_a_row(how))


def _older_tool_chain(connection: Connection) -> list[Any]:
    """Return the ids in an older tool chain's version table; it is theirs and stays as it is."""
    if connection.execute(text("SELECT to_regclass('public.alembic_version')")).scalar_one() is None:
        return []
    return list(connection.execute(text("SELECT version_num FROM public.alembic_version")).scalars())


def _stands_at(connection: Connection, found: list[objects.ObjectState]) -> str | None:
    """Return the last revision of which, and of all before it, everything is there; None where not even the first is.

    A revision that only fills in rows makes no object: whether it is there, the checks of the data tell. A table
    without the rows that come with it counts as not there yet, so that the upgrade fills it.
    """
    incomplete = {one.revision for one in found if one.state != objects.PRESENT and not one.is_legacy}
    complete = []
    for revision in plan.history():
        if revision.id in incomplete:
            break
        complete.append(revision.id)
    while complete and not _is_filled(connection, complete[-1]):
        complete.pop()
    return complete[-1] if complete else None


def _is_filled(connection: Connection, revision: str) -> bool:
    """Tell whether the data is as this revision leaves it: seeds, initial rows, references."""
    subject = verify.subject_at(connection, revision, in_upgrade=True)
    return not run_checks([check for check in CHECKS.values() if check.area is Area.DATA], subject).errors


def _record(settings: Settings, run: Run, revision: str) -> None:
    """Record the revision, and everything that is there as there before us."""
    with memory.recorded(settings, run) as session, run.step("record") as step:
        if plan.current(session.own) is not None:
            raise PreflightFailed(
                say("another run has recorded a revision meanwhile"), hint=say("Run `tool adopt` again to see which.")
            )
        steps = plan.make(None, revision)
        with transaction.open_transaction(session.engine, {}, lock_timeout=settings.lock_timeout) as connection:
            preexisting = environment.prepare(connection, steps)
            config = plan.alembic_config()
            config.attributes |= {"connection": connection, "preexisting": preexisting}
            command.stamp(config, revision)
            transaction.commit(connection, session.engine)
        run.database = CHANGED
        run.result |= {"recorded": revision, "from_revision": None, "to_revision": revision}
        step.detail = revision


def mend(settings: Settings, run: Run, confirm: Callable[[list[str]], bool]) -> None:
    """Make what differs into ours as far as nothing is lost (``mending``), after ``confirm``; then look again.

    One transaction, under the tool's lock. Fills ``run.result`` as ``adopt`` does, which records nothing here, and
    ``mended``: the statements that were run. Raises a ``RolloutError``; then nothing has changed.
    """
    engine = engine_for(settings.target)
    run.result["mended"] = []
    with run.step("connect"), engine.connect() as connection:
        run.target = describe(connection, settings.target)
    with engine.connect() as connection:
        verify.read_only(connection, settings)
        wanted = _statements(connection)
    if wanted and confirm(wanted):
        with memory.recorded(settings, run) as session, run.step("mend") as step:
            _mend(session, wanted)
            run.database = CHANGED
            run.result["mended"] = wanted
            step.detail = say("{count} statement(s)", count=len(wanted))
    _look(engine, settings, run)


def _statements(connection: Connection) -> list[str]:
    """Return the statements that mend what differs of the revisions to come, and lose nothing."""
    found = _mends(connection, plan.current(connection), catalog.read(connection))
    statements = [statement for mends in found.values() for statement in mends.lossless]
    return sorted(statements, key=lambda one: " FOREIGN KEY " in one)  # what they refer to has to be there


def _mends(connection: Connection, recorded: str | None, there: catalog.Catalog) -> dict[str, mending.Mends]:
    """Return what mends each object of the revisions to come that differs."""
    steps = plan.make(recorded, plan.resolve(plan.HEAD))
    wanted = manifest.at([revision.id for revision in plan.up_to(steps.target)], major=server_major(connection))
    different = [one.key for one in objects.inspect(connection, steps, there) if one.state == objects.DIFFERENT]
    taken = objects.taken_names(there)
    return {key: mending.mends(key, wanted, there, taken) for key in different}


def _mend(session: memory.Session, wanted: list[str]) -> None:
    """Run the statements, all or none."""
    with transaction.open_transaction(session.engine, {}, lock_timeout=session.settings.lock_timeout) as connection:
        if _statements(connection) != wanted:
            raise PreflightFailed(
                say("what differs has changed meanwhile"), hint=say("Run `tool adopt --mend` again, and look again.")
            )
        for statement in wanted:
            try:
                connection.exec_driver_sql(statement.replace("%", "%%"))
            except DBAPIError as error:  # noqa: PERF203 - each error names its statement
                raise _not_mended(statement, error) from error
        transaction.commit(connection, session.engine)


def _not_mended(statement: str, error: DBAPIError) -> LockNotAcquired | MigrationFailed:
    """Say which statement the server refused, and why."""
    refused = say("the server refused {statement} {reason}", statement=statement, reason=first_line(error))
    return transaction.no_lock(error, refused) or MigrationFailed(
        refused, hint=say("Mend the rows or the object that it names, then run this again.")
    )
