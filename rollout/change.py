"""The transaction that changes the schema: locks → fingerprints → revisions → verification → COMMIT → audit.

``migrate`` and ``rollback`` are this, with their own preparations around it.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from alembic import command
from alembic.util import CommandError
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from rollout import adopt, declared, environment, exercise, interrupt, plan, preserve, transaction, verify
from rollout.checks import sign_in
from rollout.database import first_line, quote
from rollout.errors import (
    CHANGED,
    ROLLED_BACK,
    AuditFailed,
    Interrupted,
    RolloutError,
    VerificationFailed,
)
from rollout.messages import say
from rollout.shelf import mend

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from sqlalchemy import Connection

    from rollout.checks.registry import Outcome
    from rollout.memory import Session
    from rollout.run import Run


class Shelf(Protocol):
    """What takes or gives back what people entered, inside the transaction (``rollout.shelf``)."""

    def begin(self, connection: Connection) -> dict[str, Any]:
        """Begin, before the revisions; return what they are to call (``rollout.environment.run_on``)."""

    def end(self) -> None:
        """End, after the revisions."""


class Work(Protocol):
    """What a higher layer does along with an upgrade (``datamigrations.accounts``): ``rollout`` knows nothing of it.

    ``locks``: what it needs beyond the revisions' own, by table; ``tables``: of ours, to which it adds rows.
    """

    locks: Mapping[str, str]
    tables: frozenset[str]

    def within(self, connection: Connection, run: Run) -> None:
        """Do it in the upgrade's transaction, after the revisions and before anything is verified."""

    def alone(self, session: Session, run: Run) -> None:
        """Do it in a transaction of its own, where no revision is left to run."""


def change(
    session: Session,
    run: Run,
    steps: plan.Plan,
    *,
    deep: bool = False,
    below_baseline: bool = False,
    shelf: Shelf,
    work: Work | None = None,
) -> None:
    """Go ``steps`` in one transaction; ``shelf`` takes or gives back what people entered. Raises a ``RolloutError``.

    ``work`` stands or falls with it.

    After COMMIT: ANALYZE and the audit, which no signal interrupts.
    """
    settings = session.settings
    limits = {"lock_timeout": settings.lock_timeout, "statement_timeout": settings.statement_timeout}
    with interrupt.heeding(), ExitStack() as to_the_end:
        with (
            _translated(run, steps),
            transaction.open_transaction(session.engine, _locks(session, steps, work), **limits) as connection,
        ):
            preexisting = environment.prepare(connection, steps, below_baseline=below_baseline)
            said = declared.by(connection, steps, preexisting, work.tables if work else ())
            # A downgrade writes to no row that stays: the counters prove that without reading a big table twice.
            written = () if steps.downwards else adopt.WRITTEN
            before = _fingerprint(connection, run, said, written, deep=deep)
            hooks = shelf.begin(connection)
            with run.step("downgrade" if steps.downwards else "upgrade") as step:
                _run_revisions(connection, steps, preexisting, hooks)
                environment.finish(connection, steps)
                step.detail = say("{count} revision(s)", count=len(steps.revisions))
            shelf.end()
            if work is not None:
                work.within(connection, run)
            with run.step("verify") as step:
                _verify_inside(connection, run, steps, before, said)
                step.detail = say("{passed} checks passed", passed=run.result["summary"]["passed"])
            to_the_end.enter_context(interrupt.finishing())
            with run.step("commit"):
                transaction.commit(connection, session.engine)
                run.database = CHANGED
        _after_commit(session, run, steps)


def _locks(session: Session, steps: plan.Plan, work: Work | None) -> dict[str, str]:
    """Return the locks to take on tables that are there: the revisions' and the work's, and all on what goes."""
    wanted = steps.locks()
    for table, mode in work.locks.items() if work else ():
        wanted[table] = max(mode, wanted.get(table, mode), key=plan.LOCK_MODES.index)
    if steps.downwards:
        going = (key.removeprefix("table ") for key, _ in adopt.made_by(session.own, steps) if key.startswith("table "))
        wanted |= dict.fromkeys(going, "ACCESS EXCLUSIVE")
    return {table: wanted[table] for table in plan.existing_tables(session.own, wanted)}


def _fingerprint(
    connection: Connection, run: Run, said: declared.Declared, written: Collection[str], *, deep: bool
) -> preserve.Before:
    """Fingerprint everything that exists, and say what cannot be."""
    with run.step("fingerprint") as step:
        before = preserve.take(connection, written, said, deep=deep)
        run.result["preserved"] = before.preserved()
        step.detail = say("{tables} tables, {rows} rows read", **before.preserved())
        if before.large_objects or before.foreign_tables:
            step.detail = say(
                "{tables} tables, {rows} rows read; not looked into: {large} large objects, {foreign} foreign tables",
                large=before.large_objects,
                foreign=before.foreign_tables,
                **before.preserved(),
            )
    return before


def _run_revisions(
    connection: Connection, steps: plan.Plan, preexisting: frozenset[str], hooks: dict[str, Any]
) -> None:
    """Let Alembic run the revisions on our connection, in our transaction."""
    config = plan.alembic_config()
    config.attributes |= {"connection": connection, "preexisting": preexisting, **hooks}
    if steps.downwards:
        command.downgrade(config, steps.target or plan.BASE)
    else:
        command.upgrade(config, steps.target or plan.HEAD)


def _verify_inside(
    connection: Connection, run: Run, steps: plan.Plan, before: preserve.Before, said: declared.Declared
) -> None:
    """Run every check, and the proof that nothing that existed changed; an error rolls everything back."""
    subject = verify.subject_at(connection, steps.target, in_upgrade=not steps.downwards)
    outcome = verify.run_areas(subject, verify.VERIFIED)
    outcome.add(preserve.compare(connection, before, said))
    if not steps.downwards:
        # Last: the server's counters of writes, which the proof reads, count those that are rolled back too.
        outcome.add(exercise.run(subject))
        run.result["people"] = sign_in.people(connection) if "table users" in subject.catalog else None
    verify.report(run, outcome)
    try:
        verify.stop_on_errors(outcome, database=ROLLED_BACK)
    except VerificationFailed as error:
        raise mend.advice(error, run.result.get("unshelved", ())) from None


def _after_commit(session: Session, run: Run, steps: plan.Plan) -> None:
    """ANALYZE what is ours, then look again as everybody else sees it."""
    with run.step("analyze") as step:
        try:
            for table in plan.existing_tables(session.own, [*adopt.WRITTEN, *adopt.our_tables(steps.target)]):
                session.own.exec_driver_sql(f"ANALYZE {quote('public', table)}")
        except DBAPIError as error:
            step.detail = first_line(error)
    with run.step("audit") as step:
        try:
            outcome = audit(session, steps.target)
        except (RolloutError, SQLAlchemyError) as error:
            raise AuditFailed(
                say("the upgrade is committed, but the audit could not be made: {reason}", reason=first_line(error)),
                hint=say("`tool verify` makes it again."),
            ) from error
        verify.report(run, outcome)
        if outcome.errors:
            worst = outcome.errors[0]
            raise AuditFailed(
                say("the audit after COMMIT found: {subject}: {problem}", subject=worst.subject, problem=worst.problem),
                hint=say("Look first; `tool verify` looks again.")
                if steps.downwards
                else say("Look first; to take the upgrade back: tool rollback --to before-last-run"),
                findings=outcome.findings,
            )
        step.detail = say("{passed} checks passed", passed=outcome.passed)


def audit(session: Session, revision: str | None) -> Outcome:
    """Run all checks in a session of its own, after the change; raises ``AuditFailed`` on another revision."""
    with session.engine.connect() as connection:
        verify.read_only(connection, session.settings)
        if plan.current(connection) != revision:
            raise AuditFailed(
                say("the version table does not say {revision}", revision=revision or "-"),
                hint=say("`tool status` and `tool adopt` tell where the database stands."),
            )
        return verify.run_areas(verify.subject_at(connection, revision), verify.VERIFIED)


@contextmanager
def _translated(run: Run, steps: plan.Plan) -> Iterator[None]:
    """Turn what the server and Alembic raise inside the transaction into what an operator can read."""
    try:
        yield
    except RolloutError:
        raise
    except KeyboardInterrupt:
        raise Interrupted from None
    except (SQLAlchemyError, CommandError) as error:
        raise transaction.refused(error, run.steps[-1].name, downwards=steps.downwards) from error
