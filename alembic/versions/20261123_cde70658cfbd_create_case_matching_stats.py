"""Show for every case how many lawyers were invited and what they answered.

Locks: ACCESS SHARE on cases, which stops nobody but a change of the table itself.
"""

from alembic import op

revision = "cde70658cfbd"
down_revision = "8fddd0e1e177"
branch_labels = None
depends_on = None

family = "matching"
atomic = True
reversible = True
locks = {"cases": "ACCESS SHARE"}

QUERY = """\
SELECT
    cases.id AS case_id,
    cases.case_amount,
    cases.status,
    coalesce(invited.sent, 0) AS invitations_sent,
    coalesce(invited.accepted, 0) AS invitations_accepted,
    coalesce(invited.declined, 0) AS invitations_declined,
    invited.avg_match_score
FROM cases
LEFT JOIN (
    SELECT
        case_id,
        count(*) AS sent,
        count(*) FILTER (WHERE status = 'accepted') AS accepted,
        count(*) FILTER (WHERE status = 'declined') AS declined,
        avg(invitation_score) AS avg_match_score
    FROM case_invitations
    GROUP BY case_id
) invited ON invited.case_id = cases.id"""


def upgrade() -> None:
    op.create_view("case_matching_stats", QUERY, comment="案件匹配统计")


def downgrade() -> None:
    op.drop_view("case_matching_stats")
