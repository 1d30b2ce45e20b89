"""Unified authentication: certification of lawyers, workspaces, demo accounts."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import ForeignKey, Index, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Base, Count, CreatedAt, JsonList, JsonObject, Key, No, UpdatedAt, Yes, one_of


class LawyerCertificationRequest(Base):
    """A user's request to be recognised as a lawyer."""

    __tablename__ = "lawyer_certification_requests"
    __table_args__ = (
        one_of("status", "pending", "approved", "rejected", "under_review"),
        Index(None, "user_id"),
        Index(None, "status"),
        Index(None, "reviewed_by"),
        {"comment": "律师认证申请"},
    )

    id: Mapped[Key]
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), comment="申请用户")
    certificate_file_path: Mapped[str] = mapped_column(String(500), comment="执业证书文件路径")
    certificate_file_name: Mapped[str] = mapped_column(String(255), comment="执业证书文件名")
    lawyer_name: Mapped[str] = mapped_column(String(100), comment="律师姓名")
    license_number: Mapped[str] = mapped_column(String(50), comment="执业证号")
    law_firm: Mapped[str | None] = mapped_column(String(200), comment="所属律所")
    practice_areas: Mapped[JsonList] = mapped_column(comment="执业领域")
    years_of_experience: Mapped[Count] = mapped_column(comment="执业年限")
    education_background: Mapped[str | None] = mapped_column(Text, comment="教育背景")
    specialization_certificates: Mapped[JsonList] = mapped_column(comment="专业资质证书")
    status: Mapped[str] = mapped_column(
        String(20),
        server_default="pending",
        comment="状态：pending待审核/approved已通过/rejected已拒绝/under_review审核中",
    )
    admin_review_notes: Mapped[str | None] = mapped_column(Text, comment="审核意见")
    reviewed_by: Mapped[UUID | None] = mapped_column(ForeignKey("users.id", ondelete="SET NULL"), comment="审核人")
    reviewed_at: Mapped[datetime | None] = mapped_column(comment="审核时间")
    submitted_at: Mapped[CreatedAt] = mapped_column(comment="提交时间")
    created_at: Mapped[CreatedAt]
    updated_at: Mapped[UpdatedAt]


class WorkspaceMapping(Base):
    """The workspace of a user; every user has one."""

    __tablename__ = "workspace_mappings"
    __table_args__ = (one_of("workspace_type", "user", "lawyer", "admin"), {"comment": "用户与工作台映射"})

    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), primary_key=True, comment="用户")
    workspace_id: Mapped[str] = mapped_column(String(50), unique=True, comment="工作台编号")
    workspace_type: Mapped[str] = mapped_column(String(20), comment="工作台类型：user用户/lawyer律师/admin管理员")
    is_demo: Mapped[No] = mapped_column(comment="是否演示工作台")
    created_at: Mapped[CreatedAt]


class DemoAccount(Base):
    """A workspace that shows the platform without signing in."""

    __tablename__ = "demo_accounts"
    __table_args__ = (one_of("demo_type", "lawyer", "user"), Index(None, "demo_type"), {"comment": "演示账户"})

    id: Mapped[Key]
    demo_type: Mapped[str] = mapped_column(String(20), comment="演示类型：lawyer律师/user用户")
    workspace_id: Mapped[str] = mapped_column(String(50), unique=True, comment="演示工作台编号")
    display_name: Mapped[str] = mapped_column(String(100), comment="显示名称")
    demo_data: Mapped[JsonObject] = mapped_column(comment="演示数据")
    is_active: Mapped[Yes] = mapped_column(comment="是否启用")
    created_at: Mapped[CreatedAt]
