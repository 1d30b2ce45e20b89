"""Give one weekly credit to every user there is with the role User or Institution.

Locks: SHARE ROW EXCLUSIVE on users, roles and user_roles, so that no user is missed and what is read here is still true
at COMMIT: writers wait, readers do not. A row that is there already stays.
"""

from alembic import op

revision = "f295d3e43824"
down_revision = "f7c745c5c5f1"
branch_labels = None
depends_on = None

family = "credits"
atomic = True
reversible = True
locks = {"users": "SHARE ROW EXCLUSIVE", "roles": "SHARE ROW EXCLUSIVE", "user_roles": "SHARE ROW EXCLUSIVE"}

FILL = """\
INSERT INTO user_credits (user_id, credits_weekly, credits_remaining)
SELECT users.id, 1, 1
FROM users
WHERE EXISTS (
    SELECT FROM user_roles JOIN roles ON roles.id = user_roles.role_id
    WHERE user_roles.user_id = users.id AND roles.name IN ('User', 'Institution')
)
ON CONFLICT (user_id) DO NOTHING"""


def upgrade() -> None:
    op.backfill("user_credits", FILL)


def downgrade() -> None:
    """Leave the rows: they go with their table, and nobody can tell them from those made since."""
