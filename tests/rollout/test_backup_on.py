"""Proofs elsewhere: on a server of our own, or on the server of a URL; the target's own server is spared."""

from __future__ import annotations

import os
import secrets
from dataclasses import replace

import pytest

from rollout.backup import create, verify
from rollout.embedded import EmbeddedServer
from rollout.errors import BackupFailed, DatabaseUnavailable
from rollout.run import Run
from rollout.settings import Server
from tests.fixtures.databases import execute, query, url_of
from tests.fixtures.servers import in_memory

# Those of this process: others run tests on the same server.
DATABASES = f"""
SELECT string_agg(datname || ' ' || oid, ', ' ORDER BY oid) FROM pg_database
WHERE datname LIKE 'test\\_{os.getpid()}\\_%'
"""


@pytest.fixture
def owner(postgres, database):
    """Yield a database as its owner reaches it, who may not create others; the owner's name needs quoting."""
    name = f"Owner {secrets.token_hex(3)}"
    execute(
        postgres.server,
        f"CREATE ROLE \"{name}\" LOGIN PASSWORD 'p'",
        f'ALTER DATABASE {database.database} OWNER TO "{name}"',
    )
    server = Server("DATABASE_URL", {**database.parameters, "user": name, "password": "p"})
    execute(database, "CREATE EXTENSION IF NOT EXISTS pg_trgm")
    execute(server, "CREATE SCHEMA s", "CREATE TABLE s.t (a int)", "INSERT INTO s.t SELECT generate_series(1, 50)")
    yield server
    execute(database, f'DROP OWNED BY "{name}"')
    execute(postgres.server, f"ALTER DATABASE {database.database} OWNER TO postgres", f'DROP ROLE "{name}"')


@pytest.fixture(scope="module")
def other():
    """Yield a server beside the session's own, which knows none of its roles."""
    with EmbeddedServer(directory=in_memory(), fast=True) as server:
        yield server.server()


def test_on_a_server_of_our_own(owner, settings_for):
    """No CREATEDB is needed, no database is made on the target's server; roles are made where they are missing."""
    before = query(owner, DATABASES)
    run = Run("backup create")
    made = create(settings_for(owner), run, prove=True, on="embedded")
    assert (made.proof.place, made.proof.rows) == ("embedded", 50)
    assert run.result["proven"] is True
    assert query(owner, DATABASES) == before


@pytest.mark.variant
def test_what_our_own_server_cannot_hold_is_named(owner, settings_for, monkeypatch):
    """An extension that the embedded server has not: said before anything is restored; the backup stays, unproven."""
    settings = settings_for(owner)
    made = create(settings, Run("backup create"))
    path, needs = made.path, made.manifest.needs
    needs = replace(needs, extensions=(*needs.extensions, {"name": "postgis", "version": "3.4"}))
    monkeypatch.setattr("rollout.backup.check", lambda *_: replace(made.manifest, needs=needs))
    with pytest.raises(BackupFailed) as caught:
        verify(path, run=Run("backup verify"), settings=settings, on="embedded")
    assert "the extension postgis is not installed on this server" in caught.value.message
    assert "Install the server package that brings postgis." in caught.value.hint
    assert not (path / "proof.json").exists()


@pytest.mark.variant
def test_on_the_server_of_a_url(owner, other, settings_for):
    """Roles that are missing there are asked for; then it is proven there, by name, and nothing stays."""
    settings = settings_for(owner)
    path = create(settings, Run("backup create")).path
    before = query(other, DATABASES)
    url = url_of(other)
    with pytest.raises(BackupFailed) as caught:
        verify(path, run=Run("backup verify"), settings=settings, on=url)
    statement = f'CREATE ROLE "{owner.parameters["user"]}";'
    assert statement in caught.value.hint
    execute(other, statement)
    proof = verify(path, run=Run("backup verify"), settings=settings, on=url).proof
    assert proof.place == f"{other.parameters['host']}:{other.parameters['port']}"
    assert query(other, DATABASES) == before
    execute(other, statement.replace("CREATE", "DROP"))


def test_a_url_that_nobody_answers(owner, other, settings_for):
    """Exit code 4; the backup is whole, and can be proven later."""
    settings = settings_for(owner)
    path = create(settings, Run("backup create")).path
    nobody = Server("--on", {**other.parameters, "port": "1"})
    with pytest.raises(DatabaseUnavailable) as caught:
        verify(path, run=Run("backup verify"), settings=settings, on=url_of(nobody))
    assert caught.value.exit_code == 4
    assert verify(path, run=Run("backup verify"), quick=True).proof is None
