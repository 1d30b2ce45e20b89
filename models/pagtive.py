"""Pagtive, the AI page builder that moves in: projects, pages, language model logs, invitation codes, map of users."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, ForeignKey, Identity, Index, String, Text, UniqueConstraint, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Base, CreatedAt, JsonList, Key, No, UpdatedAt, one_of


class PagtiveProject(Base):
    """A project of a user; its id is the source's."""

    __tablename__ = "pagtive_projects"
    __table_args__ = (
        Index("ix_pagtive_projects_user_id_created_at", "user_id", text("created_at DESC")),
        Index(None, "is_public", postgresql_where=text("is_public")),
        Index(None, "is_featured", postgresql_where=text("is_featured")),
        Index(None, "is_published", postgresql_where=text("is_published")),
        {"comment": "Pagtive项目"},
    )

    id: Mapped[Key]
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), comment="所属用户")
    project_name: Mapped[str] = mapped_column(String(255), comment="项目名称")
    project_description: Mapped[str | None] = mapped_column(Text, comment="项目描述")
    project_style: Mapped[str | None] = mapped_column(Text, comment="项目风格")
    global_style_code: Mapped[str | None] = mapped_column(Text, comment="全局样式代码")
    pages: Mapped[dict[str, Any] | None] = mapped_column(comment="页面列表")
    is_public: Mapped[No] = mapped_column(comment="是否公开")
    style_tags: Mapped[JsonList] = mapped_column(comment="风格标签")
    batch_id: Mapped[str | None] = mapped_column(String(36), comment="批次编号")
    batch_index: Mapped[int | None] = mapped_column(comment="批次内序号")
    is_featured: Mapped[No] = mapped_column(comment="是否精选")
    is_published: Mapped[No] = mapped_column(comment="是否已发布")
    reference_files: Mapped[JsonList] = mapped_column(comment="参考文件")
    created_at: Mapped[CreatedAt]
    updated_at: Mapped[UpdatedAt]


class PagtiveProjectDetail(Base):
    """One page of a project."""

    __tablename__ = "pagtive_project_details"
    __table_args__ = (UniqueConstraint("project_id", "page_id"), {"comment": "Pagtive项目页面"})

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True, comment="主键")
    project_id: Mapped[UUID] = mapped_column(ForeignKey("pagtive_projects.id", ondelete="CASCADE"), comment="所属项目")
    page_id: Mapped[int] = mapped_column(comment="页面编号")
    script: Mapped[str | None] = mapped_column(Text, comment="脚本代码")
    styles: Mapped[str | None] = mapped_column(Text, comment="样式代码")
    html: Mapped[str | None] = mapped_column(Text, comment="页面代码")
    images: Mapped[dict[str, Any] | None] = mapped_column(comment="图片")
    mermaid_content: Mapped[str | None] = mapped_column(Text, comment="Mermaid图表内容")
    version_id: Mapped[UUID | None] = mapped_column(comment="版本编号")
    created_at: Mapped[CreatedAt]
    updated_at: Mapped[UpdatedAt]


class PagtiveLlmLog(Base):
    """One request to a language model."""

    __tablename__ = "pagtive_llm_logs"
    __table_args__ = (
        one_of("status", "pending", "processing", "success", "failed"),
        Index(None, "user_id"),
        Index(None, "project_id"),
        Index(None, "provider", "model"),
        Index("ix_pagtive_llm_logs_request_timestamp", text("request_timestamp DESC")),
        Index(None, "status"),
        {"comment": "Pagtive大模型调用日志"},
    )

    id: Mapped[Key]
    user_id: Mapped[UUID | None] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), comment="用户")
    project_id: Mapped[UUID | None] = mapped_column(
        ForeignKey("pagtive_projects.id", ondelete="SET NULL"), comment="项目"
    )
    page_id: Mapped[int | None] = mapped_column(comment="页面编号")
    provider: Mapped[str] = mapped_column(String(50), comment="模型服务商")
    model: Mapped[str] = mapped_column(String(100), comment="模型名称")
    scenario: Mapped[str | None] = mapped_column(String(100), comment="使用场景")
    request_timestamp: Mapped[CreatedAt] = mapped_column(comment="请求时间")
    request_prompts: Mapped[Any] = mapped_column(JSONB, comment="请求提示词")
    request_config: Mapped[Any] = mapped_column(JSONB, comment="请求配置")
    response_timestamp: Mapped[datetime | None] = mapped_column(comment="响应时间")
    response_content: Mapped[str | None] = mapped_column(Text, comment="响应内容")
    response_error: Mapped[str | None] = mapped_column(Text, comment="响应错误")
    usage_prompt_tokens: Mapped[int | None] = mapped_column(comment="提示词用量（token数）")
    usage_completion_tokens: Mapped[int | None] = mapped_column(comment="生成用量（token数）")
    usage_total_tokens: Mapped[int | None] = mapped_column(comment="总用量（token数）")
    duration_ms: Mapped[int | None] = mapped_column(comment="耗时（毫秒）")
    status: Mapped[str] = mapped_column(
        String(20), comment="状态：pending待处理/processing处理中/success成功/failed失败"
    )
    temporary_page_id: Mapped[str | None] = mapped_column(String(100), comment="临时页面编号")
    version_id: Mapped[UUID | None] = mapped_column(comment="版本编号")


class PagtiveInvitationCode(Base):
    """A code that lets somebody in."""

    __tablename__ = "pagtive_invitation_codes"
    __table_args__ = (
        one_of("status", "available", "used", "expired"),
        Index(None, "status"),
        Index(None, "used_by_user_id"),
        {"comment": "Pagtive邀请码"},
    )

    id: Mapped[Key]
    code: Mapped[str] = mapped_column(String(50), unique=True, comment="邀请码")
    status: Mapped[str] = mapped_column(
        String(20), server_default="available", comment="状态：available可用/used已使用/expired已过期"
    )
    created_at: Mapped[CreatedAt]
    expires_at: Mapped[datetime | None] = mapped_column(comment="过期时间")
    used_at: Mapped[datetime | None] = mapped_column(comment="使用时间")
    used_by_user_id: Mapped[UUID | None] = mapped_column(ForeignKey("users.id", ondelete="SET NULL"), comment="使用人")


class PagtiveUserMap(Base):
    """Which user of ours a user of Pagtive became."""

    __tablename__ = "pagtive_user_map"
    __table_args__ = (
        one_of("matched_by", "decision", "feishu", "email", "created", "merged"),
        Index(None, "user_id"),
        {"comment": "Pagtive用户映射"},
    )

    source_id: Mapped[str] = mapped_column(String(64), primary_key=True, comment="来源系统用户编号")
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), comment="用户")
    matched_by: Mapped[str] = mapped_column(
        String(20), comment="匹配方式：decision人工决定/feishu飞书/email邮箱/created新建/merged合并"
    )
    imported_at: Mapped[CreatedAt] = mapped_column(comment="导入时间")
