"""The credits that users publish cases with."""

from datetime import date
from decimal import Decimal
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, Numeric, String, func, text
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Base, Count, CreatedAt, Key, UpdatedAt, one_of


class UserCredit(Base):
    """A user's credits; every user with the role User or Institution has a row."""

    __tablename__ = "user_credits"
    __table_args__ = (
        CheckConstraint("credits_remaining >= 0", name="credits_remaining"),
        Index(None, "last_reset_date"),
        {"comment": "用户额度"},
    )

    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), primary_key=True, comment="用户")
    credits_weekly: Mapped[int] = mapped_column(server_default=text("1"), comment="每周额度")
    credits_remaining: Mapped[int] = mapped_column(server_default=text("1"), comment="剩余额度")
    credits_purchased: Mapped[Count] = mapped_column(comment="已购额度")
    total_credits_used: Mapped[Count] = mapped_column(comment="累计使用额度")
    last_reset_date: Mapped[date] = mapped_column(server_default=func.current_date(), comment="最近重置日期")
    created_at: Mapped[CreatedAt]
    updated_at: Mapped[UpdatedAt]


class CreditPurchaseRecord(Base):
    """A purchase of credits."""

    __tablename__ = "credit_purchase_records"
    __table_args__ = (
        CheckConstraint("credits_count > 0", name="credits_count"),
        one_of("status", "pending", "paid", "failed", "refunded"),
        Index(None, "user_id"),
        Index(None, "status"),
        {"comment": "额度购买记录"},
    )

    id: Mapped[Key]
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), comment="购买用户")
    credits_count: Mapped[int] = mapped_column(comment="购买数量")
    unit_price: Mapped[Decimal] = mapped_column(
        Numeric(10, 2), server_default=text("50.00"), comment="单价（元每个额度）"
    )
    total_amount: Mapped[Decimal] = mapped_column(Numeric(10, 2), comment="总金额（元）")
    payment_order_id: Mapped[UUID | None] = mapped_column(comment="支付订单编号")
    status: Mapped[str] = mapped_column(
        String(20), server_default="pending", comment="状态：pending待支付/paid已支付/failed失败/refunded已退款"
    )
    created_at: Mapped[CreatedAt]
