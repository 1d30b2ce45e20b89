"""Serve enterprises: clients, packages, subscriptions, statistics of collection.

Locks: SHARE ROW EXCLUSIVE on users, which foreign keys of new, empty tables refer to: writers of users wait for the
moment that it takes, readers do not; there are no rows to check.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "d2bf78575166"
down_revision = "ad7cc2411b14"
branch_labels = None
depends_on = None

family = "enterprise"
atomic = True
reversible = True
locks = {"users": "SHARE ROW EXCLUSIVE"}

TIME = sa.DateTime(timezone=True)
NOW = sa.text("now()")
ZERO = sa.text("0")
FALSE = sa.text("false")
TRUE = sa.text("true")
NEW_UUID = sa.text("gen_random_uuid()")
LIST = sa.text("'[]'::jsonb")

INDEXES = (
    ("ix_enterprise_clients_assigned_account_manager", "enterprise_clients", ["assigned_account_manager"]),
    ("ix_enterprise_clients_company_type", "enterprise_clients", ["company_type"]),
    ("ix_enterprise_clients_status", "enterprise_clients", ["status"]),
    ("ix_enterprise_subscriptions_client_id", "enterprise_subscriptions", ["client_id"]),
    ("ix_enterprise_subscriptions_package_id", "enterprise_subscriptions", ["package_id"]),
    ("ix_enterprise_subscriptions_status", "enterprise_subscriptions", ["status"]),
    ("ix_collection_success_stats_client_id", "collection_success_stats", ["client_id"]),
    ("ix_collection_success_stats_period_start_period_end", "collection_success_stats", ["period_start", "period_end"]),
)
TOUCHED = ("enterprise_clients", "enterprise_service_packages", "enterprise_subscriptions", "collection_success_stats")
TOUCH = """\
CREATE TRIGGER update_{table}_updated_at BEFORE UPDATE ON {table} FOR EACH ROW
WHEN (NEW.updated_at IS NOT DISTINCT FROM OLD.updated_at) EXECUTE FUNCTION lawsker_touch_updated_at()"""


def upgrade() -> None:
    _create_enterprise_clients()
    _create_enterprise_service_packages()
    _create_enterprise_subscriptions()
    _create_collection_success_stats()
    for name, table, columns in INDEXES:
        op.create_index(op.f(name), table, columns)
    for table in TOUCHED:
        op.create_trigger(f"update_{table}_updated_at", table, TOUCH.format(table=table))


def _create_enterprise_clients() -> None:
    op.create_table(
        "enterprise_clients",
        sa.Column("id", sa.Uuid, server_default=NEW_UUID, nullable=False, comment="主键"),
        sa.Column("company_name", sa.String(255), nullable=False, comment="企业名称"),
        sa.Column(
            "company_type",
            sa.String(50),
            nullable=False,
            comment="企业类型：bank银行/lending_institution贷款机构/law_firm律所/other其他",
        ),
        sa.Column("contact_person", sa.String(100), nullable=False, comment="联系人"),
        sa.Column("contact_phone", sa.String(20), nullable=False, comment="联系电话"),
        sa.Column("contact_email", sa.String(255), nullable=False, comment="联系邮箱"),
        sa.Column("business_license", sa.String(100), comment="营业执照号"),
        sa.Column(
            "service_type",
            sa.String(50),
            nullable=False,
            comment="服务类型：debt_collection债务催收/legal_consulting法律咨询/compliance合规",
        ),
        sa.Column("contract_start_date", sa.Date, comment="合同开始日期"),
        sa.Column("contract_end_date", sa.Date, comment="合同结束日期"),
        sa.Column("monthly_fee", sa.Numeric(15, 2), server_default=ZERO, nullable=False, comment="月费（元）"),
        sa.Column(
            "case_volume_limit", sa.Integer, server_default=sa.text("1000"), nullable=False, comment="案件数量上限"
        ),
        sa.Column("priority_level", sa.Integer, server_default=sa.text("1"), nullable=False, comment="优先级（1至5）"),
        sa.Column("assigned_account_manager", sa.Uuid, comment="客户经理"),
        sa.Column(
            "status",
            sa.String(20),
            server_default="active",
            nullable=False,
            comment="状态：active启用/inactive停用/suspended暂停",
        ),
        sa.Column("created_at", TIME, server_default=NOW, nullable=False, comment="创建时间"),
        sa.Column("updated_at", TIME, server_default=NOW, nullable=False, comment="更新时间"),
        sa.CheckConstraint(
            "company_type IN ('bank', 'lending_institution', 'law_firm', 'other')",
            name=op.f("ck_enterprise_clients_company_type"),
        ),
        sa.CheckConstraint(
            "service_type IN ('debt_collection', 'legal_consulting', 'compliance')",
            name=op.f("ck_enterprise_clients_service_type"),
        ),
        sa.CheckConstraint("status IN ('active', 'inactive', 'suspended')", name=op.f("ck_enterprise_clients_status")),
        sa.CheckConstraint("priority_level BETWEEN 1 AND 5", name=op.f("ck_enterprise_clients_priority_level")),
        sa.ForeignKeyConstraint(
            ["assigned_account_manager"],
            ["users.id"],
            name=op.f("fk_enterprise_clients_assigned_account_manager_users"),
            ondelete="SET NULL",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_enterprise_clients")),
        comment="企业客户",
    )


def _create_enterprise_service_packages() -> None:
    op.create_table(
        "enterprise_service_packages",
        sa.Column("id", sa.Uuid, server_default=NEW_UUID, nullable=False, comment="主键"),
        sa.Column("package_name", sa.String(100), nullable=False, comment="套餐名称"),
        sa.Column(
            "package_type",
            sa.String(50),
            nullable=False,
            comment="套餐类型：basic基础/professional专业/enterprise旗舰/custom定制",
        ),
        sa.Column("monthly_fee", sa.Numeric(15, 2), nullable=False, comment="月费（元）"),
        sa.Column("case_volume_limit", sa.Integer, nullable=False, comment="案件数量上限"),
        sa.Column("features", JSONB, server_default=LIST, nullable=False, comment="功能列表"),
        sa.Column("ai_credits_included", sa.Integer, server_default=ZERO, nullable=False, comment="包含AI额度"),
        sa.Column("dedicated_support", sa.Boolean, server_default=FALSE, nullable=False, comment="是否专属支持"),
        sa.Column(
            "sla_response_time",
            sa.Integer,
            server_default=sa.text("24"),
            nullable=False,
            comment="服务响应时限（小时）",
        ),
        sa.Column("is_active", sa.Boolean, server_default=TRUE, nullable=False, comment="是否启用"),
        sa.Column("created_at", TIME, server_default=NOW, nullable=False, comment="创建时间"),
        sa.Column("updated_at", TIME, server_default=NOW, nullable=False, comment="更新时间"),
        sa.CheckConstraint(
            "package_type IN ('basic', 'professional', 'enterprise', 'custom')",
            name=op.f("ck_enterprise_service_packages_package_type"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_enterprise_service_packages")),
        sa.UniqueConstraint("package_type", name=op.f("uq_enterprise_service_packages_package_type")),
        comment="企业服务套餐",
    )


def _create_enterprise_subscriptions() -> None:
    op.create_table(
        "enterprise_subscriptions",
        sa.Column("id", sa.Uuid, server_default=NEW_UUID, nullable=False, comment="主键"),
        sa.Column("client_id", sa.Uuid, nullable=False, comment="企业客户"),
        sa.Column("package_id", sa.Uuid, nullable=False, comment="服务套餐"),
        sa.Column("start_date", sa.Date, nullable=False, comment="开始日期"),
        sa.Column("end_date", sa.Date, nullable=False, comment="结束日期"),
        sa.Column("monthly_fee", sa.Numeric(15, 2), nullable=False, comment="月费（元）"),
        sa.Column("cases_used", sa.Integer, server_default=ZERO, nullable=False, comment="已用案件数"),
        sa.Column("cases_limit", sa.Integer, nullable=False, comment="案件数量上限"),
        sa.Column("auto_renewal", sa.Boolean, server_default=TRUE, nullable=False, comment="是否自动续费"),
        sa.Column(
            "status",
            sa.String(20),
            server_default="active",
            nullable=False,
            comment="状态：active生效/expired已过期/cancelled已取消",
        ),
        sa.Column("created_at", TIME, server_default=NOW, nullable=False, comment="创建时间"),
        sa.Column("updated_at", TIME, server_default=NOW, nullable=False, comment="更新时间"),
        sa.CheckConstraint(
            "status IN ('active', 'expired', 'cancelled')", name=op.f("ck_enterprise_subscriptions_status")
        ),
        sa.CheckConstraint("end_date >= start_date", name=op.f("ck_enterprise_subscriptions_end_date")),
        sa.ForeignKeyConstraint(
            ["client_id"],
            ["enterprise_clients.id"],
            name=op.f("fk_enterprise_subscriptions_client_id_enterprise_clients"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["package_id"],
            ["enterprise_service_packages.id"],
            name="fk_enterprise_subscriptions_package_id",
            ondelete="RESTRICT",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_enterprise_subscriptions")),
        comment="企业订阅",
    )


def _create_collection_success_stats() -> None:
    op.create_table(
        "collection_success_stats",
        sa.Column("id", sa.Uuid, server_default=NEW_UUID, nullable=False, comment="主键"),
        sa.Column("client_id", sa.Uuid, comment="企业客户"),
        sa.Column("period_start", sa.Date, nullable=False, comment="统计开始日期"),
        sa.Column("period_end", sa.Date, nullable=False, comment="统计结束日期"),
        sa.Column("total_cases", sa.Integer, server_default=ZERO, nullable=False, comment="案件总数"),
        sa.Column("cases_with_response", sa.Integer, server_default=ZERO, nullable=False, comment="有回应案件数"),
        sa.Column("cases_with_payment", sa.Integer, server_default=ZERO, nullable=False, comment="有还款案件数"),
        sa.Column(
            "total_debt_amount", sa.Numeric(18, 2), server_default=ZERO, nullable=False, comment="债务总额（元）"
        ),
        sa.Column("recovered_amount", sa.Numeric(18, 2), server_default=ZERO, nullable=False, comment="回收金额（元）"),
        sa.Column("response_rate", sa.Numeric(5, 4), server_default=ZERO, nullable=False, comment="回应率"),
        sa.Column("recovery_rate", sa.Numeric(5, 4), server_default=ZERO, nullable=False, comment="回收率"),
        sa.Column("average_recovery_time", sa.Integer, comment="平均回收时间（天）"),
        sa.Column("created_at", TIME, server_default=NOW, nullable=False, comment="创建时间"),
        sa.Column("updated_at", TIME, server_default=NOW, nullable=False, comment="更新时间"),
        sa.CheckConstraint("period_end >= period_start", name=op.f("ck_collection_success_stats_period_end")),
        sa.ForeignKeyConstraint(
            ["client_id"],
            ["enterprise_clients.id"],
            name=op.f("fk_collection_success_stats_client_id_enterprise_clients"),
            ondelete="SET NULL",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_collection_success_stats")),
        comment="催收成功统计",
    )


def downgrade() -> None:
    for table in reversed(TOUCHED):
        op.drop_trigger(f"update_{table}_updated_at", table)
    for name, table, *_ in reversed(INDEXES):
        op.drop_index(op.f(name), table_name=table)
    op.drop_table("collection_success_stats")
    op.drop_table("enterprise_subscriptions")
    op.drop_table("enterprise_service_packages")
    op.drop_table("enterprise_clients")
