"""What an import writes, table by table: how its rows are told apart, and how an edit of one shows."""

from __future__ import annotations

from datamigrations import reconcile
from datamigrations.belongings import BELONGINGS
from datamigrations.mapping import TABLES, USERS
from datamigrations.people import TAKEN_OVER, taken_over

_BY_USER = ("profiles", "workspace_mappings", "user_credits")

ORDER = (
    *(table.target for table in reversed(TABLES[1:])),
    *reversed(BELONGINGS),
    "pagtive_user_map",
    "users",
    "tenants",
)
"""The tables, children before parents."""

CONTENTS = {
    **{table.target: reconcile.target_content(table) for table in TABLES[1:]},
    "pagtive_user_map": reconcile.content({"user_id": "t.user_id", "matched_by": "t.matched_by"}),
}
"""SQL for the hash of a row (``t``) that was inserted, as ``rollout.import_changes`` has it; of others, all columns."""

LEFT_EMPTY = {
    "pagtive_projects": "t.reference_files IS DISTINCT FROM '[]'::jsonb",
    "pagtive_llm_logs": "t.version_id IS NOT NULL",
}
"""SQL for what no import fills, and is no part of that hash: whoever fills it has edited the row."""

UPDATED = {
    **{table.target: (CONTENTS[table.target], [f.column for f in table.fields]) for table in TABLES[1:]},
    "users": (taken_over("t."), list(TAKEN_OVER)),
}
"""The same for a row that was updated, and the columns that are kept of what was there before."""

JSON = {table.target: reconcile.json_columns(table) for table in TABLES[1:]}
"""The columns of json, by table."""

TOUCHED = {table.target: table.updated for table in TABLES if table is not USERS and table.updated}
"""The column that our trigger sets where an update leaves it as it was, by table."""

LATER = """
SELECT c.table_name, count(DISTINCT c.row_key) AS rows FROM rollout.import_changes AS c
JOIN rollout.import_changes AS o ON o.table_name = c.table_name AND o.row_key = c.row_key
WHERE c.run_id = :run_id AND o.id > c.id AND o.run_id <> c.run_id AND c.table_name = ANY(:tables)
GROUP BY c.table_name
"""
"""Counts the rows of a run that a later one has written, by table.

Also those that somebody deleted, and a later import brought again as they were: they are that import's.
"""


def key(table: str, alias: str = "t") -> str:
    """Return SQL for a row's key as ``import_changes`` has it."""
    if table == "user_roles":
        return f"{alias}.user_id::text || ',' || {alias}.role_id"
    return (
        f"{alias}.source_id"
        if table == "pagtive_user_map"
        else f"{alias}.{'user_id' if table in _BY_USER else 'id'}::text"
    )
