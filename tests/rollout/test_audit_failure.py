"""When the audit after COMMIT finds an error: kept with the command to type, or rolled back with a shelf."""

from __future__ import annotations

import pytest

from rollout import change
from rollout.database import engine_for
from tests.fixtures.databases import execute, query
from tests.fixtures.legacy import HEAD, attempt, picture, report_of
from tests.fixtures.migrated import back

DAMAGE = "DELETE FROM lawyer_levels WHERE level = 10"
SIGN_UP = (
    (
        "INSERT INTO users (id, tenant_id, username, password_hash, status, avatar_url)"
        " SELECT gen_random_uuid(), id, 'late', '!', 'ACTIVE', 'https://example.com/late' FROM tenants LIMIT 1"
    ),
    (
        "INSERT INTO user_roles (user_id, role_id)"
        " SELECT u.id, r.id FROM users u, (SELECT id FROM roles WHERE name = 'Lawyer' LIMIT 1) r"
        " WHERE username = 'late'"
    ),
)
PAGE = "INSERT INTO pagtive_projects (user_id, project_name) SELECT id, 'mine' FROM users WHERE username = 'late'"


@pytest.fixture
def after_commit(legacy, monkeypatch):
    """Return what has statements run between the upgrade's COMMIT and its audit."""
    commit = change.transaction.commit

    def between(*statements):
        waiting = list(statements)

        def commit_then(connection, engine):
            commit(connection, engine)
            execute(legacy, *waiting)
            waiting.clear()

        monkeypatch.setattr(change.transaction, "commit", commit_then)

    return between


def test_an_ordinary_sign_up_is_no_error(legacy, settings_for, after_commit):
    """Somebody who signs up between COMMIT and audit, without our initial rows, stops nothing and loses nothing."""
    after_commit(*SIGN_UP)
    run = attempt(settings_for(legacy), take_back=True)
    assert (run.exit_code, run.error) == (0, None)
    assert query(legacy, "SELECT avatar_url FROM users WHERE username = 'late'") == "https://example.com/late"


@pytest.mark.variant
def test_it_is_kept_unless_asked(legacy, settings_for, after_commit):
    """The default: exit code 13, changed, and the exact command that takes it back, which works."""
    before = picture(legacy)
    after_commit(DAMAGE)
    settings = settings_for(legacy)
    run = attempt(settings)
    assert (run.exit_code, run.database) == (13, "changed")
    assert "tool rollback --to before-last-run" in run.error.hint
    assert query(legacy, "SELECT version_num FROM lawsker_schema_version") == HEAD
    assert back(settings).exit_code == 0
    assert before.differences(picture(legacy)) == []


@pytest.mark.variant
def test_what_is_gone_already_does_not_stop_it(legacy, settings_for, after_commit):
    """Somebody drops an index of ours and a table between COMMIT and audit: it is rolled back, as before."""
    before = picture(legacy)
    after_commit("DROP INDEX ix_users_account_type", "DROP TABLE credit_purchase_records")
    run = attempt(settings_for(legacy), take_back=True)
    assert (run.exit_code, run.database) == (8, "rolled back"), run.error
    assert "credit_purchase_records" in run.error.message
    assert before.differences(picture(legacy)) == []


@pytest.mark.variant
def test_it_is_rolled_back_where_asked(legacy, settings_for, after_commit):
    """Exit code 8, rolled back, as before; the report tells the finding and the way back; no last run is left."""
    before = picture(legacy)
    after_commit(DAMAGE)
    settings = settings_for(legacy)
    run = attempt(settings, take_back=True)
    assert (run.exit_code, run.database) == (8, "rolled back"), run.error
    assert "lawyer_levels" in run.error.message
    assert before.differences(picture(legacy)) == []
    assert (run.result["from_revision"], run.result["to_revision"]) == (None, HEAD)
    report = report_of(settings, run)
    assert {"shelve", "downgrade"} < {step["name"] for step in report["steps"]}
    assert [one for one in report["findings"] if "lawyer_levels" in one["subject"]]
    assert back(settings).exit_code == 12, "there is no run left to take back"


@pytest.mark.variant
def test_what_people_wrote_meanwhile_is_kept(legacy, settings_for, after_commit):
    """A sign-up and a page between COMMIT and the automatic rollback: the user stays, our part of it comes back."""
    after_commit(*SIGN_UP, PAGE, DAMAGE)
    settings = settings_for(legacy)
    assert attempt(settings, take_back=True).exit_code == 8
    assert query(legacy, "SELECT count(*) FROM users WHERE username = 'late'") == 1
    run = attempt(settings)
    assert run.exit_code == 0, run.error
    assert query(legacy, "SELECT avatar_url FROM users WHERE username = 'late'") == "https://example.com/late"
    assert query(legacy, "SELECT project_name FROM pagtive_projects") == "mine"
    assert query(legacy, "SELECT count(*) FROM lawyer_levels") == 10


@pytest.mark.variant
@pytest.mark.parametrize(
    "what",
    [
        "view of others",
        pytest.param("table held", marks=pytest.mark.variant),
    ],
)
def test_a_rollback_that_cannot_be_keeps_the_upgrade(legacy, settings_for, after_commit, what):
    """What is in the way is named beside what the audit found: exit code 13, changed; nothing half done."""
    damages = {
        "view of others": (DAMAGE, "CREATE VIEW boss AS SELECT account_type FROM users"),
        "table held": (DAMAGE,),
    }
    after_commit(*damages[what])
    holder = engine_for(legacy)
    connection = holder.connect()
    if what == "table held":
        commit = change.transaction.commit

        def then_hold(*arguments):
            commit(*arguments)
            connection.exec_driver_sql("LOCK TABLE users IN ACCESS SHARE MODE")

        change.transaction.commit = then_hold  # after_commit's monkeypatch puts the original back
    run = attempt(settings_for(legacy, lock_timeout=0.3), take_back=True)
    connection.close()
    assert (run.exit_code, run.database) == (13, "changed"), run.error
    words = {"view of others": "boss", "table held": "users"}
    assert "it was not rolled back" in run.error.message
    assert words[what] in run.error.message
    assert run.error.hint
    assert query(legacy, "SELECT version_num FROM lawsker_schema_version") == HEAD


def test_wrong_use(command, legacy):
    """Only the two words are understood."""
    result = command(legacy, "migrate", "--no-backup", "--yes", "--on-audit-failure", "maybe")
    assert result.exit_code == 2
    assert "maybe" in result.stderr
