"""Show for every lawyer the level and what the lawyer has achieved.

Locks: ACCESS SHARE on users, profiles, roles and user_roles, which stops nobody but a change of the tables themselves.
"""

from alembic import op

revision = "08ec0e22e271"
down_revision = "668800739bbf"
branch_labels = None
depends_on = None

family = "performance"
atomic = True
reversible = True
locks = {"users": "ACCESS SHARE", "profiles": "ACCESS SHARE", "roles": "ACCESS SHARE", "user_roles": "ACCESS SHARE"}

# EXISTS: a lawyer with several such roles is one row.
QUERY = """\
SELECT
    users.id AS lawyer_id,
    users.username,
    profiles.full_name,
    details.current_level,
    levels.name AS level_name,
    details.cases_completed,
    details.success_rate,
    details.client_rating,
    details.total_revenue,
    details.upgrade_eligible
FROM users
LEFT JOIN profiles ON profiles.user_id = users.id
LEFT JOIN lawyer_level_details details ON details.lawyer_id = users.id
LEFT JOIN lawyer_levels levels ON levels.level = details.current_level
WHERE EXISTS (
    SELECT FROM user_roles JOIN roles ON roles.id = user_roles.role_id
    WHERE user_roles.user_id = users.id AND roles.name = 'Lawyer'
)"""


def upgrade() -> None:
    op.create_view("lawyer_performance_summary", QUERY, comment="律师业绩汇总")


def downgrade() -> None:
    op.drop_view("lawyer_performance_summary")
