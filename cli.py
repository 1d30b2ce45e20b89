"""The command line: ``tool``. The commands are in ``commands/``; nothing heavy is imported before one needs it."""

from __future__ import annotations

import typer

from commands import backups, books, data, schema

_OPTIONS = {"no_args_is_help": True, "add_completion": False, "rich_markup_mode": None}

app = typer.Typer(
    help="Upgrade Lawsker's PostgreSQL database safely. / 安全地升级 Lawsker 的 PostgreSQL 数据库。",
    pretty_exceptions_enable=False,
    **_OPTIONS,
)
for function in (schema.plan, schema.preflight, schema.migrate, schema.verify, schema.status, schema.monitor):
    app.command()(function)

backup_app = typer.Typer(help="Proven backups. / 经过验证的备份。", **_OPTIONS)
for name, function in {
    "create": backups.create,
    "list": backups.list_,
    "verify": backups.verify,
    "prune": backups.prune,
}.items():
    backup_app.command(name)(function)
app.add_typer(backup_app, name="backup")

for function in (backups.restore, schema.rollback, schema.adopt):
    app.command()(function)

users_app = typer.Typer(help="Sign-in accounts. / 登录账号。", **_OPTIONS)
users_app.command("upgrade")(data.upgrade)
users_app.callback()(lambda: None)
app.add_typer(users_app, name="users")

pagtive_app = typer.Typer(help="The Pagtive import. / Pagtive 导入。", **_OPTIONS)
for name, function in {"import": data.import_, "rejects": data.rejects, "undo": data.undo}.items():
    pagtive_app.command(name)(function)
app.add_typer(pagtive_app, name="pagtive")

for function in (books.history, books.report, books.checks, books.demo):
    app.command()(function)


def main() -> None:
    """Run ``tool``."""
    app()


if __name__ == "__main__":
    main()
