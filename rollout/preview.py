"""What would run: revisions, the locks they take, the rows and bytes they touch, what a linter says, an estimate."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

from alembic import command
from sqlalchemy import text

from rollout import adopt, linter, plan, verify
from rollout.database import describe, engine_for
from rollout.messages import say

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from rollout.run import Run
    from rollout.settings import Settings

# What one second upgrades, rounded down from benchmarks/README.md: rows of users written, bytes of tables read.
_ROWS_A_SECOND = 25_000
_BYTES_A_SECOND = 100_000_000


def preview(settings: Settings, run: Run, *, to: str = plan.HEAD, with_sql: bool = False) -> None:
    """Put into the run's result what an upgrade to ``to`` would do; change nothing.

    ``revisions`` [{revision, family, summary, locks}], ``locks`` {table: mode}, ``touched`` [{table, rows, bytes}],
    ``lint`` [{revision, line, rule, message}], ``estimate_seconds``, and ``sql``.
    """
    engine = engine_for(settings.target)
    with run.step("connect"), engine.connect() as connection:
        run.target = describe(connection, settings.target)
    with run.step("plan") as step, engine.connect() as connection:
        verify.read_only(connection, settings)
        start = plan.current(connection)
        steps = plan.make(start, plan.resolve(to))
        found = adopt.inspect(connection, steps) if not steps.downwards else []
        touched = _touched(connection, steps)
        step.detail = say("{count} revision(s)", count=len(steps.revisions))
    kept = frozenset(state.key for state in found if state.is_kept)
    sql = sql_of(steps, kept)
    with run.step("lint") as step:
        lint = linter.lint(sql)
        step.detail = say("{count} finding(s) of squawk", count=len(lint))
    run.result |= {
        "from_revision": start,
        "to_revision": steps.target,
        "revisions": [
            {"revision": one.id, "family": one.family, "summary": one.summary, "locks": dict(one.locks)}
            for one in steps.revisions
        ],
        "locks": steps.locks(),
        "kept": sorted(key for key in kept if not _is_legacy(key, found)),
        "touched": touched,
        "lint": lint,
        "estimate_seconds": _estimate(touched) if steps.revisions else 0,
        **({"sql": sql} if with_sql else {}),
    }


def _is_legacy(key: str, found: list[adopt.ObjectState]) -> bool:
    """Tell whether a kept object belongs to the legacy core."""
    return any(state.key == key and state.is_legacy for state in found)


def _touched(connection: Connection, steps: plan.Plan) -> list[dict[str, Any]]:
    """Return the existing tables that are locked, with estimated rows and bytes; ``written``: rows are filled in."""
    rows = connection.execute(
        text(
            "SELECT c.relname, greatest(c.reltuples, 0)::bigint AS rows, pg_table_size(c.oid) AS bytes"
            " FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p')"
            " AND c.relname = ANY(:tables) ORDER BY 1"
        ),
        {"tables": list(steps.locks())},
    )
    return [
        {"table": row.relname, "rows": row.rows, "bytes": row.bytes, "written": row.relname in adopt.WRITTEN}
        for row in rows
    ]


def _estimate(touched: list[dict[str, Any]]) -> int:
    """Return about how many seconds the transaction takes."""
    written = sum(one["rows"] for one in touched if one["written"])
    read = sum(one["bytes"] for one in touched)
    return int(1 + written / _ROWS_A_SECOND + read / _BYTES_A_SECOND)


def sql_of(steps: plan.Plan, kept: frozenset[str]) -> str:
    """Return the SQL of these revisions as Alembic writes it (``--sql``); ``kept``: objects that are there already."""
    if not steps.revisions:
        return ""
    buffer = io.StringIO()
    config = plan.alembic_config()
    config.output_buffer = buffer
    config.attributes["preexisting"] = kept
    start = steps.start
    if start is None and adopt.LEGACY_MARK in kept:
        start = plan.history()[0].id
    if start == steps.target:
        return ""
    way = f"{start or plan.BASE}:{steps.target or plan.BASE}"
    (command.downgrade if steps.downwards else command.upgrade)(config, way, sql=True)
    return buffer.getvalue()
