"""What alembic/env.py does: one way for ``tool`` (its connection), one for plain ``alembic``, one for ``--sql``.

https://alembic.sqlalchemy.org/en/latest/cookbook.html#sharing-a-connection-across-one-or-more-programmatic-migration-commands
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from rollout import adopt, catalog, interrupt, manifest, memory, own_rows, plan, transaction, way_back
from rollout.database import VERSION_TABLE, engine_for, run_lock
from rollout.errors import UNTOUCHED, Interrupted, LockNotAcquired, PreflightFailed, RollbackFailed
from rollout.messages import say
from rollout.operations import ENSURE_RANDOM_UUID, LawskerImpl
from rollout.settings import load

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from alembic.runtime.environment import EnvironmentContext
    from alembic.runtime.migration import MigrationContext
    from sqlalchemy import Connection, Engine

    from rollout.settings import Settings


def run(context: EnvironmentContext) -> None:
    """Run what Alembic was asked for, in the way that fits."""
    connection: Connection | None = context.config.attributes.get("connection")
    if context.is_offline_mode():
        _offline(context)
    elif connection is not None:
        run_on(context, connection, context.config.attributes["preexisting"])
    else:
        _plain(context)


def _configure(context: EnvironmentContext, **options: Any) -> None:
    """Configure Alembic the same way everywhere."""
    assert LawskerImpl.__dialect__ == "postgresql"  # noqa: S101 - importing rollout.operations registered it
    context.configure(
        version_table=VERSION_TABLE,
        version_table_schema="public",
        transaction_per_migration=False,
        on_version_apply=_remember,  # type: ignore[arg-type] # Alembic passes keywords only
        **options,
    )


def run_on(context: EnvironmentContext, connection: Connection, preexisting: frozenset[str]) -> None:
    """Run the migrations on the caller's connection, in the caller's transaction.

    ``rollout.shelf`` hands over what is called in place of DROP TABLE (``put_away``, with the tables that go so as a
    ``whole``) and after each revision (``applied``).
    """
    hooks = {name: context.config.attributes.get(name) for name in ("put_away", "whole", "applied")}
    _run(context, connection, preexisting=preexisting, **hooks)


def _run(context: EnvironmentContext, connection: Connection, **options: Any) -> None:
    """Let Alembic do what it was asked for, on this connection."""
    _configure(context, connection=connection, **options)
    with context.begin_transaction():
        context.run_migrations()


def _plain(context: EnvironmentContext) -> None:
    """Run plain ``alembic``: our lock, our transaction, our care for what was there; no backup, no fingerprints."""
    settings = load()
    engine = engine_for(settings.target)
    try:
        with interrupt.heeding():
            _plain_on(context, engine, settings)
    except KeyboardInterrupt:
        raise Interrupted from None


def _plain_on(context: EnvironmentContext, engine: Engine, settings: Settings) -> None:
    """Run plain ``alembic`` on the server: look, or change in one transaction."""
    try:
        wanted = _wanted(context)
    except KeyError:
        with engine.connect() as connection:
            plan.current(connection)  # a revision that this checkout does not know is explained
            known = memory.preexisting(connection) if memory.readable(connection) else frozenset()
            _run(context, connection, preexisting=known, **_comparing(known))
        return
    with run_lock(engine) as own:
        steps = _steps(wanted, own)
        locks = {name: mode for name, mode in steps.locks().items() if plan.existing_tables(own, [name])}
        with transaction.open_transaction(
            engine, locks, lock_timeout=settings.lock_timeout, statement_timeout=settings.statement_timeout
        ) as connection:
            try:
                run_on(context, connection, prepare(connection, steps))
                finish(connection, steps)
            except SQLAlchemyError as error:
                step = "downgrade" if steps.downwards else "upgrade"
                raise transaction.refused(error, step, downwards=steps.downwards) from error
            transaction.commit(connection, engine)


def _comparing(preexisting: frozenset[str]) -> dict[str, Any]:
    """Return what only ``alembic check`` and ``--autogenerate`` need: nobody else waits for the models."""
    from rollout import autogenerate  # noqa: PLC0415

    return autogenerate.options(preexisting)


def _wanted(context: EnvironmentContext) -> str | None:
    """Return the revision that upgrade, downgrade or stamp was asked for; KeyError: the command only looks."""
    wanted = context.get_revision_argument()
    return wanted[-1] if isinstance(wanted, tuple) else wanted


def _steps(wanted: str | None, connection: Connection) -> plan.Plan:
    """Plan what Alembic was asked for; like Alembic, understand ``+2``, ``-1`` and ``REVISION-1``."""
    start = plan.current(connection)
    relative = re.fullmatch(r"(.*?)([+-]\d+)", wanted or "")
    if relative is None:
        return plan.make(start, plan.resolve(wanted) if wanted else None)
    ids = [None, *(revision.id for revision in plan.history())]
    position = ids.index(plan.resolve(relative[1]) if relative[1] else start) + int(relative[2])
    if not 0 <= position < len(ids):
        raise PreflightFailed(
            say("{name} leads past the end of the history", name=wanted),
            hint=say("`alembic history` lists the revisions."),
        )
    return plan.make(start, ids[position])


def prepare(connection: Connection, steps: plan.Plan, *, below_baseline: bool = False) -> frozenset[str]:
    """Inside the transaction, before the first revision: learn and remember what was there before us.

    Returns the objects that revisions neither make nor drop. Raises ``PreflightFailed`` where something that is there
    differs from what we would make, ``RollbackFailed`` where a downgrade cannot know what was there,
    ``LockNotAcquired`` where the database is no longer where it was when ``steps`` were planned.
    """
    found_at = plan.current(connection)
    if found_at != steps.start:
        raise LockNotAcquired(
            say("another run was faster: the database is at {revision}", revision=found_at or "-"),
            hint=say("Run the same command again."),
        )
    if not steps.downwards:
        memory.create(connection)
        found = adopt.inspect(connection, steps)
        adopt.refuse_differences(found)
        memory.forget_preexisting(connection, [revision.id for revision in plan.not_in(steps.start)])
        kept = [state for state in found if state.is_kept]
        if steps.target != plan.resolve(plan.HEAD):
            # What only later revisions make and is there already is not ours, and nobody left it over.
            later = adopt.inspect(connection, plan.make(steps.target, plan.resolve(plan.HEAD)))
            kept += [state for state in later if state.state != adopt.MISSING]
        memory.remember_preexisting(connection, [(state.key, state.revision) for state in kept])
        return memory.preexisting(connection)
    preexisting = may_go_down(connection, steps, below_baseline=below_baseline)
    own_rows.remove_from_kept_tables(connection, steps, preexisting)
    # What somebody else has taken away already is left alone like what was there before us: there is nothing to drop.
    return preexisting | ({key for key, _ in adopt.made_by(connection, steps)} - set(catalog.read(connection)))


def may_go_down(connection: Connection, steps: plan.Plan, *, below_baseline: bool = False) -> frozenset[str]:
    """Return what was there before us; raise ``RollbackFailed`` where a downgrade may not be."""
    missing = {revision.id for revision in steps.revisions} - memory.applied(connection)
    if missing:
        raise RollbackFailed(
            say("the schema rollout does not remember how this database was upgraded"),
            hint=say(
                "Restore a backup (`tool restore PATH`): without that memory a downgrade could drop others' objects."
            ),
            database=UNTOUCHED,
        )
    preexisting = memory.preexisting(connection)
    if steps.target is None and "table users" in preexisting and not below_baseline:
        raise RollbackFailed(
            say("this database was there before us: it does not go below the baseline"),
            hint=say("Downgrade to `baseline`; `tool rollback --to before-last-run` also removes our version table."),
            database=UNTOUCHED,
        )
    return preexisting


def finish(connection: Connection, steps: plan.Plan) -> None:
    """Inside the transaction, after the last revision: fire what was deferred, drop an empty version table.

    After an upgrade the database learns the way back, for checkouts that do not know its revisions.
    What was there before revisions that are gone stays known until the next upgrade looks again: it is still not ours.
    """
    connection.exec_driver_sql("SET CONSTRAINTS ALL IMMEDIATE")
    if not steps.downwards:
        way_back.remember(connection, steps.revisions, memory.preexisting(connection))
    if steps.downwards and steps.target is None:
        connection.execute(text(f"DROP TABLE public.{VERSION_TABLE}"))


def _remember(*, ctx: MigrationContext, step: Any, **_: object) -> None:
    """Keep ``rollout.applied_revisions`` in step with Alembic (its ``on_version_apply`` hook)."""
    revisions = {revision.id: revision for revision in plan.history()}
    if step.is_stamp:
        # One step, however many revisions it leads over.
        ctx.execute("DELETE FROM rollout.applied_revisions")
        for revision in plan.up_to(next(iter(step.destination_revision_ids), None)):
            ctx.execute(_applied(revision))
    elif step.is_upgrade:
        for identifier in step.up_revision_ids:
            ctx.execute(_applied(revisions[identifier]))
            if ctx.opts.get("applied") is not None:
                ctx.opts["applied"](identifier)
    else:
        for identifier in step.up_revision_ids:
            ctx.execute(f"DELETE FROM rollout.applied_revisions WHERE revision = '{identifier}'")


def _applied(revision: plan.Revision) -> str:
    """Return the statement that remembers a revision as applied."""
    values = ", ".join(f"'{value}'" for value in (revision.id, revision.family, revision.path.name, revision.sha256))
    return (
        "INSERT INTO rollout.applied_revisions (revision, family, file_name, file_sha256)"
        f" VALUES ({values}) ON CONFLICT (revision) DO NOTHING"
    )


def _offline(context: EnvironmentContext) -> None:
    """Write SQL: for an empty database from base, for a clean legacy one from the baseline."""
    kept = context.config.attributes.get("preexisting", frozenset())
    # With the driver's own paramstyle every % in the script would be doubled.
    named = {"paramstyle": "named"}
    _configure(context, dialect_name="postgresql", dialect_opts=named, literal_binds=True, preexisting=kept)
    with context.begin_transaction():
        write = context.get_context().impl.static_output
        write("SET LOCAL search_path = public;")
        write("SET LOCAL lock_timeout = '10s';")
        write(memory.SCHEMA_SQL.read_text(encoding="utf-8"))
        start = plan.resolve(str(context.get_starting_revision_argument() or plan.BASE))
        if start is not None:
            for table, mode in plan.make(start, plan.resolve(_wanted(context) or plan.BASE)).locks().items():
                write(f"LOCK TABLE public.{table} IN {mode} MODE;")
        if start == plan.history()[0].id:
            _write_legacy_start(write)
        _write_preexisting(write, kept)
        context.run_migrations()


def _write_legacy_start(write: Callable[[str], None]) -> None:
    """Write what an upgrade of a clean legacy database finds done: the baseline, whose objects are all others'."""
    first = plan.history()[0]
    write(ENSURE_RANDOM_UUID + ";")
    write(
        f"CREATE TABLE public.{VERSION_TABLE} (version_num varchar(32) NOT NULL,"
        f" CONSTRAINT {VERSION_TABLE}_pkc PRIMARY KEY (version_num));"
    )
    write(f"INSERT INTO public.{VERSION_TABLE} (version_num) VALUES ('{first.id}');")
    write(_applied(first) + ";")
    _write_preexisting(write, [key for key, _ in adopt.baseline_objects()])


def _write_preexisting(write: Callable[[str], None], keys: Iterable[str]) -> None:
    """Write what remembers these objects as there before us: no downgrade may take them away."""
    made_by = manifest.at([one.id for one in plan.history()], major=0).made_by
    for key in sorted(keys):
        write(
            "INSERT INTO rollout.preexisting_objects (object, revision)"
            f" VALUES ('{key}', '{made_by.get(key, plan.history()[0].id)}') ON CONFLICT (object) DO NOTHING;"
        )
