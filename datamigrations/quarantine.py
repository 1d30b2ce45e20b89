"""Rows that the target cannot take: collected with every reason, kept whole in ``rollout.quarantine``, read again.

What is kept is what the import reads: the source's other columns (a password, say) never come here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import text

from datamigrations import rules
from datamigrations.sqltext import literal
from rollout import memory
from rollout.database import engine_for, quote

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from datamigrations.job import Job
    from datamigrations.mapping import Table
    from datamigrations.rules import Rule
    from datamigrations.source import SourceTable
    from rollout.settings import Settings

COMMAND = "pagtive import"
_BATCH = 500
_WHOLE_BYTES = 100_000_000
_CUT_BYTES = 10_000


def create(job: Job) -> None:
    """Make the transaction's list of rows that do not fit."""
    nothing = "SELECT NULL::text AS table_name, NULL::bigint AS n, NULL::text[] AS reasons, NULL::text AS message"
    job.temporary("import_rejected", f"{nothing} LIMIT 0")


def accepted(table: Table, alias: str = "w") -> str:
    """Return the SQL condition that a row (``alias.n``) was not rejected."""
    return (
        f"NOT EXISTS (SELECT FROM import_rejected AS r WHERE r.table_name = {literal(table.name)} AND r.n = {alias}.n)"
    )


def reject_by_rules(job: Job, table: Table, tests: Iterable[Rule]) -> int:
    """Collect the rows for which any rule's predicate holds, with all their reasons; return how many."""
    listed = list(tests)
    codes = ", ".join(f"CASE WHEN {rule.predicate} THEN {literal(rule.code)} END" for rule in listed)
    messages = ", ".join(f"CASE WHEN {rule.predicate} THEN {literal(rule.message)} END" for rule in listed)
    return job.execute(
        f"INSERT INTO import_rejected SELECT {literal(table.name)}, f.n,"
        " ARRAY(SELECT DISTINCT c FROM unnest(f.codes) AS c WHERE c IS NOT NULL ORDER BY c),"
        " array_to_string(f.messages, '; ')"
        f" FROM (SELECT s.n, ARRAY[{codes}] AS codes, ARRAY[{messages}] AS messages"
        f" FROM rollout.{table.staged} AS s JOIN import_converted_{table.name} AS w ON w.n = s.n"
        f" WHERE {' OR '.join(f'({rule.predicate})' for rule in listed)}) AS f"
    )


def reject(job: Job, table: Table, code: str, message: str, query: str, **values: Any) -> int:
    """Collect the rows whose ``n`` a query yields, for one reason; return how many."""
    return job.execute(
        f"INSERT INTO import_rejected SELECT {literal(table.name)}, q.n, ARRAY[{literal(code)}], {literal(message)}"
        f" FROM ({query}) AS q",
        **values,
    )


def keep(job: Job, source: SourceTable) -> int:
    """Write a table's rejected rows to ``rollout.quarantine``; return how many."""
    table = source.table
    key = " || '/' || ".join(f"coalesce({_as_text(source, name)}, '')" for name in table.key)
    return job.execute(
        "INSERT INTO rollout.quarantine (run_id, table_name, source_key, reasons, message, source_row)"
        f" SELECT :run_id, {literal(table.name)}, {key}, r.reasons, r.message, {_whole_row(source)}"
        f" FROM import_rejected AS r JOIN rollout.{table.staged} AS s ON s.n = r.n"
        f" WHERE r.table_name = {literal(table.name)} ORDER BY s.n",
        run_id=job.run.run_id,
    )


def _whole_row(source: SourceTable) -> str:
    """Return SQL for the staged row as jsonb; of a row that jsonb cannot hold (256 MB), long values are cut.

    https://www.postgresql.org/docs/current/datatype-json.html
    """
    ours = ", ".join(literal(name) for name in ["n", *map(rules.hash_column, rules.hashed(source))])
    texts = {name: _as_text(source, name) for name in source.columns}
    size = " + ".join(f"coalesce(octet_length({sql}), 0)" for sql in texts.values())
    parts = ", ".join(
        f"{literal(name)}, CASE WHEN octet_length({sql}) > {_CUT_BYTES}"
        f" THEN to_jsonb(left({sql}, {_CUT_BYTES}) || '… (' || octet_length({sql}) || ' bytes)')"
        f" ELSE to_jsonb(s.{quote(name)}) END"
        for name, sql in texts.items()
    )
    return f"CASE WHEN {size} < {_WHOLE_BYTES} THEN to_jsonb(s) - ARRAY[{ours}] ELSE jsonb_build_object({parts}) END"


def _as_text(source: SourceTable, name: str) -> str:
    """Return a staged column as text."""
    column = f"s.{quote(name)}"
    return f"encode({column}, 'escape')" if source.columns[name].type == "bytea" else f"{column}::text"


def reasons(job: Job) -> dict[str, int]:
    """Return how many rows each reason was given for, over all tables."""
    rows = job.connection.execute(
        text("SELECT reason, count(*) FROM import_rejected, unnest(reasons) AS reason GROUP BY reason ORDER BY reason")
    )
    return {row[0]: int(row[1]) for row in rows}


def rejects(settings: Settings, run_id: str | None = None) -> Iterator[dict[str, Any]]:
    """Yield the quarantined rows of one import run, or of the last one that was committed, in their order.

    Each row: run_id, table_name, source_key, reasons (list), message, source_row (dict), quarantined_at. Streams.
    """
    engine = engine_for(settings.target)
    try:
        with engine.connect() as connection:
            if not memory.exists(connection):
                return
            run_id = run_id or connection.execute(_LAST_IMPORT, {"command": COMMAND}).scalar()
            rows = connection.execution_options(stream_results=True, yield_per=_BATCH).execute(
                _REJECTS, {"run_id": run_id}
            )
            for row in rows.mappings():
                yield dict(row)
    finally:
        engine.dispose()


_LAST_IMPORT = text(
    "SELECT run_id FROM rollout.runs WHERE command = :command AND ok"
    " AND NOT coalesce((record::jsonb ->> 'dry_run')::boolean, false) ORDER BY number DESC LIMIT 1"
)
_REJECTS = text(
    "SELECT run_id, table_name, source_key, reasons, message, source_row, quarantined_at FROM rollout.quarantine"
    " WHERE run_id = :run_id ORDER BY id"
)
