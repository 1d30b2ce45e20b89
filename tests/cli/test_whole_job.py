"""The whole job through the command line, one step after the other, on whichever server the session has."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from cli import app
from rollout.sample_data import create_pagtive_schema, fill_pagtive
from tests.fixtures.databases import execute, url_of
from tests.fixtures.legacy import NEW_USER_COLUMNS, picture
from tests.fixtures.upgraded import USERS, connected


@pytest.fixture
def source(make_database):
    """Return a Pagtive source with rows, some of them dirty, some of people that Lawsker knows."""
    server = make_database()
    with connected(server) as connection:
        create_pagtive_schema(connection)
        fill_pagtive(connection, users=60, legacy_users=USERS)
        connection.commit()
    return server


@pytest.fixture
def tool(legacy, source, tmp_path, monkeypatch):
    """Return what runs a command that must succeed, and returns what it prints as JSON."""
    monkeypatch.setenv("DATABASE_URL", url_of(legacy))
    monkeypatch.setenv("SOURCE_DATABASE_URL", url_of(source))
    monkeypatch.setenv("ROLLOUT_DIR", str(tmp_path / "var"))

    def run(*arguments):
        result = CliRunner().invoke(app, [*arguments, "--json"])
        assert result.exit_code == 0, f"{arguments}: {result.output}"
        told = json.loads(result.stdout)
        assert told["ok"] is True
        return told

    return run


@pytest.mark.variant
def test_the_whole_job(tool, legacy):
    """Upgrade, accounts, import, backup, rollback, upgrade, restore: at every step the rows are there, and sound."""
    legacy_rows = picture(legacy)

    migrated = tool("migrate", "--yes")
    assert (migrated["database"], migrated["summary"]["failed"]) == ("changed", 0)
    assert legacy_rows.lost(picture(legacy, without=NEW_USER_COLUMNS)) == []
    assert tool("verify")["findings"] == []

    accounts = tool("users", "upgrade")
    assert accounts["accounts"]["email"] > 0
    assert accounts["accounts"]["feishu"] > 0
    imported = tool("pagtive", "import")["tables"]
    for name, counts in imported.items():
        kept = ("inserted", "updated", "unchanged", "merged", "quarantined")
        assert counts["read"] == sum(counts[one] for one in kept) > 0, name
        assert counts["inserted"] > 0, name
    again = tool("pagtive", "import")["tables"]
    assert [counts["inserted"] + counts["updated"] for counts in again.values()] == [0] * len(again)
    verified = tool("verify")
    assert [one for one in verified["findings"] if one["severity"] == "error"] == []
    assert tool("status")["pending"] in ([], 0)

    filled = picture(legacy)
    made = tool("backup", "create")
    assert made["proven"] is True
    assert tool("backup", "verify", made["path"])["proven"] is True

    receipt = tool("rollback", "--to", "penalties", "--yes")["receipt"]
    assert {one["object"]: one["shelved"] for one in receipt}["table pagtive_projects"] > 0
    assert tool("verify")["summary"]["failed"] == 0
    assert tool("migrate", "--yes")["database"] == "changed"
    assert picture(legacy).contents == filled.contents

    execute(legacy, "DELETE FROM pagtive_llm_logs")
    restored = tool("restore", made["path"], "--yes")
    try:
        assert restored["database"] == "restored"
        assert picture(legacy).contents == filled.contents
        assert tool("verify")["summary"]["failed"] == 0
    finally:
        execute(legacy.to_database("postgres"), restored["drop_replaced"])
