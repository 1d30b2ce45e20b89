"""Checks of business rules: each finds its damage, and none minds what the application may rightly do."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from rollout.checks import seeds
from rollout.checks.business import THRESHOLDS, Level, level_for
from rollout.checks.registry import CHECKS, Area
from rollout.findings import WARNING
from tests.fixtures.tiers import tried_once
from tests.rollout.damages import LAWYER, Damage, findings

if TYPE_CHECKING:
    from rollout.checks.registry import Subject


def _level(level: int, change: str) -> str:
    """Return SQL that edits one level."""
    return f"UPDATE lawyer_levels SET {change} WHERE level = {level}"


def _asks(level: int, values: str) -> str:
    """Return SQL that edits what one level asks for."""
    return _level(level, f"requirements = requirements || '{values}'")


def _ledger(change: int, *, before: int = 0, after: int | None = None) -> str:
    """Return SQL that writes a row of a lawyer's ledger."""
    return (
        "INSERT INTO lawyer_point_transactions"
        " (lawyer_id, transaction_type, points_change, points_before, points_after)"
        f" VALUES ({LAWYER}, 'payment', {change}, {before}, {before + change if after is None else after});"
    )


def _subscribe(values: str) -> str:
    """Return SQL of a subscription to the smallest package (500 cases)."""
    return (
        "WITH c AS (INSERT INTO enterprise_clients (company_name, company_type, contact_person, contact_phone,"
        " contact_email, service_type)"
        " VALUES ('远大', 'bank', '王', '12000000000', 'a@b.example', 'compliance') RETURNING id)"
        " INSERT INTO enterprise_subscriptions"
        " (client_id, package_id, monthly_fee, start_date, end_date, cases_used, cases_limit, status)"
        f" SELECT c.id, p.id, 9999, {values} FROM c, enterprise_service_packages p WHERE package_type = 'basic';"
    )


def _member(table: str, who: str, columns: str, values: str) -> str:
    """Return SQL of a membership of somebody."""
    return (
        f"INSERT INTO {table} ({who}, membership_type, start_date, end_date{columns})"
        f" VALUES ({LAWYER}, 'basic', {values})"
    )


def _without(table: str, constraint: str, sql: str) -> str:
    """Return SQL that first drops a constraint."""
    return f"ALTER TABLE {table} DROP CONSTRAINT {constraint}; {sql}"


_REVIEW = (
    "INSERT INTO case_reviews (case_id, reviewer_id, lawyer_id, overall_rating, professionalism_rating,"
    " response_speed_rating, communication_rating, result_satisfaction_rating)"
    f" SELECT id, {LAWYER}, {LAWYER}, 5, 5, 5, 5, 6 FROM cases LIMIT 1"
)
_STATISTIC = "INSERT INTO collection_success_stats (period_start, period_end{}) VALUES ({})"
_TYPE_OF_ONE = """\
UPDATE users SET account_type = '{}'
WHERE id = (SELECT id FROM users WHERE account_type = '{}' ORDER BY id LIMIT 1)"""
_ACCOUNT = (
    "INSERT INTO user_accounts (user_id, type, provider, provider_account_id, is_primary)"
    " SELECT user_id, 'oauth', {} FROM feishu_auths ORDER BY user_id LIMIT 1;"
)
_DEMO = "UPDATE demo_accounts SET demo_data = {} WHERE workspace_id = 'demo-lawyer-001'"

_HAS, _LEVEL = "UPDATE lawyer_level_details SET", "lawyer_level_details.current_level"

DAMAGES = [
    Damage("levels_rise", _asks(5, '{"level_points": 4000}'), "lawyer_levels.requirements"),
    Damage("levels_rise", _asks(5, '{"cases_completed": 300}'), "lawyer_levels.requirements"),
    Damage("levels_rise", _asks(5, '{"level_points": "10000"}'), "lawyer_levels.requirements"),
    Damage("levels_rise", _level(5, "requirements = requirements - 'cases_completed'"), "lawyer_levels.requirements"),
    Damage("levels_rise", _level(4, "daily_case_limit = 13"), "lawyer_levels.daily_case_limit"),
    Damage("levels_rise", _level(10, "monthly_amount_limit = 1"), "lawyer_levels.monthly_amount_limit"),
    Damage("levels_rise", _level(1, "priority_weight = 'NaN'"), "lawyer_levels.priority_weight"),
    Damage("points_give_their_level", _asks(5, '{"level_points": 10001}'), "lawyer_levels.requirements", WARNING),
    Damage("points_give_their_level", _asks(5, '{"level_points": 9999}'), "lawyer_levels.requirements", WARNING),
    Damage("points_give_their_level", _asks(10, '{"cases_completed": 2999}'), "lawyer_levels.requirements", WARNING),
    Damage(
        "points_give_their_level", "DELETE FROM lawyer_levels WHERE level = 10", "lawyer_levels.requirements", WARNING
    ),
    Damage(
        "ledger_rows_balance",
        _without("lawyer_point_transactions", "ck_lawyer_point_transactions_points_after", _ledger(50, after=49)),
        "lawyer_point_transactions.points_after",
    ),
    Damage("points_agree_with_the_ledger", _ledger(50), "lawyer_level_details.level_points", WARNING),
    *(
        Damage("levels_are_earned", f"{_HAS} {values} WHERE lawyer_id = {LAWYER}", _LEVEL, WARNING)
        for values in (
            "current_level = 2, level_points = 499, cases_completed = 3",
            "current_level = 2, level_points = 500, cases_completed = 2",
            "current_level = 10, level_points = 799999, cases_completed = 9999",
        )
    ),
    *(
        Damage(
            "credits_are_never_negative",
            _without(
                "user_credits",
                "ck_user_credits_credits_remaining",
                f"UPDATE user_credits SET {column} = -1 WHERE ctid = (SELECT min(ctid::text)::tid FROM user_credits)",
            ),
            f"user_credits.{column}",
        )
        for column in ("credits_weekly", "credits_remaining", "credits_purchased", "total_credits_used")
    ),
    Damage(
        "credits_were_reset_in_the_past",
        "UPDATE user_credits SET last_reset_date = current_date + 2",
        "user_credits.last_reset_date",
        WARNING,
    ),
    Damage(
        "credits_are_never_negative",
        _member("user_memberships", "user_id", ", credits_used", "current_date, current_date, -1"),
        "user_memberships.credits_used",
        WARNING,
    ),
    Damage(
        "credits_are_never_negative",
        _member("lawyer_memberships", "lawyer_id", ", ai_credits_remaining", "current_date, current_date, -1"),
        "lawyer_memberships.ai_credits_remaining",
        WARNING,
    ),
    Damage(
        "rates_are_within_range",
        f"UPDATE lawyer_level_details SET success_rate = 100.01 WHERE lawyer_id = {LAWYER}",
        "lawyer_level_details.success_rate",
    ),
    Damage(
        "rates_are_within_range",
        f"UPDATE lawyer_level_details SET success_rate = 'NaN' WHERE lawyer_id = {LAWYER}",
        "lawyer_level_details.success_rate",
    ),
    Damage(
        "rates_are_within_range",
        f"UPDATE lawyer_level_details SET client_rating = -0.01 WHERE lawyer_id = {LAWYER}",
        "lawyer_level_details.client_rating",
    ),
    Damage(
        "rates_are_within_range",
        _without("case_reviews", "ck_case_reviews_result_satisfaction_rating", _REVIEW),
        "case_reviews.result_satisfaction_rating",
    ),
    Damage(
        "rates_are_within_range",
        _STATISTIC.format(", recovery_rate", "current_date, current_date, 1.5"),
        "collection_success_stats.recovery_rate",
        WARNING,
    ),
    *(
        Damage("figures_are_never_negative", sql, subject, WARNING)
        for sql, subject in (
            (f"{_HAS} cases_won = -1 WHERE lawyer_id = {LAWYER}", "lawyer_level_details.cases_won"),
            (
                "UPDATE enterprise_service_packages SET monthly_fee = -monthly_fee",
                "enterprise_service_packages.monthly_fee",
            ),
            (
                _STATISTIC.format(", total_cases", "current_date, current_date, -3"),
                "collection_success_stats.total_cases",
            ),
        )
    ),
    Damage(
        "periods_end_after_they_begin",
        _without(
            "user_memberships",
            "ck_user_memberships_end_date",
            _member("user_memberships", "user_id", "", "current_date, current_date - 1"),
        ),
        "user_memberships.end_date",
    ),
    Damage(
        "periods_end_after_they_begin",
        _without(
            "collection_success_stats",
            "ck_collection_success_stats_period_end",
            _STATISTIC.format("", "current_date, current_date - 1"),
        ),
        "collection_success_stats.period_end",
    ),
    Damage(
        "subscriptions_keep_their_limits",
        _subscribe("current_date, current_date + 30, 501, 500, 'active'"),
        "enterprise_subscriptions.cases_used",
    ),
    Damage(
        "subscriptions_keep_their_limits",
        _subscribe("current_date, current_date + 30, -1, 500, 'active'"),
        "enterprise_subscriptions.cases_used",
    ),
    Damage(
        "subscriptions_keep_their_limits",
        _subscribe("current_date, current_date + 30, 0, 501, 'active'"),
        "enterprise_subscriptions.cases_limit",
        WARNING,
    ),
    Damage(
        "subscriptions_keep_their_limits",
        _subscribe("current_date - 30, current_date - 2, 0, 500, 'active'"),
        "enterprise_subscriptions.status",
        WARNING,
    ),
    *(
        Damage("account_types_agree_with_roles", _TYPE_OF_ONE.format(*types), "users.account_type", WARNING)
        for types in (("user", "lawyer"), ("lawyer", "user"), ("lawyer", "admin"), ("admin", "user"))
    ),
    Damage(
        "workspace_types_agree_with_roles",
        f"UPDATE workspace_mappings SET workspace_type = 'user' WHERE user_id = {LAWYER}",
        "workspace_mappings.workspace_type",
        WARNING,
    ),
    Damage(
        "one_account_is_primary",
        "DROP INDEX ix_user_accounts_user_id;"
        + _ACCOUNT.format("'feishu', open_id, true")
        + _ACCOUNT.format("'wechat', open_id, true"),
        "user_accounts.is_primary",
    ),
    Damage(
        "feishu_accounts_agree",
        _ACCOUNT.format("'feishu', 'ou_another', true"),
        "user_accounts.provider_account_id",
        WARNING,
    ),
    Damage(
        "feishu_accounts_agree",
        _ACCOUNT.format("'feishu', (SELECT max(open_id) FROM feishu_auths), true")
        + "DELETE FROM feishu_auths USING user_accounts a WHERE a.user_id = feishu_auths.user_id",
        "user_accounts.provider_account_id",
        WARNING,
    ),
    *(
        Damage("demo_data_is_complete", _DEMO.format(values), "demo_accounts.demo_data")
        for values in (
            "'[]'",
            "demo_data - 'specialties'",
            "jsonb_set(demo_data, '{client_rating}', 'null')",
            "demo_data #- '{demo_cases,1,title}'",
            "jsonb_set(demo_data, '{demo_cases}', '\"none\"')",
        )
    ),
    Damage(
        "demo_data_is_complete",
        "INSERT INTO demo_accounts (demo_type, workspace_id, display_name) VALUES ('user', 'demo-user-002', '演示')",
        "demo_accounts.demo_data",
        WARNING,
    ),
]


@pytest.mark.parametrize("damage", tried_once(DAMAGES, keep=20), ids=str)
def test_a_damage_is_found(damage: Damage, subject: Subject) -> None:
    """Each check is silent on the upgraded database, and finds its damage, alone, with what to type."""
    assert findings(subject, damage.check) == []
    subject.connection.exec_driver_sql(damage.sql)
    found = findings(subject, damage.check)
    assert [(one.subject, one.severity) for one in found] == [(damage.subject, damage.severity)]
    assert found[0].problem
    assert found[0].hint


def test_every_check_has_a_damage() -> None:
    """No business check is without a test that makes it fire."""
    checks = {name for name, check in CHECKS.items() if check.area is Area.BUSINESS}
    assert checks == {damage.check for damage in DAMAGES}


ORDINARY_WRITES = (
    # Sign-ups that know nothing of our columns; a lawyer who waits for certification.
    """INSERT INTO users (id, tenant_id, username, password_hash, status)
       SELECT gen_random_uuid(), min(id::text)::uuid, 'new ' || n, '!', 'PENDING'
       FROM tenants, generate_series(1, 3) AS n GROUP BY n""",
    "UPDATE users SET account_type = 'lawyer_pending' WHERE username = 'new 1'",
    """INSERT INTO user_roles (user_id, role_id)
       SELECT u.id, r.id FROM users u, roles r WHERE u.username = 'new 1' AND r.name = 'Lawyer'""",
    """INSERT INTO workspace_mappings (user_id, workspace_id, workspace_type)
       SELECT id, workspace_id, 'user' FROM users WHERE username IN ('new 1', 'new 2')""",
    """INSERT INTO workspace_mappings (user_id, workspace_id, workspace_type, is_demo)
       SELECT id, 'ws-demo', 'lawyer', true FROM users WHERE username = 'new 3'""",
    "UPDATE users SET account_type = 'user' WHERE username = 'new 3'",
    # A lawyer earns points, loses some, rises.
    _ledger(600) + _ledger(-100, before=600),
    f"""UPDATE lawyer_level_details SET level_points = 500, current_level = 2, cases_completed = 3, success_rate = 100,
               client_rating = 5
        WHERE lawyer_id = {LAWYER}""",
    # Another one has long earned a level that is yet to come; of a third, the points fell.
    """UPDATE lawyer_level_details SET cases_completed = 5000 WHERE lawyer_id =
        (SELECT max(lawyer_id::text)::uuid FROM lawyer_level_details)""",
    """UPDATE lawyer_level_details SET current_level = 3, downgrade_risk = true WHERE lawyer_id =
        (SELECT lawyer_id FROM lawyer_level_details ORDER BY 1 OFFSET 1 LIMIT 1)""",
    # Credits are bought and spent, and expire; prices and benefits are edited.
    """INSERT INTO credit_purchase_records (user_id, credits_count, unit_price, total_amount)
       SELECT user_id, 3, 45, 120 FROM user_credits""",
    "UPDATE user_credits SET credits_remaining = 0, credits_weekly = 0, credits_purchased = 3, total_credits_used = 4",
    "UPDATE enterprise_service_packages SET monthly_fee = 1, case_volume_limit = case_volume_limit * 2",
    "UPDATE lawyer_levels SET daily_case_limit = daily_case_limit + 1, benefits = '{}'",
    # Subscriptions end, are cancelled, are used up.
    _subscribe("current_date - 30, current_date - 9, 500, 500, 'expired'"),
    _subscribe("current_date - 30, current_date - 1, 0, 0, 'active'"),
    _subscribe("current_date, current_date, 3, 400, 'cancelled'"),
    # Accounts of two providers; a demo account that is switched off shows nothing.
    _ACCOUNT.format("'feishu', open_id, true") + _ACCOUNT.format("'wechat', 'wx_' || open_id, false"),
    """INSERT INTO demo_accounts (demo_type, workspace_id, display_name, is_active)
       VALUES ('user', 'demo-9', '演示', false)""",
    """UPDATE demo_accounts SET demo_data = demo_data || '{"company": "", "cases_published": 0}'
       WHERE demo_type = 'user'""",
)


def test_ordinary_writes_are_no_findings(subject: Subject) -> None:
    """What the application and its operators may rightly do makes no business check say anything."""
    for statement in ORDINARY_WRITES:
        assert subject.connection.exec_driver_sql(statement.replace("%%", "%")).rowcount > 0, statement
    said = [
        finding for name, check in CHECKS.items() if check.area is Area.BUSINESS for finding in findings(subject, name)
    ]
    assert said == []


@pytest.mark.parametrize(
    ("points", "cases", "level"),
    [(0, 0, 1), (499, 9999, 1), (500, 3, 2), (500, 2, 1), (799_999, 3000, 9), (800_000, 3000, 10), (9**9, 0, 1)],
)
def test_a_level_needs_points_and_cases(points: int, cases: int, level: int) -> None:
    """The highest level counts whose points and cases are both reached."""
    levels = [
        Level(number, {"level_points": asked, "cases_completed": completed}, {})
        for number, asked, completed in THRESHOLDS
    ]
    assert level_for(levels, points, cases) == level
    assert level_for([], points, cases) is None


def test_the_seeded_levels_are_those_of_the_table() -> None:
    """The seed rows ask for what the platform's table says."""
    seeded = [
        (row["level"], row["requirements"]["level_points"], row["requirements"]["cases_completed"])
        for row in seeds.seeds()["lawyer_levels"]["rows"]
    ]
    assert seeded == list(THRESHOLDS)
