"""Let a user sign in through several providers: one account for each.

Locks: SHARE ROW EXCLUSIVE on users, which foreign keys of new, empty tables refer to: writers of users wait for the
moment that it takes, readers do not; there are no rows to check.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "13eb5fd86d58"
down_revision = "3a074338dc9b"
branch_labels = None
depends_on = None

family = "accounts"
atomic = True
reversible = True
locks = {"users": "SHARE ROW EXCLUSIVE"}

TIME = sa.DateTime(timezone=True)
NOW = sa.text("now()")
FALSE = sa.text("false")
NEW_UUID = sa.text("gen_random_uuid()")

INDEXES = (
    (
        "ix_user_accounts_user_id",
        "user_accounts",
        ["user_id"],
        {"unique": True, "postgresql_where": sa.text("is_primary")},
    ),
)
TOUCHED = ("feishu_auths", "user_accounts")
TOUCH = """\
CREATE TRIGGER update_{table}_updated_at BEFORE UPDATE ON {table} FOR EACH ROW
WHEN (NEW.updated_at IS NOT DISTINCT FROM OLD.updated_at) EXECUTE FUNCTION lawsker_touch_updated_at()"""


def upgrade() -> None:
    _create_feishu_auths()
    _create_user_accounts()
    for name, table, columns, options in INDEXES:
        op.create_index(op.f(name), table, columns, **options)
    for table in TOUCHED:
        op.create_trigger(f"update_{table}_updated_at", table, TOUCH.format(table=table))


def _create_feishu_auths() -> None:
    op.create_table(
        "feishu_auths",
        sa.Column("id", sa.Uuid, server_default=NEW_UUID, nullable=False, comment="主键"),
        sa.Column("user_id", sa.Uuid, nullable=False, comment="用户"),
        sa.Column("open_id", sa.String(128), nullable=False, comment="飞书open_id"),
        sa.Column("union_id", sa.String(128), comment="飞书union_id"),
        sa.Column("access_token", sa.Text, comment="访问令牌"),
        sa.Column("refresh_token", sa.Text, comment="刷新令牌"),
        sa.Column("token_expires_at", TIME, comment="令牌过期时间"),
        sa.Column("created_at", TIME, server_default=NOW, nullable=False, comment="创建时间"),
        sa.Column("updated_at", TIME, server_default=NOW, nullable=False, comment="更新时间"),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name=op.f("fk_feishu_auths_user_id_users"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_feishu_auths")),
        sa.UniqueConstraint("open_id", name=op.f("uq_feishu_auths_open_id")),
        sa.UniqueConstraint("user_id", name=op.f("uq_feishu_auths_user_id")),
        comment="飞书登录（旧）",
    )


def _create_user_accounts() -> None:
    op.create_table(
        "user_accounts",
        sa.Column("id", sa.Uuid, server_default=NEW_UUID, nullable=False, comment="主键"),
        sa.Column("user_id", sa.Uuid, nullable=False, comment="用户"),
        sa.Column("type", sa.String(20), nullable=False, comment="账户类型：oauth授权登录/email邮箱/credentials密码"),
        sa.Column(
            "provider",
            sa.String(20),
            nullable=False,
            comment="登录方式：email邮箱/feishu飞书/google谷歌/github代码托管/wechat微信",
        ),
        sa.Column("provider_account_id", sa.String(255), nullable=False, comment="登录方式内的账户编号"),
        sa.Column("access_token", sa.Text, comment="访问令牌"),
        sa.Column("refresh_token", sa.Text, comment="刷新令牌"),
        sa.Column("token_type", sa.String(20), comment="令牌类型"),
        sa.Column("expires_at", TIME, comment="令牌过期时间"),
        sa.Column("scope", sa.Text, comment="授权范围"),
        sa.Column("id_token", sa.Text, comment="身份令牌"),
        sa.Column("is_primary", sa.Boolean, server_default=FALSE, nullable=False, comment="是否主账户"),
        sa.Column("is_verified", sa.Boolean, server_default=FALSE, nullable=False, comment="是否已验证"),
        sa.Column("provider_profile", JSONB, comment="登录方式返回的资料"),
        sa.Column("nickname", sa.String(100), comment="昵称"),
        sa.Column("avatar_url", sa.String(500), comment="头像地址"),
        sa.Column("created_at", TIME, server_default=NOW, nullable=False, comment="创建时间"),
        sa.Column("updated_at", TIME, server_default=NOW, nullable=False, comment="更新时间"),
        sa.Column("last_used_at", TIME, comment="最近使用时间"),
        sa.CheckConstraint(
            "provider IN ('email', 'feishu', 'google', 'github', 'wechat')", name=op.f("ck_user_accounts_provider")
        ),
        sa.CheckConstraint("type IN ('oauth', 'email', 'credentials')", name=op.f("ck_user_accounts_type")),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name=op.f("fk_user_accounts_user_id_users"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_user_accounts")),
        sa.UniqueConstraint(
            "provider", "provider_account_id", name=op.f("uq_user_accounts_provider_provider_account_id")
        ),
        sa.UniqueConstraint("user_id", "provider", name=op.f("uq_user_accounts_user_id_provider")),
        comment="登录账户",
    )


def downgrade() -> None:
    for table in reversed(TOUCHED):
        op.drop_trigger(f"update_{table}_updated_at", table)
    for name, table, *_ in reversed(INDEXES):
        op.drop_index(op.f(name), table_name=table)
    op.drop_table("user_accounts")
    op.drop_table("feishu_auths")
