"""What every command has: the error boundary, talk and progress, rendering, questions."""

from __future__ import annotations

import json
import sys
import traceback
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rollout import interrupt
from rollout.errors import UNKNOWN, Interrupted, RolloutError
from rollout.messages import say
from rollout.presentation import Speaker, error_lines, finding_lines, result_lines
from rollout.run import Run
from rollout.settings import Settings, speaks_chinese

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rollout.run import Step

USAGE, BUG = 2, 1

Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout. / 以 JSON 输出。")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Answer every question with yes. / 对所有确认回答“是”。")]
Html = Annotated[Path | None, typer.Option("--html", help="Also write an HTML page. / 同时写出 HTML 页面。")]
To = Annotated[str, typer.Option("--to", help="Revision, family or head. / 版本、版本族或 head。")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Do everything, keep nothing. / 试运行，不保留任何更改。")]


class Talk:
    """A run's listener on stderr: a progress bar on a terminal, plain lines elsewhere."""

    def __init__(self, speak: Speaker) -> None:
        """Take the operator's language."""
        self.speak = speak
        self.bar: Any = None
        self.tasks: dict[str, Any] = {}

    def step_started(self, name: str) -> None:
        """Say on a terminal that a step begins."""
        if sys.stderr.isatty():
            typer.echo(f"  {name} …\r", err=True, nl=False)

    def step_ended(self, step: Step) -> None:
        """Say how a step ended."""
        self.stop()
        typer.secho(self.speak.step(step), err=True, fg="green" if step.ok else "red")

    def note(self, message: str) -> None:
        """Say one line."""
        self.stop()
        typer.echo(self.speak(message), err=True)

    def progress(self, name: str, done: int, total: int | None, unit: str) -> None:
        """Move the bar (rate and time left), on a terminal."""
        if not sys.stderr.isatty():
            return
        if self.bar is None:
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

            columns = ("{task.description}", "{task.completed:,.0f} {task.fields[unit]}", "{task.speed:,.0f}/s")
            self.bar = Progress(
                TextColumn(columns[0]), BarColumn(), TextColumn(columns[1]), TimeRemainingColumn(),
                console=Console(stderr=True), transient=True,
            )  # fmt: skip
            self.bar.start()
        if name not in self.tasks:
            self.tasks[name] = self.bar.add_task(name, total=total, unit=unit)
        self.bar.update(self.tasks[name], completed=done, total=total)

    def stop(self) -> None:
        """Take the bar away."""
        if self.bar is not None:
            self.bar.stop()
            self.bar, self.tasks = None, {}


@contextmanager
def command(name: str, *, as_json: bool, quiet: tuple[str, ...] = ()) -> Iterator[Run]:
    """Run one command: turn whatever happens into output and an exit code, in one place.

    ``quiet``: keys of the result that are only for JSON.
    """
    speak = Speaker(chinese=speaks_chinese())
    talk = Talk(speak)
    run = Run(name, listener=talk)
    with interrupt.heeding():
        try:
            yield run
        except RolloutError as error:
            if run.error is not error:
                run.failed(error)
        except (KeyboardInterrupt, typer.Abort):
            if run.error is None:
                run.failed(Interrupted(database=run.database))
        except typer.Exit:
            raise
        except Exception:  # noqa: BLE001 - the last resort: anything else is a bug
            traceback.print_exc()
            run.exit_code, run.database = BUG, UNKNOWN
            run.error = RolloutError(say("this is a bug"), hint=say("Please report it with the traceback above."))
        talk.stop()
        run.finish()
        if as_json:
            typer.echo(json.dumps(run.as_json(), ensure_ascii=False, default=str))
        else:
            render(run, speak, quiet)
    raise typer.Exit(run.exit_code)


def render(run: Run, speak: Speaker, quiet: tuple[str, ...]) -> None:
    """Print a run for a person: results on stdout, what went wrong on stderr."""
    for line in finding_lines(run, speak):
        typer.echo(line)
    shown = {key: value for key, value in run.result.items() if key not in quiet}
    for line in result_lines(shown, speak):
        typer.echo(line)
    if run.exit_code:
        for number, line in enumerate(error_lines(run, speak)):
            typer.secho(line, err=True, fg="red" if number == 0 and run.error else None)


def ask(question: str, *, yes: bool) -> bool:
    """Ask before something destructive; without a terminal and without ``--yes``, refuse (wrong use)."""
    if yes:
        return True
    if not sys.stdin.isatty():
        typer.echo("error: this needs an answer: call it from a terminal, or with --yes", err=True)
        typer.echo("错误：需要确认：请在终端中运行，或加上 --yes", err=True)
        raise typer.Exit(USAGE)
    return typer.confirm(question, err=True)


def where(settings: Settings) -> str:
    """Name the target: host, port, database."""
    from rollout.database import describe, engine_for

    engine = engine_for(settings.target)
    with engine.connect() as connection:
        target = describe(connection, settings.target)
    engine.dispose()
    return f"{target.host}:{target.port}/{target.dbname} ({target.user})"
