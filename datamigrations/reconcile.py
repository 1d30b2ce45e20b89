"""The proof before COMMIT: counts that balance, and rows of the target that are what the source's mapped values say.

Each row that a run wrote is read back and hashed; the hash is kept in ``rollout.import_changes``, where it also tells
later whether somebody has edited the row since. The sum over those hashes has to equal the sum over the same hash of
the mapped expressions, computed from the staging tables.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

from sqlalchemy import text

from datamigrations import rules
from datamigrations.mapping import Kind
from datamigrations.sqltext import literal
from rollout.database import in_text, quote
from rollout.errors import ReconciliationFailed
from rollout.fingerprint import TEXT, Fingerprint, row_hash, rows_fingerprint
from rollout.messages import say

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import Connection

    from datamigrations.job import Job
    from datamigrations.mapping import Table
    from datamigrations.source import SourceTable

_COLUMNS = text(
    "SELECT attname FROM pg_attribute WHERE attrelid = to_regclass('public.' || quote_ident(:table))"
    " AND attnum > 0 AND NOT attisdropped AND attname <> 'updated_at' ORDER BY attnum"
)

WRITTEN = "w.action IN ('insert', 'update')"


def content(values: Mapping[str, str], large: Mapping[str, str] | None = None) -> str:
    """Return SQL for the 64-bit hash of a row's values (column → SQL); ``large`` ones stand there as their hashes."""
    return row_hash([(f"({(large or {}).get(name, sql)})", TEXT) for name, sql in values.items()])


def target_content(table: Table) -> str:
    """Return SQL for the hash of a row of the target (``t``): all columns that the import fills."""
    values = {field.column: f"t.{quote(field.column)}" for field in table.fields}
    return content(
        values, {field.column: rules.large_hash(values[field.column]) for field in table.fields if field.is_large}
    )


def whole_content(connection: Connection, table: str) -> str:
    """Return SQL for the 64-bit hash of a whole row (``t``), whatever its columns are, but for ``updated_at``.

    That one a trigger may move. What is NULL leaves no trace: a column that the table gets later is no edit.
    """
    names = connection.execute(_COLUMNS, {"table": table}).scalars()
    return " # ".join(
        f"coalesce(hashtextextended(t.{in_text(name)}::text, {zlib.crc32(name.encode())}), 0)" for name in names
    )


def json_columns(table: Table) -> tuple[str, ...]:
    """Return the columns of json: kept as text, which tells json's null from SQL's."""
    return tuple(field.column for field in table.fields if field.kind is Kind.JSON)


def remember_previous(job: Job, source: SourceTable) -> None:
    """Keep what rows hold that are about to be updated, in ``import_previous_T``."""
    table, json = source.table, json_columns(source.table)
    if "update" not in job.actions[table.name]:
        return
    names = [field.column for field in table.fields]
    columns = ", ".join(f"t.{quote(name)}{'::text' if name in json else ''}" for name in names)
    job.temporary(
        f"import_previous_{table.name}",
        f"SELECT w.n, (SELECT to_jsonb(o) FROM (SELECT {columns}) AS o) AS previous"
        f" FROM rollout.import_plan_{table.name} AS w JOIN public.{table.target} AS t ON {rules.same_key(table)}"
        " WHERE w.action = 'update'",
    )


def record(job: Job, source: SourceTable) -> None:
    """Read back what was written and record it: key, content, and what was there before; see ``record_all``."""
    table, actions = source.table, job.actions[source.table.name]
    if not job.has_rows(table.target) or not actions.keys() & {"insert", "update"}:
        return
    rows = f"{job.plans[table.name]} AS w JOIN public.{table.target} AS t ON {rules.same_key(table)} WHERE {WRITTEN}"
    previous, joined = "NULL::jsonb", ""
    if "update" in actions:
        previous, joined = "o.previous", f" LEFT JOIN rollout.import_previous_{table.name} AS o ON o.n = w.n"
    _read_back(job, table, "w.n, w.action", rows, previous=previous, joined=joined)


def record_all(job: Job, table: Table) -> None:
    """Do that for a table that had no rows, once all of its parts are written: whatever is there is ours."""
    if table.name in job.expected and not job.has_rows(table.target):
        _read_back(job, table, "'insert' AS action", f"public.{table.target} AS t")


def _read_back(
    job: Job, table: Table, columns: str, rows: str, *, previous: str = "NULL::jsonb", joined: str = ""
) -> None:
    """Make ``import_written_T`` of rows of the target (``t``), with ``columns``, and record what is in it (``w``)."""
    # A table first, not INSERT ... SELECT: the reading, which is the work, can be shared with parallel workers.
    job.temporary(
        f"import_written_{table.name}",
        f"SELECT t.id::text AS row_key, {target_content(table)} AS content, {columns} FROM {rows}",
    )
    job.execute(
        "INSERT INTO rollout.import_changes (run_id, table_name, row_key, action, previous, content)"
        f" SELECT :run_id, {literal(table.target)}, w.row_key, w.action, {previous}, w.content"
        f" FROM rollout.import_written_{table.name} AS w{joined}",
        run_id=job.run.run_id,
    )


def expect(job: Job, source: SourceTable) -> None:
    """Add up what the mapped source says of the rows that were written, for ``compare``."""
    table = source.table
    if not job.actions[table.name].keys() & {"insert", "update"}:
        return
    mapped = content(rules.mapped(source), rules.large(source))
    wanted = rows_fingerprint(
        job.connection,
        f"SELECT {mapped} AS content FROM {job.plans[table.name]} AS w WHERE {WRITTEN}",
        ["content"],
    )
    job.expected[table.name] = job.expected.get(table.name, Fingerprint.of(0, 0)) + wanted


def compare(job: Job, table: Table) -> None:
    """Compare the content that was recorded with the mapped source's; raise ``ReconciliationFailed``."""
    if table.name in job.expected:
        got = rows_fingerprint(job.connection, recorded(job, table.target), ["content"])
        _refuse_other(table.name, job.expected[table.name], got)


def recorded(job: Job, target: str, action: str = "") -> str:
    """Return a query for the content that this run recorded for a table."""
    only = f" AND c.action = {literal(action)}" if action else ""
    return (
        f"SELECT c.content FROM rollout.import_changes AS c WHERE c.run_id = {literal(job.run.run_id)}"
        f" AND c.table_name = {literal(target)}{only}"
    )


def last(table: str, columns: str = "c.content", condition: str = "true") -> str:
    """Return a query for what was recorded last (``columns`` of ``c``) for each row (``row_key``) of a table."""
    return (
        f"SELECT DISTINCT ON (c.row_key) c.row_key, {columns} FROM rollout.import_changes AS c"
        f" WHERE c.table_name = {literal(table)} AND {condition} ORDER BY c.row_key, c.id DESC"
    )


def same_content(job: Job, name: str, expected: str, found: str) -> None:
    """Compare two queries that yield ``content``; raise ``ReconciliationFailed`` where they differ."""
    wanted = rows_fingerprint(job.connection, expected, ["content"])
    got = rows_fingerprint(job.connection, found, ["content"])
    _refuse_other(name, wanted, got)


def _refuse_other(name: str, wanted: Fingerprint, got: Fingerprint) -> None:
    """Raise ``ReconciliationFailed`` where a table does not hold what is wanted."""
    if wanted != got:
        raise ReconciliationFailed(
            say(
                "the rows written to {table} are not what the source says ({wanted} expected, {found} found)",
                table=name,
                wanted=wanted.rows,
                found=got.rows,
            ),
            hint=changes_rows(name),
        )


def changes_rows(table: str) -> str:
    """Return the hint for rows that are not what was written."""
    return say(
        "Look for triggers on the table that change rows: \\d {table} in psql. Nothing was changed.", table=table
    )


def drops_rows(table: str) -> str:
    """Return the hint for rows that did not arrive."""
    return say("Look for triggers on the table that drop rows: \\d {table} in psql. Nothing was changed.", table=table)


def balance(job: Job) -> None:
    """Check that every row that was read is accounted for; raise ``ReconciliationFailed``."""
    for name, counts in job.counts.items():
        if not counts.balances:
            raise ReconciliationFailed(
                say("the counts of {table} do not balance: {counts}", table=name, counts=counts.as_json()),
                hint=drops_rows(name),
            )
