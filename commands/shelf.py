"""Commands on the shelf, where rollbacks put what people entered: list, show, accept, drop."""

from __future__ import annotations

from typing import Annotated

import typer

from commands.frame import Json, Yes, ask, command
from rollout.messages import say
from rollout.presentation import place
from rollout.settings import load

Run = Annotated[str, typer.Argument(metavar="RUN", help="The rollback's id, see shelf list. / 回滚的运行编号。")]


def list_(*, json: Json = False) -> None:
    """List what rollbacks have put on the shelf, newest first. / 列出回滚时保留的数据。

    Example: tool shelf list

    示例：tool shelf list
    """
    from rollout.shelf.care import on_shelf

    with command("shelf list", as_json=json, entries=[]) as run:
        run.result["entries"] = [entry.as_json() for entry in on_shelf(load(), run)]


def show(run_id: Run, *, json: Json = False) -> None:
    """Show what one rollback has put on the shelf, and how to read it. / 查看一次回滚保留的数据。

    Example: tool shelf show 1a2b3c4d5e6f

    示例：tool shelf show 1a2b3c4d5e6f
    """
    from rollout.shelf.care import on_shelf

    with command("shelf show", as_json=json, entries=[]) as run:
        run.result["entries"] = [entry.as_json() for entry in on_shelf(load(), run, run_id)]


def accept(run_id: Run, *, yes: Yes = False, json: Json = False) -> None:
    """Take what is there as it is now, after you mended it there. / 在搁置区修正数据后予以认可。

    The next upgrade gives back only what is as it was put away, or as it was accepted. /
    下次升级只放回与存入时或认可时一致的数据。

    Example: tool shelf accept 1a2b3c4d5e6f

    示例：tool shelf accept 1a2b3c4d5e6f
    """
    from rollout.shelf.entries import Entry
    from rollout.shelf.mend import accept_run

    with command("shelf accept", as_json=json, entries=[]) as run:

        def confirm(entries: list[Entry]) -> bool:
            names = ", ".join(entry.object for entry in entries)
            return ask(say("{place}: take {names} as it is now?", place=place(run), names=names), yes=yes)

        accept_run(load(), run, run_id, confirm)


def drop(run_id: Run, *, yes: Yes = False, json: Json = False) -> None:
    """Drop for good what one rollback has put on the shelf. / 永久删除一次回滚保留的数据。

    Example: tool shelf drop 1a2b3c4d5e6f

    示例：tool shelf drop 1a2b3c4d5e6f
    """
    from rollout.shelf.care import drop_run
    from rollout.shelf.entries import Entry

    with command("shelf drop", as_json=json, entries=[]) as run:

        def confirm(entries: list[Entry]) -> bool:
            rows = f"{sum(entry.rows for entry in entries):,}"
            return ask(
                say("{place}: drop {rows} row(s) from the shelf for good?", place=place(run), rows=rows), yes=yes
            )

        drop_run(load(), run, run_id, confirm)
