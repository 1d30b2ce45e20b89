"""Fill an empty database with made-up data.

``python -m rollout.sample_data legacy --users 100000`` fills the database of ``DATABASE_URL``;
``python -m rollout.sample_data pagtive --users 10000 --legacy-users 100000`` that of ``SOURCE_DATABASE_URL``.
"""

from __future__ import annotations

import argparse
import sys

from sqlalchemy import Connection, text

from rollout.database import engine_for
from rollout.errors import ConfigurationError, PreflightFailed, RolloutError
from rollout.messages import say
from rollout.sample_data import create_legacy_schema, create_pagtive_schema, fill_legacy, fill_pagtive
from rollout.settings import SOURCE_KEY, load


def main(arguments: list[str]) -> int:
    """Run as a program; refuse a database that holds anything."""
    parser = argparse.ArgumentParser(prog="python -m rollout.sample_data", description=__doc__)
    parser.add_argument("kind", choices=["legacy", "pagtive"])
    parser.add_argument("--users", type=int, default=1000)
    parser.add_argument("--legacy-users", type=int, default=0, help="how many legacy users there are to match")
    parser.add_argument("--flavour", choices=["typical", "text", "minimal"], default="typical")
    options = parser.parse_args(arguments)
    try:
        _fill(options)
    except RolloutError as error:
        sys.stderr.write(f"error: {error.message}\nhint:  {error.hint}\n")
        return error.exit_code
    return 0


def _fill(options: argparse.Namespace) -> None:
    """Make the schema and the rows in one transaction."""
    settings = load()
    server = settings.target if options.kind == "legacy" else settings.source
    if server is None:
        raise ConfigurationError(
            say("{key} is not set", key=SOURCE_KEY),
            hint=say("Set {key}=postgresql://user@host:5432/database in the environment or in .env", key=SOURCE_KEY),
        )
    with engine_for(server).begin() as connection:
        _refuse_a_database_in_use(connection)
        if options.kind == "legacy":
            create_legacy_schema(connection)
            fill_legacy(connection, users=options.users)
        else:
            create_pagtive_schema(connection, flavour=options.flavour)
            fill_pagtive(connection, users=options.users, legacy_users=options.legacy_users)


def _refuse_a_database_in_use(connection: Connection) -> None:
    """Raise ``PreflightFailed`` where the database holds a table."""
    query = text("SELECT count(*) FROM pg_tables WHERE schemaname NOT IN ('pg_catalog', 'information_schema')")
    count = connection.execute(query).scalar_one()
    if count:
        raise PreflightFailed(
            say("the database holds {count} table(s): made-up data is for an empty one", count=count),
            hint=say("CREATE DATABASE …; and name that one."),
        )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
