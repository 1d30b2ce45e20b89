"""People who know only Alembic: its own commands work, with the same care for what was there."""

from __future__ import annotations

import io
import os
import subprocess
import sys

import psycopg2
import pytest
from alembic import command
from alembic.config import CommandLine, Config

from rollout import plan, transaction
from rollout.database import LOCK_KEY
from rollout.preview import preview
from rollout.run import Run
from rollout.sample_data.legacy import create_legacy_schema, fill_legacy
from rollout.settings import PROJECT
from rollout.verify import verify
from tests.fixtures.databases import execute, query, url_of
from tests.fixtures.legacy import HEAD, NEW_USER_COLUMNS, WAITING, attempt, dump_schema, meanwhile, picture, until
from tests.fixtures.tiers import tried_once
from tests.fixtures.upgraded import connected

FIRST = plan.history()[0].id


@pytest.fixture
def alembic(monkeypatch, capsys, caplog):
    """Return what runs ``alembic`` inside this process: its exit code, stdout and stderr."""

    def run(server, *arguments, **environment):
        monkeypatch.setenv("DATABASE_URL", url_of(server))
        # Config took sys.stdout when it was imported: pytest's of that time.
        monkeypatch.setattr(Config, "print_stdout", lambda _, text, *values: sys.stdout.write(text % values + "\n"))
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        capsys.readouterr()
        caplog.clear()
        code = 0
        try:
            CommandLine(prog="alembic").main(["-c", str(PROJECT / "alembic.ini"), *arguments])
        except SystemExit as error:
            code = error.code
        out, err = capsys.readouterr()
        return code, out, err + caplog.text

    return run


def verifies(server, settings_for):
    """Tell whether ``tool verify`` finds nothing wrong."""
    run = Run("verify")
    verify(settings_for(server), run)
    return run.exit_code == 0


def run_sql(server, sql):
    """Run a script as ``psql -v ON_ERROR_STOP=1`` does: it begins and commits its own transaction."""
    connection = psycopg2.connect(**server.parameters)
    try:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(sql)
    finally:
        connection.close()


def of_the_baseline(lines):
    """Return the lines of a comparison that are about what the baseline itself leaves: our version table, pgcrypto."""
    return [line for line in lines if "lawsker_schema_version" in line or "pgcrypto" in line]


def script(*arguments):
    """Return what ``alembic upgrade … --sql`` writes; it connects nowhere."""
    config = plan.alembic_config()
    config.output_buffer = io.StringIO()
    command.upgrade(config, *arguments, sql=True)
    return config.output_buffer.getvalue()


def test_upgrade_and_downgrade_on_a_legacy_database(legacy, alembic, settings_for):
    """Nothing of others' is touched, verify passes, and after the downgrade only what was there is."""
    before = picture(legacy)
    assert alembic(legacy, "upgrade", "head")[0] == 0
    assert before.lost(picture(legacy, without=NEW_USER_COLUMNS)) == []
    assert verifies(legacy, settings_for)
    assert alembic(legacy, "current")[1].split() == [HEAD, "(head)"]
    assert alembic(legacy, "downgrade", "baseline")[0] == 0
    after = picture(legacy)
    assert before.lost(after) == []
    assert of_the_baseline(after.lost(before)) == after.lost(before)
    assert query(legacy, "SELECT version_num FROM lawsker_schema_version") == FIRST


@pytest.mark.variant
def test_it_does_not_go_below_a_baseline_that_is_not_ours(legacy, alembic):
    """``downgrade base`` would drop the legacy core: refused, one line, one hint, exit code 12, untouched."""
    alembic(legacy, "upgrade", "head")
    before = picture(legacy)
    code, _, err = alembic(legacy, "downgrade", "base")
    assert code == 12
    told = [line for line in err.splitlines() if not line.startswith("INFO")]
    assert [line.split(":")[0] for line in told] == ["error", "hint", "The database is untouched."]
    assert before.differences(picture(legacy)) == []


@pytest.mark.variant
def test_without_our_memory_nothing_goes_down(legacy, alembic):
    """What was there before us is no longer known: refused, exit code 12, untouched."""
    alembic(legacy, "upgrade", "head")
    execute(legacy, "DROP SCHEMA rollout CASCADE")
    before = picture(legacy)
    code, _, err = alembic(legacy, "downgrade", "baseline")
    assert code == 12
    assert "does not remember" in err
    assert "The database is untouched." in err
    assert before.differences(picture(legacy)) == []


@pytest.mark.parametrize(
    "kind",
    [
        "empty",
        pytest.param("legacy", marks=pytest.mark.variant),
        pytest.param("half migrated", marks=pytest.mark.variant),
    ],
)
def test_check_finds_no_difference_from_the_models(database, legacy, alembic, kind):
    """``alembic check``: other people's tables, names and additions are none of the models' business."""
    server = database if kind == "empty" else legacy
    if kind == "half migrated":
        alembic(server, "upgrade", plan.families()["levels"])
        execute(
            server,
            "DROP SCHEMA rollout CASCADE",
            "DROP TABLE lawsker_schema_version",
            "ALTER TABLE lawyer_levels RENAME CONSTRAINT uq_lawyer_levels_level TO theirs",
            "ALTER INDEX ix_users_account_type RENAME TO theirs_too",
        )
    assert alembic(server, "upgrade", "head")[0] == 0
    code, out, err = alembic(server, "check")
    assert (code, out.strip()) == (0, "No new upgrade operations detected."), err


@pytest.mark.variant
def test_check_finds_a_difference(database, alembic):
    """It is not silent about everything: a column of ours that is gone, an index that nobody knows."""
    alembic(database, "upgrade", "head")
    execute(database, "ALTER TABLE user_credits DROP COLUMN credits_purchased")
    code, _, err = alembic(database, "check")
    assert code != 0
    assert "credits_purchased" in err


def test_an_empty_database_goes_all_the_way_up_and_down(database, alembic, settings_for):
    """The baseline makes the legacy core there, and takes it away again: nothing is left but our memory."""
    before = dump_schema(database)
    assert alembic(database, "upgrade", "head")[0] == 0
    assert verifies(database, settings_for)
    assert alembic(database, "downgrade", "base")[0] == 0
    assert dump_schema(database) == before
    assert alembic(database, "upgrade", "head")[0] == 0
    assert verifies(database, settings_for)


@pytest.mark.parametrize(
    ("arguments", "revision"),
    tried_once(
        [
            (["upgrade", "+3"], plan.history()[2].id),
            (["upgrade", f"{plan.families()['levels']}-1"], plan.up_to(plan.families()["levels"])[-2].id),
            (["upgrade", "+1"], plan.history()[0].id),
            (["upgrade", "heads"], HEAD),
            (["upgrade", plan.families()["levels"][:6]], plan.families()["levels"]),
        ],
        keep=2,
    ),
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_it_understands_what_alembic_understands(legacy, alembic, arguments, revision):
    """Relative steps, heads, shortened ids; and one step back from there."""
    assert alembic(legacy, *arguments)[0] == 0
    assert query(legacy, "SELECT version_num FROM lawsker_schema_version") == revision
    if revision != FIRST:
        assert alembic(legacy, "downgrade", "-1")[0] == 0
        assert query(legacy, "SELECT version_num FROM lawsker_schema_version") == plan.up_to(revision)[-2].id


def test_what_differs_is_refused(legacy, alembic):
    """A table of ours that is another one: exit code 6, the difference in one line, untouched."""
    execute(legacy, "CREATE TABLE user_credits (user_id uuid PRIMARY KEY)")
    before = picture(legacy)
    code, _, err = alembic(legacy, "upgrade", "head")
    assert code == 6
    assert "table user_credits: " in err
    assert "The database is untouched." in err
    assert before.differences(picture(legacy)) == []


def test_a_run_of_the_tool_is_in_the_way(legacy, alembic):
    """Both take the same lock: exit code 5."""
    holder = psycopg2.connect(**legacy.parameters)
    holder.cursor().execute(f"SELECT pg_advisory_lock({LOCK_KEY})")
    code, _, err = alembic(legacy, "upgrade", "head")
    holder.close()
    assert (code, "another run holds the lock" in err) == (5, True)


def test_a_table_is_held_too_long(legacy, alembic):
    """Its lock timeout is ours: exit code 5, untouched."""
    holder = psycopg2.connect(**legacy.parameters)
    holder.cursor().execute("LOCK TABLE users IN ACCESS SHARE MODE")
    code, _, err = alembic(legacy, "upgrade", "head", ROLLOUT_LOCK_TIMEOUT="0.2")
    holder.close()
    assert (code, "lock on table users" in err) == (5, True)


@pytest.mark.variant
def test_a_failure_leaves_nothing(gated, alembic):
    """One transaction: an upgrade that fails half-way is not there."""
    before = picture(gated.server)
    code, _, err = alembic(gated.server, "upgrade", "head", ROLLOUT_LOCK_TIMEOUT="0.3")
    gated.open()
    assert (code, "a lock did not come in time" in err) == (5, True)
    assert before.differences(picture(gated.server)) == []


@pytest.mark.variant
def test_ctrl_c(gated, tmp_path):
    """SIGINT half-way: one line, exit code 130, rolled back; no traceback."""
    before = picture(gated.server)
    process = subprocess.Popen(
        [sys.executable, "-m", "alembic", "-c", PROJECT / "alembic.ini", "upgrade", "head"],
        env={**os.environ, "DATABASE_URL": url_of(gated.server), "ROLLOUT_LOCK_TIMEOUT": "60"},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path,
    )  # fmt: skip
    try:
        gated.somebody()
        process.send_signal(2)
        _, err = process.communicate(timeout=20)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == 130
    assert "Traceback" not in err
    assert "The database is rolled back." in err
    assert before.differences(picture(gated.server)) == []


def test_without_a_url(monkeypatch, capsys):
    """One line, one hint, exit code 3."""
    monkeypatch.delenv("DATABASE_URL", raising=False)
    with pytest.raises(SystemExit) as ended:
        CommandLine(prog="alembic").main(["-c", str(PROJECT / "alembic.ini"), "upgrade", "head"])
    assert ended.value.code == 3
    assert "DATABASE_URL is not set" in capsys.readouterr().err


def test_the_script_for_an_empty_database(database, make_database, alembic, settings_for):
    """``upgrade head --sql`` makes what ``upgrade head`` makes."""
    run_sql(database, script("head"))
    assert verifies(database, settings_for)
    other = make_database()
    alembic(other, "upgrade", "head")
    assert dump_schema(database) == dump_schema(other)
    assert alembic(database, "downgrade", "base")[0] == 0


@pytest.mark.variant
def test_the_script_for_a_clean_legacy_database(make_database, alembic, settings_for):
    """``upgrade baseline:head --sql`` does what ``upgrade head`` does, and the way back is open."""
    clean = make_database()
    with connected(clean) as connection:
        create_legacy_schema(connection)
        fill_legacy(connection, users=60, cases=30)
        connection.commit()
    other = make_database(clean)
    before = picture(clean)
    run_sql(clean, script("baseline:head"))
    assert before.lost(picture(clean, without=NEW_USER_COLUMNS)) == []
    assert verifies(clean, settings_for)
    alembic(other, "upgrade", "head")
    assert dump_schema(clean) == dump_schema(other)
    assert attempt(settings_for(clean)).result["from_revision"] == HEAD
    assert alembic(clean, "downgrade", "baseline")[0] == 0
    after = picture(clean)
    assert before.lost(after) == []
    assert of_the_baseline(after.lost(before)) == after.lost(before)


@pytest.mark.variant
def test_the_script_of_plan_remembers_what_was_there(legacy, alembic, settings_for):
    """``tool plan --sql`` looks at the database: an older feishu_auths is kept, and stays ours to keep for ever."""
    before = picture(legacy)
    run = Run("plan")
    preview(settings_for(legacy), run, with_sql=True)
    assert run.result["kept"] == ["table feishu_auths"]
    run_sql(legacy, run.result["sql"])
    assert before.lost(picture(legacy, without=NEW_USER_COLUMNS)) == []
    assert verifies(legacy, settings_for)
    assert alembic(legacy, "downgrade", "baseline")[0] == 0
    assert before.lost(picture(legacy)) == []


def test_the_script_for_a_legacy_database_takes_its_locks_first():
    """Before it writes or reads any legacy table: rows that a session commits meanwhile are covered."""
    lines = [line for line in script("baseline:head").splitlines() if line.strip() and not line.startswith("--")]
    first = next(number for number, line in enumerate(lines) if line.startswith("LOCK TABLE"))
    assert first < next(number for number, line in enumerate(lines) if "users" in line and "LOCK" not in line)


def test_a_commit_that_gets_no_answer_is_asked_for(legacy, alembic, monkeypatch):
    """The same question as of ``tool``: plain Alembic does not guess either."""
    asked = []
    commit = transaction.commit
    monkeypatch.setattr(transaction, "commit", lambda *arguments: asked.append(1) or commit(*arguments))
    assert alembic(legacy, "upgrade", "+1")[0] == 0
    assert asked == [1]


@pytest.mark.variant
def test_late_rows_are_covered(legacy, alembic):
    """A row that is committed while the upgrade waits for the table gets its workspace."""
    session = psycopg2.connect(**legacy.parameters)
    session.cursor().execute(
        "INSERT INTO users (id, tenant_id, username, password_hash, status)"
        " SELECT gen_random_uuid(), id, 'late', 'x', 'ACTIVE' FROM tenants LIMIT 1"
    )

    def commit():
        until(legacy, f"{WAITING} AND relation::regclass::text = 'users'")
        session.commit()
        session.close()

    with meanwhile(commit):
        assert alembic(legacy, "upgrade", "head")[0] == 0
    assert query(legacy, "SELECT count(*) FROM workspace_mappings m JOIN users u ON u.id = m.user_id"
                 " WHERE u.username = 'late' AND u.workspace_id = m.workspace_id") == 1  # fmt: skip
