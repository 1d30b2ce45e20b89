"""``tool pagtive undo RUN``: exactly what one run wrote goes, and the rest stays as it is."""

from __future__ import annotations

import pytest

from datamigrations.undo import undo_run
from rollout.errors import RolloutError
from rollout.run import Run
from rollout.sample_data.pagtive import fill_pagtive
from tests.fixtures.legacy import picture
from tests.fixtures.migrated import back
from tests.fixtures.pagtive import figures, imported, uid
from tests.fixtures.tiers import tried_once
from tests.fixtures.upgraded import USERS, connected


def attempt(settings, run_id, **options):
    """Undo; return the run, however it ended."""
    run = Run("pagtive undo")
    try:
        undo_run(settings, run, run_id, **options)
    except RolloutError as error:
        run.failed(error)
    return run


def undone(settings, run_id, **options):
    """Undo; return the run, which has to have succeeded."""
    run = attempt(settings, run_id, **options)
    assert run.exit_code == 0, run.error
    return run


def refused(run):
    """Check that an undo was refused and changed nothing; return its message."""
    assert (run.exit_code, run.database) == (12, "untouched")
    return str(run.error.message)


@pytest.fixture
def quiet(target):
    """Keep the neighbours' trigger on users still: it moves updated_at on every write."""
    target.run("ALTER TABLE users DISABLE TRIGGER USER")
    return target


def test_what_a_later_import_wrote_is_its_own(settings, source, quiet):
    """It remembers what the earlier one had written: that is refused even where edits are to be lost."""
    user = quiet.lawsker_user(1, email="a@x.com")
    source.project(1, source.user(1, email="a@x.com", status=2))
    first = imported(settings)
    source.run("UPDATE users SET status = 0, updated_at = '2024-05-01'")
    second = imported(settings)
    for options in ({}, {"discard_edits": True}):
        message = refused(attempt(settings, first.run_id, **options))
        assert message == "a later import has written to the same rows: users (1)"
    undone(settings, second.run_id)
    undone(settings, first.run_id)
    assert quiet.one("SELECT status::text FROM users WHERE id = %s", user) == "ACTIVE"


@pytest.mark.variant
def test_an_import_of_sample_data(settings, source_server, target_server, quiet):
    """Users, what belongs to them, projects, pages, logs, codes, map and tenant: all is as it was, to the byte."""
    with connected(source_server) as connection:
        fill_pagtive(connection, users=100, page_bytes=(500, 600), legacy_users=USERS, dirty=0.1)
        connection.commit()
    before = picture(target_server)
    run = imported(settings)
    undo = undone(settings, run.run_id)
    assert before.differences(picture(target_server)) == []
    for name, table in (("users", "users"), ("projects", "pagtive_projects")):
        counts = run.result["tables"][name]
        assert undo.result["tables"][table] == {"deleted": counts["inserted"], "restored": counts["updated"]}
    assert undo.result["tables"]["tenants"] == {"deleted": 1, "restored": 0}
    assert quiet.one("SELECT count(*) FROM rollout.import_changes") == 0
    again = imported(settings)
    for name in ("users", "projects", "project_details"):
        assert figures(again, name) == figures(run, name)


@pytest.mark.variant
def test_only_the_second_of_two_imports(settings, source, target_server, quiet):
    """What the second one updated gets its values back, times and json's null included; the first one's rows stay."""
    existing = quiet.lawsker_user(1, email="a@example.com")
    source.user(1, email="a@example.com", status=1, agreed_agreement_version="v1")
    project = source.project(1, uid(1), pages="null", batch_id=None)
    source.page(project, 1, html="old", images=None)
    source.log(1, uid(1), status="pending")
    imported(settings)
    before = picture(target_server)
    source.run("UPDATE users SET status = 2, agreed_agreement_version = 'v2', updated_at = '2026-01-01'")
    source.run("UPDATE projects SET pages = NULL, project_name = 'new', updated_at = '2026-01-01'")
    source.run("UPDATE project_details SET html = 'new', images = 'null', updated_at = '2026-01-01'")
    source.run("UPDATE llmlog SET status = 'success', response_timestamp = '2026-01-01'")
    source.user(2)
    second = imported(settings)
    assert [second.result["tables"][name]["updated"] for name in second.result["tables"]] == [1, 1, 1, 0, 1]
    undone(settings, second.run_id)
    assert before.differences(picture(target_server)) == []
    assert quiet.one("SELECT agreed_agreement_version FROM users WHERE id = %s", existing) == "v1"


@pytest.mark.variant
@pytest.mark.usefixtures("quiet")
def test_rows_that_came_to_refer_to_new_ones(settings, source, target_server):
    """A project, log and code imported earlier that the run gave to what it inserted go back to where they were."""
    source.user(1)
    source.project(1, uid(1))
    source.log(1, uid(1), project_id=uid(2, 1))
    source.code(1, "A")
    imported(settings)
    before = picture(target_server)
    source.project(2, source.user(2))
    source.run("UPDATE projects SET user_id = %s, updated_at = '2026-01-01'", uid(2))
    source.run("UPDATE invitation_codes SET used_by_user_id = %s, used_at = '2026-01-01'", uid(2))
    second = imported(settings)
    assert [counts["updated"] for counts in second.result["tables"].values()] == [0, 1, 1, 1, 0]
    undone(settings, second.run_id)
    assert before.differences(picture(target_server)) == []


@pytest.mark.variant
def test_a_change_under_the_same_time(settings, source, target_server, quiet):
    """Also where updated_at never moved, the undo puts everything back."""
    source.project(1, source.user(1))
    imported(settings)
    before = picture(target_server)
    source.run("UPDATE projects SET project_name = 'other'")
    second = imported(settings)
    assert figures(second, "projects")["updated"] == 1
    undone(settings, second.run_id)
    assert before.differences(picture(target_server)) == []
    assert quiet.one("SELECT project_name FROM pagtive_projects") == "site"


@pytest.mark.parametrize(
    ("edit", "table"),
    [
        ("UPDATE pagtive_projects SET project_name = 'mine'", "pagtive_projects"),
        pytest.param(
            "UPDATE pagtive_project_details SET html = 'mine'", "pagtive_project_details", marks=pytest.mark.variant
        ),
        pytest.param(
            "UPDATE users SET username = 'mine' WHERE registration_source = 'pagtive'",
            "users",
            marks=pytest.mark.variant,
        ),
        pytest.param(
            "UPDATE user_credits SET credits_remaining = 0 WHERE user_id = '{user}'",
            "user_credits",
            marks=pytest.mark.variant,
        ),
        pytest.param(
            "UPDATE users SET status = 'PENDING' WHERE email = 'a@example.com'", "users", marks=pytest.mark.variant
        ),
    ],
)
def test_rows_that_were_edited_are_refused(settings, source, target_server, quiet, edit, table):  # noqa: PLR0917
    """Nothing is taken back where something would be lost, until one says so."""
    quiet.lawsker_user(1, email="a@example.com")
    source.user(5, email="a@example.com", status=2)
    source.page(source.project(1, source.user(1)), 1)
    before_import = quiet.one("SELECT count(*) FROM users")
    run = imported(settings)
    quiet.run(edit.format(user=uid(1)))
    before = picture(target_server)
    assert refused(attempt(settings, run.run_id)) == f"rows were edited since the run: {table} (1)"
    assert before.differences(picture(target_server)) == []
    assert undone(settings, run.run_id, discard_edits=True).result["edits_discarded"] == {table: 1}
    assert quiet.one("SELECT count(*) FROM users") == before_import
    assert quiet.one("SELECT count(*) FROM pagtive_projects") == 0


@pytest.mark.parametrize(
    ("table", "insert"),
    tried_once(
        [
            ("pagtive_project_details", "(project_id, page_id) VALUES ('{project}', 9)"),
            (
                "pagtive_llm_logs",
                (
                    "(project_id, provider, model, request_prompts, request_config, status)"
                    " VALUES ('{project}', 'p', 'm', '[]', '{{}}', 'success')"
                ),
            ),
            (
                "wallets",
                (
                    "(user_id, balance, withdrawable_balance, frozen_balance, total_earned, total_withdrawn,"
                    " commission_count) VALUES ('{user}', 1, 0, 0, 0, 0, 0)"
                ),
            ),
            (
                "user_accounts",
                "(user_id, type, provider, provider_account_id) VALUES ('{user}', 'oauth', 'github', 'gh')",
            ),
            (
                "users",
                (
                    "(id, tenant_id, username, password_hash, status) SELECT gen_random_uuid(), id, 'x', 'x', 'ACTIVE'"
                    " FROM tenants WHERE tenant_code = 'pagtive'"
                ),
            ),
        ],
        keep=2,
    ),
)
def test_rows_of_others_that_hang_on_it_are_refused(settings, source, target_server, quiet, table, insert):  # noqa: PLR0917
    """What people added since to what the import brought would go with it: it is named, and nothing happens."""
    quiet.lawsker_user(1)
    user = source.user(1)
    project = source.project(1, user)
    run = imported(settings)
    quiet.run(f"INSERT INTO {table} {insert.format(user=user, project=project)}")
    before = picture(target_server)
    for options in ({}, {"discard_edits": True}):
        message = refused(attempt(settings, run.run_id, **options))
        assert message == f"other rows refer to what the run inserted: {table} (1)"
    assert before.differences(picture(target_server)) == []


def test_rows_that_somebody_deleted_are_no_obstacle(settings, source, quiet):
    """What is gone already need not be taken back."""
    source.project(1, source.user(1))
    run = imported(settings)
    quiet.run("DELETE FROM pagtive_projects")
    undo = undone(settings, run.run_id)
    assert undo.result["tables"]["pagtive_projects"] == {"deleted": 0, "restored": 0}


def test_what_cannot_be_taken_back(settings, source):
    """A run that is not there, of another command, a dry run, one that failed, one that was taken back."""
    source.user(1)
    dry = imported(settings, dry_run=True)
    run = imported(settings)
    assert "there is no import nothing" in refused(attempt(settings, "nothing"))
    assert "wrote nothing" in refused(attempt(settings, dry.run_id))
    undo = undone(settings, run.run_id)
    assert "taken back already" in refused(attempt(settings, run.run_id))
    assert "there is no import" in refused(attempt(settings, undo.run_id))


@pytest.mark.variant
def test_imports_are_taken_back_last_one_first(settings, source, target_server, quiet):
    """The first of two imports of one row cannot go before the second; in the right order all goes."""
    before = picture(target_server)
    source.project(1, source.user(1))
    first = imported(settings)
    source.run("UPDATE projects SET project_name = 'new', updated_at = '2026-01-01'")
    second = imported(settings)
    assert "pagtive_projects (1)" in refused(attempt(settings, first.run_id))
    undone(settings, second.run_id)
    undone(settings, first.run_id)
    assert before.differences(picture(target_server)) == []
    assert quiet.one("SELECT count(*) FROM pagtive_user_map") == 0


@pytest.mark.variant
def test_a_trigger_that_meddles_with_the_undo(settings, source, target_server, quiet):
    """What was put back is compared with what was there: a difference rolls everything back."""
    source.project(1, source.user(1))
    imported(settings)
    source.run("UPDATE projects SET project_name = 'new', updated_at = '2026-01-01'")
    second = imported(settings)
    body = "NEW.project_name = upper(NEW.project_name); RETURN NEW"
    quiet.run(f"CREATE FUNCTION meddle() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN {body}; END$$")
    quiet.run("CREATE TRIGGER meddle BEFORE UPDATE ON pagtive_projects FOR EACH ROW EXECUTE FUNCTION meddle()")
    before = picture(target_server)
    run = attempt(settings, second.run_id)
    assert (run.exit_code, run.database) == (12, "rolled back")
    assert before.differences(picture(target_server)) == []


def test_a_row_that_a_later_import_brought_again(settings, source, target):
    """It is that import's: the earlier one is taken back after it, and then all is gone."""
    user = source.user(1)
    first, second = source.project(1, user), source.project(2, user)
    before = target.contents()
    earlier = imported(settings)
    target.run("DELETE FROM pagtive_projects WHERE id = %s", first)
    later = imported(settings)
    assert "pagtive_projects (1)" in refused(attempt(settings, earlier.run_id))
    assert undone(settings, later.run_id).result["tables"]["pagtive_projects"] == {"deleted": 1, "restored": 0}
    assert target.run("SELECT id::text FROM pagtive_projects") == [(second,)]
    undone(settings, earlier.run_id)
    assert target.contents() == before


def test_an_old_value_that_another_row_has_now(settings, source, target):
    """A code that the run changed, and a later import gave to another row: that one goes first."""
    source.user(1)
    source.code(1, "X")
    imported(settings)
    source.run("UPDATE invitation_codes SET code = 'Z'")
    source.code(2, "X")
    run = imported(settings)
    later = imported(settings)
    failed = attempt(settings, run.run_id)
    assert (failed.exit_code, failed.database) == (12, "rolled back")
    assert "uq_pagtive_invitation_codes_code" in str(failed.error.message)
    undone(settings, later.run_id)
    undone(settings, run.run_id)
    assert target.run("SELECT code FROM pagtive_invitation_codes") == [("X",)]


@pytest.mark.parametrize(
    ("table", "change"),
    tried_once(
        [
            ("users", "password_hash = '$2b$12$real'"),
            ("users", "workspace_id = 'elsewhere'"),
            ("profiles", "bio = 'x'"),
            ("user_accounts", "last_used_at = now()"),
            ("user_accounts", "access_token = 'x'"),
            ("tenants", "name = 'x'"),
            ("pagtive_projects", "reference_files = '[1]'"),
            ("pagtive_llm_logs", "version_id = gen_random_uuid()"),
        ],
        keep=8,
    ),
)
def test_an_edit_of_what_no_import_fills(settings, source, quiet, table, change):
    """A password that somebody has set, a profile that somebody has written: the undo would take it along."""
    source.project(1, source.user(1))
    source.log(1, uid(1))
    run = imported(settings)
    known = {"users": "registration_source = 'pagtive'", "tenants": "tenant_code = 'pagtive'"}.get(
        table, "true" if table.startswith("pagtive") else "user_id = (SELECT user_id FROM pagtive_user_map)"
    )
    quiet.run(f"UPDATE {table} SET {change} WHERE {known}")
    assert f"{table} (1)" in refused(attempt(settings, run.run_id))
    undone(settings, run.run_id, discard_edits=True)


def test_a_trigger_that_moves_the_time_is_no_edit(settings, source, target):
    """Undone the second import, the next one brings the same again, and both can be undone."""
    source.user(1)
    first = imported(settings)
    source.run("UPDATE users SET status = 2, updated_at = '2024-06-01'")
    second = imported(settings)
    undone(settings, second.run_id)
    assert target.one("SELECT status::text FROM users WHERE registration_source = 'pagtive'") == "ACTIVE"
    third = imported(settings)
    assert figures(third, "users") == {"read": 1, "updated": 1}
    undone(settings, third.run_id)
    undone(settings, first.run_id)
    assert not target.one("SELECT EXISTS (SELECT FROM users WHERE registration_source = 'pagtive')")


def test_tables_that_a_rollback_took(settings_for, migrated, source, source_server):
    """What the import wrote lies on the shelf: nothing to undo before it has come back."""
    settings = settings_for(migrated, source_server)
    source.code(1, "A", used_by_user_id=source.user(1))
    run = imported(settings)
    back(settings)
    refusal = attempt(settings, run.run_id)
    assert "pagtive_invitation_codes" in refused(refusal)
    assert "tool migrate" in refusal.error.hint


def test_rows_of_others_behind_a_key_of_two_columns(settings, source, target):
    """A foreign key of two columns refers to a row by both, not by the first of them."""
    target.run("ALTER TABLE users ADD UNIQUE (tenant_id, id)")
    target.run(
        "CREATE TABLE notes (id int, tenant_id uuid, user_id uuid,"
        " FOREIGN KEY (tenant_id, user_id) REFERENCES users (tenant_id, id))"
    )
    target.run(
        "INSERT INTO notes SELECT 1, u.tenant_id, u.id FROM users u"
        " JOIN tenants t ON t.id = u.tenant_id WHERE t.tenant_code = 'lawsker' LIMIT 1"
    )
    source.user(1)
    run = imported(settings, tenant="lawsker")
    target.run("INSERT INTO notes SELECT 2, tenant_id, id FROM users WHERE registration_source = 'pagtive'")
    assert "notes (1)" in refused(attempt(settings, run.run_id))
    target.run("DELETE FROM notes WHERE id = 2")
    undone(settings, run.run_id)
    assert target.one("SELECT count(*) FROM notes") == 1
