"""What belongs to a new user: profile, workspace, role, credits, sign-in account; and its record, for an undo."""

from __future__ import annotations

from typing import TYPE_CHECKING

from datamigrations import reconcile
from datamigrations.sqltext import literal
from rollout.errors import ReconciliationFailed
from rollout.messages import say

if TYPE_CHECKING:
    from datamigrations.job import Job
    from datamigrations.source import SourceTable

BELONGINGS = ("profiles", "workspace_mappings", "user_roles", "user_credits", "user_accounts")
"""The tables of what belongs to a new user."""

# A person (``p``) who is new, and not merged into another one, can sign in by what is known of it.
_SIGNS_IN = "p.matched_by = 'created' AND coalesce(p.open_id, p.email) IS NOT NULL"

_ACCOUNTS = f"""
INSERT INTO public.user_accounts (user_id, type, provider, provider_account_id, is_primary, is_verified,
                                  provider_profile)
SELECT p.user_id, CASE WHEN p.open_id IS NULL THEN 'email' ELSE 'oauth' END,
       CASE WHEN p.open_id IS NULL THEN 'email' ELSE 'feishu' END, coalesce(p.open_id, p.email), true, true,
       CASE WHEN p.open_id IS NOT NULL THEN jsonb_build_object('open_id', p.open_id, 'union_id', NULL) END
FROM rollout.import_people AS p WHERE {_SIGNS_IN}
ON CONFLICT (user_id, provider) DO NOTHING
"""


def create(job: Job, source: SourceTable, tenant_id: str) -> None:
    """Insert profiles, workspaces, roles, credits and sign-in accounts of the new users.

    Rows that a trigger on ``users`` has made already stay as it made them; a profile gets what it has not.
    """
    image = "w.image" if source.has("image") else "NULL"
    job.execute(
        "INSERT INTO public.profiles AS t (user_id, full_name, verification_status, avatar_url)"
        f" SELECT m.user_id, w.name, 'UNVERIFIED', {image}"
        " FROM rollout.import_names AS m JOIN rollout.import_converted_users AS w ON w.n = m.n"
        " ON CONFLICT (user_id) DO UPDATE SET full_name = coalesce(t.full_name, excluded.full_name),"
        " avatar_url = coalesce(t.avatar_url, excluded.avatar_url)"
    )
    job.execute(
        "INSERT INTO public.workspace_mappings (user_id, workspace_id, workspace_type)"
        " SELECT u.id, u.workspace_id, 'user' FROM rollout.import_names AS m JOIN public.users AS u ON u.id = m.user_id"
        " ON CONFLICT (user_id) DO NOTHING"
    )
    job.execute(
        "INSERT INTO public.user_roles (user_id, role_id)"
        " SELECT m.user_id, r.id FROM rollout.import_names AS m, ("
        "  SELECT id FROM public.roles WHERE name = 'User' AND (tenant_id = CAST(:tenant AS uuid) OR tenant_id IS NULL)"
        "  ORDER BY tenant_id NULLS LAST, created_at, id LIMIT 1) AS r ON CONFLICT (user_id, role_id) DO NOTHING",
        tenant=tenant_id,
    )
    job.execute(
        "INSERT INTO public.user_credits (user_id) SELECT user_id FROM rollout.import_names"
        " ON CONFLICT (user_id) DO NOTHING"
    )
    job.run.result["accounts_created"] = job.execute(_ACCOUNTS)
    _require(job)
    for table in BELONGINGS:
        key = "t.user_id::text || ',' || t.role_id" if table == "user_roles" else "t.user_id::text"
        key = "t.id::text" if table == "user_accounts" else key
        record(job, table, key, "t.user_id = m.user_id")


def _require(job: Job) -> None:
    """Check that every new user has what belongs to it, whoever made it; raise ``ReconciliationFailed``."""
    wanted = dict.fromkeys(("profiles", "workspace_mappings", "user_credits"), "true")
    for table, condition in (wanted | {"user_accounts": _SIGNS_IN}).items():
        missing = job.scalar(
            "SELECT count(*) FROM rollout.import_names AS m JOIN rollout.import_people AS p ON p.n = m.n"
            f" WHERE {condition} AND NOT EXISTS (SELECT FROM public.{table} AS t WHERE t.user_id = m.user_id)"
        )
        if missing:
            raise ReconciliationFailed(
                say("{count} new users have no row in {table}", count=missing, table=table),
                hint=reconcile.drops_rows(table),
            )


def record(job: Job, table: str, key: str, condition: str = "t.id = m.user_id") -> None:
    """Record rows that belong to the new users (``m``) as inserted by this run, with all that is in them."""
    content = reconcile.whole_content(job.connection, table)
    rows = f"public.{table} AS t" + (
        " JOIN rollout.import_names AS m ON " + condition if "m." in condition else f" WHERE {condition}"
    )
    job.execute(
        "INSERT INTO rollout.import_changes (run_id, table_name, row_key, action, content)"
        f" SELECT :run_id, {literal(table)}, {key}, 'insert', {content} FROM {rows}",
        run_id=job.run.run_id,
    )
