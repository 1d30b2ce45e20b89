"""The command line: ``tool``. The commands are in ``commands/``; nothing heavy is imported before one needs it."""

from __future__ import annotations

import gc
import re
import sys
import traceback
from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperGroup

from commands import back, backups, books, data, schema, shelf
from commands.frame import Bug, WrongUse, report_error
from rollout.messages import say

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

# Click's own class of wrong use, which Typer brings along but does not name.
_UsageError: Any = typer.BadParameter.__base__


class Tool(TyperGroup):
    """The outermost group: wrong use is one line of error and one of advice, like everything else that goes wrong."""

    def main(self, *args: Any, **extra: Any) -> Any:
        """Run a command line and end the program with its exit code."""
        given: Sequence[str] | None = args[0] if args else extra.get("args")
        words = sys.argv[1:] if given is None else given
        try:
            code = super().main(*args, **{**extra, "standalone_mode": False})
        except _UsageError as error:
            _wrong_use(error, as_json="--json" in words)
            code = error.exit_code
        except typer.Abort:
            code = 130
        except Exception:  # noqa: BLE001 - a bug outside of a command's own boundary (commands.frame.command)
            traceback.print_exc()
            report_error(Bug(), "tool", as_json="--json" in words)
            code = Bug.exit_code
        gc.freeze()  # else the interpreter looks through all objects several times before it ends: 50 ms
        sys.exit(code if isinstance(code, int) else 0)


def _wrong_use(error: Any, *, as_json: bool) -> None:
    """Say what is wrong with a command line; a group called alone shows its help."""
    path = error.ctx.command_path if error.ctx is not None else "tool"
    if type(error).__name__ == "NoArgsIsHelpError":
        typer.echo(error.format_message(), err=True)
        return
    hint = say("`{command} --help` says how it is called.", command=path)
    report_error(WrongUse(_what_is_wrong(error), hint=hint), path.partition(" ")[2], as_json=as_json)


def _what_is_wrong(error: Any) -> str:
    """Return Click's message on one line; what goes wrong most often, in the operator's language."""
    message = " ".join(error.format_message().split())
    unknown = re.match(r"No such (?:command|option):? '?([^' ]+)", message)
    if unknown:
        return say("there is no {name}", name=unknown[1].rstrip("."))
    missing = re.match(r"Missing (?:option|argument) '([^']+)'", message)
    return say("{name} is missing", name=missing[1]) if missing else message


def _short(function: Callable[..., None]) -> str:
    """Return what a command does in a line, in both languages."""
    return " ".join((function.__doc__ or "").split("\n\n")[0].split())


def _group(help_text: str, commands: dict[str, Callable[..., None]]) -> typer.Typer:
    """Return a group of commands; a single one still has its name."""
    # Without a short help, the list of commands would have the first sentence only: the English one.
    group = typer.Typer(
        help=help_text, short_help=help_text, no_args_is_help=True, add_completion=False, rich_markup_mode=None
    )
    for name, function in commands.items():
        group.command(name, short_help=_short(function))(function)
    group.callback()(lambda: None)
    return group


app = typer.Typer(
    cls=Tool,
    help="Upgrade Lawsker's PostgreSQL database safely. / 安全地升级 Lawsker 的 PostgreSQL 数据库。",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def _add(**commands: Callable[..., None]) -> None:
    """Add commands to the outermost group."""
    for name, function in commands.items():
        app.command(name, short_help=_short(function))(function)


_add(
    plan=schema.plan, preflight=schema.preflight, migrate=schema.migrate, verify=schema.verify, status=schema.status,
    monitor=schema.monitor,
)  # fmt: skip
app.add_typer(
    _group(
        "Proven backups. / 经过验证的备份。",
        {"create": backups.create, "list": backups.list_, "verify": backups.verify, "prune": backups.prune},
    ),
    name="backup",
)
_add(rehearse=backups.rehearse, restore=backups.restore, rollback=back.rollback)
app.add_typer(
    _group(
        "What rollbacks have kept of people's data. / 回滚时保留的数据。",
        {"list": shelf.list_, "show": shelf.show, "accept": shelf.accept, "drop": shelf.drop},
    ),
    name="shelf",
)
_add(adopt=back.adopt)
app.add_typer(_group("Sign-in accounts. / 登录账号。", {"upgrade": data.upgrade}), name="users")
app.add_typer(
    _group(
        "The Pagtive import. / Pagtive 导入。",
        {"plan": data.plan, "import": data.import_, "rejects": data.rejects, "undo": data.undo},
    ),
    name="pagtive",
)
_add(history=books.history, report=books.report, checks=books.checks, demo=books.demo)


def main() -> None:
    """Run ``tool``."""
    app()


if __name__ == "__main__":
    main()
