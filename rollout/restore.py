"""Emergency restore: a new database is made, filled, compared, and then swapped in by name; nothing is overwritten."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from sqlalchemy.exc import SQLAlchemyError

from rollout import databases, memory, scratch
from rollout.backup import check
from rollout.backups.changes import changes_since
from rollout.backups.prove import analyze, fill
from rollout.database import describe, engine_for, first_line, identifier, key_of, run_lock
from rollout.errors import (
    RESTORED,
    UNTOUCHED,
    DatabaseUnavailable,
    Interrupted,
    RestoreFailed,
    RolloutError,
)
from rollout.findings import ERROR
from rollout.interrupt import finishing
from rollout.messages import say
from rollout.restore_obstacles import require_renameable, slots, subscriptions
from rollout.restore_plan import RestorePlan
from rollout.restore_swap import granted_again, swap
from rollout.scratch import Place
from rollout.snapshot import patiently, snapshot

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from rollout.backups.changes import TableChange
    from rollout.backups.manifest import Manifest
    from rollout.run import Run
    from rollout.settings import Settings


@dataclass(frozen=True)
class _Work:
    """What a restore works with; ``there.admin`` holds the lock, on a database other than the target."""

    settings: Settings
    run: Run
    there: Place
    path: Path
    manifest: Manifest
    dbname: str
    jobs: int


def restore(settings: Settings, run: Run, path: Path, *, confirm: Callable[[RestorePlan], bool], jobs: int = 2) -> None:
    """Bring back a backup as the target database; the one that is there now is kept under another name.

    ``confirm`` sees the plan when the restored database is ready, before anything that exists is touched. Whatever
    fails or is interrupted before the swap leaves the original as it was and drops the new database. In
    ``run.result``: ``path``, ``replaced_database``, ``swap_back`` and ``drop_replaced`` (SQL), ``changes``. Raises
    ``BackupFailed`` (the backup is not what it was), ``RestoreFailed``, ``LockNotAcquired``, ``PartialChange``.
    """
    manifest = check(path, run)
    dbname = settings.target.database or _connected(settings)
    engine = databases.maintenance_engine(settings.target, dbname)
    with run_lock(engine, restore_key(dbname)) as admin:
        databases.unhurried(admin)
        target = describe(admin, settings.target)
        run.target = replace(target, dbname=dbname)
        there = Place(settings.target, engine, admin, target, RestoreFailed)
        scratch.clean_up(run, admin)
        scratch.require(there, manifest)
        plan = _build_and_swap(_Work(settings, run, there, path, manifest, dbname, jobs), confirm)
    with finishing():
        _tell(run, plan)
        _remember(settings, run)


def restore_key(dbname: str) -> int:
    """Return the key of the lock that two restores of one database meet in, where it need not exist: elsewhere."""
    return key_of(f"restore: {dbname}")


def _connected(settings: Settings) -> str:
    """Return the name of the database that libpq chooses where none is named."""
    with engine_for(settings.target).connect() as connection:
        return describe(connection, settings.target).dbname


def _build_and_swap(work: _Work, confirm: Callable[[RestorePlan], bool]) -> RestorePlan:
    """Make the new database, ask, swap; drop it again where anything stops us before the swap."""
    admin = work.there.admin
    there = databases.exists(admin, work.dbname)
    require_renameable(admin, work.dbname)
    new = databases.name_for(work.dbname, "restored")
    with ExitStack() as until_swap:
        if there:
            until_swap.enter_context(_no_other_run(work))
        with _explained(), scratch.database(work.run, work.there, new, work.manifest):
            _build(work, new)
            plan = _plan(work, new, there=there)
            _give(work, new)
            if not confirm(plan):
                raise Interrupted(database=UNTOUCHED)
            until_swap.close()  # our own session would be in the way
            with work.run.step("swap") as step:
                swap(work.settings, work.run, work.there, work.manifest, plan)
                work.run.database = RESTORED
                step.detail = say("{name} is the restored database", name=work.dbname)
    return plan


@contextmanager
def _explained() -> Iterator[None]:
    """Turn what the server says into a ``RestoreFailed``."""
    try:
        yield
    except SQLAlchemyError as error:
        raise RestoreFailed(
            say("the restore failed: {reason}", reason=first_line(error)),
            hint=say("Mend what the server names, then run this again."),
        ) from error


@contextmanager
def _no_other_run(work: _Work) -> Iterator[None]:
    """Hold the target's own run lock, where the target lets anybody in at all."""
    engine = engine_for(work.settings.target)
    with ExitStack() as stack:
        try:
            stack.enter_context(run_lock(engine))
        except DatabaseUnavailable as error:
            work.run.listener.note(error.message)
        yield


def _build(work: _Work, new: str) -> None:
    """Fill the new database and compare it."""
    with work.there.engine.connect() as trial:  # rights that are missing show now, and not after hours
        databases.give(trial, new, work.manifest.database)
        trial.rollback()
    filled = fill(work.run, work.there, work.path, work.manifest, new, jobs=work.jobs)
    if filled.errors:
        raise RestoreFailed(
            say("what was restored is not what was backed up: {count} differences", count=len(filled.errors)),
            hint=say("Take another backup (`tool backup list`). The findings name what differs."),
            findings=filled.errors,
        )
    work.run.findings += [finding for finding in filled.findings if finding.severity != ERROR]
    with work.run.step("analyze"):
        analyze(work.there, new)


def _give(work: _Work, new: str) -> None:
    """Give the new database all that the database itself had, and see that it has it."""
    admin, properties = work.there.admin, work.manifest.database
    databases.give(admin, new, properties)
    wrong = databases.unlike(admin, new, properties)
    if wrong:
        raise RestoreFailed(
            say("the new database itself is not what was backed up: {what}", what=", ".join(wrong)),
            hint=say("Report this; the original is as it was."),
        )


def _plan(work: _Work, new: str, *, there: bool) -> RestorePlan:
    """Look at what the swap would replace."""
    of, target = work.manifest, work.run.target
    plan = RestorePlan(
        backup=work.path,
        backup_of=f"{of.host}:{of.port}/{of.dbname}",
        created_at=of.created_at,
        revision=of.revision,
        server=f"{target.host}:{target.port}" if target else "",
        dbname=work.dbname,
        restored=new,
        replaced=databases.name_for(work.dbname, "replaced") if there else None,
        grants=granted_again(work.there.admin, of),
        slots=slots(work.there.admin, work.dbname),
        subscriptions=subscriptions(work.there.admin, work.dbname),
    )
    if not there:
        return plan
    unread = None
    changes: list[TableChange] = []
    with work.run.step("compare with today") as step:
        try:
            changes = _changes(work, new)
        except (SQLAlchemyError, DatabaseUnavailable) as error:
            unread = first_line(error)
        step.detail = unread or say("{count} tables differ", count=len(changes))
    others = databases.sessions(work.there.admin, work.dbname) - 1  # but the one of our lock, where it could be taken
    return replace(plan, changes=changes, unread=unread, sessions=max(0, others))


def _changes(work: _Work, new: str) -> list[TableChange]:
    """Return which tables of today's database differ from the backup."""
    done, total = 0, sum(table.rows for table in work.manifest.contents.tables)

    def told(rows: int) -> None:
        nonlocal done
        done += rows

    with (
        snapshot(engine_for(work.settings.target), lock_timeout=work.settings.lock_timeout) as today,
        snapshot(scratch.engine_of(work.there, new), lock_timeout=0) as restored,
    ):
        return patiently(
            today,
            lambda: changes_since(today, restored, work.manifest.contents, told),
            lambda: work.run.listener.progress("compare with today", min(done, total), total, "rows"),
            restored,
        )


def _tell(run: Run, plan: RestorePlan) -> None:
    """Say where the replaced database is, how to swap back, how to drop it."""
    run.result.update({"path": str(plan.backup), "replaced_database": plan.replaced})
    run.result["changes"] = [change.as_json() for change in plan.changes]
    if plan.replaced is None:
        return
    run.result["swap_back"] = [
        f"ALTER DATABASE {identifier(old)} RENAME TO {identifier(new)};" for old, new in plan.renames_back
    ]
    run.result["drop_replaced"] = f"DROP DATABASE {identifier(plan.replaced)};"


def _remember(settings: Settings, run: Run) -> None:
    """Record the restore in the restored database's memory, if it has one."""
    engine = engine_for(settings.target)
    try:
        with engine.connect() as connection:
            remembers = memory.exists(connection)
        if remembers:
            with memory.recorded(settings, run):
                pass
    except (RolloutError, SQLAlchemyError) as error:
        run.error, run.exit_code, run.database = None, 0, RESTORED
        run.listener.note(say("the restore could not be recorded: {reason}", reason=first_line(error)))
