"""Set up the ten levels of lawyers, from trainee to chief partner.

Locks: none on anything that was there before us; a row that is there already stays as it is.
"""

import json
from decimal import Decimal

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB, insert

revision = "74232c32a672"
down_revision = "056f526bbaf8"
branch_labels = None
depends_on = None

family = "levels"
atomic = True
reversible = True
locks = {}

lawyer_levels = sa.table(
    "lawyer_levels",
    sa.column("level", sa.Integer),
    sa.column("name", sa.String),
    sa.column("requirements", JSONB),
    sa.column("benefits", JSONB),
    sa.column("daily_case_limit", sa.Integer),
    sa.column("monthly_amount_limit", sa.Numeric(15, 2)),
    sa.column("priority_weight", sa.Numeric(3, 2)),
)
lawyer_level_details = sa.table("lawyer_level_details", sa.column("current_level", sa.Integer))

# level, name, points and cases it takes, membership suggested, AI credits, cases a day, CNY a month, weight
LEVELS = (
    (1, "见习律师", 0, 0, "free", 20, 2, 5000, "1.0"),
    (2, "初级律师", 500, 3, "free", 30, 3, 8000, "1.1"),
    (3, "助理律师", 1500, 8, "professional", 50, 5, 15000, "1.2"),
    (4, "执业律师", 4000, 20, "professional", 100, 8, 50000, "1.3"),
    (5, "资深律师", 10000, 50, "professional", 200, 12, 100000, "1.5"),
    (6, "专业律师", 25000, 120, "professional", 350, 18, 200000, "1.7"),
    (7, "高级律师", 60000, 300, "enterprise", 500, 25, 400000, "2.0"),
    (8, "合伙人律师", 150000, 700, "enterprise", 800, 35, 800000, "2.5"),
    (9, "高级合伙人", 350000, 1500, "enterprise", 1200, 50, 1500000, "3.0"),
    (10, "首席合伙人", 800000, 3000, "enterprise", 2000, 80, 3000000, "4.0"),
)


def _json(value: object) -> sa.ColumnElement[object]:
    """Return the value as jsonb, in a form that ``--sql`` can write too."""
    return sa.cast(sa.literal(json.dumps(value, ensure_ascii=False), sa.Text), JSONB)


ROWS = [
    {
        "level": level,
        "name": name,
        "requirements": _json({"level_points": points, "cases_completed": cases}),
        "benefits": _json({"membership_suggestion": membership, "ai_credits": ai_credits}),
        "daily_case_limit": daily,
        "monthly_amount_limit": Decimal(monthly),
        "priority_weight": Decimal(weight),
    }
    for level, name, points, cases, membership, ai_credits, daily, monthly, weight in LEVELS
]


def upgrade() -> None:
    op.execute(insert(lawyer_levels).values(ROWS).on_conflict_do_nothing())


def downgrade() -> None:
    """Remove the rows that nobody edited and no lawyer stands at; the others go with the table."""
    for row in ROWS:
        unedited = (lawyer_levels.c[column] == value for column, value in row.items())
        in_use = sa.exists().where(lawyer_level_details.c.current_level == lawyer_levels.c.level)
        op.execute(sa.delete(lawyer_levels).where(*unedited, ~in_use))
