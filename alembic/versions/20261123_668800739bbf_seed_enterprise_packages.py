"""Offer the four service packages to enterprises.

Locks: none on anything that was there before us; a row that is there already stays as it is.
"""

import json
from decimal import Decimal

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB, insert

revision = "668800739bbf"
down_revision = "d2bf78575166"
branch_labels = None
depends_on = None

family = "enterprise"
atomic = True
reversible = True
locks = {}

packages = sa.table(
    "enterprise_service_packages",
    sa.column("id", sa.Uuid),
    sa.column("package_name", sa.String),
    sa.column("package_type", sa.String),
    sa.column("monthly_fee", sa.Numeric(15, 2)),
    sa.column("case_volume_limit", sa.Integer),
    sa.column("features", JSONB),
    sa.column("ai_credits_included", sa.Integer),
    sa.column("dedicated_support", sa.Boolean),
    sa.column("sla_response_time", sa.Integer),
    sa.column("is_active", sa.Boolean),
)
subscriptions = sa.table("enterprise_subscriptions", sa.column("package_id", sa.Uuid))


def _json(value: object) -> sa.ColumnElement[object]:
    """Return the value as jsonb, in a form that ``--sql`` can write too."""
    return sa.cast(sa.literal(json.dumps(value, ensure_ascii=False), sa.Text), JSONB)


ROWS = [
    {
        "package_name": "基础企业版",
        "package_type": "basic",
        "monthly_fee": Decimal("9999.00"),
        "case_volume_limit": 500,
        "features": _json(["batch_debt_collection", "basic_reporting", "email_support", "success_rate_tracking"]),
        "ai_credits_included": 1000,
        "dedicated_support": False,
        "sla_response_time": 48,
        "is_active": True,
    },
    {
        "package_name": "专业企业版",
        "package_type": "professional",
        "monthly_fee": Decimal("29999.00"),
        "case_volume_limit": 2000,
        "features": _json(
            [
                "batch_debt_collection",
                "advanced_reporting",
                "priority_support",
                "custom_templates",
                "success_rate_tracking",
                "custom_reports",
            ]
        ),
        "ai_credits_included": 5000,
        "dedicated_support": True,
        "sla_response_time": 24,
        "is_active": True,
    },
    {
        "package_name": "旗舰企业版",
        "package_type": "enterprise",
        "monthly_fee": Decimal("99999.00"),
        "case_volume_limit": 10000,
        "features": _json(
            [
                "batch_debt_collection",
                "real_time_reporting",
                "dedicated_support",
                "custom_integration",
                "white_label",
                "success_rate_tracking",
                "api_access",
            ]
        ),
        "ai_credits_included": 20000,
        "dedicated_support": True,
        "sla_response_time": 4,
        "is_active": True,
    },
    {
        "package_name": "定制企业版",
        "package_type": "custom",
        "monthly_fee": Decimal("199999.00"),
        "case_volume_limit": 50000,
        "features": _json(
            [
                "unlimited_features",
                "custom_development",
                "dedicated_team",
                "on_premise_deployment",
                "success_rate_tracking",
                "api_access",
            ]
        ),
        "ai_credits_included": 100000,
        "dedicated_support": True,
        "sla_response_time": 2,
        "is_active": True,
    },
]


def upgrade() -> None:
    op.execute(insert(packages).values(ROWS).on_conflict_do_nothing())


def downgrade() -> None:
    """Remove the rows that nobody edited or subscribed to; the others go with the table."""
    for row in ROWS:
        unedited = (packages.c[column] == value for column, value in row.items())
        subscribed = sa.exists().where(subscriptions.c.package_id == packages.c.id)
        op.execute(sa.delete(packages).where(*unedited, ~subscribed))
