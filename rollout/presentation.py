"""How a run reads on a terminal, in English or Chinese; pure text, the CLI prints it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rollout.findings import ERROR
from rollout.messages import in_chinese, say

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rollout.run import Run, Step

_STATES = {
    "untouched": say("untouched"),
    "changed": say("changed"),
    "rolled back": say("rolled back"),
    "restored": say("restored"),
    "unknown": say("unknown"),
}


class Speaker:
    """Turns messages into the operator's language."""

    def __init__(self, *, chinese: bool) -> None:
        """Choose the language."""
        self.chinese = chinese

    def __call__(self, message: str) -> str:
        """Return a message's text in the operator's language."""
        return in_chinese(message) if self.chinese else str(message)

    def state(self, database: str) -> str:
        """Return a database's state in words."""
        return self(_STATES.get(database, database))

    def step(self, step: Step) -> str:
        """Return one line about a step that has ended."""
        mark = "✓" if step.ok else "✗"
        return f"{mark} {step.name}  {step.seconds:.1f} s  {self(step.detail)}".rstrip()


def error_lines(run: Run, speak: Speaker) -> Iterator[str]:
    """Yield what went wrong, what to do, and the database's state: one line each."""
    if run.error is not None:
        yield speak(say("error: {message}", message=run.error.message))
        yield speak(say("hint:  {hint}", hint=run.error.hint))
    yield speak(say("The database is {state}.", state=_STATES.get(run.database, run.database)))


def finding_lines(run: Run, speak: Speaker) -> Iterator[str]:
    """Yield the findings, grouped by area, errors first."""
    area = None
    for finding in sorted(run.findings, key=lambda one: (one.area, one.severity != ERROR)):
        if finding.area != area:
            area = finding.area
            yield f"[{area}]"
        mark = "✗" if finding.severity == ERROR else "!"
        yield f"  {mark} {finding.subject}: {speak(finding.problem)}"
        yield f"      → {speak(finding.hint)}"


def result_lines(values: dict[str, Any], speak: Speaker, indent: str = "") -> Iterator[str]:
    """Yield a result's values as indented lines; lists of objects become one line an object."""
    for name, value in values.items():
        if isinstance(value, dict):
            yield f"{indent}{name}:"
            yield from result_lines(value, speak, indent + "  ")
        elif isinstance(value, list):
            yield f"{indent}{name}: {len(value)}"
            for item in value:
                text = "  ".join(f"{k}={_short(v)}" for k, v in item.items()) if isinstance(item, dict) else str(item)
                yield f"{indent}  {text}"
        else:
            yield f"{indent}{name}: {_short(value)}"


def _short(value: object) -> str:
    """Return a value on one line; None as a dash."""
    return "-" if value is None else str(value)
