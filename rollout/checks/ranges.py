"""Business: numbers lie where the platform's rules let them lie."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rollout.checks.registry import Area, Subject, check
from rollout.findings import ERROR, WARNING, Finding
from rollout.messages import say

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True)
class Range:
    """What a column's values must lie in; ``high`` None: no upper end."""

    table: str
    column: str
    low: int = 0
    high: int | None = None
    severity: str = ERROR

    @property
    def broken(self) -> str:
        """The SQL condition of a value outside (NaN is outside too: for PostgreSQL it is above all numbers)."""
        below = f"{self.column} < {self.low}"
        return below if self.high is None else f"({below} OR {self.column} > {self.high})"

    def problem(self, count: int) -> str:
        """Say how many values lie outside."""
        if self.high is None:
            return say("{count} value(s) are below {low}", count=count, low=self.low)
        return say("{count} value(s) are outside {low}..{high}", count=count, low=self.low, high=self.high)


_RATINGS = ("overall", "professionalism", "response_speed", "communication", "result_satisfaction")

CREDITS = (
    *(
        Range("user_credits", column)
        for column in ("credits_weekly", "credits_remaining", "credits_purchased", "total_credits_used")
    ),
    *(
        Range("user_memberships", column, severity=WARNING)
        for column in ("credits_monthly", "credits_remaining", "credits_used")
    ),
    *(
        Range("lawyer_memberships", column, severity=WARNING)
        for column in ("ai_credits_monthly", "ai_credits_remaining", "ai_credits_used")
    ),
)
RATES = (
    Range("lawyer_level_details", "success_rate", 0, 100),
    Range("lawyer_level_details", "client_rating", 0, 5),
    *(Range("case_reviews", f"{name}_rating", 1, 5) for name in _RATINGS),
    Range("collection_success_stats", "response_rate", 0, 1, WARNING),
    Range("collection_success_stats", "recovery_rate", 0, 1, WARNING),
)


# Not here: what may rightly be below zero (changes of points, refunds, limits of which -1 says that there is none).
_FIGURES = {
    "lawyer_levels": ("daily_case_limit", "monthly_amount_limit", "priority_weight"),
    "lawyer_level_details": (
        "experience_points", "cases_completed", "cases_won", "cases_failed", "total_online_hours",
        "total_cases_amount", "total_ai_credits_used", "response_time_avg",
    ),
    "ai_tool_usage": ("credits_consumed",),
    "batch_upload_tasks": (
        "file_size", "total_records", "processed_records", "success_records", "error_records", "credits_cost",
    ),
    "lawyer_online_sessions": ("duration_minutes", "points_earned"),
    "credit_purchase_records": ("credits_count", "unit_price"),
    "lawyer_assignment_suspensions": ("decline_count", "suspension_duration_hours"),
    "enterprise_clients": ("monthly_fee",),
    "enterprise_service_packages": ("monthly_fee", "case_volume_limit", "ai_credits_included", "sla_response_time"),
    "enterprise_subscriptions": ("monthly_fee", "cases_limit"),
    "collection_success_stats": (
        "total_cases", "cases_with_response", "cases_with_payment", "total_debt_amount", "recovered_amount",
    ),
}  # fmt: skip
FIGURES = tuple(Range(table, one, severity=WARNING) for table, columns in _FIGURES.items() for one in columns)


def _outside(subject: Subject, ranges: tuple[Range, ...]) -> Iterator[Finding]:
    """Yield columns with values outside their range; each table is read once."""
    for table in dict.fromkeys(one.table for one in ranges):
        if f"table {table}" not in subject.manifest:
            continue
        of_table = [one for one in ranges if one.table == table]
        counts = ", ".join(f"count(*) FILTER (WHERE {one.broken})" for one in of_table)
        row = subject.connection.exec_driver_sql(f"SELECT {counts} FROM {subject.rows(table)} AS t").one()
        for one, count in zip(of_table, row, strict=True):
            if count:
                yield Finding(
                    f"{table}.{one.column}",
                    one.problem(count),
                    f"SELECT * FROM {table} WHERE {one.broken};",
                    one.severity,
                )


@check(Area.BUSINESS)
def credits_are_never_negative(subject: Subject) -> Iterator[Finding]:
    """No user has credits below zero (in memberships a warning: there a negative number may mean no limit)."""
    yield from _outside(subject, CREDITS)


_AHEAD = "last_reset_date > current_date + 1"  # tomorrow is another time zone's today


@check(Area.BUSINESS, needs=("column user_credits.last_reset_date",))
def credits_were_reset_in_the_past(subject: Subject) -> Iterator[Finding]:
    """No user's weekly credits were last given on a day to come: until a week after that, none are (a warning)."""
    count = subject.connection.exec_driver_sql(
        f"SELECT count(*) FROM {subject.rows('user_credits')} AS t WHERE {_AHEAD}"
    ).scalar_one()
    if count:
        yield Finding(
            "user_credits.last_reset_date",
            say("the weekly credits of {count} user(s) were last given on a day to come", count=count),
            f"UPDATE user_credits SET last_reset_date = current_date WHERE {_AHEAD};",
            WARNING,
        )


@check(Area.BUSINESS)
def rates_are_within_range(subject: Subject) -> Iterator[Finding]:
    """Success rates lie in 0..100, ratings in 0..5, of reviews in 1..5, rates of collection in 0..1 (a warning)."""
    yield from _outside(subject, RATES)


@check(Area.BUSINESS)
def figures_are_never_negative(subject: Subject) -> Iterator[Finding]:
    """No count, price, fee, duration or size is below zero (a warning)."""
    yield from _outside(subject, FIGURES)
