"""Commands that take the schema back, or take over what is there: rollback, adopt."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from commands.frame import Json, Yes, ask, command, where
from rollout.messages import say
from rollout.presentation import Speaker, place
from rollout.settings import load, speaks_chinese

if TYPE_CHECKING:
    from rollout.receipt import Going


def rollback(
    *,
    to: Annotated[str, typer.Option("--to", help="Revision, family or before-last-run. / 目标版本或版本族。")],
    receipt: Annotated[bool, typer.Option("--receipt", help="Only show what would go. / 只显示清单。")] = False,
    discard: Annotated[bool, typer.Option("--discard", help="Keep no shelf. / 不保留被移除的数据。")] = False,
    yes: Yes = False,
    json: Json = False,
) -> None:
    """Take revisions back, with a receipt first and people's rows on a shelf. / 选择性回滚。

    Example, first look, then go: tool rollback --to penalties --receipt

    示例，先看清单再回滚：tool rollback --to penalties --receipt
    """
    from commands.views import receipt_lines
    from rollout.rollback import Options
    from rollout.rollback import rollback as take_back

    with command("rollback", as_json=json, from_revision=None, to_revision=None, receipt=[]) as run:
        settings = load()
        speak = Speaker(chinese=speaks_chinese())

        def confirm(going: list[Going]) -> bool:
            for line in receipt_lines(run.result, speak):
                run.listener.note(line)
            return ask(_question(where(settings), going, discard=discard), yes=yes)

        take_back(settings, run, Options(to=to, discard=discard, receipt_only=receipt), confirm)


def _question(at: str, going: list[Going], *, discard: bool) -> str:
    """Ask whether a rollback should go on: what of its tables and columns holds something is lost, or kept."""
    rows = f"{sum(one.rows for one in going if one.object.startswith('table ')):,}"
    columns = sum(one.rows > 0 for one in going if one.object.startswith("column "))
    counts = {"place": at, "count": len(going), "rows": rows, "columns": columns}
    if discard:
        return say(
            "{place}: {count} objects go; {rows} rows of tables and the values of {columns} columns ARE LOST. Go on?",
            **counts,
        )
    return say(
        "{place}: {count} objects go; {rows} rows of tables and the values of {columns} columns are kept on the shelf."
        " Go on?",
        **counts,
    )


Mend = Annotated[
    bool,
    typer.Option("--mend", help="Mend what differs, where nothing is lost (asks). / 修正不丢数据的差异。"),
]


def adopt(*, mend: Mend = False, yes: Yes = False, json: Json = False) -> None:
    """Say object by object what is there or differs; record the revision it stands at. / 接管现有数据库。

    Example: tool adopt

    示例：tool adopt
    """
    from commands.views import adopt_lines
    from rollout import adoption

    with command("adopt", as_json=json) as run:
        settings = load()
        speak, shown = Speaker(chinese=speaks_chinese()), json

        def show() -> None:
            nonlocal shown
            for line in [] if shown else adopt_lines(run.result, speak):
                typer.echo(line)
            shown = True

        def record(revision: str) -> bool:
            show()
            return ask(_record(place(run), revision), yes=yes)

        def run_these(statements: list[str]) -> bool:
            for statement in statements:
                run.listener.note(statement)
            question = say("{place}: run these {count} statement(s)?", place=place(run), count=len(statements))
            return ask(question, yes=yes)

        try:
            if mend:
                adoption.mend(settings, run, run_these)
            else:
                adoption.adopt(settings, run, record)
        finally:
            show()


def _record(at: str, revision: str) -> str:
    """Ask whether a revision is to be recorded."""
    return say(
        "{place}: record revision {revision}, and what is there as there before us?", place=at, revision=revision
    )
