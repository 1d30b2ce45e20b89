"""How cases find lawyers, what clients say of them afterwards, the use of AI tools, and batch upload."""

from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, Numeric, String, Text, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Base, Count, CreatedAt, JsonList, JsonObject, Key, No, Yes, one_of

RATINGS = (
    "overall_rating",
    "professionalism_rating",
    "response_speed_rating",
    "communication_rating",
    "result_satisfaction_rating",
)


class CaseInvitation(Base):
    """An invitation to a lawyer to take a case."""

    __tablename__ = "case_invitations"
    __table_args__ = (
        one_of("status", "pending", "accepted", "declined", "expired"),
        UniqueConstraint("case_id", "lawyer_id"),
        Index(None, "lawyer_id"),
        Index(None, "status"),
        Index(None, "expires_at"),
        {"comment": "案件邀请"},
    )

    id: Mapped[Key]
    case_id: Mapped[UUID] = mapped_column(ForeignKey("cases.id", ondelete="CASCADE"), comment="案件")
    lawyer_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), comment="受邀律师")
    invitation_score: Mapped[Decimal] = mapped_column(Numeric(5, 2), server_default=text("0"), comment="匹配评分")
    reasoning: Mapped[str | None] = mapped_column(Text, comment="推荐理由")
    status: Mapped[str] = mapped_column(
        String(20),
        server_default="pending",
        comment="状态：pending待回复/accepted已接受/declined已拒绝/expired已过期",
    )
    expires_at: Mapped[datetime] = mapped_column(comment="过期时间")
    responded_at: Mapped[datetime | None] = mapped_column(comment="回复时间")
    created_at: Mapped[CreatedAt]


class MatchingHistory(Base):
    """One run of the matching algorithm for a case."""

    __tablename__ = "matching_history"
    __table_args__ = (Index(None, "case_id"), {"comment": "案件匹配历史"})

    id: Mapped[Key]
    case_id: Mapped[UUID] = mapped_column(ForeignKey("cases.id", ondelete="CASCADE"), comment="案件")
    algorithm_version: Mapped[str] = mapped_column(String(20), server_default="v1.0", comment="算法版本")
    matching_factors: Mapped[JsonObject] = mapped_column(comment="匹配因素")
    candidate_lawyers: Mapped[JsonList] = mapped_column(comment="候选律师")
    selected_lawyers: Mapped[JsonList] = mapped_column(comment="选中律师")
    matching_duration: Mapped[int | None] = mapped_column(comment="匹配耗时（毫秒）")
    created_at: Mapped[CreatedAt]


class CaseReview(Base):
    """What a client says of the lawyer of a case."""

    __tablename__ = "case_reviews"
    __table_args__ = (
        *(CheckConstraint(f"{rating} BETWEEN 1 AND 5", name=rating) for rating in RATINGS),
        UniqueConstraint("case_id", "reviewer_id"),
        Index(None, "reviewer_id"),
        Index(None, "lawyer_id"),
        Index(None, "overall_rating"),
        {"comment": "案件评价"},
    )

    id: Mapped[Key]
    case_id: Mapped[UUID] = mapped_column(ForeignKey("cases.id", ondelete="CASCADE"), comment="案件")
    reviewer_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), comment="评价人")
    lawyer_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), comment="被评价律师")
    overall_rating: Mapped[int] = mapped_column(comment="总体评分（1至5）")
    professionalism_rating: Mapped[int] = mapped_column(comment="专业性评分（1至5）")
    response_speed_rating: Mapped[int] = mapped_column(comment="响应速度评分（1至5）")
    communication_rating: Mapped[int] = mapped_column(comment="沟通评分（1至5）")
    result_satisfaction_rating: Mapped[int] = mapped_column(comment="结果满意度评分（1至5）")
    written_feedback: Mapped[str | None] = mapped_column(Text, comment="文字评价")
    is_anonymous: Mapped[No] = mapped_column(comment="是否匿名")
    sentiment_score: Mapped[Decimal | None] = mapped_column(Numeric(3, 2), comment="情感分值")
    key_topics: Mapped[JsonList] = mapped_column(comment="关键话题")
    created_at: Mapped[CreatedAt]


class AiToolUsage(Base):
    """One use of an AI tool."""

    __tablename__ = "ai_tool_usage"
    __table_args__ = (
        Index(None, "user_id"),
        Index(None, "membership_id"),
        Index(None, "case_id"),
        Index(None, "created_at"),
        {"comment": "AI工具使用记录"},
    )

    id: Mapped[Key]
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), comment="用户")
    membership_id: Mapped[UUID | None] = mapped_column(
        ForeignKey("lawyer_memberships.id", ondelete="SET NULL"), comment="律师会员"
    )
    tool_type: Mapped[str] = mapped_column(String(50), comment="工具类型")
    credits_consumed: Mapped[int] = mapped_column(server_default=text("1"), comment="消耗额度")
    input_data: Mapped[dict[str, Any] | None] = mapped_column(comment="输入数据")
    output_data: Mapped[dict[str, Any] | None] = mapped_column(comment="输出数据")
    processing_time: Mapped[int | None] = mapped_column(comment="处理耗时（毫秒）")
    success: Mapped[Yes] = mapped_column(comment="是否成功")
    error_message: Mapped[str | None] = mapped_column(Text, comment="错误信息")
    case_id: Mapped[UUID | None] = mapped_column(ForeignKey("cases.id", ondelete="SET NULL"), comment="关联案件")
    created_at: Mapped[CreatedAt]


class BatchUploadTask(Base):
    """A file of cases that a user uploads."""

    __tablename__ = "batch_upload_tasks"
    __table_args__ = (
        one_of("task_type", "debt_collection", "single_case"),
        one_of("status", "pending", "processing", "completed", "failed"),
        Index(None, "user_id"),
        Index(None, "status"),
        Index(None, "task_type"),
        {"comment": "批量上传任务"},
    )

    id: Mapped[Key]
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), comment="上传用户")
    task_type: Mapped[str] = mapped_column(
        String(20), server_default="debt_collection", comment="任务类型：debt_collection债务催收/single_case单个案件"
    )
    file_name: Mapped[str] = mapped_column(String(255), comment="文件名")
    file_size: Mapped[int] = mapped_column(BigInteger, comment="文件大小（字节）")
    total_records: Mapped[Count] = mapped_column(comment="总记录数")
    processed_records: Mapped[Count] = mapped_column(comment="已处理记录数")
    success_records: Mapped[Count] = mapped_column(comment="成功记录数")
    error_records: Mapped[Count] = mapped_column(comment="失败记录数")
    credits_cost: Mapped[Count] = mapped_column(comment="消耗额度")
    status: Mapped[str] = mapped_column(
        String(20),
        server_default="pending",
        comment="状态：pending待处理/processing处理中/completed已完成/failed失败",
    )
    error_details: Mapped[JsonList] = mapped_column(comment="错误明细")
    estimated_revenue: Mapped[Decimal] = mapped_column(
        Numeric(15, 2), server_default=text("0"), comment="预计收入（元）"
    )
    actual_revenue: Mapped[Decimal] = mapped_column(Numeric(15, 2), server_default=text("0"), comment="实际收入（元）")
    commission_rate: Mapped[Decimal] = mapped_column(Numeric(5, 4), server_default=text("0.02"), comment="佣金比例")
    processing_started_at: Mapped[datetime | None] = mapped_column(comment="开始处理时间")
    processing_completed_at: Mapped[datetime | None] = mapped_column(comment="完成处理时间")
    created_at: Mapped[CreatedAt]
