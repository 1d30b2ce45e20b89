"""Backups against the odds: killed at any step, two at once, a full disk, very many and very big things."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import textwrap
import time
from collections import defaultdict
from contextlib import ExitStack
from functools import partial

import psycopg2
import pytest

from rollout import restore, scratch
from rollout.backup import create, list_backups, verify
from rollout.backups.proof import read_proof
from rollout.embedded import EmbeddedServer
from rollout.errors import BackupFailed, RestoreFailed, RolloutError
from rollout.run import Run
from rollout.settings import PROJECT
from tests.fixtures.databases import execute, query, url_of
from tests.fixtures.listening import Notes
from tests.fixtures.servers import in_memory

SMALL = ("CREATE TABLE t (a int PRIMARY KEY)", "INSERT INTO t SELECT generate_series(1, 100)")


@pytest.fixture
def small(database):
    """Return a database with one small table."""
    execute(database, *SMALL)
    return database


@pytest.fixture(scope="module")
def undisturbed():
    """Yield a server where no other test's run tidies up what a killed one has left."""
    with EmbeddedServer(directory=in_memory(), fast=True) as server:
        yield server.server()


@pytest.fixture
def alone(undisturbed):
    """Yield a database with one small table, on a server that nobody else uses."""
    execute(undisturbed, "CREATE DATABASE small")
    server = undisturbed.to_database("small")
    execute(server, *SMALL)
    yield server
    execute(undisturbed, "DROP DATABASE small")


def relatives(server):
    """Return the names of the databases that proofs and restores of this one made."""
    names = f"SELECT datname FROM pg_database WHERE datname LIKE '{server.database}\\_\\_%' ORDER BY 1"
    return query(server.to_database("postgres"), f"SELECT array({names})::text[]")


def started(server, settings, code):
    """Start Python that may kill itself: `settings` and `die` are there; return the process."""
    before = """
        import importlib, os
        from pathlib import Path
        from rollout import backup, databases, restore
        from rollout.errors import RolloutError
        from rollout.run import Run
        from rollout.settings import Server, Settings
        settings = Settings(Server.from_url("DATABASE_URL", os.environ["URL"]), None, Path(os.environ["VAR"]))
        def die(*_, **__):
            os.kill(os.getpid(), 9)
    """
    environment = {**os.environ, "URL": url_of(server), "VAR": str(settings.directory)}
    whole = textwrap.dedent(before) + textwrap.dedent(code)
    return subprocess.Popen([sys.executable, "-c", whole], cwd=PROJECT, env=environment)


def until(question, seconds=10):
    """Wait until a question is answered with yes."""
    end = time.monotonic() + seconds
    while not question():
        assert time.monotonic() < end
        time.sleep(0.05)


# Killed

# Where a run is killed: the function that kills it, whether a backup is there then, and a scratch database.
STEPS = [
    ("backups.dump.run_tool", False, False),
    ("backups.dump.read", False, False),
    ("backups.dump.hash_files", False, False),
    ("backup._publish", False, False),
    ("scratch.database", True, False),
    ("backups.prove.restore_archive", True, True),
    ("backups.prove.differences", True, True),
    ("scratch._drop", True, True),
    ("backups.prove.conclude", True, False),
]
ALWAYS = {"backups.dump.run_tool", "backups.prove.restore_archive"}


@pytest.mark.parametrize(
    ("step", "made", "left"),
    [pytest.param(*one, marks=[] if one[0] in ALWAYS else pytest.mark.variant, id=one[0]) for one in STEPS],
)
def test_killed_at_any_step(alone, settings_for, step, made, left):
    """After kill -9: the database as it was, a backup that is whole or none, never a proof; the next run tidies up."""
    settings = settings_for(alone)
    module, _, name = step.rpartition(".")
    process = started(
        alone, settings,
        f'importlib.import_module("rollout.{module}").{name} = die\n'
        'backup.create(settings, Run("backup create"), prove=True)\n',
    )  # fmt: skip
    assert process.wait(60) == -signal.SIGKILL
    found = list_backups(settings.backups)
    assert [(one.proven, one.problem) for one in found] == [(False, None)] * made
    assert bool(relatives(alone)) is left
    assert query(alone, "SELECT count(*) FROM t") == 100
    for one in found:
        verify(one.path, run=Run("backup verify"), quick=True)

    until(lambda: query(alone, f"SELECT count(*) FROM pg_stat_activity WHERE datname LIKE '{alone.database}%'") == 1)
    ear = Notes()
    again = create(settings, Run("backup create", listener=ear), prove=True)
    assert again.proof is not None
    assert relatives(alone) == []
    assert [path for path in settings.backups.iterdir() if path.name.startswith(".")] == []
    assert any("which a killed run had left" in note for note in ear.notes) is (left or not made)


@pytest.mark.parametrize(
    "step",
    [
        pytest.param("backup.check", marks=pytest.mark.variant),
        "backups.prove.restore_archive",
        pytest.param("backups.proof.fsync", marks=pytest.mark.variant),
    ],
)
def test_killed_while_it_is_proven_again(alone, settings_for, step):
    """After kill -9 in `backup verify`: the backup keeps the proof that it had, and can be proven again."""
    settings = settings_for(alone)
    path = create(settings, Run("backup create"), prove=True).path
    module, _, name = step.rpartition(".")
    code = f"""
        importlib.import_module("rollout.{module}").{name} = die
        backup.verify(Path({str(path)!r}), run=Run("backup verify"), settings=settings)
    """
    assert started(alone, settings, code).wait(60) == -signal.SIGKILL
    assert read_proof(path) is not None
    until(lambda: query(alone, f"SELECT count(*) FROM pg_stat_activity WHERE datname LIKE '{alone.database}%'") == 1)
    assert verify(path, run=Run("backup verify"), settings=settings).proof is not None
    assert relatives(alone) == []


def comment_of(server):
    """Return the comment of a database."""
    return query(server, "SELECT shobj_description(oid, 'pg_database') FROM pg_database"
                         " WHERE datname = current_database()")  # fmt: skip


def test_a_marked_database_of_another_name_stays(alone, settings_for):
    """A killed restore's copy that somebody renamed into place is live: it stays, and no restore marks it again."""
    copy = f"{alone.database}__restored_20260101T000000"
    admin = alone.to_database("postgres")
    execute(
        admin,
        f'CREATE DATABASE "{copy}" TEMPLATE {alone.database}',
        f"COMMENT ON DATABASE \"{copy}\" IS '{scratch.MARK}'",
        f"DROP DATABASE {alone.database}",
        f'ALTER DATABASE "{copy}" RENAME TO {alone.database}',
    )
    settings, ear = settings_for(alone), Notes()
    path = create(settings, Run("backup create", listener=ear), prove=True).path
    assert query(alone, "SELECT count(*) FROM t") == 100
    assert any(f"COMMENT ON DATABASE {alone.database} IS NULL;" in note for note in ear.notes)
    assert comment_of(alone) == scratch.MARK
    run = Run("restore")
    restore.restore(settings, run, path, confirm=lambda _: True)
    execute(admin, run.result["drop_replaced"])
    assert query(alone, "SELECT count(*) FROM t") == 100
    assert comment_of(alone) is None


# Two at once


@pytest.mark.variant
@pytest.mark.parametrize(
    ("runs", "moment"),
    [(2, "'20260101T000000'"), (4, "f'20260101T{os.getpid() % 1000000:06}'")],
    ids=["one scratch name", "different names"],
)
def test_proofs_side_by_side(small, settings_for, runs, moment):
    """Several runs prove one backup at the same time: all say proven, and nothing stays."""
    settings = settings_for(small)
    path = create(settings, Run("backup create")).path
    code = f"""
        databases.name_for = lambda dbname, purpose: dbname + "__proof_" + {moment}
        made = backup.verify(Path({str(path)!r}), run=Run("backup verify"), settings=settings)
        raise SystemExit(0 if made.proof is not None else 1)
    """
    processes = [started(small, settings, code) for _ in range(runs)]
    assert [process.wait(120) for process in processes] == [0] * runs
    assert read_proof(path) is not None
    assert relatives(small) == []


@pytest.mark.variant
def test_two_restores_that_begin_together(small, settings_for):
    """One swaps its copy in, the other is refused with exit code 5 and leaves nothing."""
    settings = settings_for(small)
    path = create(settings, Run("backup create")).path
    execute(small, "DELETE FROM t WHERE a > 40")
    code = f"""
        import time
        try:
            restore.restore(settings, Run("restore"), Path({str(path)!r}), confirm=lambda _: not time.sleep(3))
        except RolloutError as error:
            raise SystemExit(error.exit_code)
    """
    processes = [started(small, settings, code) for _ in range(2)]
    assert sorted(process.wait(60) for process in processes) == [0, 5]
    assert query(small, "SELECT count(*) FROM t") == 100
    [replaced] = relatives(small)
    assert "__replaced_" in replaced
    assert query(small.to_database(replaced), "SELECT count(*) FROM t") == 40
    execute(small.to_database("postgres"), f'DROP DATABASE "{replaced}"')


# A server of our own that is short of room, or loses a process


@pytest.fixture
def cramped():
    """Yield a server that can write no file beyond 20 MB: a full disk, as far as its tables are concerned."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    with ExitStack() as stack:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20 * 2**20, before[1]))  # the server inherits it
        try:
            server = stack.enter_context(EmbeddedServer(directory=in_memory(), fast=True))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        yield server.server("postgres")


@pytest.mark.variant
def test_server_without_room_for_the_copy(small, cramped, settings_for):
    """The server cannot write the copy any further: said in one line, not proven, nothing left, all untouched."""
    execute(
        small, "CREATE TABLE big AS SELECT i, repeat(md5(i::text), 30) AS b FROM generate_series(1, 40000) i",
    )  # fmt: skip
    path = create(settings_for(small), Run("backup create")).path
    execute(cramped, "CREATE DATABASE shop")
    shop = cramped.to_database("shop")
    execute(shop, "CREATE TABLE mine AS SELECT 1 AS a")
    for error, work in (
        (BackupFailed, lambda: verify(path, run=Run("backup verify"), settings=settings_for(small), on=url_of(shop))),
        (RestoreFailed, lambda: restore.restore(settings_for(shop), Run("restore"), path, confirm=lambda _: True)),
    ):
        with pytest.raises(error, match="could not extend file") as caught:
            work()
        assert caught.value.database == "untouched"
        assert "\n" not in caught.value.message
        assert caught.value.hint
        assert query(cramped, "SELECT string_agg(datname, ' ' ORDER BY datname) FROM pg_database") == (
            "postgres shop template0 template1"
        )
    assert read_proof(path) is None
    assert query(shop, "SELECT count(*) FROM mine") == 1


@pytest.fixture
def own():
    """Yield a server of the test's own with a database `shop`."""
    with EmbeddedServer(directory=in_memory(), options={"fsync": "off"}) as server:
        execute(server.server(), "CREATE DATABASE shop")
        execute(server.server("shop"), "CREATE TABLE t AS SELECT generate_series(1, 40000) a")
        yield server


@pytest.mark.variant
@pytest.mark.parametrize("where", ["backups.dump.run_tool", "backups.prove.restore_archive", "restore.swap"])
def test_a_killed_process_of_the_server(own, settings_for, monkeypatch, where):
    """After kill -9 of one backend, as when memory is short: the server restarts, the original is whole."""
    shop = own.server("shop")
    settings = settings_for(shop)
    path = create(settings, Run("backup create")).path
    module, _, name = f"rollout.{where}".rpartition(".")
    real = getattr(sys.modules[module], name)

    def kill(*args, **keywords):
        monkeypatch.undo()
        victim = psycopg2.connect(**shop.parameters)
        os.kill(victim.info.backend_pid, signal.SIGKILL)
        time.sleep(0.5)
        return real(*args, **keywords)

    monkeypatch.setattr(sys.modules[module], name, kill)
    work = defaultdict(lambda: partial(create, prove=True))
    work["rollout.restore"] = partial(restore.restore, path=path, confirm=lambda _: True)
    with pytest.raises(RolloutError) as caught:
        work[module](settings, Run("backup create"))
    assert "\n" not in caught.value.message

    def answers():
        try:
            return query(shop, "SELECT count(*) FROM t") == 40000
        except psycopg2.OperationalError:
            return False

    until(answers, 30)
    assert not any("__replaced_" in name for name in relatives(shop))
    assert [one.proven for one in list_backups(settings.backups)] == [False] * len(list_backups(settings.backups))
    time.sleep(1)  # names are made of seconds
    run = Run("restore")
    restore.restore(settings, run, path, confirm=lambda _: True)
    assert relatives(shop) == [run.result["replaced_database"]]


# Very many, very big, nothing at all


def brought_back(server, settings):
    """Back up, prove and restore; return the backup; the replaced database is dropped."""
    made = create(settings, Run("backup create"), prove=True)
    run = Run("restore")
    restore.restore(settings, run, made.path, confirm=lambda _: True)
    execute(server.to_database("postgres"), run.result["drop_replaced"])
    return made


@pytest.mark.variant
def test_nothing_at_all(database, settings_for):
    """A database without a table is restored too."""
    assert brought_back(database, settings_for(database)).proof.tables == 0


@pytest.mark.variant
def test_two_thousand_tables(database, settings_for):
    """2,000 tables with a row each are all backed up, proven, restored."""
    execute(
        database,
        "DO $$BEGIN FOR i IN 1..2000 LOOP"
        " EXECUTE format('CREATE TABLE t%s (a int PRIMARY KEY)', i); EXECUTE format('INSERT INTO t%s VALUES (1)', i);"
        " IF i % 100 = 0 THEN COMMIT; END IF;"
        " END LOOP; END$$",
    )
    made = brought_back(database, settings_for(database))
    assert (made.proof.tables, made.proof.rows) == (2000, 2000)
    assert query(database, "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == 2000


@pytest.mark.variant
def test_a_value_of_a_hundred_megabytes(database, settings_for):
    """100 MB in one value, as text, bytes and a large object, come back."""
    execute(
        database,
        "CREATE TABLE t (a text, b bytea)",
        "INSERT INTO t SELECT x, convert_to(x, 'UTF8') FROM (SELECT repeat(md5('a'), 3276800) AS x) AS one",
        "SELECT lo_from_bytea(1, b) FROM t",
    )
    size = 104_857_600
    assert query(database, "SELECT length(a) FROM t") == size
    brought_back(database, settings_for(database))
    assert query(database, f"SELECT a = repeat(md5('a'), 3276800) AND length(b) = {size} FROM t") is True
    assert query(database, "SELECT md5(lo_get(1)) = md5(b) FROM t") is True


def test_room_is_looked_at_where_it_can_be_seen(small, settings_for, monkeypatch):
    """A server's disk that is visibly too small: refused before the dump, with the figures."""
    monkeypatch.setattr(scratch, "room_of", lambda _: 5 * 2**20)
    monkeypatch.setattr("rollout.backup._dumped", lambda *_: pytest.fail("it was dumped all the same"))
    with pytest.raises(BackupFailed, match="5 MB free; one more copy of the database needs"):
        create(settings_for(small), Run("backup create"), prove=True)
