"""What could stop a data migration, found before anything is staged or written."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import text

from datamigrations.mapping import TABLES
from rollout import memory
from rollout.errors import PreflightFailed
from rollout.findings import first_few
from rollout.messages import say

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from datamigrations.job import ImportOptions

# What the import needs of the target, beyond the tables of ``mapping``: table → columns.
_NEEDED = {
    "users": (
        "id", "tenant_id", "username", "password_hash", "email", "phone_number", "status", "created_at", "updated_at",
        "last_login", "workspace_id", "account_type", "email_verified", "registration_source", "role",
        "agreed_agreement_version", "avatar_url", "twitter_url",
    ),
    "tenants": ("id", "tenant_code"),
    "roles": ("id", "tenant_id", "name"),
    "profiles": ("user_id", "full_name", "verification_status", "avatar_url"),
    "user_roles": ("user_id", "role_id"),
    "workspace_mappings": ("user_id", "workspace_id", "workspace_type"),
    "user_credits": ("user_id",),
    "user_accounts": ("id", "user_id", "type", "provider", "provider_account_id", "is_primary", "is_verified"),
    "pagtive_user_map": ("source_id", "user_id", "matched_by"),
}  # fmt: skip

_TENANT_CODE_LENGTH = 50
_NAMED = 10


def check_import(own: Connection, options: ImportOptions) -> None:
    """Check the options, and that the target can take the import; raise ``PreflightFailed``."""
    if not 0 < len(options.tenant) <= _TENANT_CODE_LENGTH:
        raise PreflightFailed(
            say("the tenant code {tenant} is not 1 to 50 characters long", tenant=options.tenant),
            hint=say("For example --tenant pagtive"),
        )
    _check_timezone(own, options.source_timezone)
    if not own.execute(text("SELECT to_regclass('rollout.import_changes') IS NOT NULL")).scalar_one():
        # A memory that an earlier version of this tool made; every statement of the file can be run again.
        own.exec_driver_sql(memory.SCHEMA_SQL.read_text(encoding="utf-8"))
    check_target(own, _NEEDED | {table.target: tuple(f.column for f in table.fields) for table in TABLES[1:]})


def _check_timezone(own: Connection, zone: str) -> None:
    """Refuse what is no zone's name, and what is an abbreviation too: AT TIME ZONE takes CET for an hour all year.

    It takes UTC+8 for a POSIX rule that is eight hours *behind*.
    https://www.postgresql.org/docs/current/datatype-datetime.html (time zones), datetime-posix-timezone-specs.html
    """
    known = text(
        "SELECT EXISTS (SELECT FROM pg_timezone_names WHERE lower(name) = lower(:zone)) AS named, EXISTS (SELECT FROM"
        " pg_timezone_abbrevs WHERE lower(abbrev) = lower(:zone) AND lower(abbrev) NOT IN ('utc', 'gmt')) AS shortened"
    )
    found = own.execute(known, {"zone": zone}).one()
    if found.named and not found.shortened:
        return
    problem = say("the server does not know the time zone {zone}", zone=zone)
    if found.named:
        problem = say("the time zone {zone} is an abbreviation, which knows no summer time", zone=zone)
    raise PreflightFailed(
        problem, hint=say("For example --source-timezone Asia/Shanghai (SELECT name FROM pg_timezone_names).")
    )


def check_target(connection: Connection, needed: dict[str, tuple[str, ...]]) -> None:
    """Check that the target has these tables and columns, and users with uuid keys; raise ``PreflightFailed``."""
    rows = connection.execute(
        text(
            "SELECT c.relname, a.attname, CASE WHEN a.atttypid = 'uuid'::regtype THEN 'uuid'"  # where all is quoted too
            " ELSE format_type(a.atttypid, a.atttypmod) END AS type FROM pg_class c"
            " JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped"
            " WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND c.relname = ANY(:tables)"
        ),
        {"tables": list(needed)},
    )
    found = {(row.relname, row.attname): row.type for row in rows}
    key = found.get(("users", "id"))
    if key not in {None, "uuid"}:
        raise PreflightFailed(
            say("users.id of the target is {type}, not uuid", type=key),
            hint=say("The import maps users to uuid keys: check that DATABASE_URL points to a Lawsker database."),
        )
    tables = {table for table, _ in found}
    missing = [table for table in needed if table not in tables]
    missing += [
        f"{table}.{name}" for table in needed if table in tables for name in needed[table] if (table, name) not in found
    ]
    if missing:
        raise PreflightFailed(
            say("the target lacks {names}", names=first_few(missing, _NAMED)),
            hint=say("Upgrade it first: tool migrate"),
        )
