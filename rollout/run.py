"""One run of one command: its steps with their times, its outcome, and what it tells on the way.

Everything that a command does goes through a ``Run``; the CLI renders it, the report writes it down, ``rollout.memory``
keeps it in the database.
"""

from __future__ import annotations

import time
import uuid
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, Protocol

from rollout.errors import UNTOUCHED, RolloutError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rollout.database import Target
    from rollout.findings import Finding


class Listener(Protocol):
    """Where talk and progress go; the CLI has one for a terminal and one for plain lines."""

    def step_started(self, name: str) -> None:
        """Hear that a step begins."""

    def step_ended(self, step: Step) -> None:
        """Hear how a step ended."""

    def note(self, message: str) -> None:
        """Hear one line of talk."""

    def progress(self, name: str, done: int, total: int | None, unit: str) -> None:
        """Hear how far a long step is; ``unit`` is 'rows' or 'bytes', ``total`` None where it is not known."""


class Silent:
    """A listener that hears nothing."""

    def step_started(self, name: str) -> None:
        """Ignore."""

    def step_ended(self, step: Step) -> None:
        """Ignore."""

    def note(self, message: str) -> None:
        """Ignore."""

    def progress(self, name: str, done: int, total: int | None, unit: str) -> None:
        """Ignore."""


@dataclass
class Step:
    """One step of a run; ``detail`` is one line."""

    name: str
    ok: bool = False
    seconds: float = 0.0
    detail: str = ""


def _now() -> datetime:
    """Return the time, with its zone."""
    return datetime.now(timezone.utc)


@dataclass
class Run:
    """What one command did. ``result`` holds the command's own keys of cli.md; ``database`` the state it leaves."""

    command: str
    listener: Listener = field(default_factory=Silent)
    run_id: str = field(default_factory=lambda: uuid.uuid4().hex[:12])
    recorded: bool = False
    target: Target | None = None
    database: str = UNTOUCHED
    started_at: datetime = field(default_factory=_now)
    finished_at: datetime | None = None
    steps: list[Step] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    result: dict[str, Any] = field(default_factory=dict)
    error: RolloutError | None = None
    exit_code: int = 0

    @contextmanager
    def step(self, name: str) -> Iterator[Step]:
        """Time one step; it is ok when its block ends without an error."""
        step = Step(name)
        self.steps.append(step)
        self.listener.step_started(name)
        begin = time.monotonic()
        try:
            yield step
            step.ok = True
        except RolloutError as error:
            step.detail = step.detail or error.message
            raise
        except BaseException as error:
            step.detail = step.detail or str(error).split("\n", 1)[0]
            raise
        finally:
            step.seconds = round(time.monotonic() - begin, 3)
            self.listener.step_ended(step)

    def failed(self, error: RolloutError) -> None:
        """Keep what stopped the run."""
        self.error = error
        self.exit_code = error.exit_code
        self.database = error.database
        self.findings.extend(finding for finding in error.findings if finding not in self.findings)

    def finish(self) -> None:
        """Note when the run ended (once)."""
        if self.finished_at is None:
            self.finished_at = _now()

    @property
    def seconds(self) -> float:
        """How long the run took, so far or in all."""
        return round(((self.finished_at or _now()) - self.started_at).total_seconds(), 3)

    def as_json(self) -> dict[str, Any]:
        """Return the JSON object of cli.md."""
        values: dict[str, Any] = {
            "command": self.command,
            "ok": self.exit_code == 0,
            "exit_code": self.exit_code,
            **({"run_id": self.run_id} if self.recorded else {}),
            "database": self.database,
            "target": self.target.as_json() if self.target else None,
            "started_at": self.started_at.isoformat(),
            "finished_at": (self.finished_at or _now()).isoformat(),
            "seconds": self.seconds,
            "steps": [
                {"name": step.name, "ok": step.ok, "seconds": step.seconds, "detail": str(step.detail)}
                for step in self.steps
            ],
            **self.result,
        }
        if self.findings or "summary" in self.result:
            values["findings"] = [finding.as_json() for finding in self.findings]
        if self.error is not None:
            values["error"] = {"message": str(self.error.message), "hint": str(self.error.hint)}
        return values
