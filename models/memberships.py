"""What users and lawyers subscribe to."""

from datetime import date
from decimal import Decimal
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, Numeric, String, text
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Base, Count, CreatedAt, JsonObject, Key, No, UpdatedAt, one_of


class UserMembership(Base):
    """A user's membership over a period."""

    __tablename__ = "user_memberships"
    __table_args__ = (
        one_of("membership_type", "basic", "premium", "enterprise"),
        CheckConstraint("end_date >= start_date", name="end_date"),
        one_of("payment_status", "pending", "paid", "expired", "cancelled"),
        Index(None, "user_id"),
        Index(None, "membership_type", "payment_status"),
        {"comment": "用户会员"},
    )

    id: Mapped[Key]
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), comment="用户")
    membership_type: Mapped[str] = mapped_column(String(50), comment="会员类型：basic基础/premium高级/enterprise企业")
    start_date: Mapped[date] = mapped_column(comment="开始日期")
    end_date: Mapped[date] = mapped_column(comment="结束日期")
    benefits: Mapped[JsonObject] = mapped_column(comment="会员权益")
    credits_monthly: Mapped[Count] = mapped_column(comment="每月额度")
    credits_remaining: Mapped[Count] = mapped_column(comment="剩余额度")
    credits_used: Mapped[Count] = mapped_column(comment="已用额度")
    auto_renewal: Mapped[No] = mapped_column(comment="是否自动续费")
    payment_amount: Mapped[Decimal] = mapped_column(Numeric(10, 2), server_default=text("0"), comment="支付金额（元）")
    payment_status: Mapped[str] = mapped_column(
        String(20),
        server_default="pending",
        comment="支付状态：pending待支付/paid已支付/expired已过期/cancelled已取消",
    )
    created_at: Mapped[CreatedAt]
    updated_at: Mapped[UpdatedAt]


class LawyerMembership(Base):
    """A lawyer's membership over a period."""

    __tablename__ = "lawyer_memberships"
    __table_args__ = (
        one_of("membership_type", "basic", "premium", "enterprise"),
        CheckConstraint("end_date >= start_date", name="end_date"),
        Index(None, "lawyer_id"),
        {"comment": "律师会员"},
    )

    id: Mapped[Key]
    lawyer_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), comment="律师")
    membership_type: Mapped[str] = mapped_column(String(50), comment="会员类型：basic基础/premium高级/enterprise企业")
    start_date: Mapped[date] = mapped_column(comment="开始日期")
    end_date: Mapped[date] = mapped_column(comment="结束日期")
    benefits: Mapped[JsonObject] = mapped_column(comment="会员权益")
    daily_case_limit: Mapped[int] = mapped_column(server_default=text("5"), comment="每日接案上限")
    monthly_amount_limit: Mapped[Decimal] = mapped_column(
        Numeric(15, 2), server_default=text("50000"), comment="每月案件金额上限（元）"
    )
    ai_credits_monthly: Mapped[int] = mapped_column(server_default=text("50"), comment="每月AI额度")
    ai_credits_remaining: Mapped[int] = mapped_column(server_default=text("50"), comment="剩余AI额度")
    ai_credits_used: Mapped[Count] = mapped_column(comment="已用AI额度")
    auto_renewal: Mapped[No] = mapped_column(comment="是否自动续费")
    payment_amount: Mapped[Decimal] = mapped_column(Numeric(10, 2), server_default=text("0"), comment="支付金额（元）")
    created_at: Mapped[CreatedAt]
    updated_at: Mapped[UpdatedAt]
