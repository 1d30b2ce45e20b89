"""Proof that nothing that existed was touched, taken before and compared after, inside the upgrade's transaction.

For every object: what the catalogs say of it. For tables that revisions write to: a hash of the content, on the columns
they had. For all others, without reading them: this transaction's own write counters (``pg_stat_xact_user_tables``) and
unchanged ``relfilenode`` (TRUNCATE and rewrites show only there). Sequences may only advance.
https://www.postgresql.org/docs/current/monitoring-stats.html

Not covered: large objects, and rows of foreign tables (they live elsewhere).
"""

from __future__ import annotations

from dataclasses import dataclass, field
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
    from rollout.manifest import Manifest

_TABLES = """
SELECT c.oid, n.nspname, c.relname, c.relfilenode, greatest(c.reltuples, 0)::bigint,
       s.n_tup_ins, s.n_tup_upd, s.n_tup_del
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace LEFT JOIN pg_stat_xact_user_tables s ON s.relid = c.oid
WHERE c.relkind IN ('r', 'p', 'm') AND n.nspname !~ '^pg_'
  AND n.nspname NOT IN ('information_schema', 'rollout', 'rollout_shelf')
  AND NOT (n.nspname = 'public' AND c.relname = 'lawsker_schema_version')
"""

_SEQUENCES = """
SELECT quote_ident(schemaname) || '.' || quote_ident(sequencename), last_value, increment_by FROM pg_sequences
WHERE schemaname !~ '^pg_' AND schemaname NOT IN ('information_schema', 'rollout', 'rollout_shelf')
"""

_COLUMNS = """
SELECT attname FROM pg_attribute WHERE attrelid = :oid AND attnum > 0 AND NOT attisdropped ORDER BY attnum
"""


@dataclass(frozen=True)
class TableState:
    """One table before: where its rows are, this transaction's writes so far, and its content where it was hashed."""

    schema: str
    name: str
    filenode: int
    estimate: int
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

    def preserved(self) -> dict[str, int]:
        """Return cli.md's ``preserved``: tables, and rows (counted where hashed, else the planner's estimate)."""
        rows = sum(state.content.rows if state.content else state.estimate for state in self.tables.values())
        return {"tables": len(self.tables), "rows": rows}


def take(
    connection: Connection, touched: Collection[str], *, leaving: Collection[str] = (), deep: bool = False
) -> Before:
    """Take the fingerprints; ``touched``: tables of schema public whose content is hashed (``deep``: all are).

    ``leaving``: objects (catalog keys) that a downgrade takes away; they are left out.

    Needs ``track_counts``; where it is off and may not be switched on, everything is hashed.
    """
    pin_settings(connection)
    deep = deep or not _counts_are_tracked(connection)
    there = {key: values for key, values in catalog.read(connection).items() if key not in leaving}
    gone = {key.removeprefix("sequence ") for key in leaving if key.startswith("sequence ")}
    positions = {name: value for name, value in _sequences(connection).items() if name.split(".")[-1] not in gone}
    before = Before(catalog=there, sequences=positions)
    for oid, schema, name, filenode, estimate, *writes in connection.execute(text(_TABLES)).all():
        columns: tuple[str, ...] = ()
        content = None
        if schema == "public" and f"table {name}" in leaving:
            continue
        if deep or (schema == "public" and name in touched):
            columns = tuple(
                column
                for column in connection.execute(text(_COLUMNS), {"oid": oid}).scalars()
                if schema != "public" or f"column {name}.{column}" not in leaving
            )
            content = table_fingerprint(connection, schema, name, columns)
        counts = (writes[0] or 0, writes[1] or 0, writes[2] or 0)
        before.tables[oid] = TableState(schema, name, filenode, estimate, counts, columns, content)
    return before


def _counts_are_tracked(connection: Connection) -> bool:
    """Tell whether this session counts its writes; switch it on where that is allowed."""
    if connection.execute(text("SHOW track_counts")).scalar_one() == "on":
        return True
    superuser = connection.execute(text("SELECT current_setting('is_superuser')")).scalar_one() == "on"
    if superuser:
        connection.execute(text("SET LOCAL track_counts = on"))
    return superuser


def _sequences(connection: Connection) -> dict[str, tuple[int | None, int]]:
    """Return every sequence's last value (None: never used, or not ours to read) and increment."""
    return {row[0]: (row[1], row[2]) for row in connection.execute(text(_SEQUENCES))}


def compare(connection: Connection, before: Before, ours: Manifest, baseline: str) -> list[Finding]:
    """Compare with what was there; ``ours``: what may differ because a revision declares it.

    ``baseline``: the revision whose objects (the legacy core) are others' as far as this proof is concerned.
    """
    declared = {key for key, revision in ours.made_by.items() if revision != baseline}
    return [
        *_definitions(before.catalog, catalog.read(connection), declared),
        *_contents(connection, before, declared),
        *_positions(before.sequences, _sequences(connection)),
    ]


def _finding(subject: str, problem: str) -> Finding:
    """Make a finding of this proof."""
    hint = say("Nothing was committed. Find out which revision did this (`tool plan --sql`) and report it.")
    return Finding(subject, problem, hint, ERROR, "nothing_that_existed_changed", "structure")


def _definitions(before: Catalog, after: Catalog, declared: set[str]) -> Iterator[Finding]:
    """Yield objects that are gone or differ, their owner, grants and comment included."""
    for key, values in before.items():
        if key in declared:
            continue
        subject = key.partition(" ")[2]
        if key not in after:
            yield _finding(subject, say("{key} is gone", key=key))
        elif after[key] != values:
            how = "; ".join(catalog.differences(values, after[key]))
            yield _finding(subject, say("{key} changed: {how}", key=key, how=how))


def _contents(connection: Connection, before: Before, declared: set[str]) -> Iterator[Finding]:
    """Yield tables that were written to, rewritten, or hold something else than before."""
    after = {row[0]: row for row in connection.execute(text(_TABLES)).all()}
    for oid, state in before.tables.items():
        row = after.get(oid)
        if row is None:
            continue  # its definition is gone too, and has its finding
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
        elif state.schema == "public" and f"table {state.name}" in declared:
            # A table of ours: seeds and initial rows may come, nothing that was there may change.
            if updated or deleted:
                yield _finding(
                    state.subject, say("{updated} rows updated, {deleted} deleted", updated=updated, deleted=deleted)
                )
        elif inserted or updated or deleted:
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
    before: dict[str, tuple[int | None, int]], after: dict[str, tuple[int | None, int]]
) -> Iterator[Finding]:
    """Yield sequences that went backwards."""
    for name, (old, increment) in before.items():
        new = after.get(name, (None, increment))[0]
        if old is not None and (new is None or (new - old) * increment < 0):
            yield _finding(name, say("the sequence went from {old} back to {new}", old=old, new=new))
