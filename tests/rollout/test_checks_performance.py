"""Checks of performance: each finds its damage; every top query uses an index, of its own accord in big tables."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from rollout import plan, verify
from rollout.checks import performance
from rollout.checks.performance import _plan_of, _reads_whole_table
from rollout.checks.queries import TOP_QUERIES
from rollout.checks.registry import CHECKS, Area
from rollout.findings import WARNING
from tests.fixtures.databases import execute
from tests.fixtures.legacy import until
from tests.fixtures.tiers import tried_once
from tests.fixtures.upgraded import connected
from tests.rollout.damages import Damage, findings

if TYPE_CHECKING:
    from rollout.checks.registry import Subject
    from rollout.manifest import Manifest
    from rollout.settings import Server
    from tests.fixtures.databases import MakeDatabase


def _invalid(index: str) -> str:
    """Return SQL that leaves an index as an interrupted CREATE INDEX CONCURRENTLY does."""
    return f"UPDATE pg_index SET indisvalid = false WHERE indexrelid = '{index}'::regclass;"


FILL = (
    """INSERT INTO lawyer_online_sessions (lawyer_id, session_start)
       SELECT lawyer_id, now() FROM lawyer_level_details, generate_series(1, 100)""",
    "REINDEX TABLE lawyer_online_sessions",
)
"""Over 1,000 rows, and a count of them that the server has at once."""

DAMAGES = [
    Damage("indexes_are_valid", _invalid("ix_case_invitations_status"), "ix_case_invitations_status"),
    Damage("indexes_are_valid", _invalid("uq_workspace_mappings_workspace_id"), "uq_workspace_mappings_workspace_id"),
    Damage("indexes_are_valid", _invalid("ix_users_account_type"), "ix_users_account_type"),
    Damage(
        "indexes_are_valid",
        "UPDATE pg_index SET indisready = false WHERE indexrelid = 'ix_user_credits_last_reset_date'::regclass",
        "ix_user_credits_last_reset_date",
    ),
    Damage(
        "indexes_are_valid",
        "CREATE INDEX left_behind ON case_reviews (created_at);" + _invalid("left_behind"),
        "left_behind",
        WARNING,
    ),
    Damage("no_index_is_there_twice", "CREATE INDEX twice ON case_reviews (lawyer_id)", "twice", WARNING),
    Damage("no_index_is_there_twice", "CREATE INDEX twice ON users (workspace_id)", "twice", WARNING),
    Damage("no_index_is_there_twice", "CREATE UNIQUE INDEX twice ON users (workspace_id)", "twice", WARNING),
    Damage(
        "no_index_is_there_twice",
        "CREATE INDEX twice ON lawyer_level_details (upgrade_eligible) WHERE upgrade_eligible",
        "twice",
        WARNING,
    ),
    Damage(
        "foreign_keys_have_an_index",
        "DROP INDEX ix_user_memberships_user_id",
        "user_memberships.fk_user_memberships_user_id_users",
    ),
    Damage(
        "foreign_keys_have_an_index",
        "DROP INDEX ix_case_reviews_reviewer_id; CREATE INDEX other_order ON case_reviews (created_at, reviewer_id)",
        "case_reviews.fk_case_reviews_reviewer_id_users",
    ),
    Damage(
        "foreign_keys_have_an_index",
        "DROP INDEX ix_case_reviews_reviewer_id;"
        "CREATE INDEX some_rows ON case_reviews (reviewer_id) WHERE reviewer_id IS NOT NULL AND is_anonymous",
        "case_reviews.fk_case_reviews_reviewer_id_users",
    ),
    Damage(
        "foreign_keys_have_an_index",
        "DROP INDEX ix_case_reviews_reviewer_id; CREATE INDEX brin ON case_reviews USING brin (reviewer_id)",
        "case_reviews.fk_case_reviews_reviewer_id_users",
    ),
    Damage(
        "foreign_keys_have_an_index",
        _invalid("ix_pagtive_user_map_user_id"),
        "pagtive_user_map.fk_pagtive_user_map_user_id_users",
    ),
    Damage("top_queries_use_an_index", "DROP INDEX ix_users_email", "users.email", WARNING),
    Damage(
        "top_queries_use_an_index",
        "ALTER TABLE users DROP CONSTRAINT uq_users_workspace_id",
        "users.workspace_id",
        WARNING,
    ),
    # The other index on these columns holds all its condition needs, but would be read whole.
    Damage(
        "top_queries_use_an_index",
        "ALTER TABLE user_accounts DROP CONSTRAINT uq_user_accounts_provider_provider_account_id",
        "user_accounts.provider",
        WARNING,
    ),
    Damage(
        "top_queries_use_an_index",
        _invalid("uq_user_accounts_provider_provider_account_id"),
        "user_accounts.provider",
        WARNING,
    ),
    # This one leads with the column, but holds only some rows.
    Damage(
        "top_queries_use_an_index",
        "DROP INDEX ix_case_reviews_lawyer_id; CREATE INDEX a ON case_reviews (lawyer_id) WHERE is_anonymous",
        "case_reviews.lawyer_id",
        WARNING,
    ),
    Damage(
        "top_queries_use_an_index",
        "ALTER TABLE pagtive_project_details DROP CONSTRAINT uq_pagtive_project_details_project_id_page_id",
        "pagtive_project_details.project_id",
        WARNING,
    ),
    Damage(
        "top_queries_use_an_index",
        "DROP INDEX ix_user_credits_last_reset_date",
        "user_credits.last_reset_date",
        WARNING,
    ),
    Damage(
        "top_queries_use_an_index",
        "DROP INDEX ix_lawyer_level_details_upgrade_eligible",
        "lawyer_level_details.upgrade_eligible",
        WARNING,
    ),
]


@pytest.mark.parametrize("damage", tried_once(DAMAGES, keep=10), ids=str)
def test_a_damage_is_found(damage: Damage, subject: Subject) -> None:
    """Each check is silent on the upgraded database, and finds its damage, alone, with what to type."""
    assert findings(subject, damage.check) == []
    subject.connection.exec_driver_sql(damage.sql)
    found = findings(subject, damage.check)
    assert [(one.subject, one.severity) for one in found] == [(damage.subject, damage.severity)]
    assert found[0].problem
    assert found[0].hint


def test_every_check_has_a_damage() -> None:
    """No check of performance is without a test that makes it fire (the one of statistics has its own, below)."""
    checks = {name for name, check in CHECKS.items() if check.area is Area.PERFORMANCE}
    assert checks == {damage.check for damage in DAMAGES} | {"big_tables_have_statistics"}


@pytest.mark.parametrize(
    ("check", "sql"),
    [
        # Others may have on a legacy table what they want.
        ("no_index_is_there_twice", "CREATE INDEX a ON users (last_login); CREATE INDEX b ON users (last_login)"),
        ("indexes_are_valid", "CREATE INDEX a ON users (last_login); " + _invalid("a")),
        ("no_index_is_there_twice", "CREATE INDEX a ON case_reviews (lawyer_id DESC)"),
        ("no_index_is_there_twice", "CREATE INDEX a ON case_reviews USING hash (lawyer_id)"),
        ("no_index_is_there_twice", "CREATE INDEX a ON case_reviews (lawyer_id) WHERE is_anonymous"),
        ("no_index_is_there_twice", "CREATE INDEX a ON case_reviews (lawyer_id) INCLUDE (overall_rating)"),
        ("no_index_is_there_twice", "CREATE INDEX a ON pagtive_invitation_codes (status varchar_pattern_ops)"),
        ("no_index_is_there_twice", "CREATE UNIQUE INDEX a ON pagtive_user_map (user_id)"),
        ("no_index_is_there_twice", "CREATE INDEX a ON user_accounts (lower(provider))"),
        (
            "foreign_keys_have_an_index",
            """DROP INDEX ix_pagtive_invitation_codes_used_by_user_id;
               CREATE INDEX a ON pagtive_invitation_codes (used_by_user_id) WHERE used_by_user_id IS NOT NULL""",
        ),
        (
            "foreign_keys_have_an_index",
            "DROP INDEX ix_case_reviews_reviewer_id; CREATE INDEX a ON case_reviews (reviewer_id, created_at)",
        ),
    ],
)
def test_what_is_right_is_no_finding(check: str, sql: str, subject: Subject) -> None:
    """Indexes that do something else, and those of others on legacy tables, are no findings."""
    subject.connection.exec_driver_sql(sql)
    assert findings(subject, check) == []


def test_an_index_that_serves_only_later_is_no_finding_inside_the_upgrade(subject: Subject) -> None:
    """Inside the upgrade, an index over rows that it updated itself serves later transactions only."""
    subject.connection.exec_driver_sql("DROP INDEX ix_users_email")
    assert findings(replace(subject, in_upgrade=True), "top_queries_use_an_index") == []


def test_a_big_table_without_statistics_is_found(upgraded: Server, make_database: MakeDatabase) -> None:
    """A table of over 1,000 rows that was never analyzed is a warning, but inside the upgrade; ANALYZE mends it."""
    database = make_database(upgraded)
    by_hand = "ALTER TABLE lawyer_online_sessions SET (autovacuum_enabled = off)"  # else it may have come before us
    execute(database, by_hand, *FILL)  # a database of its own: what REINDEX counts stays after ROLLBACK
    with connected(database) as connection:
        subject = verify.subject_at(connection, plan.history()[-1].id)
        (found,) = findings(subject, "big_tables_have_statistics")
        assert (found.subject, found.severity) == ("lawyer_online_sessions", WARNING)
        assert findings(replace(subject, in_upgrade=True), "big_tables_have_statistics") == []
        connection.exec_driver_sql(found.hint)
        assert findings(subject, "big_tables_have_statistics") == []


def test_old_statistics_are_found(
    upgraded: Server, make_database: MakeDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A table of which many rows changed since ANALYZE is a warning; ANALYZE mends it."""
    monkeypatch.setattr(performance, "MANY", 50)
    database = make_database(upgraded)
    execute(database, "ANALYZE user_credits", "UPDATE user_credits SET credits_weekly = 1 - credits_weekly")
    with connected(database) as connection:
        subject = verify.subject_at(connection, plan.history()[-1].id)
        until(database, "SELECT pg_stat_get_mod_since_analyze('user_credits'::regclass) > 50")
        (found,) = findings(subject, "big_tables_have_statistics")
        assert (found.subject, found.severity) == ("user_credits", WARNING)
    execute(database, found.hint)
    until(database, "SELECT pg_stat_get_mod_since_analyze('user_credits'::regclass) = 0")  # told late up to 14
    with connected(database) as connection:
        subject = verify.subject_at(connection, plan.history()[-1].id)
        assert findings(subject, "big_tables_have_statistics") == []


@pytest.mark.parametrize(
    ("sql", "shorter"),
    [
        ("CREATE INDEX a ON case_invitations (case_id)", True),
        ("CREATE INDEX a ON lawyer_point_transactions (lawyer_id)", True),
        ("CREATE INDEX a ON pagtive_projects (user_id)", True),
        ("CREATE INDEX a ON lawyer_point_transactions (created_at, lawyer_id)", False),
        ("CREATE INDEX a ON case_invitations (case_id DESC)", False),
        ("CREATE INDEX a ON case_invitations (case_id) WHERE status = 'pending'", False),
        ("CREATE UNIQUE INDEX a ON pagtive_projects (user_id)", False),
        ("CREATE INDEX a ON case_invitations USING hash (case_id)", False),
    ],
)
def test_what_a_longer_index_begins_with(sql: str, subject: Subject, *, shorter: bool) -> None:
    """An index that only does what a longer one of ours begins with is a warning."""
    subject.connection.exec_driver_sql(sql)
    assert [one.subject for one in findings(subject, "no_index_is_there_twice")] == (["a"] if shorter else [])


def test_none_of_our_indexes_is_for_nothing(subject: Subject) -> None:
    """By design, no index of ours begins another one of ours."""
    indexes = performance._indexes(subject, performance._tables(subject))
    ours = performance._our_indexes(subject)
    begun = [(a.name, b.name) for a in indexes for b in indexes if a.name in ours and performance._begins(a, b)]
    assert begun == []


def test_looking_at_plans_leaves_the_planner_as_it_was(subject: Subject) -> None:
    """The settings that the check makes end with it."""
    findings(subject, "top_queries_use_an_index")
    assert subject.connection.exec_driver_sql("SHOW enable_seqscan").scalar_one() == "on"


def test_a_missing_column_is_left_to_the_structure(subject: Subject) -> None:
    """A query whose column is gone is not asked."""
    subject.connection.exec_driver_sql("ALTER TABLE pagtive_invitation_codes DROP COLUMN code")
    assert findings(subject, "top_queries_use_an_index") == []


def test_top_queries_are_about_our_schema(subject: Subject) -> None:
    """Every query of the list is asked at head; no two are the same; each stands as it is written."""
    assert [key for query in TOP_QUERIES for key in query.needs if key not in subject.manifest] == []
    assert (
        len({query.sql for query in TOP_QUERIES}) == len({query.purpose for query in TOP_QUERIES}) == len(TOP_QUERIES)
    )


GROW = """\
SET LOCAL session_replication_role = replica;
INSERT INTO users (id, tenant_id, username, password_hash, email, phone_number, status)
SELECT gen_random_uuid(), (SELECT min(id::text)::uuid FROM tenants), 'u ' || n, '!', n || '@grown.example', '13' || n,
       'ACTIVE'
FROM generate_series(1, :rows) AS n;
CREATE TEMP TABLE people ON COMMIT DROP AS SELECT id, row_number() OVER () AS n FROM users;
INSERT INTO workspace_mappings (user_id, workspace_id, workspace_type)
SELECT id, workspace_id, 'user' FROM users ON CONFLICT DO NOTHING;
INSERT INTO lawyer_level_details (lawyer_id, upgrade_eligible)
SELECT id, mod(n, 500) = 0 FROM people ON CONFLICT DO NOTHING;
INSERT INTO user_credits (user_id, last_reset_date)
SELECT id, current_date - mod(n, 3)::int FROM people ON CONFLICT DO NOTHING;
INSERT INTO lawyer_point_transactions
    (lawyer_id, transaction_type, points_change, points_before, points_after, created_at)
SELECT id, 'payment', 1, 0, 1, now() - n * interval '1 minute' FROM people;
INSERT INTO case_invitations (case_id, lawyer_id, status, expires_at)
SELECT gen_random_uuid(), id, CASE WHEN mod(n, 9) = 0 THEN 'pending' ELSE 'expired' END,
       now() + (n - 200) * interval '1 minute'
FROM people;
INSERT INTO enterprise_subscriptions (client_id, package_id, start_date, end_date, monthly_fee, cases_limit)
SELECT id, id, current_date, current_date, 1, 1 FROM people;
INSERT INTO user_accounts (user_id, type, provider, provider_account_id, is_primary)
SELECT id, 'email', 'email', n || '@grown.example', true FROM people ON CONFLICT DO NOTHING;
INSERT INTO pagtive_projects (user_id, project_name, created_at, is_featured)
SELECT id, '项目', now() - n * interval '1 minute', mod(n, 1000) = 0 FROM people;"""

GROWN = {
    "users", "workspace_mappings", "lawyer_level_details", "user_credits", "lawyer_point_transactions",
    "case_invitations", "enterprise_subscriptions", "user_accounts", "pagtive_projects",
}  # fmt: skip
"""Tables of which ``GROW`` makes rows that need care; those of the others are alike."""

_SPREAD = {
    "uuid": "gen_random_uuid()", "date": "current_date - mod(n, 3000)", "jsonb": "'{}'", "boolean": "mod(n, 99) = 0",
    "timestamp with time zone": "now() - n * interval '1 minute'", "text": "'x' || n",
}  # fmt: skip


def _grow(table: str, rows: int, manifest: Manifest) -> str:
    """Return an INSERT of many rows with values spread wide, which every constraint but foreign keys accepts."""
    wanted = {column for query in TOP_QUERIES if query.table == table for column in query.columns}
    checks = {one["columns"][0]: str(one["definition"]) for one in manifest.objects.values() if one.get("type") == "c"
              and one["table"] == table and len(one["columns"]) == 1}  # fmt: skip
    values = {}
    for key, definition in manifest.objects.items():
        column, kind = key.rpartition(".")[2], str(definition.get("type"))
        if not key.startswith(f"column {table}.") or "identity" in definition:
            continue
        if column in wanted or (definition.get("not_null") and "default" not in definition):
            values[column] = "'x' || n" if kind.startswith("character") else _SPREAD.get(kind, "1 + mod(n, 5)")
        labels = re.findall(r"'([^']*)'::character varying", checks.get(column, ""))
        if column in values and labels:
            values[column] = f"(ARRAY{labels})[1 + mod(n, {len(labels)})]"
    source = f"SELECT {', '.join(values.values())} FROM generate_series(1, {rows}) AS n"
    return f"INSERT INTO {table} ({', '.join(values)}) {source} ON CONFLICT DO NOTHING"


@pytest.mark.parametrize(
    "rows", [pytest.param(20_000, marks=pytest.mark.variant), pytest.param(100_000, marks=pytest.mark.exhaustive)]
)
def test_top_queries_use_an_index_of_grown_tables(rows: int, upgraded: Server, make_database: MakeDatabase) -> None:
    """The planner chooses an index of its own accord when every table that is asked has grown."""
    with connected(make_database(upgraded)) as connection:
        subject = verify.subject_at(connection, plan.history()[-1].id)
        alike = sorted({query.table for query in TOP_QUERIES} - GROWN)
        connection.exec_driver_sql(GROW.replace(":rows", str(rows)))
        for table in alike:
            connection.exec_driver_sql(_grow(table, rows, subject.manifest))
        connection.exec_driver_sql("ANALYZE")
        assert findings(subject, "top_queries_use_an_index") == []
        slow = [query.purpose for query in TOP_QUERIES if _reads_whole_table(_plan_of(subject, query))]
    assert slow == []
