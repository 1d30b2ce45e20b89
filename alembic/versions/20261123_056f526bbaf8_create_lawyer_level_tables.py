"""Let lawyers rise through levels: what the levels are, and where each lawyer stands.

Locks: SHARE ROW EXCLUSIVE on users, which foreign keys of new, empty tables refer to: writers of users wait for the
moment that it takes, readers do not; there are no rows to check.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "056f526bbaf8"
down_revision = "fd3f21711b9c"
branch_labels = None
depends_on = None

family = "levels"
atomic = True
reversible = True
locks = {"users": "SHARE ROW EXCLUSIVE"}

TIME = sa.DateTime(timezone=True)
NOW = sa.text("now()")
ZERO = sa.text("0")
FALSE = sa.text("false")
OBJECT = sa.text("'{}'::jsonb")
LIST = sa.text("'[]'::jsonb")

INDEXES = (
    ("ix_lawyer_level_details_current_level", "lawyer_level_details", ["current_level"], {}),
    (
        "ix_lawyer_level_details_upgrade_eligible",
        "lawyer_level_details",
        ["upgrade_eligible"],
        {"postgresql_where": sa.text("upgrade_eligible")},
    ),
)
TOUCHED = ("lawyer_level_details",)
TOUCH = """\
CREATE TRIGGER update_{table}_updated_at BEFORE UPDATE ON {table} FOR EACH ROW
WHEN (NEW.updated_at IS NOT DISTINCT FROM OLD.updated_at) EXECUTE FUNCTION lawsker_touch_updated_at()"""


def upgrade() -> None:
    _create_lawyer_levels()
    _create_lawyer_level_details()
    for name, table, columns, options in INDEXES:
        op.create_index(op.f(name), table, columns, **options)
    for table in TOUCHED:
        op.create_trigger(f"update_{table}_updated_at", table, TOUCH.format(table=table))


def _create_lawyer_levels() -> None:
    op.create_table(
        "lawyer_levels",
        sa.Column("id", sa.Integer, nullable=False, comment="主键"),
        sa.Column("level", sa.Integer, nullable=False, comment="等级（1至10）"),
        sa.Column("name", sa.String(50), nullable=False, comment="等级名称"),
        sa.Column("requirements", JSONB, server_default=OBJECT, nullable=False, comment="升级条件"),
        sa.Column("benefits", JSONB, server_default=OBJECT, nullable=False, comment="等级权益"),
        sa.Column("daily_case_limit", sa.Integer, server_default=sa.text("5"), nullable=False, comment="每日接案上限"),
        sa.Column(
            "monthly_amount_limit",
            sa.Numeric(15, 2),
            server_default=sa.text("50000"),
            nullable=False,
            comment="每月案件金额上限（元）",
        ),
        sa.Column(
            "priority_weight", sa.Numeric(3, 2), server_default=sa.text("1.0"), nullable=False, comment="派案优先权重"
        ),
        sa.Column("created_at", TIME, server_default=NOW, nullable=False, comment="创建时间"),
        sa.CheckConstraint("level BETWEEN 1 AND 10", name=op.f("ck_lawyer_levels_level")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_lawyer_levels")),
        sa.UniqueConstraint("level", name=op.f("uq_lawyer_levels_level")),
        comment="律师等级配置",
    )


def _create_lawyer_level_details() -> None:
    op.create_table(
        "lawyer_level_details",
        sa.Column("lawyer_id", sa.Uuid, nullable=False, comment="律师"),
        sa.Column("current_level", sa.Integer, server_default=sa.text("1"), nullable=False, comment="当前等级"),
        sa.Column("level_points", sa.BigInteger, server_default=ZERO, nullable=False, comment="等级积分"),
        sa.Column("experience_points", sa.BigInteger, server_default=ZERO, nullable=False, comment="经验值"),
        sa.Column("cases_completed", sa.Integer, server_default=ZERO, nullable=False, comment="完成案件数"),
        sa.Column("cases_won", sa.Integer, server_default=ZERO, nullable=False, comment="胜诉案件数"),
        sa.Column("cases_failed", sa.Integer, server_default=ZERO, nullable=False, comment="失败案件数"),
        sa.Column("success_rate", sa.Numeric(5, 2), server_default=ZERO, nullable=False, comment="成功率（百分比）"),
        sa.Column("client_rating", sa.Numeric(3, 2), server_default=ZERO, nullable=False, comment="客户评分"),
        sa.Column("total_revenue", sa.Numeric(15, 2), server_default=ZERO, nullable=False, comment="总收入（元）"),
        sa.Column("total_online_hours", sa.Integer, server_default=ZERO, nullable=False, comment="累计在线小时数"),
        sa.Column(
            "total_cases_amount", sa.Numeric(18, 2), server_default=ZERO, nullable=False, comment="累计案件金额（元）"
        ),
        sa.Column("total_ai_credits_used", sa.Integer, server_default=ZERO, nullable=False, comment="累计使用AI额度"),
        sa.Column(
            "total_paid_amount", sa.Numeric(15, 2), server_default=ZERO, nullable=False, comment="累计付费金额（元）"
        ),
        sa.Column("response_time_avg", sa.Integer, server_default=ZERO, nullable=False, comment="平均响应时间（分钟）"),
        sa.Column("case_completion_speed", sa.Numeric(5, 2), server_default=ZERO, nullable=False, comment="结案速度"),
        sa.Column("quality_score", sa.Numeric(5, 2), server_default=ZERO, nullable=False, comment="质量评分"),
        sa.Column("upgrade_eligible", sa.Boolean, server_default=FALSE, nullable=False, comment="是否符合升级条件"),
        sa.Column("downgrade_risk", sa.Boolean, server_default=FALSE, nullable=False, comment="是否有降级风险"),
        sa.Column("next_review_date", sa.Date, comment="下次评审日期"),
        sa.Column("last_upgrade_date", sa.Date, comment="最近升级日期"),
        sa.Column("last_downgrade_date", sa.Date, comment="最近降级日期"),
        sa.Column("level_change_history", JSONB, server_default=LIST, nullable=False, comment="等级变更历史"),
        sa.Column("created_at", TIME, server_default=NOW, nullable=False, comment="创建时间"),
        sa.Column("updated_at", TIME, server_default=NOW, nullable=False, comment="更新时间"),
        sa.ForeignKeyConstraint(
            ["current_level"], ["lawyer_levels.level"], name=op.f("fk_lawyer_level_details_current_level_lawyer_levels")
        ),
        sa.ForeignKeyConstraint(
            ["lawyer_id"], ["users.id"], name=op.f("fk_lawyer_level_details_lawyer_id_users"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("lawyer_id", name=op.f("pk_lawyer_level_details")),
        comment="律师等级明细",
    )


def downgrade() -> None:
    for table in reversed(TOUCHED):
        op.drop_trigger(f"update_{table}_updated_at", table)
    for name, table, *_ in reversed(INDEXES):
        op.drop_index(op.f(name), table_name=table)
    op.drop_table("lawyer_level_details")
    op.drop_table("lawyer_levels")
