"""What people do to a database between two of our runs: a clear refusal or a working path, nothing half done."""

from __future__ import annotations

import pytest
from alembic import command

from rollout import adoption, plan
from rollout.database import engine_for, run_lock
from rollout.errors import RolloutError
from rollout.run import Run
from tests.fixtures.databases import execute, query, url_of
from tests.fixtures.legacy import attempt, picture
from tests.fixtures.migrated import back
from tests.fixtures.tiers import tried_once
from tests.rollout.test_rollback import A_WEEK, FAMILIES, on_shelf, ours, refused

# What was renamed, and what of it is in the way of a rollback.
RENAMED = {
    "ALTER TABLE user_credits RENAME TO credits_of_users": "trigger update_user_credits_updated_at on credits_of_users",
    "ALTER INDEX ix_users_account_type RENAME TO theirs": "index theirs",
    "ALTER TABLE users RENAME CONSTRAINT uq_users_workspace_id TO theirs": "table constraint theirs on users",
    "ALTER VIEW case_matching_stats RENAME TO theirs": "view theirs",
    "ALTER TRIGGER update_user_accounts_updated_at ON user_accounts RENAME TO theirs": (
        "trigger theirs on user_accounts"
    ),
}


@pytest.fixture
def a_week_later(migrated):
    """Return an upgraded database in which people have worked for a week."""
    execute(migrated, A_WEEK)
    return migrated


@pytest.fixture
def alembic(migrated, monkeypatch):
    """Return what calls a command of Alembic on the upgraded database."""
    monkeypatch.setenv("DATABASE_URL", url_of(migrated))
    return lambda name, revision: getattr(command, name)(plan.alembic_config(), revision)


@pytest.mark.parametrize("how", tried_once(RENAMED))
def test_what_people_renamed_is_named(migrated, settings_for, how):
    """A rollback takes nothing that has another name now, and nothing that hangs on it: it names what is in its way."""
    execute(migrated, how)
    before = picture(migrated)
    refused(back(settings_for(migrated), "baseline"), RENAMED[how])
    assert before.differences(picture(migrated)) == []


@pytest.mark.variant
def test_what_people_renamed_and_nothing_needs_stays(migrated, settings_for):
    """A column and a function that have another name now are somebody's: they stay as they are."""
    execute(
        migrated,
        "ALTER TABLE users RENAME account_type TO kind",
        "ALTER FUNCTION lawsker_touch_updated_at() RENAME TO theirs",
    )
    kinds = "SELECT array_agg(kind ORDER BY id) FROM users"
    then = query(migrated, kinds)
    assert set(then) > {"lawyer"}
    run = back(settings_for(migrated), "baseline")
    assert (run.exit_code, run.error) == (0, None)
    missing = {one["object"] for one in run.result["receipt"] if one["missing"]}
    assert missing >= {"column users.account_type", "function lawsker_touch_updated_at()"}
    assert query(migrated, kinds) == then
    assert query(migrated, "SELECT to_regprocedure('theirs()') IS NOT NULL")


@pytest.mark.variant
def test_several_shelves_one_after_the_other(a_week_later, settings_for):
    """Three rollbacks, each further back: one upgrade gives everything back, to the last byte."""
    settings, then = settings_for(a_week_later), ours(a_week_later)
    for family in ("accounts", "credits", "baseline"):
        assert back(settings, family).exit_code == 0
    assert len({entry.run_id for entry in on_shelf(a_week_later)}) == 3
    assert attempt(settings).error is None
    assert ours(a_week_later) == then
    assert on_shelf(a_week_later) == []


@pytest.mark.variant
@pytest.mark.parametrize("when", ["before the rollback", "before the upgrade"])
def test_triggers_that_keep_foreign_keys_are_switched_off(a_week_later, settings_for, when):
    """What stays is verified, so it is refused; the hints can be typed as they stand, and lead on."""
    settings, then, off = settings_for(a_week_later), ours(a_week_later), "ALTER TABLE users DISABLE TRIGGER ALL"
    if when == "before the upgrade":
        assert back(settings, "levels").exit_code == 0
    execute(a_week_later, off)
    before = picture(a_week_later)
    for _ in range(3):
        run = back(settings, "levels") if when == "before the rollback" else attempt(settings)
        if run.exit_code == 0:
            break
        assert run.exit_code in {6, 9, 12}, run.error
        assert "triggers that keep it are switched off" in run.error.message
        assert before.differences(picture(a_week_later)) == []
        typed = run.error.hint[run.error.hint.index("ALTER TABLE") :]
        assert typed.endswith(";"), "it is about no shelf"
        execute(a_week_later, typed)
        before = picture(a_week_later)
    assert run.error is None
    assert back(settings, "levels").error is None
    assert attempt(settings).error is None
    assert ours(a_week_later) == then


@pytest.mark.variant
def test_people_write_between_rollbacks_to_different_families(a_week_later, settings_for):
    """Back and forth, writes, further back and forth: everything is what was written last, and the shelf is empty."""
    settings = settings_for(a_week_later)
    assert back(settings, "accounts").exit_code == 0
    assert attempt(settings).error is None
    execute(
        a_week_later,
        "UPDATE users SET role = 'admin', avatar_url = 'later' WHERE id = (SELECT max(id::text)::uuid FROM users)",
        "UPDATE pagtive_projects SET project_name = 'later'",
        "DELETE FROM credit_purchase_records",
    )
    then = ours(a_week_later)
    for family in ("penalties", "baseline", "pagtive"):
        back(settings, family)
        assert attempt(settings).error is None
        assert ours(a_week_later) == then
    assert on_shelf(a_week_later) == []


@pytest.mark.variant
def test_a_plain_downgrade_between_two_runs(a_week_later, settings_for, alembic):
    """What it dropped is gone; what the tool had put away before comes back; the last run is not there to take back."""
    settings, then = settings_for(a_week_later), ours(a_week_later)
    assert back(settings, "accounts").exit_code == 0
    alembic("downgrade", FAMILIES["levels"])
    refused(back(settings), "no last run")
    assert back(settings, "auth").exit_code == 0
    assert attempt(settings).error is None
    now = ours(a_week_later)
    assert now["pagtive_projects"] == then["pagtive_projects"]
    assert now["lawyer_levels"] == then["lawyer_levels"]
    assert query(a_week_later, "SELECT count(*) FROM credit_purchase_records") == 0
    assert on_shelf(a_week_later) == []


@pytest.mark.parametrize(
    ("theirs", "names"),
    tried_once(
        [
            ("CREATE VIEW boss AS SELECT account_type FROM users", "view boss depends on"),
            (
                "CREATE TABLE note (w varchar(50) REFERENCES users (workspace_id))",
                "constraint note_w_fkey on table note",
            ),
        ]
    ),
    ids=["view", "foreign key"],
)
def test_a_plain_downgrade_does_not_drop_what_is_others(migrated, alembic, capsys, theirs, names):
    """Plain Alembic says what is in the way in one line, and leaves everything."""
    execute(migrated, theirs)
    before = picture(migrated)
    with pytest.raises(SystemExit) as exit_:
        alembic("downgrade", FAMILIES["baseline"])
    assert exit_.value.code == 12
    error, hint, state = capsys.readouterr().err.splitlines()
    assert names in error
    assert hint.startswith("hint:  Nothing was changed.")
    assert state == "The database is rolled back."
    assert before.differences(picture(migrated)) == []


@pytest.mark.variant
def test_our_memory_is_gone(migrated, settings_for):
    """Without the schema rollout an upgrade goes on; what was made before it is nobody's to take back any more."""
    settings = settings_for(migrated)
    assert back(settings, "levels").exit_code == 0
    execute(migrated, "DROP SCHEMA rollout CASCADE")
    before = picture(migrated)
    assert attempt(settings).error is None
    refused(back(settings, "baseline"), "does not remember")
    assert back(settings).exit_code == 0
    assert before.differences(picture(migrated)) == []


@pytest.mark.parametrize("mend", tried_once([True, False]))
def test_adopt_while_another_run_holds_the_lock(legacy, settings_for, mend):
    """Exit code 5: who holds it, and nothing recorded or mended."""
    execute(legacy, "ALTER TABLE users ADD account_type varchar(20) NOT NULL DEFAULT 'other'")
    before, run, engine = picture(legacy), Run("adopt"), engine_for(legacy)
    with run_lock(engine):
        try:
            (adoption.mend if mend else adoption.adopt)(settings_for(legacy), run, lambda _: True)
        except RolloutError as error:
            run.failed(error)
    assert (run.exit_code, run.database) == (5, "untouched")
    assert "another run holds the lock" in run.error.message
    assert before.differences(picture(legacy)) == []


@pytest.mark.variant
def test_what_people_set_on_our_tables(a_week_later, settings_for, limited_role):
    """Grants, comments and storage stop neither way; which rights go with our objects is said, with the way back."""
    app = limited_role[0]
    execute(
        a_week_later,
        f"GRANT SELECT, INSERT ON user_credits, pagtive_projects TO {app}",
        f"GRANT SELECT ON lawyer_performance_summary TO {app}",
        f"GRANT UPDATE (avatar_url) ON users TO {app}",
        "COMMENT ON TABLE user_credits IS 'theirs'",
        "COMMENT ON COLUMN users.account_type IS 'theirs'",
        "ALTER TABLE user_credits SET (fillfactor = 70, autovacuum_enabled = off)",
        "ALTER TABLE pagtive_projects ALTER project_name SET STORAGE EXTERNAL",
        "ALTER TABLE users ALTER account_type SET STATISTICS 500",
        "ALTER TABLE user_accounts REPLICA IDENTITY FULL",
        "CLUSTER user_credits USING pk_user_credits",
    )
    settings, then = settings_for(a_week_later), ours(a_week_later)
    run = back(settings)
    assert run.exit_code == 0, run.error
    assert run.result["rights"] == [
        f"GRANT INSERT, SELECT ON pagtive_projects TO {app};",
        f"GRANT INSERT, SELECT ON user_credits TO {app};",
        f"GRANT SELECT ON lawyer_performance_summary TO {app};",
        f"GRANT UPDATE (avatar_url) ON users TO {app};",
    ]
    report = (settings.reports / f"{run.run_id}.html").read_text(encoding="utf-8")
    assert "Rights to give again after the next upgrade" in report
    assert f"GRANT INSERT, SELECT ON user_credits TO {app};" in report
    assert attempt(settings).error is None
    assert ours(a_week_later) == then
    execute(a_week_later, *run.result["rights"])
    assert back(settings, receipt_only=True).result["rights"] == run.result["rights"]
