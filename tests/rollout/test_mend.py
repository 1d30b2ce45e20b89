"""What differs from ours is refused with the statements that mend it; typed as they stand, they do."""

from __future__ import annotations

from contextlib import contextmanager

import psycopg2
import pytest
from alembic import command

from rollout import adoption, manifest, mending, plan
from rollout.errors import RolloutError
from rollout.mending import _is_wider
from rollout.run import Run
from tests.fixtures.databases import execute, query, url_of
from tests.fixtures.legacy import attempt, picture
from tests.fixtures.tiers import tried_once


def refused(server, settings_for):
    """Return what preflight finds to differ."""
    run = attempt(settings_for(server))
    assert (run.exit_code, run.database) == (6, "untouched"), run.error
    return [one for one in run.findings if one.check == "what_is_there_is_identical"]


@pytest.mark.variant
def test_the_statements_mend_what_differs(legacy, settings_for, monkeypatch):
    """One of each kind: all hints typed in turn, the upgrade goes through; what would lose has no statement."""
    monkeypatch.setenv("DATABASE_URL", url_of(legacy))
    command.upgrade(plan.alembic_config(), "head")
    execute(
        legacy,
        "DROP SCHEMA rollout CASCADE",
        "DROP TABLE lawsker_schema_version",
        "ALTER TABLE users ALTER account_type DROP DEFAULT, ALTER registration_source DROP NOT NULL",
        "ALTER TABLE users DROP CONSTRAINT ck_users_account_type",
        "ALTER TABLE users ADD CONSTRAINT ck_users_account_type CHECK (account_type <> '')",
        "ALTER TABLE user_credits ALTER credits_weekly TYPE smallint",
        "ALTER TABLE lawyer_levels DROP COLUMN benefits",
        "DROP INDEX ix_users_account_type; CREATE INDEX ix_users_account_type ON users (account_type, username)",
        "ALTER TABLE users ALTER workspace_id TYPE varchar(60)",
    )
    before = picture(legacy)
    found = refused(legacy, settings_for)
    assert before.differences(picture(legacy)) == []
    hints = {one.subject: one.hint for one in found}
    narrowing = "ALTER TABLE users ALTER COLUMN workspace_id TYPE character varying(50);"
    assert "only its owner can decide" in hints["users.workspace_id"]
    execute(
        legacy, "UPDATE users SET workspace_id = repeat('w', 60) WHERE id = (SELECT id FROM users ORDER BY id LIMIT 1)"
    )
    with pytest.raises(psycopg2.DataError, match="too long"):
        execute(legacy, narrowing)
    mapped = "(SELECT workspace_id FROM workspace_mappings m WHERE m.user_id = users.id)"
    execute(legacy, f"UPDATE users SET workspace_id = {mapped} WHERE length(workspace_id) = 60")
    for subject, hint in hints.items():
        if subject != "users.workspace_id":
            execute(legacy, hint[hint.index(": ") + 2 :])
    left = refused(legacy, settings_for)
    assert [one.subject for one in left] == ["users.workspace_id"]
    assert left[0].hint.endswith(narrowing)
    execute(legacy, narrowing)
    run = attempt(settings_for(legacy))
    assert (run.exit_code, run.error) == (0, None)


@pytest.mark.parametrize(
    ("ours", "theirs", "wider"),
    [("bigint", "integer", True), ("integer", "bigint", False),
     ("character varying(50)", "character varying(60)", False),
     ("character varying(50)", "character varying(5)", True), ("text", "uuid", False)],
)  # fmt: skip
def test_only_wider_types_are_offered(ours, theirs, wider):
    """A type is changed only where every value fits."""
    assert _is_wider(ours, theirs) is wider


@contextmanager
def gone_at_the_end(server):
    """Yield a connection of somebody else's."""
    connection = psycopg2.connect(**server.parameters)
    try:
        yield connection
    finally:
        connection.close()


DIFFERENT = (
    "DROP SCHEMA rollout CASCADE",
    "DROP TABLE lawsker_schema_version",
    "ALTER TABLE users ALTER account_type DROP DEFAULT",
    "ALTER TABLE user_credits ALTER credits_weekly TYPE smallint",
    "ALTER TABLE users ALTER registration_source DROP NOT NULL",
)


@pytest.fixture
def half_migrated(legacy, monkeypatch):
    """Return a database that was upgraded by hand, and not quite as we do it."""
    monkeypatch.setenv("DATABASE_URL", url_of(legacy))
    command.upgrade(plan.alembic_config(), "head")
    execute(legacy, *DIFFERENT)
    return legacy


def mended(settings, answer=True):
    """Run ``adopt --mend``; return its run and the statements that it asked about."""
    run, asked = Run("adopt"), []

    def confirm(statements):
        asked.extend(statements)
        return answer

    try:
        adoption.mend(settings, run, confirm)
    except RolloutError as error:
        run.failed(error)
    return run, asked


@pytest.mark.variant
def test_adopt_mends_when_asked(half_migrated, settings_for):
    """It asks, runs the statements in one transaction, and then nothing differs: the upgrade takes all as there."""
    settings = settings_for(half_migrated)
    before = picture(half_migrated)
    refused_run, asked = mended(settings, answer=False)
    assert (refused_run.exit_code, refused_run.database, refused_run.result["mended"]) == (0, "untouched", [])
    assert len(asked) == 3
    assert before.differences(picture(half_migrated)) == []
    run, again = mended(settings)
    assert (run.exit_code, run.database, run.result["mended"], again) == (0, "changed", asked, asked)
    assert run.result["counts"]["different"] == 0
    assert query(half_migrated, "SELECT count(*) FROM rollout.runs WHERE command = 'adopt' AND ok") == 1
    assert mended(settings)[1] == [], "nothing is left to mend"
    assert attempt(settings).exit_code == 0
    preexisting = "SELECT count(*) FROM rollout.preexisting_objects WHERE object = 'column users.account_type'"
    assert query(half_migrated, preexisting) == 1


@pytest.mark.parametrize("what", tried_once(["a row does not fit", "a table is held"]))
def test_what_cannot_be_mended_leaves_nothing(half_migrated, settings_for, what):
    """One statement that the server refuses takes the others back; which one and why is said."""
    before = picture(half_migrated)
    with gone_at_the_end(half_migrated) as other:
        if what == "a row does not fit":
            execute(half_migrated, "UPDATE users SET registration_source = NULL")
            before = picture(half_migrated)
        else:
            other.cursor().execute("LOCK TABLE users IN ACCESS SHARE MODE")
        run, _ = mended(settings_for(half_migrated, lock_timeout=0.3))
    assert (run.exit_code, run.database) == ((8, "rolled back") if "row" in what else (5, "rolled back"))
    assert "ALTER TABLE users" in run.error.message
    assert run.error.hint
    assert before.differences(picture(half_migrated)) == []


def test_a_column_like_one_of_ours_is_its_owners():
    """What ours has not goes only where its owner says so, though another column of ours is just like it."""
    wanted = manifest.at([one.id for one in plan.history()], major=18)
    there = {**wanted.objects, "column lawyer_levels.theirs": wanted.objects["column lawyer_levels.level"]}
    found = mending.mends("table lawyer_levels", wanted, there, {})
    assert (found.lossless, found.by_owner) == ([], ["ALTER TABLE lawyer_levels DROP COLUMN theirs;"])


def test_a_materialized_view_of_our_views_name_is_renamed_as_one():
    """The statement that is offered is one that the server takes."""
    wanted = manifest.at([one.id for one in plan.history()], major=18)
    key = "view case_matching_stats"
    there = {**wanted.objects, key: {**wanted.objects[key], "kind": "m"}}
    offered = mending.mends(key, wanted, there, {}).by_owner
    assert offered == ["ALTER MATERIALIZED VIEW case_matching_stats RENAME TO case_matching_stats_theirs;"]
