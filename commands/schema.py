"""Commands on the schema: plan, preflight, migrate, verify, status, monitor, rollback, adopt."""

from __future__ import annotations

import json as format_json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from commands.frame import USAGE, Html, Json, To, Yes, ask, command, where
from rollout.errors import RolloutError
from rollout.messages import say
from rollout.presentation import Speaker, result_lines
from rollout.settings import load, speaks_chinese

if TYPE_CHECKING:
    from rollout.receipt import Going


def migrate(
    to: To = "head",
    mode: Annotated[str, typer.Option(help="atomic (online comes later). / 原子模式。")] = "atomic",
    no_backup: Annotated[bool, typer.Option("--no-backup", help="No backup (asks). / 不做备份（需确认）。")] = False,
    deep: Annotated[bool, typer.Option(help="Hash every table. / 对所有表做内容校验。")] = False,
    yes: Yes = False,
    json: Json = False,
) -> None:
    """Upgrade the database: preflight, backup, one verified transaction, audit, report. / 升级数据库。

    Example: tool migrate
    """
    from rollout.migrate import Options
    from rollout.migrate import migrate as upgrade

    if mode != "atomic":
        raise typer.BadParameter("only atomic is there yet / 目前只支持 atomic", param_hint="--mode")
    with command("migrate", as_json=json) as run:
        settings = load()
        if no_backup and not ask(f"Upgrade {where(settings)} WITHOUT a backup? / 不备份直接升级？", yes=yes):
            raise typer.Exit(USAGE)
        upgrade(settings, run, Options(to=to, backup=not no_backup, deep=deep))


def preflight(to: To = "head", json: Json = False) -> None:
    """Find everything that could stop the upgrade; change nothing. / 升级前检查，不做任何更改。

    Example: tool preflight
    """
    from rollout.preflight import preflight as look

    with command("preflight", as_json=json) as run:
        look(load(), run, to=to)


def plan(
    to: To = "head",
    sql: Annotated[bool, typer.Option("--sql", help="Print the SQL. / 输出 SQL。")] = False,
    json: Json = False,
) -> None:
    """Show what would run: revisions, locks, rows, lint findings, estimate. / 显示升级计划。

    Example: tool plan --sql > upgrade.sql
    """
    from rollout.preview import preview

    with command("plan", as_json=json, quiet=("sql",)) as run:
        preview(load(), run, to=to, with_sql=sql)
        if sql and not json:
            typer.echo(run.result["sql"])
            raise typer.Exit(run.exit_code)


def verify(
    area: Annotated[list[str] | None, typer.Option(help="Only these areas (repeatable). / 仅检查这些方面。")] = None,
    at: Annotated[str | None, typer.Option(help="Against this revision. / 按此版本检查。")] = None,
    html: Html = None,
    json: Json = False,
) -> None:
    """Run all checks on the database as it is; read rights are enough. / 对现有数据库做全部检查。

    Example: tool verify --area structure --area data
    """
    from rollout.checks.registry import Area
    from rollout.verify import verify as check_all

    known = [one.value for one in Area]
    for name in area or []:
        if name not in known:
            raise typer.BadParameter(f"{name}: one of {', '.join(known)}", param_hint="--area")
    with command("verify", as_json=json) as run:
        try:
            check_all(load(), run, areas=area or [], at=at)
        finally:
            if html is not None:
                from rollout.report import render_html

                html.write_text(render_html(run.as_json()), encoding="utf-8")


def status(json: Json = False) -> None:
    """Take one look: revision, health, sizes, last backup. / 查看一次当前状态。

    Example: tool status
    """
    from rollout.monitor import status as look

    with command("status", as_json=json) as run:
        look(load(), run)


def monitor(
    interval: Annotated[float, typer.Option(help="Seconds between looks. / 间隔秒数。")] = 10.0,
    duration: Annotated[float, typer.Option("--for", help="Seconds in all, 0: until Ctrl-C. / 总秒数。")] = 0.0,
    prometheus: Annotated[Path | None, typer.Option(help="Also write this textfile. / 写出 Prometheus 文件。")] = None,
    json: Json = False,
) -> None:
    """Look every few seconds; one line (or JSON object) a sample. / 持续监控。

    Example: tool monitor --interval 5 --for 600
    """
    from rollout.monitor import monitor as watch

    speak = Speaker(chinese=speaks_chinese())

    def show(values: dict[str, Any]) -> None:
        if json:
            typer.echo(format_json.dumps(values, ensure_ascii=False, default=str))
        else:
            typer.echo("  ".join(line.strip() for line in result_lines(values, speak)))

    try:
        code = watch(load(), interval=interval, duration=duration, on_sample=show, prometheus=prometheus)
    except RolloutError as error:
        typer.secho(f"error: {speak(error.message)}\nhint:  {speak(error.hint)}", err=True, fg="red")
        raise typer.Exit(error.exit_code) from None
    raise typer.Exit(code)


def rollback(
    to: Annotated[str, typer.Option("--to", help="Revision, family or before-last-run. / 目标版本或版本族。")],
    receipt: Annotated[bool, typer.Option("--receipt", help="Only show what would go. / 只显示清单。")] = False,
    discard: Annotated[bool, typer.Option("--discard", help="Keep no shelf. / 不保留被移除的数据。")] = False,
    yes: Yes = False,
    json: Json = False,
) -> None:
    """Take revisions back, with a receipt first and people's rows on a shelf. / 选择性回滚。

    Example: tool rollback --to penalties --receipt
    """
    from rollout.rollback import Options
    from rollout.rollback import rollback as take_back

    with command("rollback", as_json=json, quiet=("receipt",)) as run:
        settings = load()

        def show(going: list[Going]) -> None:
            for one in going:
                if one.object.startswith(("table ", "column ", "view ", "function ")):
                    run.listener.note(say("  - {object}  {rows} row(s)", object=one.object, rows=one.rows))
            run.listener.note(
                say("{count} object(s) go, with their constraints, indexes and triggers", count=len(going))
            )

        def confirm(going: list[Going]) -> bool:
            show(going)
            rows = sum(one.rows for one in going if one.object.startswith("table "))
            kept = "DISCARDED / 丢弃" if discard else "kept on the shelf / 保留在 rollout_shelf"
            question = f"{where(settings)}: {len(going)} objects go, {rows} rows {kept}. Go on? / 是否继续？"
            return ask(question, yes=yes)

        going = take_back(settings, run, Options(to=to, discard=discard, receipt_only=receipt), confirm)
        if receipt:
            show(going)


def adopt(yes: Yes = False, json: Json = False) -> None:
    """Say object by object what is there, missing or different; record the revision it stands at. / 接管现有数据库。

    Example: tool adopt
    """
    from rollout.adoption import adopt as take_over

    with command("adopt", as_json=json, quiet=("objects",)) as run:
        settings = load()

        def confirm(revision: str) -> bool:
            return ask(f"{where(settings)}: record revision {revision}? / 记录为该版本？", yes=yes)

        take_over(settings, run, confirm)
        if not json:
            for one in run.result["objects"]:
                if one["state"] != "present":
                    typer.echo(f"{one['state']:<10} {one['object']}  {one['how']}".rstrip())
