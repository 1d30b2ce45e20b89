"""Proof that nothing that existed was touched, taken before and compared after, inside the upgrade's transaction.

For every object: what the catalogs say of it, and where it stands in them. For tables that revisions write to: a hash
of the content, on the columns they had. For all others, without reading them: this transaction's own write counters
(``pg_stat_xact_user_tables``) and unchanged ``relfilenode`` (TRUNCATE and rewrites show only there). Sequences may
only advance. What is new must be declared by a revision.
https://www.postgresql.org/docs/current/monitoring-stats.html

Not covered: large objects, and rows of foreign tables (they live elsewhere); how many there are is told.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import text

from rollout import catalog
from rollout.findings import ERROR, Finding
from rollout.fingerprint import Fingerprint, pin_settings, table_fingerprint
from rollout.messages import say

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from sqlalchemy import Connection

    from rollout.catalog import Catalog
    from rollout.declared import Declared

FACTS_SQL = Path(__file__).parent / "sql" / "catalog_facts.sql"

_TABLES = """
SELECT c.oid, n.nspname, c.relname, c.relfilenode, c.relkind,
       s.n_tup_ins, s.n_tup_upd, s.n_tup_del
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace LEFT JOIN pg_stat_xact_user_tables s ON s.relid = c.oid
WHERE c.relkind IN ('r', 'p', 'm') AND n.nspname !~ '^pg_'
  AND n.nspname NOT IN ('information_schema', 'rollout', 'rollout_shelf')
  AND NOT (n.nspname = 'public' AND c.relname = 'lawsker_schema_version')
"""

_SEQUENCES = """
SELECT quote_ident(schemaname) || '.' || quote_ident(sequencename) AS name, last_value, increment_by,
       has_sequence_privilege(quote_ident(schemaname) || '.' || quote_ident(sequencename), 'SELECT') AS readable
FROM pg_sequences WHERE schemaname !~ '^pg_' AND schemaname NOT IN ('information_schema', 'rollout', 'rollout_shelf')
"""

_COLUMNS = """
SELECT attname FROM pg_attribute WHERE attrelid = :oid AND attnum > 0 AND NOT attisdropped ORDER BY attnum
"""

_UNSEEN = """
SELECT (SELECT count(*) FROM pg_largeobject_metadata), (SELECT count(*) FROM pg_class WHERE relkind = 'f')
"""

_NAMED = frozenset(
    [
        "table",
        "column",
        "constraint",
        "index",
        "trigger",
        "function",
        "view",
        "sequence",
        "type",
        "rule",
        "policy",
        "schema",
    ]
)


@dataclass(frozen=True)
class TableState:
    """One table before: where its rows are, this transaction's writes so far, and its content where it was hashed.

    ``kind`` as in pg_class.relkind: a partitioned parent and a materialised view have no rows of their own.
    """

    schema: str
    name: str
    filenode: int
    kind: str
    writes: tuple[int, int, int]
    columns: tuple[str, ...] = ()
    content: Fingerprint | None = None

    @property
    def subject(self) -> str:
        """The table as findings name it."""
        return self.name if self.schema == "public" else f"{self.schema}.{self.name}"


@dataclass
class Before:
    """Everything that existed when the transaction began."""

    catalog: Catalog = field(default_factory=dict)
    tables: dict[int, TableState] = field(default_factory=dict)
    sequences: dict[str, tuple[int | None, int]] = field(default_factory=dict)
    large_objects: int = 0
    foreign_tables: int = 0

    def preserved(self) -> dict[str, int]:
        """Return cli.md's ``preserved``: the tables, and how many rows of them were hashed: of others nobody knows."""
        tables = [state for state in self.tables.values() if state.kind == "r"]
        return {"tables": len(tables), "rows": sum(state.content.rows for state in tables if state.content)}


def take(connection: Connection, touched: Collection[str], declared: Declared, *, deep: bool = False) -> Before:
    """Take the fingerprints; ``touched``: tables of schema public whose content is hashed (``deep``: all are).

    What ``declared`` says that a downgrade takes away is left out. Needs ``track_counts``; where it is off and may
    not be switched on, everything is hashed.
    """
    pin_settings(connection)
    deep = deep or not _counts_are_tracked(connection)
    large_objects, foreign_tables = connection.execute(text(_UNSEEN)).one()
    before = Before(_everything(connection), {}, _sequences(connection), large_objects, foreign_tables)
    for oid, schema, name, filenode, kind, *writes in connection.execute(text(_TABLES)).all():
        columns: tuple[str, ...] = ()
        content = None
        if schema == "public" and f"table {name}" in declared.objects:
            continue
        if deep or (schema == "public" and name in touched):
            columns = tuple(
                column
                for column in connection.execute(text(_COLUMNS), {"oid": oid}).scalars()
                if schema != "public" or not declared.is_changed(name, column)
            )
            content = table_fingerprint(connection, schema, name, columns)
        counts = (writes[0] or 0, writes[1] or 0, writes[2] or 0)
        before.tables[oid] = TableState(schema, name, filenode, kind, counts, columns, content)
    return before


def _everything(connection: Connection) -> Catalog:
    """Return what the catalogs say of every object: its definition, and facts that only this proof needs."""
    there = catalog.read(connection)
    for key, facts, alone in connection.exec_driver_sql(FACTS_SQL.read_text(encoding="utf-8")):
        if alone or key in there:
            there[key] = {**there.get(key, {}), **{name: value for name, value in facts.items() if value is not None}}
    return there


def _counts_are_tracked(connection: Connection) -> bool:
    """Tell whether this session counts its writes; switch it on where that is allowed."""
    if connection.execute(text("SHOW track_counts")).scalar_one() == "on":
        return True
    superuser: bool = connection.execute(text("SELECT current_setting('is_superuser')")).scalar_one() == "on"
    if superuser:
        connection.execute(text("SET LOCAL track_counts = on"))
    return superuser


def _sequences(connection: Connection) -> dict[str, tuple[int | None, int]]:
    """Return the last value that every sequence gave (None: not ours to read) and its increment.

    The view shows nothing of one that gave none since it was set: that one is asked itself.
    """
    rows = connection.execute(text(_SEQUENCES)).all()
    unused = " UNION ALL ".join(
        f"SELECT {number}, last_value - {row.increment_by} FROM {row.name}"
        for number, row in enumerate(rows)
        if row.last_value is None and row.readable
    )
    asked = {row[0]: row[1] for row in connection.exec_driver_sql(unused)} if unused else {}
    return {row.name: (asked.get(number, row.last_value), row.increment_by) for number, row in enumerate(rows)}


def compare(connection: Connection, before: Before, declared: Declared) -> list[Finding]:
    """Compare with what was there: only what ``declared`` says may differ, or be new."""
    return [
        *_definitions(before.catalog, _everything(connection), declared),
        *_contents(connection, before, declared),
        *_positions(before.sequences, _sequences(connection), declared),
    ]


def _finding(subject: str, problem: str) -> Finding:
    """Make a finding of this proof."""
    hint = say("Nothing was committed. Find out which revision did this (`tool plan --sql`) and report it.")
    return Finding(subject, problem, hint, ERROR, "nothing_that_existed_changed", "structure")


def _definitions(before: Catalog, after: Catalog, declared: Declared) -> Iterator[Finding]:
    """Yield objects that are gone, differ (their owner, grants and comment included), or that nobody declared."""
    for key, values in before.items():
        if key in declared.objects:
            continue
        if key not in after:
            yield _finding(_name(key), say("{key} is gone", key=key))
        elif after[key] != values:
            how = catalog.in_a_row(catalog.differences(values, after[key]))
            yield _finding(_name(key), say("{key} changed: {how}", key=key, how=how))
    for key in after.keys() - before.keys() - declared.objects:
        yield _finding(_name(key), say("{key} is new, and nobody declared it", key=key))


def _name(key: str) -> str:
    """Return the subject of a finding about this object: without its kind, where others name it so too."""
    kind, _, name = key.partition(" ")
    return name if kind in _NAMED else key


def _contents(connection: Connection, before: Before, declared: Declared) -> Iterator[Finding]:
    """Yield tables that were written to, rewritten, or hold something else than before."""
    after = {row[0]: row for row in connection.execute(text(_TABLES)).all()}
    for oid, state in before.tables.items():
        row = after.get(oid)
        if row is None:
            continue  # it is gone or another one of that name, which its catalog entries tell
        if row[3] != state.filenode:
            yield _finding(state.subject, say("the table was rewritten or truncated"))
        inserted, updated, deleted = ((now or 0) - then for now, then in zip(row[5:8], state.writes, strict=True))
        if state.content is not None:
            found = table_fingerprint(connection, state.schema, state.name, state.columns)
            if found != state.content:
                yield _finding(
                    state.subject,
                    say(
                        "its content changed: {before} rows before, {after} now",
                        before=state.content.rows,
                        after=found.rows,
                    ),
                )
            continue
        if state.schema == "public" and state.name in declared.tables:
            # Seeds and initial rows may come (and go again), nothing that was there may change.
            inserted, deleted = (inserted, 0) if declared.downwards else (0, deleted)
        if inserted or updated or deleted:
            yield _finding(
                state.subject,
                say(
                    "{inserted} rows inserted, {updated} updated, {deleted} deleted",
                    inserted=inserted,
                    updated=updated,
                    deleted=deleted,
                ),
            )


def _positions(
    before: dict[str, tuple[int | None, int]], after: dict[str, tuple[int | None, int]], declared: Declared
) -> Iterator[Finding]:
    """Yield sequences that went backwards; one that is gone is told by the catalogs."""
    for name, (old, increment) in before.items():
        if name not in after or f"sequence {name.removeprefix('public.')}" in declared.objects:
            continue
        new = after[name][0]
        if old is not None and (new is None or (new - old) * increment < 0):
            yield _finding(name, say("the sequence went from {old} back to {new}", old=old, new=new))
