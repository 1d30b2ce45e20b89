"""What a check finds wrong."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

ERROR = "error"
WARNING = "warning"


@dataclass(frozen=True)
class Finding:
    """What is wrong with ``subject`` (``table``, ``table.column``, ``trigger on table``, …) and what to type."""

    subject: str
    problem: str
    hint: str
    severity: str = ERROR
    check: str = ""
    area: str = ""

    def as_json(self) -> dict[str, Any]:
        """Return the finding of cli.md."""
        return {
            "check": self.check,
            "area": self.area,
            "severity": self.severity,
            "subject": self.subject,
            "problem": str(self.problem),
            "hint": str(self.hint),
        }


def first_few(names: Sequence[str], most: int = 3) -> str:
    """Return names in a row, of very many the first ones."""
    return ", ".join(names[:most]) + (", …" if len(names) > most else "")
