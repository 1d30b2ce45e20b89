"""The rehearsal: a backup is restored; the copy is upgraded, verified, rolled back, compared, and upgraded again."""

from __future__ import annotations

import math
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy.exc import SQLAlchemyError

from rollout import backup, databases, definitions, migrate, plan, rollback, scratch, verify
from rollout.backups.archive import definitions_of_database
from rollout.backups.compare import differences, finding
from rollout.backups.proof import recorded_where_possible
from rollout.backups.prove import analyze, conclude, fill
from rollout.contents import Contents, read, relations
from rollout.database import OUR_SCHEMAS, describe, engine_for, first_line
from rollout.errors import UNTOUCHED, BackupFailed, RollbackFailed, RolloutError
from rollout.measure import LockWatch, cost, plans
from rollout.messages import say
from rollout.postgres_tools import tool_for
from rollout.report import write_report
from rollout.run import Run
from rollout.snapshot import patiently, snapshot

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy.exc import DBAPIError

    from rollout.backups.manifest import Manifest
    from rollout.backups.prove import Filled
    from rollout.findings import Finding
    from rollout.run import Listener
    from rollout.scratch import Place
    from rollout.settings import Settings

_SOFTER = 1.2  # what a busy night adds to what was measured
_GB = 10**9


@dataclass
class _Stage:
    """A rehearsal at work: on ``name``, a copy of the backup at ``path``; ``settings`` lead there."""

    run: Run
    there: Place
    settings: Settings
    name: str
    path: Path
    manifest: Manifest


class _WithoutNotes:
    """A listener that passes on steps and progress; what commands say to their operator is not true of a rehearsal."""

    def __init__(self, listener: Listener) -> None:
        """Take the listener that hears the rest."""
        self.step_started = listener.step_started
        self.step_ended = listener.step_ended
        self.progress = listener.progress

    def note(self, message: str) -> None:
        """Ignore."""


def rehearse(
    settings: Settings, run: Run, path: Path | None, *, to: str = plan.HEAD, on: str | None = None, jobs: int = 2
) -> None:
    """Rehearse the upgrade on a copy of a backup (default: the newest one of the target, or a new one).

    On the target's server, or ``on`` ``embedded`` or a URL. In ``run.result``: ``path``, ``stages`` (each with its
    time, steps, WAL, disk, locks), ``plans``, ``estimate``. Raises what the upgrade or the rollback would raise; the
    target is untouched in any case, and nothing is left of the copy.
    """
    try:
        with _of_the_copy():
            path = path or _newest(settings, run, on, jobs)
            manifest = backup.check(path, run)
            run.result |= {"path": str(path), "stages": [], "plans": {}, "estimate": {}}
            with scratch.place(settings, run, on, BackupFailed, durable=True) as there:
                scratch.require(there, manifest)
                name = databases.name_for(manifest.dbname, "rehearsal")
                with scratch.database(run, there, name, manifest), tempfile.TemporaryDirectory() as directory:
                    copy = replace(
                        settings,
                        target=there.server.to_database(name),
                        source=None,
                        directory=Path(directory),
                        notify_urls=(),
                    )
                    _on_copy(_Stage(run, there, copy, name, path, manifest), to, jobs)
    finally:
        run.finish()
        write_report(settings, run)


@contextmanager
def _of_the_copy() -> Iterator[None]:
    """Say of every failure that the database itself was not touched."""
    try:
        yield
    except RolloutError as error:
        error.database = UNTOUCHED
        raise


def _newest(settings: Settings, run: Run, on: str | None, jobs: int) -> Path:
    """Return the newest whole backup of the target, made now where there is none."""
    with engine_for(settings.target).connect() as connection:
        run.target = describe(connection, settings.target)
    place = f"{run.target.host}:{run.target.port}/{run.target.dbname}"
    for one in backup.list_backups(settings.backups):
        if one.problem is None and one.database == place:
            run.listener.note(say("the newest backup: {path}", path=one.path))
            return one.path
    scratch.expect(settings, settings.target, on, BackupFailed)
    return backup.create(settings, run, jobs=jobs).path


def _on_copy(stage: _Stage, to: str, jobs: int) -> None:
    """Fill the copy, which proves the backup, then rehearse on it."""
    run, there, manifest, name = stage.run, stage.there, stage.manifest, stage.name
    filled = fill(run, there, stage.path, manifest, name, jobs=jobs)
    with recorded_where_possible(stage.path, run.listener.note):
        conclude(run, stage.path, manifest, filled)
    with run.step("analyze"):
        analyze(there, name)
    _give(stage)
    if _rehearse(stage, to):
        run.result["estimate"] = _estimate(run, manifest, filled)


def _give(stage: _Stage) -> None:
    """Give the copy what the database itself has; a setting that we may not make is told, and left out."""

    def refused(setting: str, error: DBAPIError) -> None:
        stage.run.listener.note(
            say("the copy goes without the setting {setting}: {reason}", setting=setting, reason=first_line(error))
        )

    try:
        databases.give(stage.there.admin, stage.name, stage.manifest.database, refused)
    except SQLAlchemyError as error:
        raise stage.there.failed(
            say("the copy cannot be given what the database has: {reason}", reason=first_line(error)),
            hint=say("Rehearse as a superuser, or on a server of our own: --on embedded."),
        ) from error


def _rehearse(stage: _Stage, to: str) -> bool:
    """Upgrade, verify, roll back, compare, upgrade, verify; False where there is nothing to upgrade."""
    run, copy = stage.run, stage.settings
    before = _definitions(stage, "before")
    queries = _plans(stage)
    upgraded = _measured(stage, "rehearse upgrade", "migrate", lambda sub: _migrate(copy, sub, to))
    if upgraded["from_revision"] == upgraded["to_revision"]:
        run.listener.note(say("nothing to rehearse: the backup is at {revision}", revision=upgraded["to_revision"]))
        return False
    _measured(stage, "rehearse verify", "verify", lambda sub: verify.verify(copy, sub))
    after = _plans(stage)
    run.result["plans"] = {
        query: {"before": queries.get(query), "after": after.get(query)} for query in dict.fromkeys([*queries, *after])
    }
    options = rollback.Options(rollback.BEFORE_LAST_RUN)
    _measured(stage, "rehearse rollback", "rollback", lambda sub: rollback.rollback(copy, sub, options, lambda _: True))
    with run.step("rehearse compare") as step:
        _compare(stage, before)
        step.detail = say("the rollback leaves what was there before")
    _measured(stage, "rehearse upgrade again", "migrate", lambda sub: _migrate(copy, sub, to))
    _measured(stage, "rehearse verify again", "verify", lambda sub: verify.verify(copy, sub))
    return True


def _migrate(settings: Settings, sub: Run, to: str) -> None:
    """Upgrade the copy: the same code as in production, without a backup of the copy."""
    migrate.migrate(settings, sub, migrate.Options(to=to, backup=False))


def _measured(stage: _Stage, name: str, command: str, work: Callable[[Run], object]) -> dict[str, Any]:
    """Run one command on the copy; keep its time, steps, WAL, disk and locks; return its result."""
    sub = Run(command, listener=_WithoutNotes(stage.run.listener))
    engine = scratch.engine_of(stage.there, stage.name)
    try:
        with stage.run.step(name) as step, LockWatch(engine) as watch, cost(stage.there.admin, stage.name) as figures:
            work(sub)
            step.detail = say("{count} steps", count=len(sub.steps))
    except RolloutError as error:
        stage.run.findings += [one for one in sub.findings if one not in error.findings]
        raise
    steps = [{"name": one.name, "seconds": one.seconds} for one in sub.steps]
    stage.run.result["stages"].append(
        {"name": name, **figures.as_json(), "steps": steps, "locks": [one.as_json() for one in watch.locks()]}
    )
    return sub.result


def _plans(stage: _Stage) -> dict[str, dict[str, Any]]:
    """Ask the planner about the top queries, as far as the copy's schema can answer them."""
    engine = scratch.engine_of(stage.there, stage.name)
    with engine.connect() as connection:
        return plans(connection)


def _definitions(stage: _Stage, name: str) -> Path:
    """Write the copy's definitions to a file, our own schemas left out."""
    major = stage.there.target.major
    file = stage.settings.directory / name
    tool = tool_for("pg_dump", major, oldest=stage.manifest.client_major)
    without = [f"--exclude-schema={schema}" for schema in OUR_SCHEMAS]
    encoding = stage.manifest.database["encoding"]
    problem = definitions_of_database(tool, stage.settings.target, encoding, file, without)
    if problem is not None:
        raise stage.there.failed(
            say("the definitions cannot be compared: {reason}", reason=problem),
            hint=say("Mend what the server names, then run this again."),
        )
    return file


def _compare(stage: _Stage, before: Path) -> None:
    """Raise where the rollback did not leave exactly what was there before the upgrade."""
    engine = scratch.engine_of(stage.there, stage.name)
    with snapshot(engine, lock_timeout=0) as connection:
        tables = relations(connection)
        columns = {(table.schema, table.name): table.columns for table in stage.manifest.contents.tables}
        found = patiently(connection, lambda: read(connection, tables, columns=columns))
    wrong: list[Finding] = differences(_theirs(stage.manifest.contents), _theirs(found))
    wrong += [finding(subject, how) for subject, how in definitions.differences(before, _definitions(stage, "after"))]
    if wrong:
        raise RollbackFailed(
            say("the rollback left something else than was there before: {count} differences", count=len(wrong)),
            hint=say("Do not upgrade before this is understood; the findings name what differs."),
            findings=wrong,
        )


def _theirs(contents: Contents) -> Contents:
    """Return contents without our own schemas, and without sequences: those may advance."""
    tables = [table for table in contents.tables if table.schema not in OUR_SCHEMAS]
    return replace(contents, tables=tables, sequences=[])


def _estimate(run: Run, manifest: Manifest, filled: Filled) -> dict[str, Any]:
    """Return what the night will take: minutes, and room on the server and for the backup."""
    stage = run.result["stages"][0]
    upgrade, copying = stage["seconds"] * _SOFTER, (manifest.seconds + filled.seconds) * _SOFTER
    growth = max(stage["database_bytes"], 0) + stage["wal_bytes"] + stage["temporary_bytes"]
    held = max((one["seconds"] for one in stage["locks"]), default=0.0)
    return {
        "minutes": math.ceil((upgrade + copying) / 60),
        "backup_seconds": round(copying, 1),
        "upgrade_seconds": round(upgrade, 1),
        "locked_seconds": round(held * _SOFTER, 1),
        "restore_seconds": round(filled.restore_seconds, 1),
        "server_gb": _gb(scratch.room_for(manifest.needs.bytes) + growth),
        "backup_gb": _gb(manifest.size),
    }


def _gb(size: int) -> float:
    """Return gigabytes, rounded up to a tenth."""
    return math.ceil(size * 10 / _GB) / 10
