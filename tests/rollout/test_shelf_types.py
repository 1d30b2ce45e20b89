"""Columns and tables of ours that people gave another type, partitions or children: the way out and back."""

from __future__ import annotations

import pytest

from tests.fixtures.databases import execute, query
from tests.fixtures.legacy import attempt
from tests.fixtures.migrated import back
from tests.rollout.test_rollback import A_WEEK, on_shelf, ours, refused

NO_CHECKS = "ALTER TABLE users DROP CONSTRAINT ck_users_role, DROP CONSTRAINT ck_users_account_type"
NO_REFERENCE = "ALTER TABLE user_credits DROP CONSTRAINT fk_user_credits_user_id_users"

# (column, its new type, what makes old values new ones, whether ours holds these).
TYPES = [
    ("users.avatar_url", "integer", "length(username)", True),
    ("users.avatar_url", "numeric", "length(username) + 0.50", True),
    ("users.avatar_url", "bytea", "decode('00ff', 'hex')", True),
    ("users.avatar_url", "jsonb", """'{"b": 1, "a": [null]}'""", True),
    ("users.avatar_url", "text[]", "ARRAY[username::text, NULL]", True),
    ("users.avatar_url", "interval", "'1 day'", True),
    ("users.avatar_url", "timestamptz", "now()", True),
    ("users.avatar_url", "int4range", "'[1,5)'", True),
    ("users.avatar_url", "point", "'(1,2)'", True),
    ("users.avatar_url", "userstatus", "status", True),
    ("users.role", "integer", "7", False),
    ("users.account_type", "integer", "7", False),
    ("users.email_verified", "integer", "1", False),
    ("users.registration_source", "date", "now()::date", True),
    ("user_credits.credits_purchased", "bigint", "2 ^ 40", False),
    ("user_credits.credits_purchased", "smallint", "7", True),
    ("user_credits.credits_purchased", "numeric", "1.5", False),
    ("user_credits.user_id", "text", "user_id", True),
    ("user_credits.user_id", "varchar(90)", "'nobody ' || user_id", False),
    ("lawyer_levels.requirements", "json", "requirements::json", True),
    ("lawyer_levels.requirements", "text", "requirements::text || ' '", False),
    ("lawyer_levels.daily_case_limit", "text", "daily_case_limit || ' a day'", False),
    ("user_accounts.id", "text", "id", True),
    ("enterprise_clients.company_name", "integer", "5", True),
    ("pagtive_project_details.id", "smallint", "id", True),
]  # fmt: skip


def values(server, relation, column, key):
    """Return (key, value) of a column, as texts."""
    pairs = f"SELECT ARRAY[{key}::text, {column}::text] AS pair FROM {relation}"
    return {tuple(one) for one in query(server, f"SELECT coalesce(json_agg(pair), '[]') FROM ({pairs}) p")}


@pytest.mark.parametrize(
    ("place", "kind", "value", "holds"),
    [
        pytest.param(*one, marks=pytest.mark.exhaustive if number % 5 else pytest.mark.variant)
        for number, one in enumerate(TYPES)
    ],
    ids=lambda one: one if isinstance(one, str) else None,
)
def test_a_column_of_another_type(migrated, settings_for, place, kind, value, holds):  # noqa: PLR0917
    """Every value comes back, or is on the shelf as people left it and is reported."""
    table, _, column = place.partition(".")
    execute(
        migrated, A_WEEK, NO_CHECKS, NO_REFERENCE,
        "DROP VIEW lawyer_performance_summary",
        f"ALTER TABLE {table} ALTER {column} DROP DEFAULT" if column != "id" else "SELECT 1",
        f"ALTER TABLE {table} ALTER {column} TYPE {kind} USING {value}",
    )  # fmt: skip
    with_key = (
        "user_id" if table == "user_credits" and column != "user_id" else "created_at" if column == "id" else "id"
    )
    with_key = "1" if column == "user_id" else with_key
    settings, then, all_of_it = settings_for(migrated), values(migrated, table, column, with_key), ours(migrated)
    run = back(settings, "baseline")
    assert (run.exit_code, run.error) == (0, None)
    run = attempt(settings)
    assert (run.exit_code, run.error) == (0, None)
    now = values(migrated, table, column, with_key)
    left = [entry for entry in on_shelf(migrated) if entry.source == table]
    for entry in left:
        if column in entry.columns:
            now |= values(migrated, entry.table, column, with_key)
    assert then <= now, "nothing is lost"
    told = [one["object"] for one in run.result["unshelved"] if one["left"]]
    assert sorted(told) == sorted(entry.object for entry in on_shelf(migrated))
    assert (left == []) is holds, [entry.why for entry in left]
    if holds:
        found = ours(migrated)
        assert {one for one in found if found[one] != all_of_it[one]} == set()


def tried(server, settings):
    """Roll back, typing every hint that it is refused with."""
    for _ in range(5):
        run = back(settings, "baseline")
        if run.exit_code == 0:
            return
        refused(run)
        execute(server, *(one.hint.partition("then: ")[2] for one in run.findings))
    pytest.fail(str(run.error))


@pytest.mark.variant
def test_a_table_that_was_divided_into_partitions(migrated, settings_for):
    """Partitions are others' tables: the hints let them go with their rows, and nothing that hangs on them is lost."""
    execute(
        migrated,
        A_WEEK,
        "ALTER TABLE user_credits RENAME TO part",
        "CREATE TABLE user_credits (LIKE part INCLUDING ALL) PARTITION BY HASH (user_id)",
        "ALTER TABLE user_credits ATTACH PARTITION part FOR VALUES WITH (modulus 1, remainder 0)",
        "CREATE VIEW theirs AS SELECT count(*) FROM part",
    )
    then, settings = query(migrated, "SELECT array_agg(p::text ORDER BY p::text) FROM part p"), settings_for(migrated)
    tried(migrated, settings)
    assert query(migrated, "SELECT array_agg(p::text ORDER BY p::text) FROM part p") == then
    assert attempt(settings).error is None
    assert query(migrated, "SELECT * FROM theirs") == len(then)


@pytest.mark.variant
def test_children_of_ours_keep_their_rows(migrated, settings_for):
    """What somebody made a child of ours, or a child of that, is let go with its rows and what hangs on it."""
    execute(
        migrated,
        A_WEEK,
        "CREATE TABLE child () INHERITS (user_credits)",
        "CREATE TABLE grandchild () INHERITS (child)",
        "INSERT INTO grandchild (user_id) SELECT id FROM users LIMIT 3",
        "CREATE VIEW theirs AS SELECT count(*) FROM child",
    )
    settings, then = settings_for(migrated), ours(migrated)
    tried(migrated, settings)
    assert attempt(settings).error is None
    assert query(migrated, "SELECT * FROM theirs") == query(migrated, "SELECT count(*) FROM grandchild") == 3
    now = ours(migrated)
    assert {one for one in now if now[one] != then[one]} == {"user_credits"}, "which read its children's rows too"
