<%doc>
The template teaches the rules of alembic/versions; tests/migrations/test_revision_files.py holds them.
</%doc>\
<%
    def quoted(value):
        return repr(value).replace("'", '"')
%>\
"""${message if message else "TODO"}: say what changes for the application, not for the schema.

Locks: the strongest lock on each table that was there before us, and why holding it is safe.
"""

# Delete these comments once you have followed them.
# Frozen from the day it is released: imports alembic, sqlalchemy and the standard library, nothing of ours. Models
# change, history does not; copy the few columns that you need into a literal sa.table.

import sqlalchemy as sa
from alembic import op
${imports if imports else ""}
revision = ${quoted(up_revision)}
down_revision = ${quoted(down_revision)}
branch_labels = ${quoted(branch_labels)}
depends_on = ${quoted(depends_on)}

# The last family, or a new one after it: the history is one line, and `tool rollback --to FAMILY` keeps the family.
family = "TODO"
# False: cannot run inside the one transaction (CREATE INDEX CONCURRENTLY). Nothing else is a reason.
atomic = True
# False: downgrade() raises NotImplementedError and says why; a rollback past it is refused before it begins.
reversible = True
# For tables that were there before us, the strongest mode that upgrade() takes; `tool migrate` takes them all before it
# reads anything. ALTER TABLE: ACCESS EXCLUSIVE. The target of a new foreign key: SHARE ROW EXCLUSIVE. A table that a
# backfill writes or reads: the same, so that what it read is still true at COMMIT. The tables of a view: ACCESS SHARE.
locks = {}

# One concern: one family of tables, one view, one backfill or one seed. Slug: a verb (create_ add_ drop_ rename_ index_
# constrain_ validate_ backfill_ seed_), then what. No DDL through op.execute: the operations leave alone what was there
# before us, and work with --sql, so nothing here reads a result.
#
# An existing table is never rewritten. Each step is a revision of its own, in the same family:
#   1. add the column, nullable and without a volatile default; then give it its default, for new rows
#   2. op.backfill, one pass over the rows that lack a value: other people's triggers keep still, what is there stays
#   3. NOT NULL, constraints, indexes
# Names are literal, in op.f, by the convention of models/base.py and at most 63 bytes long. Every foreign key column
# leads an index. New tables and columns have comments in Chinese. A new table with updated_at gets its trigger, on
# lawsker_touch_updated_at(). Seed rows are literal and do nothing on conflict; their downgrade removes those that
# nobody edited or refers to.


def upgrade() -> None:
    ${upgrades if upgrades else "pass"}


# The exact reverse, last made first, never CASCADE. Each operation above needs its own here, also indexes and triggers,
# before their table: a table that was there before us stays, and must lose what we put on it.
def downgrade() -> None:
    ${downgrades if downgrades else "pass"}
