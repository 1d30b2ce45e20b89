"""Proofs elsewhere: on a server of our own, or on the server of a URL; the target's own server is spared."""

from __future__ import annotations

import os
import secrets
from dataclasses import replace

import pytest

from rollout import scratch, wheel
from rollout.backup import create, verify
from rollout.embedded import EmbeddedServer
from rollout.errors import BackupFailed, ConfigurationError, DatabaseUnavailable, PreflightFailed, RolloutError
from rollout.needs import Needs
from rollout.preflight import preflight
from rollout.rehearse import rehearse
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


@pytest.mark.variant
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


def places_that_will_not_do(postgres, other):
    """Yield URLs where nothing can be proven, each with the exit code and a word of the reason."""
    parameters = postgres.server.parameters
    yield url_of(Server("--on", {**parameters, "port": "1"})), 4, "port 1"
    yield url_of(Server("--on", {**parameters, "user": "nobody_here", "password": "secret-one"})), 4, "nobody_here"
    yield "mysql://h/x", 3, "--on"
    name = f"poor_{os.getpid()}"
    execute(postgres.server, f"CREATE ROLE {name} LOGIN PASSWORD 'p'")
    try:
        poor = Server("--on", {**parameters, "user": name, "password": "p"})
        yield url_of(poor), 7, f"{name} may not create databases"
    finally:
        execute(postgres.server, f"DROP ROLE {name}")
    yield url_of(other), 7, "does not exist on this server"  # the owner's role


def test_a_place_that_will_not_do_is_refused_before_the_dump(owner, other, postgres, settings_for, monkeypatch):
    """Unreachable, wrong password, no CREATEDB, a role that is missing: said at once, and by rehearsals too."""
    settings = settings_for(owner)
    monkeypatch.setattr("rollout.backup._dumped", lambda *_, **__: pytest.fail("it was dumped all the same"))
    for url, code, word in places_that_will_not_do(postgres, other):
        with pytest.raises(RolloutError) as caught:
            create(settings, Run("backup create"), prove=True, on=url)
        assert (caught.value.exit_code, caught.value.database) == (code, "untouched")
        assert word in caught.value.message
        assert "\n" not in caught.value.message
        assert caught.value.hint
        assert "secret-one" not in caught.value.message
        with pytest.raises(RolloutError) as caught:
            rehearse(settings, Run("rehearse"), None, on=url)
        assert caught.value.exit_code == code
    assert not settings.backups.exists()


def test_preflight_looks_at_the_place_too(legacy, other, settings_for):
    """`tool preflight --on URL` of a server that lacks a role, and one that nobody answers: codes 6 and 4."""
    role = f"role_{os.getpid()}"
    execute(legacy, f"CREATE ROLE {role}", f"ALTER TABLE users OWNER TO {role}")
    try:
        with pytest.raises(PreflightFailed, match=f"the role {role} does not exist on this server"):
            preflight(settings_for(legacy), Run("preflight"), on=url_of(other))
        nobody = Server("--on", {**other.parameters, "port": "1"})
        with pytest.raises(DatabaseUnavailable):
            preflight(settings_for(legacy), Run("preflight"), on=url_of(nobody))
    finally:
        execute(legacy, f"ALTER TABLE users OWNER TO {legacy.parameters['user']}", f"DROP ROLE {role}")


def test_an_older_server_is_refused_before_the_dump(owner, other, settings_for, monkeypatch):
    """The server of --on is older than the database's own: exit code 7 at once."""
    monkeypatch.setattr("rollout.backup._dumped", lambda *_, **__: pytest.fail("it was dumped all the same"))
    real = scratch.describe

    def told(connection, server):
        found = real(connection, server)
        return found if server.parameters["port"] == owner.parameters["port"] else replace(found, version_number=110022)

    monkeypatch.setattr(scratch, "describe", told)
    with pytest.raises(BackupFailed, match=r"this server is 11"):
        create(settings_for(owner), Run("backup create"), prove=True, on=url_of(other))


def test_what_the_embedded_server_has_not_is_said_before_the_dump(owner, settings_for, monkeypatch):
    """No wheel, or an extension that it lacks: exit code 3 and 7, before anything is dumped."""
    monkeypatch.setattr("rollout.backup._dumped", lambda *_, **__: pytest.fail("it was dumped all the same"))
    needs = Needs(extensions=({"name": "postgis", "version": "3.4"},))
    monkeypatch.setattr(scratch.Needs, "of", lambda _: needs)
    with pytest.raises(BackupFailed, match="the embedded PostgreSQL has no extension postgis"):
        create(settings_for(owner), Run("backup create"), prove=True, on="embedded")
    monkeypatch.setattr(wheel, "wheel_bin", lambda: None)
    with pytest.raises(ConfigurationError, match="not installed"):
        create(settings_for(owner), Run("backup create"), prove=True, on="embedded")
