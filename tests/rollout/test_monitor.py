"""Status, monitor, notifications and the chain of past runs, on a real server."""

from __future__ import annotations

import json
import threading
import time
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from sqlalchemy import text

from rollout import memory, metrics, monitor, plan
from rollout.database import LOCK_KEY, engine_for
from rollout.errors import DatabaseUnavailable, PreflightFailed, VerificationFailed
from rollout.history import verify_chain
from rollout.monitor import status
from rollout.report import configured
from rollout.run import Run
from tests.fixtures.databases import execute
from tests.fixtures.legacy import WAITING
from tests.fixtures.listening import Notes
from tests.fixtures.tiers import tried_once
from tests.fixtures.upgraded import USERS, connected

HEAD = plan.history()[-1].id


def look(settings, *, fails=None):
    """Take one look; return the run, and with ``fails`` the error too."""
    run = Run("status")
    if fails is None:
        status(settings, run)
        return run
    with pytest.raises(fails) as caught:
        status(settings, run)
    run.failed(caught.value)
    return run


@pytest.fixture
def settings(make_database, upgraded, settings_for):
    """Return settings for a copy of an upgraded database."""
    return settings_for(make_database(upgraded))


def test_status_of_an_upgraded_database(settings):
    """A healthy database has every key of cli.md, and figures that are right."""
    run = look(settings)
    assert run.result["healthy"] is True
    assert run.result["current_revision"] == run.result["head_revision"] == HEAD
    assert run.result["pending"] == []
    figures = run.result["metrics"]
    assert figures["users"] == USERS
    assert figures["users_without_workspace"] == figures["lawyers_without_level"] == 0
    assert figures["clients_without_credits"] == 0
    assert figures["estimated"] == []
    assert figures["unknown"] == {}
    assert figures["database_bytes"] > 1_000_000
    assert figures["lock_waits"] == 0
    assert figures["connections"] >= 1
    assert figures["last_backup_age_seconds"] is None
    assert figures["run_in_progress"] is False
    json.dumps(run.as_json())


def test_every_figure_is_described(settings):
    """Each number among the figures has its help for monitoring systems, and the other way round."""
    figures = look(settings).result["metrics"]
    told = {name for name in figures if name not in {"estimated", "unknown", "last_run"}}
    assert told <= metrics.HELP.keys()
    assert metrics.HELP.keys() - told <= {"last_run_ok", "last_run_age_seconds"}


def test_status_of_an_empty_database(database, settings_for):
    """A database that was never upgraded is healthy, with every revision pending and no users to count."""
    run = look(settings_for(database))
    assert run.result["current_revision"] is None
    assert [one["revision"] for one in run.result["pending"]] == [one.id for one in plan.history()]
    assert "users" not in run.result["metrics"]


def test_missing_rows_are_counted(settings):
    """Users who lack a row are counted, each kind for itself."""
    execute(
        settings.target,
        "DELETE FROM workspace_mappings WHERE user_id IN (SELECT user_id FROM workspace_mappings LIMIT 3)",
        "DELETE FROM lawyer_level_details WHERE lawyer_id IN (SELECT lawyer_id FROM lawyer_level_details LIMIT 2)",
        "DELETE FROM user_credits WHERE user_id IN (SELECT user_id FROM user_credits LIMIT 1)",
    )
    figures = look(settings).result["metrics"]
    assert figures["users_without_workspace"] == 3
    assert figures["lawyers_without_level"] == 2
    assert figures["clients_without_credits"] == 1


def more_users(count: int) -> tuple[str, str]:
    """Return statements that make users without the rows that triggers give them."""
    return (
        "ALTER TABLE users DISABLE TRIGGER USER",
        (
            "INSERT INTO users (id, tenant_id, username, password_hash, status)"
            " SELECT gen_random_uuid(), (SELECT id FROM tenants LIMIT 1), 'many-' || n, '!', 'ACTIVE'"
            f" FROM generate_series(1, {count}) n"
        ),
    )


@pytest.mark.variant
def test_large_tables_are_sampled(settings, monkeypatch):
    """Past its bound a look reads a sample, and its estimates are near the truth."""
    monkeypatch.setattr(metrics, "SAMPLED_PAGES", 40)
    execute(
        settings.target,
        *more_users(20_000),
        "INSERT INTO workspace_mappings (user_id, workspace_id, workspace_type)"
        " SELECT id, workspace_id, 'user' FROM users WHERE username LIKE 'many-%' AND substr(username, 6)::int % 2 = 0",
        "ANALYZE users",
    )
    figures = look(settings).result["metrics"]
    assert {"users", "users_without_workspace"} <= set(figures["estimated"])
    assert abs(figures["users"] - 20_000 - USERS) < 200
    assert 8_000 < figures["users_without_workspace"] < 12_000


def test_an_upgrade_that_was_rolled_back_leaves_as_many_users(settings, monkeypatch):
    """A large table of which half is dead rows still has as many users, or so."""
    monkeypatch.setattr(metrics, "SAMPLED_PAGES", 40)
    execute(settings.target, *more_users(2_000))
    execute(settings.target, "ANALYZE users")
    with connected(settings.target) as connection:
        for _ in range(3):
            connection.exec_driver_sql("UPDATE users SET username = username || '!'")
        connection.rollback()
    figures = look(settings).result["metrics"]
    assert "users" in figures["estimated"]
    assert abs(figures["users"] - 2_000 - USERS) < USERS


def test_a_damaged_structure_is_unhealthy(settings):
    """A dropped index is named, with exit code 9 and the database untouched."""
    execute(settings.target, "DROP INDEX ix_user_credits_last_reset_date")
    run = look(settings, fails=VerificationFailed)
    assert run.exit_code == 9
    assert run.database == "untouched"
    assert run.result["healthy"] is False
    assert [finding.subject for finding in run.findings] == ["ix_user_credits_last_reset_date"]


@pytest.mark.parametrize(
    ("statement", "shown"),
    [
        ("UPDATE lawsker_schema_version SET version_num = 'feedfacecafe'", "feedfacecafe"),
        ("INSERT INTO lawsker_schema_version VALUES ('0000')", f"0000, {HEAD}"),
    ],
)
def test_an_unknown_revision_is_unhealthy(settings, statement, shown):
    """An id that this checkout does not know, or a second one, is shown and unhealthy."""
    execute(settings.target, statement)
    run = look(settings, fails=VerificationFailed)
    assert run.result["current_revision"] == shown
    assert run.findings[0].check == "revision_is_known"


@contextmanager
def locked(server, table, mode="ACCESS EXCLUSIVE"):
    """Hold a lock on a table."""
    with connected(server) as connection:
        connection.exec_driver_sql(f"LOCK TABLE {table} IN {mode} MODE")
        yield connection


@pytest.mark.variant
def test_a_session_that_waits_for_a_lock_is_unhealthy(settings):
    """A wait of more than a second is found, with the session that holds the lock; it ends when the lock does."""

    def wait():
        execute(settings.target, "SET lock_timeout = '20s'; SELECT count(*) FROM tenants")

    with locked(settings.target, "tenants") as holder:
        pid = holder.connection.dbapi_connection.info.backend_pid
        waiter = threading.Thread(target=wait)
        waiter.start()
        while not waits(settings.target):
            time.sleep(0.05)
        run = look(settings, fails=VerificationFailed)
    waiter.join()
    assert run.result["metrics"]["lock_waits"] == 1
    assert str(pid) in run.findings[0].problem
    assert "tenants" in run.findings[0].problem
    assert look(settings).result["metrics"]["lock_waits"] == 0


def waits(server):
    """Tell whether a session waits for a lock."""
    with connected(server) as connection:
        return connection.exec_driver_sql(WAITING).scalar_one()


def test_a_short_wait_is_no_alarm(settings, monkeypatch):
    """A wait that is over at the second look counts for nothing."""
    seen = iter([{("a",): None}, {}])
    monkeypatch.setattr(monitor, "_waiting", lambda _: next(seen))
    monkeypatch.setattr(monitor.time, "sleep", lambda _: None)
    assert look(settings).result["metrics"]["lock_waits"] == 0


@pytest.mark.variant
def test_a_locked_table_costs_one_figure(settings):
    """While somebody holds users, its figures are unknown, with the reason, and the look ends soon."""
    begin = time.monotonic()
    with locked(settings.target, "users"):
        run = Run("status")
        with pytest.raises(VerificationFailed):
            status(settings, run)
    assert time.monotonic() - begin < 10
    figures = run.result["metrics"]
    assert figures["users"] is None
    assert "lock timeout" in figures["unknown"]["users"]
    assert figures["database_bytes"] > 0


def test_a_look_needs_no_rights(settings, postgres):
    """A user who may do nothing but connect gets a look; what it may not see is unknown or unhealthy, never zero."""
    role = f"looker_{settings.target.database}"
    execute(postgres.server, f"CREATE ROLE {role} LOGIN PASSWORD 'looker'")
    try:
        parameters = {**settings.target.parameters, "user": role, "password": "looker"}
        with connected(settings.target):
            run = look(
                replace(settings, target=replace(settings.target, parameters=parameters)), fails=VerificationFailed
            )
    finally:
        execute(settings.target, f"DROP OWNED BY {role}")
        execute(postgres.server, f"DROP ROLE {role}")
    figures = run.result["metrics"]
    assert run.findings[0].check == "structure_can_be_read"
    assert "permission denied" in run.findings[0].problem
    assert "permission denied" in figures["unknown"]["users"]
    assert figures["database_bytes"] > 0
    assert figures["hidden_sessions"] >= 1


def test_a_run_in_progress_shows(settings):
    """The lock of a run shows."""
    with connected(settings.target) as connection:
        connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": LOCK_KEY})
        assert look(settings).result["metrics"]["run_in_progress"] is True


def recorded(settings, command="migrate", error=None):
    """Record a run in the database."""
    run = Run(command)
    if error is None:
        with memory.recorded(settings, run):
            pass
        return run
    with pytest.raises(type(error)), memory.recorded(settings, run):
        raise error
    return run


def test_the_last_run_shows(settings):
    """The last recorded run and its age are among the figures."""
    recorded(settings)
    failed = recorded(settings, error=PreflightFailed("no", hint="do"))
    figures = look(settings).result["metrics"]
    assert figures["last_run"]["run_id"] == failed.run_id
    assert figures["last_run_ok"] is False
    assert 0 <= figures["last_run_age_seconds"] < 60


def test_an_unreachable_server(settings):
    """A server that does not answer is exit code 4."""
    away = replace(settings.target, parameters={**settings.target.parameters, "port": "1"})
    run = look(replace(settings, target=away), fails=DatabaseUnavailable)
    assert run.exit_code == 4


def test_a_connection_that_is_cut_during_a_look(settings, monkeypatch):
    """A session that is ended under a look is a lost connection, not a bug."""

    def cut(connection, _settings, _target):
        pid = connection.connection.dbapi_connection.info.backend_pid
        execute(settings.target, f"SELECT pg_terminate_backend({pid})")
        return metrics._try(connection, lambda: metrics._server(connection), {})

    monkeypatch.setattr(metrics, "read", cut)
    run = look(settings, fails=DatabaseUnavailable)
    assert "lost" in run.error.message


@pytest.mark.variant
def test_one_sample_an_interval(settings):
    """Looks come at the interval, each with the keys of cli.md, and the end is on time."""
    begin = time.monotonic()
    seen = []
    code = monitor.monitor(settings, interval=1, duration=2, on_sample=seen.append)
    assert code == 0
    assert len(seen) == 3
    assert 2 <= time.monotonic() - begin < 3
    assert all(values["healthy"] and values["reachable"] and values["command"] == "monitor" for values in seen)


def test_monitor_survives_a_server_that_is_away(settings, monkeypatch):
    """A look that cannot connect says so, and the next one goes on."""
    real, calls = status, []

    def sometimes(settings, run):
        calls.append(run)
        if len(calls) == 2:
            settings = replace(settings, target=replace(settings.target, parameters={"host": "127.0.0.1", "port": "1"}))
        real(settings, run)

    monkeypatch.setattr(monitor, "status", sometimes)
    seen = []
    code = monitor.monitor(settings, interval=1, duration=2, on_sample=seen.append)
    assert [values["reachable"] for values in seen] == [True, False, True]
    assert [values["healthy"] for values in seen] == [True, False, True]
    assert seen[1]["exit_code"] == 4
    assert code == 0


def test_the_textfile_is_what_prometheus_reads(settings, tmp_path):
    """The textfile has the figures with their help, is replaced with each look, and leaves nothing beside it."""
    path = tmp_path / "out" / "lawsker.prom"
    path.parent.mkdir()
    monitor.monitor(settings, interval=1, duration=0.1, on_sample=lambda _: None, prometheus=path)
    content = path.read_text()
    label = f'{{database="{configured(settings.target)}"}}'
    assert f"lawsker_up{label} 1.0" in content
    assert f"lawsker_healthy{label} 1.0" in content
    assert f"lawsker_users{label} {float(USERS)}" in content
    assert "# HELP lawsker_lock_waits" in content
    assert "last_backup" not in content.replace("# HELP", "")
    away = replace(settings.target, parameters={**settings.target.parameters, "port": "1"})
    monitor.monitor(replace(settings, target=away), interval=1, duration=0.1, on_sample=lambda _: None, prometheus=path)
    assert "lawsker_up{" in path.read_text()
    assert "lawsker_users" not in path.read_text()
    assert [one.name for one in path.parent.iterdir()] == ["lawsker.prom"]


def test_a_textfile_that_cannot_be_written_is_a_note(settings, tmp_path):
    """Watching goes on where the textfile's directory is missing."""
    listener = Notes()
    seen = []
    code = monitor.monitor(
        settings,
        interval=1,
        duration=0.1,
        on_sample=seen.append,
        prometheus=tmp_path / "no" / "x.prom",
        listener=listener,
    )
    assert code == 0
    assert len(seen) == 1
    assert "textfile" in listener.notes[0]


@pytest.fixture
def inbox():
    """Yield the bodies that a small web server received, and its address for Apprise."""
    received = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            received.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(500 if "refused" in self.path else 200)
            self.end_headers()

        def log_message(self, *_):
            """Say nothing."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield received, f"json://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_people_hear_when_health_changes_and_only_then(settings, inbox, monkeypatch):
    """One message when it turns bad, one when it is well again; none while nothing changes, none for a good start."""
    received, url = inbox
    healthy = iter([True, True, False, False, True])

    def sample(_settings):
        run = Run("monitor")
        run.result |= {"reachable": True, "healthy": True}
        if (state := next(healthy, None)) is None:
            raise KeyboardInterrupt
        if not state:
            run.failed(VerificationFailed("the index is gone", hint="make it"))
        return run

    monkeypatch.setattr(monitor, "_sample", sample)
    with pytest.raises(KeyboardInterrupt):
        monitor.monitor(
            replace(settings, notify_urls=(url + "/secret-token",)), interval=0, duration=0, on_sample=lambda _: None
        )
    assert [one["title"].rpartition(" is ")[2] for one in received] == ["unhealthy", "healthy"]
    assert "the index is gone" in received[0]["message"]


def test_a_notification_that_fails_is_a_note_without_its_address(settings, inbox, capfd, caplog):
    """Wrong addresses and refusals are notes; no token shows anywhere, and the others are still sent."""
    received, url = inbox
    urls = ("sekrit-token", "nosuch://sekrit-token@host", url + "/refused/sekrit-token", url + "/sekrit-token")
    listener = Notes()
    sent = monitor.notify.send(replace(settings, notify_urls=urls), listener, "title", "body")
    assert sent == 1
    assert [one["message"] for one in received] == ["body", "body"]
    assert [note[:9] for note in listener.notes] == ["address 1", "address 2", "address 3"]
    said = "".join([*listener.notes, *capfd.readouterr(), caplog.text])
    assert "sekrit" not in said


def test_a_plugin_that_raises_is_a_note(settings, monkeypatch):
    """Whatever a plugin raises, and whatever its text says, nothing but the error's kind is told."""

    def broken(*_args, **_kwargs):
        raise RuntimeError("https://sekrit-token")

    monkeypatch.setattr("apprise.Apprise.notify", broken)
    listener = Notes()
    assert monitor.notify.send(replace(settings, notify_urls=("json://localhost/x",)), listener, "t", "b") == 0
    assert listener.notes == ["address 1 of ROLLOUT_NOTIFY: the message could not be sent (RuntimeError)"]


@pytest.fixture
def chain(settings):
    """Return five recorded runs, the fourth killed before its end, and what the chain's verification says."""
    runs = [recorded(settings) for _ in range(3)]
    execute(
        settings.target, "INSERT INTO rollout.runs (run_id, command, started_at) VALUES ('killed', 'migrate', now())"
    )
    runs.append(recorded(settings, error=PreflightFailed("no", hint="do")))

    def verified(*statements):
        execute(settings.target, *statements)
        with connected(settings.target) as connection:
            return verify_chain(connection)

    return [run.run_id for run in runs], verified


def test_an_untouched_chain_is_whole(chain):
    """Runs that ended well, failed or were killed are no break; nor is a database without a memory."""
    _, verified = chain
    assert verified() == []
    assert verified("DROP SCHEMA rollout CASCADE") == []


FORGED = """
UPDATE rollout.runs SET record = 'x', hash = encode(sha256(convert_to(previous_hash || 'x', 'UTF8')), 'hex')
WHERE run_id = '{1}'
"""
PUT_IN = """
INSERT INTO rollout.runs (run_id, command, started_at, finished_at, ok, exit_code, record, previous_hash, hash)
SELECT 'put-in', command, started_at, finished_at, ok, exit_code, copy, previous_hash,
       encode(sha256(convert_to(previous_hash || copy, 'UTF8')), 'hex')
FROM (SELECT *, replace(record, '{1}', 'put-in') AS copy FROM rollout.runs WHERE run_id = '{1}') one
"""

EDITS = [
    ("UPDATE rollout.runs SET record = replace(record, 'migrate', 'restore') WHERE run_id = '{1}'", ["{1}"]),
    ("UPDATE rollout.runs SET ok = false WHERE run_id = '{1}'", ["{1}"]),
    ("UPDATE rollout.runs SET exit_code = 0 WHERE run_id = '{3}'", ["{3}"]),
    ("UPDATE rollout.runs SET started_at = started_at - interval '1 s' WHERE run_id = '{0}'", ["{0}"]),
    ("UPDATE rollout.runs SET to_revision = 'x' WHERE run_id = '{2}'", ["{2}"]),
    ("DELETE FROM rollout.runs WHERE run_id = '{1}'", ["{2}"]),
    ("DELETE FROM rollout.runs WHERE run_id = '{0}'", ["{1}"]),
    ("UPDATE rollout.runs SET hash = NULL WHERE run_id = '{1}'", ["{1}", "{2}"]),
    ("UPDATE rollout.runs SET record = NULL WHERE run_id = '{1}'", ["{1}"]),
    ("UPDATE rollout.runs SET previous_hash = NULL WHERE run_id = '{2}'", ["{2}"]),
    (FORGED, ["{1}", "{2}"]),
    (PUT_IN, ["put-in"]),
]


@pytest.mark.parametrize(("statement", "named"), tried_once(EDITS, keep=4))
def test_an_edited_history_shows(chain, statement, named):
    """Each kind of edit names the runs that no longer fit."""
    runs, verified = chain
    problems = verified(statement.format(*runs))
    assert list(dict.fromkeys(problem.partition(":")[0] for problem in problems)) == [
        one.format(*runs) for one in named
    ]


def test_clocks_that_differ_do_not_break_the_chain(settings):
    """A run recorded by a machine whose clock is ahead is no break for those that follow."""
    recorded(settings)
    ahead = Run("migrate")
    with memory.recorded(settings, ahead):
        ahead.finished_at = ahead.started_at + timedelta(hours=1)
    recorded(settings)
    recorded(settings)
    with engine_for(settings.target).connect() as connection:
        assert verify_chain(connection) == []
