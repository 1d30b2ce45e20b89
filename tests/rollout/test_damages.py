"""The damage suite: verify names the damaged object, whatever is done to whatever of ours, and says how to mend it.

By default a sample runs, the same each time, with every kind of damage in it; ``make test-exhaustive`` runs them all
(thousands, several minutes).
"""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

import psycopg2
import pytest

from rollout import manifest, plan, verify
from rollout.checks.registry import Area
from rollout.database import raw_connection, server_major
from rollout.findings import ERROR
from tests.fixtures.upgraded import connected
from tests.rollout import damage_cases

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy import Connection

    from rollout.findings import Finding
    from rollout.settings import Server
    from tests.rollout.damage_cases import Case

HEAD = plan.history()[-1].id
BASELINE = plan.history()[0].id
SAMPLE = 1
"""How many of each kind run by default."""

MANIFEST = manifest.at([revision.id for revision in plan.history()], major=18)
OURS = [key for key, revision in MANIFEST.made_by.items() if revision != BASELINE]
CORE = [key for key, revision in MANIFEST.made_by.items() if revision == BASELINE]

# feishu_auths was there before us in this database: its names are others'.
LEGACY_CASES = [case for case in damage_cases.structure(MANIFEST, OURS) if "feishu_auths" not in case.sql]
CREATED_CASES = [
    *damage_cases.structure(MANIFEST, CORE),
    *(case for case in damage_cases.structure(MANIFEST, OURS) if "feishu_auths" in case.sql),
]
DATA_CASES = list(damage_cases.data(MANIFEST, OURS))


def _by_kind(cases: Iterable[Case]) -> dict[str, list[Case]]:
    """Group cases by their kind."""
    ordered = sorted(cases, key=lambda case: case.kind)
    return {kind: list(of_kind) for kind, of_kind in groupby(ordered, key=lambda case: case.kind)}


def _apply(connection: Connection, sql: str) -> bool:
    """Do a damage; tell whether the server let it happen."""
    try:
        with raw_connection(connection).cursor() as cursor:
            cursor.execute(sql)
    except psycopg2.Error:
        return False
    return True


def _found(connection: Connection, areas: Iterable[Area], revision: str = HEAD) -> list[Finding]:
    """Run these areas."""
    return verify.run_areas(verify.subject_at(connection, revision), list(areas)).findings


def _names(case: Case, findings: list[Finding]) -> bool:
    """Tell whether a finding names the damaged object, as severely as it must."""
    return any(
        finding.subject in case.subjects and (finding.severity == ERROR or case.severity != ERROR)
        for finding in findings
    )


def _missed(server: Server, cases: list[Case], areas: tuple[Area, ...] | None = None) -> tuple[int, list[str]]:
    """Do each damage by itself; return how many happened, and those that verify did not name."""
    missed, done = [], 0
    with connected(server) as connection:
        major = server_major(connection)
        for case in cases:
            if case.since > major:
                continue
            savepoint = connection.begin_nested()
            if _apply(connection, case.sql):
                done += 1
                findings = _found(connection, areas or (Area(case.area),))
                if not _names(case, findings):
                    missed.append(f"{case}: {case.sql}: {[finding.subject for finding in findings]}")
            savepoint.rollback()
    return done, missed


def _sample(cases: list[Case]) -> list[Case]:
    """Return some cases, spread over all of them."""
    return cases[:: max(1, -(-len(cases) // SAMPLE))]


def _each_kind(cases: list[Case]) -> list[object]:
    """Return the kinds as parameters."""
    return [pytest.param(of_kind, id=kind.replace(" ", "-")) for kind, of_kind in _by_kind(cases).items()]


NEVER_IN_A_SAMPLE = {"unlog table"}
"""Kinds that the server refuses for nearly every object."""


@pytest.mark.parametrize("cases", _each_kind(LEGACY_CASES))
def test_a_damage_is_named(cases: list[Case], upgraded: Server) -> None:
    """On an upgraded legacy database, verify names the damaged object: one of each kind of damage."""
    done, missed = _missed(upgraded, _sample(cases))
    assert missed == []
    if server_too_old(cases, upgraded) or cases[0].kind in NEVER_IN_A_SAMPLE:
        return
    assert done, "the server refused every damage of this kind"


def server_too_old(cases: list[Case], server: Server) -> bool:
    """Tell whether a kind of damage cannot be done on this server."""
    with connected(server) as connection:
        return all(case.since > server_major(connection) for case in cases)


@pytest.mark.parametrize("cases", _each_kind(CREATED_CASES))
def test_a_damage_to_a_core_that_we_made_is_named(cases: list[Case], created: Server) -> None:
    """Where we made the legacy core ourselves, it is ours like the rest: one of each kind of damage."""
    assert _missed(created, cases[len(cases) // 2 :][:1])[1] == []


@pytest.mark.exhaustive
@pytest.mark.parametrize("database", ["upgraded", "created"])
def test_every_damage_is_named(database: str, request: pytest.FixtureRequest) -> None:
    """Every damage to every object; well over a thousand of them happen."""
    cases = {"upgraded": [*LEGACY_CASES, *DATA_CASES], "created": CREATED_CASES}[database]
    done, missed = _missed(request.getfixturevalue(database), cases)
    assert missed == []
    assert done > 0.9 * sum(case.since == 12 for case in cases)
    assert done > 1000


@pytest.mark.parametrize("cases", _each_kind(DATA_CASES))
def test_a_damage_to_rows_is_named(cases: list[Case], upgraded: Server) -> None:
    """Orphans, missing, swapped, wiped and edited rows: every one of them is named."""
    chosen = cases[:: max(1, len(cases) // 10)]
    done, missed = _missed(upgraded, chosen)
    assert missed == []
    assert done == len(chosen)


def test_a_damage_is_named_among_all_findings(upgraded: Server) -> None:
    """Nothing hides a damage when all areas are asked, as `tool verify` does."""
    cases = [of_kind[-1] for of_kind in _by_kind([*LEGACY_CASES, *DATA_CASES]).values()][::6]
    assert _missed(upgraded, cases, verify.VERIFIED)[1] == []


def test_there_are_well_over_a_thousand_damages() -> None:
    """Each object of ours is damaged in many ways; none is left out."""
    assert len(LEGACY_CASES) + len(CREATED_CASES) + len(DATA_CASES) > 9000
    damaged = {subject for case in [*LEGACY_CASES, *CREATED_CASES] for subject in case.subjects}
    assert {key.partition(" ")[2] for key in MANIFEST.objects} - damaged == set()


@pytest.mark.parametrize("revision", plan.history(), ids=lambda revision: f"{revision.family}-{revision.id}")
def test_what_later_revisions_make_is_left_over(revision: plan.Revision, created: Server) -> None:
    """Against an earlier revision, every object that only later ones have is named."""
    before = manifest.at([one.id for one in plan.up_to(revision.id)], major=18)
    with connected(created) as connection:
        named = {one.subject for one in _found(connection, [Area.STRUCTURE], revision.id) if one.severity == ERROR}
    left_over = {key.partition(" ")[2] for key in MANIFEST.objects if key not in before}
    changed = {key.partition(" ")[2] for key, one in before.objects.items() if one != MANIFEST.objects[key]}
    assert left_over - named == set()
    assert named - left_over <= changed


CHECKS = [key for key in OURS if MANIFEST.objects[key].get("type") == "c"]


@pytest.mark.parametrize("how", ["NOT (NOT ({}))", "({} AND {})", "({}) IS NOT FALSE", "(({} OR {column} IS NULL))"])
def test_a_check_that_accepts_the_same_is_no_finding(how: str, upgraded: Server) -> None:
    """A check counts by what it accepts, however it is written."""
    with connected(upgraded) as connection:
        for key in CHECKS:
            table, _, name = key.partition(" ")[2].rpartition(".")
            expected = MANIFEST.objects[key]
            expression = expected["definition"].removeprefix("CHECK (").removesuffix(")")
            other = how.replace("{column}", expected["columns"][0]).replace("{}", expression)
            if "IS NOT FALSE" in how or ("IS NULL" in how and "(points" in expression):
                continue
            assert _apply(
                connection, f"ALTER TABLE {table} DROP CONSTRAINT {name}, ADD CONSTRAINT {name} CHECK ({other})"
            )
        assert _found(connection, [Area.STRUCTURE]) == []


NOT_MENDED = {
    "drop table", "rename table", "move table", "view instead of table", "table instead of view", "materialized view",
    "inherit from table", "add rule", "add policy", "view rule", "drop column", "rename column", "drop sequence",
    "a key's triggers gone", "rename sequence", "drop function", "rename function", "rename view column",
    "view default",
}  # fmt: skip
"""Damages that no single statement takes back: rows are gone, or somebody must decide."""


@pytest.mark.parametrize(
    "cases", _each_kind([case for case in LEGACY_CASES if case.severity == ERROR and case.kind not in NOT_MENDED])
)
def test_the_hint_mends_it(cases: list[Case], upgraded: Server) -> None:
    """What the finding says to type, typed as it stands, makes the error go away."""
    case = cases[0]
    with connected(upgraded) as connection:
        if case.since > server_major(connection) or not _apply(connection, case.sql):
            return
        errors = _errors(connection)
        assert errors
        for _ in range(2):  # some hints need what another one makes
            for finding in errors:
                savepoint = connection.begin_nested()
                assert finding.hint.endswith(";"), finding
                if _apply(connection, finding.hint.replace("CONCURRENTLY ", "")):
                    savepoint.commit()
                else:
                    savepoint.rollback()
            errors = _errors(connection)
        assert errors == []


def _errors(connection: Connection) -> list[Finding]:
    """Return the errors of the structure."""
    return [one for one in _found(connection, [Area.STRUCTURE]) if one.severity == ERROR]
