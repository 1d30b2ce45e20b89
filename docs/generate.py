# ruff: noqa: INP001 - a script beside the pages it writes, no package
"""Write the pages of docs/ that must not be out of date: cli.md, checks.md, schema.md (``make docs``).

``--check`` writes nothing and fails where a page is stale, naming it (``make docs-check``).
"""

from __future__ import annotations

import inspect
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer.main
from sqlalchemy import CheckConstraint, ForeignKeyConstraint, Integer, PrimaryKeyConstraint, UniqueConstraint
from sqlalchemy.dialects import postgresql
from typer.testing import CliRunner

from cli import app
from models.base import Base
from rollout import manifest, plan, verify
from rollout.checks.registry import CHECKS, Area
from rollout.messages import in_chinese

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Column, Table

DOCS = Path(__file__).resolve().parent
GENERATED = "<!-- Written by docs/generate.py: change the source, then run `make docs`. -->"
WIDTH = "100"
NEWEST_SERVER = 18

AREAS = {
    Area.PREFLIGHT: ("before anything is touched", "升级前预检"),
    Area.STRUCTURE: ("what the schema is made of", "结构"),
    Area.DATA: ("rows that must be there", "数据"),
    Area.BUSINESS: ("the platform's rules", "业务规则"),
    Area.PERFORMANCE: ("what makes queries fast", "性能"),
    Area.SECURITY: ("who may read what", "安全"),
}
FAMILIES = {
    "core": ("Legacy core: there before us", "原有核心表：本工具之前就存在"),
    "auth": ("Unified authentication", "统一认证"),
    "levels": ("Lawyer levels", "律师等级"),
    "memberships": ("Memberships", "会员"),
    "matching": ("Matching, reviews, AI tools, uploads", "案件匹配、评价、AI 工具、批量上传"),
    "points": ("Points and time online", "积分与在线时长"),
    "credits": ("Credits", "额度"),
    "penalties": ("Declined cases and suspensions", "拒案与暂停派案"),
    "enterprise": ("Enterprise clients", "企业客户"),
    "accounts": ("Sign-in accounts", "登录账号"),
    "pagtive": ("Pagtive", "Pagtive"),
}
DIALECT = postgresql.dialect()  # type: ignore[no-untyped-call]
DDL: Any = DIALECT.ddl_compiler(DIALECT, None)  # type: ignore[arg-type]


def commands(group: Any, name: str = "tool") -> Iterator[str]:
    """Yield the full names of a Typer group and of everything below it, in the order of ``--help``."""
    yield name
    for command in getattr(group, "commands", {}).values():
        yield from commands(command, f"{name} {command.name}")


def help_of(name: str) -> str:
    """Return what ``tool … --help`` prints, at a fixed width."""
    result = CliRunner().invoke(app, [*name.split()[1:], "--help"], prog_name="tool", env={"COLUMNS": WIDTH})
    if result.exit_code:
        raise RuntimeError(f"{name} --help ended with {result.exit_code}") from result.exception
    return result.output.rstrip()


def cli_page() -> Iterator[str]:
    """Yield the lines of cli.md."""
    names = list(commands(typer.main.get_command(app)))
    yield from ["# Commands / 命令", "", GENERATED, ""]
    yield "Exit codes and what to do next: [runbook.md](runbook.md#exit-codes)."
    yield "退出码及处置方法见 [runbook.zh-CN.md](runbook.zh-CN.md#退出码)。"
    yield ""
    yield from (f"- [{name}](#{name.replace(' ', '-')})" for name in names)
    for name in names:
        yield from ["", f"## {name}", "", "```text", help_of(name), "```"]


def checks_page() -> Iterator[str]:
    """Yield the lines of checks.md."""
    assert verify.VERIFIED  # noqa: S101 - importing it registered every check
    yield from ["# Checks / 检查项", "", GENERATED, ""]
    yield f"{len(CHECKS)} checks. A finding is an error unless it says “warning”; a check that cannot run is an error."
    yield f"共 {len(CHECKS)} 项检查。除注明“警告”外，检查发现的问题均视为错误；未能执行的检查按错误处理。"
    for area, (english, chinese) in AREAS.items():
        yield from ["", f"## {area.value}: {english} / {chinese}"]
        for one in CHECKS.values():
            if one.area is area:
                yield from ["", f"### {one.name}", "", one.doc, "", in_chinese(one.doc)]


def schema_page() -> Iterator[str]:
    """Yield the lines of schema.md."""
    yield from ["# Schema / 数据库结构", "", GENERATED, ""]
    yield "Tables at the newest revision, by family. Columns in *italics* on a legacy table came with our revisions."
    yield "**PK** primary key, **!** NOT NULL."
    yield "最新版本的数据表，按版本族排列。原有表中以*斜体*标出的列由本工具添加。**PK** 主键，**!** 非空。"
    yield ""
    families = {module: list(_classes(module)) for module in FAMILIES}
    for module, (english, chinese) in FAMILIES.items():
        yield f"- [{module}](#{module}): {english} / {chinese} ({len(families[module])})"
    yield "- [Views, functions, triggers](#views-functions-triggers) / 视图、函数、触发器"
    yield "- [Revisions](#revisions) / 版本"
    for module, (english, chinese) in FAMILIES.items():
        yield from ["", f"## {module}", "", f"{english} / {chinese}", "", *_diagram(families[module])]
        for model in families[module]:
            yield from _table(model)
    yield from _other_objects()
    yield from _revisions()


def _classes(module: str) -> Iterator[Any]:
    """Yield the models of a module, in the order in which they stand there."""
    mapped = [mapper.class_ for mapper in Base.registry.mappers if mapper.class_.__module__ == f"models.{module}"]
    yield from sorted(mapped, key=lambda model: inspect.getsourcelines(model)[1])


def _type(column: Column[Any]) -> str:
    """Return a column's type as PostgreSQL names it."""
    return column.type.compile(dialect=DIALECT).lower().replace("timestamp with time zone", "timestamptz")


def _diagram(models: list[Any]) -> Iterator[str]:
    """Yield a Mermaid diagram of a family: its tables with their keys, and what they refer to.

    https://mermaid.js.org/syntax/entityRelationshipDiagram.html
    """
    yield from ["```mermaid", "erDiagram"]
    for model in models:
        table = model.__table__
        yield f"    {table.name} {{"
        for column in table.columns:
            marks = [mark for mark, has in [("PK", column.primary_key), ("FK", column.foreign_keys)] if has]
            if marks:
                yield f"        {_type(column).partition('(')[0]} {column.name} {', '.join(marks)}"
        yield "    }"
    for model in models:
        for key in _foreign_keys(model.__table__):
            many = "|o" if _is_unique(key) else "}o"
            one = "o|" if any(column.nullable for column in key.columns) else "||"
            yield f"    {key.parent.name} {many}--{one} {key.referred_table.name} : {', '.join(key.column_keys)}"
    yield "```"


def _foreign_keys(table: Table) -> list[ForeignKeyConstraint]:
    """Return a table's foreign keys, by their columns."""
    keys = [one for one in table.constraints if isinstance(one, ForeignKeyConstraint)]
    return sorted(keys, key=lambda one: list(one.column_keys))


def _is_unique(key: ForeignKeyConstraint) -> bool:
    """Tell whether at most one row refers to each row: the columns are the primary key, or unique."""
    return any(
        set(one.columns) == set(key.columns)
        for one in key.table.constraints
        if isinstance(one, (PrimaryKeyConstraint, UniqueConstraint))
    )


def _table(model: Any) -> Iterator[str]:
    """Yield a table's section."""
    table = model.__table__
    comment = f" / {table.comment}" if table.comment else ""
    yield from ["", f"### {table.name}", "", f"{inspect.getdoc(model)}{comment}", ""]
    yield "| column 列 | type 类型 | key 键 | default 默认值 | refers to 引用 | comment 说明 |"
    yield "|---|---|---|---|---|---|"
    for column in table.columns:
        yield _column(column, legacy=table.comment is None)
    checks = sorted(str(one.sqltext) for one in table.constraints if isinstance(one, CheckConstraint))
    uniques = sorted(", ".join(one.columns.keys()) for one in table.constraints if isinstance(one, UniqueConstraint))
    indexes = sorted(_index(one) for one in table.indexes)
    for name, values in (("unique 唯一", uniques), ("check 约束", checks), ("index 索引", indexes)):
        if values:
            yield from ["", f"{name}: " + " · ".join(f"`{value}`" for value in values)]


def _column(column: Column[Any], *, legacy: bool) -> str:
    """Return a column's line; on a legacy table, those of ours have a comment and stand in italics."""
    ours = legacy and column.comment
    key = "PK" if column.primary_key else "" if column.nullable else "!"
    default = _default(column)
    refers = "; ".join(
        f"{one.target_fullname}{f' {one.ondelete}' if one.ondelete else ''}"
        for one in sorted(column.foreign_keys, key=str)
    )
    cells = (
        f"*{column.name}*" if ours else column.name,
        _type(column),
        key,
        f"`{default}`" if default else "",
        refers,
        column.comment or "",
    )
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _default(column: Column[Any]) -> str:
    """Return what the server puts where nothing is given."""
    if column.identity is not None:
        return "identity"
    if column.table.autoincrement_column is column and isinstance(column.type, Integer):
        return "serial"
    return DDL.get_column_default_string(column) or ""


def _index(index: Any) -> str:
    """Return an index as its columns, with what makes it special."""
    columns = ", ".join(str(getattr(one, "name", one)) for one in index.expressions)
    where = index.dialect_options["postgresql"]["where"]
    return f"{'unique ' if index.unique else ''}({columns}){f' WHERE {where}' if where is not None else ''}"


def _other_objects() -> Iterator[str]:
    """Yield what the models do not hold: views, functions, triggers."""
    there = manifest.at([one.id for one in plan.history()], major=NEWEST_SERVER)
    yield from ["", "## Views, functions, triggers", "", "视图、函数、触发器", ""]
    for key, values in there.objects.items():
        kind, _, name = key.partition(" ")
        if kind in {"view", "function"}:
            yield f"- {kind} `{name}`" + (f": {values['comment']}" if "comment" in values else "")
    triggers = [key.removeprefix("trigger ") for key in there.objects if key.startswith("trigger ")]
    yield f"- trigger 触发器 ({len(triggers)}): " + ", ".join(f"`{one}`" for one in triggers)


def _revisions() -> Iterator[str]:
    """Yield the history: family, revision, what it changes for the application, and what it locks."""
    yield from ["", "## Revisions", "", "版本，按执行顺序；锁仅列出原有表。", ""]
    yield from ["| family 版本族 | revision 版本 | what changes 变更内容 | locks 锁 |", "|---|---|---|---|"]
    for one in plan.history():
        locks = "; ".join(f"{table}: {mode}" for table, mode in one.locks.items())
        yield f"| {one.family} | {one.id} | {one.summary} | {locks} |"


PAGES = {"cli.md": cli_page, "checks.md": checks_page, "schema.md": schema_page}


def main(arguments: list[str]) -> int:
    """Write the pages, or (``--check``) name those that are stale; return the exit code."""
    stale = []
    for name, lines in PAGES.items():
        path, text = DOCS / name, "\n".join(lines()) + "\n"
        if path.exists() and path.read_text(encoding="utf-8") == text:
            continue
        if arguments == ["--check"]:
            stale.append(f"docs/{name}")
        else:
            path.write_text(text, encoding="utf-8")
    if stale:
        sys.stderr.write(f"error: out of date: {', '.join(stale)}\nhint:  make docs\n")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
