"""Let users publish cases with credits, and buy more of them.

Locks: SHARE ROW EXCLUSIVE on users, which foreign keys of new, empty tables refer to: writers of users wait for the
moment that it takes, readers do not; there are no rows to check.
"""

import sqlalchemy as sa
from alembic import op

revision = "f7c745c5c5f1"
down_revision = "bddd8484ae3b"
branch_labels = None
depends_on = None

family = "credits"
atomic = True
reversible = True
locks = {"users": "SHARE ROW EXCLUSIVE"}

TIME = sa.DateTime(timezone=True)
NOW = sa.text("now()")
ZERO = sa.text("0")
NEW_UUID = sa.text("gen_random_uuid()")

INDEXES = (
    ("ix_user_credits_last_reset_date", "user_credits", ["last_reset_date"]),
    ("ix_credit_purchase_records_status", "credit_purchase_records", ["status"]),
    ("ix_credit_purchase_records_user_id", "credit_purchase_records", ["user_id"]),
)
TOUCHED = ("user_credits",)
TOUCH = """\
CREATE TRIGGER update_{table}_updated_at BEFORE UPDATE ON {table} FOR EACH ROW
WHEN (NEW.updated_at IS NOT DISTINCT FROM OLD.updated_at) EXECUTE FUNCTION lawsker_touch_updated_at()"""


def upgrade() -> None:
    _create_user_credits()
    _create_credit_purchase_records()
    for name, table, columns in INDEXES:
        op.create_index(op.f(name), table, columns)
    for table in TOUCHED:
        op.create_trigger(f"update_{table}_updated_at", table, TOUCH.format(table=table))


def _create_user_credits() -> None:
    op.create_table(
        "user_credits",
        sa.Column("user_id", sa.Uuid, nullable=False, comment="用户"),
        sa.Column("credits_weekly", sa.Integer, server_default=sa.text("1"), nullable=False, comment="每周额度"),
        sa.Column("credits_remaining", sa.Integer, server_default=sa.text("1"), nullable=False, comment="剩余额度"),
        sa.Column("credits_purchased", sa.Integer, server_default=ZERO, nullable=False, comment="已购额度"),
        sa.Column("total_credits_used", sa.Integer, server_default=ZERO, nullable=False, comment="累计使用额度"),
        sa.Column(
            "last_reset_date", sa.Date, server_default=sa.text("CURRENT_DATE"), nullable=False, comment="最近重置日期"
        ),
        sa.Column("created_at", TIME, server_default=NOW, nullable=False, comment="创建时间"),
        sa.Column("updated_at", TIME, server_default=NOW, nullable=False, comment="更新时间"),
        sa.CheckConstraint("credits_remaining >= 0", name=op.f("ck_user_credits_credits_remaining")),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name=op.f("fk_user_credits_user_id_users"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("user_id", name=op.f("pk_user_credits")),
        comment="用户额度",
    )


def _create_credit_purchase_records() -> None:
    op.create_table(
        "credit_purchase_records",
        sa.Column("id", sa.Uuid, server_default=NEW_UUID, nullable=False, comment="主键"),
        sa.Column("user_id", sa.Uuid, nullable=False, comment="购买用户"),
        sa.Column("credits_count", sa.Integer, nullable=False, comment="购买数量"),
        sa.Column(
            "unit_price",
            sa.Numeric(10, 2),
            server_default=sa.text("50.00"),
            nullable=False,
            comment="单价（元每个额度）",
        ),
        sa.Column("total_amount", sa.Numeric(10, 2), nullable=False, comment="总金额（元）"),
        sa.Column("payment_order_id", sa.Uuid, comment="支付订单编号"),
        sa.Column(
            "status",
            sa.String(20),
            server_default="pending",
            nullable=False,
            comment="状态：pending待支付/paid已支付/failed失败/refunded已退款",
        ),
        sa.Column("created_at", TIME, server_default=NOW, nullable=False, comment="创建时间"),
        sa.CheckConstraint(
            "status IN ('pending', 'paid', 'failed', 'refunded')", name=op.f("ck_credit_purchase_records_status")
        ),
        sa.CheckConstraint("credits_count > 0", name=op.f("ck_credit_purchase_records_credits_count")),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name=op.f("fk_credit_purchase_records_user_id_users"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_credit_purchase_records")),
        comment="额度购买记录",
    )


def downgrade() -> None:
    for table in reversed(TOUCHED):
        op.drop_trigger(f"update_{table}_updated_at", table)
    for name, table, *_ in reversed(INDEXES):
        op.drop_index(op.f(name), table_name=table)
    op.drop_table("credit_purchase_records")
    op.drop_table("user_credits")
