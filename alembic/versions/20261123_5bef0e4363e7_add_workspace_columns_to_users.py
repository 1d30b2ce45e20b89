"""Give every user a workspace, an account type, a flag for the verified e-mail address and a source of registration.

Locks: ACCESS EXCLUSIVE on users, for a moment: no column has a volatile default when it is added, so the table is not
rewritten. The default of workspace_id comes after it, for new rows only; the next revision fills the old ones.
"""

import sqlalchemy as sa
from alembic import op

revision = "5bef0e4363e7"
down_revision = "0df70416a7c3"
branch_labels = None
depends_on = None

family = "auth"
atomic = True
reversible = True
locks = {"users": "ACCESS EXCLUSIVE"}

NEW_WORKSPACE = sa.text("'ws-' || replace(gen_random_uuid()::text, '-', '')")
ACCOUNT_TYPE = "账户类型：pending待定/user用户/lawyer律师/lawyer_pending待认证律师/admin管理员"


def upgrade() -> None:
    op.add_column("users", sa.Column("workspace_id", sa.String(50), comment="工作台编号"))
    op.alter_column("users", "workspace_id", server_default=NEW_WORKSPACE)
    op.add_column("users", sa.Column("account_type", sa.String(20), comment=ACCOUNT_TYPE))
    op.alter_column("users", "account_type", server_default="pending")
    op.add_column(
        "users",
        sa.Column(
            "email_verified", sa.Boolean, server_default=sa.text("false"), nullable=False, comment="邮箱是否已验证"
        ),
    )
    op.add_column(
        "users",
        sa.Column("registration_source", sa.String(20), server_default="web", nullable=False, comment="注册来源"),
    )


def downgrade() -> None:
    op.drop_column("users", "registration_source")
    op.drop_column("users", "email_verified")
    op.drop_column("users", "account_type")
    op.drop_column("users", "workspace_id")
