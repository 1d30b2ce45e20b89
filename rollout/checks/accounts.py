"""Accounts: one primary account a user, Feishu ids agree, demo accounts have what they show."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import text

from rollout.checks import seeds, sign_in
from rollout.checks.registry import Area, Subject, check
from rollout.findings import ERROR, WARNING, Finding
from rollout.messages import say

if TYPE_CHECKING:
    from collections.abc import Iterator


@check(Area.BUSINESS, needs=("table user_accounts",))
def one_account_is_primary(subject: Subject) -> Iterator[Finding]:
    """No user has more than one primary account."""
    several = "SELECT user_id FROM user_accounts WHERE is_primary GROUP BY user_id HAVING count(*) > 1"
    other = "EXISTS (SELECT FROM user_accounts o WHERE o.user_id = a.user_id AND o.is_primary AND o.id <> a.id)"
    count = subject.connection.exec_driver_sql(
        f"SELECT count(DISTINCT user_id) FROM {subject.rows('user_accounts')} AS a WHERE is_primary AND {other}"
    ).scalar_one()
    if count:
        yield Finding(
            "user_accounts.is_primary",
            say("{count} user(s) have several primary accounts", count=count),
            f"SELECT * FROM user_accounts WHERE is_primary AND user_id IN ({several});",
        )


@check(Area.BUSINESS, needs=("table user_accounts", "table feishu_auths"))
def feishu_accounts_agree(subject: Subject) -> Iterator[Finding]:
    """Feishu accounts say the same as the older feishu_auths: who has which open id (else a warning)."""
    # A warning, since a user may have bound another Feishu identity since, in either table.
    cases = {
        "a.user_id = f.user_id AND a.provider_account_id <> f.open_id": say("user(s) have two different Feishu ids"),
        "a.user_id <> f.user_id AND a.provider_account_id = f.open_id": say("Feishu id(s) are another user's account"),
    }
    for condition, problem in cases.items():
        source = f"JOIN feishu_auths f ON {condition} WHERE a.provider = 'feishu'"
        count = subject.connection.exec_driver_sql(
            f"SELECT count(*) FROM {subject.rows('user_accounts')} AS a {source}"
        ).scalar_one()
        if count:
            yield Finding(
                "user_accounts.provider_account_id",
                say("{count} {problem} by feishu_auths", count=count, problem=problem),
                f"SELECT a.user_id, a.provider_account_id, f.user_id, f.open_id FROM user_accounts AS a {source};",
                WARNING,
            )


# The run's own record: what there was when sign-in accounts were made.
_ACCOUNTS_THEN = text(
    "SELECT (record::json ->> 'accounts_total')::bigint FROM rollout.runs WHERE command = 'users upgrade' AND ok"
    " AND record::json ->> 'dry_run' = 'false' ORDER BY number DESC LIMIT 1"
)


@check(Area.DATA, needs=("table user_accounts",))
def accounts_are_still_there(subject: Subject) -> Iterator[Finding]:
    """Not most sign-in accounts are gone since `tool users upgrade` made them (a warning)."""
    then = subject.connection.execute(_ACCOUNTS_THEN).scalar() if subject.remembers else None
    if not then or then <= sign_in.FEW:
        return
    now = subject.connection.exec_driver_sql("SELECT count(*) FROM user_accounts").scalar_one()
    if now < then / 2:
        yield Finding(
            "user_accounts",
            say("{now} sign-in accounts are left of {then}", now=now, then=then),
            say("`tool users upgrade` makes those that are missing; other ones are in a backup (`tool backup list`)."),
            WARNING,
        )


REQUIRED = {
    "lawyer": ("specialties", "experience_years", "success_rate", "cases_handled", "client_rating", "demo_cases"),
    "user": ("company", "cases_published", "total_amount", "demo_cases"),
}
"""What the demo page of each type shows."""

REQUIRED_OF_CASES = ("id", "title", "amount", "status")


@check(Area.BUSINESS, needs=("table demo_accounts",))
def demo_data_is_complete(subject: Subject) -> Iterator[Finding]:
    """Active demo accounts have the fields that they show (a warning for accounts that others added)."""
    ours = {row["workspace_id"] for row in seeds.seeds()["demo_accounts"]["rows"]}
    rows = subject.connection.execute(
        text("SELECT workspace_id, demo_type, demo_data FROM demo_accounts WHERE is_active ORDER BY workspace_id")
    )
    for workspace, kind, values in rows:
        missing = list(_missing(values, REQUIRED.get(kind, ())))
        if missing:
            yield Finding(
                "demo_accounts.demo_data",
                say("the demo account {workspace} lacks {fields}", workspace=workspace, fields=", ".join(missing)),
                "SELECT workspace_id, demo_data FROM demo_accounts WHERE is_active;",
                ERROR if workspace in ours else WARNING,
            )


def _missing(values: Any, required: tuple[str, ...]) -> Iterator[str]:
    """Yield the names of required fields that are not there or null, those of demo cases too."""
    there = dict(values) if isinstance(values, dict) else {}
    if not isinstance(there.get("demo_cases"), list):
        there["demo_cases"] = None
    yield from (name for name in required if there.get(name) is None)
    for number, case in enumerate(there["demo_cases"] or ()):
        fields = case if isinstance(case, dict) else {}
        yield from (f"demo_cases[{number}].{name}" for name in REQUIRED_OF_CASES if fields.get(name) is None)
