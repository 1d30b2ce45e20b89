"""The same product on PostgreSQL in a container that testcontainers started (`make test-container`)."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory
from testcontainers.core.docker_client import DockerClient

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


def test_plain_alembic_upgrades_and_downgrades_an_empty_database(container_database):
    """``alembic upgrade head`` and ``alembic downgrade base`` as people type them, from the project's directory."""
    head = ScriptDirectory.from_config(Config(PROJECT / "alembic.ini")).get_current_head()
    environment = {**os.environ, "DATABASE_URL": url_of(container_database)}
    for arguments, expected in ((["upgrade", "head"], head), (["downgrade", "base"], None)):
        done = subprocess.run(
            [Path(sys.executable).with_name("alembic"), *arguments],
            cwd=PROJECT,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        tables = "SELECT count(*) FROM pg_tables WHERE schemaname = 'public' AND tablename <> 'lawsker_schema_version'"
        if expected is None:
            assert query(container_database, tables) == 0
        else:
            assert query(container_database, "SELECT version_num FROM lawsker_schema_version") == expected
            assert query(container_database, tables) > 30
