"""Single damages to an upgraded database, and what one check says of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from rollout.checks.registry import CHECKS, run_checks
from rollout.findings import ERROR

if TYPE_CHECKING:
    from rollout.checks.registry import Subject
    from rollout.findings import Finding

LAWYER = "(SELECT lawyer_id FROM lawyer_level_details ORDER BY lawyer_id LIMIT 1)"
"""The id of a lawyer, as SQL."""


@dataclass(frozen=True)
class Damage:
    """SQL after which ``check`` must find something wrong with ``subject``, and nothing else."""

    check: str
    sql: str
    subject: str
    severity: str = ERROR

    def __str__(self) -> str:
        """Name the test."""
        return f"{self.check}-{self.subject}"


def findings(subject: Subject, check: str) -> list[Finding]:
    """Run one check on the database as it is now: nothing is remembered from before."""
    return run_checks([CHECKS[check]], replace(subject)).findings
