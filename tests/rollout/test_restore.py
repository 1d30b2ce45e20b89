"""Restore: a new database, swapped in by name; whatever fails before leaves the original as it was."""

import importlib
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from dataclasses import replace

import psycopg2
import pytest
from sqlalchemy.exc import OperationalError

from rollout import contents, databases, memory, restore, restore_obstacles, restore_swap
from rollout.backup import create, list_backups
from rollout.backups import changes as backup_changes
from rollout.backups.compare import differences
from rollout.database import engine_for, run_lock
from rollout.definitions import canonical
from rollout.embedded import EmbeddedServer
from rollout.errors import BackupFailed, Interrupted, LockNotAcquired, PartialChange, RestoreFailed, RolloutError
from rollout.run import Run
from rollout.settings import PROJECT, Server
from rollout.snapshot import snapshot
from tests.fixtures.databases import execute, properties_of, query, url_of
from tests.fixtures.legacy import blocks_of, dump
from tests.fixtures.listening import Notes
from tests.fixtures.servers import in_memory
from tests.fixtures.tiers import tried_once

ODD = (PROJECT / "tests" / "fixtures" / "odd_database.sql").read_text(encoding="utf-8")


def family(server, name):
    """Return the databases that belong to one: itself, and what restores and proofs made of it."""
    maintenance = server.to_database("postgres")
    pattern = name.replace("'", "''").replace("%", "\\%").replace("_", "\\_")
    listed = query(
        maintenance,
        f"SELECT string_agg(datname, '\x01' ORDER BY datname) FROM pg_database WHERE datname LIKE '{pattern}%'",
    )
    return listed.split("\x01") if listed else []


def drop(server, name):
    """Drop one of these databases, whoever is in it."""
    quoted, literal = '"' + name.replace('"', '""') + '"', "'" + name.replace("'", "''") + "'"
    end = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = {literal}"
    execute(server.to_database("postgres"), end, f"DROP DATABASE {quoted}")


@pytest.fixture
def tidy():
    """Return what notes a database whose relatives are dropped afterwards."""
    noted = []
    yield lambda server: noted.append(server) or server
    for server in noted:
        for name in family(server, server.database):
            if name != server.database:
                drop(server, name)


@pytest.fixture
def target(database, tidy):
    """Return a database with 100 rows."""
    execute(
        database,
        "CREATE TABLE t (a int PRIMARY KEY, b text)",
        "INSERT INTO t SELECT i, 'x' FROM generate_series(1, 100) i",
    )
    return tidy(database)


@pytest.fixture
def saved(target, settings_for):
    """Return settings and the path of a backup, after which the database has changed."""
    settings = settings_for(target)
    path = create(settings, Run("backup create")).path
    execute(target, "DELETE FROM t WHERE a > 40", "CREATE TABLE later (a int)", "INSERT INTO later VALUES (1), (2)")
    return settings, path


def yes(_):
    """Confirm."""
    return True


def is_untouched(target):
    """Tell whether the database is as it was before a restore that failed, and alone."""
    return (
        query(target, "SELECT count(*) FROM t") == 40
        and query(target, "SELECT count(*) FROM later") == 2
        and family(target, target.database) == [target.database]
    )


# Restoring


def test_restored_and_the_replaced_one_is_kept(saved, target):
    """The backup's rows are back under the name; the other database is there under its own, and can be swapped back."""
    settings, path = saved
    run = Run("restore")
    plans = []
    restore.restore(settings, run, path, confirm=lambda plan: plans.append(plan) or True)
    assert run.database == "restored"
    assert query(target, "SELECT count(*) FROM t") == 100
    replaced = run.result["replaced_database"]
    assert replaced.startswith(f"{target.database}__replaced_")
    assert query(target.to_database(replaced), "SELECT count(*) FROM later") == 2
    changes = {(change.name, change.rows_then, change.rows_now) for change in plans[0].changes}
    assert changes == {("t", 100, 40), ("later", None, 2)}
    told = "\n".join(plans[0].lines())
    assert "public.t: 100 rows in the backup, 40 today" in told
    assert f"will be kept as {replaced}" in told
    execute(target.to_database("postgres"), *run.result["swap_back"])
    assert query(target, "SELECT count(*) FROM t") == 40


@pytest.mark.variant
def test_replaced_one_can_be_dropped(saved, target):
    """The statement that is told drops the replaced database and nothing else."""
    settings, path = saved
    run = Run("restore")
    restore.restore(settings, run, path, confirm=yes)
    execute(target.to_database("postgres"), run.result["drop_replaced"])
    assert family(target, target.database) == [target.database]


def contents_of(server):
    """Read a database's contents."""
    with snapshot(engine_for(server), lock_timeout=5) as connection:
        return contents.read(connection, contents.relations(connection))


def whole_dump(server):
    """Return what pg_dump writes of a database, by what is made, and of its rows: not the product's way to compare.

    But for the two forms of one expression, a copy's dump has the same words.
    """
    definitions = blocks_of(dump(server, "--schema-only"))
    rows = sorted(dump(server, "--data-only", "--inserts").splitlines())
    return {header: [canonical(line) for line in lines] for header, lines in definitions.items()}, rows


@pytest.mark.parametrize("name", tried_once(["中文数据库" * 4, 'quo"ted %s :x', "a=b c'd"]))
def test_everything_comes_out_the_same(name, postgres, settings_for):
    """A bit of everything, in a database whose name needs care: content, owner, settings, grants, comment are back."""
    quoted, user = '"' + name.replace('"', '""') + '"', f"app_{os.getpid()}"
    execute(postgres.server, f"CREATE DATABASE {quoted} TEMPLATE template0", f'CREATE ROLE "{user}"')
    server = postgres.server.to_database(name)
    try:
        execute(server, ODD)
        execute(
            postgres.server,
            f'ALTER DATABASE {quoted} OWNER TO "{user}"',
            f"ALTER DATABASE {quoted} SET search_path = '', \"$user\", 'A b', public",
            f"ALTER DATABASE {quoted} SET work_mem = '7MB'",
            f'ALTER ROLE "{user}" IN DATABASE {quoted} SET app.x = \'100% "\\y\'',
            f"COMMENT ON DATABASE {quoted} IS 'it''s \\ 100% :here'",
            f"REVOKE ALL ON DATABASE {quoted} FROM PUBLIC",
            f'GRANT CREATE ON DATABASE {quoted} TO "{postgres.server.parameters["user"]}" WITH GRANT OPTION',
            f"ALTER DATABASE {quoted} CONNECTION LIMIT 50",
        )
        before, properties, dumped = contents_of(server), properties_of(server), whole_dump(server)
        settings = settings_for(server)
        run = Run("restore")
        restore.restore(settings, run, create(settings, Run("backup create")).path, confirm=yes)
        assert run.findings == []
        assert properties_of(server) == properties
        assert differences(before, contents_of(server)) == []
        assert whole_dump(server) == dumped
        assert len(family(server, name[:8])) == 2  # itself and the replaced one, its name cut to 63 bytes
    finally:
        for one in family(server, name[:8]):
            drop(server, one)
        execute(postgres.server, f'DROP ROLE "{user}"')


def test_database_that_is_gone(saved, target):
    """Somebody dropped the database: it is there again, and nothing had to be replaced."""
    settings, path = saved
    execute(target.to_database("postgres"), f"DROP DATABASE {target.database}")
    run, plans = Run("restore"), []
    restore.restore(settings, run, path, confirm=lambda plan: plans.append(plan) or True)
    assert query(target, "SELECT count(*) FROM t") == 100
    assert run.result["replaced_database"] is None
    assert "it will be there again" in plans[0].lines()[-1]


@pytest.mark.variant
def test_backup_of_another_database(saved, make_database, settings_for, tidy):
    """A backup can be restored under another name; the plan says what it is a backup of."""
    _, path = saved
    other = tidy(make_database())
    plans = []
    restore.restore(settings_for(other), Run("restore"), path, confirm=lambda plan: plans.append(plan) or True)
    assert query(other, "SELECT count(*) FROM t") == 100
    assert plans[0].backup_of.split("/")[-1] != other.database


@pytest.mark.variant
def test_sessions_that_come_back_are_no_obstacle(saved, target):
    """Clients that reconnect all the time: their sessions end, and they reach the restored database."""
    settings, path = saved
    stop, seen = threading.Event(), []

    def client():
        while not stop.is_set():
            try:
                connection = psycopg2.connect(**target.parameters)
                with connection.cursor() as cursor:
                    cursor.execute("SELECT count(*) FROM t")
                    seen.append(cursor.fetchone()[0])
                connection.close()
            except psycopg2.Error:  # noqa: PERF203 - it ended our session
                time.sleep(0.02)

    clients = [threading.Thread(target=client) for _ in range(3)]
    for one in clients:
        one.start()
    try:
        restore.restore(settings, Run("restore"), path, confirm=yes)
        time.sleep(0.3)
    finally:
        stop.set()
        for one in clients:
            one.join()
    assert set(seen) == {40, 100}
    assert seen == sorted(seen)


@pytest.mark.variant
def test_restore_is_remembered(target, settings_for):
    """Where the restored database has our memory, the restore stands in its history."""
    settings = settings_for(target)
    with memory.recorded(settings, Run("migrate")):
        pass
    path = create(settings, Run("backup create")).path
    run = Run("restore")
    restore.restore(settings, run, path, confirm=yes)
    assert run.recorded
    assert (
        query(target, "SELECT string_agg(command || ' ' || ok, ', ' ORDER BY number) FROM rollout.runs")
        == "migrate true, restore true"
    )
    assert run.as_json()["database"] == "restored"


@pytest.mark.variant
def test_table_that_cannot_be_read_does_not_stop_the_rescue(saved, target, settings_for):
    """A table of today that cannot be read (here: locked) is said, and the restore goes on."""
    _, path = saved
    plans = []
    other = psycopg2.connect(**target.parameters)
    try:
        other.cursor().execute("LOCK TABLE t IN ACCESS EXCLUSIVE MODE")
        settings = settings_for(target, lock_timeout=0.3)
        restore.restore(settings, Run("restore"), path, confirm=lambda plan: plans.append(plan) or True)
    finally:
        other.close()
    assert "public.t: cannot be read: canceling statement due to lock timeout" in "\n".join(plans[0].lines())
    assert query(target, "SELECT count(*) FROM t") == 100


def test_database_that_lets_nobody_in(saved, target):
    """A target that nobody may connect to is replaced too: no session is in it, not one less than none."""
    settings, path = saved
    execute(target.to_database("postgres"), f"ALTER DATABASE {target.database} ALLOW_CONNECTIONS false")
    plans = []
    restore.restore(settings, Run("restore"), path, confirm=lambda plan: plans.append(plan) or True)
    assert f"0 sessions in {target.database} will be ended" in plans[0].lines()
    assert query(target, "SELECT count(*) FROM t") == 100


def test_changes_are_counted_row_by_row(saved, target):
    """New, changed and lost rows of today are counted by content; twins count one by one; another column shows too."""
    settings, path = saved
    execute(
        target, "DROP TABLE later", "TRUNCATE t", "ALTER TABLE t DROP CONSTRAINT t_pkey",
        "INSERT INTO t SELECT i, CASE WHEN i < 4 THEN 'y' ELSE 'x' END FROM generate_series(1, 90) i",
        "INSERT INTO t VALUES (90, 'x'), (90, 'x'), (1000, NULL)",
    )  # fmt: skip
    plans = []
    restore.restore(settings, Run("restore"), path, confirm=lambda plan: plans.append(plan) or True)
    told = "\n".join(plans[0].lines())
    assert "public.t: 100 rows in the backup, 93 today: 6 new or changed, 13 gone or changed" in told


@pytest.mark.variant
def test_too_many_rows_to_count(saved, target, monkeypatch):
    """Where there are too many rows to count one by one, a table with as many rows is told as such."""
    settings, path = saved
    execute(target, "TRUNCATE t", "INSERT INTO t SELECT i, 'y' FROM generate_series(1, 100) i", "DROP TABLE later")
    monkeypatch.setattr(backup_changes, "_COUNTED", 10)
    plans = []
    restore.restore(settings, Run("restore"), path, confirm=lambda plan: plans.append(plan) or True)
    assert "  public.t: 100 rows as in the backup, some with other content" in plans[0].lines()


# Refused, failed, interrupted


def test_answer_no(saved, target):
    """Without a yes nothing happens: exit code 130, and the new database is gone."""
    settings, path = saved
    with pytest.raises(Interrupted) as caught:
        restore.restore(settings, Run("restore"), path, confirm=lambda _: False)
    assert (caught.value.exit_code, caught.value.database) == (130, "untouched")
    assert is_untouched(target)


@pytest.mark.parametrize("error", tried_once([KeyboardInterrupt, SystemExit, RuntimeError]))
def test_anything_that_goes_wrong_in_between(saved, target, error):
    """Ctrl-C, or even a bug, while it asks: the new database is dropped, the original is as it was."""
    settings, path = saved

    def confirm(_):
        raise error

    with pytest.raises(error):
        restore.restore(settings, Run("restore"), path, confirm=confirm)
    assert is_untouched(target)


def test_damaged_backup(saved, target):
    """A file that is cut is found before any database is made: exit code 7."""
    settings, path = saved
    victim = next(path.glob("dump/*.dat.gz"))
    victim.write_bytes(victim.read_bytes()[:-3])
    with pytest.raises(BackupFailed):
        restore.restore(settings, Run("restore"), path, confirm=yes)
    assert is_untouched(target)


def test_failing_pg_restore(saved, target, monkeypatch):
    """When pg_restore fails: exit code 11, its reason in one line, nothing left behind."""
    settings, path = saved
    monkeypatch.setattr("rollout.backups.prove.restore_archive", lambda *_, **__: "pg_restore: disk full")
    with pytest.raises(RestoreFailed) as caught:
        restore.restore(settings, Run("restore"), path, confirm=yes)
    assert caught.value.exit_code == 11
    assert "disk full" in caught.value.message
    assert is_untouched(target)


def test_content_that_differs(saved, target, monkeypatch):
    """What was restored is not what was backed up: exit code 11, with findings, and no swap."""
    settings, path = saved
    real = restore.fill

    def fill(run, there, path, manifest, *args, **keywords):
        manifest.contents.tables[0] = replace(manifest.contents.tables[0], rows=99)
        return real(run, there, path, manifest, *args, **keywords)

    monkeypatch.setattr(restore, "fill", fill)
    with pytest.raises(RestoreFailed) as caught:
        restore.restore(settings, Run("restore"), path, confirm=yes)
    assert [finding.subject for finding in caught.value.findings] == ["public.t"]
    assert is_untouched(target)


def test_two_restores_at_once(saved, target):
    """The second one is refused at once: exit code 5."""
    settings, path = saved
    with (
        run_lock(engine_for(target.to_database("postgres")), restore.restore_key(target.database)),
        pytest.raises(LockNotAcquired),
    ):
        restore.restore(settings, Run("restore"), path, confirm=yes)
    assert is_untouched(target)


@pytest.mark.variant
def test_restore_of_another_database_meanwhile(saved, target):
    """It is nobody's business what is restored beside, on the same server."""
    settings, path = saved
    engine = engine_for(target.to_database("postgres"))
    with run_lock(engine), run_lock(engine, restore.restore_key("another")):
        restore.restore(settings, Run("restore"), path, confirm=yes)
    assert query(target, "SELECT count(*) FROM t") == 100


@pytest.mark.variant
def test_restore_while_another_command_runs(saved, target):
    """A run that holds the target's own lock (`migrate`) is not torn down: exit code 5."""
    settings, path = saved
    with run_lock(engine_for(target)), pytest.raises(LockNotAcquired):
        restore.restore(settings, Run("restore"), path, confirm=yes)
    assert is_untouched(target)


def test_prepared_transactions_are_said_before_anything_is_made(saved, target, monkeypatch):
    """A prepared transaction keeps a database from being renamed: refused at once, with the statements to type."""
    settings, path = saved
    monkeypatch.setattr(restore_obstacles, "prepared", lambda *_: ["it's one", "two"])
    monkeypatch.setattr(databases, "create", lambda *_: pytest.fail("it was made all the same"))
    with pytest.raises(RestoreFailed) as caught:
        restore.restore(settings, Run("restore"), path, confirm=yes)
    assert "2 prepared transactions" in caught.value.message
    assert "ROLLBACK PREPARED 'it''s one';" in caught.value.hint
    assert is_untouched(target)


@pytest.fixture(scope="module")
def own_server():
    """Return a server that tests may stop, with logical replication and prepared transactions."""
    # not "fast": a crash may lose what was committed just before, as the mark of a database
    options = {"max_prepared_transactions": "2", "wal_level": "logical", "fsync": "off"}
    with EmbeddedServer(directory=in_memory(), options=options) as server:
        yield server


@pytest.fixture
def stoppable(own_server, settings_for):
    """Return a database there that changed after its backup, settings, and the backup's path."""
    target = own_server.server("shop")
    execute(own_server.server(), "CREATE DATABASE shop")
    execute(target, "CREATE TABLE t (a int)", "INSERT INTO t SELECT generate_series(1, 100)")
    settings = settings_for(target)
    path = create(settings, Run("backup create")).path
    execute(target, "DELETE FROM t WHERE a > 40", "CREATE TABLE later AS SELECT generate_series(1, 2)")
    yield target, settings, path
    if own_server.pid is None:
        own_server.start()
    for name in family(target, "shop"):
        execute(own_server.server(), f'DROP DATABASE "{name}"')


@pytest.mark.variant
def test_real_prepared_transactions_and_slots(stoppable):
    """A real prepared transaction stops the restore; a slot stays with the replaced database, and that is told."""
    target, settings, path = stoppable
    execute(target, "SELECT pg_create_logical_replication_slot('feed', 'pgoutput')")
    connection = psycopg2.connect(**target.parameters)
    connection.tpc_begin("held")
    connection.cursor().execute("INSERT INTO t VALUES (0)")
    connection.tpc_prepare()
    connection.close()
    with pytest.raises(RestoreFailed) as caught:
        restore.restore(settings, Run("restore"), path, confirm=yes)
    assert caught.value.message.endswith(": held")
    assert is_untouched(target)
    execute(target, "ROLLBACK PREPARED 'held'")
    plans, run = [], Run("restore")
    restore.restore(settings, run, path, confirm=lambda plan: plans.append(plan) or True)
    assert any(line.startswith("replication slots stay with") and "feed" in line for line in plans[0].lines())
    assert query(target, "SELECT count(*) FROM t") == 100
    assert query(target, "SELECT database FROM pg_replication_slots") == run.result["replaced_database"]
    execute(target, "SELECT pg_drop_replication_slot('feed')")


@pytest.fixture
def subscribed(stoppable, own_server):
    """Return a database with a subscription at work, and how to drop it from whatever its database is called."""
    target, _, _ = stoppable
    publisher = own_server.server()
    reached = " ".join(f"{key}={value}" for key, value in publisher.parameters.items())
    execute(publisher, "CREATE PUBLICATION news FOR ALL TABLES")
    execute(publisher, "SELECT pg_create_logical_replication_slot('news', 'pgoutput')")
    execute(
        target,
        f"CREATE SUBSCRIPTION \"the news\" CONNECTION '{reached}' PUBLICATION news"
        " WITH (create_slot = false, slot_name = 'news')",
    )
    yield target
    named = "SELECT datname FROM pg_subscription JOIN pg_database d ON d.oid = subdbid"
    for statement in ("DISABLE", "SET (slot_name = NONE)"):
        execute(own_server.server(query(publisher, named)), f'ALTER SUBSCRIPTION "the news" {statement}')
    execute(own_server.server(query(publisher, named)), 'DROP SUBSCRIPTION "the news"')
    while query(publisher, "SELECT active FROM pg_replication_slots WHERE slot_name = 'news'"):
        time.sleep(0.1)
    execute(publisher, "SELECT pg_drop_replication_slot('news')", "DROP PUBLICATION news")


def test_a_subscription_at_work_is_said_before_anything_is_made(stoppable, subscribed, monkeypatch):
    """Its worker cannot be ended for good: refused at once; once it is disabled, the plan says that it stays behind."""
    target, settings, path = stoppable
    with monkeypatch.context() as patch:
        patch.setattr(databases, "create", lambda *_: pytest.fail("it was made all the same"))
        with pytest.raises(RestoreFailed) as caught:
            restore.restore(settings, Run("restore"), path, confirm=yes)
    assert caught.value.message.endswith("keep it from being renamed: the news")
    assert caught.value.hint == 'In shop: ALTER SUBSCRIPTION "the news" DISABLE; then run this again.'
    assert is_untouched(subscribed)
    execute(target, 'ALTER SUBSCRIPTION "the news" DISABLE')
    plans = []
    restore.restore(settings, Run("restore"), path, confirm=lambda plan: plans.append(plan) or True)
    assert any(line.startswith("subscriptions stay with") and "the news" in line for line in plans[0].lines())
    assert query(target, "SELECT count(*) FROM t") == 100


STEPS = ["restore_archive", "differences", "analyze", "_changes", "_give", "swap"]
SAMPLE = {("swap", True)}


@pytest.mark.variant
@pytest.mark.parametrize(
    ("step", "crash"),
    [
        pytest.param(step, crash, marks=[] if (step, crash) in SAMPLE else pytest.mark.variant)
        for step in STEPS
        for crash in (True, False)
    ],
)
def test_server_or_run_ends_at_any_step(stoppable, own_server, monkeypatch, step, crash):
    """The server goes down, or we are killed, at each step of a restore: the original stays, the next run cleans up."""
    target, settings, path = stoppable
    where = {"restore_archive": "backups.prove", "differences": "backups.prove", "swap": "restore"}.get(step, "restore")
    if crash:
        module = importlib.import_module(f"rollout.{where}")
        real = getattr(module, step)

        def down(*args, **keywords):
            own_server.stop(immediate=True)
            return real(*args, **keywords)

        monkeypatch.setattr(module, step, down)
        monkeypatch.setattr(restore_swap, "_ASK_SECONDS", 0.01)
        with pytest.raises(RolloutError) as caught:
            restore.restore(settings, Run("restore"), path, confirm=yes)
        assert caught.value.exit_code in {4, 11, 20}
        assert "\n" not in caught.value.message
        monkeypatch.undo()
        own_server.start()
    else:
        code = f"""
            import os
            from pathlib import Path
            from rollout import restore
            import rollout.{where} as module
            from rollout.run import Run
            from rollout.settings import Server, Settings
            module.{step} = lambda *_, **__: os.kill(os.getpid(), 9)
            settings = Settings(Server.from_url("DATABASE_URL", os.environ["URL"]), None, Path("unused"))
            restore.restore(settings, Run("restore"), Path("{path}"), confirm=lambda _: True)
        """
        environment = {**os.environ, "URL": url_of(target)}
        ended = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], cwd=PROJECT, check=False, env=environment)
        assert ended.returncode == -signal.SIGKILL
        time.sleep(0.3)
    assert query(target, "SELECT count(*) FROM t") == 40
    assert query(target, "SELECT count(*) FROM later") == 2
    time.sleep(1)  # names are made of seconds
    ear = Notes()
    restore.restore(settings, Run("restore", listener=ear), path, confirm=yes)
    assert any("which a killed run had left" in note for note in ear.notes)
    assert query(target, "SELECT count(*) FROM t") == 100
    assert ["__restored_" in name for name in family(target, "shop")] == [False, False]


@pytest.mark.parametrize(
    "step", tried_once(["backups.prove.restore_archive", "backups.dump.read", "backups.dump.run_tool"])
)
def test_server_goes_down_in_a_backup_or_its_proof(stoppable, own_server, monkeypatch, step):
    """The server goes down during the dump or the proof: exit code 7 or 4 in one line, and no half backup."""
    _, settings, path = stoppable
    module, _, name = f"rollout.{step}".rpartition(".")
    real = getattr(importlib.import_module(module), name)

    def down(*args, **keywords):
        own_server.stop(immediate=True)
        return real(*args, **keywords)

    monkeypatch.setattr(importlib.import_module(module), name, down)
    with pytest.raises(RolloutError) as caught:
        create(settings, Run("backup create"), prove=True)
    assert caught.value.exit_code in {4, 7}
    assert "\n" not in caught.value.message
    left = [one for one in path.parent.iterdir() if one != path]
    assert len(left) == ("prove" in step)
    assert [one.proven for one in list_backups(path.parent)] == [False] * (1 + len(left))


@pytest.fixture
def owner(postgres, make_database, tidy):
    """Return how an ordinary role, with CREATEDB, reaches a database of its own."""
    name = f"owner_{os.getpid()}"
    server = tidy(make_database())
    execute(
        postgres.server,
        f"CREATE ROLE {name} LOGIN CREATEDB PASSWORD 'p'",
        f"ALTER DATABASE {server.database} OWNER TO {name}",
    )
    if postgres.major >= 15:  # before, PUBLIC may create there, and only a superuser could grant it again in a copy
        execute(server, f"GRANT ALL ON SCHEMA public TO {name}")
    own = Server("DATABASE_URL", {**server.parameters, "user": name, "password": "p"})
    execute(
        own,
        "CREATE TABLE t (a int)",
        "INSERT INTO t SELECT generate_series(1, 40)",
        "CREATE TABLE later (a int)",
        "INSERT INTO later VALUES (1), (2)",
    )
    yield own
    for one in family(server, server.database):
        drop(server, one)
    execute(postgres.server, f"DROP ROLE {name}")


def test_ordinary_owner_can_restore(owner, settings_for):
    """No superuser is needed: the database's owner with CREATEDB backs up, proves and restores."""
    settings = settings_for(owner)
    path = create(settings, Run("backup create"), prove=True).path
    execute(owner, "DELETE FROM t")
    restore.restore(settings, Run("restore"), path, confirm=yes)
    assert query(owner, "SELECT count(*) FROM t") == 40


@pytest.mark.variant
def test_timeouts_of_the_role_do_not_hurry_us(owner, postgres, settings_for):
    """A role whose statements end after a moment can still make a proven backup, and restore it."""
    execute(owner, "CREATE TABLE large AS SELECT i, md5(i::text) FROM generate_series(1, 300000) i")
    execute(postgres.server, f"ALTER ROLE {owner.parameters['user']} SET statement_timeout = '100ms'")
    settings = settings_for(owner)
    path = create(settings, Run("backup create"), prove=True).path
    restore.restore(settings, Run("restore"), path, confirm=yes)
    assert query(owner, "SELECT count(*) FROM t") == 40


def test_without_createdb(owner, postgres, settings_for):
    """Without CREATEDB: refused with the exact statement to ask for, before anything is made."""
    settings = settings_for(owner)
    path = create(settings, Run("backup create")).path
    execute(postgres.server, f"ALTER ROLE {owner.parameters['user']} NOCREATEDB")
    with pytest.raises(RestoreFailed) as caught:
        restore.restore(settings, Run("restore"), path, confirm=yes)
    assert f"ALTER ROLE {owner.parameters['user']} CREATEDB;" in caught.value.hint
    assert is_untouched(owner)


@pytest.mark.variant
def test_database_of_somebody_else(owner, postgres, settings_for):
    """Only its owner may rename a database: refused before anything is made."""
    settings = settings_for(owner)
    path = create(settings, Run("backup create")).path
    execute(postgres.server, f"ALTER DATABASE {owner.database} OWNER TO {postgres.server.parameters['user']}")
    with pytest.raises(RestoreFailed) as caught:
        restore.restore(settings, Run("restore"), path, confirm=yes)
    assert "the owner of" in caught.value.message
    assert is_untouched(owner)


@pytest.mark.variant
def test_session_that_we_may_not_end(owner, postgres, settings_for):
    """A superuser's session in the database that an ordinary owner cannot end: exit code 11, and nothing happened."""
    settings = settings_for(owner)
    path = create(settings, Run("backup create")).path
    admin = psycopg2.connect(**postgres.server.to_database(owner.database).parameters)
    try:
        with pytest.raises(RestoreFailed) as caught:
            restore.restore(settings, Run("restore"), path, confirm=yes)
        admin.cursor().execute("SELECT 1")
    finally:
        admin.close()
    assert "pg_stat_activity" in caught.value.hint
    assert is_untouched(owner)


@pytest.mark.variant
def test_session_that_does_not_end(saved, target, monkeypatch):
    """A session that stays keeps the swap from happening: exit code 11, and nothing happened."""
    settings, path = saved
    monkeypatch.setattr(databases, "terminate", lambda *_: None)
    other = psycopg2.connect(**target.parameters)
    other.cursor().execute("SELECT 1")
    real = databases.swap
    monkeypatch.setattr(databases, "swap", lambda *args, **keywords: real(*args, **keywords, tries=1))
    try:
        with pytest.raises(RestoreFailed) as caught:
            restore.restore(settings, Run("restore"), path, confirm=yes)
    finally:
        other.close()
    assert "names could not be swapped" in caught.value.message
    assert is_untouched(target)


def test_interrupted_while_swapping(saved, target, monkeypatch):
    """Ctrl-C while the swap waits for sessions to leave: nothing is renamed, the new database is dropped."""
    settings, path = saved
    other = psycopg2.connect(**target.parameters)
    other.cursor().execute("SELECT 1")

    terminate = databases.terminate

    def interrupt(*_):
        monkeypatch.setattr(databases, "terminate", terminate)  # on PostgreSQL 12 no database is dropped without it
        raise KeyboardInterrupt

    monkeypatch.setattr(databases, "terminate", interrupt)
    try:
        with pytest.raises(KeyboardInterrupt):
            restore.restore(settings, Run("restore"), path, confirm=yes)
    finally:
        other.close()
    assert is_untouched(target)


@pytest.mark.variant
def test_interrupted_too_late(saved, target, monkeypatch):
    """Ctrl-C when the names are swapped already: the restore finishes and says so."""
    settings, path = saved
    real = databases.terminate

    def late(admin, names):
        real(admin, names)
        if target.database not in names:  # on PostgreSQL 12 no database is dropped without it
            return
        maintenance = target.to_database("postgres")
        while query(
            maintenance, f"SELECT count(*) FROM pg_database WHERE datname LIKE '{target.database}\\_\\_restored%'"
        ):
            time.sleep(0.05)
        raise KeyboardInterrupt

    monkeypatch.setattr(databases, "terminate", late)
    run = Run("restore")
    other = psycopg2.connect(**target.parameters)  # the swap waits for it
    try:
        restore.restore(settings, run, path, confirm=yes)
    finally:
        other.close()
    assert run.database == "restored"
    assert query(target, "SELECT count(*) FROM t") == 100


@pytest.mark.variant
@pytest.mark.parametrize(
    ("where", "restored"),
    tried_once([("terminate", False), ("confirm", False), ("_tell", True)]),
)
def test_killed(saved, target, where, restored):
    """After kill -9, wherever it comes, the name leads to one whole database: the original until the swap's COMMIT."""
    _, path = saved
    code = f"""
        import os
        from pathlib import Path
        from rollout import databases, restore
        from rollout.run import Run
        from rollout.settings import Server, Settings
        def die(*_, **__):
            os.kill(os.getpid(), 9)
        where = {where!r}
        if where == "terminate":
            databases.terminate = die
        if where == "_tell":
            restore._tell = die
        settings = Settings(Server.from_url("DATABASE_URL", os.environ["URL"]), None, Path("unused"))
        confirm = die if where == "confirm" else lambda _: True
        restore.restore(settings, Run("restore"), Path("{path}"), confirm=confirm)
    """
    environment = {**os.environ, "URL": url_of(target)}
    other = psycopg2.connect(**target.parameters)  # the swap waits for it
    try:
        ended = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], cwd=PROJECT, check=False, env=environment)
    finally:
        other.close()
    assert ended.returncode == -signal.SIGKILL
    time.sleep(0.5)
    assert query(target, "SELECT count(*) FROM t") == (100 if restored else 40)


def test_lost_answer(saved, target, monkeypatch):
    """The connection is lost at the swap's COMMIT: the names tell that it happened."""
    settings, path = saved
    real = databases.swap

    def swap(*args, **keywords):
        real(*args, **keywords)
        execute(target, "SELECT no_such_function()")

    monkeypatch.setattr(databases, "swap", lost(swap))
    run = Run("restore")
    restore.restore(settings, run, path, confirm=yes)
    assert run.database == "restored"
    assert query(target, "SELECT count(*) FROM t") == 100


def lost(function):
    """Let a function fail as SQLAlchemy does when the connection goes."""

    def failing(*args, **keywords):
        try:
            function(*args, **keywords)
        except psycopg2.Error as error:
            raise OperationalError("COMMIT", {}, error) from error

    return failing


@pytest.mark.variant
def test_nobody_can_tell(saved, target, monkeypatch):
    """The connection is lost at the swap and the server stays away: exit code 20, and what to look for."""
    settings, path = saved

    def swap(*_, **__):
        monkeypatch.setattr(databases, "exists", lost(lambda *_: execute(target, "SELECT no_such_function()")))
        execute(target, "SELECT no_such_function()")

    monkeypatch.setattr(databases, "swap", lost(swap))
    monkeypatch.setattr(restore_swap, "_ASK_SECONDS", 0.01)
    with pytest.raises(PartialChange) as caught:
        restore.restore(settings, Run("restore"), path, confirm=yes)
    assert caught.value.exit_code == 20
    assert "__replaced_" in caught.value.hint


@pytest.mark.variant
def test_new_database_that_cannot_be_dropped(saved, target, monkeypatch):
    """A leftover is named, with the statement that drops it."""
    settings, path = saved
    ear = Notes()
    monkeypatch.setattr(databases, "drop", lost(lambda *_: execute(target, "SELECT no_such_function()")))
    with pytest.raises(Interrupted):
        restore.restore(settings, Run("restore", listener=ear), path, confirm=lambda _: False)
    leftover = next(name for name in family(target, target.database) if "__restored_" in name)
    assert any(f'DROP DATABASE "{leftover}";' in note for note in ear.notes)
