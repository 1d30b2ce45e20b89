"""Commands on data: users upgrade; pagtive import, rejects, undo."""

from __future__ import annotations

import csv
import json as format_json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from commands.frame import DryRun, Json, WrongUse, Yes, ask, command, target_of, where
from rollout.errors import DatabaseUnavailable
from rollout.messages import say
from rollout.output import output
from rollout.presentation import Speaker
from rollout.run import Run
from rollout.settings import Settings, load

Limit = Annotated[
    int | None, typer.Option(min=1, max=1_000_000_000, help="Only the N oldest users. / 仅最早的 N 个用户。")
]
Decisions = Annotated[
    Path | None, typer.Option(help="CSV: source_id, action match|create|skip, target. / 人工决定的 CSV。")
]
Escalation = Annotated[bool, typer.Option("--allow-role-escalation", help="Let roles rise. / 允许提升角色。")]
Zone = Annotated[str, typer.Option(help="Of naive timestamps. / 无时区时间的时区。")]
Tenant = Annotated[str, typer.Option(help="tenant_code of new users. / 新用户的租户。")]
Conflict = Annotated[str, typer.Option(help="newer, source or keep. / 冲突处理。")]
Host = Annotated[str | None, typer.Option(help="Source host. / 源库主机。")]
Port = Annotated[int | None, typer.Option(help="Source port. / 源库端口。")]
Database = Annotated[str | None, typer.Option(help="Source database. / 源库名称。")]
User = Annotated[str | None, typer.Option(help="Source user. / 源库用户。")]
Discard = Annotated[bool, typer.Option("--discard-edits", help="Rows edited since, too. / 之后改过的行也撤销。")]
Retry = Annotated[bool, typer.Option("--retry-rejects", help="Only rows still quarantined. / 仅重试仍被隔离的行。")]

_NOTHING_IMPORTED: dict[str, Any] = {"tables": {}, "reasons": {}, "accounts_created": 0, "role_escalations_withheld": 0}


def upgrade(*, dry_run: DryRun = False, json: Json = False) -> None:
    """Give existing users their sign-in accounts (Feishu, e-mail). / 为现有用户建立登录账号。

    Example, try it first: tool users upgrade --dry-run

    示例，先试运行：tool users upgrade --dry-run
    """
    from datamigrations.accounts import upgrade_users

    with command("users upgrade", as_json=json) as run:
        upgrade_users(load(), run, dry_run=dry_run)


def import_(
    *,
    dry_run: DryRun = False,
    limit_users: Limit = None,
    source_timezone: Zone = "Asia/Shanghai",
    tenant: Tenant = "pagtive",
    on_conflict: Conflict = "newer",
    max_quarantined: Annotated[int | None, typer.Option(min=0, help="More than this fails. / 隔离行上限。")] = None,
    allow_role_escalation: Escalation = False,
    decisions: Decisions = None,
    retry_rejects: Retry = False,
    jobs: Annotated[int, typer.Option(min=1, max=16, help="Copies side by side. / 并行复制数。")] = 2,
    host: Host = None,
    port: Port = None,
    database: Database = None,
    user: User = None,
    json: Json = False,
) -> None:
    """Import users, projects, pages and logs from Pagtive, every row accounted for. / 导入 Pagtive 数据。

    The source is SOURCE_DATABASE_URL; a password comes from the environment, ~/.pgpass or a prompt. /
    源库由 SOURCE_DATABASE_URL 指定；密码取自环境变量、~/.pgpass 或提示输入。

    Example, try it first: tool pagtive import --dry-run

    示例，先试运行：tool pagtive import --dry-run
    """
    from datamigrations.pagtive import ImportOptions, import_pagtive

    with command("pagtive import", as_json=json, **_NOTHING_IMPORTED) as run:
        _check_conflict(on_conflict)
        if retry_rejects and limit_users is not None:
            both = say("--retry-rejects and --limit-users do not go together")
            raise WrongUse(both, hint=say("Leave --limit-users away."))
        options = ImportOptions(
            dry_run=dry_run,
            limit_users=limit_users,
            source_timezone=source_timezone,
            tenant=tenant,
            on_conflict=on_conflict,
            max_quarantined=max_quarantined,
            allow_role_escalation=allow_role_escalation,
            jobs=jobs,
            retry_rejects=retry_rejects,
            decisions=_decided(run, decisions),
        )
        import_pagtive(_settings(host=host, port=port, dbname=database, user=user), run, options)


def plan(
    *,
    csv_file: Annotated[Path | None, typer.Option("--csv", help="All of it here. / 全部写入 CSV 文件。")] = None,
    limit_users: Limit = None,
    source_timezone: Zone = "Asia/Shanghai",
    tenant: Tenant = "pagtive",
    on_conflict: Conflict = "newer",
    allow_role_escalation: Escalation = False,
    decisions: Decisions = None,
    host: Host = None,
    port: Port = None,
    database: Database = None,
    user: User = None,
    json: Json = False,
) -> None:
    """Show who each Pagtive user would be in Lawsker, and what collides; change nothing. / 显示用户匹配计划。

    The CSV has e-mail addresses; only its owner may read it. / CSV 含邮箱，仅文件所有者可读。

    Example, for a spreadsheet: tool pagtive plan --csv plan.csv

    示例，导出为表格：tool pagtive plan --csv plan.csv
    """
    from datamigrations.pagtive import ImportOptions, plan_pagtive

    with command("pagtive plan", as_json=json, identity={}, role_escalations_withheld=0) as run:
        _check_conflict(on_conflict)
        options = ImportOptions(
            limit_users=limit_users,
            source_timezone=source_timezone,
            tenant=tenant,
            on_conflict=on_conflict,
            allow_role_escalation=allow_role_escalation,
            decisions=_decided(run, decisions),
        )
        settings = _settings(host=host, port=port, dbname=database, user=user)
        plan_pagtive(settings, run, options, csv_file)
        if csv_file is not None:
            run.result["csv"] = str(csv_file)


def _decided(run: Run, file: Path | None) -> list[dict[str, str]]:
    """Return the rows of a file of decisions, and keep them and its hash in the run's record."""
    from datamigrations.decisions import read

    if file is None:
        return []
    sha256, rows = read(file)
    run.result["decisions"] = {"file": str(file), "sha256": sha256, "rows": rows}
    return rows


def _check_conflict(on_conflict: str) -> None:
    """Refuse a way to settle conflicts that there is not."""
    if on_conflict not in {"newer", "source", "keep"}:
        unknown = say("--on-conflict {value} is unknown", value=on_conflict)
        raise WrongUse(unknown, hint=say("One of: newer, source, keep"))


def _settings(**given: str | int | None) -> Settings:
    """Return the settings with these libpq parameters for the source; on a terminal, ask for a password it wants."""
    from rollout.database import engine_for

    override = {name: str(value) for name, value in given.items() if value is not None}
    settings = load(source_override=override)
    if settings.source is None or not sys.stdin.isatty():
        return settings
    engine = engine_for(settings.source)
    try:
        engine.connect().close()
    except DatabaseUnavailable as error:
        if "no password supplied" not in error.message:
            return settings
        question = Speaker(chinese=settings.chinese)(say("Password of the source"))
        override["password"] = typer.prompt(question, hide_input=True, err=True)
    return load(source_override=override)


def rejects(
    *,
    run_id: Annotated[str | None, typer.Option("--run", help="Of this run. / 指定运行。")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Settled ones too. / 包括已解决的行。")] = False,
    csv_file: Annotated[Path | None, typer.Option("--csv", help="Write them here. / 写入 CSV 文件。")] = None,
    json: Json = False,
) -> None:
    """List rows still quarantined, with every reason. / 列出被隔离的行及原因。

    Example, for a spreadsheet: tool pagtive rejects --csv rejects.csv

    示例，导出为表格：tool pagtive rejects --csv rejects.csv
    """
    from datamigrations.quarantine import COLUMNS
    from datamigrations.quarantine import rejects as quarantined
    from datamigrations.told import told

    with command("pagtive rejects", as_json=json, rejects=[]) as run:
        settings = load()
        run.target = target_of(settings)
        rows = quarantined(settings, run_id, everything=everything)
        if csv_file is None:
            run.result["rejects"] = list(rows)
            return
        with output(csv_file, private=True) as file:
            writer = csv.writer(file)
            writer.writerow(COLUMNS)
            speak, count = Speaker(chinese=settings.chinese), 0
            for row in rows:
                count += 1
                row["message"] = "; ".join(map(speak, told(row["message"])))
                writer.writerow(
                    format_json.dumps(value, ensure_ascii=False) if isinstance(value, (dict, list)) else value
                    for value in (row[name] for name in COLUMNS)
                )
        run.result |= {"rejected": count, "csv": str(csv_file)}


def undo(
    run_id: Annotated[str, typer.Argument(metavar="RUN", help="The import's run. / 导入的运行编号。")],
    *,
    discard_edits: Discard = False,
    yes: Yes = False,
    json: Json = False,
) -> None:
    """Take back exactly what one import run inserted or updated. / 撤销一次导入。

    Where rows were edited since, nothing happens unless --discard-edits: it names their tables, each with how many. /
    若其后有行被改过，须加 --discard-edits 才撤销；否则列出所在的表和行数。

    Example: tool pagtive undo 1a2b3c4d5e6f

    示例：tool pagtive undo 1a2b3c4d5e6f
    """
    from datamigrations.undo import undo_run

    with command("pagtive undo", as_json=json) as run:
        settings = load()
        if not ask(lambda: _take_back(settings, run_id), yes=yes):
            raise WrongUse(say("not confirmed"), hint=say("Answer y, or call with --yes."))
        undo_run(settings, run, run_id, discard_edits=discard_edits)


def _take_back(settings: Settings, run_id: str) -> str:
    """Ask whether an import is to be taken back; raise ``RollbackFailed`` where no run of that id was one."""
    from datamigrations.quarantine import COMMAND
    from datamigrations.undo import no_import
    from rollout import memory
    from rollout.database import engine_for

    with engine_for(settings.target).connect() as connection:
        if memory.readable(connection) and memory.command_of(connection, run_id) != COMMAND:
            raise no_import(run_id)
    return say("{place}: take back import {run}?", place=where(settings), run=run_id)
