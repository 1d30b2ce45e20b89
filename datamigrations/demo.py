"""``tool demo``: the whole main job on embedded servers, through the same code as production."""

from __future__ import annotations

from typing import TYPE_CHECKING

from datamigrations.accounts import upgrade_users
from datamigrations.pagtive import ImportOptions, import_pagtive
from rollout import interrupt, migrate, verify
from rollout.database import engine_for
from rollout.embedded import EmbeddedServer
from rollout.errors import CHANGED
from rollout.messages import say
from rollout.run import Run
from rollout.sample_data import create_legacy_schema, create_pagtive_schema, fill_legacy, fill_pagtive
from rollout.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from sqlalchemy import Connection

    from rollout.settings import Server

LEGACY, PAGTIVE = "lawsker", "pagtive_previews"
SOURCE_SHARE = 10
"""One Pagtive user for so many legacy users."""


def demo(run: Run, *, users: int, directory: Path, wait: Callable[[], object] | None = None) -> None:
    """Start servers, fill them, migrate, upgrade users, import Pagtive, verify; the reports stay in ``directory``.

    ``users``: legacy users. ``wait`` is called before the servers end; until then ``directory/urls`` holds their URLs.
    """
    with EmbeddedServer() as legacy_server, EmbeddedServer() as source_server:
        with run.step("legacy database") as step:
            target = _make(legacy_server, LEGACY, lambda to: _fill_legacy(to, users))
            step.detail = say("{users} users", users=users)
        with run.step("Pagtive source") as step:
            count = max(10, users // SOURCE_SHARE)
            source = _make(source_server, PAGTIVE, lambda to: _fill_pagtive(to, count, users))
            step.detail = say("{users} users", users=count)
        _main_job(run, Settings(target, source, directory))
        if wait is not None:
            _tell_urls(run, directory, legacy_server.url, source_server.url, wait)


def _fill_legacy(connection: Connection, users: int) -> None:
    """Make the legacy Lawsker database, with other people's tables."""
    create_legacy_schema(connection)
    fill_legacy(connection, users=users)


def _fill_pagtive(connection: Connection, users: int, legacy_users: int) -> None:
    """Make the Pagtive source, some of whose users are legacy users too."""
    create_pagtive_schema(connection)
    fill_pagtive(connection, users=users, legacy_users=legacy_users)


def _make(server: EmbeddedServer, name: str, fill: Callable[[Connection], None]) -> Server:
    """Create one database and fill it."""
    engine = engine_for(server.server())
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name}")
    with engine_for(server.server(name)).begin() as connection:
        fill(connection)
    return server.server(name)


def _main_job(run: Run, settings: Settings) -> None:
    """Run the commands an operator would, one after the other."""
    parts: dict[str, Callable[[Run], None]] = {
        "migrate": lambda part: migrate.migrate(settings, part, migrate.Options()),
        "users upgrade": lambda part: upgrade_users(settings, part),
        "pagtive import": lambda part: import_pagtive(settings, part, ImportOptions()),
        "verify": lambda part: verify.verify(settings, part),
    }
    reports = []
    for name, call in parts.items():
        part = Run(name, listener=run.listener)
        run.listener.note(say("— tool {command}", command=name))
        call(part)
        interrupt.heed_again()
        run.target = part.target
        run.database = CHANGED
        if "report" in part.result:
            reports.append(part.result["report"])
        if name == "pagtive import":
            run.result["pagtive"] = part.result["tables"]
    run.result["reports"] = reports


def _tell_urls(run: Run, directory: Path, target: str, source: str, wait: Callable[[], object]) -> None:
    """Leave the servers' URLs in a private file while they run."""
    path = directory / "urls"
    path.touch(mode=0o600)
    path.write_text(
        f"DATABASE_URL={target.removesuffix('/postgres')}/{LEGACY}\n"
        f"SOURCE_DATABASE_URL={source.removesuffix('/postgres')}/{PAGTIVE}\n",
        encoding="utf-8",
    )
    try:
        run.listener.note(say("the servers' URLs stand in {path} until you press Enter", path=path))
        wait()
    finally:
        path.unlink()
