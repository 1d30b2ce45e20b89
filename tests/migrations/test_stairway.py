"""Every revision up, down and up again on a filled legacy database: it leaves no trace, and takes the locks it says."""

from __future__ import annotations

import pytest
from alembic import command
from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext
from sqlalchemy import text

from rollout import adopt, catalog, plan
from rollout.database import engine_for
from tests.fixtures.databases import url_of
from tests.fixtures.legacy import NEW_USER_COLUMNS, picture

# Strongest last: https://www.postgresql.org/docs/current/explicit-locking.html#LOCKING-TABLES
MODES = [
    "AccessShareLock", "RowShareLock", "RowExclusiveLock", "ShareUpdateExclusiveLock", "ShareLock",
    "ShareRowExclusiveLock", "ExclusiveLock", "AccessExclusiveLock",
]  # fmt: skip

_TAKEN = text(
    "SELECT c.relname, l.mode FROM pg_locks l JOIN pg_class c ON c.oid = l.relation"
    " WHERE l.pid = pg_backend_pid() AND c.relname = ANY(:tables)"
)

LEGACY_TABLES = [key.removeprefix("table ") for key, _ in adopt.baseline_objects() if key.startswith("table ")]


@pytest.fixture
def take(make_database, legacy_template):
    """Yield what takes one step, ``upgrade`` or ``downgrade``, on a legacy database; ``look`` before COMMIT."""
    engine = engine_for(make_database(legacy_template))
    with engine.connect() as connection:
        found = adopt.inspect(connection, plan.make(None, plan.history()[-1].id))
    kept = frozenset(state.key for state in found if state.is_kept)

    def step(revision, way, look):
        with engine.begin() as connection:
            connection.exec_driver_sql("SET LOCAL search_path = public")
            context = MigrationContext.configure(connection, opts={"preexisting": kept})
            with Operations.context(context):
                getattr(plan.scripts().get_revision(revision.id).module, way)()
            connection.exec_driver_sql("SET CONSTRAINTS ALL IMMEDIATE")
            return look(connection)

    return step


def structure(connection):
    """Return everything that is there."""
    return {key: catalog.definition_of(found) for key, found in catalog.read(connection).items()}


def strongest_locks(connection):
    """Return the strongest lock that this transaction holds on each legacy table."""
    strongest: dict[str, int] = {}
    for table, mode in connection.execute(_TAKEN, {"tables": LEGACY_TABLES}):
        strongest[table] = max(strongest.get(table, 0), MODES.index(mode))
    return strongest


def test_every_revision_goes_up_down_and_up_again(take):
    """Each by itself, with rows: down leaves what was there before it, up again makes the same once more."""
    before = take(plan.history()[0], "upgrade", structure)
    for revision in plan.history():
        name = revision.path.name
        made = take(revision, "upgrade", structure)
        assert take(revision, "downgrade", structure) == before, f"{name}: downgrade() leaves a trace"
        assert take(revision, "upgrade", structure) == made, f"{name}: up again is not what it was the first time"
        before = made


def test_declared_locks_are_those_that_are_taken(take):
    """No revision takes a lock on a legacy table that it does not declare, or a stronger one; none says too much."""
    for revision in plan.history():
        name = revision.path.name
        taken = take(revision, "upgrade", strongest_locks)
        declared = {
            table: MODES.index(mode.title().replace(" ", "") + "Lock") for table, mode in revision.locks.items()
        }
        for table, mode in taken.items():
            # To read is allowed without a word: everything takes ACCESS SHARE, and nothing waits for it.
            assert mode <= declared.get(table, 0), f"{name}: {MODES[mode]} on {table}, declared {revision.locks}"
        for table, mode in declared.items():
            if table in LEGACY_TABLES and revision is not plan.history()[0]:
                assert table in taken, f"{name}: declares a lock on {table}, takes none"
            if mode == len(MODES) - 1:
                assert taken[table] == mode, f"{name}: declares {revision.locks[table]} on {table}, needs less"


@pytest.mark.variant
def test_all_the_way_down_leaves_no_trace(make_database, legacy_template, monkeypatch):
    """To the baseline and up again: rows, files and triggers of others are the same throughout."""
    server = make_database(legacy_template)
    before = picture(server)
    monkeypatch.setenv("DATABASE_URL", url_of(server))
    for way, revision in (("upgrade", "head"), ("downgrade", "baseline"), ("upgrade", "head")):
        getattr(command, way)(plan.alembic_config(), revision)
        assert before.lost(picture(server, without=NEW_USER_COLUMNS)) == [], way
