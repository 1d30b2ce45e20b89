"""The way back that the database itself keeps: each applied revision's place in the history, and its downgrade as SQL.

A checkout that is older than the database meets revisions that it does not know. What it needs then stands in
``rollout.applied_revisions``: ``plan.current`` explains from there, and the runbook says how to go back without the
newer checkout.
"""

from __future__ import annotations

import io
from functools import cache
from importlib import metadata
from typing import TYPE_CHECKING

from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext
from sqlalchemy import text

from rollout import plan
from rollout.database import VERSION_TABLE

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy import Connection

_REMEMBER = """
UPDATE rollout.applied_revisions
SET number = :number, down_revision = :down_revision, summary = :summary, tool_version = :tool_version,
    downgrade_sql = :downgrade_sql
WHERE revision = :revision
"""


def remember(connection: Connection, applied: Iterable[plan.Revision], kept: frozenset[str]) -> None:
    """Keep the place and the downgrade of revisions that were just applied.

    ``kept``: objects (manifest keys) that were there before us; their scripts leave them alone.
    """
    numbers = {revision.id: number for number, revision in enumerate(plan.history(), start=1)}
    rows = [
        {
            "revision": revision.id,
            "number": numbers[revision.id],
            "down_revision": _before(revision),
            "summary": revision.summary,
            "tool_version": metadata.version("lawsker-schema"),
            "downgrade_sql": downgrade_sql(revision, kept),
        }
        for revision in applied
    ]
    if rows:
        connection.execute(text(_REMEMBER), rows)


def downgrade_sql(revision: plan.Revision, kept: frozenset[str]) -> str:
    """Return the SQL that takes one revision back, version table and memory with it; run it inside a transaction."""
    before = _before(revision)
    version = f"UPDATE public.{VERSION_TABLE} SET version_num = '{before}' WHERE version_num = '{revision.id}';"
    return (
        f"-- {revision.id} ({revision.family}): {revision.summary}\n"
        "SET LOCAL search_path = public;\n"
        f"{_script(revision.id, kept)}\n"
        f"DELETE FROM rollout.applied_revisions WHERE revision = '{revision.id}';\n"
        f"{version if before else f'DROP TABLE public.{VERSION_TABLE};'}\n"
    )


@cache
def _script(revision: str, kept: frozenset[str]) -> str:
    """Return what a revision's downgrade would run, as SQL; a rehearsal and a demo upgrade more than once.

    Written by Alembic's own offline mode, on a context beside the one that may be running: to be called when no
    revision is being run. https://alembic.sqlalchemy.org/en/latest/offline.html
    """
    buffer = io.StringIO()
    context = MigrationContext.configure(
        dialect_name="postgresql",
        # With the driver's own paramstyle every % in the script would be doubled.
        dialect_opts={"paramstyle": "named"},
        opts={"as_sql": True, "output_buffer": buffer, "literal_binds": True, "preexisting": kept},
    )
    with Operations.context(context):
        plan.scripts().get_revision(revision).module.downgrade()
    return buffer.getvalue().strip()


def _before(revision: plan.Revision) -> str | None:
    """Return the revision before this one."""
    before = plan.up_to(revision.id)[:-1]
    return before[-1].id if before else None
