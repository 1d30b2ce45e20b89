"""The points that lawyers earn, and the time they are online."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Base, Count, CreatedAt, JsonObject, Key


class LawyerPointTransaction(Base):
    """One change of a lawyer's points; what was before, the change and what is after must agree."""

    __tablename__ = "lawyer_point_transactions"
    __table_args__ = (
        CheckConstraint("points_after = points_before + points_change", name="points_after"),
        Index(None, "lawyer_id", "created_at"),
        Index(None, "transaction_type"),
        Index(None, "related_case_id"),
        Index(None, "related_review_id"),
        Index(None, "created_at"),
        {"comment": "律师积分流水"},
    )

    id: Mapped[Key]
    lawyer_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), comment="律师")
    transaction_type: Mapped[str] = mapped_column(
        String(50),
        comment="类型：case_complete结案/good_review好评/bad_review差评/online_time在线/ai_usage使用AI/payment付费等",
    )
    points_change: Mapped[int] = mapped_column(BigInteger, comment="积分变动")
    points_before: Mapped[int] = mapped_column(BigInteger, comment="变动前积分")
    points_after: Mapped[int] = mapped_column(BigInteger, comment="变动后积分")
    related_case_id: Mapped[UUID | None] = mapped_column(
        ForeignKey("cases.id", ondelete="SET NULL"), comment="关联案件"
    )
    related_review_id: Mapped[UUID | None] = mapped_column(
        ForeignKey("case_reviews.id", ondelete="SET NULL"), comment="关联评价"
    )
    description: Mapped[str | None] = mapped_column(Text, comment="说明")
    # Declarative keeps the name "metadata" for itself.
    extra: Mapped[JsonObject] = mapped_column("metadata", comment="附加数据")
    created_at: Mapped[CreatedAt]


class LawyerOnlineSession(Base):
    """A time that a lawyer was online."""

    __tablename__ = "lawyer_online_sessions"
    __table_args__ = (Index(None, "lawyer_id"), Index(None, "session_start"), {"comment": "律师在线会话"})

    id: Mapped[Key]
    lawyer_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), comment="律师")
    session_start: Mapped[datetime] = mapped_column(comment="会话开始时间")
    session_end: Mapped[datetime | None] = mapped_column(comment="会话结束时间")
    duration_minutes: Mapped[int | None] = mapped_column(comment="时长（分钟）")
    points_earned: Mapped[Count] = mapped_column(comment="获得积分")
    created_at: Mapped[CreatedAt]
