"""Rehearsals: all of the night on a copy; what fails there is said, and nothing of the copy is left."""

import errno
import os
import signal
import time

import pytest
from sqlalchemy.exc import ProgrammingError

from rollout import databases, rehearse, scratch
from rollout.backup import create
from rollout.backups import proof as backup_proof
from rollout.backups.proof import read_proof
from rollout.database import engine_for
from rollout.errors import BackupFailed, RollbackFailed, VerificationFailed
from rollout.run import Run
from rollout.settings import Server
from tests.fixtures.databases import execute, query
from tests.fixtures.legacy import picture, report_of, tool, until
from tests.fixtures.listening import Notes

STAGES = [
    "rehearse upgrade", "rehearse verify", "rehearse rollback", "rehearse upgrade again", "rehearse verify again",
]  # fmt: skip


@pytest.fixture
def saved(legacy, settings_for):
    """Return settings and an unproven backup of a legacy database."""
    settings = settings_for(legacy)
    return settings, create(settings, Run("backup create")).path


def copies(server):
    """Return how many databases of rehearsals of this one there are."""
    like = server.database.replace("_", "\\_") + "\\_\\_%"
    return query(server.to_database("postgres"), f"SELECT count(*) FROM pg_database WHERE datname LIKE '{like}'")


@pytest.mark.variant
def test_a_rehearsal_tells_what_to_expect(saved, legacy):
    """Up, down and up again on a copy: times, locks, WAL, disk, plans, an estimate; the target itself is as it was."""
    settings, path = saved
    before, run = picture(legacy), Run("rehearse")
    rehearse.rehearse(settings, run, path)
    assert [stage["name"] for stage in run.result["stages"]] == STAGES
    upgrade, _, back, again, _ = run.result["stages"]
    assert min(upgrade["seconds"], upgrade["wal_bytes"], upgrade["database_bytes"], back["wal_bytes"]) > 0
    assert {step["name"] for step in upgrade["steps"]} >= {"fingerprint", "upgrade", "verify", "commit"}
    for stage in (upgrade, again):
        locks = {lock["table"]: (lock["mode"], lock["blocks"]) for lock in stage["locks"]}
        assert locks["public.users"] == ("ACCESS EXCLUSIVE", "reads and writes")
        assert locks["public.cases"] == ("SHARE ROW EXCLUSIVE", "writes")
        assert all(0 < lock["seconds"] <= stage["seconds"] for lock in stage["locks"])
    by_mail = run.result["plans"]["users: sign-in by e-mail"]
    assert "Scan" in by_mail["before"]["plan"]
    assert any(one["before"] is None and one["after"] for one in run.result["plans"].values())
    estimate = run.result["estimate"]
    assert estimate["minutes"] >= 1
    assert estimate["upgrade_seconds"] >= upgrade["seconds"]
    assert estimate["server_gb"] > 0
    assert run.database == "untouched"
    assert read_proof(path) is not None  # restoring it was its proof
    assert report_of(settings, run)["stages"] == run.result["stages"]
    page = (settings.reports / f"{run.run_id}.html").read_text()
    for told in (
        "Keep 0.1 GB free on the server", "服务器需空余 0.1 GB", "演练再次升级", "<td>ACCESS EXCLUSIVE</td>", "读和写",
        f'<td>{by_mail["before"]["plan"]}</td>', "Temporary files",
    ):  # fmt: skip
        assert told in page, told
    assert "&#34;seconds&#34;" not in page  # nothing is left as JSON
    assert copies(legacy) == 0
    assert before.differences(picture(legacy)) == []


@pytest.mark.variant
def test_the_newest_backup_is_taken_or_made(legacy, settings_for, monkeypatch):
    """Without a path: the newest whole backup of this database; where there is none, one is made."""
    monkeypatch.setattr(rehearse, "_on_copy", lambda *_: None)
    settings = settings_for(legacy)
    first, second = Run("rehearse"), Run("rehearse")
    rehearse.rehearse(settings, first, None)
    assert [step.name for step in first.steps][:1] == ["backup"]
    rehearse.rehearse(settings, second, None)
    assert [step.name for step in second.steps] == ["check files"]
    assert second.result["path"] == first.result["path"]


@pytest.mark.variant
def test_nothing_to_rehearse(make_database, upgraded, settings_for):
    """A backup that is at the revision already: said, no estimate, and exit code 0."""
    server = make_database(upgraded)
    settings, ear = settings_for(server), Notes()
    run = Run("rehearse", listener=ear)
    rehearse.rehearse(settings, run, create(settings, Run("backup create")).path)
    assert (run.exit_code, run.result["estimate"]) == (0, {})
    assert any(note.startswith("nothing to rehearse") for note in ear.notes)
    assert copies(server) == 0


@pytest.mark.variant
def test_a_rollback_that_leaves_something_is_found(saved, legacy, monkeypatch):
    """What the rollback left otherwise than before: exit code 12, named, the target untouched, no copy left."""
    settings, path = saved
    real = rehearse.rollback.rollback

    def damaging(copy, *rest):
        real(copy, *rest)
        execute(copy.target, "UPDATE users SET username = username || '!'", "CREATE TABLE left_over (a int)")

    monkeypatch.setattr(rehearse.rollback, "rollback", damaging)
    with pytest.raises(RollbackFailed) as caught:
        rehearse.rehearse(settings, Run("rehearse"), path, to="levels")
    assert (caught.value.exit_code, caught.value.database) == (12, "untouched")
    assert {"public.users", "public.left_over"} <= {one.subject for one in caught.value.findings}
    assert copies(legacy) == 0


@pytest.mark.variant
def test_an_upgrade_that_would_fail_is_found(saved, legacy, command):
    """Rows that the upgrade refuses: the upgrade's own exit code and message, on the command line too, no traceback."""
    settings, _ = saved
    execute(legacy, "CREATE TABLE user_credits (user_id text PRIMARY KEY)")
    ended = command(legacy, "rehearse", str(create(settings, Run("backup create")).path))
    assert ended.exit_code == 6, ended.output
    assert "user_credits" in ended.output
    assert "The database is untouched." in ended.output
    assert "Traceback" not in ended.output
    assert copies(legacy) == 0


@pytest.mark.variant
def test_a_check_that_fails_ends_the_rehearsal(saved, legacy, monkeypatch):
    """A check that fails after the upgrade is the rehearsal's end: exit code 9, with the stage in the report."""
    settings, path = saved

    def fails(*_):
        raise VerificationFailed("a check failed", hint="look")

    monkeypatch.setattr(rehearse.verify, "verify", fails)
    run = Run("rehearse")
    with pytest.raises(VerificationFailed) as caught:
        rehearse.rehearse(settings, run, path, to="levels")
    assert caught.value.database == "untouched"
    assert [(step.name, step.ok) for step in run.steps][-1] == ("rehearse verify", False)
    assert [stage["name"] for stage in run.result["stages"]] == ["rehearse upgrade"]
    assert copies(legacy) == 0


def test_a_backup_on_a_read_only_disk(saved, legacy, monkeypatch):
    """That its proof cannot be recorded is told; the rehearsal goes on."""
    settings, path = saved

    def refuses(file, *_):
        raise OSError(errno.EROFS, "Read-only file system", str(file))

    reached = []
    monkeypatch.setattr(backup_proof, "write_text", refuses)
    monkeypatch.setattr(rehearse, "_rehearse", lambda *_: reached.append(True))
    ear = Notes()
    rehearse.rehearse(settings, Run("rehearse", listener=ear), path)
    assert reached == [True]
    assert [note for note in ear.notes if "cannot be recorded beside it: Read-only file system" in note]
    assert read_proof(path) is None
    assert copies(legacy) == 0


@pytest.fixture
def owned(postgres, database):
    """Return how an ordinary role, with CREATEDB, reaches a database of its own."""
    name = f"rehearser_{os.getpid()}"
    execute(
        postgres.server,
        f"CREATE ROLE {name} LOGIN CREATEDB PASSWORD 'p'",
        f"ALTER DATABASE {database.database} OWNER TO {name}",
    )
    if postgres.major >= 15:  # as in test_restore
        execute(database, f"GRANT ALL ON SCHEMA public TO {name}")
    own = Server("DATABASE_URL", {**database.parameters, "user": name, "password": "p"})
    execute(own, "CREATE TABLE t AS SELECT generate_series(1, 9) a")
    yield own
    owner = postgres.server.parameters["user"]
    execute(database, f'REASSIGN OWNED BY {name} TO "{owner}"', f"DROP OWNED BY {name}")
    execute(
        postgres.server,
        f'ALTER DATABASE {database.database} OWNER TO "{owner}"',
        f"DROP ROLE {name}",
    )


def test_a_setting_of_a_superuser_stops_no_rehearsal(owned, postgres, settings_for, monkeypatch):
    """What only a superuser may set for a database is told and left out of an ordinary owner's copy."""
    database, seen = f"ALTER DATABASE {owned.database} SET", []
    execute(postgres.server, f"{database} log_min_duration_statement = '5s'", f"{database} work_mem = '7MB'")
    settings, ear = settings_for(owned), Notes()
    path = create(settings, Run("backup create")).path

    def look(stage, _):
        seen.append(query(stage.settings.target, "SHOW work_mem"))

    monkeypatch.setattr(rehearse, "_rehearse", look)
    rehearse.rehearse(settings, Run("rehearse", listener=ear), path)
    assert seen == ["7MB"]
    told = "the copy goes without the setting log_min_duration_statement=5s: permission denied"
    assert [note for note in ear.notes if note.startswith(told)]
    assert copies(owned) == 0


def test_a_copy_that_cannot_be_given_what_the_database_has(saved, legacy, monkeypatch):
    """What else the server refuses (here: the owner) ends the rehearsal in one line; the target is untouched."""
    settings, path = saved

    def refuses(*_):
        raise ProgrammingError("ALTER DATABASE", None, Exception('must be member of role "boss"'))

    monkeypatch.setattr(databases, "give", refuses)
    with pytest.raises(BackupFailed, match='what the database has: must be member of role "boss"') as caught:
        rehearse.rehearse(settings, Run("rehearse"), path)
    assert (caught.value.exit_code, caught.value.database) == (7, "untouched")
    assert copies(legacy) == 0


def test_no_room_for_a_copy(saved, legacy, monkeypatch):
    """A server's disk that is visibly too small: exit code 7 before anything is made, with the numbers."""
    settings, path = saved
    monkeypatch.setattr(scratch, "room_of", lambda _: 5 * 2**20)
    monkeypatch.setattr(databases, "create", lambda *_: pytest.fail("it was made all the same"))
    with pytest.raises(BackupFailed) as caught:
        rehearse.rehearse(settings, Run("rehearse"), path)
    assert "5 MB free" in caught.value.message
    assert copies(legacy) == 0


@pytest.mark.variant
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_stopped_in_the_middle(saved, legacy, tmp_path, number):
    """Ctrl-C drops the copy; after `kill -9` the next run does. The target is as it was."""
    _, path = saved
    before = picture(legacy)
    like = legacy.database.replace("_", "\\_") + "\\_\\_rehearsal%"
    working = f"SELECT count(*) > 1 FROM pg_stat_activity WHERE datname LIKE '{like}'"
    with tool(legacy, "rehearse", str(path), directory=tmp_path / "var") as process:
        until(legacy, working)
        process.send_signal(number)
        process.wait(30)
    assert process.returncode == (130 if number == signal.SIGINT else -signal.SIGKILL)
    assert copies(legacy) == (0 if number == signal.SIGINT else 1)
    if number == signal.SIGKILL:
        ear = Notes()
        end, engine = time.monotonic() + 20, engine_for(legacy.to_database("postgres"))
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as admin:
            while copies(legacy) and time.monotonic() < end:  # the server must notice first that nobody is there
                scratch.clean_up(Run("rehearse", listener=ear), admin)
                time.sleep(0.1)
        assert copies(legacy) == 0
        assert any("which a killed run had left" in note for note in ear.notes)
    assert before.differences(picture(legacy)) == []
