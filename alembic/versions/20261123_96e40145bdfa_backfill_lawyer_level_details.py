"""Start every lawyer there is at level 1, with the cases completed so far.

Locks: SHARE ROW EXCLUSIVE on users, roles, user_roles and cases, so that no lawyer is missed and what is counted here
is still true at COMMIT: writers wait, readers do not. A row that is there already stays.
"""

from alembic import op

revision = "96e40145bdfa"
down_revision = "74232c32a672"
branch_labels = None
depends_on = None

family = "levels"
atomic = True
reversible = True
locks = {
    "users": "SHARE ROW EXCLUSIVE",
    "roles": "SHARE ROW EXCLUSIVE",
    "user_roles": "SHARE ROW EXCLUSIVE",
    "cases": "SHARE ROW EXCLUSIVE",
}

# The cases are read once for all lawyers; EXISTS counts a lawyer with several such roles once.
FILL = """\
INSERT INTO lawyer_level_details (lawyer_id, current_level, level_points, cases_completed, success_rate)
SELECT
    users.id,
    1,
    0,
    coalesce(assigned.completed, 0),
    coalesce(round(100.0 * assigned.completed / assigned.total, 2), 0)
FROM users
LEFT JOIN (
    SELECT assigned_to_user_id, count(*) AS total, count(*) FILTER (WHERE status = 'COMPLETED') AS completed
    FROM cases
    WHERE assigned_to_user_id IS NOT NULL
    GROUP BY assigned_to_user_id
) assigned ON assigned.assigned_to_user_id = users.id
WHERE EXISTS (
    SELECT FROM user_roles JOIN roles ON roles.id = user_roles.role_id
    WHERE user_roles.user_id = users.id AND roles.name = 'Lawyer'
)
ON CONFLICT (lawyer_id) DO NOTHING"""


def upgrade() -> None:
    op.backfill("lawyer_level_details", FILL)


def downgrade() -> None:
    """Leave the rows: they go with their table, and nobody can tell them from those made since."""
