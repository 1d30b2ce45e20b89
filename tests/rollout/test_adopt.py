"""``tool adopt``: says what a database has of ours, records where it stands, leaves what was there to its owners."""

from __future__ import annotations

import pytest
from alembic import command

from rollout import plan
from rollout.adoption import adopt
from rollout.errors import RolloutError
from rollout.run import Run
from rollout.verify import verify
from tests.fixtures.databases import execute, query, url_of
from tests.fixtures.legacy import HEAD, attempt, picture
from tests.fixtures.migrated import back, by_hand
from tests.fixtures.tiers import tried_once

FAMILIES = plan.families()
BASELINE = FAMILIES["baseline"]


def adopted(settings, *, confirm=lambda _: True):
    """Adopt a database and return the run, however it ended."""
    run = Run("adopt")
    try:
        adopt(settings, run, confirm)
    except RolloutError as error:
        run.failed(error)
    return run


def never(_):
    """Fail: nothing should have been asked."""
    pytest.fail("asked, though there is nothing to record")


def states(run, family=None):
    """Return the state of every object (of one family) that ``adopt`` told."""
    return {one["object"]: one["state"] for one in run.result["objects"] if family in {None, one["family"]}}


@pytest.fixture
def upgrade_by_hand(legacy, monkeypatch):
    """Return what upgrades the legacy database to a family, and forgets who did it."""

    def upgrade(family):
        monkeypatch.setenv("DATABASE_URL", url_of(legacy))
        command.upgrade(plan.alembic_config(), FAMILIES[family])
        execute(legacy, "DROP SCHEMA rollout CASCADE", "DROP TABLE lawsker_schema_version")
        return legacy

    return upgrade


def test_an_empty_database(database, settings_for):
    """Everything is missing, the legacy core too; there is nothing to record, and nothing is made."""
    run = adopted(settings_for(database), confirm=never)
    assert (run.exit_code, run.database) == (0, "untouched")
    assert set(states(run).values()) == {"missing"}
    assert run.result["stands_at"] is None
    assert run.result["counts"]["missing"] == len(run.result["objects"]) > 300
    assert query(database, "SELECT to_regnamespace('rollout')") is None


def test_a_legacy_database_stands_at_the_baseline(legacy, settings_for):
    """Its core is present whatever its constraints are called; the older tool chain's table is told and left alone."""
    before = picture(legacy)
    run = adopted(settings_for(legacy))
    assert (run.exit_code, run.database, run.result["recorded"]) == (0, "changed", BASELINE)
    assert [step.name for step in run.steps] == ["connect", "look", "record"]
    assert set(states(run, "baseline").values()) == {"present"}
    assert states(run, "levels")["table lawyer_levels"] == "missing"
    assert states(run, "accounts")["table feishu_auths"] == "present"
    assert run.result["alembic_version"] == ["008_enhance_lawyer_qualification"]
    assert before.lost(picture(legacy)) == []
    assert query(legacy, "SELECT version_num FROM lawsker_schema_version") == BASELINE


def test_adopting_again_changes_nothing(legacy, settings_for):
    """What is recorded stands; nothing is asked."""
    adopted(settings_for(legacy))
    before = picture(legacy)
    run = adopted(settings_for(legacy), confirm=never)
    assert (run.exit_code, run.database, run.result["recorded"]) == (0, "untouched", BASELINE)
    assert before.differences(picture(legacy)) == []


def test_no_for_an_answer(legacy, settings_for):
    """Whoever says no has changed nothing at all."""
    run = adopted(settings_for(legacy), confirm=lambda _: False)
    assert (run.exit_code, run.database, run.result["recorded"]) == (0, "untouched", None)
    assert query(legacy, "SELECT to_regnamespace('rollout')") is None


@pytest.mark.variant
@pytest.mark.parametrize(
    "family",
    [
        pytest.param("auth", marks=pytest.mark.variant),
        pytest.param("credits", marks=pytest.mark.variant),
        "pagtive",
    ],
)
def test_half_migrated_by_hand(upgrade_by_hand, settings_for, family):
    """It stands at its last whole family; upgrade makes the rest, rollback takes that back and leaves the others."""
    server = upgrade_by_hand(family)
    settings = settings_for(server)
    run = adopted(settings)
    assert run.result["recorded"] == FAMILIES[family]
    assert set(states(run, family).values()) == {"present"}
    adopted_picture = picture(server)
    assert attempt(settings).exit_code == 0
    assert query(server, "SELECT version_num FROM lawsker_schema_version") == HEAD
    if family == "pagtive":
        return
    assert back(settings).exit_code == 0
    assert adopted_picture.differences(picture(server)) == []
    verify(settings, Run("verify"))


@pytest.mark.variant
def test_rollback_past_what_was_there(upgrade_by_hand, settings_for):
    """Tables that somebody made by hand stay whatever revision a rollback leads to, with every row."""
    server = upgrade_by_hand("levels")
    settings = settings_for(server)
    adopted(settings)
    before = picture(server)
    attempt(settings)
    assert back(settings, "baseline").exit_code == 0
    assert before.differences(picture(server)) == [
        "contents public.lawsker_schema_version: " + _versions(before, server)
    ]
    assert attempt(settings).exit_code == 0


def _versions(before, server):
    now = picture(server).contents["public.lawsker_schema_version"]
    return f"{before.contents['public.lawsker_schema_version']} → {now}"


@pytest.mark.variant
def test_a_table_of_a_later_family(legacy, settings_for):
    """One table made by hand does not make a family; it is taken as it is, and outlives a rollback."""
    by_hand(legacy, "user_memberships")
    before = picture(legacy)
    settings = settings_for(legacy)
    run = adopted(settings)
    assert run.result["recorded"] == BASELINE
    memberships = states(run, "memberships")
    assert memberships["table user_memberships"] == "present"
    assert memberships["index ix_user_memberships_user_id"] == "missing"
    assert attempt(settings).exit_code == 0
    assert query(legacy, "SELECT to_regclass('ix_user_memberships_user_id') IS NOT NULL")
    assert back(settings, "auth").exit_code == 0
    assert query(legacy, "SELECT to_regclass('user_memberships') IS NOT NULL")
    assert query(legacy, "SELECT to_regclass('ix_user_memberships_user_id') IS NULL")
    assert back(settings, "baseline").exit_code == 0
    assert before.lost(picture(legacy)) == []


@pytest.mark.variant
def test_tables_without_their_rows(upgrade_by_hand, settings_for):
    """A table that lacks its initial rows counts as not there yet, so that the upgrade fills it."""
    server = upgrade_by_hand("pagtive")
    execute(server, "DELETE FROM user_credits WHERE user_id IN (SELECT user_id FROM user_credits ORDER BY 1 LIMIT 5)")
    execute(server, "DELETE FROM enterprise_service_packages WHERE package_type = 'custom'")
    settings = settings_for(server)
    recorded = adopted(settings).result["recorded"]
    assert FAMILIES["credits"] not in {one.id for one in plan.up_to(recorded)}
    run = attempt(settings)
    assert (run.exit_code, run.error) == (0, None)
    assert query(server, "SELECT count(*) FROM enterprise_service_packages") == 4


DIFFERENT = {
    "table user_credits": ("ALTER TABLE user_credits ALTER COLUMN credits_weekly TYPE bigint", "integer"),
    "table lawyer_levels": ("ALTER TABLE lawyer_levels DROP COLUMN benefits", "benefits is missing"),
    "column users.account_type": ("ALTER TABLE users ALTER COLUMN account_type DROP DEFAULT", "default"),
    "index ix_users_account_type": (
        "DROP INDEX ix_users_account_type; CREATE INDEX ix_users_account_type ON users (role)",
        "role",
    ),
}
"""Object → what makes it another one than ours, and a word of how it differs then."""


@pytest.mark.variant
def test_what_differs_is_said_and_stops_the_upgrade(upgrade_by_hand, settings_for):
    """``adopt`` says how each object differs; the upgrade refuses, names all of them, and touches nothing."""
    server = upgrade_by_hand("pagtive")
    execute(server, *(change for change, _ in DIFFERENT.values()))
    settings = settings_for(server)
    run = adopted(settings, confirm=lambda _: False)
    told = {one["object"]: one for one in run.result["objects"]}
    for key, (_, how) in DIFFERENT.items():
        assert told[key]["state"] == "different"
        assert how in told[key]["how"]
    adopted(settings)
    before = picture(server)
    upgrade = attempt(settings)
    assert (upgrade.exit_code, upgrade.database) == (6, "untouched")
    assert {key.partition(" ")[2] for key in DIFFERENT} <= {one.subject for one in upgrade.findings}
    assert before.differences(picture(server)) == []


def test_a_legacy_core_that_we_cannot_use(legacy, settings_for):
    """It is refused with what is wrong, and nothing is recorded."""
    execute(
        legacy,
        "ALTER TABLE users ALTER COLUMN password_hash TYPE text",
        "ALTER TABLE users DROP COLUMN last_login CASCADE",
    )
    run = adopted(settings_for(legacy), confirm=never)
    assert (run.exit_code, run.database) == (6, "untouched")
    assert states(run, "baseline")["column users.last_login"] == "missing"
    assert states(run, "baseline")["column users.password_hash"] == "different"


@pytest.mark.variant
@pytest.mark.parametrize(
    "damage",
    tried_once(
        [
            (
                "ALTER TABLE lawsker_schema_version DROP CONSTRAINT lawsker_schema_version_pkc;"
                f" INSERT INTO lawsker_schema_version VALUES ('{BASELINE}')"
            ),
            "DELETE FROM lawsker_schema_version",
        ]
    ),
    ids=["two rows", "no row"],
)
def test_a_version_table_that_makes_no_sense(migrated, settings_for, damage):
    """``adopt`` tells the revision from the objects, and the statement that sets the table right."""
    execute(migrated, damage)
    settings = settings_for(migrated)
    assert attempt(settings).exit_code == 6, "an upgrade would take our own objects for other people's"
    run = adopted(settings, confirm=never)
    assert (run.exit_code, run.database, run.result["stands_at"]) == (6, "untouched", HEAD)
    execute(migrated, *run.error.hint.partition(": ")[2].split("; "))
    assert attempt(settings).exit_code == 0
    assert back(settings).exit_code == 0


def test_a_revision_of_a_newer_checkout(migrated, settings_for):
    """An id that this checkout does not know is told, and not overwritten."""
    execute(migrated, "UPDATE lawsker_schema_version SET version_num = 'abcdef123456'")
    run = adopted(settings_for(migrated), confirm=never)
    assert (run.exit_code, run.database) == (6, "untouched")
    assert "abcdef123456" in run.error.message


@pytest.mark.variant
def test_plain_stamp_remembers_every_revision(upgrade_by_hand, settings_for, monkeypatch):
    """``alembic stamp`` leads over many revisions in one step; all of them can be told apart later."""
    server = upgrade_by_hand("levels")
    monkeypatch.setenv("DATABASE_URL", url_of(server))
    command.stamp(plan.alembic_config(), FAMILIES["levels"])
    known = len(plan.up_to(FAMILIES["levels"]))
    assert query(server, "SELECT count(*) FROM rollout.applied_revisions") == known
    assert attempt(settings_for(server)).exit_code == 0
    assert back(settings_for(server), "baseline").exit_code == 0


def test_rows_that_new_constraints_would_reject(upgrade_by_hand, settings_for):
    """Duplicates, NULLs, values and references that do not fit are counted, with keys; the hint lists them all."""
    server = upgrade_by_hand("pagtive")
    execute(
        server,
        "ALTER TABLE users DROP CONSTRAINT uq_users_workspace_id, DROP CONSTRAINT ck_users_account_type",
        "ALTER TABLE users ALTER registration_source DROP NOT NULL",
        "ALTER TABLE user_credits DROP CONSTRAINT fk_user_credits_user_id_users",
        "UPDATE users SET workspace_id = 'ws-twice' WHERE id IN (SELECT id FROM users ORDER BY id LIMIT 7)",
        "UPDATE users SET account_type = 'nobody', registration_source = NULL"
        " WHERE id IN (SELECT id FROM users ORDER BY id LIMIT 2)",
        "UPDATE user_credits SET user_id = gen_random_uuid()"
        " WHERE user_id IN (SELECT user_id FROM user_credits ORDER BY 1 LIMIT 1)",
    )
    before = picture(server)
    run = attempt(settings_for(server))
    assert (run.exit_code, run.database) == (6, "untouched")
    found = {one.subject: one for one in run.findings if one.check == "rows_fit_new_constraints"}
    counts = {subject: int(one.problem.split()[0]) for subject, one in found.items()}
    assert counts == {
        "users.uq_users_workspace_id": 7,
        "users.ck_users_account_type": 2,
        "users.registration_source": 2,
        "user_credits.fk_user_credits_user_id_users": 1,
    }
    for subject, one in found.items():
        listed = one.hint[one.hint.index("SELECT") :].rstrip(";")
        assert query(server, f"SELECT count(*) FROM ({listed}) q") == counts[subject]
    first = query(server, "SELECT min(id::text) FROM users")
    assert first in found["users.uq_users_workspace_id"].problem
    assert found["users.uq_users_workspace_id"].problem.endswith(", …")
    assert "@" not in "".join(one.problem for one in found.values())
    assert before.differences(picture(server)) == []


@pytest.mark.variant
def test_rows_that_fit_stop_nothing(upgrade_by_hand, settings_for):
    """A constraint that is missing on a table of theirs is made, where no row is in its way."""
    server = upgrade_by_hand("pagtive")
    execute(server, "ALTER TABLE users DROP CONSTRAINT uq_users_workspace_id")
    run = attempt(settings_for(server))
    assert (run.exit_code, run.error) == (0, None)
    assert query(server, "SELECT count(*) FROM pg_constraint WHERE conname = 'uq_users_workspace_id'") == 1


@pytest.mark.variant
def test_what_differs_is_said_in_chinese_too(legacy, command):
    """How an object differs is told in the language of the rest, by `adopt` and by what refuses it."""
    execute(legacy, "ALTER TABLE users ADD role varchar(20) DEFAULT 'user'")
    for arguments in (("adopt", "--yes"), ("migrate", "--yes", "--no-backup")):
        said = command(legacy, *arguments, ROLLOUT_LANGUAGE="zh").output
        assert "应为 True" in said
        assert "expected" not in said
