"""The levels that lawyers rise through, and where each lawyer stands."""

from datetime import date
from decimal import Decimal
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, Numeric, String, text
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Base, Count, CreatedAt, JsonList, JsonObject, No, UpdatedAt


class LawyerLevel(Base):
    """One of ten levels: what it asks for and what it gives."""

    __tablename__ = "lawyer_levels"
    __table_args__ = (CheckConstraint("level BETWEEN 1 AND 10", name="level"), {"comment": "律师等级配置"})

    id: Mapped[int] = mapped_column(primary_key=True, comment="主键")
    level: Mapped[int] = mapped_column(unique=True, comment="等级（1至10）")
    name: Mapped[str] = mapped_column(String(50), comment="等级名称")
    requirements: Mapped[JsonObject] = mapped_column(comment="升级条件")
    benefits: Mapped[JsonObject] = mapped_column(comment="等级权益")
    daily_case_limit: Mapped[int] = mapped_column(server_default=text("5"), comment="每日接案上限")
    monthly_amount_limit: Mapped[Decimal] = mapped_column(
        Numeric(15, 2), server_default=text("50000"), comment="每月案件金额上限（元）"
    )
    priority_weight: Mapped[Decimal] = mapped_column(Numeric(3, 2), server_default=text("1.0"), comment="派案优先权重")
    created_at: Mapped[CreatedAt]


class LawyerLevelDetail(Base):
    """Where one lawyer stands; every user with the role Lawyer has a row."""

    __tablename__ = "lawyer_level_details"
    __table_args__ = (
        Index(None, "current_level"),
        Index(None, "upgrade_eligible", postgresql_where=text("upgrade_eligible")),
        {"comment": "律师等级明细"},
    )

    lawyer_id: Mapped[UUID] = mapped_column(
        ForeignKey("users.id", ondelete="CASCADE"), primary_key=True, comment="律师"
    )
    current_level: Mapped[int] = mapped_column(
        ForeignKey("lawyer_levels.level"), server_default=text("1"), comment="当前等级"
    )
    level_points: Mapped[int] = mapped_column(BigInteger, server_default=text("0"), comment="等级积分")
    experience_points: Mapped[int] = mapped_column(BigInteger, server_default=text("0"), comment="经验值")
    cases_completed: Mapped[Count] = mapped_column(comment="完成案件数")
    cases_won: Mapped[Count] = mapped_column(comment="胜诉案件数")
    cases_failed: Mapped[Count] = mapped_column(comment="失败案件数")
    success_rate: Mapped[Decimal] = mapped_column(Numeric(5, 2), server_default=text("0"), comment="成功率（百分比）")
    client_rating: Mapped[Decimal] = mapped_column(Numeric(3, 2), server_default=text("0"), comment="客户评分")
    total_revenue: Mapped[Decimal] = mapped_column(Numeric(15, 2), server_default=text("0"), comment="总收入（元）")
    total_online_hours: Mapped[Count] = mapped_column(comment="累计在线小时数")
    total_cases_amount: Mapped[Decimal] = mapped_column(
        Numeric(18, 2), server_default=text("0"), comment="累计案件金额（元）"
    )
    total_ai_credits_used: Mapped[Count] = mapped_column(comment="累计使用AI额度")
    total_paid_amount: Mapped[Decimal] = mapped_column(
        Numeric(15, 2), server_default=text("0"), comment="累计付费金额（元）"
    )
    response_time_avg: Mapped[Count] = mapped_column(comment="平均响应时间（分钟）")
    case_completion_speed: Mapped[Decimal] = mapped_column(Numeric(5, 2), server_default=text("0"), comment="结案速度")
    quality_score: Mapped[Decimal] = mapped_column(Numeric(5, 2), server_default=text("0"), comment="质量评分")
    upgrade_eligible: Mapped[No] = mapped_column(comment="是否符合升级条件")
    downgrade_risk: Mapped[No] = mapped_column(comment="是否有降级风险")
    next_review_date: Mapped[date | None] = mapped_column(comment="下次评审日期")
    last_upgrade_date: Mapped[date | None] = mapped_column(comment="最近升级日期")
    last_downgrade_date: Mapped[date | None] = mapped_column(comment="最近降级日期")
    level_change_history: Mapped[JsonList] = mapped_column(comment="等级变更历史")
    created_at: Mapped[CreatedAt]
    updated_at: Mapped[UpdatedAt]
