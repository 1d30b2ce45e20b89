"""A checkout that is older than the database: it explains what it does not know; the database knows the way back."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest

from rollout import plan
from rollout.adoption import adopt
from rollout.errors import PreflightFailed
from rollout.run import Run
from rollout.settings import PROJECT
from rollout.verify import verify
from tests.fixtures.databases import execute, query, url_of
from tests.fixtures.legacy import attempt, dump_schema
from tests.fixtures.tiers import tried_once

KNOWN = plan.families()["accounts"]
NEWEST = plan.history()[-1].id
SCRIPTS = (
    "SELECT string_agg(downgrade_sql, E'\\n' ORDER BY number DESC) FROM rollout.applied_revisions WHERE number >"
    f" (SELECT number FROM rollout.applied_revisions WHERE revision = '{KNOWN}')"
)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """Return what runs the ``tool`` or ``alembic`` of a checkout that has no revision after the accounts."""
    place = tmp_path_factory.mktemp("older")
    for name in ("alembic", "models", "rollout", "datamigrations", "commands"):
        shutil.copytree(PROJECT / name, place / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("alembic.ini", "cli.py"):
        shutil.copy(PROJECT / name, place)
    for revision in plan.not_in(KNOWN):
        (place / revision.path.relative_to(PROJECT)).unlink()

    def run(server, *arguments):
        module = ["-m", "alembic"] if arguments[0] == "alembic" else ["cli.py"]
        environment = os.environ | {"DATABASE_URL": url_of(server), "PYTHONPATH": str(place)}
        command = [sys.executable, *module, *arguments[1:]]
        return subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True, check=False)

    return run


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(("tool", "status"), marks=pytest.mark.variant),
        ("tool", "migrate"),
        pytest.param(("tool", "rollback", "--to", "auth"), marks=pytest.mark.variant),
        pytest.param(("alembic", "current"), marks=pytest.mark.variant),
    ],
    ids=" ".join,
)
def test_what_it_does_not_know_is_explained(migrated, checkout, command):
    """Whatever it is asked, it says what the newer revision is, who made it, and where the way back stands."""
    done = checkout(migrated, *command)
    said = done.stdout + done.stderr
    assert "Traceback" not in said
    assert f"is at revision {NEWEST} (pagtive: Give Pagtive its tables" in said
    assert "it is 1 revision(s) behind" in said
    assert f"tool rollback --to {KNOWN}" in said
    assert done.returncode == {"status": 9, "rollback": 12}.get(command[1], 6)
    assert query(migrated, "SELECT version_num FROM lawsker_schema_version") == NEWEST


@pytest.mark.variant
def test_the_kept_scripts_lead_back(migrated, legacy, settings_for, checkout):
    """Run as the runbook says, they leave what the older revision is: it verifies there, and can go on from there."""
    execute(migrated, "BEGIN;" + query(migrated, SCRIPTS) + "COMMIT;")
    assert checkout(migrated, "tool", "verify").returncode == 0
    run = Run("verify")
    verify(settings_for(migrated), run, at=KNOWN)
    assert run.exit_code == 0
    attempt(settings_for(legacy), to="accounts")
    assert dump_schema(migrated) == dump_schema(legacy)
    assert attempt(settings_for(migrated)).exit_code == 0


def test_every_script_leads_back_to_the_baseline(migrated, settings_for):
    """All of them together take back whatever we made, and what was there before us stays."""
    scripts = query(
        migrated,
        "SELECT string_agg(downgrade_sql, E'\\n' ORDER BY number DESC) FROM rollout.applied_revisions WHERE number > 1",
    )
    execute(migrated, "BEGIN;" + scripts + "COMMIT;")
    run = Run("verify")
    verify(settings_for(migrated), run, at=plan.history()[0].id)
    assert run.exit_code == 0


@pytest.mark.parametrize("remembers", tried_once([True, False]))
def test_an_unknown_revision_that_nobody_applied(migrated, settings_for, remembers):
    """Where the memory has other revisions it is a mistake, and adopt tells what to type; without it the id is all."""
    execute(migrated, "UPDATE lawsker_schema_version SET version_num = 'abcdef123456'")
    settings = settings_for(migrated)
    if not remembers:
        execute(migrated, "DROP SCHEMA rollout CASCADE")
    run = attempt(settings)
    assert run.exit_code == 6
    if not remembers:
        assert run.error.message == "the database is at revision abcdef123456, which this checkout does not know"
        return
    assert "abcdef123456, which was never applied here" in run.error.message
    assert "tool adopt" in run.error.hint
    with pytest.raises(PreflightFailed) as refused:
        adopt(settings, Run("adopt"), lambda _: pytest.fail("asked"))
    execute(migrated, refused.value.hint[refused.value.hint.index("DELETE") :])
    assert attempt(settings).error is None
    assert query(migrated, "SELECT version_num FROM lawsker_schema_version") == NEWEST
