"""Security: secrets are nobody's to read, our tables have one owner, files are private."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import text

from rollout import adopt
from rollout.checks.registry import Area, Subject, check
from rollout.database import OUR_SCHEMAS, VERSION_TABLE, identifier
from rollout.findings import ERROR, WARNING, Finding
from rollout.messages import say

if TYPE_CHECKING:
    from collections.abc import Iterator

SECRETS = (
    "users.password_hash",
    "user_accounts.access_token",
    "user_accounts.refresh_token",
    "user_accounts.id_token",
    "feishu_auths.access_token",
    "feishu_auths.refresh_token",
)
"""Columns that only the application may read."""

# Grantee 0 is PUBLIC: https://www.postgresql.org/docs/current/functions-info.html#FUNCTIONS-ACLITEM
_PUBLIC_MAY_READ = "EXISTS (SELECT FROM aclexplode({acl}) AS g WHERE g.grantee = 0 AND g.privilege_type = 'SELECT')"

# A view of a whole row names no column of it: https://www.postgresql.org/docs/current/catalog-pg-depend.html
_OPEN_SECRETS = text(
    f"""
WITH RECURSIVE secrets AS (
    SELECT c.oid, c.relname, c.relacl, a.attname, a.attnum, a.attacl
    FROM pg_class c
    JOIN pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
    WHERE n.nspname = 'public' AND c.relname || '.' || a.attname = ANY(:secrets)
), uses AS (
    SELECT d.refobjid AS used, d.refobjsubid AS attnum, w.ev_class AS view, w.ev_action
    FROM pg_depend d JOIN pg_rewrite w ON w.oid = d.objid JOIN pg_class v ON v.oid = w.ev_class
    WHERE d.classid = 'pg_rewrite'::regclass AND d.refclassid = 'pg_class'::regclass AND v.relkind IN ('v', 'm')
      AND d.refobjid <> w.ev_class
), shown AS (
    SELECT s.oid, s.attnum, u.view FROM secrets s JOIN uses u ON u.used = s.oid
    WHERE u.attnum = s.attnum OR (u.attnum = 0 AND u.ev_action::text LIKE '%varattno 0 %')
    UNION SELECT s.oid, s.attnum, u.view FROM shown s JOIN uses u ON u.used = s.view
)
SELECT s.relname, s.attname, {_PUBLIC_MAY_READ.format(acl="s.relacl")} AS by_table,
       {_PUBLIC_MAY_READ.format(acl="s.attacl")} AS by_column,
       ARRAY(SELECT v.oid::regclass::text
             FROM shown h JOIN pg_class v ON v.oid = h.view
             WHERE h.oid = s.oid AND h.attnum = s.attnum AND ({_PUBLIC_MAY_READ.format(acl="v.relacl")}
                OR EXISTS (SELECT FROM pg_attribute a
                           WHERE a.attrelid = v.oid AND {_PUBLIC_MAY_READ.format(acl="a.attacl")}))
             ORDER BY 1) AS by_views
FROM secrets s
ORDER BY s.relname, s.attname
"""
)


@check(Area.SECURITY)
def secrets_are_private(subject: Subject) -> Iterator[Finding]:
    """No token of ours can be read by everybody (PUBLIC); what was there before us, and views of it, are warnings."""
    for table, column, by_table, by_column, by_views in subject.connection.execute(
        _OPEN_SECRETS, {"secrets": list(SECRETS)}
    ):
        if by_table or by_column:
            yield Finding(
                f"{table}.{column}",
                say("everybody (PUBLIC) may read this column"),
                f"REVOKE SELECT ON {table} FROM PUBLIC;"
                if by_table
                else f"REVOKE SELECT ({column}) ON {table} FROM PUBLIC;",
                ERROR if is_ours(subject, f"column {table}.{column}") else WARNING,
            )
        for view in by_views:
            yield Finding(
                view,
                say("everybody (PUBLIC) may read this view, which uses {column}", column=f"{table}.{column}"),
                f"REVOKE SELECT ON {view} FROM PUBLIC;",
                WARNING,
            )


def is_ours(subject: Subject, key: str) -> bool:
    """Tell whether we made a column; what was there before us is not for us to forbid."""
    known = key in subject.manifest
    return known and subject.is_ours(key) and not subject.manifest.was_there(key, subject.preexisting)


_DEFAULTS = text(
    f"""
SELECT pg_get_userbyid(d.defaclrole) AS role, n.nspname AS schema
FROM pg_default_acl d LEFT JOIN pg_namespace n ON n.oid = d.defaclnamespace
WHERE d.defaclobjtype = 'r' AND (d.defaclnamespace = 0 OR n.nspname = 'public')
  AND pg_get_userbyid(d.defaclrole) = ANY(:roles) AND {_PUBLIC_MAY_READ.format(acl="d.defaclacl")}
ORDER BY 1, 2
"""
)


def _open_defaults(subject: Subject, roles: list[str], severity: str) -> Iterator[Finding]:
    """Yield default privileges of these roles that let everybody read tables that they will make."""
    for role, schema in subject.connection.execute(_DEFAULTS, {"roles": roles}):
        place = f"IN SCHEMA {identifier(schema)} " if schema else ""
        yield Finding(
            "default privileges",
            say("everybody (PUBLIC) may read tables that {role} will make, those with tokens too", role=role),
            f"ALTER DEFAULT PRIVILEGES FOR ROLE {identifier(role)} {place}REVOKE SELECT ON TABLES FROM PUBLIC;",
            severity,
        )


@check(Area.SECURITY)
def new_tables_are_private(subject: Subject) -> Iterator[Finding]:
    """Nobody who owns our tables or users has default privileges that let everybody read new tables (a warning)."""
    owners = {subject.catalog[key]["owner"] for key in _tables(subject)}
    yield from _open_defaults(subject, sorted(owners), WARNING)


@check(Area.PREFLIGHT)
def secrets_will_be_private(subject: Subject) -> Iterator[Finding]:
    """Not everybody may read tables that we will make; that everybody reads passwords already is a warning."""
    yield from secrets_are_private(subject)
    us = subject.connection.execute(text("SELECT current_user")).scalar_one()
    yield from _open_defaults(subject, [us], ERROR)


def _tables(subject: Subject) -> list[str]:
    """Return the keys of users and of our tables, views and functions, as far as they are there."""
    kinds = ("table ", "view ", "function ")
    ours = [key for key in subject.manifest.objects if key.startswith(kinds) and subject.is_ours(key)]
    return [key for key in dict.fromkeys((adopt.LEGACY_MARK, *ours)) if key in subject.catalog]


# Not pg_has_role(): a superuser has every role, and who owns what would never matter.
_IS_MEMBER = text(
    """
WITH RECURSIVE held AS (
    SELECT oid FROM pg_roles WHERE rolname = :owner
    UNION SELECT m.roleid FROM pg_auth_members m JOIN held ON m.member = held.oid
)
SELECT EXISTS (SELECT FROM held JOIN pg_roles USING (oid) WHERE rolname = :other)
"""
)


def _is_member(subject: Subject, owner: str, other: str) -> bool:
    """Tell whether ``owner`` is ``other``, or has its rights as a member."""
    found: bool = subject.connection.execute(_IS_MEMBER, {"owner": owner, "other": other}).scalar_one()
    return found


@check(Area.SECURITY, needs=(adopt.LEGACY_MARK,))
def our_tables_have_the_owner_of_users(subject: Subject) -> Iterator[Finding]:
    """Whoever owns users owns our tables, views and functions too, or is a member of the role that does (a warning)."""
    if adopt.LEGACY_MARK not in subject.catalog:
        return  # that it is missing is a finding of its own
    owner: str = subject.catalog[adopt.LEGACY_MARK]["owner"]
    others: dict[str, list[str]] = {}
    for key in _tables(subject):
        others.setdefault(subject.catalog[key]["owner"], []).append(key)
    givers = [one for one in others if one != owner]
    if subject.is_ours(adopt.LEGACY_MARK) and others[owner] == [adopt.LEGACY_MARK] and len(givers) == 1:
        # We made users too, and it alone was given away.
        owner, others = givers[0], {owner: others[owner]}
    for other, keys in others.items():
        if _is_member(subject, owner, other):
            continue
        names = [key.partition(" ")[2] for key in keys]
        if adopt.LEGACY_MARK in keys:
            problem = say("owned by {other}, our other tables by {owner}", other=other, owner=owner)
        else:
            problem = say("owned by {other}, users by {owner}", other=other, owner=owner)
        yield Finding(
            ", ".join(names),
            problem,
            " ".join(f"ALTER {_word(key)} {key.partition(' ')[2]} OWNER TO {identifier(owner)};" for key in keys),
            WARNING,
        )


def _word(key: str) -> str:
    """Return what ALTER calls an object."""
    return key.partition(" ")[0].upper()


# What tells where the database stands, and how it got there. A table on the shelf keeps the owner that it had.
_MEMORY = text(
    """
SELECT c.oid::regclass::text AS relation, pg_get_userbyid(ours.nspowner) AS owner, pg_get_userbyid(c.relowner) AS other
FROM pg_namespace ours, pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE ours.nspname = 'rollout' AND c.relowner <> ours.nspowner
  AND c.relkind = 'r' AND (n.oid = ours.oid OR n.nspname = 'public' AND c.relname = :version)
ORDER BY 1
"""
)


@check(Area.SECURITY)
def our_memory_has_one_owner(subject: Subject) -> Iterator[Finding]:
    """Whoever owns schema rollout owns its tables and the version table, or is a member of who does (a warning)."""
    for relation, owner, other in subject.connection.execute(_MEMORY, {"version": VERSION_TABLE}).all():
        if not _is_member(subject, owner, other):
            yield Finding(
                relation,
                say("owned by {other}, schema {schema} by {owner}", other=other, schema="rollout", owner=owner),
                f"ALTER TABLE {relation} OWNER TO {identifier(owner)};",
                WARNING,
            )


@check(Area.SECURITY)
def our_memory_is_private(subject: Subject) -> Iterator[Finding]:
    """No rights of PUBLIC on the schemas rollout and rollout_shelf: they hold quarantined and shelved rows."""
    rows = subject.connection.execute(
        text(
            "SELECT nspname FROM pg_namespace WHERE nspname = ANY(:schemas)"
            " AND EXISTS (SELECT FROM aclexplode(nspacl) AS g WHERE g.grantee = 0) ORDER BY nspname"
        ),
        {"schemas": list(OUR_SCHEMAS)},
    )
    for schema in rows.scalars():
        yield Finding(
            f"schema {schema}",
            say("everybody (PUBLIC) has rights on this schema"),
            f"REVOKE ALL ON SCHEMA {schema} FROM PUBLIC;",
        )


@check(Area.SECURITY)
def files_are_private(subject: Subject) -> Iterator[Finding]:
    """Backups, reports and logs in ROLLOUT_DIR are their owner's alone (0700, 0600): they hold the database's rows."""
    if subject.settings is None:
        return
    for directory in (subject.settings.backups, subject.settings.reports, subject.settings.directory / "logs"):
        found = [path for path in _within(directory) if _is_open(path)]
        if found:
            yield Finding(
                str(found[0]),
                say("others may enter, read or write it; {count} such file(s) or directories in all", count=len(found)),
                f"chmod -R go= {directory}",
            )


def _within(directory: Path) -> Iterator[Path]:
    """Yield a directory and everything in it; what we may not list is private enough."""
    if directory.is_dir():
        yield directory
    for parent, directories, files in os.walk(directory):
        for name in (*directories, *files):
            yield Path(parent) / name


def _is_open(path: Path) -> bool:
    """Tell whether anybody but the owner has rights on a file; a link has none of its own."""
    try:
        mode = path.lstat().st_mode
    except OSError:
        return False
    return not stat.S_ISLNK(mode) and bool(stat.S_IMODE(mode) & 0o077)
