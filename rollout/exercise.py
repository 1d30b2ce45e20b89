"""The real thing, played inside the upgrade's transaction before COMMIT, in savepoints that are rolled back.

A lawyer earns points and rises, a user buys and spends credits, a case is declined, an enterprise subscribes: what the
application will do tomorrow, and what the database must refuse. Only tables of ours are written to; triggers of others
on them keep still meanwhile. It comes after the proof that nothing changed (``rollout.preserve``), because the server
counts the writes of savepoints that were rolled back too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, IntegrityError

from rollout.database import first_line, quote
from rollout.findings import ERROR, WARNING, Finding
from rollout.messages import say

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Connection

    from rollout.checks.registry import Subject

PATIENCE = 2000
"""Milliseconds that we wait for a row that somebody else holds."""

LOCK_NOT_AVAILABLE = "55P03"


@dataclass
class Stage:
    """Where a scene is played: it writes, looks, and sees what is refused; ``problems``: (subject, what is wrong)."""

    connection: Connection
    subject: Subject
    problems: list[tuple[str, str]]

    def do(self, sql: str, **values: Any) -> Any:
        """Run a statement; return the first value of its first row, where it has one."""
        result = self.connection.execute(text(sql), values)
        return result.scalar() if result.returns_rows else None

    def expect(self, what: str, expected: Any, sql: str, **values: Any) -> None:
        """Note a problem with ``what`` (a finding's subject) where a query does not answer as expected."""
        found = self.do(sql, **values)
        if found != expected:
            problem = say("exercised: expected {expected}, found {found}", expected=expected, found=found)
            self.problems.append((what, problem))

    def refuse(self, what: str, sql: str, **values: Any) -> None:
        """Note a problem with ``what`` where the server accepts what it must refuse."""
        savepoint = self.connection.begin_nested()
        try:
            self.do(sql, **values)
        except IntegrityError:
            return
        finally:
            savepoint.rollback()
        self.problems.append((what, say("exercised: the server accepts what it must refuse")))

    def has(self, key: str) -> bool:
        """Tell whether an object is there at this revision, with its rows."""
        return self.subject.has_whole(key) and key in self.subject.catalog


@dataclass(frozen=True)
class Scene:
    """One scene: the tables that it writes to, and what is played with a user (and a case, where it needs one)."""

    name: str
    tables: tuple[str, ...]
    play: Callable[[Stage, Any, Any], None]
    with_case: bool = False


def run(subject: Subject) -> list[Finding]:
    """Play every scene whose tables are there; return what went wrong. Leaves nothing behind."""
    return [finding for scene in SCENES for finding in _play(scene, subject)]


def _play(scene: Scene, subject: Subject) -> list[Finding]:
    """Play one scene in a savepoint."""
    stage = Stage(subject.connection, subject, [])
    if not all(stage.has(f"table {table}") for table in scene.tables):
        return []
    savepoint = subject.connection.begin_nested()
    try:
        stage.do(f"SET LOCAL lock_timeout = {PATIENCE}")
        _keep_still(stage, scene)
        user, case = _people(stage, with_case=scene.with_case)
        if user is None or (scene.with_case and case is None):
            return []
        scene.play(stage, user, case)
    except DBAPIError as error:
        busy = getattr(error.orig, "pgcode", None) == LOCK_NOT_AVAILABLE
        stage.problems.append((scene.tables[0], say("could not be exercised: {reason}", reason=first_line(error))))
        return [_finding(scene, *problem, WARNING if busy else ERROR) for problem in stage.problems]
    finally:
        savepoint.rollback()
    return [_finding(scene, *problem, ERROR) for problem in stage.problems]


def _finding(scene: Scene, subject: str, problem: str, severity: str) -> Finding:
    """Make a finding of a scene."""
    hint = say("See what `tool verify` says of it; report this where it says nothing.")
    return Finding(subject, problem, hint, severity, scene.name, "business")


def _keep_still(stage: Stage, scene: Scene) -> None:
    """Switch off the triggers that others have on the scene's tables, until its savepoint is rolled back."""
    stage.do("SET CONSTRAINTS ALL IMMEDIATE")
    for key, found in stage.subject.catalog.items():
        ours = key in stage.subject.manifest
        if key.startswith("trigger ") and found["table"] in scene.tables and not ours and found["enabled"] != "D":
            trigger = key.removeprefix("trigger ").rpartition(" on ")[0]
            stage.do(f"ALTER TABLE {quote(found['table'])} DISABLE TRIGGER {quote(trigger)}".replace(":", r"\:"))


def _people(stage: Stage, *, with_case: bool) -> tuple[Any, Any]:
    """Return a user (a lawyer, where there is one) and a case; made up only where the legacy core is our own."""
    user = stage.do(
        "SELECT ur.user_id FROM user_roles ur JOIN roles r ON r.id = ur.role_id WHERE r.name = 'Lawyer' LIMIT 1"
    ) or stage.do("SELECT id FROM users LIMIT 1")
    case = stage.do("SELECT id FROM cases LIMIT 1") if with_case else None
    if stage.subject.is_ours("table users"):
        user = user or stage.do(_NEW_USER)
        if with_case and case is None:
            case = stage.do(_NEW_CASE, user=user)
    return user, case


_NEW_USER = """
WITH tenant AS (
    INSERT INTO tenants (id, name, tenant_code, mode, status)
    VALUES (gen_random_uuid(), 'exercise', 'exercise', 'SAAS', 'ACTIVE') RETURNING id
)
INSERT INTO users (id, tenant_id, username, password_hash, status)
SELECT gen_random_uuid(), id, 'exercise', '!', 'ACTIVE' FROM tenant RETURNING id
"""

_NEW_CASE = """
WITH client AS (
    INSERT INTO clients (id, tenant_id, name, sales_owner_id)
    SELECT gen_random_uuid(), tenant_id, 'exercise', id FROM users WHERE id = :user RETURNING id, tenant_id
)
INSERT INTO cases (id, tenant_id, client_id, case_number, debtor_info, case_amount, status, sales_user_id,
                   debt_creation_date, legal_status)
SELECT gen_random_uuid(), tenant_id, id, 'exercise', '{}', 1, 'PENDING', :user, current_date, 'VALID' FROM client
RETURNING id
"""

_LONG_AGO = "2000-01-01"


def a_lawyer_rises(stage: Stage, lawyer: Any, _case: Any) -> None:
    """Earn the points of the second level; the ledger must balance, the level be the table's, the view show it."""
    details = "lawyer_level_details"
    stage.do(
        f"INSERT INTO {details} (lawyer_id, updated_at) VALUES (:lawyer, :long_ago) ON CONFLICT (lawyer_id) DO UPDATE"
        " SET current_level = 1, level_points = 0, cases_completed = 0, updated_at = :long_ago",
        lawyer=lawyer,
        long_ago=_LONG_AGO,
    )
    asked = "(requirements ->> '{}')::bigint"
    points, cases = (
        stage.do(f"SELECT {asked.format(name)} FROM lawyer_levels WHERE level = 2")
        for name in ("level_points", "cases_completed")
    )
    ledger = (
        "INSERT INTO lawyer_point_transactions"
        " (lawyer_id, transaction_type, points_change, points_before, points_after)"
        " VALUES (:lawyer, 'case_complete', :points, 0, :points + :wrong)"
    )
    stage.do(ledger, lawyer=lawyer, points=points, wrong=0)
    stage.refuse("lawyer_point_transactions.points_after", ledger, lawyer=lawyer, points=points, wrong=1)
    reached = (
        f"SELECT max(level) FROM lawyer_levels WHERE {asked.format('level_points')} <= :points"
        f" AND {asked.format('cases_completed')} <= :cases"
    )
    stage.expect("lawyer_levels.requirements", 2, reached, points=points, cases=cases)
    rise = f"UPDATE {details} SET current_level = :level, level_points = :points WHERE lawyer_id = :lawyer"
    stage.do(rise, level=2, points=points, lawyer=lawyer)
    stage.refuse(f"{details}.current_level", rise, level=99, points=points, lawyer=lawyer)
    _touched(stage, details, "lawyer_id", lawyer)
    shown = "SELECT max(current_level) FROM lawyer_performance_summary WHERE lawyer_id = :lawyer"
    is_lawyer = "SELECT EXISTS (SELECT FROM user_roles ur JOIN roles r ON r.id = ur.role_id WHERE ur.user_id = :lawyer"
    if stage.has("view lawyer_performance_summary") and stage.do(f"{is_lawyer} AND r.name = 'Lawyer')", lawyer=lawyer):
        stage.expect("lawyer_performance_summary", 2, shown, lawyer=lawyer)


def _touched(stage: Stage, table: str, key: str, value: Any) -> None:
    """See that a row which was changed says when."""
    now = f"SELECT updated_at = now() FROM {table} WHERE {key} = :value"
    stage.expect(f"update_{table}_updated_at on {table}", expected=True, sql=now, value=value)


def a_user_buys_credits(stage: Stage, user: Any, _case: Any) -> None:
    """Buy three credits and spend all four; there is no fifth."""
    stage.do(
        "INSERT INTO user_credits (user_id, updated_at) VALUES (:user, :long_ago) ON CONFLICT (user_id) DO UPDATE"
        " SET credits_remaining = 1, credits_purchased = 0, total_credits_used = 0, updated_at = :long_ago",
        user=user,
        long_ago=_LONG_AGO,
    )
    buy = (
        "INSERT INTO credit_purchase_records (user_id, credits_count, total_amount) VALUES (:user, :count, 150)"
        " RETURNING id"
    )
    purchase = stage.do(buy, user=user, count=3)
    stage.refuse("credit_purchase_records.ck_credit_purchase_records_credits_count", buy, user=user, count=0)
    pay = "UPDATE credit_purchase_records SET status = :status WHERE id = :purchase"
    stage.do(pay, status="paid", purchase=purchase)
    stage.refuse("credit_purchase_records.ck_credit_purchase_records_status", pay, status="?", purchase=purchase)
    stage.do(
        "UPDATE user_credits SET credits_remaining = credits_remaining + 3, credits_purchased = 3"
        " WHERE user_id = :user",
        user=user,
    )
    _touched(stage, "user_credits", "user_id", user)
    spend = (
        "UPDATE user_credits SET credits_remaining = credits_remaining - :count,"
        " total_credits_used = total_credits_used + :count WHERE user_id = :user"
    )
    stage.do(spend, count=4, user=user)
    stage.refuse("user_credits.ck_user_credits_credits_remaining", spend, count=1, user=user)
    left = "SELECT ARRAY[credits_remaining, total_credits_used] FROM user_credits WHERE user_id = :user"
    stage.expect("user_credits", [0, 4], left, user=user)


def a_case_is_declined(stage: Stage, lawyer: Any, case: Any) -> None:
    """Invite a lawyer, who declines; the statistics count it, and points go."""
    both = {"lawyer": lawyer, "case": case}
    stage.do("DELETE FROM case_invitations WHERE case_id = :case AND lawyer_id = :lawyer", **both)
    invite = (
        "INSERT INTO case_invitations (case_id, lawyer_id, expires_at)"
        " VALUES (:case, :lawyer, now() + interval '1 day')"
    )
    stage.do(invite, **both)
    stage.refuse("case_invitations.uq_case_invitations_case_id_lawyer_id", invite, **both)
    declined = "SELECT sum(invitations_declined) FROM case_matching_stats WHERE case_id = :case"
    before = stage.do(declined, case=case) if stage.has("view case_matching_stats") else None
    answer = (
        "UPDATE case_invitations SET status = :status, responded_at = now()"
        " WHERE case_id = :case AND lawyer_id = :lawyer"
    )
    stage.do(answer, status="declined", **both)
    stage.refuse("case_invitations.ck_case_invitations_status", answer, status="?", **both)
    if before is not None:
        stage.expect("case_matching_stats", before + 1, declined, case=case)
    impact = stage.do(
        "INSERT INTO lawyer_case_declines (lawyer_id, case_id, decline_reason, points_penalty)"
        " VALUES (:lawyer, :case, 'exercise', 50) RETURNING (priority_impact * 100)::int",
        **both,
    )
    stage.expect("lawyer_case_declines.priority_impact", -10, "SELECT CAST(:impact AS int)", impact=impact)


def an_enterprise_subscribes(stage: Stage, manager: Any, _case: Any) -> None:
    """Take a client in, who subscribes to a package; the package stays, the client may go with the subscription."""
    package = stage.do("SELECT id FROM enterprise_service_packages ORDER BY monthly_fee LIMIT 1")
    client = stage.do(
        "INSERT INTO enterprise_clients (company_name, company_type, contact_person, contact_phone, contact_email,"
        " service_type, assigned_account_manager)"
        " VALUES ('exercise', 'bank', '-', '-', '-', 'compliance', :manager) RETURNING id",
        manager=manager,
    )
    subscribe = (
        "INSERT INTO enterprise_subscriptions (client_id, package_id, start_date, end_date, monthly_fee, cases_limit)"
        " SELECT :client, id, current_date, current_date + CAST(:days AS int), monthly_fee, case_volume_limit"
        " FROM enterprise_service_packages WHERE id = :package"
    )
    stage.do(subscribe, client=client, package=package, days=365)
    wrong = "enterprise_subscriptions.ck_enterprise_subscriptions_end_date"
    stage.refuse(wrong, subscribe, client=client, package=package, days=-1)
    kept = "enterprise_subscriptions.fk_enterprise_subscriptions_package_id"
    stage.refuse(kept, "DELETE FROM enterprise_service_packages WHERE id = :package", package=package)
    count = "SELECT count(*) FROM enterprise_subscriptions WHERE client_id = :client"
    stage.expect("enterprise_subscriptions", 1, count, client=client)
    stage.do("DELETE FROM enterprise_clients WHERE id = :client", client=client)
    stage.expect("enterprise_subscriptions", 0, count, client=client)


SCENES = (
    Scene("a_lawyer_rises", ("lawyer_level_details", "lawyer_levels", "lawyer_point_transactions"), a_lawyer_rises),
    Scene("a_user_buys_credits", ("user_credits", "credit_purchase_records"), a_user_buys_credits),
    Scene("a_case_is_declined", ("case_invitations", "lawyer_case_declines"), a_case_is_declined, with_case=True),
    Scene(
        "an_enterprise_subscribes",
        ("enterprise_clients", "enterprise_subscriptions", "enterprise_service_packages"),
        an_enterprise_subscribes,
    ),
)
