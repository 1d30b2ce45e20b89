"""What stops an import, when, and what it leaves: the target as it was, one line, one hint, an exit code."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from contextlib import suppress
from dataclasses import replace

import psycopg2
import pytest
from alembic import command

from rollout import plan
from rollout.embedded import EmbeddedServer
from rollout.sample_data import create_pagtive_schema
from rollout.sample_data.legacy import create_legacy_schema, fill_legacy
from rollout.settings import Server
from tests.fixtures.databases import execute, url_of
from tests.fixtures.legacy import LOCKS, meanwhile, picture, tool, until
from tests.fixtures.pagtive import attempt_import, figures, imported, rows_of, uid
from tests.fixtures.tiers import tried_once
from tests.fixtures.upgraded import connected

GATE = 20_261_124
WAITING = f"SELECT pid FROM {LOCKS} WHERE locktype = 'advisory' AND objid = {GATE} AND NOT granted"

STAGED = "SELECT count(*) FROM pg_tables WHERE schemaname = 'rollout' AND tablename ~ '^staged_'"


def some_rows(source):
    """Write a row into every table of the source."""
    project = source.project(1, source.user(1))
    source.page(project, 1)
    source.log(1, uid(1))
    source.code(1, "A")


STEPS = {
    "users": "AFTER INSERT ON users FOR EACH STATEMENT",
    "map": "AFTER INSERT ON pagtive_user_map FOR EACH STATEMENT",
    "projects": "AFTER INSERT ON pagtive_projects FOR EACH STATEMENT",
    "details": "AFTER INSERT ON pagtive_project_details FOR EACH STATEMENT",
    "logs": "AFTER INSERT ON pagtive_llm_logs FOR EACH STATEMENT",
    "codes": "AFTER INSERT ON pagtive_invitation_codes FOR EACH STATEMENT",
    "commit": "AFTER INSERT ON pagtive_invitation_codes DEFERRABLE INITIALLY DEFERRED FOR EACH ROW",
}


@pytest.fixture
def gate(target_server, target, request):
    """Yield a connection that holds the import inside the transaction, at its first project; closing it lets go.

    Parametrise indirectly with one of ``STEPS`` for another place.
    """
    holder = hold(target_server, target, getattr(request, "param", "projects"))
    yield holder
    holder.close()


def hold(server, target, step):
    """Make whoever comes to a step of the import wait; return the connection whose end lets go."""
    target.run(
        "CREATE FUNCTION stand() RETURNS trigger LANGUAGE plpgsql AS"
        f" $$BEGIN PERFORM pg_advisory_xact_lock({GATE}); RETURN NULL; END$$"
    )
    kind = "CONSTRAINT TRIGGER" if step == "commit" else "TRIGGER"
    target.run(f"CREATE {kind} gate {STEPS[step]} EXECUTE FUNCTION stand()")
    holder = psycopg2.connect(**server.parameters)
    holder.autocommit = True
    with holder.cursor() as cursor:
        cursor.execute(f"SELECT pg_advisory_lock({GATE})")
    return holder


@pytest.fixture
def source_gate(source_server, source):
    """Yield a connection that holds the COPY of the source's pages; closing it lets go."""
    source.run("ALTER TABLE project_details RENAME TO pages_of_projects")
    source.run(
        "CREATE FUNCTION stand() RETURNS boolean LANGUAGE plpgsql AS"
        f" $$BEGIN PERFORM pg_advisory_xact_lock_shared({GATE}); RETURN true; END$$"
    )
    source.run("CREATE VIEW project_details AS SELECT * FROM pages_of_projects WHERE stand()")
    holder = psycopg2.connect(**source_server.parameters)
    holder.autocommit = True
    with holder.cursor() as cursor:
        cursor.execute(f"SELECT pg_advisory_lock({GATE})")
    yield holder
    holder.close()


def refused(run, code, database="untouched"):
    """Check how a run ended; return its message. Message and hint are one line each."""
    assert (run.exit_code, run.database) == (code, database), run.error
    assert "\n" not in run.error.message + run.error.hint
    assert run.error.hint
    return str(run.error.message)


@pytest.mark.parametrize(
    "table",
    [
        "users",
        pytest.param("projects", marks=pytest.mark.variant),
        pytest.param("project_details", marks=pytest.mark.variant),
    ],
)
def test_a_required_table_is_missing(settings, source, target_server, table):
    """The message names it, and nothing was written, not even into our memory of quarantined rows."""
    before = picture(target_server)
    source.run(f"DROP TABLE {table}")
    assert refused(attempt_import(settings), 6) == f"the source lacks {table}"
    assert before.differences(picture(target_server)) == []


def test_required_columns_are_missing(settings, source):
    """All of them are named at once; the mixed-case one too."""
    source.run("ALTER TABLE users DROP email")
    source.run('ALTER TABLE project_details DROP page_id, DROP "versionId"')
    message = refused(attempt_import(settings), 6)
    assert message == "the source lacks users.email, project_details.page_id, project_details.versionId"


def test_what_is_optional_may_be_missing(settings, source):
    """Optional tables and columns are reported, and their counts are zero."""
    source.user(1)
    source.run("ALTER TABLE users DROP image, DROP email_verified")
    source.run("DROP TABLE llmlog")
    run = imported(settings)
    assert run.result["source"]["missing"] == ["llmlog", "users.email_verified", "users.image"]
    assert figures(run, "llm_logs") == {}
    assert figures(run, "users") == {"read": 1, "inserted": 1}


def test_no_source(settings):
    """Without SOURCE_DATABASE_URL: configuration, and the key is named."""
    assert "SOURCE_DATABASE_URL" in refused(attempt_import(replace(settings, source=None)), 3)


@pytest.mark.parametrize(
    ("parameters", "part"),
    [
        ({"port": "1"}, "no connection"),
        ({"dbname": "nowhere"}, "no such database"),
        ({"password": "wrong"}, "let us in"),
        ({"sslmode": "verify-full", "sslrootcert": "/nowhere/root.crt"}, "no secure connection"),
    ],
)
def test_the_source_cannot_be_reached(settings, parameters, part):
    """Port, database, password: exit code 4, and no password in what is said."""
    given = {**settings.source.parameters, **parameters}
    run = attempt_import(replace(settings, source=Server("SOURCE_DATABASE_URL", given)))
    assert part in refused(run, 4)
    assert given["password"] not in json.dumps(run.as_json(), default=str)


def test_integer_keys_of_users(settings_for, database, source_server):
    """The target is another application's database: refused with the type that it has."""
    execute(database, "CREATE TABLE users (id serial PRIMARY KEY, email text)")
    message = refused(attempt_import(settings_for(database, source_server)), 6)
    assert message == "users.id of the target is integer, not uuid"


def test_a_target_that_was_not_upgraded(settings_for, make_database, legacy_template, source_server):
    """Missing tables and columns are named, with the command that makes them."""
    run = attempt_import(settings_for(make_database(legacy_template), source_server))
    assert "pagtive_projects" in refused(run, 6)
    assert "tool migrate" in run.error.hint


@pytest.mark.parametrize(
    ("option", "value"), [("tenant", ""), ("tenant", "t" * 51), ("source_timezone", "Asia/Nowhere")]
)
def test_options_that_make_no_sense(settings, option, value):
    """A tenant code that does not fit its column, a zone that the server does not know."""
    refused(attempt_import(settings, **{option: value}), 6)


@pytest.mark.parametrize("zone", tried_once(["UTC+8", "CST", "GMT+8", "+08:00", "8", "Foo/Bar-3", ""], keep=2))
def test_zones_that_mean_something_else(settings, zone):
    """What PostgreSQL takes for a POSIX rule (its sign the other way round) or an abbreviation is no zone."""
    run = attempt_import(settings, source_timezone=zone)
    assert "does not know the time zone" in refused(run, 6)
    assert "pg_timezone_names" in run.error.hint


def test_a_zone_that_is_an_abbreviation_too(settings, source, target):
    """PostgreSQL takes CET for one hour all year, and it has a zone of that name with summer time; UTC is UTC."""
    run = attempt_import(settings, source_timezone="CET")
    assert "an abbreviation, which knows no summer time" in refused(run, 6)
    source.user(1)
    source.run("UPDATE users SET created_at = '2024-07-01 12:00'")
    assert attempt_import(settings, source_timezone="Europe/Paris").exit_code == 0
    created = "SELECT created_at AT TIME ZONE 'UTC' FROM users JOIN pagtive_user_map ON user_id = users.id"
    assert target.one(created).hour == 10
    assert attempt_import(settings, source_timezone="utc").exit_code == 0


def test_a_role_that_may_not_read(settings, source, source_server, postgres):
    """The table is named."""
    role = f"reader_{source_server.database}"
    execute(postgres.server, f"CREATE ROLE {role} LOGIN PASSWORD 'reader'")
    try:
        some_rows(source)
        source.run(f"GRANT SELECT ON users, projects, llmlog, invitation_codes TO {role}")
        reader = Server("S", {**source_server.parameters, "user": role, "password": "reader"})
        message = refused(attempt_import(replace(settings, source=reader)), 6)
        assert message == "column project_details.project_id of the source may not be read"
        source.run(f"GRANT SELECT ON project_details TO {role}")
        assert figures(imported(replace(settings, source=reader)), "project_details") == {"read": 1, "inserted": 1}
    finally:
        execute(source_server, f"DROP OWNED BY {role}")
        execute(postgres.server, f"DROP ROLE {role}")


def test_a_role_that_may_not_make_the_staging_tables(settings, target, target_server, source, postgres):
    """A missing right is no failed import; what the hint says is enough."""
    source.user(1)
    imported(settings)
    role = f"importer_{target_server.database}"
    execute(postgres.server, f"CREATE ROLE {role} LOGIN PASSWORD 'importer'")
    try:
        target.run(f"GRANT USAGE ON SCHEMA rollout TO {role}")
        for schema in ("public", "rollout"):
            target.run(f"GRANT ALL ON ALL TABLES IN SCHEMA {schema} TO {role}")
            target.run(f"GRANT ALL ON ALL SEQUENCES IN SCHEMA {schema} TO {role}")
        theirs = Server("DATABASE_URL", {**target_server.parameters, "user": role, "password": "importer"})
        settings = replace(settings, target=theirs)
        source.user(2)
        run = attempt_import(settings)
        assert "permission denied for schema rollout" in refused(run, 6)
        assert "GRANT ALL ON SCHEMA rollout" in run.error.hint
        target.run(f"GRANT ALL ON SCHEMA rollout TO {role}")
        run = attempt_import(settings)
        assert run.exit_code == 0, run.error
    finally:
        execute(target_server, f"DROP OWNED BY {role}")
        execute(postgres.server, f"DROP ROLE {role}")


def test_a_limit_of_the_source_on_statements(settings, source, source_server):
    """Is not what a wait for a lock ends with: that is ours, and told as a lock."""
    some_rows(source)
    source.run(f'ALTER DATABASE "{source_server.database}" SET statement_timeout = 200')
    with psycopg2.connect(**source_server.parameters) as other, other.cursor() as cursor:
        cursor.execute("LOCK TABLE users")
        begin = time.monotonic()
        refused(attempt_import(replace(settings, lock_timeout=1.0)), 5)
        assert time.monotonic() - begin >= 1.0
    other.close()


def test_a_source_in_a_schema_with_an_odd_name(settings, source, source_server):
    """A percent sign, and what else has to be quoted."""
    some_rows(source)
    source.run('CREATE SCHEMA "a%b ""c"')
    for table in ("users", "projects", "project_details", "llmlog", "invitation_codes"):
        source.run(f'ALTER TABLE {table} SET SCHEMA "a%b ""c"')
    source.run(f'ALTER DATABASE "{source_server.database}" SET search_path = "a%b ""c"')
    assert figures(imported(settings), "project_details") == {"read": 1, "inserted": 1}


def test_rows_that_a_policy_hides(settings, source, source_server, postgres):
    """A source whose row security would leave rows out is an error, not a smaller source."""
    role = f"filtered_{source_server.database}"
    execute(postgres.server, f"CREATE ROLE {role} LOGIN PASSWORD 'reader'")
    try:
        some_rows(source)
        source.run("ALTER TABLE projects ENABLE ROW LEVEL SECURITY")
        source.run(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}")
        reader = Server("S", {**source_server.parameters, "user": role, "password": "reader"})
        assert "row-level security" in refused(attempt_import(replace(settings, source=reader)), 6)
    finally:
        execute(source_server, f"DROP OWNED BY {role}")
        execute(postgres.server, f"DROP ROLE {role}")


@pytest.mark.variant
def test_a_source_that_is_altered_meanwhile(settings, source, source_server, target, source_gate):
    """Whoever wants to alter or drop a table of the source waits until its rows have been copied."""
    some_rows(source)
    with meanwhile(lambda: imported(settings)):
        until(settings.source, WAITING)
        with rows_of(source_server) as other:
            other.run("SET lock_timeout = '100ms'")
            for statement in ("ALTER TABLE users DROP image", "DROP TABLE llmlog", "DROP VIEW project_details"):
                with pytest.raises(psycopg2.errors.LockNotAvailable):
                    other.run(statement)
        source_gate.close()
    assert target.one("SELECT count(*) FROM pagtive_llm_logs") == 1


def test_a_read_only_source(settings, source, source_server):
    """A source whose sessions may not write is enough."""
    some_rows(source)
    source.run(f'ALTER DATABASE "{source_server.database}" SET default_transaction_read_only = on')
    assert figures(imported(settings), "llm_logs") == {"read": 1, "inserted": 1}


def test_a_locked_source_table(settings, source, source_server):
    """Somebody alters the source: the lock does not come in time."""
    some_rows(source)
    holder = psycopg2.connect(**source_server.parameters)
    with holder.cursor() as cursor:
        cursor.execute("LOCK TABLE projects")
        assert "locked by another session" in refused(attempt_import(replace(settings, lock_timeout=0.2)), 5)
    holder.close()


def test_a_locked_target_table(settings, source, target_server):
    """Somebody writes users in a long transaction: the lock does not come in time, and nothing has been changed."""
    some_rows(source)
    holder = psycopg2.connect(**target_server.parameters)
    with holder.cursor() as cursor:
        cursor.execute("UPDATE users SET last_login = last_login")
        message = refused(attempt_import(replace(settings, lock_timeout=0.2)), 5)
    assert "table users" in message
    holder.rollback()
    with rows_of(target_server) as rows:
        assert rows.one(STAGED) == 0
    holder.close()


def test_another_run_holds_the_lock(settings, source, gate):
    """Two imports at once: the second one says who is at it."""
    some_rows(source)
    with meanwhile(lambda: imported(settings)):
        until(settings.target, WAITING)
        assert "another run" in refused(attempt_import(settings), 5)
        gate.close()


@pytest.mark.variant
def test_a_user_who_signs_up_meanwhile(settings, source, target, target_server, gate):
    """Writers of the target wait for the merge: nobody appears beside the import who should have been matched."""
    some_rows(source)
    with meanwhile(lambda: imported(settings)):
        until(settings.target, WAITING)
        with rows_of(target_server) as other:
            other.run("SET lock_timeout = '200ms'")
            with pytest.raises(psycopg2.errors.LockNotAvailable):
                other.lawsker_user(1, email="user1@pagtive.example")
            assert other.one("SELECT count(*) FROM users WHERE registration_source = 'pagtive'") == 0
        gate.close()
    assert target.one("SELECT count(*) FROM users WHERE registration_source = 'pagtive'") == 1


@pytest.mark.parametrize(
    "gate",
    [pytest.param(step, marks=[] if step == "commit" else pytest.mark.variant) for step in STEPS],
    indirect=True,
)
def test_the_merge_is_killed(settings, source, target, target_server, gate):
    """The backend dies at any step, COMMIT too: everything is as it was, and the next import works."""
    some_rows(source)
    before = picture(target_server)
    runs = []
    with meanwhile(lambda: runs.append(attempt_import(settings))):
        pid = until(settings.target, WAITING)
        target.run("SELECT pg_terminate_backend(%s)", pid)
    refused(runs[0], 8, "rolled back")
    assert before.differences(picture(target_server)) == []
    assert target.one(STAGED) == target.one("SELECT count(*) FROM rollout.import_changes") == 0
    gate.close()
    assert imported(settings).database == "changed"


def test_the_source_is_killed(settings, source, target, target_server, source_gate):
    """The source's backend dies while rows come: exit code 4, the target untouched."""
    some_rows(source)
    before = picture(target_server)
    runs = []
    with meanwhile(lambda: runs.append(attempt_import(settings))):
        pid = until(settings.source, WAITING)
        source.run("SELECT pg_terminate_backend(%s)", pid)
    assert "the source went away while project_details was read" in refused(runs[0], 4)
    assert before.differences(picture(target_server)) == []
    assert target.one(STAGED) == 0
    source_gate.close()
    imported(settings)


def test_the_staging_session_is_killed(settings, source, target, source_gate):
    """The target's backend that takes the rows dies: nothing was touched, and no thread is left waiting."""
    some_rows(source)
    runs = []
    threads = threading.active_count()
    with meanwhile(lambda: runs.append(attempt_import(settings))):
        until(settings.source, WAITING)
        staging = (
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND query ~ '^COPY.*staged_project_d'"
        )
        target.run("SELECT pg_terminate_backend(%s)", until(settings.target, staging))
        time.sleep(0.3)
        source_gate.close()
    refused(runs[0], 8)
    assert threading.active_count() == threads


@pytest.mark.parametrize("side", tried_once(["target", "source"]))
def test_a_whole_server_goes_away(settings, source, target, source_gate, side):
    """All sessions of one side end at once while rows come: an exit code, one line, and the next import works."""
    some_rows(source)
    runs = []
    with meanwhile(lambda: runs.append(attempt_import(settings))):
        until(settings.source, WAITING)
        everybody = (
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND application_name = 'lawsker-schema'"
        )
        (source if side == "source" else target).run(everybody)
        time.sleep(0.3)
        source_gate.close()
    refused(runs[0], {"source": 4, "target": 8}[side])
    imported(settings)


@pytest.fixture
def own_target(settings_for, source_server):
    """Yield an embedded server with an upgraded database, and settings that point to it."""
    with EmbeddedServer(options={"fsync": "off"}) as server:
        with connected(server.server()) as connection:
            create_legacy_schema(connection, feishu_auths=True)
            fill_legacy(connection, users=10, cases=10)
            connection.commit()
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("DATABASE_URL", server.url)
            command.upgrade(plan.alembic_config(), "head")
        yield server, settings_for(server.server(), source_server)


@pytest.mark.variant
@pytest.mark.parametrize("step", ["users", "details", "commit", "commit of what is not on the disk"])
def test_the_target_server_is_killed(own_target, source, step):
    """Every process dies by kill -9: after the restart the target is as it was, and the next import tidies up."""
    server, settings = own_target
    some_rows(source)
    if step.endswith("disk"):
        execute(server.server(), "ALTER SYSTEM SET wal_writer_delay = '10s'", "SELECT pg_reload_conf()")
        step = "commit"
    runs = []
    with rows_of(server.server()) as target:
        before = target.contents()
        holder = hold(server.server(), target, step)
        with meanwhile(lambda: runs.append(attempt_import(settings))):
            until(settings.target, WAITING)
            processes = [server.pid, *(pid for (pid,) in target.run("SELECT pid FROM pg_stat_activity"))]
            # All at once, as when the machine stops: a backend that sees its postmaster die would still roll back.
            for number in (signal.SIGSTOP, signal.SIGKILL):
                for pid in processes:
                    with suppress(ProcessLookupError):
                        os.kill(pid, number)
            server.stop()
            server.start()
        holder.close()
    refused(runs[0], 8, "rolled back")
    with rows_of(server.server()) as target:
        assert target.contents() == before
        assert target.one(STAGED) == 5
        assert target.one("SELECT count(*) FROM rollout.import_changes") == 0
        imported(settings)
        assert target.one(STAGED) == 0
        assert target.one("SELECT count(*) FROM pagtive_projects") == 1


@pytest.mark.variant
def test_the_source_server_is_killed(settings, target, target_server):
    """Every process of the source dies by kill -9 while rows come: the target is untouched; then all is well."""
    with EmbeddedServer(options={"synchronous_commit": "on"}) as server:
        with connected(server.server()) as connection:
            create_pagtive_schema(connection)
            connection.commit()
        settings = replace(settings, source=server.server())
        before = picture(target_server)
        runs = []
        with rows_of(server.server()) as source:
            some_rows(source)
            source.run("ALTER TABLE project_details RENAME TO pages_of_projects")
            source.run("CREATE VIEW project_details AS SELECT p.* FROM pages_of_projects p, pg_sleep(20)")
            with meanwhile(lambda: runs.append(attempt_import(settings))):
                until(settings.source, "SELECT pid FROM pg_stat_activity WHERE wait_event = 'PgSleep'")
                processes = [server.pid, *(pid for (pid,) in source.run("SELECT pid FROM pg_stat_activity"))]
                for number in (signal.SIGSTOP, signal.SIGKILL):
                    for pid in processes:
                        with suppress(ProcessLookupError):
                            os.kill(pid, number)
        assert "the source went away" in refused(runs[0], 4)
        assert before.differences(picture(target_server)) == []
        assert target.one(STAGED) == 0
        server.stop()
        server.start()
        with rows_of(server.server()) as source:
            source.run("DROP VIEW project_details")
            source.run("ALTER TABLE pages_of_projects RENAME TO project_details")
        imported(replace(settings, source=server.server()))
        assert target.one("SELECT count(*) FROM pagtive_project_details") == 1


@pytest.mark.variant
def test_very_many_projects_of_one_user(settings, source, target):
    """However many rows hang on one, each is there once, and a second import has nothing to do."""
    source.run(
        "INSERT INTO projects (id, user_id, project_name, created_at, updated_at)"
        " SELECT gen_random_uuid(), %s, 'p', '2024-01-01', '2024-01-01' FROM generate_series(1, 20000)",
        source.user(1),
    )
    assert figures(imported(settings), "projects") == {"read": 20_000, "inserted": 20_000}
    assert target.one("SELECT count(DISTINCT id) FROM pagtive_projects WHERE user_id = %s", uid(1)) == 20_000
    assert figures(imported(settings), "projects") == {"read": 20_000, "unchanged": 20_000}


@pytest.mark.variant
@pytest.mark.parametrize(
    ("gate", "number"),
    [
        ("projects", signal.SIGINT),
        pytest.param("projects", signal.SIGTERM, marks=pytest.mark.variant),
        *(
            pytest.param(step, signal.SIGINT, marks=pytest.mark.variant)
            for step in STEPS
            if step not in {"projects", "commit"}  # COMMIT waits for nobody
        ),
    ],
    indirect=["gate"],
)
def test_ctrl_c_in_the_merge(settings, source, target_server, gate, tmp_path, number):  # noqa: PLR0917
    """The command ends with 130, and the target is as it was."""
    some_rows(source)
    before = picture(target_server)
    directory = tmp_path / "tool"
    directory.mkdir()
    arguments = ("pagtive", "import", "--json")
    with tool(target_server, *arguments, directory=directory, SOURCE_DATABASE_URL=url_of(settings.source)) as process:
        until(settings.target, WAITING)
        process.send_signal(number)
        output, _ = process.communicate(timeout=20)
    assert process.returncode == 130
    assert json.loads(output)["database"] == "rolled back"
    assert before.differences(picture(target_server)) == []
    assert not gate.closed


@pytest.mark.variant
def test_ctrl_c_while_rows_come(settings, source, target, target_server, source_gate, tmp_path):  # noqa: PLR0917
    """The command ends with 130; the target is untouched and the staging area gone."""
    some_rows(source)
    directory = tmp_path / "tool"
    directory.mkdir()
    arguments = ("pagtive", "import", "--json")
    with tool(target_server, *arguments, directory=directory, SOURCE_DATABASE_URL=url_of(settings.source)) as process:
        until(settings.source, WAITING)
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=20)
    assert process.returncode == 130
    assert json.loads(output)["database"] == "untouched"
    assert target.one(STAGED) == 0
    assert not source_gate.closed


def test_kill_9_leaves_the_target_and_the_next_run_tidies_up(settings, source, target, target_server, gate, tmp_path):  # noqa: PLR0917
    """Nothing of the merge is seen; the staging area is left, until the next import begins."""
    some_rows(source)
    before = picture(target_server)
    directory = tmp_path / "tool"
    directory.mkdir()
    with tool(
        target_server, "pagtive", "import", directory=directory, SOURCE_DATABASE_URL=url_of(settings.source)
    ) as process:
        pid = until(settings.target, WAITING)
        process.kill()
        process.wait()
    gate.close()
    until(target_server, f"SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = {pid})")
    assert before.differences(picture(target_server)) == []
    assert target.one(STAGED) == 5
    imported(settings)
    assert target.one(STAGED) == 0


@pytest.mark.parametrize(
    ("body", "message"),
    tried_once(
        [
            ("NEW.project_name = upper(NEW.project_name); RETURN NEW", "not what the source says"),
            ("RETURN NULL", "not what the source says (1 expected, 0 found)"),
            ("NEW.created_at = now(); RETURN NEW", "not what the source says"),
        ]
    ),
)
@pytest.mark.parametrize("filled", [False, True])
def test_a_trigger_that_changes_what_is_written(settings, source, target, target_server, body, message, filled):  # noqa: PLR0917
    """Reconciliation sees a value that is not the source's, and a row that is not there: all is rolled back."""
    some_rows(source)
    if filled:  # then the rows of this run are told from those that were there
        imported(settings)
        source.project(7, uid(1))
    target.run(f"CREATE FUNCTION meddle() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN {body}; END$$")
    target.run("CREATE TRIGGER meddle BEFORE INSERT ON pagtive_projects FOR EACH ROW EXECUTE FUNCTION meddle()")
    source.run("DELETE FROM project_details")
    before = picture(target_server)
    run = attempt_import(settings)
    assert message in refused(run, 10, "rolled back")
    assert before.differences(picture(target_server)) == []


def test_a_trigger_that_changes_new_users(settings, source, target):
    """The same holds for users: a name that is not the source's stops the import."""
    some_rows(source)
    body = "NEW.username = NEW.username || 'x'; RETURN NEW"
    target.run(f"CREATE FUNCTION meddle() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN {body}; END$$")
    target.run("CREATE TRIGGER meddle BEFORE INSERT ON users FOR EACH ROW EXECUTE FUNCTION meddle()")
    assert "the rows written to users" in refused(attempt_import(settings), 10, "rolled back")


def test_a_target_that_refuses(settings, source, target):
    """A constraint of somebody else's: the server's words, without values, and everything rolled back."""
    some_rows(source)
    target.run("ALTER TABLE pagtive_projects ADD CONSTRAINT theirs CHECK (project_name <> 'site')")
    message = refused(attempt_import(settings), 8, "rolled back")
    assert "theirs" in message
    assert target.one("SELECT count(*) FROM users WHERE registration_source = 'pagtive'") == 0
