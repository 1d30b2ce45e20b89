"""Give the users there are a workspace of their own and the account type that their roles say.

Locks: SHARE ROW EXCLUSIVE on users (its triggers keep still meanwhile) and on roles and user_roles, so that what is
read here is still true at COMMIT: writers wait, readers do not. One pass; a value that is there already stays.
"""

from alembic import op

revision = "0c2968d611e1"
down_revision = "5bef0e4363e7"
branch_labels = None
depends_on = None

family = "auth"
atomic = True
reversible = True
locks = {"users": "SHARE ROW EXCLUSIVE", "roles": "SHARE ROW EXCLUSIVE", "user_roles": "SHARE ROW EXCLUSIVE"}

FILL = """\
UPDATE users SET
    workspace_id = coalesce(workspace_id, 'ws-' || replace(gen_random_uuid()::text, '-', '')),
    account_type = coalesce(account_type, CASE
        WHEN EXISTS (
            SELECT FROM user_roles JOIN roles ON roles.id = user_roles.role_id
            WHERE user_roles.user_id = users.id AND roles.name = 'Lawyer'
        ) THEN 'lawyer'
        WHEN EXISTS (
            SELECT FROM user_roles JOIN roles ON roles.id = user_roles.role_id
            WHERE user_roles.user_id = users.id AND roles.name = 'Admin'
        ) THEN 'admin'
        ELSE 'user'
    END)
WHERE workspace_id IS NULL OR account_type IS NULL"""


def upgrade() -> None:
    op.backfill("users", FILL)


def downgrade() -> None:
    """Leave the values: they go with their columns, and nobody can tell them from those made since."""
