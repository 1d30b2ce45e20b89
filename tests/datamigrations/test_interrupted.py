"""Ctrl-C and kill -9 at any line from the proof to the end of a command: what is said is what is there."""

from __future__ import annotations

import json
import os
import signal
import sys
from contextlib import contextmanager, suppress

import pytest
import typer

from commands.frame import command
from datamigrations.accounts import upgrade_users
from datamigrations.pagtive import ImportOptions, import_pagtive
from datamigrations.undo import undo_run
from rollout import transaction
from rollout.errors import RolloutError
from rollout.memory import runs
from rollout.run import Run
from rollout.settings import PROJECT
from tests.datamigrations.test_failures import STAGED, own_target, some_rows  # noqa: F401 - a fixture
from tests.fixtures.databases import url_of
from tests.fixtures.legacy import meanwhile, tool, until
from tests.fixtures.pagtive import imported, rows_of
from tests.fixtures.upgraded import connected

OURS = tuple(str(PROJECT / name) + os.sep for name in ("rollout", "datamigrations", "commands"))


@contextmanager
def at_line(run, number, action, after="reconcile"):
    """Do something at the n-th line that our code comes to once a step of the run has begun; yield how many came."""
    count = [0]

    def on_line(_frame, event, _argument):
        if event == "line" and any(step.name == after for step in run.steps):
            count[0] += 1
            if count[0] == number:
                action()
        return on_line

    def on_call(frame, _event, _argument):
        return on_line if frame.f_code.co_filename.startswith(OURS) else None

    old = sys.gettrace()
    sys.settrace(on_call)
    try:
        yield count
    finally:
        sys.settrace(old)


class Trials:
    """Commands that are interrupted, one after the other, on one target."""

    def __init__(self, settings, source, target, capsys):
        """Begin with a source of some rows."""
        some_rows(source)
        self.settings, self.source, self.target, self.capsys = settings, source, target, capsys
        imported(settings, dry_run=True)
        self.clean = target.contents()
        self.run_id = ""
        self.lines = 0

    def call(self, name, number):
        """Call a command, with a signal at a line; return what it said."""
        work = {
            "pagtive import": lambda run: import_pagtive(self.settings, run, ImportOptions()),
            "pagtive undo": lambda run: undo_run(self.settings, run, self.run_id),
            "users upgrade": lambda run: upgrade_users(self.settings, run),
        }[name]
        after = {"pagtive undo": "receipt", "users upgrade": "accounts"}.get(name, "reconcile")
        self.capsys.readouterr()
        exit_code = None
        try:
            with (
                command(name, as_json=True) as run,
                at_line(run, number, lambda: signal.raise_signal(signal.SIGINT), after) as count,
            ):
                work(run)
        except typer.Exit as ended:
            exit_code = ended.exit_code
        self.lines = count[0]
        self.run_id = run.run_id
        said = json.loads(self.capsys.readouterr().out)
        assert said["exit_code"] == exit_code
        return said

    def check(self, said, whole):
        """Check that what was said is what is there, and that the books say the same."""
        changed = self.target.contents() != self.clean
        database = {True: "changed", False: "rolled back"}[changed == whole]
        assert (said["exit_code"], said["database"]) == ({"changed": 0, "rolled back": 130}[database], database), said
        with connected(self.settings.target) as connection:
            last = next(iter(runs(connection)))
        assert (last["run_id"], last["exit_code"]) == (said["run_id"], said["exit_code"])
        assert not (said["exit_code"] == 0 and "report" not in said)
        assert self.target.one(STAGED) == 0
        return changed

    def one_round(self, lines):
        """Import and undo, interrupted at these lines, until both have been done."""
        for number in [*lines, 0]:
            if self.check(self.call("pagtive import", number), whole=True):
                imported_as = self.run_id
                for other in [number, 0]:
                    self.run_id = imported_as
                    if not self.check(self.call("pagtive undo", other), whole=False):
                        break

    def upgrade(self, number):
        """Upgrade users, interrupted at a line; then take the accounts away again."""
        said = self.call("users upgrade", number)
        changed = self.check(said, whole=True)
        self.target.run("TRUNCATE user_accounts")
        return changed


@pytest.fixture
def trials(settings, source, target, capsys):
    """Return trials on a target whose users have no accounts."""
    target.run("TRUNCATE user_accounts")
    return Trials(settings, source, target, capsys)


@pytest.mark.exhaustive
def test_ctrl_c_at_any_line(trials):
    """Before COMMIT all is rolled back, from then on the command finishes; what it says is so."""
    trials.one_round([])
    last = trials.lines
    trials.one_round(range(1, last, max(1, last // 6)))
    trials.upgrade(0)
    last = trials.lines
    assert {trials.upgrade(number) for number in range(1, last, max(1, last // 6))} == {True, False}


@pytest.mark.exhaustive
def test_ctrl_c_at_many_lines(trials):
    """The same at more of them."""
    trials.one_round([])
    trials.one_round(range(2, trials.lines, trials.lines // 40))
    trials.upgrade(0)
    for number in range(2, trials.lines, trials.lines // 40):
        trials.upgrade(number)


IN_COMMIT = "SELECT pid FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
COMMANDS = ("pagtive import", "users upgrade", "pagtive import --retry-rejects", "pagtive undo")


class InCommit:
    """A command that is held in its COMMIT: written down by the server, which waits for a replica that never comes."""

    def __init__(self, server, settings, source, name):
        """Make everything ready for a command."""
        self.server, self.settings, self.name, self.run_id = server, settings, name, ""
        some_rows(source)
        with rows_of(server.server()) as target:
            if name == "pagtive undo":
                self.run_id = imported(settings).run_id
            elif name.endswith("rejects"):
                source.run("UPDATE users SET role = 'root'")
                imported(settings)
                source.run("UPDATE users SET role = 'user'")
            self.before = target.contents()
            target.run(
                "CREATE FUNCTION wait_for_it() RETURNS trigger LANGUAGE plpgsql AS"
                " $$BEGIN PERFORM set_config('synchronous_commit', 'on', true); RETURN NULL; END$$"
            )
            target.run(
                "CREATE TRIGGER gate AFTER INSERT OR DELETE ON user_accounts"
                " FOR EACH STATEMENT EXECUTE FUNCTION wait_for_it()"
            )
            target.run("ALTER DATABASE postgres SET synchronous_commit = 'local'")
            self.replica(target, "nobody")

    @staticmethod
    def replica(target, name):
        """Let COMMIT wait for a replica of this name."""
        target.run("SET synchronous_commit = 'local'")
        target.run(f"ALTER SYSTEM SET synchronous_standby_names = '{name}'")
        target.run("SELECT pg_reload_conf()")

    def call(self):
        """Call the command in this process; return its run."""
        name = self.name.split(" --")[0]
        run = Run(name)
        with suppress(RolloutError):
            if name == "pagtive import":
                import_pagtive(self.settings, run, ImportOptions(retry_rejects=self.name != name))
            elif name == "pagtive undo":
                undo_run(self.settings, run, self.run_id)
            else:
                upgrade_users(self.settings, run)
        return run

    def program(self, directory):
        """Call the command as a program of its own."""
        undo = [self.run_id, "--yes"] if self.run_id else []
        directory.mkdir()
        source = url_of(self.settings.source)
        server = self.settings.target
        return tool(server, *self.name.split(), *undo, "--json", directory=directory, SOURCE_DATABASE_URL=source)

    def check_whole(self):
        """Check that the change is there, all of it, and nothing besides."""
        with rows_of(self.server.server()) as target:
            self.replica(target, "")
            assert target.contents() != self.before
            people = target.one("SELECT count(*) FROM pagtive_user_map")
            accounts = target.one("SELECT count(*) FROM user_accounts")
            codes = target.one("SELECT count(*) FROM pagtive_invitation_codes")
            changes = target.one("SELECT count(DISTINCT run_id) FROM rollout.import_changes")
            expected = {
                "users upgrade": (0, target.one("SELECT count(email) FROM users"), 0, 0),
                "pagtive undo": (0, 0, 0, 0),
                "pagtive import --retry-rejects": (1, 1, 1, 2),
            }
            assert (people, accounts, codes, changes) == expected.get(self.name, (1, 1, 1, 1))


@pytest.fixture
def in_commit(own_target, source):  # noqa: F811 - a fixture
    """Return what begins a command that is held in its COMMIT."""
    return lambda name: InCommit(*own_target, source, name)


@pytest.mark.variant
@pytest.mark.parametrize("name", COMMANDS)
def test_ctrl_c_during_commit(in_commit, tmp_path, name):
    """It is too late to stop: the command waits with the server, finishes, and says so."""
    one = in_commit(name)
    with one.program(tmp_path / "tool") as process:
        until(one.settings.target, IN_COMMIT)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            process.send_signal(number)
        with rows_of(one.server.server()) as target:
            one.replica(target, "")
        output, _ = process.communicate(timeout=60)
    said = json.loads(output)
    assert (process.returncode, said["database"], said["ok"]) == (0, "changed", True)
    one.check_whole()


@pytest.mark.variant
def test_kill_9_during_commit(in_commit, tmp_path):
    """The import is there, whole; what it staged goes with the next run, and it can be taken back by its number."""
    one = in_commit("pagtive import")
    with one.program(tmp_path / "tool") as process:
        until(one.settings.target, IN_COMMIT)
        process.kill()
        process.wait()
    one.check_whole()
    with rows_of(one.server.server()) as target, connected(one.settings.target) as connection:
        last = next(iter(runs(connection)))
        assert (last["command"], last["ok"]) == ("pagtive import", None)
        assert target.one(STAGED) == 5
        assert imported(one.settings).database == "untouched"
        assert target.one(STAGED) == 0
        undo_run(one.settings, Run("pagtive undo"), last["run_id"])
        assert target.contents() == one.before


@pytest.mark.variant
@pytest.mark.parametrize("name", COMMANDS)
def test_the_answer_to_commit_is_lost(in_commit, name):
    """The session dies after COMMIT was written down: the server is asked, and says that it is so."""
    one = in_commit(name)
    done = []
    with meanwhile(lambda: done.append(one.call())):
        pid = until(one.settings.target, IN_COMMIT)
        with rows_of(one.server.server()) as target:
            target.run("SELECT pg_terminate_backend(%s)", pid)
    assert (done[0].exit_code, done[0].database) == (0, "changed")
    one.check_whole()


@pytest.mark.variant
@pytest.mark.parametrize(("name", "back"), [(COMMANDS[0], True), (COMMANDS[0], False), (COMMANDS[3], True)])
def test_the_server_is_killed_during_commit(in_commit, monkeypatch, name, back):
    """Back in time, it is asked and says that all is there; else nobody can tell, and that is what is said."""
    one = in_commit(name)
    sleep = transaction.time.sleep
    monkeypatch.setattr(transaction.time, "sleep", lambda seconds: sleep(seconds if back else 0))
    done = []
    with meanwhile(lambda: done.append(one.call())):
        until(one.settings.target, IN_COMMIT)
        with rows_of(one.server.server()) as target:
            processes = [one.server.pid, *(pid for (pid,) in target.run("SELECT pid FROM pg_stat_activity"))]
            for number in (signal.SIGSTOP, signal.SIGKILL):
                for pid in processes:
                    with suppress(ProcessLookupError):
                        os.kill(pid, number)
        one.server.stop()
        if back:
            one.server.start()
    if not back:
        assert (done[0].exit_code, done[0].database) == (20, "unknown")
        assert "txid_status" in done[0].error.hint
        one.server.start()
    else:
        assert (done[0].exit_code, done[0].database) == (0, "changed")
        with connected(one.settings.target) as connection:
            assert next(iter(runs(connection)))["exit_code"] == 0
    one.check_whole()
