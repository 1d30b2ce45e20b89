"""Business: levels, points, credits, ratings and subscriptions obey the rules of the platform.

What the application may rightly do is no finding: weekly credits expire, operators edit prices.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from sqlalchemy import text

from rollout.checks.registry import Area, Subject, check
from rollout.database import quote
from rollout.findings import ERROR, WARNING, Finding
from rollout.messages import say

if TYPE_CHECKING:
    from collections.abc import Iterator

THRESHOLDS = (
    (1, 0, 0), (2, 500, 3), (3, 1500, 8), (4, 4000, 20), (5, 10000, 50), (6, 25000, 120), (7, 60000, 300),
    (8, 150000, 700), (9, 350000, 1500), (10, 800000, 3000),
)  # fmt: skip
"""The platform's table: (level, points, completed cases); on purpose not read from the expected seed rows."""

_ASKED = ("level_points", "cases_completed")
_GIVEN = ("daily_case_limit", "monthly_amount_limit", "priority_weight")


@dataclass(frozen=True)
class Level:
    """One row of lawyer_levels; ``asked`` without what is missing or not a number."""

    number: int
    asked: dict[str, float]
    given: dict[str, float]


def _levels(subject: Subject) -> list[Level]:
    """Read the levels, lowest first."""
    query = f"SELECT level, requirements, {', '.join(_GIVEN)} FROM lawyer_levels ORDER BY level"
    return [
        Level(level, _numbers(requirements), dict(zip(_GIVEN, map(float, given), strict=True)))
        for level, requirements, *given in subject.connection.execute(text(query))
    ]


def _numbers(values: Any) -> dict[str, float]:
    """Return what a level asks for, as far as it is there and a number (a JSON boolean is none)."""
    if not isinstance(values, dict):
        return {}
    return {name: values[name] for name in _ASKED if type(values.get(name)) in {int, float}}


@check(Area.BUSINESS, needs=("table lawyer_levels",))
def levels_rise(subject: Subject) -> Iterator[Finding]:
    """Each level asks for more points and more cases than the one below, and its limits and weight are no lower."""
    levels = _levels(subject)
    for level in levels:
        for name in _ASKED:
            if name not in level.asked:
                yield Finding(
                    "lawyer_levels.requirements",
                    say("level {level}: {name} is missing or no number", level=level.number, name=name),
                    f"SELECT requirements FROM lawyer_levels WHERE level = {level.number};",
                )
    for lower, upper in pairwise(levels):
        for name in _ASKED:
            if name in lower.asked and name in upper.asked and not lower.asked[name] < upper.asked[name]:
                yield Finding(
                    "lawyer_levels.requirements",
                    say(
                        "level {upper} asks for no more {name} than level {lower}",
                        upper=upper.number,
                        name=name,
                        lower=lower.number,
                    ),
                    f"SELECT level, requirements FROM lawyer_levels WHERE level IN ({lower.number}, {upper.number});",
                )
        for name in _GIVEN:
            if not lower.given[name] <= upper.given[name]:
                yield Finding(
                    f"lawyer_levels.{name}",
                    say("level {upper} has less than level {lower}", upper=upper.number, lower=lower.number),
                    f"SELECT level, {name} FROM lawyer_levels WHERE level IN ({lower.number}, {upper.number});",
                )


def _samples() -> Iterator[tuple[int, int, int]]:
    """Yield (points, completed cases, expected level): each threshold, and one point or one case less."""
    for level, points, cases in THRESHOLDS:
        yield points, cases, level
        if level > 1:
            yield points - 1, cases, level - 1
            yield points, cases - 1, level - 1


def level_for(levels: list[Level], points: int, cases: int) -> int | None:
    """Return the highest level whose points and cases are both reached."""
    return max(
        (
            level.number
            for level in levels
            if level.asked.get("level_points", float("inf")) <= points
            and level.asked.get("cases_completed", float("inf")) <= cases
        ),
        default=None,
    )


@check(Area.BUSINESS, needs=("table lawyer_levels",))
def points_give_their_level(subject: Subject) -> Iterator[Finding]:
    """Sample points and cases give the level of the platform's table; other thresholds are a warning."""
    levels = _levels(subject)
    if not levels:
        return  # that the seed rows are missing is a finding of its own
    for points, cases, expected in _samples():
        found = level_for(levels, points, cases)
        if found != expected:
            yield Finding(
                "lawyer_levels.requirements",
                say(
                    "{points} points and {cases} cases give level {found}, expected {expected}",
                    points=points,
                    cases=cases,
                    found=found,
                    expected=expected,
                ),
                say("Keep it if the thresholds were edited on purpose; else set them back."),
                WARNING,
            )
            return  # one edited threshold moves several samples


@check(Area.BUSINESS, needs=("table lawyer_point_transactions",))
def ledger_rows_balance(subject: Subject) -> Iterator[Finding]:
    """In each row of the points ledger, what was before plus the change is what is after."""
    wrong = "points_after <> points_before + points_change"
    count = _count(subject, f"SELECT count(*) FROM lawyer_point_transactions WHERE {wrong}")
    if count:
        problem = say("{count} ledger row(s) do not balance", count=count)
        query = f"SELECT * FROM lawyer_point_transactions WHERE {wrong};"
        yield Finding("lawyer_point_transactions.points_after", problem, query)


@check(Area.BUSINESS, needs=("table lawyer_point_transactions", "table lawyer_level_details"))
def points_agree_with_the_ledger(subject: Subject) -> Iterator[Finding]:
    """No lawyer has other points than the ledger adds up to, rows or none; nobody's points are nobody's (warnings)."""
    source = (
        "FROM lawyer_level_details d FULL JOIN (SELECT lawyer_id, sum(points_change) AS points"
        " FROM lawyer_point_transactions GROUP BY lawyer_id) l USING (lawyer_id) WHERE"
    )
    other, nobodys = "d.level_points <> coalesce(l.points, 0)", "d.level_points IS NULL"
    counts = f"SELECT count(*) FILTER (WHERE {other}), count(*) FILTER (WHERE {nobodys}) {source} true"
    lawyers, users = subject.connection.exec_driver_sql(counts).one()
    query = f"SELECT lawyer_id, d.level_points, l.points AS ledger {source}"
    if lawyers:
        problem = say("{count} lawyer(s) have other points than their ledger", count=lawyers)
        yield Finding("lawyer_level_details.level_points", problem, f"{query} {other};", WARNING)
    if users:
        problem = say("{count} user(s) with points have no level row", count=users)
        yield Finding("lawyer_point_transactions.lawyer_id", problem, f"{query} {nobodys};", WARNING)


PERIODS = {
    "user_memberships": ("start_date", "end_date"),
    "lawyer_memberships": ("start_date", "end_date"),
    "enterprise_subscriptions": ("start_date", "end_date"),
    "collection_success_stats": ("period_start", "period_end"),
}


@check(Area.BUSINESS)
def periods_end_after_they_begin(subject: Subject) -> Iterator[Finding]:
    """No membership, subscription or statistic ends before it begins."""
    for table, (start, end) in PERIODS.items():
        if f"table {table}" not in subject.manifest:
            continue
        count = _count(subject, f"SELECT count(*) FROM {quote(table)} WHERE {end} < {start}")
        if count:
            yield Finding(
                f"{table}.{end}",
                say("{count} row(s) end before they begin", count=count),
                f"SELECT * FROM {table} WHERE {end} < {start};",
            )


# A day's grace after the end: the server's day may be ahead of the application's.
_SUBSCRIPTION_RULES = (
    (
        "cases_used",
        ERROR,
        "s.cases_used NOT BETWEEN 0 AND s.cases_limit",
        say("more cases used than the limit, or fewer than 0"),
    ),
    ("cases_limit", WARNING, "s.cases_limit > p.case_volume_limit", say("a limit above the package's")),
    (
        "status",
        WARNING,
        "s.status = 'active' AND s.end_date < current_date - 1",
        say("active, though the period is over"),
    ),
)
"""(column, severity, what is wrong as SQL and in words)."""


@check(Area.BUSINESS, needs=("table enterprise_subscriptions", "table enterprise_service_packages"))
def subscriptions_keep_their_limits(subject: Subject) -> Iterator[Finding]:
    """Subscriptions use no more than their limit; a limit above the package's or one that is over is a warning."""
    source = "FROM enterprise_subscriptions s LEFT JOIN enterprise_service_packages p ON p.id = s.package_id"
    counts = ", ".join(f"count(*) FILTER (WHERE {condition})" for _, _, condition, _ in _SUBSCRIPTION_RULES)
    row = subject.connection.exec_driver_sql(f"SELECT {counts} {source}").one()
    for (column, severity, condition, problem), count in zip(_SUBSCRIPTION_RULES, row, strict=True):
        if count:
            yield Finding(
                f"enterprise_subscriptions.{column}",
                say("{count} subscription(s): {problem}", count=count, problem=problem),
                f"SELECT s.* {source} WHERE {condition};",
                severity,
            )


def _count(subject: Subject, query: str) -> int:
    """Return the one number of a query."""
    return int(subject.connection.exec_driver_sql(query).scalar_one())
