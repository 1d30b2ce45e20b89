"""Selective rollback: receipt → question → the verified transaction, what people entered put on the shelf → report."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

from sqlalchemy import text

from rollout import environment, interrupt, memory, plan, receipt, verify
from rollout.change import change
from rollout.database import describe, engine_for, expected
from rollout.errors import (
    UNTOUCHED,
    AuditFailed,
    LockNotAcquired,
    MigrationFailed,
    PreflightFailed,
    RollbackFailed,
    VerificationFailed,
)
from rollout.messages import say
from rollout.report import write_report
from rollout.shelf.entries import SHELF, PutAway

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from sqlalchemy import Connection, Engine

    from rollout.memory import Session
    from rollout.receipt import Going
    from rollout.run import Run
    from rollout.settings import Settings

BEFORE_LAST_RUN = "before-last-run"


@dataclass(frozen=True)
class Options:
    """What ``tool rollback`` was asked for; ``to``: a revision, a family, ``base`` or ``before-last-run``."""

    to: str
    discard: bool = False
    receipt_only: bool = False


def rollback(settings: Settings, run: Run, options: Options, confirm: Callable[[list[Going]], bool]) -> list[Going]:
    """Take revisions back; ``confirm`` sees the receipt first. Raises a ``RolloutError``, mostly ``RollbackFailed``.

    Returns the receipt; fills ``run.result`` with ``receipt``, ``rights`` (what gives others those again that go),
    ``from_revision``, ``to_revision`` and ``shelf``.
    """
    if options.receipt_only:
        return _only_receipt(settings, run, options)
    try:
        with _refusals(), memory.recorded(settings, run) as session, _refusals():
            return _rollback(session, run, options, confirm)
    finally:
        run.finish()
        write_report(settings, run)


@contextmanager
def _refusals() -> Iterator[None]:
    """Turn what other commands' parts raise into a rollback's own refusal; locks and connections keep their codes."""
    try:
        yield
    except (PreflightFailed, MigrationFailed, VerificationFailed) as error:
        database, findings = error.database, error.findings
        raise RollbackFailed(error.message, hint=error.hint, database=database, findings=findings) from error


def _only_receipt(settings: Settings, run: Run, options: Options) -> list[Going]:
    """Say what would go, and what would stop it; change nothing."""
    engine = engine_for(settings.target)
    with _refusals(), expected(run):
        with run.step("connect"), engine.connect() as connection:
            run.target = describe(connection, settings.target)
            steps = _steps(connection, run, options)
        return _look(engine, settings, run, steps, options) if steps.revisions else []


def _rollback(session: Session, run: Run, options: Options, confirm: Callable[[list[Going]], bool]) -> list[Going]:
    """Plan, show the receipt, ask, and go."""
    steps = _steps(session.own, run, options)
    if not steps.revisions:
        run.listener.note(say("nothing to do: the database is at that revision"))
        return []
    going = _look(session.engine, session.settings, run, steps, options)
    if not confirm(going):
        raise RollbackFailed(say("not confirmed"), hint=say("Answer y, or call with --yes."), database=UNTOUCHED)
    change(
        session,
        run,
        steps,
        below_baseline=options.to == BEFORE_LAST_RUN,
        shelf=_Discard(steps, going) if options.discard else PutAway(run, steps),
    )
    return going


def take_back(session: Session, run: Run, done: plan.Plan, failed: AuditFailed) -> NoReturn:
    """Take back what a run has just committed and its audit found wrong; what people wrote meanwhile goes on the shelf.

    Like everything after COMMIT, no signal interrupts it. Raises ``MigrationFailed`` where the database is as it was
    before the run; ``AuditFailed`` where the upgrade stays, with what was in the way.
    """
    run.listener.note(say("{reason}; rolling back (--on-audit-failure rollback)", reason=failed.message))
    steps = plan.make(done.target, done.start)
    ended = {name: value for name, value in run.result.items() if name in {"summary", "preserved"}}
    try:
        with interrupt.finishing(), _refusals():
            _look(session.engine, session.settings, run, steps, Options(BEFORE_LAST_RUN))
            change(session, run, steps, below_baseline=True, shelf=PutAway(run, steps))
    except RollbackFailed as refused:
        raise AuditFailed(
            say("{found}; it was not rolled back: {reason}", found=failed.message, reason=refused.message),
            hint=refused.hint,
            findings=[*failed.findings, *refused.findings],
        ) from refused
    except LockNotAcquired as refused:
        raise AuditFailed(
            say("{found}; it was not rolled back: {reason}", found=failed.message, reason=refused.message),
            hint=failed.hint,
            findings=failed.findings,
        ) from refused
    finally:
        run.result |= ended
    raise MigrationFailed(
        say("{found}; the upgrade was rolled back", found=failed.message),
        hint=say("Mend what the audit found, then run this again: the shelf gives back what people wrote meanwhile."),
        findings=failed.findings,
    ) from failed


class _Discard:
    """In place of the shelf: nothing is kept, so nothing may go that the receipt did not show."""

    def __init__(self, steps: plan.Plan, shown: list[Going]) -> None:
        """Take the revisions that go, and the receipt that was confirmed."""
        self.steps = steps
        self.shown = shown

    def begin(self, connection: Connection) -> dict[str, Any]:
        """Count again, now that nobody else can write."""
        if receipt.take(connection, self.steps, shelve=False) != self.shown:
            raise RollbackFailed(
                say("rows were written since the receipt was made, and nothing would keep them"),
                hint=say("Look at the new receipt, then run this again."),
            )
        return {}

    def end(self) -> None:
        """Keep nothing."""


def _steps(connection: Connection, run: Run, options: Options) -> plan.Plan:
    """Find out where the database stands and where it is to go."""
    with run.step("plan") as step:
        start = plan.current(connection)
        if start is None:
            raise RollbackFailed(
                say("the database has no revision of ours: there is nothing to roll back"),
                hint=say("`tool adopt` tells where it stands."),
                database=UNTOUCHED,
            )
        target = _before_last_run(connection) if options.to == BEFORE_LAST_RUN else plan.resolve(options.to)
        steps = plan.make(start, target)
        if steps.revisions and not steps.downwards:
            raise RollbackFailed(
                say("{target} is newer than the database's revision", target=options.to),
                hint=say("To go forward: tool migrate --to {target}", target=options.to),
                database=UNTOUCHED,
            )
        run.result |= {"from_revision": start, "to_revision": target, "receipt": []}
        step.detail = say("{count} revision(s)", count=len(steps.revisions))
    return steps


def _before_last_run(connection: Connection) -> str | None:
    """Return the revision that the last ``tool migrate`` began at which no rollback has taken back yet."""
    undone: list[tuple[str | None, str | None]] = []
    rows: Sequence[Any] = ()
    if memory.exists(connection):
        rows = connection.execute(
            text(
                "SELECT command, from_revision, to_revision FROM rollout.runs WHERE exit_code IN (0, 13)"
                " AND command IN ('migrate', 'rollback') AND from_revision IS DISTINCT FROM to_revision ORDER BY number"
            )
        ).all()
    for command, start, end in rows:
        if command == "migrate":
            undone.append((start, end))
        else:
            # A rollback into the midst of a run leaves no whole run to take back.
            while undone and undone.pop()[0] != end:
                pass
    if not undone or undone[-1][1] != plan.current(connection):
        raise RollbackFailed(
            say("there is no last run to take back: the schema was changed since, or not by `tool migrate`"),
            hint=say("Name a family or a revision: tool rollback --to FAMILY; see tool history."),
            database=UNTOUCHED,
        )
    return undone[-1][0]


def _look(engine: Engine, settings: Settings, run: Run, steps: plan.Plan, options: Options) -> list[Going]:
    """Refuse what cannot be; return, and put into the run's result, every object that goes and what is in it."""
    with run.step("receipt") as step, engine.connect() as connection:
        verify.read_only(connection, settings)
        _refuse_irreversible(steps)
        environment.may_go_down(connection, steps, below_baseline=options.to == BEFORE_LAST_RUN)
        if not options.discard:
            _refuse_without_shelf(connection)
        receipt.refuse_hidden(connection, steps)
        going = receipt.take(connection, steps, shelve=not options.discard)
        run.result |= {"receipt": [one.as_json() for one in going], "rights": receipt.rights(connection, steps)}
        receipt.refuse(connection, steps)
        step.detail = say("{count} object(s)", count=len(going))
    return going


def _refuse_irreversible(steps: plan.Plan) -> None:
    """Refuse where a revision says that it cannot be taken back."""
    for revision in steps.revisions:
        if not revision.reversible:
            raise RollbackFailed(
                say(
                    "revision {revision} cannot be taken back: {summary}",
                    revision=revision.id,
                    summary=revision.summary,
                ),
                hint=say("Restore a backup instead: tool restore PATH"),
                database=UNTOUCHED,
            )


def _refuse_without_shelf(connection: Connection) -> None:
    """Refuse where we may not make the shelf, or not write to it."""
    allowed = connection.execute(
        text(
            "SELECT CASE WHEN to_regnamespace(:shelf) IS NULL THEN has_database_privilege(current_database(), 'CREATE')"
            " ELSE has_schema_privilege(:shelf, 'CREATE') END"
        ),
        {"shelf": SHELF},
    ).scalar_one()
    if not allowed:
        raise RollbackFailed(
            say("we may not write to the schema {schema}, where what people entered is kept", schema=SHELF),
            hint=say("As the database's owner: GRANT CREATE ON DATABASE … TO the user of DATABASE_URL;"),
            database=UNTOUCHED,
        )
