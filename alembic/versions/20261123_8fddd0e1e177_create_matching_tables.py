"""Match cases with lawyers: invitations, history, reviews; log the use of AI tools; upload cases in batches.

Locks: SHARE ROW EXCLUSIVE on users and cases, which foreign keys of new, empty tables refer to: writers of the two
wait for the moment that it takes, readers do not; there are no rows to check.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "8fddd0e1e177"
down_revision = "e512216aaa77"
branch_labels = None
depends_on = None

family = "matching"
atomic = True
reversible = True
locks = {"users": "SHARE ROW EXCLUSIVE", "cases": "SHARE ROW EXCLUSIVE"}

TIME = sa.DateTime(timezone=True)
NOW = sa.text("now()")
ZERO = sa.text("0")
FALSE = sa.text("false")
TRUE = sa.text("true")
NEW_UUID = sa.text("gen_random_uuid()")
OBJECT = sa.text("'{}'::jsonb")
LIST = sa.text("'[]'::jsonb")

INDEXES = (
    ("ix_case_invitations_expires_at", "case_invitations", ["expires_at"]),
    ("ix_case_invitations_lawyer_id", "case_invitations", ["lawyer_id"]),
    ("ix_case_invitations_status", "case_invitations", ["status"]),
    ("ix_matching_history_case_id", "matching_history", ["case_id"]),
    ("ix_case_reviews_lawyer_id", "case_reviews", ["lawyer_id"]),
    ("ix_case_reviews_overall_rating", "case_reviews", ["overall_rating"]),
    ("ix_case_reviews_reviewer_id", "case_reviews", ["reviewer_id"]),
    ("ix_ai_tool_usage_case_id", "ai_tool_usage", ["case_id"]),
    ("ix_ai_tool_usage_created_at", "ai_tool_usage", ["created_at"]),
    ("ix_ai_tool_usage_membership_id", "ai_tool_usage", ["membership_id"]),
    ("ix_ai_tool_usage_user_id", "ai_tool_usage", ["user_id"]),
    ("ix_batch_upload_tasks_status", "batch_upload_tasks", ["status"]),
    ("ix_batch_upload_tasks_task_type", "batch_upload_tasks", ["task_type"]),
    ("ix_batch_upload_tasks_user_id", "batch_upload_tasks", ["user_id"]),
)
TABLES = (
    "case_invitations",
    "matching_history",
    "case_reviews",
    "ai_tool_usage",
    "batch_upload_tasks",
)


def upgrade() -> None:
    _create_case_invitations()
    _create_matching_history()
    _create_case_reviews()
    _create_ai_tool_usage()
    _create_batch_upload_tasks()
    for name, table, columns in INDEXES:
        op.create_index(op.f(name), table, columns)


def _create_case_invitations() -> None:
    op.create_table(
        "case_invitations",
        sa.Column("id", sa.Uuid, server_default=NEW_UUID, nullable=False, comment="主键"),
        sa.Column("case_id", sa.Uuid, nullable=False, comment="案件"),
        sa.Column("lawyer_id", sa.Uuid, nullable=False, comment="受邀律师"),
        sa.Column("invitation_score", sa.Numeric(5, 2), server_default=ZERO, nullable=False, comment="匹配评分"),
        sa.Column("reasoning", sa.Text, comment="推荐理由"),
        sa.Column(
            "status",
            sa.String(20),
            server_default="pending",
            nullable=False,
            comment="状态：pending待回复/accepted已接受/declined已拒绝/expired已过期",
        ),
        sa.Column("expires_at", TIME, nullable=False, comment="过期时间"),
        sa.Column("responded_at", TIME, comment="回复时间"),
        sa.Column("created_at", TIME, server_default=NOW, nullable=False, comment="创建时间"),
        sa.CheckConstraint(
            "status IN ('pending', 'accepted', 'declined', 'expired')", name=op.f("ck_case_invitations_status")
        ),
        sa.ForeignKeyConstraint(
            ["case_id"], ["cases.id"], name=op.f("fk_case_invitations_case_id_cases"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["lawyer_id"], ["users.id"], name=op.f("fk_case_invitations_lawyer_id_users"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_case_invitations")),
        sa.UniqueConstraint("case_id", "lawyer_id", name=op.f("uq_case_invitations_case_id_lawyer_id")),
        comment="案件邀请",
    )


def _create_matching_history() -> None:
    op.create_table(
        "matching_history",
        sa.Column("id", sa.Uuid, server_default=NEW_UUID, nullable=False, comment="主键"),
        sa.Column("case_id", sa.Uuid, nullable=False, comment="案件"),
        sa.Column("algorithm_version", sa.String(20), server_default="v1.0", nullable=False, comment="算法版本"),
        sa.Column("matching_factors", JSONB, server_default=OBJECT, nullable=False, comment="匹配因素"),
        sa.Column("candidate_lawyers", JSONB, server_default=LIST, nullable=False, comment="候选律师"),
        sa.Column("selected_lawyers", JSONB, server_default=LIST, nullable=False, comment="选中律师"),
        sa.Column("matching_duration", sa.Integer, comment="匹配耗时（毫秒）"),
        sa.Column("created_at", TIME, server_default=NOW, nullable=False, comment="创建时间"),
        sa.ForeignKeyConstraint(
            ["case_id"], ["cases.id"], name=op.f("fk_matching_history_case_id_cases"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_matching_history")),
        comment="案件匹配历史",
    )


def _create_case_reviews() -> None:
    op.create_table(
        "case_reviews",
        sa.Column("id", sa.Uuid, server_default=NEW_UUID, nullable=False, comment="主键"),
        sa.Column("case_id", sa.Uuid, nullable=False, comment="案件"),
        sa.Column("reviewer_id", sa.Uuid, nullable=False, comment="评价人"),
        sa.Column("lawyer_id", sa.Uuid, nullable=False, comment="被评价律师"),
        sa.Column("overall_rating", sa.Integer, nullable=False, comment="总体评分（1至5）"),
        sa.Column("professionalism_rating", sa.Integer, nullable=False, comment="专业性评分（1至5）"),
        sa.Column("response_speed_rating", sa.Integer, nullable=False, comment="响应速度评分（1至5）"),
        sa.Column("communication_rating", sa.Integer, nullable=False, comment="沟通评分（1至5）"),
        sa.Column("result_satisfaction_rating", sa.Integer, nullable=False, comment="结果满意度评分（1至5）"),
        sa.Column("written_feedback", sa.Text, comment="文字评价"),
        sa.Column("is_anonymous", sa.Boolean, server_default=FALSE, nullable=False, comment="是否匿名"),
        sa.Column("sentiment_score", sa.Numeric(3, 2), comment="情感分值"),
        sa.Column("key_topics", JSONB, server_default=LIST, nullable=False, comment="关键话题"),
        sa.Column("created_at", TIME, server_default=NOW, nullable=False, comment="创建时间"),
        sa.CheckConstraint("communication_rating BETWEEN 1 AND 5", name=op.f("ck_case_reviews_communication_rating")),
        sa.CheckConstraint("overall_rating BETWEEN 1 AND 5", name=op.f("ck_case_reviews_overall_rating")),
        sa.CheckConstraint(
            "professionalism_rating BETWEEN 1 AND 5", name=op.f("ck_case_reviews_professionalism_rating")
        ),
        sa.CheckConstraint("response_speed_rating BETWEEN 1 AND 5", name=op.f("ck_case_reviews_response_speed_rating")),
        sa.CheckConstraint(
            "result_satisfaction_rating BETWEEN 1 AND 5", name=op.f("ck_case_reviews_result_satisfaction_rating")
        ),
        sa.ForeignKeyConstraint(
            ["case_id"], ["cases.id"], name=op.f("fk_case_reviews_case_id_cases"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["lawyer_id"], ["users.id"], name=op.f("fk_case_reviews_lawyer_id_users"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["reviewer_id"], ["users.id"], name=op.f("fk_case_reviews_reviewer_id_users"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_case_reviews")),
        sa.UniqueConstraint("case_id", "reviewer_id", name=op.f("uq_case_reviews_case_id_reviewer_id")),
        comment="案件评价",
    )


def _create_ai_tool_usage() -> None:
    op.create_table(
        "ai_tool_usage",
        sa.Column("id", sa.Uuid, server_default=NEW_UUID, nullable=False, comment="主键"),
        sa.Column("user_id", sa.Uuid, nullable=False, comment="用户"),
        sa.Column("membership_id", sa.Uuid, comment="律师会员"),
        sa.Column("tool_type", sa.String(50), nullable=False, comment="工具类型"),
        sa.Column("credits_consumed", sa.Integer, server_default=sa.text("1"), nullable=False, comment="消耗额度"),
        sa.Column("input_data", JSONB, comment="输入数据"),
        sa.Column("output_data", JSONB, comment="输出数据"),
        sa.Column("processing_time", sa.Integer, comment="处理耗时（毫秒）"),
        sa.Column("success", sa.Boolean, server_default=TRUE, nullable=False, comment="是否成功"),
        sa.Column("error_message", sa.Text, comment="错误信息"),
        sa.Column("case_id", sa.Uuid, comment="关联案件"),
        sa.Column("created_at", TIME, server_default=NOW, nullable=False, comment="创建时间"),
        sa.ForeignKeyConstraint(
            ["case_id"], ["cases.id"], name=op.f("fk_ai_tool_usage_case_id_cases"), ondelete="SET NULL"
        ),
        sa.ForeignKeyConstraint(
            ["membership_id"],
            ["lawyer_memberships.id"],
            name=op.f("fk_ai_tool_usage_membership_id_lawyer_memberships"),
            ondelete="SET NULL",
        ),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name=op.f("fk_ai_tool_usage_user_id_users"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_ai_tool_usage")),
        comment="AI工具使用记录",
    )


def _create_batch_upload_tasks() -> None:
    op.create_table(
        "batch_upload_tasks",
        sa.Column("id", sa.Uuid, server_default=NEW_UUID, nullable=False, comment="主键"),
        sa.Column("user_id", sa.Uuid, nullable=False, comment="上传用户"),
        sa.Column(
            "task_type",
            sa.String(20),
            server_default="debt_collection",
            nullable=False,
            comment="任务类型：debt_collection债务催收/single_case单个案件",
        ),
        sa.Column("file_name", sa.String(255), nullable=False, comment="文件名"),
        sa.Column("file_size", sa.BigInteger, nullable=False, comment="文件大小（字节）"),
        sa.Column("total_records", sa.Integer, server_default=ZERO, nullable=False, comment="总记录数"),
        sa.Column("processed_records", sa.Integer, server_default=ZERO, nullable=False, comment="已处理记录数"),
        sa.Column("success_records", sa.Integer, server_default=ZERO, nullable=False, comment="成功记录数"),
        sa.Column("error_records", sa.Integer, server_default=ZERO, nullable=False, comment="失败记录数"),
        sa.Column("credits_cost", sa.Integer, server_default=ZERO, nullable=False, comment="消耗额度"),
        sa.Column(
            "status",
            sa.String(20),
            server_default="pending",
            nullable=False,
            comment="状态：pending待处理/processing处理中/completed已完成/failed失败",
        ),
        sa.Column("error_details", JSONB, server_default=LIST, nullable=False, comment="错误明细"),
        sa.Column(
            "estimated_revenue", sa.Numeric(15, 2), server_default=ZERO, nullable=False, comment="预计收入（元）"
        ),
        sa.Column("actual_revenue", sa.Numeric(15, 2), server_default=ZERO, nullable=False, comment="实际收入（元）"),
        sa.Column(
            "commission_rate", sa.Numeric(5, 4), server_default=sa.text("0.02"), nullable=False, comment="佣金比例"
        ),
        sa.Column("processing_started_at", TIME, comment="开始处理时间"),
        sa.Column("processing_completed_at", TIME, comment="完成处理时间"),
        sa.Column("created_at", TIME, server_default=NOW, nullable=False, comment="创建时间"),
        sa.CheckConstraint(
            "status IN ('pending', 'processing', 'completed', 'failed')", name=op.f("ck_batch_upload_tasks_status")
        ),
        sa.CheckConstraint(
            "task_type IN ('debt_collection', 'single_case')", name=op.f("ck_batch_upload_tasks_task_type")
        ),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name=op.f("fk_batch_upload_tasks_user_id_users"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_batch_upload_tasks")),
        comment="批量上传任务",
    )


def downgrade() -> None:
    for name, table, *_ in reversed(INDEXES):
        op.drop_index(op.f(name), table_name=table)
    for table in reversed(TABLES):
        op.drop_table(table)
