"""Emergency restore: a new database is made, filled, compared, and then swapped in by name; nothing is overwritten."""

from __future__ import annotations

import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from sqlalchemy.exc import DBAPIError

from rollout import databases, memory
from rollout.backup import check
from rollout.backup_compare import changes_since
from rollout.contents import patiently, snapshot
from rollout.database import describe, engine_for, first_line, quote, run_lock
from rollout.errors import (
    RESTORED,
    UNTOUCHED,
    DatabaseUnavailable,
    Interrupted,
    PartialChange,
    RestoreFailed,
    RolloutError,
)
from rollout.findings import ERROR
from rollout.interrupt import finishing
from rollout.messages import say
from rollout.prove import fill, require
from rollout.restore_plan import RestorePlan

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from sqlalchemy import Connection, Engine

    from rollout.backup_compare import TableChange
    from rollout.backup_manifest import Manifest
    from rollout.run import Run
    from rollout.settings import Settings

_ASK_TRIES, _ASK_SECONDS = 30, 1.0


@dataclass(frozen=True)
class _Work:
    """What a restore works with; ``admin`` holds the lock, on a database other than the target."""

    settings: Settings
    run: Run
    engine: Engine
    admin: Connection
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
    try:
        with run_lock(engine) as admin:
            run.target = replace(describe(admin, settings.target), dbname=dbname)
            work = _Work(settings, run, engine, admin, path, manifest, dbname, jobs)
            require(admin, manifest, RestoreFailed)
            plan = _build_and_swap(work, confirm)
    finally:
        engine.dispose()
    with finishing():
        _tell(run, plan)
        _remember(settings, run)


def _connected(settings: Settings) -> str:
    """Return the name of the database that libpq chooses where none is named."""
    engine = engine_for(settings.target)
    try:
        with engine.connect() as connection:
            return describe(connection, settings.target).dbname
    finally:
        engine.dispose()


def _build_and_swap(work: _Work, confirm: Callable[[RestorePlan], bool]) -> RestorePlan:
    """Make the new database, ask, swap; drop it again where anything stops us before the swap."""
    there = databases.exists(work.admin, work.dbname)
    owner = databases.owner_we_are_not(work.admin, work.dbname) if there else None
    if owner is not None:
        raise RestoreFailed(
            say("only a member of {owner}, the owner of {name}, may rename it", name=work.dbname, owner=owner),
            hint=say("Run this as {owner}, or as a superuser.", owner=owner),
        )
    new = databases.name_for(work.dbname, "restored")
    with ExitStack() as until_swap:
        if there:
            until_swap.enter_context(_no_other_run(work))
        with _dropped_on_failure(work, new):
            _build(work, new)
            plan = _plan(work, new, there=there)
            if not confirm(plan):
                raise Interrupted(database=UNTOUCHED)
            until_swap.close()  # our own session would be in the way
            with work.run.step("swap") as step:
                _swap(work, plan)
                work.run.database = RESTORED
                step.detail = say("{name} is the restored database", name=work.dbname)
    return plan


@contextmanager
def _no_other_run(work: _Work) -> Iterator[None]:
    """Hold the target's own run lock, where the target lets anybody in at all."""
    engine = engine_for(work.settings.target)
    try:
        with ExitStack() as stack:
            try:
                stack.enter_context(run_lock(engine))
            except DatabaseUnavailable as error:
                work.run.listener.note(error.message)
            yield
    finally:
        engine.dispose()


@contextmanager
def _dropped_on_failure(work: _Work, new: str) -> Iterator[None]:
    """Create the new database; drop it where the block fails."""
    try:
        databases.create(work.admin, new, work.manifest.database)
    except DBAPIError as error:
        raise RestoreFailed(
            say("the database {name} cannot be created: {reason}", name=new, reason=first_line(error)),
            hint=say("Mend what the server names, then run this again."),
        ) from error
    try:
        yield
    except BaseException as error:
        with finishing():
            _drop(work, new)
        if isinstance(error, DBAPIError):
            raise RestoreFailed(
                say("the restore failed: {reason}", reason=first_line(error)),
                hint=say("Mend what the server names, then run this again."),
            ) from error
        raise


def _drop(work: _Work, new: str) -> None:
    """Drop the new database; say what to type where that does not work."""
    try:
        with work.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as admin:
            databases.drop(admin, new)
    except (DBAPIError, RolloutError) as error:
        work.run.listener.note(
            say("the new database could not be dropped ({reason}): {statement}", reason=first_line(error),
                statement=databases.typed(f"DROP DATABASE {quote(new)};"))
        )  # fmt: skip


def _build(work: _Work, new: str) -> None:
    """Fill the new database, compare it, and give it all that the database itself had."""
    findings = fill(
        work.run, work.settings.target, work.admin,
        path=work.path, manifest=work.manifest, name=new, failed=RestoreFailed, jobs=work.jobs,
    )  # fmt: skip
    errors = [finding for finding in findings if finding.severity == ERROR]
    work.run.findings += [finding for finding in findings if finding.severity != ERROR]
    if errors:
        raise RestoreFailed(
            say("what was restored is not what was backed up: {count} differences", count=len(errors)),
            hint=say("Take another backup (`tool backup list`). The findings name what differs."),
            findings=errors,
        )
    with work.run.step("analyze"):
        _analyze(work, new)
    databases.give(work.admin, new, work.manifest.database)


def _analyze(work: _Work, new: str) -> None:
    """Collect the planner's statistics: no dump holds them, and without them every query is slow."""
    engine = engine_for(work.settings.target.to_database(new))
    try:
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            databases.unhurried(connection)
            patiently(connection, lambda: connection.exec_driver_sql("ANALYZE"))
    finally:
        engine.dispose()


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
    )
    if not there:
        return plan
    unread = None
    changes: list[TableChange] = []
    with work.run.step("compare with today") as step:
        try:
            changes = _changes(work)
        except (DBAPIError, DatabaseUnavailable) as error:
            unread = first_line(error)
        step.detail = unread or say("{count} tables differ", count=len(changes))
    return replace(plan, changes=changes, unread=unread, sessions=databases.sessions(work.admin, work.dbname) - 1)


def _changes(work: _Work) -> list[TableChange]:
    """Return which tables of today's database differ from the backup."""
    engine = engine_for(work.settings.target)
    try:
        with snapshot(engine, lock_timeout=work.settings.lock_timeout) as connection:
            return patiently(connection, lambda: changes_since(connection, work.manifest.contents))
    finally:
        engine.dispose()


def _swap(work: _Work, plan: RestorePlan) -> None:
    """Swap the names; where the answer is lost, look what they are."""
    try:
        databases.swap(work.engine, plan.renames, lock_timeout=work.settings.lock_timeout)
    except DBAPIError as error:
        for _ in range(_ASK_TRIES):
            try:
                with work.engine.connect() as connection:
                    if not databases.exists(connection, plan.restored):
                        return  # it was committed, only the answer did not come
                break
            except (DBAPIError, DatabaseUnavailable):
                time.sleep(_ASK_SECONDS)
        else:
            raise PartialChange(
                say("the connection was lost at the swap, and the server cannot be asked what became of it"),
                hint=say("When it is back, `psql -l` shows: is {name} there, the swap is done.", name=plan.replaced),
            ) from error
        raise RestoreFailed(
            say("the names could not be swapped: {reason}", reason=first_line(error)),
            hint=say("End the sessions in {name} (see pg_stat_activity), then run this again.", name=plan.dbname),
        ) from error


def _tell(run: Run, plan: RestorePlan) -> None:
    """Say where the replaced database is, how to swap back, how to drop it."""
    run.result.update({"path": str(plan.backup), "replaced_database": plan.replaced})
    run.result["changes"] = [change.as_json() for change in plan.changes]
    if plan.replaced is None:
        return
    run.result["swap_back"] = [
        databases.typed(f"ALTER DATABASE {quote(old)} RENAME TO {quote(new)};") for old, new in plan.renames_back
    ]
    run.result["drop_replaced"] = databases.typed(f"DROP DATABASE {quote(plan.replaced)};")


def _remember(settings: Settings, run: Run) -> None:
    """Record the restore in the restored database's memory, if it has one."""
    engine = engine_for(settings.target)
    try:
        with engine.connect() as connection:
            remembers = memory.exists(connection)
        if remembers:
            with memory.recorded(settings, run):
                pass
    except (RolloutError, DBAPIError) as error:
        run.error, run.exit_code, run.database = None, 0, RESTORED
        run.listener.note(say("the restore could not be recorded: {reason}", reason=first_line(error)))
    finally:
        engine.dispose()
