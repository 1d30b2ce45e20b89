"""Workspaces: every user has one, the same in users and mappings, of the type that the user's roles make."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rollout.checks.data import HAS_ROLE, INITIAL_ROWS, TYPE_BY_ROLES, initial_rows, upgrade_of
from rollout.checks.registry import Area, Subject, check
from rollout.findings import WARNING, Finding
from rollout.messages import say

if TYPE_CHECKING:
    from collections.abc import Iterator

_NEEDS = ("column users.workspace_id", "column users.account_type", "table workspace_mappings")

_MOST = 10
"""Up to here, how many workspaces are for show is their operator's business."""

_SETTLED = ("user", "lawyer", "admin")
"""New users are ``pending`` or ``lawyer_pending`` until somebody decides: no type of theirs is wrong."""

# Set against set, where TYPE_BY_ROLES asks for each user: at a million users half the time. Roles are looked up once
# and not joined: each worker of a parallel query makes that table anew.
_OVERVIEW = """
SELECT u.account_type, m.workspace_type, m.user_id IS NULL AS unmapped, coalesce(m.is_demo, false) AS is_demo,
       CASE WHEN h.lawyer THEN 'lawyer' WHEN h.lawyer IS NOT NULL THEN 'admin' ELSE 'user' END AS expected,
       count(*) AS users, count(*) FILTER (WHERE m.workspace_id IS DISTINCT FROM u.workspace_id) AS different
FROM {users} AS u
LEFT JOIN workspace_mappings m ON m.user_id = u.id
LEFT JOIN LATERAL (
    SELECT ur.user_id, bool_or(ur.role_id = ANY(ARRAY(SELECT id FROM roles WHERE name = 'Lawyer'))) AS lawyer
    FROM user_roles ur WHERE ur.role_id = ANY(ARRAY(SELECT id FROM roles WHERE name IN ('Lawyer', 'Admin'))) {of_user}
    GROUP BY ur.user_id
) AS h ON h.user_id = u.id
GROUP BY 1, 2, 3, 4, 5 ORDER BY 1, 2, 3, 4, 5
"""


def _overview(subject: Subject) -> list[Any]:
    """Return how many users there are of each combination of types and workspaces; read once for all checks."""
    if "workspaces" not in subject.shared:
        of_user = "AND ur.user_id = u.id" if subject.is_sampled("users") else ""
        query = _OVERVIEW.format(users=subject.rows("users"), of_user=of_user)
        subject.shared["workspaces"] = subject.connection.exec_driver_sql(query).all()
    rows: list[Any] = subject.shared["workspaces"]
    return rows


@check(Area.DATA, needs=_NEEDS)
def every_user_has_a_workspace(subject: Subject) -> Iterator[Finding]:
    """Every user has a workspace mapping (who came after the upgrade and has none is a warning)."""
    if any(row.unmapped for row in _overview(subject)):
        yield from initial_rows(subject, INITIAL_ROWS[0])


@check(Area.DATA, needs=_NEEDS)
def workspaces_agree(subject: Subject) -> Iterator[Finding]:
    """A user's workspace id is the one of the mapping; a demo workspace may be a demo account's (else a warning)."""
    count = sum(row.different for row in _overview(subject) if not row.unmapped and not row.is_demo)
    if any(row.different and row.is_demo for row in _overview(subject)) and "table demo_accounts" in subject.catalog:
        yield from _demos_of_nobody(subject)
    if count:
        yield Finding(
            "workspace_mappings.workspace_id",
            say("{count} mapping(s) name another workspace than their user", count=count),
            "SELECT u.id, u.workspace_id, m.workspace_id FROM users u JOIN workspace_mappings m"
            " ON m.user_id = u.id AND NOT m.is_demo AND m.workspace_id IS DISTINCT FROM u.workspace_id;",
        )


def _demos_of_nobody(subject: Subject) -> Iterator[Finding]:
    """Yield demo workspaces that are neither their user's nor a demo account's."""
    source = (
        "FROM workspace_mappings m JOIN users u ON u.id = m.user_id WHERE m.is_demo"
        " AND m.workspace_id IS DISTINCT FROM u.workspace_id"
        " AND NOT EXISTS (SELECT FROM demo_accounts d WHERE d.workspace_id = m.workspace_id)"
    )
    count = subject.connection.exec_driver_sql(f"SELECT count(*) {source}").scalar_one()
    if count:
        yield Finding(
            "workspace_mappings.workspace_id",
            say("{count} demo workspace(s) are neither their user's nor a demo account's", count=count),
            f"SELECT u.id, u.workspace_id, m.workspace_id {source};",
            WARNING,
        )


@check(Area.DATA, needs=_NEEDS)
def workspaces_are_no_demos(subject: Subject) -> Iterator[Finding]:
    """Not most workspaces are marked as demo ones (a warning): the upgrade gave users real ones."""
    mapped = sum(row.users for row in _overview(subject) if not row.unmapped)
    demos = sum(row.users for row in _overview(subject) if row.is_demo)
    if demos > mapped / 2 and mapped > _MOST:
        yield Finding(
            "workspace_mappings.is_demo",
            say("{count} of {total} workspaces are marked as demo ones", count=demos, total=mapped),
            "SELECT * FROM workspace_mappings WHERE is_demo;",
            WARNING,
        )


# A quarter of the time of a regular expression: bytes, where characters would be looked up one by one.
_MALFORMED = (
    "octet_length(workspace_id) <> 35 OR left(workspace_id, 3) <> 'ws-'"
    " OR btrim(substr(convert_to(workspace_id, 'UTF8'), 4), '0123456789abcdef'::bytea) <> ''"
)


@check(Area.DATA, needs=("column users.workspace_id",))
def workspace_ids_are_there(subject: Subject) -> Iterator[Finding]:
    """Every user has a workspace id; one of another form than ws- and 32 hex digits (there before us) is a warning."""
    missing, malformed = subject.connection.exec_driver_sql(
        "SELECT count(*) FILTER (WHERE coalesce(workspace_id::bpchar, '') = ''),"
        f" count(*) FILTER (WHERE {_MALFORMED}) FROM {subject.rows('users')} AS u"
    ).one()
    if missing:
        yield Finding(
            "users.workspace_id",
            say("{count} user(s) have no workspace id", count=missing),
            "UPDATE users SET workspace_id = DEFAULT WHERE coalesce(btrim(workspace_id), '') = '';",
        )
    elif malformed:
        yield Finding(
            "users.workspace_id",
            say("{count} workspace id(s) have another form than ws-<32 hex digits>", count=malformed),
            "SELECT id, workspace_id FROM users WHERE workspace_id !~ '^ws-[0-9a-f]{32}$';",
            WARNING,
        )


@check(Area.DATA, needs=("column users.workspace_id",))
def workspace_ids_are_unique(subject: Subject) -> Iterator[Finding]:
    """No two users have one workspace id."""
    if subject.deep:
        return  # texts_are_unique reads them without believing the index
    query = "SELECT workspace_id FROM users WHERE workspace_id IS NOT NULL GROUP BY 1 HAVING count(*) > 1"
    several = f"({query}) AS several"
    if subject.is_sampled("users"):
        other = "EXISTS (SELECT FROM users o WHERE o.workspace_id = u.workspace_id AND o.id <> u.id)"
        several = f"{subject.rows('users')} AS u WHERE {other}"
    count = subject.connection.exec_driver_sql(f"SELECT count(*) FROM {several}").scalar_one()
    if count:
        yield Finding("users.workspace_id", say("{count} workspace id(s) are there twice", count=count), f"{query};")


def _wrong(subject: Subject, column: str) -> list[tuple[str, str, int]]:
    """Return (found, expected, count) of each type that differs from what roles make."""
    counts: dict[tuple[str, str], int] = {}
    for row in _overview(subject):
        found = getattr(row, column)
        if row.account_type in _SETTLED and found not in {None, row.expected}:
            if column == "workspace_type" and row.is_demo:
                continue
            counts[found, row.expected] = counts.get((found, row.expected), 0) + row.users
    return [(found, expected, count) for (found, expected), count in sorted(counts.items())]


@check(Area.BUSINESS, needs=_NEEDS)
def account_types_agree_with_roles(subject: Subject) -> Iterator[Finding]:
    """No user has another account type than the roles make (a warning); new users may be pending, but not all users."""
    pending = sum(
        row.users
        for row in _overview(subject)
        if row.account_type not in _SETTLED and row.workspace_type in {"lawyer", "admin"} and not row.is_demo
    )
    if pending and not any(row.account_type in _SETTLED for row in _overview(subject)):
        yield Finding(
            "users.account_type",
            say("all users are pending, also {count} with a workspace for lawyers or admins", count=pending),
            "UPDATE users u SET account_type = m.workspace_type FROM workspace_mappings m"
            " WHERE m.user_id = u.id AND u.account_type IN ('pending', 'lawyer_pending') AND NOT m.is_demo;",
            WARNING,
        )
    elif any(row.account_type not in _SETTLED and row.expected != "user" for row in _overview(subject)):
        yield from _pending_again(subject)
    for found, expected, count in _wrong(subject, "account_type"):
        yield Finding(
            "users.account_type",
            say(
                "{count} user(s) of type {found} have roles that make the type {expected}",
                count=count,
                found=found,
                expected=expected,
            ),
            f"UPDATE users u SET account_type = '{expected}'"
            f" WHERE account_type = '{found}' AND {TYPE_BY_ROLES} = '{expected}';",
            WARNING,
        )


# An hour older than the upgrade, user and role: the upgrade saw them, and gave the type.
_SET_BACK = (
    "FROM users u WHERE account_type IN ('pending', 'lawyer_pending') AND created_at <= {moment} AND "
    + HAS_ROLE.format(roles="'Lawyer', 'Admin'", since=" AND ur.assigned_at <= {moment}")
)


def _pending_again(subject: Subject) -> Iterator[Finding]:
    """Yield lawyers and admins of before the upgrade who are pending, though the upgrade gave them their type."""
    upgrade = upgrade_of(subject, "workspace_mappings")
    if upgrade is None or subject.in_upgrade or "column users.account_type" in subject.preexisting:
        return
    source = _SET_BACK.format(moment=f"timestamptz '{upgrade['moment'].isoformat()}' - interval '1 hour'")
    count = subject.connection.exec_driver_sql(f"SELECT count(*) {source}").scalar_one()
    if count:
        yield Finding(
            "users.account_type",
            say("{count} lawyer(s) and admin(s) of before the upgrade are pending again", count=count),
            f"SELECT u.id, u.account_type {source};",
            WARNING,
        )


@check(Area.BUSINESS, needs=_NEEDS)
def workspace_types_agree_with_roles(subject: Subject) -> Iterator[Finding]:
    """No workspace has another type than its user's roles make (a warning); demo workspaces may."""
    for found, expected, count in _wrong(subject, "workspace_type"):
        yield Finding(
            "workspace_mappings.workspace_type",
            say(
                "{count} workspace(s) of type {found} have users whose roles make the type {expected}",
                count=count,
                found=found,
                expected=expected,
            ),
            f"UPDATE workspace_mappings m SET workspace_type = '{expected}' FROM users u WHERE u.id = m.user_id"
            f" AND u.account_type IN ('user', 'lawyer', 'admin') AND NOT m.is_demo"
            f" AND workspace_type = '{found}' AND {TYPE_BY_ROLES} = '{expected}';",
            WARNING,
        )
