"""Databases to measure on: a filled legacy one, and how a command reaches a database of the server."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rollout.database import engine_for
from rollout.sample_data import create_legacy_schema, create_pagtive_schema, fill_legacy, fill_pagtive

if TYPE_CHECKING:
    from pathlib import Path

    from rollout.embedded import EmbeddedServer


def run_sql(server: EmbeddedServer, dbname: str, *statements: str) -> None:
    """Run statements in autocommit."""
    with engine_for(server.server(dbname)).connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)


def create_legacy(server: EmbeddedServer, dbname: str, *, users: int) -> None:
    """Create a legacy database with so many users, and as many cases."""
    run_sql(server, "postgres", f"CREATE DATABASE {dbname}")
    with engine_for(server.server(dbname)).begin() as connection:
        create_legacy_schema(connection)
        fill_legacy(connection, users=users, cases=users)


def create_pagtive(
    server: EmbeddedServer, dbname: str, *, users: int, page_bytes: tuple[int, int] = (3000, 6000)
) -> None:
    """Create a Pagtive database with so many users, every row fit to be imported; see ``fill_pagtive``."""
    run_sql(server, "postgres", f"CREATE DATABASE {dbname}")
    with engine_for(server.server(dbname)).begin() as connection:
        create_pagtive_schema(connection)
        fill_pagtive(connection, users=users, dirty=0, page_bytes=page_bytes)


def environment(server: EmbeddedServer, dbname: str, directory: str | Path) -> dict[str, str]:
    """Return what points ``tool`` to a database, and its files to a directory."""
    return {"DATABASE_URL": f"{server.url.removesuffix('/postgres')}/{dbname}", "ROLLOUT_DIR": str(directory)}
