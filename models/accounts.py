"""Sign-in accounts: one row for each provider that a user signs in with, and the older table of Feishu."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ForeignKey, Index, String, Text, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Base, CreatedAt, Key, No, UpdatedAt, one_of


class FeishuAuth(Base):
    """How a user signed in with Feishu before ``user_accounts``; production may have the table already."""

    __tablename__ = "feishu_auths"
    __table_args__ = ({"comment": "飞书登录（旧）"},)

    id: Mapped[Key]
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), unique=True, comment="用户")
    open_id: Mapped[str] = mapped_column(String(128), unique=True, comment="飞书open_id")
    union_id: Mapped[str | None] = mapped_column(String(128), comment="飞书union_id")
    access_token: Mapped[str | None] = mapped_column(Text, comment="访问令牌")
    refresh_token: Mapped[str | None] = mapped_column(Text, comment="刷新令牌")
    token_expires_at: Mapped[datetime | None] = mapped_column(comment="令牌过期时间")
    created_at: Mapped[CreatedAt]
    updated_at: Mapped[UpdatedAt]


class UserAccount(Base):
    """A sign-in account of a user; at most one is primary."""

    __tablename__ = "user_accounts"
    __table_args__ = (
        one_of("type", "oauth", "email", "credentials"),
        one_of("provider", "email", "feishu", "google", "github", "wechat"),
        UniqueConstraint("provider", "provider_account_id"),
        UniqueConstraint("user_id", "provider"),
        Index(None, "user_id", unique=True, postgresql_where=text("is_primary")),
        {"comment": "登录账户"},
    )

    id: Mapped[Key]
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), comment="用户")
    type: Mapped[str] = mapped_column(String(20), comment="账户类型：oauth授权登录/email邮箱/credentials密码")
    provider: Mapped[str] = mapped_column(
        String(20), comment="登录方式：email邮箱/feishu飞书/google谷歌/github代码托管/wechat微信"
    )
    provider_account_id: Mapped[str] = mapped_column(String(255), comment="登录方式内的账户编号")
    access_token: Mapped[str | None] = mapped_column(Text, comment="访问令牌")
    refresh_token: Mapped[str | None] = mapped_column(Text, comment="刷新令牌")
    token_type: Mapped[str | None] = mapped_column(String(20), comment="令牌类型")
    expires_at: Mapped[datetime | None] = mapped_column(comment="令牌过期时间")
    scope: Mapped[str | None] = mapped_column(Text, comment="授权范围")
    id_token: Mapped[str | None] = mapped_column(Text, comment="身份令牌")
    is_primary: Mapped[No] = mapped_column(comment="是否主账户")
    is_verified: Mapped[No] = mapped_column(comment="是否已验证")
    provider_profile: Mapped[dict[str, Any] | None] = mapped_column(comment="登录方式返回的资料")
    nickname: Mapped[str | None] = mapped_column(String(100), comment="昵称")
    avatar_url: Mapped[str | None] = mapped_column(String(500), comment="头像地址")
    created_at: Mapped[CreatedAt]
    updated_at: Mapped[UpdatedAt]
    last_used_at: Mapped[datetime | None] = mapped_column(comment="最近使用时间")
