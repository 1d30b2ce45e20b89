"""Give an empty database the legacy core: tenants, users, roles, cases and what belongs to them.

Locks: none on anything that exists. A production database has all of this; there it is recorded as pre-existing, and
nothing here runs, neither up nor down.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ENUM, JSONB

revision = "cff7cdcfa179"
down_revision = None
branch_labels = ("baseline",)
depends_on = None

family = "baseline"
atomic = True
reversible = True
locks = {}

TIME = sa.DateTime(timezone=True)
NOW = sa.text("now()")

ENUMS = {
    "tenantmode": ["SAAS", "ON_PREMISE"],
    "tenantstatus": ["TRIAL", "ACTIVE", "SUSPENDED", "EXPIRED"],
    "userstatus": ["PENDING", "ACTIVE", "INACTIVE", "BANNED"],
    "verificationstatus": ["UNVERIFIED", "PENDING", "VERIFIED", "FAILED"],
    "casestatus": ["PENDING", "ASSIGNED", "IN_PROGRESS", "COMPLETED", "CLOSED", "EXPIRED"],
    "legalstatus": ["VALID", "EXPIRING_SOON", "EXPIRED"],
    "insurancestatus": ["PENDING", "ACTIVE", "CLAIMED", "EXPIRED"],
    "transactiontype": ["PAYMENT", "REFUND", "PAYOUT"],
    "transactionstatus": ["PENDING", "COMPLETED", "FAILED"],
    "commissionstatus": ["PENDING", "PAID", "FAILED"],
}
INDEXES = (
    ("ix_tenants_tenant_code", "tenants", ["tenant_code"], {"unique": True}),
    ("ix_users_email", "users", ["email"], {"unique": True}),
    ("ix_users_phone_number", "users", ["phone_number"], {"unique": True}),
    ("ix_users_username", "users", ["username"], {"unique": True}),
    ("ix_profiles_id_card_number", "profiles", ["id_card_number"], {}),
    ("ix_cases_case_number", "cases", ["case_number"], {"unique": True}),
)
TABLES = (
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
)


def upgrade() -> None:
    op.ensure_random_uuid()
    for name, labels in ENUMS.items():
        op.create_enum(name, labels)
    _create_tenants()
    _create_roles()
    _create_system_configs()
    _create_users()
    _create_profiles()
    _create_user_roles()
    _create_clients()
    _create_cases()
    _create_wallets()
    _create_case_logs()
    _create_insurances()
    _create_transactions()
    _create_commission_splits()
    for name, table, columns, options in INDEXES:
        op.create_index(op.f(name), table, columns, **options)


def _create_tenants() -> None:
    op.create_table(
        "tenants",
        sa.Column("id", sa.Uuid, nullable=False),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("tenant_code", sa.String(50), nullable=False),
        sa.Column("mode", ENUM(name="tenantmode", create_type=False), nullable=False),
        sa.Column("status", ENUM(name="tenantstatus", create_type=False), nullable=False),
        sa.Column("domain", sa.String(255)),
        sa.Column("feature_flags", JSONB),
        sa.Column("system_config", JSONB),
        sa.Column("api_limits", JSONB),
        sa.Column("billing_info", JSONB),
        sa.Column("subscription_plan", sa.String(50)),
        sa.Column("max_users", sa.Uuid),
        sa.Column("max_cases", sa.Uuid),
        sa.Column("created_at", TIME, server_default=NOW, nullable=False),
        sa.Column("updated_at", TIME, server_default=NOW, nullable=False),
        sa.Column("trial_expires_at", TIME),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tenants")),
        sa.UniqueConstraint("domain", name=op.f("uq_tenants_domain")),
    )


def _create_roles() -> None:
    op.create_table(
        "roles",
        sa.Column("id", sa.Uuid, nullable=False),
        sa.Column("tenant_id", sa.Uuid),
        sa.Column("name", sa.String(50), nullable=False),
        sa.Column("description", sa.Text),
        sa.Column("permissions", JSONB),
        sa.Column("created_at", TIME, server_default=NOW, nullable=False),
        sa.Column("updated_at", TIME, server_default=NOW, nullable=False),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("fk_roles_tenant_id_tenants")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_roles")),
    )


def _create_system_configs() -> None:
    op.create_table(
        "system_configs",
        sa.Column("id", sa.Uuid, nullable=False),
        sa.Column("tenant_id", sa.Uuid),
        sa.Column("category", sa.String(50), nullable=False),
        sa.Column("key", sa.String(255), nullable=False),
        sa.Column("value", JSONB, nullable=False),
        sa.Column("description", sa.Text),
        sa.Column("is_active", sa.Boolean, nullable=False),
        sa.Column("is_editable", sa.Boolean, nullable=False),
        sa.Column("min_value", sa.String(50)),
        sa.Column("max_value", sa.String(50)),
        sa.Column("created_at", TIME, server_default=NOW, nullable=False),
        sa.Column("updated_at", TIME, server_default=NOW, nullable=False),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("fk_system_configs_tenant_id_tenants")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_system_configs")),
    )


def _create_users() -> None:
    op.create_table(
        "users",
        sa.Column("id", sa.Uuid, nullable=False),
        sa.Column("tenant_id", sa.Uuid, nullable=False),
        sa.Column("username", sa.String(255), nullable=False),
        sa.Column("password_hash", sa.String(255), nullable=False),
        sa.Column("email", sa.String(255)),
        sa.Column("phone_number", sa.String(20)),
        sa.Column("status", ENUM(name="userstatus", create_type=False), nullable=False),
        sa.Column("created_at", TIME, server_default=NOW, nullable=False),
        sa.Column("updated_at", TIME, server_default=NOW, nullable=False),
        sa.Column("last_login", TIME),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("fk_users_tenant_id_tenants")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_users")),
    )


def _create_profiles() -> None:
    op.create_table(
        "profiles",
        sa.Column("user_id", sa.Uuid, nullable=False),
        sa.Column("full_name", sa.String(255)),
        sa.Column("id_card_number", sa.String(18)),
        sa.Column("qualification_details", JSONB),
        sa.Column("did", sa.String(255)),
        sa.Column("verification_status", ENUM(name="verificationstatus", create_type=False), nullable=False),
        sa.Column("avatar_url", sa.String(500)),
        sa.Column("bio", sa.Text),
        sa.Column("created_at", TIME, server_default=NOW, nullable=False),
        sa.Column("updated_at", TIME, server_default=NOW, nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_profiles_user_id_users")),
        sa.PrimaryKeyConstraint("user_id", name=op.f("pk_profiles")),
        sa.UniqueConstraint("did", name=op.f("uq_profiles_did")),
    )


def _create_user_roles() -> None:
    op.create_table(
        "user_roles",
        sa.Column("user_id", sa.Uuid, nullable=False),
        sa.Column("role_id", sa.Uuid, nullable=False),
        sa.Column("assigned_at", TIME, server_default=NOW, nullable=False),
        sa.ForeignKeyConstraint(["role_id"], ["roles.id"], name=op.f("fk_user_roles_role_id_roles")),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_user_roles_user_id_users")),
        sa.PrimaryKeyConstraint("user_id", "role_id", name=op.f("pk_user_roles")),
    )


def _create_clients() -> None:
    op.create_table(
        "clients",
        sa.Column("id", sa.Uuid, nullable=False),
        sa.Column("tenant_id", sa.Uuid, nullable=False),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("client_type", sa.String(50)),
        sa.Column("business_license", sa.String(100)),
        sa.Column("contact_person", sa.String(100)),
        sa.Column("contact_phone", sa.String(20)),
        sa.Column("contact_email", sa.String(255)),
        sa.Column("address", sa.Text),
        sa.Column("sales_owner_id", sa.Uuid, nullable=False),
        sa.Column("cooperation_level", sa.String(20)),
        sa.Column("credit_rating", sa.String(10)),
        sa.Column("total_cases", sa.Integer),
        sa.Column("total_amount", sa.Numeric(18, 2)),
        sa.Column("success_rate", sa.Numeric(5, 4)),
        sa.Column("created_at", TIME, server_default=NOW, nullable=False),
        sa.Column("updated_at", TIME, server_default=NOW, nullable=False),
        sa.ForeignKeyConstraint(["sales_owner_id"], ["users.id"], name=op.f("fk_clients_sales_owner_id_users")),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("fk_clients_tenant_id_tenants")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_clients")),
    )


def _create_cases() -> None:
    op.create_table(
        "cases",
        sa.Column("id", sa.Uuid, nullable=False),
        sa.Column("tenant_id", sa.Uuid, nullable=False),
        sa.Column("client_id", sa.Uuid, nullable=False),
        sa.Column("case_number", sa.String(100), nullable=False),
        sa.Column("debtor_info", JSONB, nullable=False),
        sa.Column("case_amount", sa.Numeric(18, 2), nullable=False),
        sa.Column("status", ENUM(name="casestatus", create_type=False), nullable=False),
        sa.Column("assigned_to_user_id", sa.Uuid),
        sa.Column("sales_user_id", sa.Uuid, nullable=False),
        sa.Column("ai_risk_score", sa.Integer),
        sa.Column("data_quality_score", sa.Integer),
        sa.Column("data_freshness_score", sa.Integer),
        sa.Column("debt_creation_date", sa.Date, nullable=False),
        sa.Column("last_follow_up_date", sa.Date),
        sa.Column("legal_status", ENUM(name="legalstatus", create_type=False), nullable=False),
        sa.Column("limitation_expires_at", sa.Date),
        sa.Column("description", sa.Text),
        sa.Column("notes", sa.Text),
        sa.Column("tags", JSONB),
        sa.Column("created_at", TIME, server_default=NOW, nullable=False),
        sa.Column("updated_at", TIME, server_default=NOW, nullable=False),
        sa.Column("completed_at", TIME),
        sa.ForeignKeyConstraint(["assigned_to_user_id"], ["users.id"], name=op.f("fk_cases_assigned_to_user_id_users")),
        sa.ForeignKeyConstraint(["client_id"], ["clients.id"], name=op.f("fk_cases_client_id_clients")),
        sa.ForeignKeyConstraint(["sales_user_id"], ["users.id"], name=op.f("fk_cases_sales_user_id_users")),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("fk_cases_tenant_id_tenants")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_cases")),
    )


def _create_wallets() -> None:
    op.create_table(
        "wallets",
        sa.Column("user_id", sa.Uuid, nullable=False),
        sa.Column("balance", sa.Numeric(18, 2), nullable=False),
        sa.Column("withdrawable_balance", sa.Numeric(18, 2), nullable=False),
        sa.Column("frozen_balance", sa.Numeric(18, 2), nullable=False),
        sa.Column("total_earned", sa.Numeric(18, 2), nullable=False),
        sa.Column("total_withdrawn", sa.Numeric(18, 2), nullable=False),
        sa.Column("commission_count", sa.Numeric(10, 0), nullable=False),
        sa.Column("last_commission_at", TIME),
        sa.Column("created_at", TIME, server_default=NOW, nullable=False),
        sa.Column("updated_at", TIME, server_default=NOW, nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_wallets_user_id_users")),
        sa.PrimaryKeyConstraint("user_id", name=op.f("pk_wallets")),
    )


def _create_case_logs() -> None:
    op.create_table(
        "case_logs",
        sa.Column("id", sa.Uuid, nullable=False),
        sa.Column("case_id", sa.Uuid, nullable=False),
        sa.Column("user_id", sa.Uuid),
        sa.Column("action", sa.String(255), nullable=False),
        sa.Column("details", JSONB),
        sa.Column("old_values", JSONB),
        sa.Column("new_values", JSONB),
        sa.Column("ip_address", sa.String(45)),
        sa.Column("user_agent", sa.Text),
        sa.Column("created_at", TIME, server_default=NOW, nullable=False),
        sa.ForeignKeyConstraint(["case_id"], ["cases.id"], name=op.f("fk_case_logs_case_id_cases")),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_case_logs_user_id_users")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_case_logs")),
    )


def _create_insurances() -> None:
    op.create_table(
        "insurances",
        sa.Column("id", sa.Uuid, nullable=False),
        sa.Column("case_id", sa.Uuid, nullable=False),
        sa.Column("policy_number", sa.String(255), nullable=False),
        sa.Column("insurance_company", sa.String(255), nullable=False),
        sa.Column("premium_amount", sa.Numeric(18, 2), nullable=False),
        sa.Column("coverage_amount", sa.Numeric(18, 2), nullable=False),
        sa.Column("status", ENUM(name="insurancestatus", create_type=False), nullable=False),
        sa.Column("effective_date", sa.Date),
        sa.Column("expiry_date", sa.Date),
        sa.Column("claim_amount", sa.Numeric(18, 2)),
        sa.Column("claim_date", sa.Date),
        sa.Column("claim_details", JSONB),
        sa.Column("created_at", TIME, server_default=NOW, nullable=False),
        sa.Column("updated_at", TIME, server_default=NOW, nullable=False),
        sa.ForeignKeyConstraint(["case_id"], ["cases.id"], name=op.f("fk_insurances_case_id_cases")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_insurances")),
        sa.UniqueConstraint("case_id", name=op.f("uq_insurances_case_id")),
    )


def _create_transactions() -> None:
    op.create_table(
        "transactions",
        sa.Column("id", sa.Uuid, nullable=False),
        sa.Column("case_id", sa.Uuid, nullable=False),
        sa.Column("amount", sa.Numeric(18, 2), nullable=False),
        sa.Column("transaction_type", ENUM(name="transactiontype", create_type=False), nullable=False),
        sa.Column("status", ENUM(name="transactionstatus", create_type=False), nullable=False),
        sa.Column("payment_gateway", sa.String(50)),
        sa.Column("gateway_txn_id", sa.String(255)),
        sa.Column("gateway_response", JSONB),
        sa.Column("description", sa.String(500)),
        sa.Column("notes", sa.String(1000)),
        sa.Column("created_at", TIME, server_default=NOW, nullable=False),
        sa.Column("updated_at", TIME, server_default=NOW, nullable=False),
        sa.Column("completed_at", TIME),
        sa.ForeignKeyConstraint(["case_id"], ["cases.id"], name=op.f("fk_transactions_case_id_cases")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_transactions")),
        sa.UniqueConstraint("gateway_txn_id", name=op.f("uq_transactions_gateway_txn_id")),
    )


def _create_commission_splits() -> None:
    op.create_table(
        "commission_splits",
        sa.Column("id", sa.Uuid, nullable=False),
        sa.Column("transaction_id", sa.Uuid, nullable=False),
        sa.Column("user_id", sa.Uuid, nullable=False),
        sa.Column("role_at_split", sa.String(50), nullable=False),
        sa.Column("amount", sa.Numeric(18, 2), nullable=False),
        sa.Column("percentage", sa.Numeric(5, 4), nullable=False),
        sa.Column("status", ENUM(name="commissionstatus", create_type=False), nullable=False),
        sa.Column("payout_method", sa.String(50)),
        sa.Column("payout_account", sa.String(255)),
        sa.Column("payout_txn_id", sa.String(255)),
        sa.Column("created_at", TIME, server_default=NOW, nullable=False),
        sa.Column("paid_at", TIME),
        sa.ForeignKeyConstraint(
            ["transaction_id"], ["transactions.id"], name=op.f("fk_commission_splits_transaction_id_transactions")
        ),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_commission_splits_user_id_users")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_commission_splits")),
    )


def downgrade() -> None:
    for name, table, *_ in reversed(INDEXES):
        op.drop_index(op.f(name), table_name=table)
    for table in reversed(TABLES):
        op.drop_table(table)
    for name in reversed(ENUMS):
        op.drop_enum(name)
    op.drop_random_uuid()
