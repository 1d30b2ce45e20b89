"""Record the cases that lawyers decline, and suspend lawyers who decline too many.

Locks: SHARE ROW EXCLUSIVE on users and cases, which foreign keys of new, empty tables refer to: writers of the two
wait for the moment that it takes, readers do not; there are no rows to check.
"""

import sqlalchemy as sa
from alembic import op

revision = "ad7cc2411b14"
down_revision = "f295d3e43824"
branch_labels = None
depends_on = None

family = "penalties"
atomic = True
reversible = True
locks = {"users": "SHARE ROW EXCLUSIVE", "cases": "SHARE ROW EXCLUSIVE"}

TIME = sa.DateTime(timezone=True)
NOW = sa.text("now()")
ZERO = sa.text("0")
TRUE = sa.text("true")
NEW_UUID = sa.text("gen_random_uuid()")

INDEXES = (
    ("ix_lawyer_case_declines_case_id", "lawyer_case_declines", ["case_id"], {}),
    ("ix_lawyer_case_declines_created_at", "lawyer_case_declines", ["created_at"], {}),
    ("ix_lawyer_case_declines_lawyer_id", "lawyer_case_declines", ["lawyer_id"], {}),
    (
        "ix_lawyer_assignment_suspensions_is_active",
        "lawyer_assignment_suspensions",
        ["is_active"],
        {"postgresql_where": sa.text("is_active")},
    ),
    ("ix_lawyer_assignment_suspensions_lawyer_id", "lawyer_assignment_suspensions", ["lawyer_id"], {}),
)


def upgrade() -> None:
    _create_lawyer_case_declines()
    _create_lawyer_assignment_suspensions()
    for name, table, columns, options in INDEXES:
        op.create_index(op.f(name), table, columns, **options)


def _create_lawyer_case_declines() -> None:
    op.create_table(
        "lawyer_case_declines",
        sa.Column("id", sa.Uuid, server_default=NEW_UUID, nullable=False, comment="主键"),
        sa.Column("lawyer_id", sa.Uuid, nullable=False, comment="律师"),
        sa.Column("case_id", sa.Uuid, nullable=False, comment="案件"),
        sa.Column("decline_reason", sa.Text, comment="拒案原因"),
        sa.Column("points_penalty", sa.Integer, server_default=ZERO, nullable=False, comment="扣除积分"),
        sa.Column(
            "priority_impact",
            sa.Numeric(3, 2),
            server_default=sa.text("-0.1"),
            nullable=False,
            comment="对派案优先权重的影响",
        ),
        sa.Column("created_at", TIME, server_default=NOW, nullable=False, comment="创建时间"),
        sa.ForeignKeyConstraint(
            ["case_id"], ["cases.id"], name=op.f("fk_lawyer_case_declines_case_id_cases"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["lawyer_id"], ["users.id"], name=op.f("fk_lawyer_case_declines_lawyer_id_users"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_lawyer_case_declines")),
        comment="律师拒案记录",
    )


def _create_lawyer_assignment_suspensions() -> None:
    op.create_table(
        "lawyer_assignment_suspensions",
        sa.Column("id", sa.Uuid, server_default=NEW_UUID, nullable=False, comment="主键"),
        sa.Column("lawyer_id", sa.Uuid, nullable=False, comment="律师"),
        sa.Column("suspension_reason", sa.String(100), nullable=False, comment="暂停原因"),
        sa.Column("decline_count", sa.Integer, nullable=False, comment="拒案次数"),
        sa.Column("suspended_at", TIME, nullable=False, comment="暂停时间"),
        sa.Column(
            "suspension_duration_hours",
            sa.Integer,
            server_default=sa.text("24"),
            nullable=False,
            comment="暂停时长（小时）",
        ),
        sa.Column("lifted_at", TIME, comment="解除时间"),
        sa.Column("is_active", sa.Boolean, server_default=TRUE, nullable=False, comment="是否生效"),
        sa.Column("created_at", TIME, server_default=NOW, nullable=False, comment="创建时间"),
        sa.ForeignKeyConstraint(
            ["lawyer_id"],
            ["users.id"],
            name=op.f("fk_lawyer_assignment_suspensions_lawyer_id_users"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_lawyer_assignment_suspensions")),
        comment="律师派案暂停",
    )


def downgrade() -> None:
    for name, table, *_ in reversed(INDEXES):
        op.drop_index(op.f(name), table_name=table)
    op.drop_table("lawyer_assignment_suspensions")
    op.drop_table("lawyer_case_declines")
