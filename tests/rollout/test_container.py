"""The same product on PostgreSQL in a container that testcontainers started (`make test-container`)."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory
from testcontainers.core.docker_client import DockerClient

from rollout.database import engine_for
from rollout.sample_data import create_legacy_schema, fill_legacy
from rollout.settings import PROJECT
from tests.fixtures import containers
from tests.fixtures.databases import execute, query, url_of

pytestmark = pytest.mark.container


def test_the_server_is_a_container_of_the_image_that_was_asked_for(container):
    """What the fixture gives is a container of this session, made from ``POSTGRES_IMAGE``."""
    client = DockerClient()
    try:
        ours = client.client.containers.list(filters={"label": [containers.OWNER, "org.testcontainers=true"]})
        images = [
            one.attrs["Config"]["Image"] for one in ours if one.labels[containers.OWNER].endswith(f":{os.getpid()}")
        ]
    finally:
        client.client.close()
    assert images == [os.environ.get("POSTGRES_IMAGE") or containers.DEFAULT_IMAGE]
    assert query(container.server, "SHOW server_version").startswith(container.version)
    assert container.version_number >= 120000


def test_a_container_lets_in_only_who_knows_the_password(container):
    """Each session's container has a random password."""
    stranger = container.server.parameters | {"password": "postgres"}
    with pytest.raises(Exception, match="password authentication failed"):
        execute(type(container.server)("a stranger", stranger))


def command(name, *arguments, database, **environment):
    """Run one of the project's commands on a database, as an operator would; return what it said."""
    return subprocess.run(
        [Path(sys.executable).with_name(name), *arguments],
        cwd=PROJECT,
        env={**os.environ, "DATABASE_URL": url_of(database), **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_plain_alembic_upgrades_and_downgrades_an_empty_database(container_database):
    """``alembic upgrade head`` makes the schema; ``alembic downgrade base`` takes all of it back."""
    tables = "SELECT count(*) FROM pg_tables WHERE schemaname = 'public' AND tablename <> 'lawsker_schema_version'"

    upgraded = command("alembic", "upgrade", "head", database=container_database)
    assert upgraded.returncode == 0, upgraded.stderr
    head = ScriptDirectory.from_config(Config(PROJECT / "alembic.ini")).get_current_head()
    assert query(container_database, "SELECT version_num FROM lawsker_schema_version") == head
    assert query(container_database, tables) > 30

    downgraded = command("alembic", "downgrade", "base", database=container_database)
    assert downgraded.returncode == 0, downgraded.stderr
    assert query(container_database, tables) == 0


def test_the_main_job_upgrades_a_legacy_database(container_database, tmp_path):
    """``tool migrate`` on legacy rows: backed up, upgraded, verified; then ``tool verify`` agrees."""
    with engine_for(container_database).begin() as connection:
        create_legacy_schema(connection)
        fill_legacy(connection, users=200)
    before = query(container_database, "SELECT md5(string_agg(c::text, '|' ORDER BY id)) FROM cases c")
    here = {"ROLLOUT_DIR": str(tmp_path)}

    migrated = command("tool", "migrate", "--yes", "--json", database=container_database, **here)
    assert migrated.returncode == 0, migrated.stderr
    report = json.loads(migrated.stdout)
    assert report["ok"]
    assert report["database"] == "changed"
    assert Path(report["backup"]).exists()
    assert query(container_database, "SELECT count(*) FROM workspace_mappings") == 200
    assert query(container_database, "SELECT md5(string_agg(c::text, '|' ORDER BY id)) FROM cases c") == before

    verified = command("tool", "verify", "--json", database=container_database, **here)
    assert verified.returncode == 0, verified.stdout
