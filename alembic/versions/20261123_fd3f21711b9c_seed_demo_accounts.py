"""Show the platform to visitors: the demo workspaces of a lawyer and of a user.

Locks: none on anything that was there before us; a row that is there already stays as it is.
"""

import json

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB, insert

revision = "fd3f21711b9c"
down_revision = "6d7476934f6e"
branch_labels = None
depends_on = None

family = "auth"
atomic = True
reversible = True
locks = {}

demo_accounts = sa.table(
    "demo_accounts",
    sa.column("demo_type", sa.String),
    sa.column("workspace_id", sa.String),
    sa.column("display_name", sa.String),
    sa.column("demo_data", JSONB),
    sa.column("is_active", sa.Boolean),
)


def _json(value: object) -> sa.ColumnElement[object]:
    """Return the value as jsonb, in a form that ``--sql`` can write too."""
    return sa.cast(sa.literal(json.dumps(value, ensure_ascii=False), sa.Text), JSONB)


ROWS = [
    {
        "demo_type": "lawyer",
        "workspace_id": "demo-lawyer-001",
        "display_name": "张律师（演示）",
        "demo_data": _json(
            {
                "specialties": ["合同纠纷", "债务催收", "公司法务"],
                "experience_years": 8,
                "success_rate": 92.5,
                "cases_handled": 156,
                "client_rating": 4.8,
                "demo_cases": [
                    {"id": "demo-case-001", "title": "合同违约纠纷", "amount": 50000, "status": "进行中"},
                    {"id": "demo-case-002", "title": "债务催收案件", "amount": 120000, "status": "已完成"},
                ],
            }
        ),
        "is_active": True,
    },
    {
        "demo_type": "user",
        "workspace_id": "demo-user-001",
        "display_name": "李先生（演示）",
        "demo_data": _json(
            {
                "company": "某科技公司",
                "cases_published": 3,
                "total_amount": 180000,
                "demo_cases": [
                    {"id": "demo-case-003", "title": "劳动合同纠纷", "amount": 30000, "status": "匹配中"},
                ],
            }
        ),
        "is_active": True,
    },
]


def upgrade() -> None:
    op.execute(insert(demo_accounts).values(ROWS).on_conflict_do_nothing())


def downgrade() -> None:
    """Remove the rows that nobody edited; the others go with the table."""
    for row in ROWS:
        unedited = (demo_accounts.c[column] == value for column, value in row.items())
        op.execute(sa.delete(demo_accounts).where(*unedited))
