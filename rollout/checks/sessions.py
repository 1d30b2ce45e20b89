"""Sessions: settings of the database or of roles under which they do not do what everybody counts on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import text

from rollout.checks.registry import Area, Subject, check
from rollout.database import identifier
from rollout.findings import ERROR, WARNING, Finding
from rollout.messages import say

if TYPE_CHECKING:
    from collections.abc import Iterator

# Without a role: of everybody. https://www.postgresql.org/docs/current/catalog-pg-db-role-setting.html
_SET = text(
    """
SELECT name, pg_get_userbyid(nullif(s.setrole, 0)) AS role, CASE WHEN s.setdatabase <> 0 THEN current_database() END
FROM pg_db_role_setting s, unnest(s.setconfig) AS one, split_part(one, '=', 1) AS name
WHERE s.setdatabase IN (0, (SELECT oid FROM pg_database WHERE datname = current_database()))
  AND name = ANY(:names)
  AND (name = 'session_replication_role' AND one NOT ILIKE '%=origin'
       OR s.setrole = 0 AND name = 'default_transaction_read_only' AND one ~* '=(on|true|yes|1)$'
       OR s.setrole = 0 AND name = 'search_path' AND one !~ '[=,] *"?public"?(,|$)')
ORDER BY 1, 2
"""
)


def _settings(subject: Subject, *names: str) -> Iterator[tuple[str, str, bool]]:
    """Yield such settings: the name, for whom it is set as ALTER says it, and whether that is everybody."""
    for name, role, dbname in subject.connection.execute(_SET, {"names": list(names)}):
        database = f"DATABASE {identifier(dbname)}" if dbname else ""
        if dbname and not role:
            where = database
        else:
            where = f"ROLE {identifier(role) if role else 'ALL'}" + (f" IN {database}" if dbname else "")
        yield name, where, not role


@check(Area.SECURITY)
def sessions_fire_triggers(subject: Subject) -> Iterator[Finding]:
    """No setting of the database switches off triggers and foreign keys for everybody (for one role, a warning)."""
    for name, where, everybody in _settings(subject, "session_replication_role"):
        yield Finding(
            name,
            say("it is set for {where}: no trigger fires, and no foreign key holds", where=where),
            f"ALTER {where} RESET {name};",
            ERROR if everybody else WARNING,
        )


@check(Area.SECURITY)
def sessions_may_write_and_find(subject: Subject) -> Iterator[Finding]:
    """No setting of the database makes everybody's sessions read-only, or hides schema public from them (a warning)."""
    for name, where, _ in _settings(subject, "default_transaction_read_only", "search_path"):
        problem = (
            say("it is set for {where}: nobody finds users and our tables without naming schema public", where=where)
            if name == "search_path"
            else say("it is set for {where}: nobody can write", where=where)
        )
        yield Finding(name, problem, f"ALTER {where} RESET {name};", WARNING)
