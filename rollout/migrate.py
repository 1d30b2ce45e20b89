"""The main job: lock → plan → preflight → backup → the verified transaction (``rollout.change``) → report."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rollout import adopt, backup, memory, plan, preflight, rollback, verify
from rollout.change import audit, change
from rollout.checks.backups import not_needed
from rollout.errors import UNTOUCHED, AuditFailed, BackupFailed, MigrationFailed, PreflightFailed
from rollout.messages import say
from rollout.report import write_report
from rollout.shelf.returning import PutBack

if TYPE_CHECKING:
    from rollout.change import Work
    from rollout.memory import Session
    from rollout.run import Run
    from rollout.settings import Settings


@dataclass(frozen=True)
class Options:
    """What ``tool migrate`` was asked for; ``to``: a revision, a family or ``head``; ``deep``: hash every table.

    ``proof``: of the backup, by a restore on the target's server, or ``on`` another one (``rollout.backups.prove``).
    ``work``: what is to be done in the same transaction (``--with-users``). ``take_back``: roll back, with a shelf,
    where the audit after COMMIT finds an error.
    """

    to: str = plan.HEAD
    backup: bool = True
    proof: bool = True
    on: str | None = None
    deep: bool = False
    work: Work | None = None
    take_back: bool = False


def migrate(settings: Settings, run: Run, options: Options) -> None:
    """Upgrade the target; whatever fails, nothing of the upgrade is left and the report says why.

    Raises a ``RolloutError``; fills ``run.result`` with cli.md's keys of migrate.
    """
    try:
        with memory.recorded(settings, run) as session:
            _migrate(session, run, options)
    finally:
        run.finish()
        write_report(settings, run)


def _migrate(session: Session, run: Run, options: Options) -> None:
    """Do the job, under the run's lock."""
    with run.step("plan") as step:
        start = plan.current(session.own)
        steps = plan.make(start, plan.resolve(options.to))
        run.result |= {"from_revision": start, "to_revision": steps.target}
        if steps.downwards:
            raise MigrationFailed(
                say("{target} is older than the database's revision", target=options.to),
                hint=say("To go back: tool rollback --to {target}", target=options.to),
                database=UNTOUCHED,
            )
        step.detail = say("{count} revision(s)", count=len(steps.revisions))
    if options.work is not None:
        _refuse_work(options.work, steps.target, options.to)
    if not steps.revisions:
        _nothing_to_do(session, run, start)
        if options.work is not None:
            options.work.alone(session, run)
        return
    without = not_needed(backup=options.backup, proof=options.proof, on=options.on)
    preflight.check(session.engine, session.settings, run, steps, without)
    _backup(session, run, options)
    try:
        change(session, run, steps, deep=options.deep, shelf=PutBack(run), work=options.work)
    except AuditFailed as failed:
        if not (options.take_back and failed.findings):
            raise
        rollback.take_back(session, run, steps, failed)


def _refuse_work(work: Work, target: str | None, asked: str) -> None:
    """Raise ``PreflightFailed`` where tables that the work needs will not be there."""
    lacking = sorted(work.tables.difference(adopt.our_tables(target)))
    if lacking:
        raise PreflightFailed(
            say("at {target} there is no table {table}", target=asked, table=", ".join(lacking)),
            hint=say("Upgrade further: without --to, or --to accounts"),
        )


def _nothing_to_do(session: Session, run: Run, revision: str | None) -> None:
    """Verify a database that is there already; it stays as it is."""
    with run.step("verify") as step:
        outcome = audit(session, revision)
        step.detail = say("nothing to do: the database is at {revision}", revision=revision or "-")
    run.result |= {"backup": None, "preserved": {"tables": 0, "rows": 0}}
    verify.report(run, outcome)
    verify.stop_on_errors(outcome, database=UNTOUCHED)


def _backup(session: Session, run: Run, options: Options) -> None:
    """Make the backup that counts and prove it, or record that there is none, or no proof."""
    run.result |= {"backup": None, "backup_proven": False}
    if not options.backup:
        run.listener.note(say("no backup, as asked (--no-backup); this is recorded"))
        return
    if not options.proof:
        run.listener.note(say("the backup is not proven, as asked (--no-proof); this is recorded"))
    try:
        made = backup.create(session.settings, run, prove=options.proof, on=options.on)
    except OSError as error:
        raise BackupFailed(
            say("the backup could not be written: {reason}", reason=str(error)),
            hint=say("Check room and rights of {directory}.", directory=session.settings.backups),
        ) from error
    run.result |= {"backup": str(made.path), "backup_proven": made.proof is not None}
