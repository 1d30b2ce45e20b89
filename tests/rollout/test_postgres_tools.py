"""Client programs: which are found, which is chosen, how they are run, and what ends them."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from rollout import interrupt, postgres_tools
from rollout.backups.archive import restore_archive
from rollout.backups.dump import server_says
from rollout.errors import LockNotAcquired, PreflightFailed
from rollout.messages import in_chinese
from rollout.postgres_tools import Outcome, Tool, connection_string, find, redact, run_tool, tool_for
from rollout.settings import PROJECT, Server
from tests.fixtures.databases import execute, query

SECRET = "pa:ss w%rd"
SERVER = Server("DATABASE_URL", {"host": "db.example", "dbname": "a=b c'd", "user": "me", "password": SECRET})


def script(directory, program, body):
    """Write a program that is a shell script; return it as a tool."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / program
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return Tool(program, path, "16.4")


@pytest.fixture
def installed(monkeypatch, tmp_path):
    """Return what makes this machine have pg_dump in these versions and no others, in this order."""

    def install(*versions):
        places = [tmp_path / f"place{number}" for number in range(len(versions))]
        for place, version in zip(places, versions, strict=True):
            script(place, "pg_dump", f'echo "pg_dump (PostgreSQL) {version}"')
        monkeypatch.setattr(postgres_tools, "_directories", lambda: iter(places))
        find.cache_clear()
        return places

    yield install
    find.cache_clear()


@pytest.mark.parametrize(
    ("versions", "server", "expected"),
    [
        (["15.18 (Debian 15.18-0+deb12u1)", "18.6"], 14, "15.18"),
        (["18.6", "15.18", "16.2"], 16, "16.2"),
        (["18.6", "15.18"], 16, "18.6"),
        (["17.1", "18.6"], 17, "17.1"),
        (["16.2", "17.1", "18.6"], 18, "18.6"),
        (["15.18", "18beta1"], 18, "18beta1"),
        (["12.22"], 12, "12.22"),
    ],
)
def test_oldest_fitting_tool_is_chosen(installed, versions, server, expected):
    """A server up to 16 gets a client up to 16 where there is one; none is older than its server."""
    installed(*versions)
    assert tool_for("pg_dump", server).version == expected


def test_first_of_equals_is_chosen(installed):
    """Among equals the first place counts: the system's own, which knows TLS, before the embedded wheel's."""
    places = installed("18.1", "18.6")
    assert tool_for("pg_dump", 18).path.parent == places[0]


def test_only_older_tools_are_refused(installed):
    """A server newer than every client: what is here, what is needed, how to get it."""
    installed("15.18", "16.2")
    with pytest.raises(PreflightFailed) as caught:
        tool_for("pg_dump", 17)
    assert caught.value.exit_code == 6
    assert "pg_dump 17 or newer is needed; only older ones are here: 15.18, 16.2" in caught.value.message
    assert "postgresql-client-17" in caught.value.hint


def test_archive_of_a_newer_client_needs_one_as_new(installed):
    """pg_restore 15 cannot read what pg_dump 16 made, whatever the server's version is."""
    installed("15.18", "18.6")
    assert tool_for("pg_dump", 14, oldest=16).major == 18
    with pytest.raises(PreflightFailed):
        tool_for("pg_dump", 14, oldest=19)


def test_no_tool_at_all_is_refused(installed):
    """Without any pg_dump: exit code 6, and a hint that can be typed."""
    installed()
    with pytest.raises(PreflightFailed) as caught:
        tool_for("pg_dump", 16)
    assert "there is no pg_dump" in caught.value.message
    assert "apt install postgresql-client-16" in caught.value.hint


def test_what_does_not_run_is_not_found(installed, tmp_path):
    """Broken, silent and foreign programs, and Debian's wrapper, are passed over."""
    places = installed("1", "2", "3", "4", "16.2")
    script(places[0], "pg_dump", "exit 1")
    script(places[1], "pg_dump", "echo something else")
    (places[2] / "pg_dump").chmod(0o644)
    (places[3] / "pg_dump").unlink()
    script(tmp_path, "pg_wrapper", 'echo "pg_dump (PostgreSQL) 17.1"')
    (places[3] / "pg_dump").symlink_to(tmp_path / "pg_wrapper")
    assert [tool.version for tool in find("pg_dump")] == ["16.2"]


def test_real_tools_are_found():
    """The embedded wheel's client is there in development, and all three programs are."""
    assert all(any(tool.major >= 18 for tool in find(program)) for program in ("pg_dump", "pg_restore", "psql"))


def test_password_is_in_the_environment_only(tmp_path):
    """Neither the argument list nor what comes back holds the password; libpq finds it in PGPASSWORD."""
    tool = script(
        tmp_path, "pg_dump",
        f'printf "%s\\n" "$@" > {tmp_path}/argv; printf "%s" "$PGPASSWORD" > {tmp_path}/password\n'
        f'umask > {tmp_path}/umask; echo "pg_dump: error: password $PGPASSWORD is wrong" >&2; exit 1',
    )  # fmt: skip
    outcome = run_tool(tool, ["--jobs=2"], server=SERVER)
    argv = (tmp_path / "argv").read_text()
    assert SECRET not in argv
    assert "--no-password" in argv
    assert r"dbname='a=b c\'d'" in argv
    assert (tmp_path / "password").read_text() == SECRET
    assert (tmp_path / "umask").read_text().strip() == "0077"
    assert not outcome.ok
    assert SECRET not in outcome.stderr
    assert outcome.reason == "pg_dump: password *** is wrong"


def test_redaction_knows_urls():
    """A password in a URL is taken out too, whoever wrote it."""
    assert redact("postgresql://me:geheim@host/db failed", None) == "postgresql://me:***@host/db failed"
    assert SECRET not in connection_string(SERVER)


def with_password(password):
    """Return a server with this password."""
    return Server("DATABASE_URL", {**SERVER.parameters, "password": password})


@pytest.mark.parametrize("password", ["p", "e", ":", "pg", "1", "ERROR", "密", "transaction_timeout"])
def test_a_password_spoils_no_message(tmp_path, password):
    """What a program told is judged as it stands there; a short password is no reason to make it unreadable."""
    server = with_password(password)
    assert restore_archive(new_restore(tmp_path, TIMEOUT_BLOCK + IGNORED), tmp_path, server, 16) is None
    assert restore_archive(new_restore(tmp_path, "WARNING:  one\n密告:  e\n", 0), tmp_path, server, 17) is None
    refused = "pg_restore: error: could not execute query: permission denied for schema public\n"
    reason = restore_archive(new_restore(tmp_path, refused), tmp_path, server, 17)
    assert reason == "pg_restore: could not execute query: permission denied for schema public"


@pytest.mark.parametrize("password", ["p", "1", "#", "密", "a b", "lo$g", "long enough"])
@pytest.mark.parametrize(
    "told", ["'{}'", '"{}"', "password={} host=x", "x {} y", "of {}", "({}).", "postgresql://me:{}@host", "为{}。"]
)
def test_no_password_is_shown_where_it_stands_as_one(tmp_path, password, told):
    """Wherever a value can stand, a password is taken out, however short it is."""
    (tmp_path / "told").write_text(f"pg_dump: error: {told.format(password)}")
    shown = run_tool(
        script(tmp_path, "pg_dump", f"cat {tmp_path}/told >&2; exit 1"), [], server=with_password(password)
    )
    for text in (shown.stderr, shown.reason, repr(shown)):
        assert told.format(password) not in text
    assert told.format("***") in shown.reason


def test_a_message_of_ours_stays_one():
    """What we say ourselves of a program's end is there in Chinese too, whatever the password is."""
    outcome = Outcome(Tool("pg_dump", Path("/x"), "16.4"), 3, "", server=with_password("3"))
    assert in_chinese(outcome.reason) == "pg_dump 以退出码 3 结束"


def test_a_password_that_is_part_of_what_is_judged(tmp_path):
    """The error's kind is that of what the program told, not of what is left of it."""
    tool = script(tmp_path, "pg_dump", 'echo "pg_dump: error: lock timeout" >&2; exit 1')
    outcome = run_tool(tool, [], server=with_password("lock"))
    assert isinstance(server_says(outcome.reason, cause=outcome.cause), LockNotAcquired)


def test_the_servers_own_words_are_part_of_the_reason(database, postgres):
    """A table that cannot be read: not only that it failed, but what the server says of it."""
    execute(
        database,
        "CREATE TABLE t (a text)",
        "ALTER TABLE t ALTER a SET STORAGE EXTERNAL",
        "INSERT INTO t VALUES (repeat('x', 9000))",
        "UPDATE pg_class SET relfilenode = 999999 WHERE oid = (SELECT reltoastrelid FROM pg_class WHERE relname = 't')",
    )
    outcome = run_tool(tool_for("pg_dump", postgres.major), ["--file=/dev/null"], server=database)
    assert 'Dumping the contents of table "t" failed' in outcome.reason
    assert "failed. Error message from server: ERROR:  could not open file" in outcome.reason


FAILED, FROM_SERVER = "pg_dump: error: it failed.\n", "Error message from server: ERROR:  invalid page"


@pytest.mark.parametrize(
    ("returncode", "stderr", "timed_out", "reason"),
    [
        (1, "pg_dump: error: out of room\npg_dump: error: a worker died\n", False, "pg_dump: out of room"),
        (1, "something odd\n", False, "pg_dump: something odd"),
        (1, f"{FAILED}pg_dump: detail: {FROM_SERVER}", False, f"pg_dump: it failed. {FROM_SERVER}"),
        (1, f"{FAILED}pg_dump: error: {FROM_SERVER}", False, f"pg_dump: it failed. {FROM_SERVER}"),
        (1, f"{FAILED}pg_dump: detail: Query was: LOCK TABLE t", False, "pg_dump: it failed."),
        (1, f"{FAILED}pg_dump: detail: Command was: X", False, "pg_dump: it failed."),
        (1, f"{FAILED}pg_dump: error: The command was: X", False, "pg_dump: it failed."),
        (-9, "", False, "pg_dump was ended by signal 9"),
        (3, "", False, "pg_dump ended with code 3"),
        (-15, "", True, "pg_dump was stopped because it took too long"),
    ],
)
def test_reason_is_one_line(returncode, stderr, timed_out, reason):
    """Whatever a program says or does not say, there is one line for the operator: the first error."""
    assert Outcome(Tool("pg_dump", Path("/x"), "16.4"), returncode, stderr, timed_out).reason == reason


def test_timeout_ends_the_program_and_its_children(tmp_path):
    """A program that takes too long is ended, workers included."""
    tool = script(tmp_path, "pg_dump", f"sleep 60 & echo $! > {tmp_path}/child; wait")
    begin = time.monotonic()
    outcome = run_tool(tool, [], timeout=0.5)
    assert outcome.timed_out
    assert not outcome.ok
    assert time.monotonic() - begin < 10
    assert is_gone(int((tmp_path / "child").read_text()))


def test_interruption_ends_the_program(tmp_path):
    """Ctrl-C, or any error in what watches, ends the program before it goes on up."""
    tool = script(tmp_path, "pg_dump", f"echo $$ > {tmp_path}/pid; exec sleep 60")

    def watch():
        if (tmp_path / "pid").exists():
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_tool(tool, [], watch=watch)
    assert is_gone(int((tmp_path / "pid").read_text()))


def test_ctrl_c_while_it_starts_ends_it_too(tmp_path, monkeypatch):
    """A signal that comes when the program runs, and nobody knows its number yet, leaves no program behind."""
    tool = script(tmp_path, "pg_dump", f"echo $$ > {tmp_path}/pid; exec sleep 60")
    start = subprocess.Popen

    def begin(*arguments, **options):
        process = start(*arguments, **options)
        wait_for(tmp_path / "pid")
        signal.raise_signal(signal.SIGINT)
        return process

    monkeypatch.setattr(postgres_tools.subprocess, "Popen", begin)
    with interrupt.heeding(), pytest.raises(KeyboardInterrupt):
        run_tool(tool, [])
    assert is_gone(int((tmp_path / "pid").read_text()))


def test_program_ends_when_we_are_killed(tmp_path):
    """Kill -9 of us leaves no dump running (Linux)."""
    script(tmp_path, "pg_dump", f"echo $$ > {tmp_path}/pid; exec sleep 60")
    code = f"""
        from pathlib import Path
        from rollout.postgres_tools import Tool, run_tool
        run_tool(Tool("pg_dump", Path("{tmp_path}/pg_dump"), "16.4"), [])
    """
    ours = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], cwd=PROJECT)
    pid = int(wait_for(tmp_path / "pid"))
    ours.send_signal(signal.SIGKILL)
    ours.wait(10)
    assert is_gone(pid)


def test_program_that_cannot_start_is_refused(tmp_path):
    """A file that is not there: exit code 6, with its name."""
    with pytest.raises(PreflightFailed) as caught:
        run_tool(Tool("pg_dump", tmp_path / "pg_dump", "16.4"), [])
    assert "cannot be started" in caught.value.message


TIMEOUT_BLOCK = (
    'pg_restore: error: could not execute query: ERROR:  unrecognized configuration parameter "transaction_timeout"\n'
    "Command was: SET transaction_timeout = 0;\n"
)
IGNORED = "pg_restore: warning: errors ignored on restore: 1\n"


def new_restore(tmp_path, stderr, code=1):
    """Return a pg_restore 18 that writes this to stderr, its arguments to a file, and ends with this code."""
    (tmp_path / "stderr").write_text(stderr)
    body = f'printf "%s\\n" "$@" > {tmp_path}/argv; cat {tmp_path}/stderr >&2; exit {code}'
    return Tool("pg_restore", script(tmp_path, "pg_restore", body).path, "18.6")


@pytest.mark.parametrize(
    "stderr",
    [
        TIMEOUT_BLOCK + IGNORED,
        TIMEOUT_BLOCK * 4 + IGNORED,
        # two workers at the same time
        "pg_restore: pg_restore: error: error: " + TIMEOUT_BLOCK.removeprefix("pg_restore: error: ") * 2 + IGNORED,
        # a server that speaks Chinese
        TIMEOUT_BLOCK.replace("unrecognized configuration parameter", "未认可的配置参数") + IGNORED,
    ],
)
def test_transaction_timeout_alone_is_tolerated(tmp_path, stderr):
    """A client from 17 on, on a server up to 16: the one error that everybody gets is no failure."""
    assert restore_archive(new_restore(tmp_path, stderr), tmp_path, SERVER, 16) is None
    assert "--exit-on-error" not in (tmp_path / "argv").read_text()


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        (
            "pg_restore: error: could not execute query: ERROR:  permission denied\nCommand was: X;\n",
            "permission denied",
        ),
        ("pg_restore: error: a worker process died unexpectedly\n", "a worker process died unexpectedly"),
        ('pg_restore: error: COPY failed for table "t": ERROR:  disk full\n', "disk full"),
        ("gone\n", "gone"),
    ],
)
def test_every_other_error_is_fatal(tmp_path, more, reason):
    """One unknown line among the tolerated ones fails the restore, and is the one that is told."""
    problem = restore_archive(new_restore(tmp_path, TIMEOUT_BLOCK + more + IGNORED), tmp_path, SERVER, 16)
    assert reason in problem
    assert "transaction_timeout" not in problem


@pytest.mark.parametrize(("stderr", "code"), [("", 1), (TIMEOUT_BLOCK, -9), (TIMEOUT_BLOCK, 2)])
def test_other_ends_are_fatal(tmp_path, stderr, code):
    """No explanation, a signal, another code: nothing of that is tolerated."""
    tool = new_restore(tmp_path, stderr, max(0, code))
    if code < 0:
        tool.path.write_text(tool.path.read_text().replace("exit 0", "kill -9 $$"))
    assert restore_archive(tool, tmp_path, SERVER, 16)


@pytest.mark.parametrize(
    "line",
    [
        "pg_restore: warning: archive is compressed, but this installation does not support compression",
        "pg_restore: skipping something",
        "ERROR:  permission denied for table t",
        "no space left",
    ],
)
def test_unknown_words_of_a_restore_that_ended_well_are_fatal(tmp_path, line):
    """The code is 0, and a line is there that nobody knows: no restore to rely on; the line is told."""
    heard = []
    tool = new_restore(tmp_path, f"WARNING:  first\n{line}\n", 0)
    assert line in restore_archive(tool, tmp_path, SERVER, 17, tell=heard.append)
    assert heard == ["WARNING:  first"]


def test_what_the_server_tells_beside_is_no_failure(tmp_path):
    """Warnings of the server, in whatever language, are passed on."""
    said = "WARNING:  one\nDETAIL:  of it\nLINE 1: SELECT 1\n               ^\n警告:  two\nHINT:  do\n"
    heard = []
    assert restore_archive(new_restore(tmp_path, said, 0), tmp_path, SERVER, 17, tell=heard.append) is None
    assert heard == ["WARNING:  one", "DETAIL:  of it", "LINE 1: SELECT 1", "^", "警告:  two", "HINT:  do"]


def test_newer_server_gets_no_tolerance(tmp_path):
    """A server that knows the setting: the first error stops the restore."""
    assert restore_archive(new_restore(tmp_path, TIMEOUT_BLOCK), tmp_path, SERVER, 17)
    assert "--exit-on-error" in (tmp_path / "argv").read_text()


def test_real_client_and_server_agree(database, make_database, postgres, tmp_path):
    """Whatever client and server are here: a dump goes out and comes back, on a database whose name needs care."""
    execute(database, "CREATE TABLE t (a int)", "INSERT INTO t SELECT generate_series(1, 10)")
    dump, restore = tool_for("pg_dump", postgres.major), tool_for("pg_restore", postgres.major)
    assert run_tool(dump, ["-Fd", "-f", str(tmp_path / "dump")], server=database).ok
    copy = make_database()
    assert restore_archive(restore, tmp_path / "dump", copy, postgres.major) is None
    assert query(copy, "SELECT sum(a) FROM t") == 55
    assert "already exists" in restore_archive(restore, tmp_path / "dump", copy, postgres.major)


def test_wrong_password_is_told_and_not_asked_for(database):
    """A wrong password fails at once, without a prompt, and is not repeated."""
    wrong = Server("DATABASE_URL", {**database.parameters, "password": SECRET})
    outcome = run_tool(find("pg_dump")[-1], ["--file=/dev/null"], server=wrong)
    assert not outcome.ok
    assert "authentication failed" in outcome.reason
    assert SECRET not in outcome.stderr


def wait_for(path):
    """Return what a file holds, as soon as it holds something."""
    end = time.monotonic() + 10
    while time.monotonic() < end:
        if path.exists() and path.read_text().strip():
            return path.read_text()
        time.sleep(0.05)
    raise AssertionError(f"{path} did not come")


def is_gone(pid):
    """Tell whether a process ends within some seconds; a zombie has ended."""
    end = time.monotonic() + 5
    while time.monotonic() < end:
        try:
            os.kill(pid, 0)
            if "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text():
                return True
        except (ProcessLookupError, FileNotFoundError):
            return True
        time.sleep(0.05)
    return False


def test_workers_outlive_no_program_that_was_killed(tmp_path):
    """A program that is killed takes its workers with it, also those that do not hear SIGTERM at once."""
    script = tmp_path / "pg_dump"
    worker = 'trap "sleep 0.3; exit" TERM; echo $$ > "$0.worker"; while :; do sleep 0.1; done'
    wait = 'while [ ! -s "$0.worker" ]; do sleep 0.05; done'
    script.write_text(f"#!/bin/bash\nbash -c '{worker}' \"$0\" &\n{wait}\nkill -9 $$\n")
    script.chmod(0o755)
    outcome = run_tool(Tool("pg_dump", script, "18.0"), [])
    assert outcome.returncode == -9
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pg_dump.worker").read_text()), 0)
