"""What holds for every check of the registry, whichever it is."""

from __future__ import annotations

import os
import secrets
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from rollout import plan, verify
from rollout.checks.registry import CHECKS, Area, Check, run_checks
from tests.fixtures.tiers import tried_once
from tests.fixtures.upgraded import connected

if TYPE_CHECKING:
    from rollout.checks.registry import Subject
    from rollout.settings import Server

EVERY = pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS)
VERIFIED = [check for check in CHECKS.values() if check.area in verify.VERIFIED]


@EVERY
def test_a_check_says_what_it_checks(check: Check) -> None:
    """The docstring's first line is one sentence, and fits a line of docs/checks.md."""
    first = (check.function.__doc__ or "").strip().split("\n")[0]
    assert first.endswith(".")
    assert check.doc.startswith(first)


@EVERY
def test_a_check_needs_what_there_is(check: Check, subject: Subject) -> None:
    """What a check needs is in the schema at head: a mistyped key would switch the check off."""
    assert [key for key in check.needs if key not in subject.manifest] == []


@EVERY
def test_checks_are_small(check: Check) -> None:
    """A check is a function of its own module, registered under its own name."""
    assert CHECKS[check.function.__name__] is check
    assert check.function.__module__.startswith("rollout.checks.")


@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize("analyzed", [False, True])
def test_a_healthy_database_has_no_findings(subject: Subject, *, analyzed: bool, deep: bool) -> None:
    """Right after the upgrade of a legacy database, no check has anything to say; nor when its tables are analyzed."""
    if analyzed:
        subject.connection.exec_driver_sql("ANALYZE")
    outcome = run_checks(VERIFIED, replace(subject, deep=deep))
    assert outcome.findings == []
    assert (outcome.passed, outcome.failed) == (len([one for one in VERIFIED if deep or not one.deep]), 0)


@pytest.mark.parametrize("rights", ["tables", "tables, sequences", "tables, sequences, memory"])
def test_read_rights_are_enough(upgraded: Server, rights: str) -> None:
    """A role that may only SELECT, in a transaction that may only read, hears of no error, and what it cannot see."""
    role = f"reader_{os.getpid()}_{secrets.token_hex(4)}"
    grants = {
        "tables": f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role};",
        "sequences": f"GRANT SELECT ON ALL SEQUENCES IN SCHEMA public TO {role};",
        "memory": f"GRANT USAGE ON SCHEMA rollout TO {role}; GRANT SELECT ON ALL TABLES IN SCHEMA rollout TO {role};",
    }
    with connected(upgraded) as connection:
        connection.exec_driver_sql(
            f"CREATE ROLE {role}; GRANT USAGE ON SCHEMA public TO {role};"
            + "".join(grants[right] for right in rights.split(", "))
            + f"SET LOCAL ROLE {role}; SET TRANSACTION READ ONLY"
        )
        outcome = run_checks(VERIFIED, verify.subject_at(connection, plan.history()[-1].id))
    assert outcome.errors == []
    # Without the memory nobody knows which table was there before us, under its own names and without comments.
    others = [finding for finding in outcome.findings if not finding.subject.startswith(("feishu_auths", "feishu_"))]
    assert {finding.check for finding in others} == (set() if "sequences" in rights else {"sequences_are_ahead"})
    assert "memory" not in rights or outcome.findings == []


def test_no_check_writes(upgraded: Server) -> None:
    """In a transaction that may only read, every check runs: none writes, none takes a lock that writers wait for."""
    with connected(upgraded) as connection:
        connection.exec_driver_sql("SET TRANSACTION READ ONLY")
        outcome = run_checks(VERIFIED, verify.subject_at(connection, plan.history()[-1].id))
        modes = connection.exec_driver_sql(
            "SELECT DISTINCT mode FROM pg_locks WHERE pid = pg_backend_pid() AND locktype = 'relation'"
        ).scalars()
        assert set(modes) == {"AccessShareLock"}
    assert outcome.findings == []


@pytest.mark.parametrize("family", tried_once(plan.families(), keep=3))
def test_checks_fit_every_family(family: str, upgraded: Server) -> None:
    """Against an earlier revision, no check asks for what only later ones have."""
    with connected(upgraded) as connection:
        outcome = run_checks(VERIFIED, verify.subject_at(connection, plan.resolve(family)))
    assert [finding for finding in outcome.findings if finding.area != Area.STRUCTURE.value] == []
