"""Commands on backups: create, list, verify, prune, restore, rehearse."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from commands.frame import Json, WrongUse, Yes, ask, command, where
from rollout.errors import ConfigurationError
from rollout.messages import say
from rollout.settings import SOURCE_KEY, load, rollout_directory

if TYPE_CHECKING:
    from rollout.restore_plan import RestorePlan

Jobs = Annotated[int, typer.Option(min=1, max=64, help="Parallel jobs. / 并行任务数。")]


def create(
    *,
    source: Annotated[bool, typer.Option("--source", help="Back up the Pagtive source. / 备份 Pagtive 源库。")] = False,
    prove: Annotated[bool, typer.Option(help="Prove it by a restore. / 通过恢复来验证。")] = True,
    jobs: Jobs = 2,
    json: Json = False,
) -> None:
    """Make a backup, and prove that it restores to the same content. / 创建备份并验证。

    Example: tool backup create

    示例：tool backup create
    """
    from rollout.backup import create as make

    with command("backup create", as_json=json) as run:
        settings = load()
        if source and settings.source is None:
            raise ConfigurationError(
                say("{key} is not set", key=SOURCE_KEY),
                hint=say(
                    "Set {key}=postgresql://user@host:5432/database in the environment or in .env", key=SOURCE_KEY
                ),
            )
        make(settings, run, server=settings.source if source else None, jobs=jobs, prove=prove)


def list_(*, json: Json = False) -> None:
    """List the backups: proven or not, age, size, revision. / 列出备份。

    Example: tool backup list

    示例：tool backup list
    """
    from rollout.backup import list_backups

    with command("backup list", as_json=json, backups=[]) as run:
        run.result["backups"] = [one.as_json() for one in list_backups(rollout_directory() / "backups")]


def verify(
    path: Annotated[Path, typer.Argument(help="The backup's directory. / 备份目录。")],
    *,
    quick: Annotated[bool, typer.Option("--quick", help="Hashes only, no restore. / 只校验文件。")] = False,
    json: Json = False,
) -> None:
    """Prove a backup again. / 重新验证备份。

    Example: tool backup verify var/backups/lawsker-20261123T010203Z-1a2b3c

    示例：tool backup verify var/backups/lawsker-20261123T010203Z-1a2b3c
    """
    from rollout.backup import verify as prove

    with command("backup verify", as_json=json) as run:
        run.result |= {"proven": False, "findings": []}
        prove(path, run=run, settings=None if quick else load(), quick=quick)


def prune(
    *,
    keep: Annotated[int, typer.Option(min=1, help="How many to keep. / 保留份数。")],
    yes: Yes = False,
    json: Json = False,
) -> None:
    """Delete old backups, never the last proven one. / 清理旧备份。

    Example: tool backup prune --keep 3

    示例：tool backup prune --keep 3
    """
    from rollout.backup import prune as delete

    with command("backup prune", as_json=json, removed=[]) as run:
        directory = rollout_directory() / "backups"
        question = say(
            "Delete all but the newest {keep} backups of each database in {path}?", keep=keep, path=directory
        )
        if not ask(question, yes=yes):
            raise WrongUse(say("not confirmed"), hint=say("Answer y, or call with --yes."))
        run.result["removed"] = [str(path) for path in delete(directory, keep)]


def restore(
    path: Annotated[Path, typer.Argument(help="The backup's directory. / 备份目录。")],
    *,
    yes: Yes = False,
    json: Json = False,
) -> None:
    """Restore a backup into a new database, prove it, then swap names; the old one stays. / 紧急恢复。

    Example: tool restore var/backups/lawsker-20261123T010203Z-1a2b3c

    示例：tool restore var/backups/lawsker-20261123T010203Z-1a2b3c
    """
    from rollout.restore import restore as bring_back

    with command("restore", as_json=json) as run:
        settings = load()

        def confirm(plan: RestorePlan) -> bool:
            for line in plan.lines():
                run.listener.note(line)
            return ask(say("{place}: swap the restored database in?", place=where(settings)), yes=yes)

        bring_back(settings, run, path, confirm=confirm)
