"""Map every user there is to the workspace that the user has.

Locks: SHARE ROW EXCLUSIVE on users, roles and user_roles, so that no user is missed and what is read here is still true
at COMMIT: writers wait, readers do not. A mapping that is there already stays.
"""

from alembic import op

revision = "6d7476934f6e"
down_revision = "4779b0bfacc1"
branch_labels = None
depends_on = None

family = "auth"
atomic = True
reversible = True
locks = {"users": "SHARE ROW EXCLUSIVE", "roles": "SHARE ROW EXCLUSIVE", "user_roles": "SHARE ROW EXCLUSIVE"}

FILL = """\
INSERT INTO workspace_mappings (user_id, workspace_id, workspace_type, is_demo)
SELECT
    users.id,
    users.workspace_id,
    CASE
        WHEN EXISTS (
            SELECT FROM user_roles JOIN roles ON roles.id = user_roles.role_id
            WHERE user_roles.user_id = users.id AND roles.name = 'Lawyer'
        ) THEN 'lawyer'
        WHEN EXISTS (
            SELECT FROM user_roles JOIN roles ON roles.id = user_roles.role_id
            WHERE user_roles.user_id = users.id AND roles.name = 'Admin'
        ) THEN 'admin'
        ELSE 'user'
    END,
    false
FROM users
ON CONFLICT DO NOTHING"""


def upgrade() -> None:
    op.backfill("workspace_mappings", FILL)


def downgrade() -> None:
    """Leave the rows: they go with their table, and nobody can tell them from those made since."""
