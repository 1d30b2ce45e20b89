"""``tool migrate --with-users``: accounts in the upgrade's transaction, verified with it, gone with its rollback."""

from __future__ import annotations

import pytest

from datamigrations.accounts import WithUsers
from tests.fixtures.databases import execute, query
from tests.fixtures.legacy import attempt, picture, values_of
from tests.fixtures.migrated import back

WITHOUT = (
    "SELECT count(*) FROM users u WHERE (btrim(email) <> '' OR EXISTS (SELECT FROM feishu_auths f WHERE"
    " f.user_id = u.id)) AND (SELECT count(*) FROM user_accounts a WHERE a.user_id = u.id AND is_primary) <> 1"
)


def test_accounts_come_with_the_schema(legacy, settings_for):
    """One run: schema and accounts, on record with the keys of ``users upgrade``; again, nothing is left to do."""
    settings = settings_for(legacy)
    run = attempt(settings, work=WithUsers())
    assert (run.exit_code, run.database, run.error) == (0, "changed", None)
    made = run.result["accounts"]
    assert made["email"] > 0
    assert run.result["users"] == query(legacy, "SELECT count(*)::int FROM users")
    assert sum(made.values()) == query(legacy, "SELECT count(*)::int FROM user_accounts")
    assert query(legacy, WITHOUT) == len(run.result["skipped"])
    written = query(legacy, "SELECT count(DISTINCT xmin::text)::int FROM user_accounts")
    made_by = query(legacy, "SELECT transaction_id FROM rollout.applied_revisions LIMIT 1")
    assert written == 1
    assert query(legacy, "SELECT xmin::text::bigint FROM user_accounts LIMIT 1") == made_by % 2**32
    again = attempt(settings, work=WithUsers())
    assert (again.exit_code, again.database) == (0, "untouched")
    assert again.result["accounts"] == {"feishu": 0, "email": 0}


@pytest.mark.variant
def test_the_rollback_takes_them_along(legacy, settings_for):
    """All is as it was, to the byte; the shelf gives the accounts back with the next upgrade, as they were."""
    before, settings = picture(legacy), settings_for(legacy)
    assert attempt(settings, work=WithUsers()).exit_code == 0
    accounts = query(legacy, "SELECT array_agg(a::text ORDER BY id) FROM user_accounts a")
    assert back(settings).exit_code == 0
    assert before.differences(picture(legacy)) == []
    assert attempt(settings, work=WithUsers()).exit_code == 0
    assert query(legacy, "SELECT array_agg(a::text ORDER BY id) FROM user_accounts a") == accounts


def test_a_schema_that_is_there_already(migrated, settings_for):
    """Only the accounts come, in a transaction of their own."""
    run = attempt(settings_for(migrated), work=WithUsers())
    assert (run.exit_code, run.database) == (0, "changed")
    assert sum(run.result["accounts"].values()) == query(migrated, "SELECT count(*)::int FROM user_accounts") > 0


@pytest.mark.variant
def test_accounts_that_are_there_count_as_preserved(legacy, settings_for):
    """From the family before the last one: the table of accounts is there, only rows may come to it."""
    settings = settings_for(legacy)
    assert attempt(settings, to="accounts").exit_code == 0
    execute(legacy, "INSERT INTO user_accounts (user_id, type, provider, provider_account_id)"
                    " SELECT id, 'oauth', 'github', 'gh' FROM users ORDER BY id LIMIT 1")  # fmt: skip
    run = attempt(settings, work=WithUsers())
    assert (run.exit_code, run.error) == (0, None)
    assert [one["reason"] for one in run.result["skipped"]].count("no_primary") == 1
    assert query(legacy, "SELECT count(*)::int FROM user_accounts WHERE provider = 'github'") == 1


def test_a_target_without_accounts_is_refused(legacy, settings_for):
    """To a family before them: nothing is touched, no backup made."""
    before = picture(legacy)
    run = attempt(settings_for(legacy), to="credits", backup=True, work=WithUsers())
    assert (run.exit_code, run.database) == (6, "untouched")
    assert "user_accounts" in run.error.message
    assert before.differences(picture(legacy)) == []


@pytest.mark.variant
def test_accounts_that_are_not_as_they_must_roll_the_upgrade_back(legacy, settings_for, monkeypatch):
    """Somebody is left without a primary account: the schema does not come either."""
    before = picture(legacy)
    monkeypatch.setattr(
        "datamigrations.accounts._INSERT_EMAIL",
        "INSERT INTO public.user_accounts (user_id, type, provider, provider_account_id, is_primary, is_verified)"
        " SELECT user_id, 'email', 'email', address, user_id <> (SELECT max(user_id::text)::uuid FROM"
        " upgrade_email_wanted), true FROM upgrade_email_wanted WHERE reason IS NULL",
    )
    run = attempt(settings_for(legacy), work=WithUsers())
    assert (run.exit_code, run.database) == (9, "rolled back")
    assert before.differences(picture(legacy)) == []


@pytest.mark.variant
def test_the_command(legacy, command):
    """``--with-users`` on the command line, with the keys of ``users upgrade``."""
    values = values_of(command(legacy, "migrate", "--with-users", "--no-backup", "--yes", "--json"))
    assert values["accounts"]["email"] > 0
    assert {"skipped", "users", "by_provider"} <= values.keys()
