"""Rows that the target cannot take: collected with every reason, kept whole in ``rollout.quarantine``, read again.

What is kept is what the import reads: the source's other columns (a password, say) never come here.
"""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from sqlalchemy import text

from datamigrations import rules
from datamigrations.mapping import USERS
from datamigrations.sqltext import literal
from rollout import memory
from rollout.database import engine_for, quote
from rollout.errors import PreflightFailed
from rollout.messages import say

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from sqlalchemy import Connection, Engine

    from datamigrations.job import Job
    from datamigrations.mapping import Table
    from datamigrations.rules import Rule
    from datamigrations.source import SourceTable
    from rollout.settings import Settings

COMMAND = "pagtive import"
COLUMNS = ("run_id", "table_name", "source_key", "reasons", "message", "source_row", "quarantined_at", "resolved_by")
"""What is told of a quarantined row."""

_BATCH = 500
_KEYS = 50_000
_WHOLE_BYTES = 100_000_000
_CUT_BYTES = 10_000

SKIPPED = "skipped_by_decision"
"""The reason of users whom a person decided to skip."""


def create(job: Job) -> None:
    """Make the transaction's list of rows that do not fit."""
    nothing = "SELECT NULL::text AS table_name, NULL::bigint AS n, NULL::text[] AS reasons, NULL::text AS message"
    job.temporary("import_rejected", f"{nothing} LIMIT 0")


def accepted(table: Table, alias: str = "w") -> str:
    """Return the SQL condition that a row (``alias.n``) was not rejected."""
    same = f"r.table_name = {literal(table.name)} AND r.n = {alias}.n"
    return f"NOT EXISTS (SELECT FROM rollout.import_rejected AS r WHERE {same})"


def accepted_so_far(job: Job, table: Table, alias: str = "w") -> str:
    """Return that condition as it stands now: where no row of the table was rejected, there is nothing to look up."""
    return accepted(table, alias) if table.name in job.rejected else "true"


def reject_by_rules(job: Job, source: SourceTable, tests: Iterable[Rule]) -> int:
    """Collect rows that are ``unfit`` (``merge.convert``), with all their reasons; return how many."""
    listed = list(tests)
    codes = ", ".join(f"CASE WHEN {rule.predicate} THEN {literal(rule.code)} END" for rule in listed)
    messages = ", ".join(f"CASE WHEN {rule.predicate} THEN {literal(rule.message)} END" for rule in listed)
    return _collect(
        job,
        source.table,
        "f.n, ARRAY(SELECT DISTINCT c FROM unnest(f.codes) AS c WHERE c IS NOT NULL ORDER BY c),"
        " array_to_string(f.messages, '; ')"
        f" FROM (SELECT s.n, ARRAY[{codes}] AS codes, ARRAY[{messages}] AS messages"
        f" FROM rollout.{source.staged} AS s JOIN rollout.import_converted_{source.table.name} AS w ON w.n = s.n"
        " WHERE w.unfit) AS f",
    )


def reject(job: Job, table: Table, code: str, message: str, query: str, **values: Any) -> int:
    """Collect the rows whose ``n`` a query yields, for one reason; return how many."""
    return _collect(job, table, f"q.n, ARRAY[{literal(code)}], {literal(message)} FROM ({query}) AS q", **values)


def _collect(job: Job, table: Table, rows: str, **values: Any) -> int:
    """Add rows of a table (``n``, reasons and message, as what follows SELECT) to the list; return how many."""
    found = job.execute(f"INSERT INTO rollout.import_rejected SELECT {literal(table.name)}, {rows}", **values)
    if found:
        job.rejected.add(table.name)
    return found


def keep(job: Job, source: SourceTable) -> int:
    """Write a table's rejected rows to ``rollout.quarantine``; return how many."""
    table = source.table
    key = _key({name: _as_text(source, name) for name in table.key})
    return job.execute(
        "INSERT INTO rollout.quarantine (run_id, table_name, source_key, reasons, message, source_row)"
        f" SELECT :run_id, {literal(table.name)}, {key}, r.reasons, r.message, {_whole_row(source)}"
        f" FROM rollout.import_rejected AS r JOIN rollout.{source.staged} AS s ON s.n = r.n"
        f" WHERE r.table_name = {literal(table.name)} ORDER BY s.n",
        run_id=job.run.run_id,
    )


def _key(texts: dict[str, str]) -> str:
    """Return SQL for a row's ``source_key`` from its key columns as text."""
    return " || '/' || ".join(f"coalesce({value}, '')" for value in texts.values())


def count_open(connection: Connection, about: list[str], condition: str = "") -> int:
    """Count the rows of earlier runs that a retry reads, one a key; ``about``: users whom its decisions are about."""
    query = f"SELECT DISTINCT table_name, source_key FROM rollout.quarantine AS q WHERE {condition or _OPEN}"
    values = {"decided": about}
    return int(connection.execute(text(f"SELECT count(*) FROM ({query}) AS open_rows"), values).scalar_one())


def count_skipped(connection: Connection, about: list[str]) -> int:
    """Count the users whom a retry leaves out, because somebody decided to skip them and this run's file does not."""
    return count_open(connection, about, f"resolved_by IS NULL AND {_SKIPPED}")


def conditions(engine: Engine, source: SourceTable, about: list[str]) -> list[Callable[[], str]]:
    """Return what makes conditions on a source table's rows (``s``): together they hold for all open rows, and others.

    One for so many keys, made when it is its turn, so that never more of them are in memory. No row is read twice: a
    condition is about the first column of the key, and that has all its rows in one batch.
    """
    values = {"decided": about}
    with engine.connect() as connection:
        keys = int(connection.execute(text(f"SELECT count(*) FROM {_plain(source)}"), values).scalar_one())
        batch = f"SELECT plain, ntile({keys // _KEYS + 1}) OVER (ORDER BY plain) AS batch FROM {_plain(source)}"
        bounds = f"SELECT max(plain) FROM ({batch}) AS b GROUP BY batch ORDER BY 1"
        upper = [str(bound) for bound in connection.execute(text(bounds), values).scalars()]
    return [partial(_condition, engine, source, about, *batch) for batch in pairwise(["", *upper])]


def _condition(engine: Engine, source: SourceTable, about: list[str], after: str, upto: str) -> str:
    """Return the condition for the keys of one batch; a subquery is hashed on every server."""
    query = f"SELECT plain FROM {_plain(source)} WHERE (plain > :after OR :after = '') AND plain <= :upto"
    values = {"decided": about, "after": after, "upto": upto}
    with engine.connect() as connection:
        keys = connection.execute(text(query), values).scalars()
        listed = ", ".join(map(literal, keys))
    first = _PLAIN.format(key=_source_text(source, source.table.key[0]))
    return f"{first} IN (SELECT unnest(ARRAY[{listed}]::text[]))"


def leave_open(own: Connection, source: SourceTable, about: list[str]) -> int:
    """Take from the staging table all but open rows, and rivals of open ones for a key; return how many.

    Rivals have to be there too: without the page ``1`` its duplicate ``01`` would take its place.
    """
    texts = {name: _as_text(source, name) for name in source.table.key}
    name = literal(source.table.name)
    mine = f"SELECT source_key FROM rollout.quarantine AS q WHERE {_OPEN} AND table_name = {name}"
    rivals = f"SELECT plain FROM {_plain(source, 'reasons && ARRAY[' + _RIVALS + ']')}"
    first = _PLAIN.format(key=texts[source.table.key[0]])
    query = (
        f"DELETE FROM rollout.{source.staged} AS s"
        f" WHERE {_key(texts)} NOT IN ({mine}) AND coalesce({first}, '') NOT IN ({rivals})"
    )
    return own.execute(text(query), {"decided": about}).rowcount


def _plain(source: SourceTable, condition: str = "true") -> str:
    """Return a subquery for the first key columns of a table's open rows, as ``plain``.

    Where a key has several columns, each slash may be where its first one ends.
    """
    first, prefixes = "q.source_key", ""
    if len(source.table.key) > 1:
        parts = "string_to_array(q.source_key, '/')"
        first = f"array_to_string(({parts})[1\\:i], '/')"
        prefixes = f" CROSS JOIN LATERAL generate_series(1, cardinality({parts}) - 1) AS i"
    return (
        f'(SELECT DISTINCT {_PLAIN.format(key=first)} COLLATE "C" AS plain FROM rollout.quarantine AS q{prefixes}'
        f" WHERE {_OPEN} AND {condition} AND q.table_name = {literal(source.table.name)}) AS open_keys"
    )


def _source_text(source: SourceTable, name: str) -> str:
    """Return a column of the source as the text that ``_as_text`` makes of it once it is staged."""
    column = source.columns[name]
    return f"encode({column.expression}, 'escape')" if column.type == "bytea" else f"({column.expression})::text"


def resolve(job: Job) -> None:
    """Close the open rows that this run read again: it took them, or they are in quarantine anew.

    A whole import has read every row there is, under whatever key.
    """
    for name, parts in job.parts.items():
        key = _key({column: _as_text(parts[0], column) for column in parts[0].table.key})
        keys = " UNION ALL ".join(f"SELECT {key} FROM rollout.{part.staged} AS s" for part in parts)
        read = f" AND {_HAS_KEY} AND q.source_key IN ({keys})" if job.options.partly else ""
        job.execute(
            "UPDATE rollout.quarantine AS q SET resolved_by = :run_id"
            f" WHERE q.table_name = {literal(name)} AND q.resolved_by IS NULL AND q.run_id <> :run_id{read}",
            run_id=job.run.run_id,
        )


def left_open(job: Job) -> int:
    """Count the rows of earlier runs that are open still, though this retry was to read them."""
    query = "SELECT count(*) FROM rollout.quarantine AS q WHERE resolved_by IS NULL AND run_id <> :run_id"
    return int(job.scalar(f"{query} AND NOT {_SKIPPED}", run_id=job.run.run_id, decided=job.options.decided))


def reopen(connection: Connection, undone: str, run_id: str) -> None:
    """Open again what a run had closed, and close what it had put here itself: run ``run_id`` takes it back.

    A row that a later run has taken, or has put here anew, stays closed: it is listed once.
    """
    values = {"undone": undone, "run_id": run_id}
    connection.execute(
        text(
            "UPDATE rollout.quarantine AS q SET resolved_by = ("
            "  SELECT max(CASE WHEN n.run_id = :undone THEN n.resolved_by ELSE n.run_id END)"
            "  FROM rollout.quarantine AS n WHERE (n.run_id = :undone) = (n.resolved_by IS NOT NULL)"
            "  AND n.table_name = q.table_name AND n.source_key = q.source_key AND n.run_id <> q.run_id)"
            " WHERE q.resolved_by = :undone"
        ),
        values,
    )
    connection.execute(text("UPDATE rollout.quarantine SET resolved_by = :run_id WHERE run_id = :undone"), values)


def _whole_row(source: SourceTable) -> str:
    """Return SQL for the staged row as jsonb; of a row that jsonb cannot hold (256 MB), long values are cut.

    https://www.postgresql.org/docs/current/datatype-json.html
    """
    ours = ", ".join(literal(name) for name in ["n", *map(rules.hash_column, rules.hashes(source))])
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
        text(
            "SELECT reason, count(*) FROM rollout.import_rejected, unnest(reasons) AS reason"
            " GROUP BY reason ORDER BY reason"
        )
    )
    return {row[0]: int(row[1]) for row in rows}


def rejects(settings: Settings, run_id: str | None = None, *, everything: bool = False) -> Iterator[dict[str, Any]]:
    """Yield the quarantined rows of one import run, or those still open, or ``everything``, in their order.

    Each row has ``COLUMNS``; ``reasons`` is a list, ``source_row`` a dict. Streams. Raises ``PreflightFailed`` where
    there is no such import.
    """
    with engine_for(settings.target).connect() as connection:
        known = memory.exists(connection)
        if run_id is not None and not (known and memory.command_of(connection, run_id) == COMMAND):
            raise PreflightFailed(
                say("there is no import {run_id}", run_id=run_id), hint=say("`tool history` lists the runs.")
            )
        if not known:
            return
        rows = connection.execution_options(stream_results=True, yield_per=_BATCH).execute(
            _REJECTS, {"run_id": run_id, "everything": everything}
        )
        for row in rows.mappings():
            yield dict(row)


# Rows without a whole key cannot be told apart.
_HAS_KEY = "'/' || source_key || '/' NOT LIKE '%//%'"
# What a person decided stands until another decision; a uuid is decided in small letters.
_SKIPPED = (
    f"(q.table_name = {literal(USERS.name)} AND {literal(SKIPPED)} = ANY(q.reasons)"
    " AND lower(q.source_key) NOT IN (SELECT unnest(CAST(:decided AS text[])))"
    " AND q.source_key NOT IN (SELECT unnest(CAST(:decided AS text[]))))"
)
_OPEN = f"resolved_by IS NULL AND {_HAS_KEY} AND NOT {_SKIPPED}"
_RIVALS = "'duplicate_key', 'duplicate_page'"
# What is the same in every way to write a uuid.
_PLAIN = "lower(regexp_replace({key}, '[^0-9A-Za-z]', '', 'g'))"
_REJECTS = text(
    f"SELECT {', '.join(COLUMNS)} FROM rollout.quarantine"
    " WHERE CASE WHEN CAST(:run_id AS text) IS NULL THEN :everything OR resolved_by IS NULL ELSE run_id = :run_id END"
    " ORDER BY id"
)
