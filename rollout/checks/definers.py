"""Functions that run with their owner's rights (SECURITY DEFINER) and hand out what only the application may read."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from sqlalchemy import text

from rollout.checks.registry import Area, Subject, check
from rollout.checks.security import SECRETS
from rollout.findings import WARNING, Finding
from rollout.messages import say

if TYPE_CHECKING:
    from collections.abc import Iterator

# What answers yes or no, a number, a date or an id cannot hold a secret: a login check may read passwords.
# https://www.postgresql.org/docs/current/catalog-pg-type.html#CATALOG-TYPCATEGORY-TABLE
_EVERYBODYS = text(
    """
SELECT p.oid::regprocedure::text AS function, pg_get_functiondef(p.oid) AS definition,
       (SELECT c.relname FROM pg_class c WHERE c.oid = r.typrelid) AS row_of, p.prokind = 'p' AS is_procedure
FROM pg_proc p
JOIN pg_namespace n ON n.oid = p.pronamespace AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
JOIN pg_type r ON r.oid = p.prorettype
WHERE p.prosecdef AND p.prokind IN ('f', 'p')
  AND (r.typcategory NOT IN ('B', 'N', 'D', 'T') AND r.typname NOT IN ('uuid', 'void', 'trigger', 'event_trigger')
       OR p.proargmodes && '{o,b,t}')
  AND EXISTS (SELECT FROM aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) AS g WHERE g.grantee = 0)
  AND EXISTS (SELECT FROM aclexplode(coalesce(n.nspacl, acldefault('n', n.nspowner))) AS g
              WHERE g.grantee = 0 AND g.privilege_type = 'USAGE')
  AND NOT EXISTS (SELECT FROM pg_depend e
                  WHERE e.classid = 'pg_proc'::regclass AND e.objid = p.oid AND e.deptype = 'e')
ORDER BY 1
"""
)

_COLUMNS = {column: table for table, column in (one.split(".") for one in SECRETS)}
_TABLES = "|".join(dict.fromkeys(one.partition(".")[0] for one in SECRETS))
_COLUMN = re.compile(rf"\b({'|'.join(_COLUMNS)})\b", re.IGNORECASE)
_TABLE = re.compile(rf"\b({_TABLES})\b", re.IGNORECASE)
_WHOLE_ROW = re.compile(
    r"\bselect\s+\*|\.\*|\b(to_jsonb?|row_to_json|jsonb?_agg|query_to_xml|table_to_xml)\(", re.IGNORECASE
)
_COMMENT = re.compile(r"--[^\n]*|/\*.*?\*/", re.DOTALL)


@check(Area.SECURITY)
def functions_keep_secrets(subject: Subject) -> Iterator[Finding]:
    """No SECURITY DEFINER function that everybody (PUBLIC) may run reads token or password columns (a warning)."""
    for function, definition, row_of, is_procedure in subject.connection.execute(_EVERYBODYS):
        shown = _secret_in(_COMMENT.sub(" ", definition), row_of)
        if shown:
            kind = "PROCEDURE" if is_procedure else "FUNCTION"
            yield Finding(
                function,
                say("everybody (PUBLIC) may run it with its owner's rights, and it reads {secret}", secret=shown),
                f"REVOKE EXECUTE ON {kind} {function} FROM PUBLIC;",
                WARNING,
            )


def _secret_in(definition: str, row_of: str | None) -> str | None:
    """Return the secret that a function reads: a column by its name, or whole rows of a table with one."""
    table = _TABLE.search(definition)
    if table is None:
        return None
    column = _COLUMN.search(definition)
    if column:
        return f"{table[1]}.{column[1]}"
    whole = row_of == table[1].lower() or _WHOLE_ROW.search(definition)
    return f"{table[1]}.*" if whole else None
