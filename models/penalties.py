"""What declining cases costs a lawyer."""

from datetime import datetime
from decimal import Decimal
from uuid import UUID

from sqlalchemy import ForeignKey, Index, Numeric, String, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Base, Count, CreatedAt, Key, Yes


class LawyerCaseDecline(Base):
    """A case that a lawyer declined, and what it cost."""

    __tablename__ = "lawyer_case_declines"
    __table_args__ = (
        Index(None, "lawyer_id"),
        Index(None, "case_id"),
        Index(None, "created_at"),
        {"comment": "律师拒案记录"},
    )

    id: Mapped[Key]
    lawyer_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), comment="律师")
    case_id: Mapped[UUID] = mapped_column(ForeignKey("cases.id", ondelete="CASCADE"), comment="案件")
    decline_reason: Mapped[str | None] = mapped_column(Text, comment="拒案原因")
    points_penalty: Mapped[Count] = mapped_column(comment="扣除积分")
    priority_impact: Mapped[Decimal] = mapped_column(
        Numeric(3, 2), server_default=text("-0.1"), comment="对派案优先权重的影响"
    )
    created_at: Mapped[CreatedAt]


class LawyerAssignmentSuspension(Base):
    """A time in which a lawyer gets no cases."""

    __tablename__ = "lawyer_assignment_suspensions"
    __table_args__ = (
        Index(None, "lawyer_id"),
        Index(None, "is_active", postgresql_where=text("is_active")),
        {"comment": "律师派案暂停"},
    )

    id: Mapped[Key]
    lawyer_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), comment="律师")
    suspension_reason: Mapped[str] = mapped_column(String(100), comment="暂停原因")
    decline_count: Mapped[int] = mapped_column(comment="拒案次数")
    suspended_at: Mapped[datetime] = mapped_column(comment="暂停时间")
    suspension_duration_hours: Mapped[int] = mapped_column(server_default=text("24"), comment="暂停时长（小时）")
    lifted_at: Mapped[datetime | None] = mapped_column(comment="解除时间")
    is_active: Mapped[Yes] = mapped_column(comment="是否生效")
    created_at: Mapped[CreatedAt]
