"""The application's top queries, each of which must be able to use an index."""

from __future__ import annotations

from dataclasses import dataclass

from rollout.messages import say

_USER = "'00000000-0000-0000-0000-000000000000'"
"""Nobody's id: what the planner chooses for it, it chooses for everybody's."""


@dataclass(frozen=True)
class Query:
    """One query on one table; ``columns``: those it needs, first the ``leading`` ones that its index leads with."""

    purpose: str
    table: str
    columns: tuple[str, ...]
    where: str
    rest: str = ""
    leading: int = 1

    @property
    def index(self) -> list[str]:
        """The columns that its index leads with."""
        return list(self.columns[: self.leading])

    @property
    def needs(self) -> tuple[str, ...]:
        """The objects (manifest keys) without which there is no such query."""
        return tuple(f"column {self.table}.{column}" for column in self.columns)

    @property
    def sql(self) -> str:
        """The query."""
        return f"SELECT * FROM {self.table} WHERE {self.where}{self.rest and ' '}{self.rest}"


def _by(purpose: str, table: str, column: str, value: str = _USER) -> Query:
    """Return the query of rows by one column."""
    return Query(purpose, table, (column,), f"{column} = {value}")


TOP_QUERIES = (
    # Sign-in
    _by(say("sign-in by e-mail"), "users", "email", "'nobody@lawsker.example'"),
    _by(say("sign-in by user name"), "users", "username", "'nobody'"),
    _by(say("sign-in by phone number"), "users", "phone_number", "'12000000000'"),
    Query(
        say("sign-in by an account of a provider"),
        "user_accounts",
        ("provider", "provider_account_id"),
        "provider = 'feishu' AND provider_account_id = 'ou_0'",
        leading=2,
    ),
    _by(say("sign-in with Feishu, the older way"), "feishu_auths", "open_id", "'ou_0'"),
    _by(say("a user's accounts"), "user_accounts", "user_id"),
    Query(
        say("a user's primary account"), "user_accounts", ("user_id", "is_primary"), f"user_id = {_USER} AND is_primary"
    ),
    _by(say("a user's roles"), "user_roles", "user_id"),
    # Workspaces
    _by(say("the user of a workspace"), "users", "workspace_id", "'ws-0'"),
    _by(say("a workspace by its id"), "workspace_mappings", "workspace_id", "'ws-0'"),
    _by(say("a user's workspace"), "workspace_mappings", "user_id"),
    _by(say("a demo account by its workspace"), "demo_accounts", "workspace_id", "'ws-0'"),
    _by(say("a user's requests for certification"), "lawyer_certification_requests", "user_id"),
    Query(
        say("requests for certification that wait"),
        "lawyer_certification_requests",
        ("status", "submitted_at"),
        "status = 'pending'",
        "ORDER BY submitted_at LIMIT 50",
    ),
    # Lawyers
    _by(say("a lawyer's level"), "lawyer_level_details", "lawyer_id"),
    _by(say("lawyers of a level"), "lawyer_level_details", "current_level", "9"),
    Query(say("lawyers who may rise"), "lawyer_level_details", ("upgrade_eligible",), "upgrade_eligible"),
    Query(
        say("a lawyer's points by date"),
        "lawyer_point_transactions",
        ("lawyer_id", "created_at"),
        f"lawyer_id = {_USER}",
        "ORDER BY created_at DESC LIMIT 20",
    ),
    Query(
        say("a lawyer's time online"),
        "lawyer_online_sessions",
        ("lawyer_id", "session_start"),
        f"lawyer_id = {_USER} AND session_start >= now() - interval '1 day'",
    ),
    Query(
        say("a lawyer's membership"),
        "lawyer_memberships",
        ("lawyer_id", "end_date"),
        f"lawyer_id = {_USER} AND end_date >= current_date",
    ),
    Query(
        say("a lawyer's suspension"),
        "lawyer_assignment_suspensions",
        ("lawyer_id", "is_active"),
        f"lawyer_id = {_USER} AND is_active",
    ),
    Query(
        say("cases a lawyer declined lately"),
        "lawyer_case_declines",
        ("lawyer_id", "created_at"),
        f"lawyer_id = {_USER} AND created_at >= now() - interval '1 day'",
    ),
    # Matching
    Query(
        say("open invitations of a lawyer"),
        "case_invitations",
        ("lawyer_id", "status", "expires_at"),
        f"lawyer_id = {_USER} AND status = 'pending' AND expires_at > now()",
    ),
    _by(say("invitations of a case"), "case_invitations", "case_id"),
    Query(
        say("invitations that run out"),
        "case_invitations",
        ("expires_at", "status"),
        "status = 'pending' AND expires_at <= now()",
    ),
    _by(say("how a case was matched"), "matching_history", "case_id"),
    _by(say("reviews of a case"), "case_reviews", "case_id"),
    _by(say("reviews of a lawyer"), "case_reviews", "lawyer_id"),
    # Credits and memberships of users
    _by(say("a user's credits"), "user_credits", "user_id"),
    Query(
        say("credits to be reset"),
        "user_credits",
        ("last_reset_date",),
        "last_reset_date <= current_date - 7",
        "ORDER BY last_reset_date LIMIT 1000",
    ),
    _by(say("a user's purchases of credits"), "credit_purchase_records", "user_id"),
    Query(
        say("a user's membership"),
        "user_memberships",
        ("user_id", "end_date"),
        f"user_id = {_USER} AND end_date >= current_date",
    ),
    Query(
        say("a user's use of AI by date"),
        "ai_tool_usage",
        ("user_id", "created_at"),
        f"user_id = {_USER}",
        "ORDER BY created_at DESC LIMIT 50",
    ),
    _by(say("a user's uploads"), "batch_upload_tasks", "user_id"),
    # Enterprise
    Query(
        say("a client's subscriptions"),
        "enterprise_subscriptions",
        ("client_id", "status"),
        f"client_id = {_USER} AND status = 'active'",
    ),
    _by(say("clients of an account manager"), "enterprise_clients", "assigned_account_manager"),
    _by(say("a client's statistics"), "collection_success_stats", "client_id"),
    Query(
        say("statistics of a period"),
        "collection_success_stats",
        ("period_start", "period_end"),
        "period_start = current_date AND period_end = current_date",
    ),
    # Pagtive
    Query(
        say("a user's projects by date"),
        "pagtive_projects",
        ("user_id", "created_at"),
        f"user_id = {_USER}",
        "ORDER BY created_at DESC LIMIT 20",
    ),
    Query(
        say("featured projects"),
        "pagtive_projects",
        ("is_featured", "created_at"),
        "is_featured",
        "ORDER BY created_at DESC LIMIT 20",
    ),
    Query(
        say("a page of a project"),
        "pagtive_project_details",
        ("project_id", "page_id"),
        f"project_id = {_USER} AND page_id = 1",
    ),
    _by(say("a user's requests to language models"), "pagtive_llm_logs", "user_id"),
    _by(say("a project's requests to language models"), "pagtive_llm_logs", "project_id"),
    _by(say("an invitation code"), "pagtive_invitation_codes", "code", "'none'"),
    _by(say("the user that a user of Pagtive became"), "pagtive_user_map", "source_id", "'none'"),
)
