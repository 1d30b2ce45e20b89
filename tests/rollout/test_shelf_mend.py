"""What came back from the shelf and is an error: it is said where, mended there, accepted, and comes back."""

from __future__ import annotations

import re

import pytest

from rollout.errors import RolloutError
from rollout.run import Run
from rollout.shelf import entries as shelf
from rollout.shelf.mend import accept_run
from tests.fixtures.databases import execute, query
from tests.fixtures.legacy import attempt, picture
from tests.fixtures.migrated import back
from tests.fixtures.tiers import tried_once
from tests.rollout.test_rollback import A_WEEK, on_shelf, ours

FIRST = "(SELECT id FROM users ORDER BY id LIMIT 1)"
BUYER = "(SELECT user_id FROM user_credits ORDER BY user_id LIMIT 1)"

# What people did; what its owner makes of it on the shelf, by the tables there; what it is then.
WRONG = {
    "credits below nothing": (
        f"UPDATE user_credits SET credits_purchased = -1 WHERE user_id = {BUYER}",
        "UPDATE {user_credits} SET credits_purchased = 3 WHERE credits_purchased < 0",
        (f"SELECT credits_purchased FROM user_credits WHERE user_id = {BUYER}", 3),
    ),
    "another workspace than the mapping's": (
        f"UPDATE users SET workspace_id = 'theirs' WHERE id = {FIRST}",
        ("UPDATE {workspace_mappings} SET workspace_id = 'theirs' WHERE user_id ="
        " (SELECT id FROM {users} WHERE workspace_id = 'theirs')"),
        (f"SELECT workspace_id FROM workspace_mappings WHERE user_id = {FIRST}", "theirs"),
    ),
}  # fmt: skip


def accept(settings, run_id, *, answer=True):
    """Run ``tool shelf accept`` and return its run, however it ended."""
    run = Run("shelf accept")
    try:
        accept_run(settings, run, run_id, lambda _: answer)
    except RolloutError as error:
        run.failed(error)
    return run


def places(server):
    """Return the tables on the shelf, by the table that they came from; of columns of users those with workspaces."""
    return {
        entry.source: entry.table
        for entry in on_shelf(server)
        if entry.kind == shelf.ROWS or "workspace_id" in entry.columns
    }


@pytest.mark.variant
@pytest.mark.parametrize("case", tried_once(WRONG))
def test_it_is_mended_where_it_lies(migrated, settings_for, case):
    """The upgrade refuses; its hint can be typed as it stands, finds the rows, and leads to an upgrade with all."""
    wrong, mend, (look, value) = WRONG[case]
    execute(migrated, A_WEEK, wrong)
    settings = settings_for(migrated)
    assert back(settings, "baseline").exit_code == 0
    before = picture(migrated)
    run = attempt(settings)
    assert (run.exit_code, run.database) == (9, "rolled back")
    assert before.differences(picture(migrated)) == []
    statement, accepted = re.search(
        r"mend it there: (SELECT .*;) Then `tool shelf accept (\w+)`", run.error.hint
    ).groups()
    assert query(migrated, statement.replace("SELECT *", "SELECT count(*)")) is not None
    assert query(migrated, f"SELECT count(*) FROM ({statement.rstrip(';')}) AS found") == 1
    execute(migrated, mend.format(**places(migrated)))
    run = accept(settings, accepted)
    assert (run.exit_code, run.error, len(run.result["entries"])) == (0, None, 1)
    run = attempt(settings)
    assert (run.exit_code, run.error) == (0, None)
    assert query(migrated, look) == value
    assert on_shelf(migrated) == []


@pytest.mark.variant
def test_what_was_changed_there_comes_back_once_it_is_accepted(migrated, settings_for):
    """Also rows that somebody took away or added there; what is as it was needs no word, and no is an answer."""
    execute(migrated, A_WEEK)
    settings, then = settings_for(migrated), ours(migrated)
    assert back(settings, "credits").exit_code == 0
    (run_id,) = {entry.run_id for entry in on_shelf(migrated)}
    assert accept(settings, run_id).result["entries"] == []
    execute(migrated, f"DELETE FROM {places(migrated)['user_accounts']} WHERE provider_account_id <> 'x'")
    run = attempt(settings)
    assert (run.exit_code, f"tool shelf accept {run_id};" in run.error.hint) == (6, True)
    run = accept(settings, run_id, answer=False)
    assert (run.exit_code, run.database) == (12, "untouched")
    assert [one["rows"] for one in accept(settings, run_id).result["entries"]] == [0]
    assert attempt(settings).error is None
    assert on_shelf(migrated) == []
    now = ours(migrated)
    assert {table for table in then if then[table] != now[table]} == {"user_accounts"}


@pytest.mark.variant
def test_a_row_that_somebody_added_there_comes_back(migrated, settings_for):
    """A user's values that somebody entered on the shelf are people's, whatever else the shelf would know of them."""
    settings = settings_for(migrated)
    assert back(settings, "baseline").exit_code == 0
    (run_id,) = {entry.run_id for entry in on_shelf(migrated)}
    users = places(migrated)["users"]
    execute(
        migrated,
        f"DELETE FROM {users} WHERE id = {FIRST}",
        f"INSERT INTO {users} (id, account_type, email_verified, registration_source, workspace_id)"
        f" SELECT user_id, 'user', true, 'by hand', workspace_id FROM {places(migrated)['workspace_mappings']}"
        f" WHERE user_id = {FIRST}",
    )
    assert accept(settings, run_id).error is None
    assert attempt(settings).error is None
    assert on_shelf(migrated) == []
    assert query(migrated, f"SELECT registration_source FROM users WHERE id = {FIRST}") == "by hand"


@pytest.mark.variant
def test_a_column_that_somebody_dropped_there(migrated, settings_for):
    """Nothing of it can come back: it is not accepted as it is, and the upgrade refuses until told to go without it."""
    execute(migrated, A_WEEK)
    settings = settings_for(migrated)
    assert back(settings, "credits").exit_code == 0
    (run_id,) = {entry.run_id for entry in on_shelf(migrated)}
    execute(migrated, f"ALTER TABLE {places(migrated)['user_accounts']} DROP provider")
    run = accept(settings, run_id)
    assert (run.exit_code, run.database) == (12, "untouched")
    assert "has lost the column provider" in run.error.message
    run = attempt(settings)
    assert (run.exit_code, run.database) == (6, "untouched")
    execute(migrated, run.error.hint[run.error.hint.index("COMMENT ON") :])
    assert attempt(settings).error is None
    assert on_shelf(migrated) == [], "it is there, but no longer ours"


def test_nothing_of_that_run(migrated, settings_for):
    """Exit code 12: one line what is wrong, one what to do."""
    run = accept(settings_for(migrated), "nonsense")
    assert (run.exit_code, run.database) == (12, "untouched")
    assert "nothing of run nonsense" in run.error.message
