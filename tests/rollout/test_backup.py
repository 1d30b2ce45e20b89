"""Backups: whole or not there, what they were or refused, and proven by content."""

import errno
import fcntl
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

import psycopg2
import pytest

from rollout import backup, catalog, contents, interrupt, postgres_tools
from rollout.backup import create, list_backups, prune, verify
from rollout.backups import dump as backup_dump
from rollout.backups import files as backup_files
from rollout.backups import manifest as backup_manifest
from rollout.backups import proof as backup_proof
from rollout.backups.compare import differences
from rollout.database import engine_for
from rollout.errors import BackupFailed, DatabaseUnavailable, LockNotAcquired, PreflightFailed
from rollout.needs import Needs
from rollout.postgres_tools import Tool
from rollout.run import Run, Silent
from rollout.settings import PROJECT, Server, Settings
from rollout.snapshot import snapshot
from tests.fixtures.databases import execute, query, url_of
from tests.fixtures.listening import Notes
from tests.fixtures.tiers import tried_once

ODD = (PROJECT / "tests" / "fixtures" / "odd_database.sql").read_text(encoding="utf-8")


class Ear(Silent):
    """A listener that remembers what it heard."""

    def __init__(self):
        """Begin with nothing heard."""
        self.heard = []

    def progress(self, name, done, total, unit):
        """Remember progress."""
        self.heard.append((name, done, total, unit))


@pytest.fixture(scope="session")
def odd_template(make_template):
    """Return a database with a bit of everything; copy it, do not connect to it."""
    made = make_template()
    execute(made, ODD)
    return made


@pytest.fixture
def odd(make_database, odd_template):
    """Return a database of the test's own with a bit of everything."""
    return make_database(odd_template)


@pytest.fixture
def small(database):
    """Return a database with one small table."""
    execute(
        database,
        "CREATE TABLE t (a int PRIMARY KEY, b text)",
        "INSERT INTO t SELECT i, 'x' FROM generate_series(1, 100) i",
    )
    return database


def run_of(command="backup create", **fields):
    """Return a new run."""
    return Run(command, **fields)


def everything_in(directory):
    """Return what stands in a directory, hidden files too."""
    return sorted(path.name for path in directory.iterdir()) if directory.exists() else []


def scratch_databases(server):
    """Return how many databases of a proof this session has left on the server."""
    return query(server, f"SELECT count(*) FROM pg_database WHERE datname LIKE 'test\\_{os.getpid()}\\_%\\_\\_proof%'")


# Making one


def test_backup_of_everything_is_proven(odd, settings_for):
    """A bit of everything goes out and comes back with the same content; the scratch database is gone after."""
    settings, run = settings_for(odd), run_of(listener=Ear())
    made = create(settings, run, prove=True)
    assert run.findings == []
    assert run.result["proven"] is True
    assert run.result["path"] == str(made.path)
    assert run.result["bytes"] == sum(f.stat().st_size for f in made.path.rglob("*") if f.is_file()) - sum(
        (made.path / name).stat().st_size for name in ("manifest.json", "manifest.json.sha256", "proof.json")
    )
    tables = {(table["schema"], table["name"]): table for table in run.result["tables"]}
    assert tables["Odd Schema %s :x", 't "quoted" :y %d']["rows"] == 50
    assert tables["public", "secured"]["rows"] == 2
    assert tables["rollout", "notes"]["rows"] == 1
    assert ("public", "part") not in tables
    not_compared = {"public.counted", "public.elsewhere", "kinds.unfilled", "kinds.over there"}
    assert {one["object"] for one in made.manifest.contents.not_compared} == not_compared
    assert made.manifest.contents.large_objects.rows == 4  # 777 has two pieces
    assert {heard[0] for heard in run.listener.heard} >= {"backup", "restore"}
    assert scratch_databases(odd) == 0


def test_files_are_ours_alone(small, settings_for, tmp_path):
    """Directories are 0700, files 0600, whatever the umask; nothing half-made is left beside."""
    old = os.umask(0o000)
    try:
        made = create(settings_for(small), run_of())
    finally:
        os.umask(old)
    assert made.path.stat().st_mode & 0o777 == 0o700
    assert made.path.parent.stat().st_mode & 0o777 == 0o700
    for path in made.path.rglob("*"):
        assert path.stat().st_mode & 0o777 == (0o700 if path.is_dir() else 0o600), path
    assert everything_in(tmp_path / "var" / "backups") == [made.path.name]


def test_manifest_says_what_it_is_of(small, settings_for):
    """The manifest names database, versions, time, roles, files; `sha256sum -c` accepts its hash."""
    execute(
        small,
        "CREATE TABLE lawsker_schema_version (version_num text)",
        "INSERT INTO lawsker_schema_version VALUES ('abc')",
    )
    made = create(settings_for(small), run_of())
    manifest = backup_manifest.read(made.path)
    assert (manifest.dbname, manifest.revision) == (small.database, "abc")
    assert manifest.server_major >= 12
    assert manifest.client_major >= manifest.server_major
    assert abs(manifest.created_at.timestamp() - time.time()) < 120
    assert manifest.database["encoding"] == "UTF8"
    assert small.parameters["user"] in [role.name for role in manifest.needs.roles.roles]
    assert manifest.schema_sha256 == hashlib.sha256((made.path / "catalog.json").read_bytes()).hexdigest()
    assert subprocess.run(["sha256sum", "-c", "manifest.json.sha256"], cwd=made.path, check=False).returncode == 0
    assert {file.path for file in manifest.files} > {"catalog.json", "dump/toc.dat"}
    assert small.parameters["password"] not in (made.path / "manifest.json").read_text()


def test_other_commands_only_get_the_path(small, settings_for):
    """Inside `migrate` the result holds the backup's path, and not the keys of a backup command."""
    run = run_of("migrate")
    made = create(settings_for(small), run)
    assert run.result == {"backup": str(made.path)}


def test_empty_database(database, settings_for):
    """A database without a single table is backed up and proven."""
    made = create(settings_for(database), run_of(), prove=True)
    assert made.manifest.contents.tables == []
    assert made.proof.rows == 0


@pytest.mark.parametrize("name", tried_once(['quo"ted %s :x', "a=b c'd", "中文数据库" * 4 + "abc", "-x"]))
def test_database_names_that_need_care(name, postgres, settings_for):
    """Whatever the database is called: it is dumped, proven, and its scratch database's name has at most 63 bytes."""
    quoted = '"' + name.replace('"', '""') + '"'
    execute(postgres.server, f"CREATE DATABASE {quoted} TEMPLATE template0")
    try:
        server = postgres.server.to_database(name)
        execute(server, "CREATE TABLE t (a int)", "INSERT INTO t VALUES (1)")
        made = create(settings_for(server), run_of(), prove=True)
        assert made.manifest.dbname == name
        assert made.proof.rows == 1
    finally:
        execute(postgres.server, f"DROP DATABASE {quoted}")


def test_source_is_backed_up_too(small, make_database, settings_for):
    """Another server than the target can be backed up; the run names it."""
    run = run_of()
    made = create(settings_for(make_database(), small), run, server=small)
    assert made.manifest.dbname == run.target.dbname == small.database


def test_content_is_that_of_one_snapshot(small, settings_for):
    """Rows and sequences that move while we dump: what comes back is one moment, and the proof holds."""
    execute(
        small, "CREATE TABLE moving (id bigserial, a int)", "CREATE TABLE more AS SELECT generate_series(1, 200000) a"
    )
    stop = threading.Event()

    def write():
        connection = psycopg2.connect(**small.parameters)
        connection.autocommit = True
        with connection.cursor() as cursor:
            while not stop.is_set():
                cursor.execute("INSERT INTO moving (a) VALUES (1); UPDATE t SET b = b || 'y' WHERE a = 1")
        connection.close()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        made = create(settings_for(small), run_of(), prove=True)
    finally:
        stop.set()
        writer.join()
    rows = {table.name: table.rows for table in made.manifest.contents.tables}
    assert rows["moving"] < query(small, "SELECT count(*) FROM moving")


def test_compression_is_the_callers_choice(small, settings_for):
    """`compress` reaches pg_dump; what it does not know is its error, in one line."""
    assert list(create(settings_for(small), run_of(), compress="0").path.glob("dump/*.dat"))
    with pytest.raises(BackupFailed) as caught:
        create(settings_for(small), run_of(), compress="nonsense")
    assert "nonsense" in caught.value.message


# Not making one


def test_directory_that_cannot_be_written(small, settings_for, tmp_path):
    """A path that cannot be a directory: exit code 7, the reason, and which setting to change."""
    (tmp_path / "var").write_text("a file")
    with pytest.raises(BackupFailed) as caught:
        create(settings_for(small), run_of())
    assert caught.value.exit_code == 7
    assert "cannot be written" in caught.value.message
    assert "ROLLOUT_DIR" in caught.value.hint


def test_disk_without_room(small, settings_for, monkeypatch):
    """A disk that is visibly too small is refused before anything is dumped, with the numbers."""
    usage = shutil.disk_usage(Path.cwd())
    monkeypatch.setattr(backup_dump.shutil, "disk_usage", lambda _: usage._replace(free=7 * 2**20))
    monkeypatch.setattr(backup_dump, "run_tool", lambda *_, **__: pytest.fail("it was dumped all the same"))
    with pytest.raises(BackupFailed) as caught:
        create(settings_for(small), run_of())
    assert "7 MB free" in caught.value.message
    assert everything_in(settings_for(small).backups) == []


def test_disk_that_fills_up(small, settings_for, monkeypatch):
    """A disk that is full when the manifest is written: exit code 7, and nothing that looks like a backup."""

    def full(*_):
        raise OSError(28, "No space left on device", "manifest.json")

    monkeypatch.setattr(backup_files, "fsync", full)
    with pytest.raises(BackupFailed) as caught:
        create(settings_for(small), run_of())
    assert "No space left on device" in caught.value.message
    assert everything_in(settings_for(small).backups) == []


def test_wrong_password(small, settings_for):
    """A wrong password is exit code 4 and makes no directory."""
    wrong = Server("DATABASE_URL", {**small.parameters, "password": "wrong-secret"})
    with pytest.raises(DatabaseUnavailable) as caught:
        create(settings_for(wrong), run_of())
    assert "wrong-secret" not in caught.value.message
    assert everything_in(settings_for(small).directory) == []


def test_no_client(small, settings_for, monkeypatch):
    """Without pg_dump there is no backup: exit code 6."""
    monkeypatch.setattr(postgres_tools, "find", lambda _: ())
    with pytest.raises(PreflightFailed):
        create(settings_for(small), run_of())


def test_locked_table(small, settings_for):
    """A table that somebody else changes: exit code 5 after the lock timeout, and not for ever."""
    other = psycopg2.connect(**small.parameters)
    try:
        other.cursor().execute("LOCK TABLE t IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(LockNotAcquired):
            create(settings_for(small, lock_timeout=0.3), run_of())
    finally:
        other.close()
    assert everything_in(settings_for(small).backups) == []


def role(postgres, server, name, *grants):
    """Make a login role; return how it reaches the server's database."""
    execute(postgres.server, f"CREATE ROLE {name} LOGIN PASSWORD 'p'")
    execute(server, *grants)
    return Server("DATABASE_URL", {**server.parameters, "user": name, "password": "p"})


@pytest.fixture
def weak(postgres, small):
    """Return a role that may connect and nothing else, as a function of further grants."""
    name = f"weak_{os.getpid()}"
    yield lambda *grants: role(postgres, small, name, *(grant.format(role=name) for grant in grants))
    execute(small, f"DROP OWNED BY {name}")
    execute(postgres.server, f"DROP ROLE {name}")


def test_table_that_we_may_not_read(weak, settings_for):
    """A table without SELECT: the table is named, and whose rights would do."""
    with pytest.raises(BackupFailed) as caught:
        create(settings_for(weak()), run_of())
    assert "permission denied for table t" in caught.value.message
    assert "owner" in caught.value.hint


def test_rows_that_we_may_not_see(small, weak, settings_for):
    """Row-level security that hides rows from us is an error, never a smaller backup."""
    execute(small, "ALTER TABLE t ENABLE ROW LEVEL SECURITY", "CREATE POLICY p ON t USING (a > 50)")
    with pytest.raises(BackupFailed) as caught:
        create(settings_for(weak("GRANT SELECT ON t TO {role}")), run_of())
    assert "BYPASSRLS" in caught.value.hint


def test_proof_without_createdb(weak, settings_for):
    """A proof needs CREATEDB: the statement to ask for, before anything is dumped; without a proof it is made."""
    settings = settings_for(weak("GRANT SELECT ON t TO {role}"))
    with pytest.raises(BackupFailed) as caught:
        create(settings, run_of(), prove=True)
    assert f"ALTER ROLE weak_{os.getpid()} CREATEDB;" in caught.value.hint
    assert list_backups(settings.backups) == []
    create(settings, run_of())
    assert [one.proven for one in list_backups(settings.backups)] == [False]


def slow_dump(monkeypatch, tmp_path, before="sleep 60"):
    """Let pg_dump do something else first; return where it writes its pid."""
    real = postgres_tools.find("pg_dump")[-1]
    program = tmp_path / "pg_dump"
    program.write_text(f'#!/bin/sh\necho $$ > {tmp_path}/pid\n{before}\nexec {real.path} "$@"\n')
    program.chmod(0o755)
    monkeypatch.setattr(
        postgres_tools,
        "find",
        lambda name: (Tool(name, program if name == "pg_dump" else real.path.parent / name, real.version),),
    )
    return tmp_path / "pid"


def test_killed_pg_dump(small, settings_for, monkeypatch, tmp_path):
    """A pg_dump that is killed: exit code 7, and nothing that looks like a backup."""
    slow_dump(monkeypatch, tmp_path, "kill -9 $$")
    with pytest.raises(BackupFailed) as caught:
        create(settings_for(small), run_of())
    assert "ended by signal 9" in caught.value.message
    assert everything_in(settings_for(small).backups) == []


def test_interrupted(small, settings_for, monkeypatch, tmp_path):
    """Ctrl-C while pg_dump runs: it ends, and nothing that looks like a backup is left."""
    pid = slow_dump(monkeypatch, tmp_path)

    def interrupt():
        while not pid.exists():
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        create(settings_for(small), run_of())
    thread.join()
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)
    assert everything_in(settings_for(small).backups) == []


@pytest.mark.variant
def test_nobody_truncates_while_we_dump(small, settings_for, monkeypatch, tmp_path):
    """From the snapshot on tables are locked: TRUNCATE is in no snapshot, and would empty the dump of its table."""
    pid, problems = slow_dump(monkeypatch, tmp_path, "sleep 1"), []

    def truncate():
        while not pid.exists():
            time.sleep(0.02)
        try:
            execute(small, "SET lock_timeout = '200ms'; TRUNCATE t")
        except psycopg2.Error as error:
            problems.append(error.pgcode)

    thread = threading.Thread(target=truncate)
    thread.start()
    made = create(settings_for(small), run_of())
    thread.join()
    assert problems == ["55P03"]
    assert made.manifest.contents.tables[0].rows == 100


def interrupt_when_asleep(server):
    """Send ourselves Ctrl-C as soon as a query of ours sleeps on the server; return the thread that does."""

    def watch():
        end = time.monotonic() + 30
        while not asleep(server) and time.monotonic() < end:
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=watch)
    thread.start()
    return thread


def asleep(server):
    """Return how many queries sleep on the server."""
    return query(
        server.to_database("postgres"),
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE query LIKE '%pg_sleep(60)%' AND state = 'active' AND pid <> pg_backend_pid()",
    )


@pytest.fixture
def sleepy(monkeypatch):
    """Let reading large objects take a minute."""
    monkeypatch.setattr(
        contents, "_LARGE_OBJECTS", "SELECT 1 AS oid, 1 AS n, 1 AS bytes, pg_sleep(60)::text AS hash, '' AS told"
    )


@pytest.mark.usefixtures("sleepy")
def test_interrupted_while_fingerprinting(small, settings_for):
    """Ctrl-C while a long query of ours runs: the query is cancelled on the server at once."""
    thread = interrupt_when_asleep(small)
    with pytest.raises(KeyboardInterrupt):
        create(settings_for(small), run_of())
    thread.join()
    assert asleep(small) == 0
    assert everything_in(settings_for(small).backups) == []


def test_files_are_hashed_while_they_grow(tmp_path, monkeypatch):
    """Whatever was read of a file before its end, its hash is that of the whole."""
    monkeypatch.setattr(backup_files, "_FOLLOW_SECONDS", 0.01)
    growing, pieces = tmp_path / "dump" / "1.dat.gz", [os.urandom(300_000) for _ in range(8)]
    growing.parent.mkdir()
    read = []
    with backup_files.Hashes(tmp_path).followed() as hashes, growing.open("wb", buffering=0) as file:
        for piece in pieces:
            file.write(piece)
            while not (read and read[-1] == growing.stat().st_size):
                read = [size for size, _ in hashes._read.values()]
                time.sleep(0.001)
        file.write(b"the end")
        (tmp_path / "toc.dat").write_bytes(b"short")
    whole = b"".join(pieces) + b"the end"
    assert backup_files.hash_files(hashes) == [
        backup_files.FileEntry("dump/1.dat.gz", len(whole), hashlib.sha256(whole).hexdigest()),
        backup_files.FileEntry("toc.dat", 5, hashlib.sha256(b"short").hexdigest()),
    ]


def test_killed_while_dumping(small, settings_for, tmp_path):
    """After kill -9 of us there is no backup, only a hidden remainder that nobody takes for one."""
    code = f"""
        import os
        from pathlib import Path
        from rollout import backup
        from rollout.backups import dump as backup_dump
        from rollout.run import Run
        from rollout.settings import Server, Settings
        backup_dump.hash_files = lambda _: os.kill(os.getpid(), 9)
        settings = Settings(Server.from_url("DATABASE_URL", os.environ["URL"]), None, Path("{tmp_path}/var"))
        backup.create(settings, Run("backup create"))
    """
    ended = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        cwd=PROJECT,
        check=False,
        env={**os.environ, "URL": url_of(small)},
    )
    assert ended.returncode == -signal.SIGKILL
    backups = settings_for(small).backups
    assert [name.endswith(".partial") for name in everything_in(backups)] == [True]
    assert list_backups(backups) == []


# Damage


@pytest.fixture(scope="module")
def proven_backup(tmp_path_factory, make_template):
    """Return a small proven backup; copy it before damaging it."""
    made = make_template()
    execute(
        made, "CREATE TABLE t (a int, b text)", "INSERT INTO t SELECT i, md5(i::text) FROM generate_series(1, 2000) i"
    )
    execute(made, "CREATE TABLE u (a int)", "SELECT lo_from_bytea(0, 'hello')")
    settings = Settings(made, None, tmp_path_factory.mktemp("proven"))
    return create(settings, Run("backup create"), prove=True).path


@pytest.fixture
def copied(proven_backup, tmp_path):
    """Return a copy of the proven backup."""
    return Path(shutil.copytree(proven_backup, tmp_path / "copy"))


def refused(path, **keywords):
    """Verify a backup that must be refused; return the error."""
    run = run_of("backup verify")
    with pytest.raises(BackupFailed) as caught:
        verify(path, run=run, **keywords)
    assert caught.value.exit_code == 7
    assert run.result["proven"] is False
    return caught.value


def test_sound_backup_is_accepted(copied):
    """A backup that was not changed passes: hashes only, and read back whole; its proof counts."""
    for quick in (True, False):
        run = run_of("backup verify")
        assert verify(copied, run=run, quick=quick).proof is not None
        assert run.result["proven"] is True


def flip(path, randomness):
    """Change one bit of a file."""
    content = bytearray(path.read_bytes())
    content[randomness.randrange(len(content))] ^= 1 << randomness.randrange(8)
    path.write_bytes(content)


def cut(path, randomness):
    """Cut the end of a file."""
    content = path.read_bytes()
    path.write_bytes(content[: randomness.randrange(len(content))])


def remove(path, _):
    """Remove a file."""
    path.unlink()


def empty(path, _):
    """Empty a file."""
    path.write_bytes(b"")


def grow(path, _):
    """Append a byte."""
    path.write_bytes(path.read_bytes() + b"\0")


def link(path, _):
    """Replace a file by a link to a copy of it."""
    path.rename(path.parent.parent.parent / "moved")
    path.symlink_to(path.parent.parent.parent / "moved")


@pytest.mark.parametrize("damage", [flip, cut, remove, empty, grow, link])
def test_every_damage_is_caught(proven_backup, tmp_path, damage):
    """Any file, any place: damage shows by hashes alone; without its proof a backup is sound but unproven."""
    randomness = random.Random(damage.__name__)  # noqa: S311 - the same damages every time
    files = sorted(path.relative_to(proven_backup) for path in proven_backup.rglob("*") if path.is_file())
    for number in range(5 * len(files) if damage in (flip, cut) else len(files)):
        victim = files[number % len(files)]
        copy = Path(shutil.copytree(proven_backup, tmp_path / str(number) / "copy"))
        damage(copy / victim, randomness)
        if is_harmless(copy / victim, proven_backup / victim):
            assert verify(copy, run=run_of(), quick=True).proof is not None or damage is remove
        else:
            error = refused(copy, quick=True)
            assert victim.name in str(error.findings) or "manifest" in error.message


def is_harmless(path, original):
    """Tell whether damage left the meaning: no proof, its white space, a link to the same manifest."""
    if path.name == backup_files.PROOF:
        return not path.exists() or json_of(path) == json_of(original)
    return path.is_symlink() and path.name.startswith("manifest.json")


def json_of(path):
    """Return a file's JSON, or None where it is none."""
    try:
        return json.loads(path.read_bytes())
    except ValueError:
        return None


def test_extra_and_swapped_files(copied):
    """A file too many, and two files that changed places, are found and named."""
    (copied / "dump" / "extra").write_text("x")
    assert [finding.subject for finding in refused(copied, quick=True).findings] == ["dump/extra"]
    (copied / "dump" / "extra").unlink()
    one, other = sorted((copied / "dump").glob("*.dat.gz"))[:2]
    one.rename(copied / "aside")
    other.rename(one)
    (copied / "aside").rename(other)
    assert {finding.subject for finding in refused(copied, quick=True).findings} == {
        f"dump/{one.name}",
        f"dump/{other.name}",
    }


def test_manifest_of_another_backup(copied, small, settings_for):
    """A manifest that belongs to another backup, with its own correct hash, does not fit these files."""
    other = create(settings_for(small), run_of()).path
    for name in ("manifest.json", "manifest.json.sha256"):
        shutil.copy(other / name, copied / name)
    assert "toc.dat" in str(refused(copied, quick=True).findings)


def test_proof_of_another_backup(copied, small, settings_for):
    """A proof counts for the manifest it was made for, and for no other."""
    other = create(settings_for(small), run_of()).path
    shutil.copy(copied / "proof.json", other / "proof.json")
    assert [one.proven for one in list_backups(other.parent)] == [False]
    refused(other, quick=True)


@pytest.mark.parametrize("what", ["nothing", "file", "empty", "unknown format"])
def test_what_is_not_a_backup(tmp_path, what, copied):
    """A path that is nothing, a file, an empty directory, or of a later format: one line each."""
    path = tmp_path / "thing"
    if what == "file":
        path.write_text("x")
    elif what == "empty":
        path.mkdir()
    elif what == "unknown format":
        path = copied
        change_manifest(path, lambda values: values.update(format=99))
    message = refused(path, quick=True).message
    assert ("does not know" if what == "unknown format" else "not a whole backup") in message


def change_manifest(path, change):
    """Change a manifest and give it a correct hash; its proof is no longer one."""
    (path / "proof.json").unlink(missing_ok=True)
    values = json.loads((path / "manifest.json").read_text())
    change(values)
    text = json.dumps(values)
    (path / "manifest.json").write_text(text)
    (path / "manifest.json.sha256").write_text(f"{hashlib.sha256(text.encode()).hexdigest()}  manifest.json\n")


# Proof


def test_verify_proves_again(copied, small, settings_for):
    """`verify` with settings restores again and writes a new proof."""
    (copied / "proof.json").unlink()
    run = run_of("backup verify")
    assert verify(copied, run=run, settings=settings_for(small)).proof.seconds > 0
    assert run.result["proven"] is True
    assert backup_proof.read_proof(copied) is not None


def test_content_that_differs_is_not_proven(copied, small, settings_for):
    """A manifest that tells other rows than the dump holds: found by the proof, named, and nothing is left behind."""

    def change(values):
        values["contents"]["tables"][0]["rows"] += 1
        values["contents"]["tables"].append({**values["contents"]["tables"][1], "name": "never"})

    change_manifest(copied, change)
    error = refused(copied, settings=settings_for(small))
    assert [finding.subject for finding in error.findings] == ["public.t", "public.never"]
    assert backup_proof.read_proof(copied) is None
    assert scratch_databases(small) == 0


@pytest.fixture
def read_only(monkeypatch):
    """Let the files beside a backup be as on a read-only disk: tests may run as root, whom no rights stop."""

    def refuses(path, *_, **__):
        raise OSError(errno.EROFS, "Read-only file system", str(path))

    unlink = Path.unlink
    monkeypatch.setattr(backup_proof, "write_text", refuses)
    monkeypatch.setattr(
        Path,
        "unlink",
        lambda path, **how: (refuses if path.name == backup_files.PROOF else unlink)(path, **how),
    )


def test_a_proof_that_cannot_be_recorded(copied, small, settings_for, request):
    """On a read-only disk the proof runs to its end and is told; `proven` says what is recorded, by then or before."""
    settings, before = settings_for(small), backup_proof.read_proof(copied)
    kept = (copied / "proof.json").read_bytes()
    (copied / "proof.json").unlink()
    request.getfixturevalue("read_only")
    for proof in (None, before):
        run = run_of("backup verify", listener=Notes())
        assert verify(copied, run=run, settings=settings).proof == proof
        assert run.result["proven"] is (proof is not None)
        assert [note for note in run.listener.notes if "cannot be recorded beside it: Read-only file system" in note]
        (copied / "proof.json").write_bytes(kept)
    with pytest.raises(BackupFailed, match="cannot be recorded") as caught:
        create(settings, run_of(), prove=True)
    assert caught.value.exit_code == 7


def test_a_proof_that_cannot_be_taken_back(copied, small, settings_for, monkeypatch, request):
    """What differs is named all the same; that the old proof is still there is told."""
    monkeypatch.setattr("rollout.backups.prove.differences", lambda *_, **__: [backup_files.finding("t", "differs")])
    request.getfixturevalue("read_only")
    run = run_of("backup verify", listener=Notes())
    with pytest.raises(BackupFailed) as caught:
        verify(copied, run=run, settings=settings_for(small))
    assert [one.subject for one in caught.value.findings] == ["t"]
    assert run.result["proven"] is False
    assert [note for note in run.listener.notes if note.endswith(f"delete {copied / 'proof.json'}")]


# Two indexes that are built side by side wait for each other, as `ALTER INDEX … ATTACH PARTITION` and a foreign key on
# the partitioned table now and then do: pg_restore does not know that their locks meet.
CROSSED = """
    CREATE FUNCTION {name}(bigint) RETURNS bigint IMMUTABLE LANGUAGE plpgsql AS $$BEGIN
        PERFORM pg_advisory_xact_lock({first});
        PERFORM pg_sleep(1);
        PERFORM pg_advisory_xact_lock({second});
        RETURN $1;
    END$$;
    CREATE TABLE {name}_rows AS SELECT 1::bigint AS a;
    CREATE INDEX ON {name}_rows (public.{name}(a))
"""


def test_a_deadlock_of_the_restore_with_itself(small, settings_for):
    """pg_restore's workers may end in a deadlock: it begins again, with one."""
    execute(
        small,
        CROSSED.format(name="one", first=1, second=2),
        CROSSED.format(name="other", first=2, second=1),
    )
    listener = Notes()
    create(settings_for(small), run_of(listener=listener), prove=True)
    assert [note for note in listener.notes if "deadlock" in note]
    assert scratch_databases(small) == 0


@pytest.mark.variant
@pytest.mark.usefixtures("sleepy")
def test_interrupted_proof_leaves_no_database(copied, small, settings_for):
    """Ctrl-C in the middle of a proof cancels the query and drops the scratch database."""
    thread = interrupt_when_asleep(small)
    with interrupt.heeding(), pytest.raises(KeyboardInterrupt):  # as every command does
        verify(copied, run=run_of(), settings=settings_for(small))
    thread.join()
    assert asleep(small) == 0
    assert scratch_databases(small) == 0


def test_missing_role_and_extension(copied, small, settings_for):
    """A server that lacks a role or an extension cannot take the backup: what to type is said first."""

    def change(values):
        values["needs"]["roles"]["roles"].append({"name": "Nobody Here", "owns": True})
        values["needs"]["extensions"].append({"name": "no_such_extension", "version": "1"})
        values["needs"]["collations"].append("no_such_collation")

    change_manifest(copied, change)
    error = refused(copied, settings=settings_for(small))
    assert 'CREATE ROLE "Nobody Here";' in error.hint
    assert "no_such_extension" in error.message
    assert "no_such_collation" in error.message


def test_backup_of_a_newer_server(copied, small, settings_for):
    """A backup of a newer major is refused in words."""
    change_manifest(copied, lambda values: values.update(server_major=99))
    assert "PostgreSQL 99" in refused(copied, settings=settings_for(small)).message


def contents_of(server):
    """Read a database's contents."""
    with snapshot(engine_for(server), lock_timeout=5) as connection:
        return contents.read(connection, contents.relations(connection))


@pytest.mark.parametrize(
    ("change", "subject"),
    tried_once(
        [
            ("UPDATE plain SET j = '{}' WHERE id = 7", "public.plain"),
            ("UPDATE plain SET v = 'b', b = b WHERE id = 7", "public.plain"),
            ("DELETE FROM child", "public.child"),
            ("INSERT INTO rollout.notes VALUES (2)", "rollout.notes"),
            ("CREATE TABLE one_more ()", "public.one_more"),
            ("DROP TABLE no_rows", "public.no_rows"),
            ("SELECT nextval('never_used')", "public.never_used"),
            ("SELECT setval('set_but_not_called', 99)", "public.set_but_not_called"),
            ("DROP SEQUENCE going_down", "public.going_down"),
            ("SELECT lo_put(777, 5000000, 'z')", "pg_largeobject"),
            ("SELECT lo_unlink(778)", "pg_largeobject"),
            ("DROP INDEX ix_plain_v", "index ix_plain_v"),
            ("DROP POLICY positive ON secured", "policy positive on secured"),
            ("CREATE VIEW another AS SELECT 1 AS a", "view another"),
        ],
        keep=6,
    ),
)
def test_every_difference_shows(odd, change, subject):
    """One change of anything between two databases is found, and nothing else is."""
    expected = contents_of(odd)
    assert differences(expected, contents_of(odd)) == []
    execute(odd, change)
    found = {finding.subject for finding in differences(expected, contents_of(odd)) if finding.severity == "error"}
    assert subject in found
    assert all(subject.split(".")[-1].split(" ")[-1] in name for name in found)


def test_sequence_that_moved_while_we_dumped(odd):
    """Between its two readings a sequence may stand anywhere; outside of them it may not."""
    expected = contents_of(odd)
    number = next(i for i, one in enumerate(expected.sequences) if one.name == "plain_id_seq")
    moving = expected.sequences[number]
    for last, problems in ((moving.first[0] - 1, 0), (moving.first[0] + 5, 0)):
        expected.sequences[number] = replace(moving, first=(last - 3, True), last=(moving.first[0] + 5, True))
        assert len(differences(expected, contents_of(odd))) == (problems if last - 3 <= moving.first[0] else 1)


# The directory of backups


def fake(backups, name, *, days_ago, proven, dbname="lawsker"):
    """Write a backup that has a manifest and nothing else."""
    path = backups / name
    path.mkdir(parents=True)
    when = datetime.now(timezone.utc) - timedelta(days=days_ago)
    manifest = backup_manifest.Manifest(
        name=name, created_at=when, seconds=1, host="h", port=5432, dbname=dbname, user="u", server_version="16.4",
        server_major=16, client_version="16.4", revision="abc", table_bytes=0, database={}, needs=Needs(),
        contents=contents.Contents(),
    )  # fmt: skip
    backup_manifest.write(path, manifest)
    if proven:
        proof = backup_proof.Proof(
            manifest_sha256=backup_manifest.manifest_hash(path), proven_at=when.isoformat(), seconds=15,
            restore_seconds=12.5, place="h:5432", server_version="16.4", definitions=True, tables=0, rows=0,
        )  # fmt: skip
        backup_proof.write_proof(path, proof)
    return path


def test_list_is_newest_first(tmp_path):
    """The list says which are proven, how old, how big, at which revision, and which are damaged."""
    assert list_backups(tmp_path / "nothing") == []
    fake(tmp_path, "old", days_ago=3, proven=True)
    fake(tmp_path, "new", days_ago=1, proven=False)
    (tmp_path / ".stopped.partial").mkdir()
    (tmp_path / "notes.txt").write_text("x")
    damaged = fake(tmp_path, "damaged", days_ago=2, proven=True)
    (damaged / "manifest.json").write_text("{")
    found = list_backups(tmp_path)
    assert [(one.name, one.proven) for one in found] == [("new", False), ("old", True), ("damaged", False)]
    assert "not what it was" in found[2].problem
    values = found[1].as_json()
    assert (values["revision"], values["restore_seconds"], values["database"]) == ("abc", 12.5, "h:5432/lawsker")
    json.dumps(values)


def test_prune_keeps_the_last_proven(tmp_path):
    """The newest stay, of each database; so do the last proven one and damaged ones; leftovers of killed runs go."""
    for days in range(1, 6):
        fake(tmp_path, f"b{days}", days_ago=days, proven=days >= 3)
    fake(tmp_path, "source", days_ago=9, proven=False, dbname="pagtive")
    damaged = fake(tmp_path, "damaged", days_ago=7, proven=True)
    (damaged / "manifest.json").write_text("{")
    for name in (".stale.partial", ".stale.removed", ".running.partial"):
        (tmp_path / name).mkdir()
    running = os.open(tmp_path / ".running.partial", os.O_RDONLY)
    fcntl.flock(running, fcntl.LOCK_EX)
    done = prune(tmp_path, keep=1)
    assert sorted(path.name for path in done.removed) == [".stale.partial", ".stale.removed", "b2", "b4", "b5"]
    assert "last proven" in done.kept["b3"]
    assert "not what it was" in done.kept["damaged"]
    assert everything_in(tmp_path) == [".running.partial", "b1", "b3", "damaged", "source"]
    assert prune(tmp_path, keep=0).removed == [tmp_path / "b1", tmp_path / "source"]
    os.close(running)


def test_prune_by_days_and_by_history(tmp_path):
    """Young ones stay whatever their number; what a run in history points to goes by force only."""
    for days in range(1, 6):
        fake(tmp_path, f"b{days}", days_ago=days, proven=True)
    done = prune(tmp_path, keep=1, keep_days=2.5, pointed={"b4"})
    assert [path.name for path in done.removed] == ["b3", "b5"]
    assert "history" in done.kept["b4"]
    done = prune(tmp_path, keep=1, keep_days=2.5, pointed={"b4", "b1"}, force=True)
    assert ([path.name for path in done.removed], done.kept) == (["b4"], {})
    assert [path.name for path in prune(tmp_path, pointed={"b2"}, force=True).removed] == ["b2"]


def test_prune_of_a_backup_that_is_a_link(tmp_path):
    """A backup that was moved to a larger disk: the link goes and is told, what it led to stays; so with older ones."""
    backups, disk = tmp_path / "backups", tmp_path / "disk"
    backups.mkdir()
    moved = fake(disk, "old", days_ago=9, proven=False)
    (backups / "old").symlink_to(moved)
    (backups / ".older.removed").symlink_to(moved)
    (backups / ".gone.removed").symlink_to(disk / "nothing")
    fake(backups, "new", days_ago=1, proven=False)
    done = prune(backups, keep=1)
    assert [path.name for path in done.removed] == [".gone.removed", ".older.removed", "old"]
    assert done.links == {backups / "old": moved}
    assert everything_in(backups) == ["new"]
    assert everything_in(moved) == ["manifest.json", "manifest.json.sha256"]


def test_what_cannot_be_cleaned_up_stops_no_backup(small, settings_for, monkeypatch):
    """What a killed run left, and the file system does not let go, is a note; the backup is made all the same."""
    settings, ear = settings_for(small), Notes()
    (settings.backups / ".stale.removed").mkdir(parents=True)

    def refuses(path, **_):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr("rollout.backups.store.shutil.rmtree", refuses)
    made = create(settings, run_of(listener=ear))
    assert everything_in(settings.backups) == [".stale.removed", made.path.name]
    assert [note for note in ear.notes if "cannot be deleted: Permission denied" in note]


def test_two_backups_of_one_run_and_second(small, settings_for, monkeypatch):
    """A name that is taken is refused, not written over."""
    monkeypatch.setattr(backup, "_name", lambda *_: "same")
    create(settings_for(small), run_of())
    with pytest.raises(BackupFailed) as caught:
        create(settings_for(small), run_of())
    assert "already" in caught.value.message


def test_lists_of_words_read_alike_after_a_restore():
    """A CHECK with IN on a varchar is written otherwise after a dump and restore: `canonical` makes them one."""
    before = "CHECK (((v)::text = ANY ((ARRAY['a'::character varying, 'it''s, b'::character varying])::text[])))"
    after = "CHECK (((v)::text = ANY (ARRAY[('a'::character varying)::text, ('it''s, b'::character varying)::text])))"
    assert catalog.canonical(before) == catalog.canonical(after) == after
    assert catalog.canonical(None) is None
