"""Keep an account of the points that lawyers earn, and of the time they are online.

Locks: SHARE ROW EXCLUSIVE on users and cases, which foreign keys of new, empty tables refer to: writers of the two
wait for the moment that it takes, readers do not; there are no rows to check.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "bddd8484ae3b"
down_revision = "cde70658cfbd"
branch_labels = None
depends_on = None

family = "points"
atomic = True
reversible = True
locks = {"users": "SHARE ROW EXCLUSIVE", "cases": "SHARE ROW EXCLUSIVE"}

TIME = sa.DateTime(timezone=True)
NOW = sa.text("now()")
ZERO = sa.text("0")
NEW_UUID = sa.text("gen_random_uuid()")
OBJECT = sa.text("'{}'::jsonb")

INDEXES = (
    ("ix_lawyer_point_transactions_created_at", "lawyer_point_transactions", ["created_at"]),
    ("ix_lawyer_point_transactions_lawyer_id_created_at", "lawyer_point_transactions", ["lawyer_id", "created_at"]),
    ("ix_lawyer_point_transactions_related_case_id", "lawyer_point_transactions", ["related_case_id"]),
    ("ix_lawyer_point_transactions_related_review_id", "lawyer_point_transactions", ["related_review_id"]),
    ("ix_lawyer_point_transactions_transaction_type", "lawyer_point_transactions", ["transaction_type"]),
    ("ix_lawyer_online_sessions_lawyer_id", "lawyer_online_sessions", ["lawyer_id"]),
    ("ix_lawyer_online_sessions_session_start", "lawyer_online_sessions", ["session_start"]),
)


def upgrade() -> None:
    _create_lawyer_point_transactions()
    _create_lawyer_online_sessions()
    for name, table, columns in INDEXES:
        op.create_index(op.f(name), table, columns)


def _create_lawyer_point_transactions() -> None:
    op.create_table(
        "lawyer_point_transactions",
        sa.Column("id", sa.Uuid, server_default=NEW_UUID, nullable=False, comment="主键"),
        sa.Column("lawyer_id", sa.Uuid, nullable=False, comment="律师"),
        sa.Column(
            "transaction_type",
            sa.String(50),
            nullable=False,
            comment="类型：case_complete结案/good_review好评/bad_review差评/online_time在线/ai_usage使用AI/payment付费等",
        ),
        sa.Column("points_change", sa.BigInteger, nullable=False, comment="积分变动"),
        sa.Column("points_before", sa.BigInteger, nullable=False, comment="变动前积分"),
        sa.Column("points_after", sa.BigInteger, nullable=False, comment="变动后积分"),
        sa.Column("related_case_id", sa.Uuid, comment="关联案件"),
        sa.Column("related_review_id", sa.Uuid, comment="关联评价"),
        sa.Column("description", sa.Text, comment="说明"),
        sa.Column("metadata", JSONB, server_default=OBJECT, nullable=False, comment="附加数据"),
        sa.Column("created_at", TIME, server_default=NOW, nullable=False, comment="创建时间"),
        sa.CheckConstraint(
            "points_after = points_before + points_change", name=op.f("ck_lawyer_point_transactions_points_after")
        ),
        sa.ForeignKeyConstraint(
            ["lawyer_id"], ["users.id"], name=op.f("fk_lawyer_point_transactions_lawyer_id_users"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["related_case_id"],
            ["cases.id"],
            name=op.f("fk_lawyer_point_transactions_related_case_id_cases"),
            ondelete="SET NULL",
        ),
        sa.ForeignKeyConstraint(
            ["related_review_id"],
            ["case_reviews.id"],
            name=op.f("fk_lawyer_point_transactions_related_review_id_case_reviews"),
            ondelete="SET NULL",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_lawyer_point_transactions")),
        comment="律师积分流水",
    )


def _create_lawyer_online_sessions() -> None:
    op.create_table(
        "lawyer_online_sessions",
        sa.Column("id", sa.Uuid, server_default=NEW_UUID, nullable=False, comment="主键"),
        sa.Column("lawyer_id", sa.Uuid, nullable=False, comment="律师"),
        sa.Column("session_start", TIME, nullable=False, comment="会话开始时间"),
        sa.Column("session_end", TIME, comment="会话结束时间"),
        sa.Column("duration_minutes", sa.Integer, comment="时长（分钟）"),
        sa.Column("points_earned", sa.Integer, server_default=ZERO, nullable=False, comment="获得积分"),
        sa.Column("created_at", TIME, server_default=NOW, nullable=False, comment="创建时间"),
        sa.ForeignKeyConstraint(
            ["lawyer_id"], ["users.id"], name=op.f("fk_lawyer_online_sessions_lawyer_id_users"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_lawyer_online_sessions")),
        comment="律师在线会话",
    )


def downgrade() -> None:
    for name, table, *_ in reversed(INDEXES):
        op.drop_index(op.f(name), table_name=table)
    op.drop_table("lawyer_online_sessions")
    op.drop_table("lawyer_point_transactions")
