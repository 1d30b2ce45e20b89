"""The main job on a legacy database: what was there stays as it was, what comes is ours, and it says what it did."""

from __future__ import annotations

import re
from pathlib import Path

import psycopg2
import pytest

from rollout import manifest, plan
from rollout.run import Run
from rollout.verify import verify
from tests.fixtures.databases import execute, query
from tests.fixtures.legacy import (
    HEAD,
    NEW_USER_COLUMNS,
    WAITING,
    attempt,
    dump_schema,
    meanwhile,
    picture,
    report_of,
    until,
    values_of,
)

CHECKED = {"summary", "findings"}
MIGRATED = {"run_id", "from_revision", "to_revision", "backup", "preserved"}

# Without a partitioned parent and a materialised view, which have no rows of their own.
ORDINARY_TABLES = (
    "SELECT array_agg(schemaname || '.' || tablename) FROM pg_tables JOIN pg_class ON relname = tablename"
    " AND relnamespace = schemaname::regnamespace WHERE relkind = 'r' AND schemaname !~ '^(pg_|information_schema)'"
)

OLD_APPLICATION = (
    "INSERT INTO users (id, tenant_id, username, password_hash, status)"
    " SELECT gen_random_uuid(), id, 'old-application-' || gen_random_uuid(), 'x', 'ACTIVE' FROM tenants LIMIT 1"
)


def verified(settings):
    """Verify a database as the command does; return the run."""
    run = Run("verify")
    verify(settings, run)
    return run


def names_in(schema):
    """Return what a dump of the schema names: kinds and names of all its objects."""
    return set(re.findall(r"^-- Name: (.+?); Type: ([A-Z ]+);", schema, re.MULTILINE))


@pytest.mark.parametrize("deep", [pytest.param(False, marks=pytest.mark.variant), True], ids=["", "deep"])
def test_nothing_that_existed_is_touched(legacy, settings_for, deep):
    """Schema, rows, enabled state of each trigger, files of each table (no rewrite) and grants are what they were."""
    before = picture(legacy)
    tables = query(legacy, ORDINARY_TABLES)
    run = attempt(settings_for(legacy), backup=True, deep=deep)
    assert (run.exit_code, run.database, run.error) == (0, "changed", None)
    assert before.lost(picture(legacy, without=NEW_USER_COLUMNS)) == []
    assert query(legacy, "SELECT version_num FROM alembic_version") == "008_enhance_lawyer_qualification"
    rows = sum(int(before.contents[table].split()[0]) for table in (tables if deep else ["public.users"]))
    assert run.result["preserved"] == {"tables": len(tables), "rows": rows}, "what was read, each row once"


def test_what_comes_is_ours_and_all_of_it(legacy, settings_for):
    """The dump after the upgrade names nothing more than before but what the revisions declare, and all of that."""
    before = dump_schema(legacy)
    attempt(settings_for(legacy))
    after = dump_schema(legacy)
    wanted = manifest.at([one.id for one in plan.history()], major=0)
    later = dict(wanted.of_revisions([one.id for one in plan.history()[1:]]))
    tables = {key.removeprefix("table ") for key in later if key.startswith("table ")}
    added = names_in(after) - names_in(before)
    assert {name for name, kind in added if kind == "TABLE"} == tables - {"feishu_auths"} | {"lawsker_schema_version"}
    assert {name for name, kind in added if kind == "VIEW"} == {"case_matching_stats", "lawyer_performance_summary"}
    assert {name for name, kind in added if kind == "FUNCTION"} == {"lawsker_touch_updated_at()"}
    on_others = [
        name
        for name, kind in added
        if kind in {"CONSTRAINT", "FK CONSTRAINT", "TRIGGER", "CHECK CONSTRAINT"}
        and name.split(" ")[0] not in tables | {"lawsker_schema_version"}
    ]
    assert on_others == ["users uq_users_workspace_id"]
    comments = {name for name, kind in added if kind == "COMMENT" and name.startswith("COLUMN users.")}
    assert comments == {f"COLUMN users.{column}" for column in NEW_USER_COLUMNS}


def test_the_run_is_on_record(legacy, settings_for):
    """The report, the memory and the run say the same: revisions, backup, checks, steps in their order."""
    settings = settings_for(legacy)
    run = attempt(settings, backup=True)
    report = report_of(settings, run)
    assert [step["name"] for step in report["steps"] if step["ok"]] == [
        "connect", "plan", "preflight", "backup", "restore", "compare", "fingerprint", "upgrade", "verify", "commit",
        "analyze", "audit",
    ]  # fmt: skip
    assert (report["from_revision"], report["to_revision"]) == (None, HEAD)
    assert (report["backup"], report["backup_proven"]) == (run.result["backup"], True)
    assert (settings.backups / Path(report["backup"]).name / "manifest.json").is_file()
    assert report["summary"]["failed"] == 0
    record = query(legacy, f"SELECT to_jsonb(r) FROM rollout.runs r WHERE run_id = '{run.run_id}'")
    assert (record["ok"], record["exit_code"], record["to_revision"]) == (True, 0, HEAD)
    assert record["finished_at"] is not None
    assert query(legacy, "SELECT count(*) FROM pg_stats WHERE tablename = 'user_credits'") > 0, "no ANALYZE"


def test_a_second_upgrade_has_nothing_to_do(legacy, settings_for):
    """It verifies, changes nothing and ends with 0, untouched."""
    settings = settings_for(legacy)
    attempt(settings)
    before = picture(legacy)
    run = attempt(settings)
    assert (run.exit_code, run.database, run.error) == (0, "untouched", None)
    assert run.result["from_revision"] == run.result["to_revision"] == HEAD
    assert before.differences(picture(legacy)) == []


def runs_of_their_own(legacy, settings, revisions):
    """Upgrade revision by revision; the database verifies at the end of each family, and nothing is lost."""
    before = picture(legacy)
    ends = {revision: family for family, revision in plan.families().items()}
    for revision in revisions:
        run = attempt(settings, to=ends.get(revision.id, revision.id))
        assert run.exit_code == 0, f"{revision.path.name}: {run.error}"
        if revision.id in ends:
            assert verified(settings).exit_code == 0
    assert before.lost(picture(legacy, without=NEW_USER_COLUMNS)) == []


@pytest.mark.variant
def test_some_revisions_are_runs_of_their_own(legacy, settings_for):
    """``--to`` stops in mid-family as well as at the end of one, and goes on from there."""
    runs_of_their_own(legacy, settings_for(legacy), [*plan.history()[2::7], plan.history()[-1]])


@pytest.mark.exhaustive
def test_each_revision_can_be_a_run_of_its_own(legacy, settings_for):
    """``--to`` goes through the history step by step."""
    runs_of_their_own(legacy, settings_for(legacy), plan.history())


def test_an_older_target_is_refused(legacy, settings_for):
    """``migrate`` only goes forward: it names ``rollback``."""
    settings = settings_for(legacy)
    attempt(settings, to="levels")
    run = attempt(settings, to="auth")
    assert (run.exit_code, run.database) == (8, "untouched")
    assert "tool rollback --to auth" in run.error.hint


@pytest.mark.variant
def test_the_old_application_can_still_add_users(legacy, settings_for):
    """Its INSERT knows no new columns; each row gets a workspace of its own."""
    attempt(settings_for(legacy))
    execute(legacy, OLD_APPLICATION, OLD_APPLICATION)
    found = query(
        legacy,
        "SELECT array_agg(DISTINCT workspace_id ~ '^ws-[0-9a-f]{32}$' AND account_type = 'pending' AND role = 'user')"
        "|| (count(DISTINCT workspace_id) = 2) FROM users WHERE username LIKE 'old-application-%'",
    )
    assert found == [True, True]


@pytest.mark.variant
def test_rows_committed_while_the_upgrade_waits_are_covered(legacy, settings_for):
    """A session of the application is in the way as the upgrade begins; what it commits gets its workspace and rows."""
    session = psycopg2.connect(**legacy.parameters)
    cursor = session.cursor()
    cursor.execute(OLD_APPLICATION.replace("old-application", "late") + " RETURNING id")
    user = cursor.fetchone()[0]
    cursor.execute("INSERT INTO user_roles SELECT %s, id FROM roles WHERE name = 'Lawyer' LIMIT 1", (user,))

    def commit_once_somebody_waits():
        until(legacy, f"{WAITING} AND relation::regclass::text ~ '^user'")
        session.commit()
        session.close()

    with meanwhile(commit_once_somebody_waits):
        run = attempt(settings_for(legacy))
    assert run.exit_code == 0
    assert query(legacy, f"SELECT workspace_type FROM workspace_mappings WHERE user_id = '{user}'") == "lawyer"
    assert query(legacy, f"SELECT account_type FROM users WHERE id = '{user}'") == "lawyer"
    assert query(legacy, f"SELECT current_level FROM lawyer_level_details WHERE lawyer_id = '{user}'") == 1


@pytest.mark.variant
def test_nobody_is_there(legacy, settings_for):
    """A database without users, copied from one that had them, is upgraded: nobody who was there has vanished."""
    execute(legacy, "ANALYZE users", "TRUNCATE users CASCADE")
    assert attempt(settings_for(legacy)).exit_code == 0


@pytest.mark.variant
def test_an_operator_that_fools_alembic(legacy, settings_for):
    """Where Alembic itself finds that something is wrong, the upgrade failed: exit code 8, rolled back."""
    execute(
        legacy,
        "CREATE FUNCTION never(varchar, varchar) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT false'",
        "CREATE OPERATOR public.= (leftarg = varchar, rightarg = varchar, function = never)",
    )
    run = attempt(settings_for(legacy))
    assert (run.exit_code, run.database) == (8, "rolled back")
    assert "expected to match one row" in run.error.message


def test_json_is_what_the_contract_says(legacy, command):
    """preflight, migrate and verify, before and after: one object each, with the keys of cli.md."""
    values = values_of(command(legacy, "preflight", "--json"))
    assert values.keys() >= CHECKED
    assert values["database"] == "untouched"
    values = values_of(command(legacy, "verify", "--json"))
    assert values["exit_code"] == 9, "not upgraded yet"
    assert values.keys() >= CHECKED
    values = values_of(command(legacy, "migrate", "--json"))
    assert values.keys() >= CHECKED | MIGRATED
    assert set(values["preserved"]) == {"tables", "rows"}
    assert values["database"] == "changed"
    values = values_of(command(legacy, "migrate", "--json"))
    assert values.keys() >= CHECKED | MIGRATED
    assert values["backup"] is None
    values = values_of(command(legacy, "verify", "--json"))
    assert values["ok"]
    assert values["summary"]["passed"] > 20
