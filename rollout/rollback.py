"""Selective rollback: receipt → the verified transaction, with people's rows put on the shelf first → report."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from sqlalchemy import text

from rollout import adopt, memory, plan
from rollout.change import change, write_report
from rollout.database import describe, engine_for, quote
from rollout.errors import UNTOUCHED, PreflightFailed, RollbackFailed, VerificationFailed
from rollout.messages import say

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Connection

    from rollout.memory import Session
    from rollout.run import Run
    from rollout.settings import Settings

BEFORE_LAST_RUN = "before-last-run"
SHELF = "rollout_shelf"


@dataclass(frozen=True)
class Going:
    """One object that a rollback takes away: ``rows`` in a table, or values other than NULL in a column."""

    object: str
    rows: int
    shelved: bool


@dataclass(frozen=True)
class Options:
    """What ``tool rollback`` was asked for; ``to``: a revision, a family, ``base`` or ``before-last-run``."""

    to: str
    discard: bool = False
    receipt_only: bool = False


def rollback(settings: Settings, run: Run, options: Options, confirm: Callable[[list[Going]], bool]) -> list[Going]:
    """Take revisions back; ``confirm`` sees the receipt first. Raises a ``RolloutError``, mostly ``RollbackFailed``.

    Returns the receipt; fills ``run.result`` with ``receipt``, ``from_revision``, ``to_revision``.
    """
    if options.receipt_only:
        return _only_receipt(settings, run, options)
    try:
        with memory.recorded(settings, run) as session:
            return _rollback(session, run, options, confirm)
    finally:
        run.finish()
        write_report(settings, run)


def _only_receipt(settings: Settings, run: Run, options: Options) -> list[Going]:
    """Say what would go; change nothing."""
    engine = engine_for(settings.target)
    try:
        with engine.connect() as connection:
            run.target = describe(connection, settings.target)
            steps = _steps(connection, run, options)
            return receipt(connection, run, steps, shelve=not options.discard)
    finally:
        engine.dispose()


def _rollback(session: Session, run: Run, options: Options, confirm: Callable[[list[Going]], bool]) -> list[Going]:
    """Plan, show the receipt, ask, and go."""
    steps = _steps(session.own, run, options)
    if not steps.revisions:
        run.listener.note(say("nothing to do: the database is at that revision"))
        return []
    _refuse_irreversible(steps)
    going = receipt(session.own, run, steps, shelve=not options.discard)
    if not confirm(going):
        raise RollbackFailed(say("not confirmed"), hint=say("Answer y, or call with --yes."), database=UNTOUCHED)

    def shelve(connection: Connection) -> None:
        if not options.discard:
            _shelve(connection, run, going)

    try:
        change(session, run, steps, below_baseline=options.to == BEFORE_LAST_RUN, first=shelve)
    except VerificationFailed as error:
        raise RollbackFailed(error.message, hint=error.hint, findings=error.findings) from error
    return going


def _steps(connection: Connection, run: Run, options: Options) -> plan.Plan:
    """Find out where the database stands and where it is to go."""
    with run.step("plan") as step:
        start = plan.current(connection)
        if start is None:
            raise RollbackFailed(
                say("the database has no revision of ours: there is nothing to roll back"),
                hint=say("`tool status` tells where it stands."),
                database=UNTOUCHED,
            )
        try:
            target = _before_last_run(connection) if options.to == BEFORE_LAST_RUN else plan.resolve(options.to)
        except PreflightFailed as error:
            raise RollbackFailed(error.message, hint=error.hint, database=UNTOUCHED) from error
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
    """Return the revision that the last run which changed the schema began at."""
    row = None
    if memory.exists(connection):
        row = connection.execute(
            text(
                "SELECT from_revision, to_revision FROM rollout.runs WHERE exit_code IN (0, 13)"
                " AND command = 'migrate' AND from_revision IS DISTINCT FROM to_revision ORDER BY number DESC LIMIT 1"
            )
        ).one_or_none()
    if row is None or row[1] != plan.current(connection):
        raise RollbackFailed(
            say("there is no last run to take back: the schema was changed since, or not by `tool migrate`"),
            hint=say("Name a family or a revision: tool rollback --to FAMILY; see tool history."),
            database=UNTOUCHED,
        )
    revision: str | None = row[0]
    return revision


def _refuse_irreversible(steps: plan.Plan) -> None:
    """Refuse before anything is touched where a revision says that it cannot be taken back."""
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


def receipt(connection: Connection, run: Run, steps: plan.Plan, *, shelve: bool) -> list[Going]:
    """Return, and put into the run's result, every object that goes and what is in it."""
    preexisting = memory.preexisting(connection)
    going: list[Going] = []
    with run.step("receipt") as step:
        for key, _ in adopt.made_by(connection, steps):
            kind, _, name = key.partition(" ")
            table = name.rpartition(".")[0]
            if key in preexisting or f"table {table}" in preexisting:
                continue
            rows = 0
            if kind == "table" and plan.existing_tables(connection, [name]):
                rows = connection.exec_driver_sql(f"SELECT count(*) FROM {quote(name)}").scalar_one()
            elif kind == "column" and table in adopt.WRITTEN and plan.existing_tables(connection, [table]):
                column = quote(name.rpartition(".")[2])
                rows = connection.exec_driver_sql(f"SELECT count({column}) FROM {quote(table)}").scalar_one()
            elif kind == "column":
                continue  # goes with its table
            going.append(Going(key, rows, shelve and rows > 0))
        run.result["receipt"] = [asdict(one) for one in going]
        step.detail = say("{count} object(s)", count=len(going))
    return going


def _shelve(connection: Connection, run: Run, going: list[Going]) -> None:
    """Put rows of tables, and values of columns by primary key, into the shelf, inside the transaction."""
    with run.step("shelve") as step:
        shelved = [one for one in going if one.shelved]
        if shelved:
            connection.exec_driver_sql(f"CREATE SCHEMA IF NOT EXISTS {SHELF}")
            connection.exec_driver_sql(f"REVOKE ALL ON SCHEMA {SHELF} FROM PUBLIC")
        columns: dict[str, list[str]] = {}
        for one in shelved:
            kind, _, name = one.object.partition(" ")
            if kind == "table":
                target = quote(SHELF, f"{run.run_id}_{name}"[:63])
                connection.exec_driver_sql(f"CREATE TABLE {target} AS TABLE {quote('public', name)}")
            else:
                table, _, column = name.rpartition(".")
                columns.setdefault(table, []).append(column)
        for table, names in columns.items():
            chosen = ", ".join(quote(name) for name in ["id", *names])
            target = quote(SHELF, f"{run.run_id}_{table}_columns"[:63])
            connection.exec_driver_sql(f"CREATE TABLE {target} AS SELECT {chosen} FROM {quote('public', table)}")
        step.detail = say("{count} object(s) put into {schema}", count=len(shelved), schema=SHELF)
