"""Let users and lawyers take out memberships.

Locks: SHARE ROW EXCLUSIVE on users, which foreign keys of new, empty tables refer to: writers of users wait for the
moment that it takes, readers do not; there are no rows to check.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "e512216aaa77"
down_revision = "96e40145bdfa"
branch_labels = None
depends_on = None

family = "memberships"
atomic = True
reversible = True
locks = {"users": "SHARE ROW EXCLUSIVE"}

TIME = sa.DateTime(timezone=True)
NOW = sa.text("now()")
ZERO = sa.text("0")
FALSE = sa.text("false")
NEW_UUID = sa.text("gen_random_uuid()")
OBJECT = sa.text("'{}'::jsonb")

INDEXES = (
    ("ix_user_memberships_membership_type_payment_status", "user_memberships", ["membership_type", "payment_status"]),
    ("ix_user_memberships_user_id", "user_memberships", ["user_id"]),
    ("ix_lawyer_memberships_lawyer_id", "lawyer_memberships", ["lawyer_id"]),
)
TOUCHED = ("user_memberships", "lawyer_memberships")
TOUCH = """\
CREATE TRIGGER update_{table}_updated_at BEFORE UPDATE ON {table} FOR EACH ROW
WHEN (NEW.updated_at IS NOT DISTINCT FROM OLD.updated_at) EXECUTE FUNCTION lawsker_touch_updated_at()"""


def upgrade() -> None:
    _create_user_memberships()
    _create_lawyer_memberships()
    for name, table, columns in INDEXES:
        op.create_index(op.f(name), table, columns)
    for table in TOUCHED:
        op.create_trigger(f"update_{table}_updated_at", table, TOUCH.format(table=table))


def _create_user_memberships() -> None:
    op.create_table(
        "user_memberships",
        sa.Column("id", sa.Uuid, server_default=NEW_UUID, nullable=False, comment="主键"),
        sa.Column("user_id", sa.Uuid, nullable=False, comment="用户"),
        sa.Column(
            "membership_type", sa.String(50), nullable=False, comment="会员类型：basic基础/premium高级/enterprise企业"
        ),
        sa.Column("start_date", sa.Date, nullable=False, comment="开始日期"),
        sa.Column("end_date", sa.Date, nullable=False, comment="结束日期"),
        sa.Column("benefits", JSONB, server_default=OBJECT, nullable=False, comment="会员权益"),
        sa.Column("credits_monthly", sa.Integer, server_default=ZERO, nullable=False, comment="每月额度"),
        sa.Column("credits_remaining", sa.Integer, server_default=ZERO, nullable=False, comment="剩余额度"),
        sa.Column("credits_used", sa.Integer, server_default=ZERO, nullable=False, comment="已用额度"),
        sa.Column("auto_renewal", sa.Boolean, server_default=FALSE, nullable=False, comment="是否自动续费"),
        sa.Column("payment_amount", sa.Numeric(10, 2), server_default=ZERO, nullable=False, comment="支付金额（元）"),
        sa.Column(
            "payment_status",
            sa.String(20),
            server_default="pending",
            nullable=False,
            comment="支付状态：pending待支付/paid已支付/expired已过期/cancelled已取消",
        ),
        sa.Column("created_at", TIME, server_default=NOW, nullable=False, comment="创建时间"),
        sa.Column("updated_at", TIME, server_default=NOW, nullable=False, comment="更新时间"),
        sa.CheckConstraint(
            "membership_type IN ('basic', 'premium', 'enterprise')", name=op.f("ck_user_memberships_membership_type")
        ),
        sa.CheckConstraint(
            "payment_status IN ('pending', 'paid', 'expired', 'cancelled')",
            name=op.f("ck_user_memberships_payment_status"),
        ),
        sa.CheckConstraint("end_date >= start_date", name=op.f("ck_user_memberships_end_date")),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name=op.f("fk_user_memberships_user_id_users"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_user_memberships")),
        comment="用户会员",
    )


def _create_lawyer_memberships() -> None:
    op.create_table(
        "lawyer_memberships",
        sa.Column("id", sa.Uuid, server_default=NEW_UUID, nullable=False, comment="主键"),
        sa.Column("lawyer_id", sa.Uuid, nullable=False, comment="律师"),
        sa.Column(
            "membership_type", sa.String(50), nullable=False, comment="会员类型：basic基础/premium高级/enterprise企业"
        ),
        sa.Column("start_date", sa.Date, nullable=False, comment="开始日期"),
        sa.Column("end_date", sa.Date, nullable=False, comment="结束日期"),
        sa.Column("benefits", JSONB, server_default=OBJECT, nullable=False, comment="会员权益"),
        sa.Column("daily_case_limit", sa.Integer, server_default=sa.text("5"), nullable=False, comment="每日接案上限"),
        sa.Column(
            "monthly_amount_limit",
            sa.Numeric(15, 2),
            server_default=sa.text("50000"),
            nullable=False,
            comment="每月案件金额上限（元）",
        ),
        sa.Column("ai_credits_monthly", sa.Integer, server_default=sa.text("50"), nullable=False, comment="每月AI额度"),
        sa.Column(
            "ai_credits_remaining", sa.Integer, server_default=sa.text("50"), nullable=False, comment="剩余AI额度"
        ),
        sa.Column("ai_credits_used", sa.Integer, server_default=ZERO, nullable=False, comment="已用AI额度"),
        sa.Column("auto_renewal", sa.Boolean, server_default=FALSE, nullable=False, comment="是否自动续费"),
        sa.Column("payment_amount", sa.Numeric(10, 2), server_default=ZERO, nullable=False, comment="支付金额（元）"),
        sa.Column("created_at", TIME, server_default=NOW, nullable=False, comment="创建时间"),
        sa.Column("updated_at", TIME, server_default=NOW, nullable=False, comment="更新时间"),
        sa.CheckConstraint(
            "membership_type IN ('basic', 'premium', 'enterprise')", name=op.f("ck_lawyer_memberships_membership_type")
        ),
        sa.CheckConstraint("end_date >= start_date", name=op.f("ck_lawyer_memberships_end_date")),
        sa.ForeignKeyConstraint(
            ["lawyer_id"], ["users.id"], name=op.f("fk_lawyer_memberships_lawyer_id_users"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_lawyer_memberships")),
        comment="律师会员",
    )


def downgrade() -> None:
    for table in reversed(TOUCHED):
        op.drop_trigger(f"update_{table}_updated_at", table)
    for name, table, *_ in reversed(INDEXES):
        op.drop_index(op.f(name), table_name=table)
    op.drop_table("lawyer_memberships")
    op.drop_table("user_memberships")
