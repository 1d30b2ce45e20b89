"""Levels that lawyers have, against what they earned; one that is due may come later: the application decides when."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rollout.checks.registry import Area, Subject, check
from rollout.findings import WARNING, Finding
from rollout.messages import say

if TYPE_CHECKING:
    from collections.abc import Iterator

# What a level asks for where it is a number; what is none is a finding of its own (levels_rise).
_ASKED = "CASE WHEN jsonb_typeof(l.requirements -> '{0}') = 'number' THEN (l.requirements ->> '{0}')::numeric END"

# Whose points fell keeps the level for a while: the application marks that, and looks again later.
_UNEARNED = (
    "FROM {source} d JOIN lawyer_levels l ON l.level = d.current_level WHERE l.level > 1 AND NOT d.downgrade_risk"
    f" AND (d.level_points < {_ASKED.format('level_points')}"
    f" OR d.cases_completed < {_ASKED.format('cases_completed')})"
)


@check(Area.BUSINESS, needs=("table lawyer_levels", "table lawyer_level_details"))
def levels_are_earned(subject: Subject) -> Iterator[Finding]:
    """No lawyer has a level without its points and cases, unless marked downgrade_risk (a warning)."""
    query = f"SELECT count(*) {_UNEARNED.format(source=subject.rows('lawyer_level_details'))}"
    count = subject.connection.exec_driver_sql(query).scalar_one()
    if count:
        yield Finding(
            "lawyer_level_details.current_level",
            say("{count} lawyer(s) have a level whose points or cases they do not have", count=count),
            "SELECT d.lawyer_id, d.current_level, d.level_points, d.cases_completed, l.requirements"
            f" {_UNEARNED.format(source='lawyer_level_details')};",
            WARNING,
        )
