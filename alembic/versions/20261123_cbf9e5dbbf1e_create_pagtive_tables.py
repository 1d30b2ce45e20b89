"""Give Pagtive its tables: projects, pages, language model logs, invitation codes, and the map of its users.

Locks: SHARE ROW EXCLUSIVE on users, which foreign keys of new, empty tables refer to: writers of users wait for the
moment that it takes, readers do not; there are no rows to check.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "cbf9e5dbbf1e"
down_revision = "13eb5fd86d58"
branch_labels = None
depends_on = None

family = "pagtive"
atomic = True
reversible = True
locks = {"users": "SHARE ROW EXCLUSIVE"}

TIME = sa.DateTime(timezone=True)
NOW = sa.text("now()")
FALSE = sa.text("false")
NEW_UUID = sa.text("gen_random_uuid()")
LIST = sa.text("'[]'::jsonb")

INDEXES = (
    ("ix_pagtive_user_map_user_id", "pagtive_user_map", ["user_id"], {}),
    (
        "ix_pagtive_projects_is_featured",
        "pagtive_projects",
        ["is_featured"],
        {"postgresql_where": sa.text("is_featured")},
    ),
    ("ix_pagtive_projects_is_public", "pagtive_projects", ["is_public"], {"postgresql_where": sa.text("is_public")}),
    (
        "ix_pagtive_projects_is_published",
        "pagtive_projects",
        ["is_published"],
        {"postgresql_where": sa.text("is_published")},
    ),
    ("ix_pagtive_projects_user_id_created_at", "pagtive_projects", ["user_id", sa.text("created_at DESC")], {}),
    ("ix_pagtive_llm_logs_project_id", "pagtive_llm_logs", ["project_id"], {}),
    ("ix_pagtive_llm_logs_provider_model", "pagtive_llm_logs", ["provider", "model"], {}),
    ("ix_pagtive_llm_logs_request_timestamp", "pagtive_llm_logs", [sa.text("request_timestamp DESC")], {}),
    ("ix_pagtive_llm_logs_status", "pagtive_llm_logs", ["status"], {}),
    ("ix_pagtive_llm_logs_user_id", "pagtive_llm_logs", ["user_id"], {}),
    ("ix_pagtive_invitation_codes_status", "pagtive_invitation_codes", ["status"], {}),
    ("ix_pagtive_invitation_codes_used_by_user_id", "pagtive_invitation_codes", ["used_by_user_id"], {}),
)
TOUCHED = ("pagtive_projects", "pagtive_project_details")
TOUCH = """\
CREATE TRIGGER update_{table}_updated_at BEFORE UPDATE ON {table} FOR EACH ROW
WHEN (NEW.updated_at IS NOT DISTINCT FROM OLD.updated_at) EXECUTE FUNCTION lawsker_touch_updated_at()"""
TABLES = (
    "pagtive_user_map",
    "pagtive_projects",
    "pagtive_project_details",
    "pagtive_llm_logs",
    "pagtive_invitation_codes",
)


def upgrade() -> None:
    _create_pagtive_user_map()
    _create_pagtive_projects()
    _create_pagtive_project_details()
    _create_pagtive_llm_logs()
    _create_pagtive_invitation_codes()
    for name, table, columns, options in INDEXES:
        op.create_index(op.f(name), table, columns, **options)
    for table in TOUCHED:
        op.create_trigger(f"update_{table}_updated_at", table, TOUCH.format(table=table))


def _create_pagtive_user_map() -> None:
    op.create_table(
        "pagtive_user_map",
        sa.Column("source_id", sa.String(64), nullable=False, comment="来源系统用户编号"),
        sa.Column("user_id", sa.Uuid, nullable=False, comment="用户"),
        sa.Column(
            "matched_by",
            sa.String(20),
            nullable=False,
            comment="匹配方式：decision人工决定/feishu飞书/email邮箱/created新建/merged合并",
        ),
        sa.Column("imported_at", TIME, server_default=NOW, nullable=False, comment="导入时间"),
        sa.CheckConstraint(
            "matched_by IN ('decision', 'feishu', 'email', 'created', 'merged')",
            name=op.f("ck_pagtive_user_map_matched_by"),
        ),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name=op.f("fk_pagtive_user_map_user_id_users"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("source_id", name=op.f("pk_pagtive_user_map")),
        comment="Pagtive用户映射",
    )


def _create_pagtive_projects() -> None:
    op.create_table(
        "pagtive_projects",
        sa.Column("id", sa.Uuid, server_default=NEW_UUID, nullable=False, comment="主键"),
        sa.Column("user_id", sa.Uuid, nullable=False, comment="所属用户"),
        sa.Column("project_name", sa.String(255), nullable=False, comment="项目名称"),
        sa.Column("project_description", sa.Text, comment="项目描述"),
        sa.Column("project_style", sa.Text, comment="项目风格"),
        sa.Column("global_style_code", sa.Text, comment="全局样式代码"),
        sa.Column("pages", JSONB, comment="页面列表"),
        sa.Column("is_public", sa.Boolean, server_default=FALSE, nullable=False, comment="是否公开"),
        sa.Column("style_tags", JSONB, server_default=LIST, nullable=False, comment="风格标签"),
        sa.Column("batch_id", sa.String(36), comment="批次编号"),
        sa.Column("batch_index", sa.Integer, comment="批次内序号"),
        sa.Column("is_featured", sa.Boolean, server_default=FALSE, nullable=False, comment="是否精选"),
        sa.Column("is_published", sa.Boolean, server_default=FALSE, nullable=False, comment="是否已发布"),
        sa.Column("reference_files", JSONB, server_default=LIST, nullable=False, comment="参考文件"),
        sa.Column("created_at", TIME, server_default=NOW, nullable=False, comment="创建时间"),
        sa.Column("updated_at", TIME, server_default=NOW, nullable=False, comment="更新时间"),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name=op.f("fk_pagtive_projects_user_id_users"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_pagtive_projects")),
        comment="Pagtive项目",
    )


def _create_pagtive_project_details() -> None:
    op.create_table(
        "pagtive_project_details",
        sa.Column("id", sa.BigInteger, sa.Identity(always=False), nullable=False, comment="主键"),
        sa.Column("project_id", sa.Uuid, nullable=False, comment="所属项目"),
        sa.Column("page_id", sa.Integer, nullable=False, comment="页面编号"),
        sa.Column("script", sa.Text, comment="脚本代码"),
        sa.Column("styles", sa.Text, comment="样式代码"),
        sa.Column("html", sa.Text, comment="页面代码"),
        sa.Column("images", JSONB, comment="图片"),
        sa.Column("mermaid_content", sa.Text, comment="Mermaid图表内容"),
        sa.Column("version_id", sa.Uuid, comment="版本编号"),
        sa.Column("created_at", TIME, server_default=NOW, nullable=False, comment="创建时间"),
        sa.Column("updated_at", TIME, server_default=NOW, nullable=False, comment="更新时间"),
        sa.ForeignKeyConstraint(
            ["project_id"],
            ["pagtive_projects.id"],
            name=op.f("fk_pagtive_project_details_project_id_pagtive_projects"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_pagtive_project_details")),
        sa.UniqueConstraint("project_id", "page_id", name=op.f("uq_pagtive_project_details_project_id_page_id")),
        comment="Pagtive项目页面",
    )


def _create_pagtive_llm_logs() -> None:
    op.create_table(
        "pagtive_llm_logs",
        sa.Column("id", sa.Uuid, server_default=NEW_UUID, nullable=False, comment="主键"),
        sa.Column("user_id", sa.Uuid, comment="用户"),
        sa.Column("project_id", sa.Uuid, comment="项目"),
        sa.Column("page_id", sa.Integer, comment="页面编号"),
        sa.Column("provider", sa.String(50), nullable=False, comment="模型服务商"),
        sa.Column("model", sa.String(100), nullable=False, comment="模型名称"),
        sa.Column("scenario", sa.String(100), comment="使用场景"),
        sa.Column("request_timestamp", TIME, server_default=NOW, nullable=False, comment="请求时间"),
        sa.Column("request_prompts", JSONB, nullable=False, comment="请求提示词"),
        sa.Column("request_config", JSONB, nullable=False, comment="请求配置"),
        sa.Column("response_timestamp", TIME, comment="响应时间"),
        sa.Column("response_content", sa.Text, comment="响应内容"),
        sa.Column("response_error", sa.Text, comment="响应错误"),
        sa.Column("usage_prompt_tokens", sa.Integer, comment="提示词用量（token数）"),
        sa.Column("usage_completion_tokens", sa.Integer, comment="生成用量（token数）"),
        sa.Column("usage_total_tokens", sa.Integer, comment="总用量（token数）"),
        sa.Column("duration_ms", sa.Integer, comment="耗时（毫秒）"),
        sa.Column(
            "status",
            sa.String(20),
            nullable=False,
            comment="状态：pending待处理/processing处理中/success成功/failed失败",
        ),
        sa.Column("temporary_page_id", sa.String(100), comment="临时页面编号"),
        sa.Column("version_id", sa.Uuid, comment="版本编号"),
        sa.CheckConstraint(
            "status IN ('pending', 'processing', 'success', 'failed')", name=op.f("ck_pagtive_llm_logs_status")
        ),
        sa.ForeignKeyConstraint(
            ["project_id"],
            ["pagtive_projects.id"],
            name=op.f("fk_pagtive_llm_logs_project_id_pagtive_projects"),
            ondelete="SET NULL",
        ),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name=op.f("fk_pagtive_llm_logs_user_id_users"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_pagtive_llm_logs")),
        comment="Pagtive大模型调用日志",
    )


def _create_pagtive_invitation_codes() -> None:
    op.create_table(
        "pagtive_invitation_codes",
        sa.Column("id", sa.Uuid, server_default=NEW_UUID, nullable=False, comment="主键"),
        sa.Column("code", sa.String(50), nullable=False, comment="邀请码"),
        sa.Column(
            "status",
            sa.String(20),
            server_default="available",
            nullable=False,
            comment="状态：available可用/used已使用/expired已过期",
        ),
        sa.Column("created_at", TIME, server_default=NOW, nullable=False, comment="创建时间"),
        sa.Column("expires_at", TIME, comment="过期时间"),
        sa.Column("used_at", TIME, comment="使用时间"),
        sa.Column("used_by_user_id", sa.Uuid, comment="使用人"),
        sa.CheckConstraint(
            "status IN ('available', 'used', 'expired')", name=op.f("ck_pagtive_invitation_codes_status")
        ),
        sa.ForeignKeyConstraint(
            ["used_by_user_id"],
            ["users.id"],
            name=op.f("fk_pagtive_invitation_codes_used_by_user_id_users"),
            ondelete="SET NULL",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_pagtive_invitation_codes")),
        sa.UniqueConstraint("code", name=op.f("uq_pagtive_invitation_codes_code")),
        comment="Pagtive邀请码",
    )


def downgrade() -> None:
    for table in reversed(TOUCHED):
        op.drop_trigger(f"update_{table}_updated_at", table)
    for name, table, *_ in reversed(INDEXES):
        op.drop_index(op.f(name), table_name=table)
    for table in reversed(TABLES):
        op.drop_table(table)
