"""Have the database see to it that every user has a workspace, nobody else's, and a known account type.

Locks: ACCESS EXCLUSIVE on users, while the table is read once for each constraint and index (seconds for a million).
The default of each column lets an older version of the application, which knows neither, still INSERT.
"""

from alembic import op

revision = "ec637ee72d0b"
down_revision = "0c2968d611e1"
branch_labels = None
depends_on = None

family = "auth"
atomic = True
reversible = True
locks = {"users": "ACCESS EXCLUSIVE"}

ACCOUNT_TYPE = "account_type IN ('pending', 'user', 'lawyer', 'lawyer_pending', 'admin')"


def upgrade() -> None:
    op.alter_column("users", "workspace_id", nullable=False)
    op.alter_column("users", "account_type", nullable=False)
    op.create_unique_constraint(op.f("uq_users_workspace_id"), "users", ["workspace_id"])
    op.create_check_constraint(op.f("ck_users_account_type"), "users", ACCOUNT_TYPE)
    op.create_index(op.f("ix_users_account_type"), "users", ["account_type"])
    op.create_index(op.f("ix_users_email_verified"), "users", ["email_verified"])


def downgrade() -> None:
    op.drop_index(op.f("ix_users_email_verified"), table_name="users")
    op.drop_index(op.f("ix_users_account_type"), table_name="users")
    op.drop_constraint(op.f("ck_users_account_type"), "users", type_="check")
    op.drop_constraint(op.f("uq_users_workspace_id"), "users", type_="unique")
    op.alter_column("users", "account_type", nullable=True)
    op.alter_column("users", "workspace_id", nullable=True)
