"""Rights on what we own: not everybody's, and their owner has them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import text

from rollout.checks.registry import Area, Subject, check
from rollout.checks.security import is_ours
from rollout.database import identifier
from rollout.findings import WARNING, Finding, first_few
from rollout.messages import say

if TYPE_CHECKING:
    from collections.abc import Iterator

_WHO_SIGNS_IN = ("users", "roles", "user_roles")
"""Tables of the legacy core with which whoever may write to them makes anybody of himself."""

_PUBLIC_RIGHTS = text(
    """
SELECT c.relname, string_agg(DISTINCT g.privilege_type, ', ' ORDER BY g.privilege_type) AS rights
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
CROSS JOIN LATERAL (
    SELECT g.* FROM aclexplode(c.relacl) AS g
    UNION ALL SELECT g.* FROM pg_attribute a, aclexplode(a.attacl) AS g WHERE a.attrelid = c.oid AND NOT a.attisdropped
) AS g
WHERE n.nspname = 'public' AND g.grantee = 0
  AND (c.relname = ANY(:relations)
       OR c.relname = ANY(:others) AND g.privilege_type IN ('INSERT', 'UPDATE', 'DELETE', 'TRUNCATE'))
GROUP BY 1 ORDER BY 1
"""
)


@check(Area.SECURITY)
def our_tables_are_not_everybodys(subject: Subject) -> Iterator[Finding]:
    """Nobody gave everybody (PUBLIC) rights on a table, view or sequence of ours, or to write to users (a warning)."""
    parameters = {"relations": _relations(subject), "others": list(_WHO_SIGNS_IN)}
    for relation, rights in subject.connection.execute(_PUBLIC_RIGHTS, parameters):
        yield Finding(
            relation,
            say("everybody (PUBLIC) has rights on it: {rights}", rights=rights),
            f"REVOKE ALL ON {relation} FROM PUBLIC;",
            WARNING,
        )


# What nobody ever granted or revoked (no ACL) is its owner's.
_LACKING = text(
    """
SELECT c.relname, c.relkind::text AS kind, pg_get_userbyid(c.relowner) AS owner,
       string_agg(r.name, ', ' ORDER BY r.name) AS rights
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN (VALUES ('SELECT', 'rvS'), ('INSERT', 'r'), ('UPDATE', 'rS'), ('DELETE', 'r')) AS r (name, kinds)
  ON strpos(r.kinds, c.relkind::text) > 0
WHERE n.nspname = 'public' AND c.relname = ANY(:relations) AND c.relacl IS NOT NULL
  AND NOT EXISTS (SELECT FROM aclexplode(c.relacl) AS g WHERE g.grantee = c.relowner AND g.privilege_type = r.name)
GROUP BY 1, 2, 3 ORDER BY 1
"""
)


@check(Area.SECURITY)
def owners_keep_their_rights(subject: Subject) -> Iterator[Finding]:
    """Nobody took from the owner of a table, view or sequence of ours what is an owner's by nature (a warning)."""
    for relation, kind, owner, rights in subject.connection.execute(
        _LACKING, {"relations": [*_relations(subject), *_WHO_SIGNS_IN]}
    ):
        on = f"{'SEQUENCE ' if kind == 'S' else ''}{relation}"
        yield Finding(
            relation,
            say("its owner {owner} lacks rights on it: {rights}", owner=owner, rights=rights),
            f"GRANT ALL ON {on} TO {identifier(owner)};",
            WARNING,
        )


_SHUT_OUT = text(
    """
SELECT r.rolname, array_agg(DISTINCT c.relname::text ORDER BY c.relname::text) AS relations,
       current_database() AS dbname,
       has_schema_privilege(r.oid, 'public', 'USAGE') AS enters,
       NOT r.rolcanlogin OR has_database_privilege(r.oid, current_database(), 'CONNECT') AS connects
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
CROSS JOIN LATERAL (
    SELECT c.relowner AS oid UNION SELECT g.grantee FROM aclexplode(c.relacl) AS g
    UNION SELECT g.grantee FROM pg_attribute a, aclexplode(a.attacl) AS g
    WHERE a.attrelid = c.oid AND NOT a.attisdropped
) AS who
JOIN pg_roles r ON r.oid = who.oid
WHERE n.nspname = 'public' AND c.relname = ANY(:relations)
GROUP BY r.oid, r.rolname, r.rolcanlogin ORDER BY r.rolname
"""
)


@check(Area.SECURITY)
def who_has_rights_may_enter(subject: Subject) -> Iterator[Finding]:
    """Every role that has rights on users or a relation of ours may connect and enter schema public (a warning)."""
    for role, relations, dbname, enters, connects in subject.connection.execute(
        _SHUT_OUT, {"relations": [*_relations(subject), *_WHO_SIGNS_IN]}
    ):
        who, few = identifier(role), first_few(relations)
        if not connects:
            problem = say("{role} has rights on {some}, and none to connect", role=role, some=few)
            yield Finding("database", problem, f"GRANT CONNECT ON DATABASE {identifier(dbname)} TO {who};", WARNING)
        if not enters:
            problem = say("{role} has rights on {some}, and none to enter the schema", role=role, some=few)
            yield Finding("schema public", problem, f"GRANT USAGE ON SCHEMA public TO {who};", WARNING)


def _relations(subject: Subject) -> list[str]:
    """Return the names of our tables, views and sequences."""
    keys = [key for key in subject.manifest.objects if key.startswith(("table ", "view ", "sequence "))]
    return [key.partition(" ")[2] for key in keys if is_ours(subject, key)]
