"""Whatever fails, whenever: the database is exactly what it was, and the operator knows."""

from __future__ import annotations

import json
import resource
import signal
import time
from contextlib import contextmanager

import psycopg2
import pytest
import typer
from sqlalchemy import create_engine, text

from rollout import change, environment, postgres_tools, preflight
from rollout.checks.registry import CHECKS, Area, Check
from rollout.database import LOCK_KEY, engine_for, run_lock
from rollout.embedded import EmbeddedServer
from rollout.errors import DatabaseUnavailable
from rollout.findings import Finding
from rollout.postgres_tools import Tool
from rollout.sample_data.legacy import create_legacy_schema, fill_legacy
from rollout.transaction import TRANSACTION_LOCK_KEY
from tests.fixtures.databases import execute, query
from tests.fixtures.legacy import (
    HEAD,
    WAITING,
    Gate,
    as_role,
    attempt,
    meanwhile,
    picture,
    report_of,
    tool,
    until,
)
from tests.fixtures.proxy import Proxy
from tests.fixtures.tiers import tried_once

SESSIONS = (
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'lawsker-schema'"
)


def waiting_for(table):
    """Return the query that tells whether somebody waits for a table."""
    return f"{WAITING} AND relation::regclass::text = '{table}'"


def assert_told(settings, run, *, code, database):
    """See that the operator knows: exit code, the database's state, one line what, one line what to do, a report."""
    assert (run.exit_code, run.database) == (code, database), run.error
    for line in (run.error.message, run.error.hint):
        assert line.strip()
        assert "\n" not in line
    report = report_of(settings, run)
    assert (report["ok"], report["exit_code"], report["database"]) == (False, code, database)
    assert report["error"]["message"] == run.error.message
    assert report["error"]["hint"] == run.error.hint
    text = json.dumps(report) + (settings.reports / f"{run.run_id}.html").read_text(encoding="utf-8")
    assert settings.target.parameters["password"] not in text
    assert "Traceback" not in text


def assert_recorded(server, run, *, code):
    """See the outcome in the database's own memory."""
    found = query(server, f"SELECT to_jsonb(r) FROM rollout.runs r WHERE run_id = '{run.run_id}'")
    assert (found["ok"], found["exit_code"]) == (False, code)
    assert found["finished_at"] is not None


def assert_undone(settings, run, before, *, code=8, database="rolled back"):
    """See that nothing of a failed upgrade is left but the news of it."""
    assert_told(settings, run, code=code, database=database)
    assert before.differences(picture(settings.target)) == []
    assert_recorded(settings.target, run, code=code)


def test_an_error_in_a_revision(legacy, settings_for):
    """PostgreSQL refuses a statement half-way: exit code 8, its words in one line, the report, nothing left."""
    execute(
        legacy,
        "CREATE FUNCTION refuse() RETURNS event_trigger LANGUAGE plpgsql AS"
        " $$BEGIN RAISE EXCEPTION 'no views today' USING DETAIL = 'a second line'; END$$",
        "CREATE EVENT TRIGGER refuse ON ddl_command_start WHEN TAG IN ('CREATE VIEW') EXECUTE FUNCTION refuse()",
    )
    before, settings = picture(legacy), settings_for(legacy)
    run = attempt(settings, backup=True)
    assert_undone(settings, run, before)
    assert "step upgrade: no views today" in run.error.message
    assert run.result["backup"] is not None


@pytest.mark.parametrize(
    ("function", "problem"),
    tried_once(
        [
            (lambda subject: subject.connection.exec_driver_sql("SELECT 1 / 0"), "could not run: division by zero"),
            (lambda _: [Finding("users", "is not as it should be", "Look.")], "is not as it should be"),
        ]
    ),
    ids=["cannot run", "finds"],
)
def test_a_check_that_fails_before_commit(legacy, settings_for, monkeypatch, function, problem):
    """What a check finds, and a check that cannot run, roll everything back: exit code 9, findings in the report."""
    monkeypatch.setitem(CHECKS, "ever_unhappy", Check("ever_unhappy", Area.BUSINESS, (), function))
    before, settings = picture(legacy), settings_for(legacy)
    run = attempt(settings)
    assert_undone(settings, run, before, code=9)
    assert [one["problem"] for one in report_of(settings, run)["findings"] if one["severity"] == "error"] == [
        f"the check {problem}" if "could" in problem else problem
    ]
    assert run.result["summary"]["failed"] == 1


@pytest.mark.variant
def test_the_session_ends_during_the_checks(legacy, settings_for, monkeypatch):
    """A connection that is lost while checks run is no finding of theirs: exit code 8, the server's words."""

    def lose(subject):
        pid = subject.connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
        execute(legacy, f"SELECT pg_terminate_backend({pid})")
        subject.connection.exec_driver_sql("SELECT 1")

    monkeypatch.setitem(CHECKS, "ever_losing", Check("ever_losing", Area.STRUCTURE, (), lose))
    before, settings = picture(legacy), settings_for(legacy)
    run = attempt(settings)
    assert_undone(settings, run, before)
    assert "step verify" in run.error.message


def test_kill_9(gated, postgres, tmp_path):
    """The program is killed half-way: its session ends, nothing is left, and the next run goes through."""
    before = picture(gated.server)
    with tool(
        gated.server, "migrate", "--no-backup", "--yes", directory=tmp_path, ROLLOUT_LOCK_TIMEOUT="60"
    ) as process:
        gated.somebody()
        process.kill()
        process.wait()
        if postgres.major < 14:
            gated.open()  # older servers notice when they have something to tell
        # The gate is still shut: newer ones notice by themselves that nobody is there any more.
        until(gated.server, SESSIONS.replace("count(*)", "count(*) = 0"))
    assert before.differences(picture(gated.server)) == []
    assert query(gated.server, "SELECT count(*) FROM rollout.runs WHERE ok IS NULL") == 1


@pytest.mark.variant
@pytest.mark.parametrize(
    "number",
    [
        pytest.param(signal.SIGINT, marks=pytest.mark.variant),
        signal.SIGTERM,
        pytest.param(signal.SIGHUP, marks=pytest.mark.variant),
    ],
    ids=lambda number: number.name,
)
def test_a_signal_in_mid_upgrade(gated, tmp_path, number):
    """Ctrl-C, SIGTERM, a closed terminal: exit code 130; the statement that still waits on the server is cancelled."""
    before = picture(gated.server)
    with tool(gated.server, "migrate", "--no-backup", "--yes", "--json", directory=tmp_path / "var",
              ROLLOUT_LOCK_TIMEOUT="60") as process:  # fmt: skip
        gated.somebody()
        # People press it more than once: what cleans up comes to its end all the same.
        while process.poll() is None and not list(tmp_path.rglob("*.html")):
            process.send_signal(number)
            time.sleep(0.002)
        out, err = process.communicate(timeout=20)
    assert query(gated.server, SESSIONS) == 0
    values = json.loads(out)
    assert (process.returncode, values["exit_code"], values["database"]) == (130, 130, "rolled back")
    assert "Traceback" not in err
    assert before.differences(picture(gated.server)) == []
    assert query(gated.server, "SELECT exit_code FROM rollout.runs") == 130
    assert json.loads((tmp_path / "var/reports" / f"{values['run_id']}.json").read_text())["exit_code"] == 130


@pytest.mark.variant
def test_a_signal_while_waiting_for_a_table(legacy, tmp_path):
    """Also the wait for the first lock ends at once, and is cancelled on the server."""
    holder = psycopg2.connect(**legacy.parameters)
    try:
        holder.cursor().execute("LOCK TABLE users IN ACCESS SHARE MODE")
        with tool(legacy, "migrate", "--no-backup", "--yes", directory=tmp_path, ROLLOUT_LOCK_TIMEOUT="60") as process:
            until(legacy, waiting_for("users"))
            process.send_signal(signal.SIGTERM)
            _, err = process.communicate(timeout=20)
        assert process.returncode == 130, err
        assert "The database is rolled back." in err
        assert query(legacy, WAITING) == 0
    finally:
        holder.close()


@pytest.mark.variant
def test_a_signal_during_the_backup(legacy, tmp_path):
    """SIGTERM while pg_dump waits: exit code 130, untouched, on record, and no half of a backup stays."""
    holder = psycopg2.connect(**legacy.parameters)
    try:
        holder.cursor().execute("LOCK TABLE exchange_rates IN ACCESS EXCLUSIVE MODE")
        with tool(legacy, "migrate", "--json", directory=tmp_path / "var", ROLLOUT_LOCK_TIMEOUT="60") as process:
            until(legacy, waiting_for("exchange_rates"))
            process.send_signal(signal.SIGTERM)
            out, err = process.communicate(timeout=20)
        assert (process.returncode, json.loads(out or "{}").get("database")) == (130, "untouched"), err
        assert list((tmp_path / "var/backups").iterdir()) == []
        assert query(legacy, "SELECT exit_code FROM rollout.runs") == 130
    finally:
        holder.close()


@pytest.mark.variant
def test_the_session_is_terminated(gated, settings_for):
    """An administrator ends our session half-way."""
    before, settings = picture(gated.server), settings_for(gated.server, lock_timeout=60.0)
    with meanwhile(lambda: execute(gated.server, f"SELECT pg_terminate_backend({gated.somebody()})")):
        run = attempt(settings)
    gated.open()
    assert_undone(settings, run, before)


@pytest.mark.variant
def test_all_sessions_are_terminated(gated, settings_for):
    """All of ours end, the one that keeps the record too: the outcome is recorded through a new one."""
    before, settings = picture(gated.server), settings_for(gated.server, lock_timeout=60.0)

    def end_all():
        gated.somebody()
        execute(gated.server, SESSIONS.replace("count(*)", "pg_terminate_backend(pid)"))

    with meanwhile(end_all):
        run = attempt(settings)
    gated.open()
    assert_undone(settings, run, before)


def test_a_table_is_held_too_long(legacy, settings_for):
    """A table's lock does not come in time: exit code 5, the table is named, untouched."""
    before, settings = picture(legacy), settings_for(legacy, lock_timeout=0.2)
    holder = psycopg2.connect(**legacy.parameters)
    holder.cursor().execute("LOCK TABLE users IN ACCESS SHARE MODE")
    run = attempt(settings)
    holder.close()
    assert_undone(settings, run, before, code=5, database="untouched")
    assert "ACCESS EXCLUSIVE lock on table users within 0.2 s" in run.error.message


def test_a_table_is_held_while_we_look(legacy, settings_for, monkeypatch):
    """Already preflight has to wait for a table: exit code 5, untouched; not a check that failed."""

    def look(subject):
        yield from subject.connection.exec_driver_sql("SELECT FROM news_articles WHERE false")

    monkeypatch.setitem(CHECKS, "ever_reading", Check("ever_reading", Area.PREFLIGHT, (), look))
    settings = settings_for(legacy, lock_timeout=0.2)
    holder = psycopg2.connect(**legacy.parameters)
    holder.cursor().execute("LOCK TABLE news_articles IN ACCESS EXCLUSIVE MODE")
    run = attempt(settings)
    holder.close()
    assert_told(settings, run, code=5, database="untouched")
    assert "waited too long for a table's lock" in run.error.message


@pytest.mark.variant
def test_a_lock_in_mid_upgrade_is_held_too_long(gated, settings_for):
    """A lock that a revision waits for does not come in time: exit code 5, rolled back."""
    before, settings = picture(gated.server), settings_for(gated.server, lock_timeout=0.3)
    run = attempt(settings)
    gated.open()
    assert_undone(settings, run, before, code=5)


@pytest.mark.parametrize("key", [LOCK_KEY, TRANSACTION_LOCK_KEY], ids=["session", "transaction"])
def test_another_run_holds_the_lock(legacy, settings_for, key):
    """Exit code 5, who holds it, untouched; also where only the transaction's own lock shows it (through a pooler)."""
    before, settings = picture(legacy), settings_for(legacy)
    holder = psycopg2.connect(**legacy.parameters)
    holder.cursor().execute(f"SELECT pg_advisory_lock({key})")
    run = attempt(settings)
    assert_told(settings, run, code=5, database="untouched")
    assert f"another run holds the lock (pid {holder.info.backend_pid}, " in run.error.message
    holder.close()
    assert before.differences(picture(legacy)) == []


@pytest.mark.variant
def test_another_run_was_faster(legacy, settings_for, monkeypatch):
    """The run's lock was lost, and somebody else upgraded since we planned: nothing is remembered wrongly."""
    settings = settings_for(legacy)
    locks = change._locks

    def be_overtaken(*arguments):
        monkeypatch.undo()
        wanted = locks(*arguments)
        execute(legacy, SESSIONS.replace("count(*)", "pg_terminate_backend(pid)"))
        assert attempt(settings, to="auth").exit_code == 0
        return wanted

    monkeypatch.setattr(change, "_locks", be_overtaken)
    run = attempt(settings)
    assert_told(settings, run, code=5, database="untouched")
    assert "another run was faster" in run.error.message
    assert (
        query(legacy, "SELECT count(*) FROM rollout.preexisting_objects WHERE object = 'table workspace_mappings'") == 0
    )


def test_a_run_that_has_ended_stops_nobody(database):
    """The lock is given back with the run, not with its session, whose end the server may notice later."""
    lasting = create_engine("postgresql+psycopg2://", creator=lambda: psycopg2.connect(**database.parameters))
    with run_lock(lasting):
        pass
    with run_lock(engine_for(database)) as connection:
        assert connection.execute(text("SELECT 1")).scalar_one() == 1
    lasting.dispose()


@pytest.mark.variant
def test_a_session_that_is_silent_keeps_the_lock(legacy, postgres, settings_for, monkeypatch):
    """``idle_session_timeout`` of the database (14 and newer) does not end the session that holds the lock."""
    if postgres.major >= 14:
        execute(legacy, f"ALTER DATABASE {legacy.database} SET idle_session_timeout = '200ms'")
    settings = settings_for(legacy)
    monkeypatch.setattr(preflight, "check", lambda *_: time.sleep(0.6))
    run = attempt(settings)
    assert run.exit_code == 0
    assert query(legacy, "SELECT exit_code FROM rollout.runs") == 0


def test_ctrl_c_at_a_question(legacy, command, monkeypatch):
    """Nothing has happened yet: exit code 130, untouched, no traceback."""

    def ask(*_, **__):
        raise typer.Abort

    monkeypatch.setattr("commands.schema.ask", ask)
    result = command(legacy, "migrate", "--no-backup")
    assert result.exit_code == 130
    assert result.stderr.splitlines()[-1] == "The database is untouched."
    assert "Traceback" not in result.output


@pytest.mark.variant
def test_a_statement_takes_too_long(gated, settings_for):
    """``ROLLOUT_STATEMENT_TIMEOUT`` ends it: a failure like any other, not an interruption."""
    before, settings = picture(gated.server), settings_for(gated.server, lock_timeout=60.0, statement_timeout=1.5)
    run = attempt(settings)
    gated.open()
    assert_undone(settings, run, before)
    assert "statement timeout" in run.error.message


@pytest.mark.variant
def test_rights_go_after_preflight(legacy, limited_role, settings_for, monkeypatch):
    """Rights that preflight saw are revoked before the upgrade needs them."""
    execute(
        legacy,
        f"GRANT CREATE ON DATABASE {legacy.database} TO {limited_role[0]}",
        f"GRANT CREATE ON SCHEMA public TO {limited_role[0]}",
        f"""DO $$DECLARE t text; BEGIN
            FOR t IN SELECT format('ALTER TABLE %s OWNER TO {limited_role[0]}', oid::regclass) FROM pg_class
                WHERE relkind IN ('r', 'p', 'm') AND relnamespace = 'public'::regnamespace
            LOOP EXECUTE t; END LOOP; END$$""",
    )
    before, settings = picture(legacy), settings_for(as_role(legacy, limited_role))
    check = preflight.check

    def check_then_revoke(*arguments):
        check(*arguments)
        execute(legacy, f"REVOKE CREATE ON SCHEMA public FROM {limited_role[0]}, PUBLIC")

    monkeypatch.setattr(preflight, "check", check_then_revoke)
    run = attempt(settings)
    assert_told(settings, run, code=8, database="rolled back")
    assert "permission denied for schema public" in run.error.message
    execute(legacy, f"GRANT CREATE ON SCHEMA public TO {limited_role[0]}")
    assert [line for line in before.differences(picture(legacy)) if "PUBLIC" not in line] == []
    monkeypatch.undo()
    run = attempt(settings)
    assert run.exit_code == 0, "as the tables' owner, without being a superuser, it works"


@contextmanager
def files_up_to(size):
    """Let no file of a program that is started meanwhile grow beyond ``size`` bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def legacy_on(server, users):
    """Make a legacy database on an own server; return it."""
    there = server.server()
    with engine_for(there).begin() as connection:
        create_legacy_schema(connection)
        fill_legacy(connection, users=users, cases=10)
    return there


@pytest.mark.variant
def test_the_server_crashes(settings_for):
    """Immediate stop half-way; after the restart everything is as it was, and the next run goes through."""
    with EmbeddedServer(fast=True, options={"synchronous_commit": "on"}) as server:
        there = legacy_on(server, 60)
        gate = Gate(there)
        gate.shut()
        before, settings = picture(there), settings_for(there, lock_timeout=60.0)

        def crash():
            gate.somebody()
            server.stop(immediate=True)

        with meanwhile(crash):
            run = attempt(settings)
        gate.open()
        assert_told(settings, run, code=8, database="rolled back")
        server.start()
        settings = settings_for(server.server())
        assert before.differences(picture(settings.target)) == []
        assert query(settings.target, "SELECT count(*) FROM rollout.runs WHERE ok IS NULL") == 1
        assert attempt(settings).exit_code == 0


@pytest.mark.variant
def test_the_disk_is_full(settings_for):
    """No file of the server may grow further while users is filled in: exit code 8, nothing left."""
    limit = 24 * 2**20  # more than a segment of the write-ahead log: those must still fit
    with files_up_to(limit), EmbeddedServer(fast=True, options={"work_mem": "64MB"}) as server:
        there = legacy_on(server, 2600)
        execute(
            there,
            "ALTER TABLE users ADD COLUMN padding text",
            "ALTER TABLE users ALTER COLUMN padding SET STORAGE PLAIN",
            "ALTER TABLE users DISABLE TRIGGER USER",
            "UPDATE users SET padding = repeat('x', 7000)",
        )
        before, settings = picture(there), settings_for(there)
        assert query(there, "SELECT pg_relation_size('users')") > limit / 2
        run = attempt(settings)
        assert_undone(settings, run, before)
        assert "could not extend file" in run.error.message


class Lossy(Proxy):
    """A proxy that loses COMMIT: the ``request``, or the ``answer``; ``gone``: and then lets nobody in any more."""

    def __init__(self, server, lose, *, gone=False):
        """Listen on a port of its own."""
        self.lose, self.gone, self.lost = lose, gone, 0
        super().__init__(server)

    def lets_in(self):
        """Refuse who comes after the loss, where ``gone``."""
        return not (self.lost and self.gone)

    def asked(self, data, seen):
        """Pass everything on, but COMMIT."""
        if data.endswith(b"COMMIT\0"):
            self.lost += 1
            if self.lose == "request":
                return False
            seen.add("COMMIT")
        return True

    def answered(self, _data, seen):
        """Pass answers back; after COMMIT, hang up instead."""
        return "COMMIT" not in seen


@pytest.fixture
def lossy(legacy, monkeypatch):
    """Return what makes a proxy before a legacy database; the tool does not wait a second between questions."""
    sleep = time.sleep
    monkeypatch.setattr("rollout.transaction.time.sleep", lambda _: sleep(0.02))
    made = []

    def make(lose, **options):
        proxy = Lossy(legacy, lose, **options)
        made.append(proxy)
        return proxy

    yield make
    for proxy in made:
        proxy.close()


def test_the_answer_to_commit_is_lost(legacy, lossy, settings_for):
    """The server is asked, and says committed: the upgrade is done, verified, audited."""
    proxy = lossy("answer")
    run = attempt(settings_for(proxy.server))
    assert proxy.lost == 1
    assert (run.exit_code, run.database, run.error) == (0, "changed", None)
    assert query(legacy, "SELECT version_num FROM lawsker_schema_version") == HEAD


@pytest.mark.variant
def test_commit_itself_is_lost(legacy, lossy, settings_for):
    """The server is asked, and says aborted: exit code 8, rolled back."""
    proxy = lossy("request")
    before, settings = picture(legacy), settings_for(proxy.server)
    run = attempt(settings)
    assert proxy.lost == 1
    assert_told(settings, run, code=8, database="rolled back")
    assert before.differences(picture(legacy)) == []
    assert_recorded(legacy, run, code=8)


@pytest.mark.variant
def test_the_answer_to_commit_is_lost_and_nobody_can_be_asked(lossy, settings_for):
    """Exit code 20, unknown, and the statement to ask with when the server is back."""
    proxy = lossy("answer", gone=True)
    settings = settings_for(proxy.server)
    run = attempt(settings)
    assert_told(settings, run, code=20, database="unknown")
    assert "SELECT txid_status(" in run.error.hint


@pytest.mark.variant
def test_commit_is_refused(legacy, settings_for, monkeypatch):
    """A constraint that is checked at COMMIT fails there."""
    before, settings = picture(legacy), settings_for(legacy)
    commit = change.transaction.commit

    def commit_badly(connection, engine):
        connection.exec_driver_sql(
            "CREATE TEMPORARY TABLE a (id int PRIMARY KEY);"
            " CREATE TEMPORARY TABLE b (id int REFERENCES a DEFERRABLE INITIALLY DEFERRED);"
            " SET CONSTRAINTS ALL DEFERRED; INSERT INTO b VALUES (1)"
        )
        commit(connection, engine)

    monkeypatch.setattr(change.transaction, "commit", commit_badly)
    run = attempt(settings)
    assert_undone(settings, run, before)
    assert "COMMIT was refused" in run.error.message


@pytest.mark.variant
def test_the_audit_cannot_be_made(legacy, settings_for, monkeypatch):
    """After COMMIT the server is gone: exit code 13, and the database is changed, not untouched."""
    commit = change.transaction.commit

    def commit_then_lose(connection, engine):
        commit(connection, engine)

        def refuse():
            raise DatabaseUnavailable("no connection", hint="Wait.")

        monkeypatch.setattr(engine, "connect", refuse)

    monkeypatch.setattr(change.transaction, "commit", commit_then_lose)
    settings = settings_for(legacy)
    run = attempt(settings)
    assert_told(settings, run, code=13, database="changed")
    assert "no connection" in run.error.message
    assert query(legacy, "SELECT version_num FROM lawsker_schema_version") == HEAD


@pytest.mark.variant
def test_a_bug_of_ours_is_rolled_back_too(legacy, settings_for, monkeypatch):
    """Any other exception: nothing of the upgrade is left, and the record says that it failed."""
    before, settings = picture(legacy), settings_for(legacy)
    monkeypatch.setattr(environment, "finish", lambda *_: {}["no such key"])
    with pytest.raises(KeyError):
        attempt(settings)
    assert before.differences(picture(legacy)) == []
    assert query(legacy, "SELECT exit_code FROM rollout.runs") == 1


@pytest.mark.parametrize(
    ("found", "message"),
    [
        ((), "there is no pg_dump on this machine"),
        ((Tool("pg_dump", None, "9.6.1"), Tool("pg_dump", None, "11.22")), "only older ones are here: 11.22, 9.6.1"),
    ],
    ids=["none", "older"],
)
def test_no_pg_dump_that_fits(legacy, settings_for, monkeypatch, found, message):
    """Exit code 6, and the package to install; before anything is touched."""
    before, settings = picture(legacy), settings_for(legacy)
    monkeypatch.setattr(postgres_tools, "find", lambda _: found)
    run = attempt(settings, backup=True)
    assert_told(settings, run, code=6, database="untouched")
    assert message in run.error.message
    assert "postgresql-client-" in run.error.hint
    monkeypatch.undo()
    assert before.differences(picture(legacy)) == []


def test_the_backup_directory_cannot_be_written(legacy, settings_for):
    """A file stands in its place (root may write everywhere): exit code 7."""
    before, settings = picture(legacy), settings_for(legacy)
    settings.directory.mkdir()
    settings.backups.write_text("in the way")
    run = attempt(settings, backup=True)
    assert_undone(settings, run, before, code=7, database="untouched")
    assert str(settings.backups) in run.error.message


@pytest.mark.variant
@pytest.mark.parametrize("state", tried_once(["database", "role"]))
def test_a_read_only_database(legacy, settings_for, state):
    """Sessions are read-only by default: exit code 6, and what to type; with a memory already there, too."""
    settings = settings_for(legacy)
    if state == "database":
        attempt(settings, to="auth")
    before = picture(legacy)
    execute(legacy, f"ALTER DATABASE {legacy.database} SET default_transaction_read_only = on")
    run = attempt(settings)
    assert_told(settings, run, code=6, database="untouched")
    assert "read-only" in run.error.message
    assert "default_transaction_read_only = off" in run.error.hint
    assert before.contents == picture(legacy).contents
