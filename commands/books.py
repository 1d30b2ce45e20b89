"""Commands on the books: history, report, checks; and the demo."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from commands.frame import Html, Json, command
from rollout.messages import say
from rollout.output import output
from rollout.settings import load


def history(*, json: Json = False) -> None:
    """List past runs, newest first, and tell whether the record was edited. / 查看历史运行。

    Example: tool history

    示例：tool history
    """
    from rollout import memory
    from rollout.database import describe, engine_for
    from rollout.history import verify_chain

    with command("history", as_json=json, runs=[], edited=[]) as run:
        settings = load()
        with engine_for(settings.target).connect() as connection:
            run.target = describe(connection, settings.target)
            run.result |= {"runs": memory.runs(connection), "edited": verify_chain(connection)}
        for line in run.result["edited"]:
            run.listener.note(say("the record was edited: {what}", what=line))


def report(
    run_id: Annotated[str, typer.Argument(metavar="RUN", help="A run's id, see history. / 运行编号。")],
    *,
    html: Html = None,
    json: Json = False,
) -> None:
    """Show one run's report again. / 再次查看一次运行的报告。

    Example: tool report 1a2b3c4d5e6f --html report.html

    示例：tool report 1a2b3c4d5e6f --html report.html
    """
    from rollout.report import load as read
    from rollout.report import render_html

    with command("report", as_json=json, report=None) as run:
        values = read(load(), run_id)
        run.result["report"] = values
        if html is not None:
            with output(html) as page:
                page.write(render_html(values))


def checks(*, json: Json = False) -> None:
    """List the registry of checks. / 列出全部检查项。

    Example: tool checks

    示例：tool checks
    """
    from rollout import verify
    from rollout.checks.registry import CHECKS

    with command("checks", as_json=json) as run:
        assert verify.VERIFIED  # noqa: S101 - importing it registered every check
        run.result["checks"] = [{"check": one.name, "area": one.area.value, "does": one.doc} for one in CHECKS.values()]


def demo(
    *,
    users: Annotated[int, typer.Option(min=10, help="How many legacy users. / 旧库用户数。")] = 1000,
    keep: Annotated[bool, typer.Option("--keep", help="Wait for Enter before the servers end. / 结束前等待。")] = False,
    json: Json = False,
) -> None:
    """Run the whole main job on embedded servers with a realistic legacy database. / 在内嵌数据库上演示全过程。

    Example: tool demo --users 1000

    示例：tool demo --users 1000
    """
    from datamigrations.demo import demo as show

    with command("demo", as_json=json) as run:
        show(
            run,
            users=users,
            directory=Path("var/demo").resolve(),
            wait=(lambda: typer.prompt("Enter")) if keep else None,
        )
