"""What a command says while it works, on stderr: a progress bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import typer

from rollout.messages import say
from rollout.presentation import duration, size

if TYPE_CHECKING:
    from rollout.presentation import Speaker
    from rollout.run import Step

_LINE_SECONDS = 10.0
"""Without a terminal, a long step says this often how far it is."""


class Talk:
    """A run's listener (``rollout.run.Listener``) on stderr."""

    def __init__(self, speak: Speaker) -> None:
        """Take the operator's language."""
        self.speak = speak
        self.bar: Any = None
        self.tasks: dict[str, Any] = {}
        self.began: dict[str, float] = {}
        self.said: dict[str, float] = {}
        self.is_terminal = sys.stderr.isatty()
        self.alone = threading.RLock()  # files are checked, and tables read, in several threads

    def step_started(self, name: str) -> None:
        """Say on a terminal that a step begins; the line gives way to how it ended."""
        if self.is_terminal:
            typer.echo(f"\r\x1b[2K  {self.speak.step_name(name)} …\r", err=True, nl=False)

    def step_ended(self, step: Step) -> None:
        """Say how a step ended."""
        self.stop()
        self._line(typer.style(self.speak.step(step), fg="green" if step.ok else "red"))

    def note(self, message: str) -> None:
        """Say one line."""
        self.stop()
        self._line(self.speak(message))

    def _line(self, text: str) -> None:
        """Write a line over the one that says what is going on."""
        typer.echo(("\r\x1b[2K" if self.is_terminal else "") + text, err=True)

    def progress(self, name: str, done: int, total: int | None, unit: str) -> None:
        """Say how far a long step is: how much, how fast, how long still."""
        with self.alone:
            self._progress(name, done, total, unit)

    def _progress(self, name: str, done: int, total: int | None, unit: str) -> None:
        """Say it, as the only thread that does."""
        if total is not None and done > total:  # an estimate that was too low
            total = None
        now = time.monotonic()
        begin = self.began.setdefault(name, now)
        rate = done / (now - begin) if now - begin > 0.5 and done else None  # noqa: PLR2004 - too early to tell
        left = (total - done) / rate if rate and total else None
        how_far = self._how_far(done, total, unit, rate, left)
        if self.is_terminal:
            self._move(name, done, total, how_far)
        elif now - self.said.setdefault(name, now) >= _LINE_SECONDS:
            self.said[name] = now
            typer.echo(f"  {self.speak.step_name(name)}: {how_far}", err=True)

    def _how_far(self, done: int, total: int | None, unit: str, rate: float | None, left: float | None) -> str:
        """Return how much is done, the rate and the time left, as far as they are known."""

        def amount(number: float) -> str:
            return size(number) if unit == "bytes" else f"{number:,.0f}"

        counted = amount(done) if total is None else f"{amount(done)} / {amount(total)}"
        parts = [counted if unit == "bytes" else f"{counted} {self.speak.unit(unit)}"]
        if rate is not None:
            parts.append(f"{amount(rate)}/s")
        if left is not None:
            parts.append(self.speak(say("{time} left", time=duration(left))))
        return ", ".join(parts)

    def _move(self, name: str, done: int, total: int | None, how_far: str) -> None:
        """Move the bar."""
        if self.bar is None:
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn

            columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[share]}"))
            how = TextColumn("{task.fields[how_far]}")
            # Rich would keep back, and wipe away, what has no line's end yet: a question, while a bar is on.
            console = Console(stderr=True)
            self.bar = Progress(
                *columns, how, console=console, transient=True, redirect_stdout=False, redirect_stderr=False
            )
            self.bar.start()
        told = {"share": f"{100 * done / total:>3.0f} %" if total else "", "how_far": how_far}
        if name not in self.tasks:
            self.tasks[name] = self.bar.add_task(self.speak.step_name(name), total=total, **told)
        self.bar.update(self.tasks[name], completed=done, total=total, **told)

    def stop(self) -> None:
        """Take the bar away."""
        with self.alone:
            if self.bar is not None:
                self.bar.stop()
                self.bar = None
            self.tasks, self.began, self.said = {}, {}, {}
