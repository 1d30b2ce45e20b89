"""Let the database keep updated_at of the new tables: the trigger function for it.

Locks: none; a function of our own name. Production's own update_updated_at_column() is neither used nor touched.
"""

from alembic import op

revision = "0df70416a7c3"
down_revision = "cff7cdcfa179"
branch_labels = None
depends_on = None

family = "auth"
atomic = True
reversible = True
locks = {}

TOUCH = """\
CREATE FUNCTION lawsker_touch_updated_at() RETURNS trigger LANGUAGE plpgsql AS $touch$
BEGIN
    NEW.updated_at = now();
    RETURN NEW;
END
$touch$"""


def upgrade() -> None:
    op.create_function("lawsker_touch_updated_at()", TOUCH)


def downgrade() -> None:
    op.drop_function("lawsker_touch_updated_at()")
