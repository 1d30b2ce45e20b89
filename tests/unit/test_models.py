"""The models, held against the rules for the schema: names, keys, comments, indexes, types, defaults."""

from __future__ import annotations

import re
from collections import Counter

import pytest
from sqlalchemy import CheckConstraint, DateTime, Index, Table, UniqueConstraint, Uuid
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateIndex, CreateTable

from models import metadata
from models.base import one_of

LEGACY = {
    "tenants",
    "roles",
    "system_configs",
    "users",
    "profiles",
    "user_roles",
    "clients",
    "cases",
    "wallets",
    "case_logs",
    "insurances",
    "transactions",
    "commission_splits",
}
NEW = {
    "lawyer_certification_requests",
    "workspace_mappings",
    "demo_accounts",
    "lawyer_levels",
    "lawyer_level_details",
    "lawyer_point_transactions",
    "lawyer_online_sessions",
    "user_memberships",
    "lawyer_memberships",
    "case_invitations",
    "matching_history",
    "case_reviews",
    "ai_tool_usage",
    "batch_upload_tasks",
    "user_credits",
    "credit_purchase_records",
    "lawyer_case_declines",
    "lawyer_assignment_suspensions",
    "enterprise_clients",
    "enterprise_service_packages",
    "enterprise_subscriptions",
    "collection_success_stats",
    "feishu_auths",
    "user_accounts",
    "pagtive_projects",
    "pagtive_project_details",
    "pagtive_llm_logs",
    "pagtive_invitation_codes",
    "pagtive_user_map",
}
USERS_COLUMNS = {
    "workspace_id",
    "account_type",
    "email_verified",
    "registration_source",
    "role",
    "agreed_agreement_version",
    "avatar_url",
    "twitter_url",
}
"""The columns of ``users`` that are ours."""

LEGACY_INDEXES = {
    "ix_tenants_tenant_code",
    "ix_users_username",
    "ix_users_email",
    "ix_users_phone_number",
    "ix_profiles_id_card_number",
    "ix_cases_case_number",
}
CHINESE = re.compile(r"[\u4e00-\u9fff]")

each_table = pytest.mark.parametrize("table", metadata.sorted_tables, ids=lambda table: table.name)
each_new_table = pytest.mark.parametrize(
    "table", [table for table in metadata.sorted_tables if table.name in NEW], ids=lambda table: table.name
)


def ddl(item: object) -> str:
    """Return the statement that makes a table or an index, on one line."""
    create = CreateIndex(item) if isinstance(item, Index) else CreateTable(item)
    return " ".join(str(create.compile(dialect=postgresql.dialect())).split())


def is_ours(table: Table, column: str) -> bool:
    """Tell whether a column came with our revisions."""
    return table.name in NEW or (table.name == "users" and column in USERS_COLUMNS)


def test_tables_are_all_there_and_no_others() -> None:
    """13 legacy tables, 22 of Lawsker, 2 of sign-in, 5 of Pagtive."""
    assert set(metadata.tables) == LEGACY | NEW
    assert (len(LEGACY), len(NEW)) == (13, 22 + 2 + 5)


def test_names_fit_into_63_bytes_and_are_unique() -> None:
    """PostgreSQL cuts longer names silently; index names share one namespace with tables."""
    relations = list(metadata.tables)
    for table in metadata.tables.values():
        relations += [item.name for item in table.indexes]
        relations += [item.name for item in table.constraints if isinstance(item, UniqueConstraint)]
        relations.append(table.primary_key.name)
        names = [*(c.name for c in table.constraints), *(i.name for i in table.indexes), *table.columns.keys()]
        assert [name for name in names if len(name.encode()) > 63] == []
        constraints = [str(item.name) for item in table.constraints]
        assert len(constraints) == len(set(constraints))
    assert [name for name, count in Counter(relations).items() if count > 1] == []


@each_table
def test_names_follow_the_convention(table: Table) -> None:
    """pk_, fk_, uq_, ix_ and ck_, then the table; one foreign key is too long for its columns and target."""
    prefixes = {
        "PrimaryKeyConstraint": "pk",
        "ForeignKeyConstraint": "fk",
        "UniqueConstraint": "uq",
        "CheckConstraint": "ck",
    }
    for item in table.constraints:
        assert item.name.startswith(f"{prefixes[type(item).__name__]}_{table.name}")
        if type(item).__name__ == "ForeignKeyConstraint" and item.name != "fk_enterprise_subscriptions_package_id":
            assert item.name == f"fk_{table.name}_{'_'.join(item.column_keys)}_{item.referred_table.name}"
    for index in table.indexes:
        assert index.name.startswith(f"ix_{table.name}_")


@each_table
def test_comments_are_chinese_on_what_is_ours_and_nowhere_else(table: Table) -> None:
    """The legacy core stays as it is, its comments too."""
    if table.name in NEW:
        assert CHINESE.search(table.comment or ""), "the table has no Chinese comment"
    else:
        assert table.comment is None
    for column in table.columns:
        if is_ours(table, column.name):
            assert CHINESE.search(column.comment or ""), f"{column.name} has no Chinese comment"
        else:
            assert column.comment is None, f"{column.name} is legacy"


@each_new_table
def test_every_foreign_key_column_leads_an_index(table: Table) -> None:
    """Deleting a user must not read whole tables; a partial index does not count."""
    leading = {next(iter(table.primary_key.columns)).name}
    leading |= {next(iter(c.columns)).name for c in table.constraints if isinstance(c, UniqueConstraint)}
    leading |= {
        index.expressions[0].name
        for index in table.indexes
        if index.dialect_options["postgresql"]["where"] is None and hasattr(index.expressions[0], "name")
    }
    assert {key.parent.name for key in table.foreign_keys} <= leading


@each_new_table
def test_foreign_keys_say_what_happens_on_delete(table: Table) -> None:
    """CASCADE where the column is required, SET NULL where it is not; two are kept from going."""
    kept = {("enterprise_subscriptions", "package_id"): "RESTRICT", ("lawyer_level_details", "current_level"): None}
    optional_but_owned = {("pagtive_llm_logs", "user_id")}
    for key in table.foreign_keys:
        place = (table.name, key.parent.name)
        if place in kept:
            assert key.ondelete == kept[place]
        elif key.parent.nullable and place not in optional_but_owned:
            assert key.ondelete == "SET NULL"
        else:
            assert key.ondelete == "CASCADE"


def test_legacy_indexes_are_those_that_production_has() -> None:
    """No index of ours on a legacy table, but on our columns of ``users``."""
    found = {index.name for table in metadata.tables.values() if table.name in LEGACY for index in table.indexes}
    assert found == LEGACY_INDEXES | {"ix_users_account_type", "ix_users_email_verified"}


@each_table
def test_legacy_keys_come_from_the_application_ours_from_the_database(table: Table) -> None:
    """A uuid key of a new table has a default unless it is another table's; none of the legacy core has."""
    for column in table.primary_key.columns:
        generated = table.name in NEW and isinstance(column.type, Uuid) and not column.foreign_keys
        assert (column.server_default is not None) == (generated or column.identity is not None)


@each_table
def test_every_timestamp_has_a_time_zone(table: Table) -> None:
    """``timestamptz`` everywhere."""
    naive = [c.name for c in table.columns if isinstance(c.type, DateTime) and not c.type.timezone]
    assert naive == []


@each_table
def test_row_times_default_to_now(table: Table) -> None:
    """created_at and updated_at are required and set by the database."""
    for name in {"created_at", "updated_at"} & set(table.columns.keys()):
        column = table.columns[name]
        assert not column.nullable
        assert str(column.server_default.arg) == "now()"


@pytest.mark.parametrize(
    ("table", "fragments"),
    [
        ("users", ["workspace_id VARCHAR(50) DEFAULT ('ws-'::text ||", "role VARCHAR(20) DEFAULT 'user' NOT NULL"]),
        ("users", ["registration_source VARCHAR(20) DEFAULT 'web' NOT NULL", "email VARCHAR(255),"]),
        ("tenants", ["max_users UUID,", "mode tenantmode NOT NULL", "UNIQUE (domain)"]),
        ("wallets", ["commission_count NUMERIC(10, 0) NOT NULL", "balance NUMERIC(18, 2) NOT NULL"]),
        ("lawyer_levels", ["id SERIAL NOT NULL", "CHECK (level BETWEEN 1 AND 10)", "NUMERIC(3, 2) DEFAULT 1.0"]),
        ("lawyer_level_details", ["level_points BIGINT DEFAULT 0", "current_level INTEGER DEFAULT 1 NOT NULL"]),
        ("lawyer_point_transactions", ["metadata JSONB DEFAULT '{}'::jsonb NOT NULL", "points_before + points_change"]),
        ("user_credits", ["last_reset_date DATE DEFAULT CURRENT_DATE NOT NULL", "CHECK (credits_remaining >= 0)"]),
        ("lawyer_case_declines", ["priority_impact NUMERIC(3, 2) DEFAULT -0.1 NOT NULL"]),
        ("batch_upload_tasks", ["commission_rate NUMERIC(5, 4) DEFAULT 0.02 NOT NULL"]),
        ("enterprise_subscriptions", ["REFERENCES enterprise_service_packages (id) ON DELETE RESTRICT"]),
        ("user_accounts", ["UNIQUE (provider, provider_account_id)", "UNIQUE (user_id, provider)"]),
        ("pagtive_project_details", ["id BIGINT GENERATED BY DEFAULT AS IDENTITY", "UNIQUE (project_id, page_id)"]),
        ("pagtive_llm_logs", ["request_prompts JSONB NOT NULL", "user_id UUID,"]),
    ],
)  # fmt: skip
def test_what_is_unusual_is_as_written(table: str, fragments: list[str]) -> None:
    """Definitions that a slip of the pen would change."""
    statement = ddl(metadata.tables[table])
    for fragment in fragments:
        assert fragment in statement


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ("lawyer_level_details", "(upgrade_eligible) WHERE upgrade_eligible"),
        ("lawyer_assignment_suspensions", "(is_active) WHERE is_active"),
        ("user_accounts", "CREATE UNIQUE INDEX ix_user_accounts_user_id ON user_accounts (user_id) WHERE is_primary"),
        ("pagtive_projects", "(user_id, created_at DESC)"),
        ("pagtive_projects", "(is_featured) WHERE is_featured"),
        ("pagtive_llm_logs", "(request_timestamp DESC)"),
        ("pagtive_llm_logs", "(provider, model)"),
        ("lawyer_point_transactions", "(lawyer_id, created_at)"),
        ("collection_success_stats", "(period_start, period_end)"),
    ],
)
def test_indexes_of_a_kind_of_their_own(table: str, expected: str) -> None:
    """Partial, descending and combined indexes are as written."""
    assert [index.name for index in metadata.tables[table].indexes if expected in ddl(index)] != []


def test_one_of_allows_only_the_values_named() -> None:
    """The CHECK is named after its column."""
    table = metadata.tables["pagtive_invitation_codes"]
    checks = {c.name: str(c.sqltext) for c in table.constraints if isinstance(c, CheckConstraint)}
    assert checks == {"ck_pagtive_invitation_codes_status": "status IN ('available', 'used', 'expired')"}
    assert str(one_of("kind", "a", "b").sqltext) == "kind IN ('a', 'b')"
