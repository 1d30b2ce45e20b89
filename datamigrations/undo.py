"""``tool pagtive undo RUN``: take back exactly what one import run inserted or updated, and prove it.

``rollout.import_changes`` says what the run wrote, what was there before, and what each row looked like afterwards. A
row that looks different now was edited since; a row of somebody else's that refers to one that would go would go with
it; a later run remembers what this one wrote. All are refused, the first one unless told otherwise.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from datamigrations import job as jobs
from datamigrations import quarantine, reconcile, written
from datamigrations.identity import KNOWN
from datamigrations.people import SEEN, taken_over
from datamigrations.quarantine import COMMAND
from datamigrations.sqltext import literal
from rollout import memory
from rollout.database import first_line, in_text, quote
from rollout.errors import UNTOUCHED, RollbackFailed
from rollout.messages import say
from rollout.report import write_report

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from sqlalchemy import Connection

    from rollout.run import Run
    from rollout.settings import Settings

_FOREIGN_KEYS = """
SELECT c.conrelid::regclass::text AS child, n.nspname = 'public' AS ours, k.relname AS name, p.relname AS parent,
       array_agg(a.attname::text ORDER BY o.place) AS columns, array_agg(b.attname::text ORDER BY o.place) AS keys
FROM pg_constraint AS c
JOIN pg_class AS k ON k.oid = c.conrelid JOIN pg_namespace AS n ON n.oid = k.relnamespace
JOIN pg_class AS p ON p.oid = c.confrelid
CROSS JOIN LATERAL unnest(c.conkey, c.confkey) WITH ORDINALITY AS o (child, parent, place)
JOIN pg_attribute AS a ON a.attrelid = c.conrelid AND a.attnum = o.child
JOIN pg_attribute AS b ON b.attrelid = c.confrelid AND b.attnum = o.parent
WHERE c.contype = 'f' AND c.conparentid = 0 AND p.relnamespace = 'public'::regnamespace AND p.relname = ANY(:parents)
GROUP BY c.oid, c.conrelid, n.nspname, k.relname, p.relname
ORDER BY 1, c.oid
"""


def undo_run(settings: Settings, run: Run, run_id: str, *, discard_edits: bool = False) -> None:
    """Take back import run ``run_id``; fills ``run.result["tables"]`` (table → rows ``deleted`` and ``restored``).

    ``discard_edits``: also rows that people edited since, counted in ``run.result["edits_discarded"]`` by table.
    Raises ``RollbackFailed`` where the run cannot be taken back; then nothing has changed.
    """
    try:
        with memory.recorded(settings, run) as session:
            run.result |= {"undone": run_id, "tables": {}, "edits_discarded": {}}
            with run.step("look"):
                tables = _check_run(session.own, run_id)
            locks = dict.fromkeys(sorted(tables), jobs.WRITE)
            with jobs.change(session, run, locks, dry_run=False) as connection:
                undo = Undo(connection, run_id, tables)
                with run.step("receipt"):
                    undo.refuse_later_writes()
                    edited = undo.edited()
                    if edited and not discard_edits:
                        _refuse_edits(edited)
                    undo.refuse_dependents()
                with run.step("undo") as step:
                    run.result["tables"] = undo.take_back(run.run_id)
                    quarantine.reopen(connection, run_id, run.run_id)
                    step.detail = say("{tables} tables", tables=len(tables))
            if edited:
                run.result["edits_discarded"] = edited
                run.listener.note(say("edits made since the run are lost: {tables}", tables=_listed(edited)))
            jobs.finish(session, run, {name: sum(counts.values()) for name, counts in run.result["tables"].items()})
    finally:
        run.finish()
        write_report(settings, run)


def no_import(run_id: str) -> RollbackFailed:
    """Return the error for a run that was no import, or none that was committed."""
    return RollbackFailed(
        say("there is no import {run_id} that was committed", run_id=run_id),
        hint=say("`tool history` lists the runs."),
        database=UNTOUCHED,
    )


def _check_run(own: Connection, run_id: str) -> set[str]:
    """Check that there is such an import, was committed, and is there still; return the tables that it wrote."""
    row = own.execute(text("SELECT command, ok FROM rollout.runs WHERE run_id = :id"), {"id": run_id}).one_or_none()
    # A run that was killed after COMMIT has no outcome, but what it wrote is there.
    tables = _tables(own, run_id)
    if row is None or row.command != COMMAND or not (row.ok or tables):
        raise no_import(run_id)
    if not tables:
        raise RollbackFailed(
            say("import {run_id} wrote nothing, or was taken back already", run_id=run_id),
            hint=say("`tool history` lists the runs."),
            database=UNTOUCHED,
        )
    gone = own.execute(
        text("SELECT name FROM unnest(CAST(:names AS text[])) AS name WHERE to_regclass('public.' || name) IS NULL"),
        {"names": sorted(tables)},
    ).scalars()
    if listed := ", ".join(gone):
        raise RollbackFailed(
            say("what import {run_id} wrote is no longer there: {tables}", run_id=run_id, tables=listed),
            hint=say("After a rollback, `tool migrate` brings it back from the shelf; then undo the import."),
            database=UNTOUCHED,
        )
    return tables


def _tables(own: Connection, run_id: str) -> set[str]:
    """Return the tables that a run wrote."""
    rows = own.execute(
        text("SELECT DISTINCT table_name FROM rollout.import_changes WHERE run_id = :id AND table_name <> ALL(:notes)"),
        {"id": run_id, "notes": [SEEN, KNOWN]},
    )
    return set(rows.scalars())


class Undo:
    """The undo of one run, inside its transaction."""

    def __init__(self, connection: Connection, run_id: str, tables: set[str]) -> None:
        """Keep what it is about."""
        self.connection = connection
        self.run_id = run_id
        self.tables = [name for name in written.ORDER if name in tables]

    def _count(self, sql: str) -> int:
        return int(self.connection.execute(text(sql)).scalar_one())

    def _execute(self, sql: str) -> int:
        return int(self.connection.execute(text(sql)).rowcount)

    def _changed(self, table: str, action: str, alias: str = "t") -> str:
        """Return FROM and WHERE for the rows (``t``) that the run inserted or updated (``c``)."""
        return (
            f"rollout.import_changes AS c JOIN public.{quote(table)} AS {alias}"
            f" ON {written.key(table, alias)} = c.row_key WHERE {self._of_run(table, action)}"
        )

    def _of_run(self, table: str, action: str) -> str:
        """Return the condition that a change (``c``) is one of the run."""
        run_id = literal(self.run_id)
        return f"c.run_id = {run_id} AND c.table_name = {literal(table)} AND c.action = {literal(action)}"

    def edited(self) -> dict[str, int]:
        """Count the rows of each table that were edited since the run."""
        counts = {}
        for table in self.tables:
            content = written.CONTENTS.get(table) or reconcile.whole_content(self.connection, table)
            edits = {"insert": f"({content} <> c.content OR {written.LEFT_EMPTY.get(table, 'false')})"}
            if table in written.UPDATED:
                edits["update"] = f"{written.UPDATED[table][0]} <> c.content"
            counts[table] = sum(
                self._count(f"SELECT count(*) FROM {self._changed(table, action)} AND {edit}")
                for action, edit in edits.items()
            )
        return {table: rows for table, rows in counts.items() if rows}

    def refuse_later_writes(self) -> None:
        """Raise ``RollbackFailed`` where a later import has written rows that this one wrote.

        What the later one remembers of them is of this one: to be given back first.
        """
        later = self.connection.execute(text(written.LATER), {"run_id": self.run_id, "tables": self.tables})
        found = {row.table_name: row.rows for row in later}
        if found:
            raise RollbackFailed(
                say("a later import has written to the same rows: {tables}", tables=_listed(found)),
                hint=say("Take back later imports first; `tool history` lists them."),
                database=UNTOUCHED,
            )

    def refuse_dependents(self) -> None:
        """Raise ``RollbackFailed`` where rows that are not this run's refer to rows that would go."""
        found = {name: rows for name, rows in self._dependents() if rows}
        if found:
            raise RollbackFailed(
                say("other rows refer to what the run inserted: {tables}", tables=_listed(found)),
                hint=say("Take back later imports first; remove what is left, or keep the import."),
                database=UNTOUCHED,
            )

    def _dependents(self) -> Iterator[tuple[str, int]]:
        """Yield the tables that refer to ours, and how many of their rows would be taken along."""
        for key in self.connection.execute(text(_FOREIGN_KEYS), {"parents": self.tables}).all():
            gone = f"SELECT {_columns('p', key.keys)} FROM {self._changed(key.parent, 'insert', 'p')}"
            rows = f"SELECT count(*) FROM {key.child} AS t WHERE ({_columns('t', key.columns)}) IN ({gone})"
            if key.ours and key.name in written.ORDER:
                # What the run updated goes back to what it referred to before, and that is older than the run.
                mine = " OR ".join(self._of_run(key.name, action) for action in ("insert", "update"))
                ours = f"SELECT c.row_key FROM rollout.import_changes AS c WHERE {mine}"
                rows += f" AND {written.key(key.name)} NOT IN ({ours})"
            yield key.child, self._count(rows)

    def take_back(self, undo_id: str) -> dict[str, dict[str, int]]:
        """Restore what was updated and delete what was inserted; return how many rows of each table.

        ``undo_id``: the run that does it.
        """
        counts = {}
        for table in self.tables:
            try:
                restored = self._restore(table) if table in written.UPDATED else 0
            except IntegrityError as error:
                raise RollbackFailed(
                    say(
                        "what {table} had before the run is in the way of newer rows: {reason}",
                        table=table,
                        reason=first_line(error),
                    ),
                    hint=say("Take back later imports first; remove what is left, or keep the import."),
                ) from error
            deleted = self._execute(
                f"DELETE FROM public.{quote(table)} AS t USING rollout.import_changes AS c"
                f" WHERE {written.key(table)} = c.row_key AND {self._of_run(table, 'insert')}"
            )
            counts[table] = {"deleted": deleted, "restored": restored}
        for table in self.tables:
            self._prove(table)
        self._note_restored_users(undo_id)
        self._execute(f"DELETE FROM rollout.import_changes WHERE run_id = {literal(self.run_id)}")
        return counts

    def _restore(self, table: str) -> int:
        """Give updated rows back what they had; return how many."""
        updated = written.TOUCHED.get(table)
        if updated:
            # Our trigger takes an update that leaves updated_at as it is for one that does not say when.
            self._execute(
                f"UPDATE public.{table} AS u SET {updated} = u.{updated} + interval '1 microsecond'"
                f" FROM (SELECT t.id FROM {self._changed(table, 'update')}"
                f" AND (c.previous ->> '{updated}')::timestamptz = t.{updated}) AS q WHERE q.id = u.id"
            )
        values = {column: f"q.{quote(column)}" for column in written.UPDATED[table][1]}
        values |= {column: f"(q.previous ->> {literal(column)})::jsonb" for column in written.JSON.get(table, ())}
        settings = ", ".join(f"{quote(column)} = {value}" for column, value in values.items())
        before = f"jsonb_populate_record(NULL::public.{table}, c.previous)"
        changed = self._changed(table, "update").replace(" WHERE ", f" CROSS JOIN LATERAL {before} AS o WHERE ", 1)
        return self._execute(
            f"UPDATE public.{table} AS u SET {settings}"
            f" FROM (SELECT t.id AS row_id, c.previous, {_columns('o', values)} FROM {changed}) AS q"
            " WHERE q.row_id = u.id"
        )

    def _note_restored_users(self, undo_id: str) -> None:
        """Note what users look like again, as an import does: a trigger's new ``updated_at`` is nobody's edit."""
        seen = reconcile.last(SEEN, "c.content, c.previous", f"c.run_id <> {literal(self.run_id)}")
        self._execute(
            "INSERT INTO rollout.import_changes (run_id, table_name, row_key, action, previous, content)"
            f" SELECT {literal(undo_id)}, {literal(SEEN)}, t.id::text, 'seen',"
            " jsonb_build_object('updated_at', t.updated_at, 'source', l.previous -> 'source'), l.content"
            f" FROM ({seen}) AS l JOIN public.users AS t ON t.id::text = l.row_key AND l.content = {taken_over('t.')}"
            " WHERE EXISTS (SELECT FROM rollout.import_changes AS c"
            f" WHERE c.row_key = l.row_key AND {self._of_run('users', 'update')})"
        )

    def _prove(self, table: str) -> None:
        """Check that nothing inserted is left, and that what was updated is what it was; raise ``RollbackFailed``."""
        wrong = self._count(f"SELECT count(*) FROM {self._changed(table, 'insert')}")
        if table in written.UPDATED:
            columns = _columns("t", written.UPDATED[table][1], written.JSON.get(table, ()))
            now = f"(SELECT to_jsonb(o) FROM (SELECT {columns}) AS o)"
            wrong += self._count(f"SELECT count(*) FROM {self._changed(table, 'update')} AND {now} <> c.previous")
        if wrong:
            raise RollbackFailed(
                say("{count} rows of {table} are not what they were before the run", count=wrong, table=table),
                hint=reconcile.changes_rows(table),
            )


def _refuse_edits(edited: dict[str, int]) -> NoReturn:
    """Raise ``RollbackFailed`` that names the tables with edited rows."""
    raise RollbackFailed(
        say("rows were edited since the run: {tables}", tables=_listed(edited)),
        hint=say("--discard-edits takes these rows back too, and their edits are lost."),
        database=UNTOUCHED,
    )


def _columns(alias: str, columns: Iterable[str], as_text: Iterable[str] = ()) -> str:
    """Return columns for a SELECT; those of json as the text that ``import_changes`` keeps of them."""
    texts = set(as_text)
    listed = (f"{alias}.{in_text(column)}{'::text' if column in texts else ''}" for column in columns)
    return ", ".join(listed)


def _listed(found: dict[str, int]) -> str:
    """Return tables with their numbers of rows, in one line."""
    return ", ".join(f"{table} ({rows})" for table, rows in sorted(found.items()))
