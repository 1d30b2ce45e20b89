"""Commands on the schema: plan, preflight, migrate, verify, status, monitor."""

from __future__ import annotations

import json as format_json
import math
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from commands.frame import Html, Json, On, To, WithUsers, WrongUse, Yes, ask, command, report_error, where
from commands.talk import Talk
from rollout.errors import RolloutError
from rollout.messages import say
from rollout.output import output
from rollout.presentation import Speaker
from rollout.settings import Settings, load, speaks_chinese

NO_CHECKS = {"passed": 0, "failed": 0, "warnings": 0}

NoBackup = Annotated[bool, typer.Option("--no-backup", help="No backup (asks). / 不做备份（需确认）。")]
NoProof = Annotated[bool, typer.Option("--no-proof", help="No proof of the backup (asks). / 不验证备份（需确认）。")]
OnAuditFailure = Annotated[
    str,
    typer.Option(metavar="rollback|keep", help="What then: roll back with a shelf, or keep. / 审计失败：回滚或保留。"),
]


def migrate(
    *,
    to: To = "head",
    mode: Annotated[str, typer.Option(help="atomic (online comes later). / 原子模式。")] = "atomic",
    no_backup: NoBackup = False,
    no_proof: NoProof = False,
    on: On = None,
    deep: Annotated[bool, typer.Option("--deep", help="Hash every table. / 对所有表做内容校验。")] = False,
    with_users: WithUsers = False,
    on_audit_failure: OnAuditFailure = "keep",
    yes: Yes = False,
    json: Json = False,
) -> None:
    """Upgrade the database: preflight, backup, one verified transaction, audit, report. / 升级数据库。

    Example, up to one family of tables: tool migrate --to credits

    示例，只升级到某个版本族：tool migrate --to credits
    """
    from datamigrations import accounts
    from rollout.migrate import Options
    from rollout.migrate import migrate as upgrade

    result = {
        "from_revision": None,
        "to_revision": None,
        "backup": None,
        "backup_proven": False,
        "preserved": {"tables": 0, "rows": 0},
        "summary": dict(NO_CHECKS),
    }
    with command("migrate", as_json=json, **result) as run:
        if mode != "atomic":
            raise WrongUse(say("--mode: only atomic is there yet"), hint=say("Leave it out, or --mode atomic."))
        if on_audit_failure not in {"rollback", "keep"}:
            raise WrongUse(
                say("--on-audit-failure: there is no {name}", name=on_audit_failure),
                hint=say("It is rollback or keep."),
            )
        settings = load()
        _ask_without(settings, backup=not no_backup, proof=not no_proof, yes=yes)
        options = Options(to=to, backup=not no_backup, proof=not no_proof, on=on, deep=deep)
        work = accounts.WithUsers() if with_users else None
        upgrade(settings, run, replace(options, work=work, take_back=on_audit_failure == "rollback"))


def _ask_without(settings: Settings, *, backup: bool, proof: bool, yes: bool) -> None:
    """Ask before an upgrade that has no backup, or one that is not proven; raise ``WrongUse`` where it is not to be."""
    if not backup:
        question = say("Upgrade {place} WITHOUT a backup?", place=where(settings))
        hint = say("Without --no-backup the upgrade begins with a backup.")
    elif not proof:
        question = say("Upgrade {place} with a backup that has NOT been proven?", place=where(settings))
        hint = say("Without --no-proof the backup is restored and compared.")
    else:
        return
    if not ask(question, yes=yes):
        raise WrongUse(say("not confirmed"), hint=hint)


def preflight(
    *,
    to: To = "head",
    no_backup: NoBackup = False,
    no_proof: NoProof = False,
    on: On = None,
    json: Json = False,
) -> None:
    """Find everything that could stop the upgrade; change nothing. / 升级前检查，不做任何更改。

    Example: tool preflight

    示例：tool preflight
    """
    from rollout.checks.backups import not_needed
    from rollout.preflight import preflight as look

    with command("preflight", as_json=json, from_revision=None, to_revision=None, summary=dict(NO_CHECKS)) as run:
        leave_out = not_needed(backup=not no_backup, proof=not no_proof, on=on)
        look(load(), run, to=to, leave_out=leave_out, on=None if no_backup or no_proof else on)


def plan(
    *,
    to: To = "head",
    sql: Annotated[bool, typer.Option("--sql", help="Print the SQL. / 输出 SQL。")] = False,
    json: Json = False,
) -> None:
    """Show what would run: revisions, locks, rows, lint findings, estimate. / 显示升级计划。

    Example, the SQL for a reviewer: tool plan --sql > upgrade.sql

    示例，导出 SQL 供审阅：tool plan --sql > upgrade.sql
    """
    from rollout.preview import preview

    lists: dict[str, Any] = {"revisions": [], "locks": {}, "kept": [], "touched": [], "lint": [], "estimate_seconds": 0}
    with command("plan", as_json=json, from_revision=None, to_revision=None, **lists) as run:
        preview(load(), run, to=to, with_sql=sql)
        if sql and not json:
            typer.echo(run.result["sql"])
            raise typer.Exit(run.exit_code)


def verify(
    *,
    area: Annotated[list[str] | None, typer.Option(help="Only these areas (repeatable). / 仅检查这些方面。")] = None,
    at: Annotated[str | None, typer.Option(help="Against this revision. / 按此版本检查。")] = None,
    deep: Annotated[
        bool, typer.Option("--deep", help="Read every row, however many. / 读取每一行，不限数量。")
    ] = False,
    html: Html = None,
    json: Json = False,
) -> None:
    """Run all checks on the database as it is; read rights are enough. / 对现有数据库做全部检查。

    Example, two areas only: tool verify --area structure --area data

    示例，只检查两个方面：tool verify --area structure --area data
    """
    from rollout.checks.registry import Area
    from rollout.verify import verify as check_all

    with command("verify", as_json=json, summary=dict(NO_CHECKS), areas=[]) as run:
        known = [one.value for one in Area if one is not Area.PREFLIGHT]
        for name in area or []:
            if name not in known:
                hint = say("One of: {areas}", areas=", ".join(known))
                raise WrongUse(say("there is no area {name}", name=name), hint=hint)
        if html is None:
            check_all(load(), run, areas=area or [], at=at, deep=deep)
            return
        from rollout.report import render_html, values_of

        with output(html) as page:
            try:
                check_all(load(), run, areas=area or [], at=at, deep=deep)
            except RolloutError as error:
                run.failed(error)  # the page says so too; raised, it would keep the page back
            page.write(render_html(values_of(run)))


def status(*, json: Json = False) -> None:
    """Take one look: revision, health, sizes, last backup. / 查看一次当前状态。

    Example: tool status

    示例：tool status
    """
    from rollout.monitor import status as look

    result: dict[str, Any] = {
        "current_revision": None,
        "head_revision": None,
        "pending": [],
        "healthy": False,
        "metrics": {},
    }
    with command("status", as_json=json, **result) as run:
        look(load(), run)


def monitor(
    *,
    interval: Annotated[float, typer.Option(help="Seconds between looks. / 间隔秒数。")] = 10.0,
    duration: Annotated[float, typer.Option("--for", help="Seconds in all, 0: until Ctrl-C. / 总秒数。")] = 0.0,
    prometheus: Annotated[Path | None, typer.Option(help="Also write this textfile. / 写出 Prometheus 文件。")] = None,
    json: Json = False,
) -> None:
    """Look every few seconds; one line (or JSON object) a sample. / 持续监控。

    Example, ten minutes: tool monitor --interval 5 --for 600

    示例，监控十分钟：tool monitor --interval 5 --for 600
    """
    from rollout.monitor import monitor as watch

    speak = Speaker(chinese=speaks_chinese())

    def show(values: dict[str, Any]) -> None:
        if json:
            typer.echo(format_json.dumps(values, ensure_ascii=False, default=str))
        else:
            typer.echo(_sample(values, speak))

    try:
        if not (math.isfinite(interval) and interval > 0 and math.isfinite(duration) and duration >= 0):
            raise WrongUse(
                say("--interval must be more than 0 seconds, --for not less"),
                hint=say("tool monitor --interval 5 --for 600"),
            )
        code = watch(
            load(), interval=interval, duration=duration, on_sample=show, prometheus=prometheus, listener=Talk(speak)
        )
    except RolloutError as error:
        report_error(error, "monitor", as_json=json)
        raise typer.Exit(error.exit_code) from None
    raise typer.Exit(code)


def _sample(values: dict[str, Any], speak: Speaker) -> str:
    """Return one look on one line: when, whether all is well, and the figures that move."""
    metrics = values.get("metrics", {})
    moving = ("connections", "longest_transaction_seconds", "lock_waits", "users", "run_in_progress", "last_run_ok")
    figures = "  ".join(f"{name} {speak.value(metrics[name])}" for name in moving if name in metrics)
    healthy = speak(say("healthy") if values.get("healthy") else say("NOT healthy"))
    when = str(values.get("finished_at") or values.get("at") or "")[:19]
    problem = values.get("error", {}).get("message", "") if not values.get("healthy") else ""
    return f"{when}  {healthy}  {figures}  {speak(problem)}".rstrip()
