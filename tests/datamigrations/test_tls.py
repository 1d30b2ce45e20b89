"""A source on another server: reached by TLS, through a role that may read and nothing else."""

from __future__ import annotations

import ssl
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import trustme

from rollout.settings import Server
from tests.fixtures.databases import execute
from tests.fixtures.pagtive import attempt_import, figures, imported
from tests.fixtures.proxy import Secure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from tests.fixtures.servers import Postgres


@pytest.fixture
def reader(source_server: Server, postgres: Postgres) -> Iterator[Server]:
    """Yield how a role reaches the source that may read it and nothing else."""
    role = f"reader_{source_server.database}"
    execute(postgres.server, f"CREATE ROLE {role} LOGIN PASSWORD 'reader'")
    try:
        execute(postgres.server, f"ALTER ROLE {role} SET default_transaction_read_only = on")
        execute(source_server, f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}")
        yield Server("SOURCE_DATABASE_URL", {**source_server.parameters, "user": role, "password": "reader"})
    finally:
        execute(source_server, f"DROP OWNED BY {role}")
        execute(postgres.server, f"DROP ROLE {role}")


@pytest.fixture
def secured(reader: Server, tmp_path: Path) -> Callable[[str], AbstractContextManager[Secure]]:
    """Return what speaks TLS before the source, with a certificate for that name from an authority of our own."""
    authority = trustme.CA()
    root = tmp_path / "root.crt"
    authority.cert_pem.write_to_path(str(root))

    @contextmanager
    def speaking(name: str) -> Iterator[Secure]:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        authority.issue_cert(name).configure_cert(context)
        proxy = Secure(reader, context, root)
        try:
            yield proxy
        finally:
            proxy.close()

    return speaking


def test_a_source_that_is_read_over_tls(settings, source, secured):
    """Every session is encrypted and checks the certificate: the one that looks around, and those that copy."""
    for number in range(1, 30):
        project = source.project(number, source.user(number))
        source.page(project, 1, html="<p>" + "text " * 20_000)
    with secured("127.0.0.1") as proxy:
        run = imported(replace(settings, source=proxy.server), jobs=2)
    assert figures(run, "project_details") == {"read": 29, "inserted": 29}
    assert len(proxy.spoken) >= 3
    assert set(proxy.spoken) <= {"TLSv1.2", "TLSv1.3"}


def test_a_certificate_of_somebody_else(settings, source, secured, tmp_path):
    """One for another host, or from an authority that is not ours: exit code 4, before a password was sent."""
    source.user(1)
    with secured("db.example.com") as proxy:
        run = attempt_import(replace(settings, source=proxy.server))
        assert run.exit_code == 4
        assert "no secure connection" in run.error.message
        assert "does not match host name" in run.error.message
    with secured("127.0.0.1") as proxy:
        trustme.CA().cert_pem.write_to_path(str(tmp_path / "root.crt"))
        run = attempt_import(replace(settings, source=proxy.server))
        assert run.exit_code == 4
        assert "certificate verify failed" in run.error.message
    assert "sslrootcert" in run.error.hint
