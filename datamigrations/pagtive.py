"""The Pagtive import: stage, then merge table after table in one transaction, prove, COMMIT."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from datamigrations import (
    identity,
    identity_plan,
    merge,
    people,
    pipeline,
    preflight,
    quarantine,
    reconcile,
    rules,
    staging,
)
from datamigrations import job as jobs
from datamigrations import source as sources
from datamigrations.job import WRITE, ImportOptions, Job
from datamigrations.mapping import LOGS, TABLES, USERS
from rollout import memory
from rollout.errors import ReconciliationFailed
from rollout.messages import say
from rollout.output import check
from rollout.report import write_report

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from datamigrations.pipeline import Pipeline
    from datamigrations.source import Source, SourceTable
    from rollout.memory import Session
    from rollout.run import Run
    from rollout.settings import Settings

__all__ = ["ImportOptions", "import_pagtive", "plan_pagtive"]

_WRITTEN_WITH_USERS = ("tenants", "profiles", "user_roles", "workspace_mappings", "user_credits", "user_accounts")


def import_pagtive(settings: Settings, run: Run, options: ImportOptions) -> None:
    """Import the Pagtive source into the target; fills ``run.result`` with cli.md's keys of ``pagtive import``.

    Also there: ``reference`` of what was left out (``source``), rows that differ but stay as they are in the target
    (``kept``), logs whose project is unknown (``logs_without_project``). Raises a ``RolloutError``; then nothing of the
    target has changed.
    """
    try:
        with memory.recorded(settings, run) as session:
            run.result |= {"dry_run": options.dry_run, "logs_without_project": 0}
            preflight.check_import(session.own, options)
            if options.plan_file is not None:
                check(options.plan_file)
            if options.retry_rejects:
                run.result["retried"] = _count_open(session, run, options.decided)
                if not run.result["retried"]:
                    run.listener.note(say("no row with a key is open in quarantine: nothing to retry"))
                    return
            with staging.area(session.own):
                _import(session, run, options)
    finally:
        run.finish()
        write_report(settings, run)


def plan_pagtive(settings: Settings, run: Run, options: ImportOptions, file: Path | None = None) -> None:
    """Work out who each source user would be; fills ``run.result["identity"]`` (``identity_plan.collect``).

    Nothing is kept. Raises a ``RolloutError``.
    """
    import_pagtive(settings, run, replace(options, dry_run=True, users_only=True, plan_file=file))


def _import(session: Session, run: Run, options: ImportOptions) -> None:
    """Stage, merge, prove, commit."""
    with sources.snapshot(session.settings, limit_users=options.limit_users) as source:
        _describe(source, run)
        if options.users_only:
            source.tables = {USERS.name: source.tables[USERS.name]}
        if options.retry_rejects:
            about = options.decided
            source.only = {
                name: quarantine.conditions(session.engine, one, about) for name, one in source.tables.items()
            }
        with pipeline.begun(session, source, run, workers=options.jobs) as staged:
            left_open = _stage(session, run, staged, options)
            job = _change(session, run, options, staged, left_open)
    if not options.dry_run:
        written = {table.target: _written(job, table.name) for table in TABLES if table.name in source.tables}
        with_users = dict.fromkeys(_WRITTEN_WITH_USERS, job.counts[USERS.name].inserted)
        # Statistics of whole pages help no query.
        small = {table.target: ", ".join(f.column for f in table.fields if not f.is_large) for table in TABLES[1:]}
        jobs.finish(session, run, written | with_users | {"pagtive_user_map": job.mapped}, small)


def _change(session: Session, run: Run, options: ImportOptions, staged: Pipeline, left_open: Mapping[str, int]) -> Job:
    """Merge table after table, prove and commit; rows that are ``left_open`` are not counted as read."""
    tables = staged.source.tables
    locks = dict.fromkeys(["tenants", "users", *_WRITTEN_WITH_USERS[1:], "pagtive_user_map"], WRITE)
    locks |= {table.target: WRITE for table in TABLES if table.name in tables}
    with jobs.change(session, run, locks, dry_run=options.dry_run) as connection:
        job = Job(connection, run, options)
        rules.create_helpers(connection)
        quarantine.create(job)
        for name, table in tables.items():
            counts = job.counts[name]
            with run.step(f"merge {name}") as step:
                for part, rows in staged.parts(name):
                    counts.read += rows - left_open.get(name, 0)
                    _merge(job, part)
                    job.parts[name].append(part)
                reconcile.record_all(job, table.table)
                reconcile.compare(job, table.table)
                step.detail = say(
                    "{rows} rows read, {quarantined} in quarantine", rows=counts.read, quarantined=counts.quarantined
                )
        with run.step("reconcile"):
            _reconcile(job)
            quarantine.resolve(job)
            if options.retry_rejects:
                _note_left(job)
            job.tidy()
    return job


def _count_open(session: Session, run: Run, about: list[str]) -> int:
    """Count what a retry reads; say whom it leaves out."""
    skipped = quarantine.count_skipped(session.own, about)
    if skipped:
        run.listener.note(
            say("{count} user(s) skipped by decision stay so: a retry reads whom --decisions names", count=skipped)
        )
    return quarantine.count_open(session.own, about)


def _note_left(job: Job) -> None:
    """Say what a retry did not find: rows without a key, and rows that have another key now, or are gone."""
    left = quarantine.left_open(job)
    if left:
        job.run.listener.note(
            say(
                "{count} row(s) that had no key, whose key was changed or that are gone stay open until a whole import",
                count=left,
            )
        )


def _written(job: Job, name: str) -> int:
    """Return how many rows of a table were written."""
    return job.counts[name].inserted + job.counts[name].updated


def _stage(session: Session, run: Run, staged: Pipeline, options: ImportOptions) -> dict[str, int]:
    """Copy the source's tables into the staging area, at least as far as merging needs to begin.

    Return how many rows of each table a retry leaves in quarantine as they are: it does not merge before all are there.
    """
    with run.step("copy") as step:
        rows = staged.wait_for_merge()
        tables = staged.source.tables
        about = options.decided
        left_open = {name: quarantine.leave_open(session.own, tables[name], about) for name in staged.source.only}
        rows -= sum(left_open.values())
        step.detail = say("{rows} rows of {tables} table(s)", rows=rows, tables=len(tables))
        if not staged.is_complete:
            step.detail = say("{rows} rows; what is missing is copied while these are merged", rows=rows)
    return left_open


def _describe(source: Source, run: Run) -> None:
    """Say what the source does not have, and what of it is not imported."""
    missing = [table.source for table in TABLES if table.name not in source.tables]
    missing += [f"{one.table.source}.{name}" for one in source.tables.values() for name in one.lacking]
    ignored = [f"{one.table.source}.{name}" for one in source.tables.values() for name in one.ignored]
    run.result["source"] = {"missing": missing, "ignored": ignored}
    if missing:
        run.listener.note(say("the source has no {names}; that is fine", names=", ".join(missing)))
    if ignored:
        run.listener.note(say("not imported: {names}", names=", ".join(ignored)))


def _merge(job: Job, source: SourceTable) -> None:
    """Bring the rows of one table, or of one part of it, to the target."""
    merge.convert(job, source)
    merge.reject(job, source)
    if source.table is USERS:
        identity.resolve(job)
        people.merge(job, source)
        if job.options.dry_run:
            identity_plan.collect(job, job.options.plan_file)
        return
    merge.plan(job, source)
    reconcile.remember_previous(job, source)
    merge.write(job, source)
    reconcile.record(job, source)
    reconcile.expect(job, source)
    merge.count(job, source)
    if source.table is LOGS:
        planned = f"{job.plans[LOGS.name]} AS w"
        lost = f"SELECT count(*) FROM {planned} WHERE w.project_id IS NOT NULL AND w.ref_project IS NULL"
        job.run.result["logs_without_project"] += int(job.scalar(lost))


def _reconcile(job: Job) -> None:
    """Fill the run's result; raise ``ReconciliationFailed`` where it does not add up, or too much is in quarantine."""
    result = job.run.result
    result["tables"] = {table.name: job.counts[table.name].as_json() for table in TABLES}
    result["reasons"] = quarantine.reasons(job)
    result["kept"] = {name: rows for name, rows in sorted(job.kept.items()) if rows}
    reconcile.balance(job)
    quarantined, limit = sum(counts.quarantined for counts in job.counts.values()), job.options.max_quarantined
    if limit is not None and quarantined > limit:
        raise ReconciliationFailed(
            say("{count} rows would go to quarantine, {limit} are allowed", count=quarantined, limit=limit),
            hint=say("The reasons are in the report; mend the source, or raise --max-quarantined."),
        )
