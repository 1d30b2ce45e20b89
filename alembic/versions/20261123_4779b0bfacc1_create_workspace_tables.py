"""Let users ask to be certified as lawyers, map users to workspaces, and show demo accounts.

Locks: SHARE ROW EXCLUSIVE on users, which foreign keys of new, empty tables refer to: writers of users wait for the
moment that it takes, readers do not; there are no rows to check.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "4779b0bfacc1"
down_revision = "ec637ee72d0b"
branch_labels = None
depends_on = None

family = "auth"
atomic = True
reversible = True
locks = {"users": "SHARE ROW EXCLUSIVE"}

TIME = sa.DateTime(timezone=True)
NOW = sa.text("now()")
ZERO = sa.text("0")
FALSE = sa.text("false")
TRUE = sa.text("true")
NEW_UUID = sa.text("gen_random_uuid()")
OBJECT = sa.text("'{}'::jsonb")
LIST = sa.text("'[]'::jsonb")

INDEXES = (
    ("ix_lawyer_certification_requests_reviewed_by", "lawyer_certification_requests", ["reviewed_by"]),
    ("ix_lawyer_certification_requests_status", "lawyer_certification_requests", ["status"]),
    ("ix_lawyer_certification_requests_user_id", "lawyer_certification_requests", ["user_id"]),
    ("ix_demo_accounts_demo_type", "demo_accounts", ["demo_type"]),
)
TOUCHED = ("lawyer_certification_requests",)
TOUCH = """\
CREATE TRIGGER update_{table}_updated_at BEFORE UPDATE ON {table} FOR EACH ROW
WHEN (NEW.updated_at IS NOT DISTINCT FROM OLD.updated_at) EXECUTE FUNCTION lawsker_touch_updated_at()"""


def upgrade() -> None:
    _create_lawyer_certification_requests()
    _create_workspace_mappings()
    _create_demo_accounts()
    for name, table, columns in INDEXES:
        op.create_index(op.f(name), table, columns)
    for table in TOUCHED:
        op.create_trigger(f"update_{table}_updated_at", table, TOUCH.format(table=table))


def _create_lawyer_certification_requests() -> None:
    op.create_table(
        "lawyer_certification_requests",
        sa.Column("id", sa.Uuid, server_default=NEW_UUID, nullable=False, comment="主键"),
        sa.Column("user_id", sa.Uuid, nullable=False, comment="申请用户"),
        sa.Column("certificate_file_path", sa.String(500), nullable=False, comment="执业证书文件路径"),
        sa.Column("certificate_file_name", sa.String(255), nullable=False, comment="执业证书文件名"),
        sa.Column("lawyer_name", sa.String(100), nullable=False, comment="律师姓名"),
        sa.Column("license_number", sa.String(50), nullable=False, comment="执业证号"),
        sa.Column("law_firm", sa.String(200), comment="所属律所"),
        sa.Column("practice_areas", JSONB, server_default=LIST, nullable=False, comment="执业领域"),
        sa.Column("years_of_experience", sa.Integer, server_default=ZERO, nullable=False, comment="执业年限"),
        sa.Column("education_background", sa.Text, comment="教育背景"),
        sa.Column("specialization_certificates", JSONB, server_default=LIST, nullable=False, comment="专业资质证书"),
        sa.Column(
            "status",
            sa.String(20),
            server_default="pending",
            nullable=False,
            comment="状态：pending待审核/approved已通过/rejected已拒绝/under_review审核中",
        ),
        sa.Column("admin_review_notes", sa.Text, comment="审核意见"),
        sa.Column("reviewed_by", sa.Uuid, comment="审核人"),
        sa.Column("reviewed_at", TIME, comment="审核时间"),
        sa.Column("submitted_at", TIME, server_default=NOW, nullable=False, comment="提交时间"),
        sa.Column("created_at", TIME, server_default=NOW, nullable=False, comment="创建时间"),
        sa.Column("updated_at", TIME, server_default=NOW, nullable=False, comment="更新时间"),
        sa.CheckConstraint(
            "status IN ('pending', 'approved', 'rejected', 'under_review')",
            name=op.f("ck_lawyer_certification_requests_status"),
        ),
        sa.ForeignKeyConstraint(
            ["reviewed_by"],
            ["users.id"],
            name=op.f("fk_lawyer_certification_requests_reviewed_by_users"),
            ondelete="SET NULL",
        ),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name=op.f("fk_lawyer_certification_requests_user_id_users"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_lawyer_certification_requests")),
        comment="律师认证申请",
    )


def _create_workspace_mappings() -> None:
    op.create_table(
        "workspace_mappings",
        sa.Column("user_id", sa.Uuid, nullable=False, comment="用户"),
        sa.Column("workspace_id", sa.String(50), nullable=False, comment="工作台编号"),
        sa.Column(
            "workspace_type", sa.String(20), nullable=False, comment="工作台类型：user用户/lawyer律师/admin管理员"
        ),
        sa.Column("is_demo", sa.Boolean, server_default=FALSE, nullable=False, comment="是否演示工作台"),
        sa.Column("created_at", TIME, server_default=NOW, nullable=False, comment="创建时间"),
        sa.CheckConstraint(
            "workspace_type IN ('user', 'lawyer', 'admin')", name=op.f("ck_workspace_mappings_workspace_type")
        ),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name=op.f("fk_workspace_mappings_user_id_users"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("user_id", name=op.f("pk_workspace_mappings")),
        sa.UniqueConstraint("workspace_id", name=op.f("uq_workspace_mappings_workspace_id")),
        comment="用户与工作台映射",
    )


def _create_demo_accounts() -> None:
    op.create_table(
        "demo_accounts",
        sa.Column("id", sa.Uuid, server_default=NEW_UUID, nullable=False, comment="主键"),
        sa.Column("demo_type", sa.String(20), nullable=False, comment="演示类型：lawyer律师/user用户"),
        sa.Column("workspace_id", sa.String(50), nullable=False, comment="演示工作台编号"),
        sa.Column("display_name", sa.String(100), nullable=False, comment="显示名称"),
        sa.Column("demo_data", JSONB, server_default=OBJECT, nullable=False, comment="演示数据"),
        sa.Column("is_active", sa.Boolean, server_default=TRUE, nullable=False, comment="是否启用"),
        sa.Column("created_at", TIME, server_default=NOW, nullable=False, comment="创建时间"),
        sa.CheckConstraint("demo_type IN ('lawyer', 'user')", name=op.f("ck_demo_accounts_demo_type")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_demo_accounts")),
        sa.UniqueConstraint("workspace_id", name=op.f("uq_demo_accounts_workspace_id")),
        comment="演示账户",
    )


def downgrade() -> None:
    for table in reversed(TOUCHED):
        op.drop_trigger(f"update_{table}_updated_at", table)
    for name, table, *_ in reversed(INDEXES):
        op.drop_index(op.f(name), table_name=table)
    op.drop_table("demo_accounts")
    op.drop_table("workspace_mappings")
    op.drop_table("lawyer_certification_requests")
