"""What rollbacks put away and upgrades give back, after whatever owners do to our tables in between."""

from __future__ import annotations

import pytest

from rollout.shelf import entries as shelf
from tests.fixtures.databases import execute, query
from tests.fixtures.legacy import attempt
from tests.fixtures.migrated import back
from tests.fixtures.tiers import tried_once
from tests.fixtures.upgraded import connected

USERS = "SELECT array_agg(t::text ORDER BY id) FROM (SELECT id, {} FROM users) t"
OURS = (
    "role, agreed_agreement_version, avatar_url, twitter_url, workspace_id, account_type, email_verified,"
    " registration_source"
)
ONE = "(SELECT id FROM users ORDER BY id LIMIT 1)"
SOME = "(SELECT id FROM users ORDER BY id LIMIT 3)"


def entered(server):
    """Return what people see in our columns of users."""
    return query(server, USERS.format(OURS))


CHECKED = (
    "ALTER TABLE users ADD CONSTRAINT ck_users_account_type"
    " CHECK (account_type IN ('pending', 'user', 'lawyer', 'lawyer_pending', 'admin'))"
)
IN_BETWEEN = {
    "made again with another default": (
        "ALTER TABLE users DROP role",
        "ALTER TABLE users ADD role varchar(20) NOT NULL DEFAULT 'admin'",
        "ALTER TABLE users ADD CONSTRAINT ck_users_role CHECK (role IN ('user', 'admin', 'super_admin'))",
        f"UPDATE users SET role = 'user' WHERE id IN {SOME}",
    ),
    "set to the default by hand": (
        "UPDATE users SET role = 'admin', account_type = 'lawyer'",
        f"UPDATE users SET role = 'user', account_type = 'pending' WHERE id IN {SOME}",
    ),
    "other defaults": (
        "ALTER TABLE users ALTER role SET DEFAULT 'admin', ALTER email_verified SET DEFAULT true",
        "ALTER TABLE users ALTER registration_source DROP DEFAULT",
        f"UPDATE users SET email_verified = true WHERE id IN {SOME}",
    ),
    "made again where ours comes without a value": (
        "ALTER TABLE users DROP account_type",
        "ALTER TABLE users ADD account_type varchar(20) NOT NULL DEFAULT 'pending'",
        CHECKED,
        "CREATE INDEX ix_users_account_type ON users (account_type)",
    ),
    "rewritten": (f"UPDATE users SET role = 'admin' WHERE id IN {SOME}", "VACUUM FULL users"),
}


@pytest.mark.parametrize("case", tried_once(IN_BETWEEN, keep=0))
def test_what_is_in_our_columns_of_users_comes_back(migrated, settings_for, case):
    """Whatever was done to the columns in between: each user has again what it had."""
    for statement in IN_BETWEEN[case]:
        execute(migrated, statement)
    then, settings = entered(migrated), settings_for(migrated)
    run = back(settings, "baseline")
    assert (run.exit_code, run.error) == (0, None)
    run = attempt(settings)
    assert (run.exit_code, run.error) == (0, None)
    assert entered(migrated) == then


@pytest.mark.variant
def test_older_values_do_not_come_back_over_newer_ones(migrated, settings_for):
    """An administrator who was deleted, and made again as an ordinary user, does not get the old role back."""
    settings = settings_for(migrated)
    execute(
        migrated,
        "INSERT INTO users (id, tenant_id, username, password_hash, status, role)"
        " SELECT '00000000-0000-4000-8000-000000000001', tenant_id, 'boss', '!', status, 'admin' FROM users LIMIT 1",
    )
    assert back(settings, "baseline").exit_code == 0
    execute(migrated, "DELETE FROM users WHERE username = 'boss'")
    assert attempt(settings).exit_code == 0
    execute(
        migrated,
        "INSERT INTO users (id, tenant_id, username, password_hash, status)"
        " SELECT '00000000-0000-4000-8000-000000000001', tenant_id, 'boss', '!', status FROM users LIMIT 1",
    )
    assert back(settings, "baseline").exit_code == 0
    assert attempt(settings).exit_code == 0
    assert query(migrated, "SELECT role FROM users WHERE username = 'boss'") == "user"


WIDER = {
    "a column of users": (
        "ALTER TABLE users ALTER avatar_url TYPE varchar(900)",
        f"UPDATE users SET avatar_url = repeat('x', 700) WHERE id = {ONE}",
        f"UPDATE users SET avatar_url = 'short' WHERE id <> {ONE}",
        "SELECT avatar_url FROM {} WHERE length(avatar_url) > 600",
    ),
    "a table": (
        "ALTER TABLE enterprise_service_packages ALTER package_name TYPE text",
        "UPDATE enterprise_service_packages SET package_name = repeat('x', 700) WHERE package_type = 'basic'",
        "SELECT 1",
        "SELECT package_name FROM {} WHERE length(package_name) > 600",
    ),
}


@pytest.mark.parametrize("case", tried_once(WIDER, keep=0))
def test_a_value_that_is_too_long_for_ours_is_not_cut(migrated, settings_for, case):
    """Where the owner made a column wider, what does not fit ours stays on the shelf, whole, and is reported."""
    *statements, long = WIDER[case]
    execute(migrated, *statements)
    settings = settings_for(migrated)
    assert back(settings, "baseline").exit_code == 0
    run = attempt(settings)
    assert (run.exit_code, run.error) == (0, None)
    left = [one for one in run.result["unshelved"] if one["left"]]
    assert [(one["left"], bool(one["why"])) for one in left] == [(1, True)]
    with connected(migrated) as connection:
        (entry,) = shelf.entries(connection)
    assert query(migrated, long.format(entry.table)) == "x" * 700
