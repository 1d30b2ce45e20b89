"""Commands on backups: create, list, verify, prune, restore, rehearse."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated

import typer

from commands.frame import Json, On, To, WrongUse, Yes, ask, command
from rollout.errors import ConfigurationError, RolloutError
from rollout.messages import say
from rollout.settings import SOURCE_KEY, load, rollout_directory

if TYPE_CHECKING:
    from pathlib import Path

    from rollout.backups.history import Asked
    from rollout.restore_plan import RestorePlan

Backup = Annotated[str, typer.Argument(metavar="PATH", help="The backup's directory, or its URL. / 备份目录或 URL。")]
Jobs = Annotated[int, typer.Option(min=1, max=64, help="Parallel jobs. / 并行任务数。")]

_LONGEST_DAYS = 36_500  # a hundred years


def create(
    *,
    source: Annotated[bool, typer.Option("--source", help="Back up the Pagtive source. / 备份 Pagtive 源库。")] = False,
    no_proof: Annotated[bool, typer.Option("--no-proof", help="Do not restore it. / 不做恢复验证。")] = False,
    on: On = None,
    jobs: Jobs = 2,
    to: Annotated[
        str | None, typer.Option("--to", metavar="URL", help="Also there: s3://bucket/prefix. / 同时上传到此处。")
    ] = None,
    compress: Annotated[
        str | None,
        typer.Option(
            metavar="METHOD[:LEVEL]", help="As pg_dump's: zstd, lz4, gzip:6; else gzip. / 压缩方式，默认 gzip。"
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Make a backup, and prove that it restores to the same content. / 创建备份并验证。

    Example: tool backup create

    示例：tool backup create
    """
    from rollout.backup import create as make
    from rollout.scratch import EMBEDDED
    from rollout.wheel import wheel_bin

    with command("backup create", as_json=json) as run:
        settings = load()
        if source and settings.source is None:
            raise ConfigurationError(
                say("{key} is not set", key=SOURCE_KEY),
                hint=say(
                    "Set {key}=postgresql://user@host:5432/database in the environment or in .env", key=SOURCE_KEY
                ),
            )
        server = settings.source if source else None
        if source and on is None and wheel_bin() is not None:
            on = EMBEDDED  # the target's server knows nothing of the source's roles
        make(settings, run, server=server, jobs=jobs, compress=compress, prove=not no_proof, on=on, to=to)


def list_(*, json: Json = False) -> None:
    """List the backups: proven or not, age, size, revision. / 列出备份。

    Example: tool backup list

    示例：tool backup list
    """
    from rollout.backup import list_backups

    with command("backup list", as_json=json, backups=[]) as run:
        run.result["backups"] = [one.as_json() for one in list_backups(rollout_directory() / "backups")]


def verify(
    path: Backup,
    *,
    quick: Annotated[bool, typer.Option("--quick", help="Hashes only, no restore. / 只校验文件。")] = False,
    on: On = None,
    json: Json = False,
) -> None:
    """Prove a backup again. / 重新验证备份。

    Example: tool backup verify var/backups/lawsker-20261123T010203Z-1a2b3c

    示例：tool backup verify var/backups/lawsker-20261123T010203Z-1a2b3c
    """
    from rollout.backup import verify as prove
    from rollout.backups.remote import at_hand, is_url, upload_proof

    with command("backup verify", as_json=json) as run:
        run.result |= {"proven": False, "findings": []}
        with at_hand(run, rollout_directory() / "backups", path) as directory:
            made = prove(directory, run=run, settings=None if quick else load(), quick=quick, on=on)
            if is_url(path) and made.proof is not None and not quick:
                upload_proof(directory, path)
        run.result["path"] = path


def prune(
    *,
    keep: Annotated[int, typer.Option(min=0, help="How many to keep of each database. / 每个库保留份数。")] = 0,
    keep_days: Annotated[
        float, typer.Option(min=0, max=_LONGEST_DAYS, help="Keep what is younger. / 保留最近几天的备份。")
    ] = 0.0,
    force: Annotated[
        bool, typer.Option("--force", help="Also what history points to, of any database. / 其他库和历史引用的也删除。")
    ] = False,
    yes: Yes = False,
    json: Json = False,
) -> None:
    """Delete the database's old backups, never the last proven one nor one that history points to. / 清理旧备份。

    Example: tool backup prune --keep 3 --keep-days 30

    示例：tool backup prune --keep 3 --keep-days 30
    """
    from rollout.backup import prune as delete

    with command("backup prune", as_json=json, removed=[], kept={}) as run:
        if not keep and not keep_days:
            raise WrongUse(
                say("neither --keep nor --keep-days says what to keep"), hint=say("Give one of them, or both.")
            )
        directory, asked = rollout_directory() / "backups", None if force else _asked()
        run.target = asked.target if asked else None
        if not ask(_may_delete(directory, asked, keep, keep_days), yes=yes):
            raise WrongUse(say("not confirmed"), hint=say("Answer y, or call with --yes."))
        places, pointed = (asked.places, asked.pointed) if asked else (None, ())
        done = delete(directory, keep=keep, keep_days=keep_days, places=places, pointed=pointed, force=force)
        run.result |= {"removed": [str(path) for path in done.removed], "kept": done.kept}
        for link, to in done.links.items():
            run.listener.note(say("{path} was a link: it is gone; the backup that it led to is still there: {to}",
                                  path=link, to=to))  # fmt: skip


def _asked() -> Asked:
    """Ask the target's history which backups are still needed."""
    from rollout.backups.history import asked

    try:
        return asked(load())
    except RolloutError as error:
        reason = say("which backups the runs in history point to cannot be read: {reason}", reason=error.message)
        raise type(error)(reason, hint=say("{hint} --force asks no history.", hint=error.hint)) from error


def _may_delete(directory: Path, asked: Asked | None, keep: int, keep_days: float) -> str:
    """Return the question whether backups may go: whose, and which ones."""
    days = f"{keep_days:g}"
    if asked is None:
        return say(
            "Delete the backups in {path}, but the newest {keep} of each database and those of the last {days} days?",
            path=directory, keep=keep, days=days,
        )  # fmt: skip
    return say(
        "Delete the backups of {databases} in {path}, but the newest {keep} of each database and those of the last"
        " {days} days?",
        databases=", ".join(asked.places), path=directory, keep=keep, days=days,
    )  # fmt: skip


def restore(
    path: Backup,
    *,
    jobs: Jobs = 2,
    yes: Yes = False,
    json: Json = False,
) -> None:
    """Restore a backup into a new database, prove it, then swap names; the old one stays. / 紧急恢复。

    Example: tool restore var/backups/lawsker-20261123T010203Z-1a2b3c

    示例：tool restore var/backups/lawsker-20261123T010203Z-1a2b3c
    """
    from rollout.backups.remote import at_hand
    from rollout.restore import restore as bring_back

    with command("restore", as_json=json) as run:
        settings = load()

        def confirm(plan: RestorePlan) -> bool:
            for line in plan.lines():
                run.listener.note(line)
            place = f"{plan.server}/{plan.dbname}"
            return ask(say("{place}: swap the restored database in?", place=place), yes=yes)

        with at_hand(run, settings.backups, path) as directory:
            bring_back(settings, run, directory, confirm=confirm, jobs=jobs)


def rehearse(
    path: Annotated[
        str | None, typer.Argument(metavar="[PATH]", help="The backup; default: the newest. / 备份，默认最新。")
    ] = None,
    *,
    to: To = "head",
    on: On = None,
    jobs: Jobs = 2,
    json: Json = False,
) -> None:
    """Rehearse the upgrade on a restored copy: times, locks, disk, query plans. / 在恢复的副本上演练升级。

    Example, on a server of our own: tool rehearse --on embedded

    示例，在内置服务器上演练：tool rehearse --on embedded
    """
    from rollout.backups.remote import at_hand
    from rollout.rehearse import rehearse as try_out

    with command("rehearse", as_json=json, path=None, stages=[], plans={}, estimate={}) as run:
        settings = load()
        with ExitStack() as stack:
            directory = stack.enter_context(at_hand(run, settings.backups, path)) if path else None
            try_out(settings, run, directory, to=to, on=on, jobs=jobs)
