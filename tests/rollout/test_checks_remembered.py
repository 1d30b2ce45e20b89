"""Our own memory, emptied, edited or gone: each damage is named, and nothing is said where all is as written."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from rollout import plan, verify
from rollout.checks.registry import Area
from rollout.database import VERSION_TABLE
from rollout.findings import ERROR, WARNING

if TYPE_CHECKING:
    from rollout.checks.registry import Subject
    from rollout.findings import Finding

HEAD = plan.history()[-1].id
APPLIED, RUNS = "rollout.applied_revisions", "rollout.runs"

# RESTART first: then what the sequence gives is rolled back with the rest.
A_RUN = "ALTER TABLE rollout.runs ALTER number RESTART;"
A_RUN += "INSERT INTO rollout.runs (run_id, command, started_at) VALUES ('1', 'verify', now())"
EDITED = A_RUN.replace("started_at)", "started_at, ok, record, hash)").replace("now()", "now(), true, '{}', 'x'")

DAMAGES = {
    f"DELETE FROM {APPLIED}": (APPLIED, WARNING),
    f"DELETE FROM {APPLIED} WHERE revision = '{HEAD}'": (APPLIED, WARNING),
    f"INSERT INTO {APPLIED} (revision, family, file_name, file_sha256) VALUES ('0', 'x', 'x', 'x')": (APPLIED, WARNING),
    f"UPDATE {APPLIED} SET revision = 'x' WHERE revision = '{HEAD}'": (APPLIED, WARNING),
    f"UPDATE {APPLIED} SET family = 'x' WHERE revision = '{HEAD}'": (APPLIED, WARNING),
    f"{A_RUN}; DELETE FROM {RUNS}": (RUNS, WARNING),
    EDITED: (RUNS, WARNING),
    f"ALTER TABLE {APPLIED} SET UNLOGGED": (APPLIED, ERROR),
    "DROP TABLE rollout.preexisting_objects": ("rollout.preexisting_objects", ERROR),
    "DROP SCHEMA rollout CASCADE": ("schema rollout", WARNING),
}


def _found(subject: Subject) -> list[Finding]:
    """Run all checks but those of speed on the database as it is now."""
    areas = [one for one in verify.VERIFIED if one is not Area.PERFORMANCE]
    return verify.run_areas(verify.subject_at(subject.connection, subject.revision), areas).findings


@pytest.mark.parametrize("sql", DAMAGES)
def test_a_damage_to_our_memory_is_named(sql: str, subject: Subject) -> None:
    """Named, as severely as it must be; what else is found only follows from it."""
    assert _found(subject) == []
    subject.connection.exec_driver_sql(sql)
    found = {(one.subject, one.severity) for one in _found(subject)}
    assert DAMAGES[sql] in found
    if "DROP" not in sql:  # without a memory, what was there before us looks like ours
        assert {one for one in found if one[0].startswith("rollout.")} == {DAMAGES[sql]}


def test_more_applied_than_the_version_table_says_is_named(subject: Subject) -> None:
    """Whoever sets the version table back by hand is told which revisions are remembered beyond it."""
    before = plan.history()[-2].id
    subject.connection.exec_driver_sql(f"UPDATE {VERSION_TABLE} SET version_num = '{before}'")
    named = [one for one in _found(replace(subject, revision=before)) if one.subject == APPLIED]
    assert [one.severity for one in named] == [WARNING]
    assert HEAD in named[0].problem


def test_a_run_under_way_and_one_that_was_killed_are_no_finding(subject: Subject) -> None:
    """They have no record yet, or never."""
    subject.connection.exec_driver_sql(A_RUN)
    assert _found(subject) == []
