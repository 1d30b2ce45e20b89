"""What every command has: the error boundary, rendering, questions, and the options that mean the same everywhere."""

from __future__ import annotations

import json
import os
import sys
import traceback
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import typer

from commands.talk import Talk
from rollout import interrupt
from rollout.errors import UNTOUCHED, Interrupted, RolloutError
from rollout.messages import say
from rollout.presentation import Speaker, error_lines, finding_lines
from rollout.run import Run
from rollout.settings import Settings, speaks_chinese

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType

    from rollout.database import Target
    from rollout.findings import Finding

Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout. / 以 JSON 输出。")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Answer every question with yes. / 对所有确认回答“是”。")]
Html = Annotated[Path | None, typer.Option("--html", help="Also write an HTML page. / 同时写出 HTML 页面。")]
To = Annotated[str, typer.Option("--to", help="Revision, family or head. / 版本、版本族或 head。")]
On = Annotated[
    str | None,
    typer.Option("--on", metavar="embedded|URL", help="Prove the backup there, not here. / 在别处恢复验证。"),
]
WithUsers = Annotated[
    bool, typer.Option("--with-users", help="In the same transaction: sign-in accounts. / 同一事务内升级登录账号。")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Do everything, keep nothing. / 试运行，不保留任何更改。")]

_COLOURS = {"area": {"bold": True}, "error": {"fg": "red"}, "warning": {"fg": "yellow"}, "hint": {"dim": True}}


class WrongUse(RolloutError):
    """The command was called in a way that cannot be meant."""

    exit_code: ClassVar[int] = 2
    default_database: ClassVar[str] = UNTOUCHED


class Bug(RolloutError):
    """Something that nobody expected: the traceback tells."""

    def __init__(self) -> None:
        """Say so."""
        super().__init__(say("this is a bug"), hint=say("Please report it with the traceback above."))


@contextmanager
def command(name: str, *, as_json: bool, **defaults: Any) -> Iterator[Run]:
    """Run one command: turn whatever happens into output and an exit code, in one place.

    ``defaults``: keys of cli.md that the result has however far the command gets.
    """
    from rollout.database import expected

    speak = Speaker(chinese=speaks_chinese())
    talk = Talk(speak)
    sys.excepthook = _show  # not before: Typer has its own until here
    run = Run(name, listener=talk, result=defaults)
    with interrupt.heeding():
        try:
            with expected(run):
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
            run.failed(Bug())
        talk.stop()
        run.finish()
        with _heard_or_not():
            if as_json:
                typer.echo(json.dumps(run.as_json(), ensure_ascii=False, default=str))
            else:
                render(run, speak)
    raise typer.Exit(run.exit_code)


def _show(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Show what nobody caught, but not what psycopg2 prints here and raises as well, where a server ends a COPY."""
    if kind is not SystemError or not type(error.__cause__).__module__.startswith("psycopg2"):
        sys.__excepthook__(kind, error, trace)


@contextmanager
def _heard_or_not() -> Iterator[None]:
    """Go on where nobody reads the output to its end (``| head``): the exit code still tells how the run ended.

    https://docs.python.org/3/library/signal.html#note-on-sigpipe
    """
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def render(run: Run, speak: Speaker) -> None:
    """Print a run for a person: results on stdout, what went wrong on stderr."""
    from commands.views import lines_of

    show_findings(run.findings, speak)
    for line in lines_of(run, speak):
        typer.echo(line)
    if run.exit_code:
        sys.stdout.flush()
        for number, line in enumerate(error_lines(run, speak)):
            typer.secho(line, err=True, fg="red" if number == 0 and run.error else None)


def report_error(error: RolloutError, name: str, *, as_json: bool) -> None:
    """Say what stopped a command that has no run: one line of error, one of advice; with ``--json`` its object."""
    speak = Speaker(chinese=speaks_chinese())
    run = Run(name)
    run.failed(error)
    if as_json:
        typer.echo(json.dumps(run.as_json(), ensure_ascii=False, default=str))
        return
    error_line, hint_line, *_ = error_lines(run, speak)
    typer.secho(error_line, err=True, fg="red")
    typer.echo(hint_line, err=True)


def show_findings(findings: list[Finding], speak: Speaker) -> None:
    """Print findings, grouped by area."""
    for kind, line in finding_lines(findings, speak):
        typer.secho(line, **_COLOURS[kind])  # type: ignore[arg-type]


def ask(question: str | Callable[[], str], *, yes: bool) -> bool:
    """Ask before something destructive, in the operator's language; raise ``WrongUse`` where nobody can answer.

    ``question``: or what makes it, called only where there is somebody to ask.
    """
    if yes:
        return True
    if not sys.stdin.isatty():
        raise WrongUse(
            say("this needs an answer, and there is no terminal to ask on"),
            hint=say("Call it from a terminal, or with --yes."),
        )
    speak = Speaker(chinese=speaks_chinese())
    asked = speak(question if isinstance(question, str) else question()) + " [y/N]"
    try:
        while True:  # typer.confirm, but for what it says of another answer, which is English
            answer = typer.prompt(asked, default="", show_default=False, err=True).strip().lower()
            if answer in {"", "n", "no", "y", "yes"}:
                return answer in {"y", "yes"}
            typer.echo(speak(say("Please answer y or n.")), err=True)
    except typer.Abort:
        # What Click makes of Ctrl-C; a run that is being recorded knows only the original.
        raise KeyboardInterrupt from None


def target_of(settings: Settings) -> Target:
    """Ask the server which database it is."""
    from rollout.database import describe, engine_for

    with engine_for(settings.target).connect() as connection:
        return describe(connection, settings.target)


def where(settings: Settings) -> str:
    """Name the target: host, port, database, user."""
    target = target_of(settings)
    return f"{target.host}:{target.port}/{target.dbname} ({target.user})"
