"""The merge of users: new ones with everything that belongs to a user, and what matched ones take over.

Triggers of others on ``users`` fire as on any write of an application; what they change in a new user's mapped columns
is found by the reconciliation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import text

from datamigrations import belongings, quarantine, reconcile, usernames
from datamigrations.decisions import is_personal
from datamigrations.identity import KNOWN, known_as
from datamigrations.job import KEEP, SOURCE
from datamigrations.mapping import USERS
from datamigrations.rules import TRUE
from datamigrations.sqltext import literal
from rollout.messages import say

if TYPE_CHECKING:
    from datamigrations.job import Job
    from datamigrations.source import SourceTable

TAKEN_OVER = ("status", "role", "agreed_agreement_version")
NEW_USER = (
    "id", "tenant_id", "username", "email", "phone_number", "status", "role", "agreed_agreement_version", "created_at",
    "updated_at", "account_type", "registration_source", "email_verified", "last_login", "avatar_url", "twitter_url",
)  # fmt: skip
"""The columns that the import gives a new user, apart from the marker that stands for a password."""

SEEN = "users.seen"
"""The name under which ``rollout.import_changes`` keeps what a matched user looked like after a run."""

_ROLES = "ARRAY['user', 'admin', 'super_admin']"
_LISTED = 100

_STATUS = "CASE w.status WHEN '0' THEN 'INACTIVE' WHEN '1' THEN 'ACTIVE' WHEN '2' THEN 'BANNED' END::public.userstatus"
_ROLE = "CASE w.role WHEN 'verified' THEN 'user' ELSE w.role END"

# What somebody who was here before Pagtive becomes.
_CHANGE = (
    "CASE WHEN q.map_says IS DISTINCT FROM 'created' THEN nullif(concat_ws(', ',"
    " CASE WHEN q.status <> q.old_status THEN q.old_status || ' -> ' || q.status END,"
    " CASE WHEN q.role <> q.old_role THEN q.old_role || ' -> ' || q.role END), '') END"
)

_VERIFIED = (  # the usual form first: the others cost a call
    f"(w.email_verified ~ '^[0-9]{{4,}}-' OR lower(w.email_verified) IN ({TRUE})"
    " OR pg_temp.time_value(w.email_verified, 'UTC') IS NOT NULL) IS TRUE"
)


def new_users(source: SourceTable, tenant_id: str) -> dict[str, str]:
    """Return the SQL of a new user's mapped columns (``m``: names, ``p``: people, ``w``: import_converted_users)."""
    values = {
        "id": "m.user_id",
        "tenant_id": f"{literal(tenant_id)}::uuid",
        "username": "m.username",
        "email": "p.email",
        "phone_number": "NULL::text",
        "status": f"coalesce({_STATUS}, 'ACTIVE'::public.userstatus)",
        "role": f"coalesce({_ROLE}, 'user')",
        "agreed_agreement_version": "w.agreed_agreement_version",
        "created_at": "coalesce(w.created_at, w.updated_at, now())",
        "updated_at": "coalesce(w.updated_at, w.created_at, now())",
        "account_type": "'user'::text",
        "registration_source": "'pagtive'::text",
    }
    optional = {
        "email_verified": ("email_verified", _VERIFIED, "false"),
        "last_login": ("last_login", "w.last_login", "NULL::timestamptz"),
        "image": ("avatar_url", "w.image", "NULL::text"),
        "twitter_url": ("twitter_url", "w.twitter_url", "NULL::text"),
    }
    for origin, (column, value, default) in optional.items():
        values[column] = value if source.has(origin) else default
    return values


def merge(job: Job, source: SourceTable) -> None:
    """Write the users: new ones, what matched ones take over, and the map. Needs ``identity.resolve``."""
    counts = job.counts[USERS.name]
    usernames.assign(job)
    counts.inserted = _create(job, source)
    _plan(job)
    counts.updated = _take_over(job)
    _remember_matches(job)
    counts.merged = int(job.scalar("SELECT count(*) FROM rollout.import_people WHERE matched_by = 'merged'"))
    job.kept[USERS.name] = int(job.scalar("SELECT count(*) FROM rollout.import_plan_users WHERE action = 'kept'"))
    counts.unchanged = int(job.scalar("SELECT count(*) FROM rollout.import_plan_users WHERE action = 'unchanged'"))
    counts.unchanged += job.kept[USERS.name]
    counts.quarantined = quarantine.keep(job, source)


def _tenant(job: Job) -> str:
    """Return the id of the tenant of new users, made where it is missing."""
    code = job.options.tenant
    made = job.scalar(
        "INSERT INTO public.tenants (id, name, tenant_code, mode, status)"
        " SELECT gen_random_uuid(), :code, :code, 'SAAS', 'ACTIVE'"
        " WHERE NOT EXISTS (SELECT FROM public.tenants WHERE tenant_code = :code) RETURNING id::text",
        code=code,
    )
    if made is not None:
        job.run.listener.note(say("a tenant {code} is made for the new users", code=code))
        belongings.record(job, "tenants", "t.id::text", f"t.id = {literal(made)}::uuid")
    return str(made or job.scalar("SELECT id::text FROM public.tenants WHERE tenant_code = :code", code=code))


def _create(job: Job, source: SourceTable) -> int:
    """Insert the new users and what belongs to a user; return how many."""
    job.run.result["accounts_created"] = 0
    if not job.scalar("SELECT EXISTS (SELECT FROM rollout.import_names)"):
        return 0
    tenant_id = _tenant(job)
    known = new_users(source, tenant_id)
    values = {column: known[column] for column in NEW_USER}
    columns, mapped = ", ".join(values), ", ".join(values.values())
    rows = "rollout.import_names AS m JOIN rollout.import_people AS p ON p.n = m.n"
    rows += " JOIN rollout.import_converted_users AS w ON w.n = m.n"
    inserted = job.execute(
        f"INSERT INTO public.users ({columns}, password_hash)"
        # A marker that no hash function produces.
        f" SELECT {mapped}, '!' || replace(gen_random_uuid()::text, '-', '') FROM {rows} ORDER BY m.place"
    )
    job.counts[USERS.name].defaulted = int(
        job.scalar(f"SELECT count(*) FROM {rows} WHERE w.created_at IS NULL OR w.updated_at IS NULL")
    )
    belongings.record(job, "users", "t.id::text")
    written = reconcile.content({column: f"t.{column}" for column in NEW_USER})
    reconcile.same_content(
        job,
        USERS.name,
        f"SELECT {reconcile.content(values)} AS content FROM {rows}",
        f"SELECT {written} AS content FROM rollout.import_names AS m JOIN public.users AS t ON t.id = m.user_id",
    )
    belongings.create(job, source, tenant_id)
    return inserted


def _plan(job: Job) -> None:
    """Make ``import_plan_users``: what each matched user would take over, and whether it does."""
    rises = f"array_position({_ROLES}, {_ROLE}) > array_position({_ROLES}, u.role::text)"
    withheld = "false" if job.options.allow_role_escalation else f"coalesce({rises}, false)"
    job.temporary(
        "import_plan_users",
        f"SELECT q.*, CASE WHEN (q.status, q.role, q.agreed_agreement_version)"
        " IS NOT DISTINCT FROM (q.old_status, q.old_role, q.old_agreed_agreement_version) THEN 'unchanged'"
        f" {_choice(job)} END AS action, {_CHANGE} AS change FROM ("
        "SELECT p.n, p.source_id, p.user_id, p.matched_by, p.mapped_by AS map_says, p.updated,"
        " u.updated_at AS old_updated, l.content AS last,"
        " (l.previous ->> 'updated_at')::timestamptz AS last_updated,"
        " (l.previous ->> 'source')::timestamptz AS last_source,"
        f" coalesce({_STATUS}, u.status) AS status,"
        f" CASE WHEN {withheld} THEN u.role::text ELSE coalesce({_ROLE}, u.role) END AS role,"
        " coalesce(w.agreed_agreement_version, u.agreed_agreement_version) AS agreed_agreement_version,"
        " u.status AS old_status, u.role::text AS old_role,"
        " u.agreed_agreement_version::text AS old_agreed_agreement_version,"
        f" {withheld} AS withheld, {_ROLE} AS wanted_role"
        " FROM rollout.import_people AS p JOIN rollout.import_converted_users AS w ON w.n = p.n"
        " JOIN public.users AS u ON u.id = p.user_id"
        f" LEFT JOIN ({reconcile.last(SEEN, 'c.content, c.previous')}) AS l ON l.row_key = p.user_id::text"
        " WHERE p.matched_by IN ('map', 'decision', 'feishu', 'email')) AS q",
    )
    _list_changes(job)
    withheld_rows = job.connection.execute(
        text(
            "SELECT source_id, user_id::text, old_role, wanted_role, count(*) OVER () AS all_of_them"
            " FROM rollout.import_plan_users WHERE withheld ORDER BY source_id LIMIT :listed"
        ),
        {"listed": _LISTED},
    ).all()
    job.run.result["role_escalations_withheld"] = withheld_rows[0].all_of_them if withheld_rows else 0
    job.run.result["role_escalations"] = [
        _who(row) | {"from": row.old_role, "to": row.wanted_role} for row in withheld_rows
    ]


def _list_changes(job: Job) -> None:
    """List the users who were here before Pagtive and get another status or role: ``user_changes``, all counted."""
    rows = job.connection.execute(
        text(
            "SELECT source_id, user_id::text, change, count(*) OVER () AS all_of_them FROM rollout.import_plan_users"
            " WHERE action = 'update' AND change IS NOT NULL ORDER BY source_id LIMIT :listed"
        ),
        {"listed": _LISTED},
    ).all()
    job.run.result["users_changed"] = rows[0].all_of_them if rows else 0
    job.run.result["user_changes"] = [_who(row) | {"change": row.change} for row in rows]


def _who(row: Any) -> dict[str, str]:
    """Return a user as the report names one."""
    return ({} if is_personal(row.source_id) else {"source_id": row.source_id}) | {"user_id": row.user_id}


def _choice(job: Job) -> str:
    """Return the rest of the CASE for matched users that differ.

    One matched for the first time takes over; one that was imported before does where nobody has changed it since, or
    where the source was changed later than that. What a trigger makes of ``updated_at`` when we write is nobody's
    change; a change that leaves ``updated_at`` as it was is one.
    """
    if job.options.on_conflict == SOURCE:
        return "ELSE 'update'"
    if job.options.on_conflict == KEEP:
        return "ELSE 'kept'"
    return (
        "WHEN q.matched_by <> 'map' THEN 'update'"
        " WHEN q.updated > q.old_updated AND (q.last_source IS NULL OR q.updated > q.last_source) THEN 'update'"
        f" WHEN q.last = {taken_over('q.old_')} AND (q.updated >= q.old_updated OR q.updated IS NULL"
        " OR q.map_says <> 'created' OR q.last_updated = q.old_updated AND q.updated >= q.last_source) THEN 'update'"
        " ELSE 'kept'"
    )


def taken_over(prefix: str) -> str:
    """Return SQL for the hash of what a user takes over; ``prefix`` stands before the columns."""
    return reconcile.content({column: prefix + column for column in TAKEN_OVER})


def _take_over(job: Job) -> int:
    """Update the matched users, and record what they had; return how many."""
    updated = job.execute(
        "UPDATE public.users AS t SET status = w.status, role = w.role,"
        " agreed_agreement_version = w.agreed_agreement_version FROM rollout.import_plan_users AS w"
        " WHERE t.id = w.user_id AND w.action = 'update'"
    )
    previous = ", ".join(f"'{column}', w.old_{column}" for column in TAKEN_OVER)
    job.execute(
        "INSERT INTO rollout.import_changes (run_id, table_name, row_key, action, previous, content)"
        f" SELECT :run_id, 'users', t.id::text, 'update', jsonb_build_object({previous}), {taken_over('t.')}"
        " FROM rollout.import_plan_users AS w JOIN public.users AS t ON t.id = w.user_id WHERE w.action = 'update'",
        run_id=job.run.run_id,
    )
    reconcile.same_content(
        job,
        USERS.name,
        f"SELECT {taken_over('w.')} AS content FROM rollout.import_plan_users AS w WHERE w.action = 'update'",
        reconcile.recorded(job, "users", "update"),
    )
    return updated


def _remember_matches(job: Job) -> None:
    """Write the map, and what each user looked like when it was matched, created or taken over from."""
    job.mapped = job.execute(
        "INSERT INTO public.pagtive_user_map (source_id, user_id, matched_by)"
        " SELECT source_id, user_id, matched_by FROM rollout.import_people WHERE mapped_by IS NULL ORDER BY n"
    )
    job.execute(
        "INSERT INTO rollout.import_changes (run_id, table_name, row_key, action, content)"
        " SELECT :run_id, 'pagtive_user_map', t.source_id, 'insert',"
        f" {reconcile.content({'user_id': 't.user_id', 'matched_by': 't.matched_by'})}"
        " FROM rollout.import_people AS p JOIN public.pagtive_user_map AS t ON t.source_id = p.source_id"
        " WHERE p.mapped_by IS NULL",
        run_id=job.run.run_id,
    )
    job.execute(
        "INSERT INTO rollout.import_changes (run_id, table_name, row_key, action, previous, content)"
        f" SELECT :run_id, '{SEEN}', t.id::text, 'seen',"
        f" jsonb_build_object('updated_at', t.updated_at, 'source', p.updated), {taken_over('t.')}"
        " FROM rollout.import_people AS p JOIN public.users AS t ON t.id = p.user_id"
        " LEFT JOIN rollout.import_plan_users AS w ON w.n = p.n"
        " WHERE p.matched_by <> 'merged' AND (p.mapped_by IS NULL OR w.action = 'update')",
        run_id=job.run.run_id,
    )
    job.execute(
        "INSERT INTO rollout.import_changes (run_id, table_name, row_key, action, content)"
        f" SELECT :run_id, '{KNOWN}', p.source_id, 'seen', k.content FROM rollout.import_people AS p"
        f" JOIN ({known_as('rollout.import_people')}) AS k ON k.n = p.n WHERE p.mapped_by IS NULL",
        run_id=job.run.run_id,
    )
