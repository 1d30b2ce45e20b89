"""Targets and sources for tests of the data migrations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from rollout.sample_data.pagtive import FLAVOURS, create_pagtive_schema
from tests.fixtures.pagtive import Rows, rows_of
from tests.fixtures.upgraded import connected

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rollout.settings import Server, Settings
    from tests.fixtures.databases import MakeDatabase, SettingsFor


@pytest.fixture(scope="session")
def source_templates(make_template: MakeDatabase) -> dict[str, Server]:
    """Return an empty source of every kind of installation; copy it."""
    servers = {}
    for flavour in FLAVOURS:
        servers[flavour] = make_template()
        with connected(servers[flavour]) as connection:
            create_pagtive_schema(connection, flavour=flavour)
            for column in ("style_tags", "is_public", "is_featured", "is_published"):
                # Not every installation is as strict as the sample.
                connection.exec_driver_sql(f"ALTER TABLE projects ALTER {column} DROP NOT NULL")
            connection.commit()
    return servers


@pytest.fixture
def source_server(make_database: MakeDatabase, source_templates: dict[str, Server], request: Any) -> Server:
    """Return an empty source of the test's own; parametrise indirectly for another kind of installation."""
    return make_database(source_templates[getattr(request, "param", "typical")])


@pytest.fixture
def target_server(make_database: MakeDatabase, upgraded: Server) -> Server:
    """Return an upgraded Lawsker database of the test's own, with its legacy users."""
    return make_database(upgraded)


@pytest.fixture
def settings(settings_for: SettingsFor, target_server: Server, source_server: Server) -> Settings:
    """Return settings that point to both."""
    return settings_for(target_server, source_server)


@pytest.fixture
def source(source_server: Server) -> Iterator[Rows]:
    """Yield what writes the source's rows."""
    with rows_of(source_server) as rows:
        yield rows


@pytest.fixture
def target(target_server: Server) -> Iterator[Rows]:
    """Yield what reads the target's rows."""
    with rows_of(target_server) as rows:
        yield rows


@pytest.fixture
def touched(target: Rows) -> Callable[[], dict[str, list[Any]]]:
    """Return what tells every row version of the target's tables: a row that was written, even as it was, shows."""
    listed = "SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"

    def versions() -> dict[str, list[Any]]:
        return {
            name: target.run(f'SELECT ctid::text, xmin::text FROM public."{name}" ORDER BY ctid')
            for (name,) in target.run(listed)
        }

    return versions
