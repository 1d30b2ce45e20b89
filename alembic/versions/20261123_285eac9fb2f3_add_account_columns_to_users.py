"""Give every user a role on the platform, an agreed version of the agreement, an avatar and a Twitter page.

Locks: ACCESS EXCLUSIVE on users, for a moment: defaults are constant or none, so the table is not rewritten.
"""

import sqlalchemy as sa
from alembic import op

revision = "285eac9fb2f3"
down_revision = "08ec0e22e271"
branch_labels = None
depends_on = None

family = "accounts"
atomic = True
reversible = True
locks = {"users": "ACCESS EXCLUSIVE"}

ROLE = "平台角色：user用户/admin管理员/super_admin超级管理员"


def upgrade() -> None:
    op.add_column("users", sa.Column("role", sa.String(20), server_default="user", nullable=False, comment=ROLE))
    op.add_column("users", sa.Column("agreed_agreement_version", sa.String(20), comment="已同意的用户协议版本"))
    op.add_column("users", sa.Column("avatar_url", sa.String(500), comment="头像地址"))
    op.add_column("users", sa.Column("twitter_url", sa.String(500), comment="Twitter主页地址"))


def downgrade() -> None:
    op.drop_column("users", "twitter_url")
    op.drop_column("users", "avatar_url")
    op.drop_column("users", "agreed_agreement_version")
    op.drop_column("users", "role")
