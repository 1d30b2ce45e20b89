"""Performance: indexes are valid and not there twice, foreign keys have one, the application's top queries use one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import text

from rollout import adopt
from rollout.checks.queries import TOP_QUERIES, Query
from rollout.checks.registry import Area, Subject, check
from rollout.findings import ERROR, WARNING, Finding
from rollout.messages import say

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from sqlalchemy import Row

BIG = 1000
"""Rows (as far as the server knows) from which on a table needs statistics."""

MANY = 100_000
"""Changed rows that autovacuum should have looked at, where they are half of the table's."""

# `columns` holds NULL in place of expressions; `signature` is all that an index is, but for its name and uniqueness.
_INDEXES = text(
    """
SELECT i.relname AS name, t.relname AS table, x.indisvalid AND x.indisready AND x.indislive AS usable,
       x.indisunique AS unique, m.amname AS method, pg_get_expr(x.indpred, x.indrelid) AS predicate, columns,
       ROW(x.indrelid, i.relam, x.indnkeyatts, x.indkey::text, x.indclass::text, x.indcollation::text,
           x.indoption::text, pg_get_expr(x.indpred, x.indrelid), pg_get_expr(x.indexprs, x.indrelid)
       )::text AS signature,
       ARRAY(SELECT k::text || ' ' || c || ' ' || o || ' ' || coalesce(n, '0') FROM unnest(
           string_to_array(x.indkey::text, ' '), string_to_array(x.indclass::text, ' '),
           string_to_array(x.indoption::text, ' '), string_to_array(x.indcollation::text, ' ')
       ) AS parts (k, c, o, n)) AS parts, x.indexprs IS NOT NULL AS expression
FROM pg_index x
JOIN pg_class i ON i.oid = x.indexrelid
JOIN pg_am m ON m.oid = i.relam
JOIN pg_class t ON t.oid = x.indrelid
JOIN pg_namespace n ON n.oid = t.relnamespace
CROSS JOIN LATERAL (
    SELECT array_agg(a.attname::text ORDER BY k.position) AS columns
    FROM unnest(x.indkey) WITH ORDINALITY AS k (attnum, position)
    LEFT JOIN pg_attribute a ON a.attrelid = x.indrelid AND a.attnum = k.attnum
    WHERE k.position <= x.indnkeyatts
) AS keys
WHERE n.nspname = 'public' AND t.relname = ANY(:tables)
ORDER BY t.relname, i.relname
"""
)

Index = Any
"""A row of ``_INDEXES``."""


def _indexes(subject: Subject, tables: Iterable[str]) -> list[Row[Any]]:
    """Read the indexes of these tables."""
    return list(subject.connection.execute(_INDEXES, {"tables": list(tables)}))


def _our_indexes(subject: Subject) -> set[str]:
    """Return the names of indexes that our revisions made, those behind constraints included."""
    return {
        key.rpartition(".")[2] if key.startswith("constraint ") else key.removeprefix("index ")
        for key, revision in subject.manifest.made_by.items()
        if key.startswith(("index ", "constraint ")) and revision != subject.baseline
    }


def _tables(subject: Subject) -> list[str]:
    """Return our tables, and the legacy ones that have indexes of ours."""
    return [*adopt.our_tables(subject.revision), *adopt.WRITTEN]


@check(Area.PERFORMANCE)
def indexes_are_valid(subject: Subject) -> Iterator[Finding]:
    """No index of ours is invalid; one of others on our tables is a warning (it may be in the making)."""
    ours, legacy = _our_indexes(subject), set(adopt.WRITTEN)
    for index in _indexes(subject, _tables(subject)):
        if not index.usable and (index.name in ours or index.table not in legacy):
            yield Finding(
                index.name,
                say("the index on {table} is invalid: queries do not use it", table=index.table),
                f'REINDEX INDEX CONCURRENTLY "{index.name}";',
                ERROR if index.name in ours else WARNING,
            )


@check(Area.PERFORMANCE)
def no_index_is_there_twice(subject: Subject) -> Iterator[Finding]:
    """No index on our tables does what another one does already (a warning: it costs writes, and no more)."""
    ours = _our_indexes(subject)
    indexes = _indexes(subject, _tables(subject))
    yield from _twice(indexes, ours)
    for index in indexes:
        longer = next((other for other in indexes if _begins(index, other)), None)
        # A shorter one of others on a legacy table is theirs; one of ours is there by design, where it is the only one.
        if longer is not None and longer.name in ours and index.name not in ours:
            yield Finding(
                index.name,
                say("the index only does what {name} begins with", name=longer.name),
                f'DROP INDEX CONCURRENTLY "{index.name}";',
                WARNING,
            )


def _begins(index: Index, other: Index) -> bool:
    """Tell whether a longer index begins with all that a plain one has."""
    if index.table != other.table or index.unique or not index.method == other.method == "btree":
        return False
    plain = not (index.expression or other.expression) and index.usable and other.usable
    alike = index.predicate == other.predicate and len(index.parts) < len(other.parts)
    return plain and alike and other.parts[: len(index.parts)] == index.parts


def _twice(indexes: list[Row[Any]], ours: set[str]) -> Iterator[Finding]:
    """Yield indexes that are the same as another one."""
    same: dict[str, list[Row[Any]]] = {}
    for index in indexes:
        same.setdefault(index.signature, []).append(index)
    for alike in same.values():
        kept, *others = sorted(alike, key=lambda one: (one.name not in ours, not one.unique, one.name))
        for index in others:
            # What others have twice on a legacy table is theirs; a unique index forbids something too.
            if kept.name in ours and (kept.unique or not index.unique):
                yield Finding(
                    index.name,
                    say("the index does what {name} does", name=kept.name),
                    f'DROP INDEX CONCURRENTLY "{index.name}";',
                    WARNING,
                )


@check(Area.PERFORMANCE)
def foreign_keys_have_an_index(subject: Subject) -> Iterator[Finding]:
    """Every foreign key of ours has an index that leads with its columns: deleting a user reads no whole table."""
    keys = [
        (key.removeprefix("constraint "), definition["table"], definition["columns"])
        for key, definition in subject.manifest.objects.items()
        if definition.get("type") == "f" and subject.manifest.made_by[key] != subject.baseline
    ]
    indexes = _indexes(subject, {table for _, table, _ in keys})
    there = {index.table for index in indexes}
    for name, table, columns in keys:
        if table in there and not any(_serves(index, table, columns) for index in indexes):
            yield Finding(
                name,
                say("no index leads with {columns}", columns=", ".join(columns)),
                f"CREATE INDEX CONCURRENTLY ON {table} ({', '.join(columns)});",
            )


def _serves(index: Index, table: str, columns: list[str]) -> bool:
    """Tell whether an index finds the rows of a foreign key's columns."""
    whole = index.predicate is None or index.predicate in {f"({column} IS NOT NULL)" for column in columns}
    leads = set(index.columns[: len(columns)]) == set(columns)
    return index.table == table and index.usable and index.method in {"btree", "hash"} and whole and leads


@check(Area.PERFORMANCE)
def top_queries_use_an_index(subject: Subject) -> Iterator[Finding]:
    """Every top query of the application can use an index (a warning: a dropped index is an error of its own).

    Not asked inside the upgrade: an index made over rows that the same transaction updated serves only later snapshots.
    """
    if subject.in_upgrade:
        return
    queries = [
        query for query in TOP_QUERIES if all(key in subject.manifest and key in subject.catalog for key in query.needs)
    ]
    indexes: dict[str, list[Index]] = {query.table: [] for query in queries}
    for index in _indexes(subject, indexes):
        indexes[index.table].append(index)
    with subject.connection.begin_nested() as savepoint:
        # Small tables are read whole, and rightly so: the question is what happens when they have grown.
        # https://www.postgresql.org/docs/current/runtime-config-query.html#GUC-ENABLE-SEQSCAN
        subject.connection.exec_driver_sql("SET LOCAL enable_seqscan = off")
        plans = [_plan_of(subject, query) for query in queries]
        savepoint.rollback()
    for query, plan in zip(queries, plans, strict=True):
        # An index that only goes on with what the query asks by would be read whole: the plan does not tell.
        leads = any(one.usable and one.columns[: query.leading] == query.index for one in indexes[query.table])
        if _reads_whole_table(plan) or not leads:
            yield Finding(
                f"{query.table}.{query.columns[0]}",
                say("no index serves this query: {purpose}", purpose=query.purpose),
                f"CREATE INDEX CONCURRENTLY ON {query.table} ({', '.join(query.index)});",
                WARNING,
            )


def _plan_of(subject: Subject, query: Query) -> dict[str, Any]:
    """Ask the planner how it would run a query."""
    answer = subject.connection.exec_driver_sql(f"EXPLAIN (FORMAT JSON) {query.sql}").scalar_one()
    plan: dict[str, Any] = answer[0]["Plan"]
    return plan


def _reads_whole_table(plan: dict[str, Any]) -> bool:
    """Tell whether a plan reads a table from end to end."""
    return plan["Node Type"] == "Seq Scan" or any(_reads_whole_table(child) for child in plan.get("Plans", ()))


# pg_stats shows only columns that we may read; where row security hides it, there is nothing to be told.
_WITHOUT_STATISTICS = text(
    """
SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = 'public' AND c.relname = ANY(:tables) AND c.relkind = 'r'
  AND greatest(c.reltuples, pg_stat_get_live_tuples(c.oid)) > :big
  AND has_any_column_privilege(c.oid, 'SELECT') AND NOT row_security_active(c.oid)
  AND NOT EXISTS (SELECT FROM pg_stats s WHERE s.schemaname = n.nspname AND s.tablename = c.relname)
ORDER BY c.relname
"""
)


# A replica counts no changes. https://www.postgresql.org/docs/current/monitoring-stats.html
_OLD_STATISTICS = text(
    """
SELECT c.relname, pg_stat_get_mod_since_analyze(c.oid) AS changed
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = 'public' AND c.relname = ANY(:tables) AND c.relkind = 'r' AND NOT pg_is_in_recovery()
  AND pg_stat_get_mod_since_analyze(c.oid) > greatest(:many, pg_stat_get_live_tuples(c.oid) / 2)
ORDER BY c.relname
"""
)


@check(Area.PERFORMANCE)
def big_tables_have_statistics(subject: Subject) -> Iterator[Finding]:
    """No big table of ours was never analyzed, or not since it changed a lot: the planner guesses (a warning)."""
    if subject.in_upgrade:
        return  # ANALYZE comes after COMMIT
    parameters = {"tables": adopt.our_tables(subject.revision), "big": BIG, "many": MANY}
    never = subject.connection.execute(_WITHOUT_STATISTICS, parameters).scalars().all()
    for table in never:
        yield Finding(table, say("the table was never analyzed"), f"ANALYZE {table};", WARNING)
    for table, changed in subject.connection.execute(_OLD_STATISTICS, parameters):
        if table not in never:
            yield Finding(
                table,
                say("{count} rows changed since the table was analyzed", count=changed),
                f"ANALYZE {table};",
                WARNING,
            )
