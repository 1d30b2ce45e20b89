"""The damage suite: verify names the damaged object, whatever is done to whatever of ours, and says how to mend it.

By default a sample runs, the same each time, with every kind of damage in it; ``make test-exhaustive`` runs them all
(thousands, several minutes).
"""

from __future__ import annotations

import re
from itertools import groupby
from typing import TYPE_CHECKING

import psycopg2
import pytest

from rollout import manifest, plan, verify
from rollout.checks.registry import Area
from rollout.database import raw_connection, server_major
from rollout.findings import ERROR
from tests.fixtures.tiers import tried_once
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
TOGETHER = 12
"""How many damages to different tables are looked for at once, where only one of each kind is done."""

MANIFEST = manifest.at([revision.id for revision in plan.history()], major=18)
OURS = [key for key, revision in MANIFEST.made_by.items() if revision != BASELINE]
CORE = [key for key, revision in MANIFEST.made_by.items() if revision == BASELINE]

# feishu_auths was there before us in this database: its names are others'.
LEGACY_CASES = [
    *(case for case in damage_cases.structure(MANIFEST, OURS) if "feishu_auths" not in case.sql),
    *damage_cases.legacy(MANIFEST),
]
CREATED_CASES = [
    *damage_cases.structure(MANIFEST, CORE),
    *(case for case in damage_cases.structure(MANIFEST, OURS) if "feishu_auths" in case.sql),
]
DATA_CASES = list(damage_cases.data(MANIFEST, OURS))
TABLES = [key.partition(" ")[2] for key in MANIFEST.objects if key.startswith(("table ", "view "))]


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


def _apply_or_not(connection: Connection, sql: str) -> bool:
    """Do it in a savepoint of its own; tell whether the server let it happen."""
    savepoint = connection.begin_nested()
    done = _apply(connection, sql)
    (savepoint.commit if done else savepoint.rollback)()
    return done


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


def _batches(cases: Iterable[Case]) -> list[list[Case]]:
    """Group damages of one area that have no table in common, so that one look at the database finds them all."""
    batches: list[tuple[str, set[str], list[Case]]] = []
    for case in cases:
        tables = {name for name in TABLES if re.search(rf"\b{name}\b", case.sql)}
        for area, taken, batch in batches:
            if area == case.area and len(batch) < TOGETHER and not taken & tables:
                break
        else:
            area, taken, batch = case.area, set(), []
            batches.append((area, taken, batch))
        taken |= tables
        batch.append(case)
    return [batch for _, _, batch in batches]


def _missed_together(server: Server, cases: list[Case], *, may_be_refused: bool = False) -> list[str]:
    """Do damages of each kind, many at once; one that is not named then, or cannot be done, is done by itself."""
    alone = []
    with connected(server) as connection:
        for batch in _batches(case for case in cases if case.since <= server_major(connection)):
            savepoint = connection.begin_nested()
            done = []
            for case in batch:
                (done if _apply_or_not(connection, case.sql) else alone).append(case)
            findings = _found(connection, [Area(batch[0].area)])
            alone += [case for case in done if not _names(case, findings)]
            savepoint.rollback()
    missed = []
    for case in alone:
        happened, names = _missed(server, [case])
        missed += names
        if not happened and not may_be_refused:
            # Not of this object; of another one.
            happened, names = _missed(server, [one for one in LEGACY_CASES if one.kind == case.kind][:1])
            missed += names
        if not (happened or may_be_refused or case.kind in NEVER_IN_A_SAMPLE):
            missed.append(f"{case}: the server refused it")
    return missed


def _one_of_each_kind(cases: Iterable[Case]) -> list[Case]:
    """Choose cases, of every kind that of another object as far as there are others."""
    return [of_kind[7 * number % len(of_kind)] for number, of_kind in enumerate(_by_kind(cases).values())]


def _each_kind(cases: list[Case]) -> list[object]:
    """Return the kinds as parameters."""
    return [pytest.param(of_kind, id=kind.replace(" ", "-")) for kind, of_kind in _by_kind(cases).items()]


NEVER_IN_A_SAMPLE = {"unlog table"}
"""Kinds that the server refuses for nearly every object."""


@pytest.mark.parametrize("turn", range(3))
def test_a_damage_is_named(turn: int, upgraded: Server) -> None:
    """On an upgraded legacy database, verify names the damaged object: one of each kind of damage."""
    assert _missed_together(upgraded, _one_of_each_kind(LEGACY_CASES)[turn::3]) == []


@pytest.mark.parametrize("turn", tried_once(range(3)))
def test_a_damage_to_a_core_that_we_made_is_named(turn: int, created: Server) -> None:
    """Where we made the legacy core ourselves, it is ours like the rest: one of each kind of damage."""
    cases = _one_of_each_kind(CREATED_CASES)[turn::3]
    assert _missed_together(created, cases, may_be_refused=True) == []


@pytest.mark.exhaustive
@pytest.mark.parametrize("database", ["upgraded", "created"])
def test_every_damage_is_named(database: str, request: pytest.FixtureRequest) -> None:
    """Every damage to every object; well over a thousand of them happen."""
    cases = {"upgraded": [*LEGACY_CASES, *DATA_CASES], "created": CREATED_CASES}[database]
    done, missed = _missed(request.getfixturevalue(database), cases)
    assert missed == []
    assert done > 0.9 * sum(case.since == 12 for case in cases)
    assert done > 1000


@pytest.mark.parametrize("cases", tried_once(_each_kind(DATA_CASES), keep=8))
def test_a_damage_to_rows_is_named(cases: list[Case], upgraded: Server) -> None:
    """Orphans, missing, swapped, wiped and edited rows: every one of them is named."""
    chosen = cases[:: max(1, len(cases) // 10)]
    done, missed = _missed(upgraded, chosen)
    assert missed == []
    assert done == len(chosen)


@pytest.mark.variant
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


def test_the_order_of_columns_does_not_count(upgraded: Server) -> None:
    """A column that was dropped and made again, as the findings say, stands last, and is no finding."""
    with connected(upgraded) as connection:
        assert _apply(connection, "ALTER TABLE user_credits DROP COLUMN credits_purchased")
        for _ in range(2):  # the column, then its comment
            (finding,) = _found(connection, [Area.STRUCTURE])
            assert finding.subject == "user_credits.credits_purchased"
            assert _apply(connection, finding.hint)
        assert _found(connection, [Area.STRUCTURE]) == []


NOT_MENDED = {
    "drop table", "rename table", "move table", "view instead of table", "table instead of view", "materialized view",
    "inherit from table", "add rule", "add policy", "view rule", "drop column", "rename column", "drop sequence",
    "a key's triggers gone", "rename sequence", "drop function", "rename function", "rename view column",
    "legacy table gone", "legacy table renamed", "legacy column gone", "legacy column renamed", "legacy label gone",
    "legacy relhasindex", "legacy relhastriggers", "legacy table without key",
    "view default", "function of the same name in pg_catalog", "indexes hidden", "rule hidden",
}  # fmt: skip
"""Damages that no single statement takes back: rows are gone, or somebody must decide."""


MENDED = [case for case in LEGACY_CASES if case.severity == ERROR and case.kind not in NOT_MENDED]


@pytest.mark.parametrize("turn", tried_once(range(3)))
def test_the_hint_mends_it(turn: int, upgraded: Server) -> None:
    """What the finding says to type, typed as it stands, makes the error go away: of one of each kind of damage."""
    assert _not_mended(upgraded, _one_of_each_kind(MENDED)[turn::3]) == []


@pytest.mark.exhaustive
def test_every_hint_mends_it(upgraded: Server) -> None:
    """Of every damage to every object."""
    assert _not_mended(upgraded, MENDED) == []


def _not_mended(server: Server, cases: list[Case]) -> list[str]:
    """Do damages, many at once, and type what the findings say; return what is left, and of which damages."""
    left = []
    with connected(server) as connection:
        for batch in _batches(case for case in cases if case.since <= server_major(connection)):
            savepoint = connection.begin_nested()
            done = [case for case in batch if _apply_or_not(connection, case.sql)]
            errors = _errors(connection)
            assert bool(errors) == bool(done)
            left += [f"{[*map(str, done)]}: {one.problem}: {one.hint}" for one in _after_hints(connection, errors)]
            savepoint.rollback()
    return left


def _after_hints(connection: Connection, errors: list[Finding]) -> list[Finding]:
    """Type what the findings say; return the errors that are left."""
    for _ in range(2):  # some hints need what another one makes
        for finding in errors:
            assert finding.hint.endswith(";"), finding
            _apply_or_not(connection, finding.hint.replace("CONCURRENTLY ", ""))
        errors = _errors(connection)
    return errors


def _errors(connection: Connection) -> list[Finding]:
    """Return the errors of the structure."""
    return [one for one in _found(connection, [Area.STRUCTURE]) if one.severity == ERROR]
