"""What Alembic does for our revisions beyond its own PostgreSQL implementation.

Two things, both registered by importing this module (alembic/env.py does):

* An implementation that leaves alone what was there before us: it neither makes nor drops an object whose key stands in
  ``preexisting`` (an option of ``context.configure``).
* Operations for what Alembic has none for: triggers, functions, views, enum types, the uuid function of PostgreSQL 12,
  and backfills during which other people's triggers keep still. Their SQL is the same online and in ``--sql`` mode.

https://alembic.sqlalchemy.org/en/latest/api/operations.html#operation-plugins
"""

from __future__ import annotations

from typing import Any

from alembic.ddl.postgresql import PostgresqlImpl
from alembic.operations import MigrateOperation, Operations
from sqlalchemy import Column, Constraint, Delete, Index, Table, TextClause, text

from rollout.database import quote

_BACKFILL = """\
DO $backfill$
DECLARE
    switched record;
    restore text[] := '{{}}';
    command text;
BEGIN
    FOR switched IN
        SELECT tgname, tgenabled FROM pg_catalog.pg_trigger
        WHERE tgrelid = {table_literal}::regclass AND NOT tgisinternal AND tgenabled <> 'D'
        ORDER BY tgname
    LOOP
        restore := restore || format('ALTER TABLE {table} %s TRIGGER %I', CASE switched.tgenabled
            WHEN 'R' THEN 'ENABLE REPLICA' WHEN 'A' THEN 'ENABLE ALWAYS' ELSE 'ENABLE' END, switched.tgname);
    END LOOP;
    IF restore <> '{{}}' THEN
        SET CONSTRAINTS ALL IMMEDIATE;
        ALTER TABLE {table} DISABLE TRIGGER USER;
    END IF;
{statement};
    SET CONSTRAINTS ALL IMMEDIATE;
    FOREACH command IN ARRAY restore LOOP
        EXECUTE command;
    END LOOP;
END
$backfill$"""

ENSURE_RANDOM_UUID = """\
DO $uuid$
BEGIN
    -- Built in since PostgreSQL 13; version 12 has it in pgcrypto.
    IF to_regprocedure('gen_random_uuid()') IS NULL THEN
        CREATE EXTENSION pgcrypto;
    END IF;
END
$uuid$"""

_DROP_RANDOM_UUID = """\
DO $uuid$
BEGIN
    IF to_regprocedure('pg_catalog.gen_random_uuid()') IS NULL THEN
        DROP EXTENSION IF EXISTS pgcrypto;
    END IF;
END
$uuid$"""


def quietly(table: str, statement: str) -> TextClause:
    """Return the SQL that runs one INSERT or UPDATE on a table of schema public while its triggers keep still."""
    sql = _BACKFILL.format(
        table=quote("public", table),
        table_literal="'" + quote("public", table).replace("'", "''") + "'",
        statement=statement.strip().rstrip(";"),
    )
    return text(sql.replace(":", r"\:"))


class LawskerImpl(PostgresqlImpl):
    """Alembic's PostgreSQL implementation, minus what was there before us.

    Deriving from it registers this class for the dialect (``alembic.ddl.impl.ImplMeta``). With ``preexisting`` unset it
    does exactly what its base does.
    """

    __dialect__ = "postgresql"

    def keeps(self, key: str) -> bool:
        """Tell whether this object (a manifest key) was there before us, and so is left alone."""
        return key in self.context_opts.get("preexisting", ())

    def create_table(self, table: Table, **kw: Any) -> None:
        """CREATE TABLE, unless it was there."""
        if not self.keeps(f"table {table.name}"):
            super().create_table(table, **kw)

    def drop_table(self, table: Table, **kw: Any) -> None:
        """DROP TABLE, unless it was there; a rollback's option ``put_away`` does it in its own way."""
        put_away = self.context_opts.get("put_away")
        if self.keeps(f"table {table.name}"):
            return
        if put_away is not None:
            put_away(table.name)
        else:
            super().drop_table(table, **kw)

    def execute(self, sql: Any, execution_options: dict[str, Any] | None = None) -> None:
        """Execute, but delete no seed rows of a table that was there, or that is put away as it is.

        Which rows of a table that was there are ours, ``rollout.own_rows`` knows.
        """
        if isinstance(sql, Delete):
            table = str(getattr(sql.table, "name", ""))
            if self.keeps(f"table {table}") or table in (self.context_opts.get("whole") or ()):
                return
        super().execute(sql, execution_options)

    def add_column(self, table_name: str, column: Column[Any], **kw: Any) -> None:
        """ADD COLUMN, unless it was there."""
        if not self.keeps(f"column {table_name}.{column.name}"):
            super().add_column(table_name, column, **kw)

    def drop_column(self, table_name: str, column: Column[Any], **kw: Any) -> None:
        """DROP COLUMN, unless it was there."""
        if not self.keeps(f"column {table_name}.{column.name}"):
            super().drop_column(table_name, column, **kw)

    def alter_column(self, table_name: str, column_name: str, **kw: Any) -> None:
        """ALTER COLUMN, unless the column was there: then it is what it has to be already."""
        if not self.keeps(f"column {table_name}.{column_name}"):
            super().alter_column(table_name, column_name, **kw)

    def create_table_comment(self, table: Table) -> None:
        """COMMENT ON TABLE, unless the table was there."""
        if not self.keeps(f"table {table.name}"):
            super().create_table_comment(table)

    def create_column_comment(self, column: Column[Any]) -> None:
        """COMMENT ON COLUMN, unless the column was there."""
        if not self.keeps(f"column {column.table.name}.{column.name}"):
            super().create_column_comment(column)

    def add_constraint(self, const: Any, **kw: Any) -> None:
        """ADD CONSTRAINT, unless one of the same definition was there."""
        if not self.keeps(f"constraint {const.table.name}.{const.name}"):
            super().add_constraint(const, **kw)

    def drop_constraint(self, const: Constraint, **kw: Any) -> None:
        """DROP CONSTRAINT, unless it was there."""
        if not self.keeps(f"constraint {const.table.name}.{const.name}"):
            super().drop_constraint(const, **kw)

    def create_index(self, index: Index, **kw: Any) -> None:
        """CREATE INDEX, unless one of the same definition was there."""
        if not self.keeps(f"index {index.name}"):
            super().create_index(index, **kw)

    def drop_index(self, index: Index, **kw: Any) -> None:
        """DROP INDEX, unless it was there."""
        if not self.keeps(f"index {index.name}"):
            super().drop_index(index, **kw)


class _Statement(MigrateOperation):
    """One statement on one object: ``key`` names the object in manifests, ``sql`` makes or drops it."""

    def __init__(self, key: str, sql: str) -> None:
        """Keep the object's key and the statement."""
        self.key = key
        self.sql = sql


def _invoke(operations: Operations, key: str, sql: str) -> None:
    operations.invoke(_Statement(key, sql))


@Operations.implementation_for(_Statement)
def _run_statement(operations: Operations, operation: _Statement) -> None:
    """Run the statement, unless its object was there before us."""
    if not operations.impl.keeps(operation.key):  # type: ignore[union-attr]
        operations.execute(text(operation.sql.replace(":", r"\:")))


@Operations.register_operation("create_enum")
class CreateEnum(MigrateOperation):
    """Namespace of ``op.create_enum``."""

    @classmethod
    def create_enum(cls, operations: Operations, name: str, labels: list[str]) -> None:
        """CREATE TYPE ``name`` AS ENUM, labels in this order."""
        literals = ", ".join("'" + label.replace("'", "''") + "'" for label in labels)
        _invoke(operations, f"type {name}", f"CREATE TYPE {quote(name)} AS ENUM ({literals})")


@Operations.register_operation("drop_enum")
class DropEnum(MigrateOperation):
    """Namespace of ``op.drop_enum``."""

    @classmethod
    def drop_enum(cls, operations: Operations, name: str) -> None:
        """DROP TYPE ``name``."""
        _invoke(operations, f"type {name}", f"DROP TYPE {quote(name)}")


@Operations.register_operation("create_function")
class CreateFunction(MigrateOperation):
    """Namespace of ``op.create_function``."""

    @classmethod
    def create_function(cls, operations: Operations, signature: str, sql: str) -> None:
        """Run ``sql`` (a whole CREATE FUNCTION) to make ``signature``, written as ``name(argument types)``."""
        _invoke(operations, f"function {signature}", sql)


@Operations.register_operation("drop_function")
class DropFunction(MigrateOperation):
    """Namespace of ``op.drop_function``."""

    @classmethod
    def drop_function(cls, operations: Operations, signature: str) -> None:
        """DROP FUNCTION ``signature``."""
        _invoke(operations, f"function {signature}", f"DROP FUNCTION {signature}")


@Operations.register_operation("create_trigger")
class CreateTrigger(MigrateOperation):
    """Namespace of ``op.create_trigger``."""

    @classmethod
    def create_trigger(cls, operations: Operations, name: str, table: str, sql: str) -> None:
        """Run ``sql`` (a whole CREATE TRIGGER) to make trigger ``name`` on ``table``."""
        _invoke(operations, f"trigger {name} on {table}", sql)


@Operations.register_operation("drop_trigger")
class DropTrigger(MigrateOperation):
    """Namespace of ``op.drop_trigger``."""

    @classmethod
    def drop_trigger(cls, operations: Operations, name: str, table: str) -> None:
        """DROP TRIGGER ``name`` ON ``table``."""
        _invoke(operations, f"trigger {name} on {table}", f"DROP TRIGGER {quote(name)} ON {quote(table)}")


@Operations.register_operation("create_view")
class CreateView(MigrateOperation):
    """Namespace of ``op.create_view``."""

    @classmethod
    def create_view(cls, operations: Operations, name: str, query: str, comment: str | None = None) -> None:
        """CREATE VIEW ``name`` AS ``query``, with a comment."""
        _invoke(operations, f"view {name}", f"CREATE VIEW {quote(name)} AS\n{query}")
        if comment is not None:
            literal = comment.replace("'", "''")
            _invoke(operations, f"view {name}", f"COMMENT ON VIEW {quote(name)} IS '{literal}'")


@Operations.register_operation("drop_view")
class DropView(MigrateOperation):
    """Namespace of ``op.drop_view``."""

    @classmethod
    def drop_view(cls, operations: Operations, name: str) -> None:
        """DROP VIEW ``name``."""
        _invoke(operations, f"view {name}", f"DROP VIEW {quote(name)}")


@Operations.register_operation("backfill")
class Backfill(MigrateOperation):
    """Namespace of ``op.backfill``."""

    @classmethod
    def backfill(cls, operations: Operations, table: str, statement: str) -> None:
        """Run one INSERT or UPDATE on ``table`` while other people's triggers on it keep still.

        Every trigger gets its exact enabled state back; pending deferred triggers are fired first, because ALTER TABLE
        refuses while there are some (https://www.postgresql.org/docs/current/sql-altertable.html, DISABLE TRIGGER).
        """
        operations.execute(quietly(table, statement))


@Operations.register_operation("ensure_random_uuid")
class EnsureRandomUuid(MigrateOperation):
    """Namespace of ``op.ensure_random_uuid``."""

    @classmethod
    def ensure_random_uuid(cls, operations: Operations) -> None:
        """Make sure that ``gen_random_uuid()`` is there (extension pgcrypto on PostgreSQL 12)."""
        _invoke(operations, "extension pgcrypto", ENSURE_RANDOM_UUID)


@Operations.register_operation("drop_random_uuid")
class DropRandomUuid(MigrateOperation):
    """Namespace of ``op.drop_random_uuid``."""

    @classmethod
    def drop_random_uuid(cls, operations: Operations) -> None:
        """Drop the extension that ``ensure_random_uuid`` made, if it did."""
        _invoke(operations, "extension pgcrypto", _DROP_RANDOM_UUID)
