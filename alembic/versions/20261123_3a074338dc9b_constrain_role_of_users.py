"""Have the database refuse a role that the platform does not know.

Locks: ACCESS EXCLUSIVE on users, while the table is read once.
"""

from alembic import op

revision = "3a074338dc9b"
down_revision = "285eac9fb2f3"
branch_labels = None
depends_on = None

family = "accounts"
atomic = True
reversible = True
locks = {"users": "ACCESS EXCLUSIVE"}


def upgrade() -> None:
    op.create_check_constraint(op.f("ck_users_role"), "users", "role IN ('user', 'admin', 'super_admin')")


def downgrade() -> None:
    op.drop_constraint(op.f("ck_users_role"), "users", type_="check")
