"""How values read to an operator, in English or Chinese: states, sizes, times, tables, errors, findings. Pure text."""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING, Any

from rollout.findings import ERROR
from rollout.messages import in_chinese, say

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from rollout.findings import Finding
    from rollout.run import Run, Step

_STATES = {
    "untouched": say("untouched"),
    "changed": say("changed"),
    "rolled back": say("rolled back"),
    "restored": say("restored"),
    "unknown": say("unknown"),
}

_STEPS = {
    "connect": say("connect"), "plan": say("plan"), "preflight": say("preflight"), "backup": say("backup"),
    "read back": say("read back"), "fingerprint": say("fingerprint"), "upgrade": say("upgrade"),
    "downgrade": say("downgrade"), "verify": say("verify"), "commit": say("commit"), "analyze": say("analyze"),
    "audit": say("audit"), "receipt": say("receipt"), "shelve": say("shelve"), "unshelve": say("unshelve"),
    "look": say("look"), "record": say("record"), "lint": say("lint"), "restore": say("restore"),
    "compare": say("compare"), "swap": say("swap"), "drop": say("drop"), "undo": say("undo"), "copy": say("copy"),
    "reconcile": say("reconcile"), "accounts": say("accounts"), "check files": say("check files"),
    "compare with today": say("compare with today"), "Pagtive source": say("Pagtive source"),
    "legacy database": say("legacy database"), "rehearse upgrade": say("rehearse upgrade"),
    "rehearse verify": say("rehearse verify"), "rehearse rollback": say("rehearse rollback"),
    "rehearse compare": say("rehearse compare"), "rehearse upgrade again": say("rehearse upgrade again"),
    "rehearse verify again": say("rehearse verify again"), "upload": say("upload"), "download": say("download"),
    "mend": say("mend"),
}  # fmt: skip

_OF_TABLES = {"copy": say("copy"), "merge": say("merge")}

_AREAS = {
    "preflight": say("preflight"), "structure": say("structure"), "data": say("data"), "business": say("business"),
    "performance": say("performance"), "security": say("security"),
}  # fmt: skip

_UNITS = {"rows": say("rows"), "bytes": say("bytes")}

_SIZES = ("B", "KB", "MB", "GB", "TB")


class Speaker:
    """Turns messages and values into the operator's language."""

    def __init__(self, *, chinese: bool) -> None:
        """Choose the language."""
        self.chinese = chinese

    def __call__(self, message: str) -> str:
        """Return a message's text in the operator's language."""
        return in_chinese(message) if self.chinese else str(message)

    def state(self, database: str) -> str:
        """Return a database's state in words."""
        return self(_STATES.get(database, database))

    def unit(self, unit: str) -> str:
        """Return what is counted."""
        return self(_UNITS.get(unit, unit))

    def area(self, area: str) -> str:
        """Return an area of checks."""
        return self(_AREAS.get(area, area))

    def step_name(self, name: str) -> str:
        """Return a step's name."""
        first, _, table = name.partition(" ")
        if table and first in _OF_TABLES and name not in _STEPS:
            return self(say("{step} {table}", step=_OF_TABLES[first], table=table))
        return self(_STEPS.get(name, name))

    def step(self, step: Step) -> str:
        """Return one line about a step that has ended."""
        mark = "✓" if step.ok else "✗"
        # Why a step failed is said in full at the end.
        detail = self(step.detail) if step.ok else clipped(self(step.detail), 80)
        # A name that is longer takes the room before the time, so that what follows stands in one column still.
        name = padded(self.step_name(step.name), 12)
        seconds = padded(duration(step.seconds), 20 - width(name), right=True)
        return f"{mark} {name} {seconds}  {detail}".rstrip()

    def value(self, value: object) -> str:  # noqa: PLR0911 - one a kind
        """Return any value on one line: nothing as a dash, numbers with separators, times without fractions."""
        if value is None or value == "":
            return "-"
        if isinstance(value, bool):
            return self(say("yes")) if value else self(say("no"))
        if isinstance(value, int):
            return f"{value:,}"
        if isinstance(value, float):
            return f"{value:,.3f}".rstrip("0").rstrip(".")
        if isinstance(value, (list, tuple)):
            return ", ".join(self.value(one) for one in value) or "-"
        if isinstance(value, dict):
            return ", ".join(f"{name} {self.value(one)}" for name, one in value.items()) or "-"
        return self(value) if isinstance(value, str) else str(value)


def width(text: str) -> int:
    """Return how many cells of a terminal a text takes: Chinese characters take two."""
    return sum(2 if unicodedata.east_asian_width(one) in "WF" else 1 for one in text if not unicodedata.combining(one))


def clipped(text: str, cells: int) -> str:
    """Return a text cut off where it would take more cells."""
    if width(text) <= cells:
        return text
    while width(text) >= cells:
        text = text[:-1]
    return text + "…"


def padded(text: str, cells: int, *, right: bool = False) -> str:
    """Return a text filled up to a number of cells."""
    blanks = " " * max(cells - width(text), 0)
    return blanks + text if right else text + blanks


def size(number: float | None) -> str:
    """Return bytes as people read them: 1.2 MB."""
    if number is None:
        return "-"
    value, place = float(number), 0
    while value >= 1000 and place < len(_SIZES) - 1:  # noqa: PLR2004 - the next unit
        value, place = value / 1000, place + 1
    return f"{value:.0f} {_SIZES[place]}" if place == 0 or value >= 100 else f"{value:.1f} {_SIZES[place]}"  # noqa: PLR2004


def duration(seconds: float | None) -> str:
    """Return seconds as people read them: 0.3 s, 2 min 5 s, 3 h 4 min."""
    if seconds is None:
        return "-"
    if seconds < 60:  # noqa: PLR2004 - a minute
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:  # noqa: PLR2004 - an hour
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"  # noqa: PLR2004 - two days


def moment(text: str | None) -> str:
    """Return an ISO time to the second, without its zone where that is UTC."""
    return "-" if not text else text[:19].replace("T", " ") + ("" if text.endswith(("+00:00", "Z")) else text[-6:])


def table(
    heads: Sequence[str], rows: Iterable[Sequence[object]], speak: Speaker, *, indent: str = "  "
) -> Iterator[str]:
    """Yield the lines of a table; columns of numbers stand to the right. Nothing where there is no row."""
    found = [list(row) for row in rows]
    if not found:
        return
    numbers = [all(isinstance(row[i], (int, float)) or row[i] is None for row in found) for i in range(len(heads))]
    cells = [[speak.value(value) for value in row] for row in found]
    texts = [[speak(head) for head in heads], *cells]
    widths = [max(width(row[i]) for row in texts) for i in range(len(heads))]
    for row in texts:
        fields = (padded(text, cells_, right=right) for text, cells_, right in zip(row, widths, numbers, strict=True))
        yield (indent + "  ".join(fields)).rstrip()


def revision_name(identifier: str | None) -> str:
    """Return a revision as people know it: its family, and its id."""
    from rollout import plan  # noqa: PLC0415 - Alembic is slow to import, and most texts need none of it

    if identifier is None:
        return say("before the first upgrade")
    families = plan.family_of()
    return f"{families[identifier]} ({identifier})" if identifier in families else identifier


def place(run: Run) -> str:
    """Return where a run's database is."""
    target = run.target
    return f"{target.host}:{target.port}/{target.dbname}" if target is not None else "-"


def error_lines(run: Run, speak: Speaker) -> Iterator[str]:
    """Yield what went wrong, what to do, and the database's state: one line each."""
    if run.error is not None:
        yield speak(say("error: {message}", message=run.error.message))
        yield speak(say("hint:  {hint}", hint=run.error.hint))
    yield speak(say("The database is {state}.", state=_STATES.get(run.database, run.database)))


def finding_lines(findings: Iterable[Finding], speak: Speaker) -> Iterator[tuple[str, str]]:
    """Yield (kind, line) of findings, grouped by area, errors first; kinds: area, error, warning, hint."""
    area = None
    for finding in sorted(findings, key=lambda one: (one.area, one.severity != ERROR)):
        if finding.area != area:
            area = finding.area
            yield "area", speak.area(area)
        mark = "✗" if finding.severity == ERROR else "!"
        yield finding.severity, f"  {mark} {finding.subject}: {speak(finding.problem)}"
        if finding.hint:
            yield "hint", f"      → {speak(finding.hint)}"


def result_lines(values: dict[str, Any], speak: Speaker, indent: str = "") -> Iterator[str]:
    """Yield any result as indented lines, for what has no form of its own: lists of objects become tables."""
    for name, value in values.items():
        if isinstance(value, dict) and value:
            yield f"{indent}{name}:"
            yield from result_lines(value, speak, indent + "  ")
        elif isinstance(value, list) and value and all(isinstance(one, dict) for one in value):
            yield f"{indent}{name}:"
            heads = list(dict.fromkeys(key for one in value for key in one))
            yield from table(heads, ([one.get(head) for head in heads] for one in value), speak, indent=indent + "  ")
        else:
            yield f"{indent}{name}: {speak.value(value)}"
