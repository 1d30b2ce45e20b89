"""Every kind of single damage to every object that we own, generated from what the catalogs say of them.

``%`` is doubled nowhere: the cases are run through the driver itself.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rollout.checks.legacy import KEYS, NEEDED, NEEDED_LABELS
from rollout.checks.seeds import seeds
from rollout.findings import ERROR, WARNING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rollout.catalog import Definition
    from rollout.manifest import Manifest

NOBODY = "'00000000-0000-4000-8000-000000000000'"
SECRETS = ("password_hash", "access_token", "refresh_token", "id_token")


@dataclass(frozen=True)
class Case:
    """One damage: after ``sql``, a finding of ``severity`` (or worse) must name one of ``subjects``."""

    kind: str
    sql: str
    subjects: tuple[str, ...]
    severity: str = ERROR
    area: str = "structure"
    since: int = 12

    def __str__(self) -> str:
        """Name it."""
        return f"{self.kind}: {self.subjects[0]}"


def structure(manifest: Manifest, keys: list[str]) -> Iterator[Case]:
    """Yield every damage to the definition of these objects."""
    makers = {
        "table": _tables, "column": _columns, "constraint": _constraints, "index": _indexes, "trigger": _triggers,
        "function": _functions, "view": _views, "sequence": _sequences, "type": _types,
    }  # fmt: skip
    for key in keys:
        kind, _, name = key.partition(" ")
        yield from makers[kind](name, manifest.objects[key], manifest)


def _tables(name: str, values: Definition, manifest: Manifest) -> Iterator[Case]:
    """Yield damages to a table as a whole."""
    of = (name,)
    yield Case("drop table", f"DROP TABLE {name} CASCADE", of)
    yield Case("rename table", f"ALTER TABLE {name} RENAME TO {name}_old", of)
    yield Case("move table", f"CREATE SCHEMA elsewhere; ALTER TABLE {name} SET SCHEMA elsewhere", of)
    yield Case("unlog table", f"ALTER TABLE {name} SET UNLOGGED", of)
    yield Case(
        "view instead of table",
        f"ALTER TABLE {name} RENAME TO {name}_old; CREATE VIEW {name} AS SELECT * FROM {name}_old",
        of,
    )
    yield Case("enable row security", f"ALTER TABLE {name} ENABLE ROW LEVEL SECURITY", of)
    yield Case("force row security", f"ALTER TABLE {name} FORCE ROW LEVEL SECURITY", of)
    yield Case("inherit from table", f"CREATE TABLE child () INHERITS ({name})", of)
    yield Case("add policy", f"CREATE POLICY p ON {name} USING (true)", (f"p on {name}",))
    for event in ("INSERT", "UPDATE", "DELETE"):
        yield Case("add rule", f"CREATE RULE r AS ON {event} TO {name} DO INSTEAD NOTHING", (f"r on {name}",))
    yield Case("add column", f"ALTER TABLE {name} ADD COLUMN more integer", (f"{name}.more",), WARNING)
    yield Case("add constraint", f"ALTER TABLE {name} ADD CONSTRAINT more CHECK (true)", (f"{name}.more",), WARNING)
    yield Case(
        "add trigger",
        "CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';"
        f"CREATE TRIGGER t BEFORE INSERT ON {name} FOR EACH ROW EXECUTE FUNCTION nothing()",
        (f"t on {name}",),
        WARNING,
    )
    column = next(key.rpartition(".")[2] for key in manifest.objects if key.startswith(f"column {name}."))
    yield Case("add index", f"CREATE INDEX more ON {name} (({column} IS NULL))", ("more",), WARNING)
    for right in ("SELECT", "INSERT", "DELETE", "TRUNCATE", f"UPDATE ({column})"):
        yield Case("give to everybody", f"GRANT {right} ON {name} TO PUBLIC", of, WARNING, area="security")
    yield Case("change table options", f"ALTER TABLE {name} SET (fillfactor = 50)", of, WARNING)
    yield Case(
        "change access method",
        "CREATE ACCESS METHOD other TYPE TABLE HANDLER heap_tableam_handler;"
        f"ALTER TABLE {name} SET ACCESS METHOD other",
        of,
        WARNING,
        since=15,
    )
    if any(key.startswith(f"column {name}.") and one["type"] == "jsonb" for key, one in manifest.objects.items()):
        yield Case(
            "change options of long values", f"ALTER TABLE {name} SET (toast.autovacuum_enabled = off)", of, WARNING
        )
    yield Case("change replica identity", f"ALTER TABLE {name} REPLICA IDENTITY FULL", of, WARNING)
    yield Case(
        "change owner", f"CREATE ROLE stranger; ALTER TABLE {name} OWNER TO stranger", of, WARNING, area="security"
    )
    hidden = f"UPDATE pg_class SET relhasindex = false WHERE oid = '{name}'::regclass"
    yield Case("indexes hidden", hidden, of)
    if "comment" in values:
        yield Case("drop comment", f"COMMENT ON TABLE {name} IS NULL", of, WARNING)
        yield Case("change comment", f"COMMENT ON TABLE {name} IS 'x'", of, WARNING)
    keys = [key.removeprefix("constraint ") for key, one in manifest.objects.items() if one.get("table") == name]
    if keys:
        enforced = tuple(
            key.removeprefix("constraint ")
            for key, one in manifest.objects.items()
            if one.get("table") == name and one.get("type") == "f"
        )
        if enforced:
            yield Case("disable all triggers", f"ALTER TABLE {name} DISABLE TRIGGER ALL", enforced)
            yield Case("triggers for replicas", _replica_only(name), enforced)


def _replica_only(table: str) -> str:
    """Return SQL that leaves a foreign key's triggers to replicas."""
    return f"""UPDATE pg_trigger SET tgenabled = 'R' WHERE tgrelid = '{table}'::regclass AND tgisinternal"""


_OTHER_TYPES = {
    "uuid": ("text",), "timestamp with time zone": ("timestamp", "timestamptz(0)", "date"),
    "integer": ("bigint", "smallint", "numeric"), "bigint": ("integer", "numeric"), "jsonb": ("json", "text"),
    "text": ("varchar(10000)",), "boolean": ("text",), "date": ("timestamp", "timestamptz"),
    "numeric": ("numeric(38,9)",),
}  # fmt: skip
_OTHER_DEFAULTS = {
    "uuid": NOBODY, "timestamp with time zone": "'2000-01-01'", "integer": "42", "bigint": "42",
    "jsonb": "'{\"x\": 1}'",
    "text": "'x'", "date": "'2000-01-01'", "numeric": "42",
}  # fmt: skip


def _other_types(kind: str) -> tuple[str, ...]:
    """Return types that a column's values still fit, mostly."""
    match = re.fullmatch(r"(numeric|character varying)\((\d+)(?:,(\d+))?\)", kind)
    if match is None:
        return _OTHER_TYPES.get(kind, ("text",))
    size = int(match[2])
    if match[1] == "character varying":
        return f"varchar({size + 1})", "text", "varchar", f"char({size})"
    return f"numeric({size + 1},{match[3]})", "numeric", "double precision", f"numeric({size + 1},{int(match[3]) + 1})"


def _columns(name: str, values: Definition, manifest: Manifest) -> Iterator[Case]:
    """Yield damages to a column."""
    table, _, column = name.rpartition(".")
    of, alter, kind = (name,), f"ALTER TABLE {table} ALTER COLUMN {column}", values["type"]
    yield Case("change comment", f"COMMENT ON COLUMN {name} IS 'x'", of, WARNING)
    if f"view {table}" in manifest:
        yield Case("rename view column", f"ALTER VIEW {table} RENAME COLUMN {column} TO {column}_old", of, since=13)
        return
    yield Case("drop column", f"ALTER TABLE {table} DROP COLUMN {column} CASCADE", of)
    yield Case("rename column", f"ALTER TABLE {table} RENAME COLUMN {column} TO {column}_old", of)
    default = values.get("default")
    for other in _other_types(kind):
        sql = f"{alter} TYPE {other} USING {column}::{other}"
        if default is not None:
            sql = f"{alter} DROP DEFAULT; {sql}; {alter} SET DEFAULT {default}"
        yield Case("retype column", sql, of)
    if kind.startswith(("character varying", "text")):
        yield Case("change collation", f'{alter} TYPE {kind} COLLATE "POSIX"', of)
        yield Case("change compression", f"{alter} SET COMPRESSION pglz", of, WARNING, since=14)
    yield from _nulls(name, values)
    yield from _defaults(name, values)
    if "comment" in values:
        yield Case("drop comment", f"COMMENT ON COLUMN {name} IS NULL", of, WARNING)
    if column in SECRETS:
        for what in (f"SELECT ({column})", "SELECT", "ALL"):
            yield Case("let everybody read", f"GRANT {what} ON {table} TO PUBLIC", of, WARNING, area="security")


def _nulls(name: str, values: Definition) -> Iterator[Case]:
    """Yield a column that takes NULL, or takes none, or may hold some though it takes none."""
    table, _, column = name.rpartition(".")
    alter = f"ALTER TABLE {table} ALTER COLUMN {column}"
    if values.get("not_null"):
        yield Case("drop not null", f"{alter} DROP NOT NULL", (name,))
        again = f"ALTER TABLE {table} ADD CONSTRAINT n NOT NULL {column} NOT VALID"
        yield Case("not null not valid", f"{alter} DROP NOT NULL; {again}", (name,), since=18)
    elif table != "users":
        yield Case("set not null", f"DELETE FROM {table} WHERE {column} IS NULL; {alter} SET NOT NULL", (name,))


def _defaults(name: str, values: Definition) -> Iterator[Case]:
    """Yield a column with another default, or none, or another identity."""
    table, _, column = name.rpartition(".")
    alter, kind, default = f"ALTER TABLE {table} ALTER COLUMN {column}", values["type"], values.get("default")
    if "identity" in values:
        yield Case("drop identity", f"{alter} DROP IDENTITY", (name,))
        yield Case("change identity", f"{alter} SET GENERATED ALWAYS", (name,))
        return
    other = _OTHER_DEFAULTS.get(kind.partition("(")[0], "'x'")
    if kind == "boolean":
        other = f"NOT {default}" if default else "true"
    if not kind.endswith(("status", "mode", "type")):  # an enum of the core
        yield Case("change default", f"{alter} SET DEFAULT {other}", (name,))
    if default is not None:
        yield Case("drop default", f"{alter} DROP DEFAULT", (name,))
    if kind in {"integer", "bigint"} and values.get("not_null"):
        drop = f"{alter} DROP DEFAULT; " if default is not None else ""
        yield Case("add identity", f"{drop}{alter} ADD GENERATED ALWAYS AS IDENTITY", (name,))


_ACTIONS = ("CASCADE", "SET NULL", "SET DEFAULT", "RESTRICT", "NO ACTION")


def _constraints(name: str, values: Definition, manifest: Manifest) -> Iterator[Case]:
    """Yield damages to a constraint: what holds of all, then of its kind."""
    table, _, constraint = name.rpartition(".")
    of, definition = (name,), values["definition"]
    yield Case("drop constraint", f"ALTER TABLE {table} DROP CONSTRAINT {constraint} CASCADE", of)
    yield Case("rename constraint", f"ALTER TABLE {table} RENAME CONSTRAINT {constraint} TO other", of, WARNING)
    yield Case("comment constraint", f"COMMENT ON CONSTRAINT {constraint} ON {table} IS 'x'", of, WARNING)
    others = {"f": _other_keys, "c": _other_checks, "p": _other_uniques, "u": _other_uniques}
    for kind, other, since in others[values["type"]](table, values, manifest):
        sql = f"ALTER TABLE {table} DROP CONSTRAINT {constraint} CASCADE, ADD CONSTRAINT {constraint} {other}"
        yield Case(kind, sql, of, since=since)
    if values["type"] in "pu":
        drop = f"ALTER TABLE {table} DROP CONSTRAINT {constraint} CASCADE; CREATE"
        columns = values["columns"]
        listed = ", ".join(columns)
        yield Case("cluster on constraint", f"ALTER TABLE {table} CLUSTER ON {constraint}", of, WARNING)
        yield Case("index instead of constraint", f"{drop} UNIQUE INDEX {constraint} ON {table} ({listed})", of)
        yield Case("plain index instead of constraint", f"{drop} INDEX {constraint} ON {table} ({listed})", of)
        for field, value in (
            ("indisvalid", "false"),
            ("indisready", "false"),
            ("indisunique", "false"),
            ("indimmediate", "false"),
            ("indislive", "false"),
            ("indkey", f"'{' '.join(['9'] * len(columns))}'"),
            ("indoption", f"'{' '.join(['3'] * len(columns))}'"),
            ("indcollation", f"'{' '.join(['950'] * len(columns))}'"),
            ("indpred", "(SELECT indpred FROM pg_index WHERE indpred IS NOT NULL LIMIT 1)"),
        ):
            yield Case(f"constraint's {field}", _tamper(table, constraint, field, value), of)
    else:
        tampered = f"UPDATE pg_constraint SET convalidated = false WHERE conname = '{constraint}'"
        yield Case("constraint not validated", tampered, of)
    if values["type"] == "f":
        off = (
            "SELECT tgrelid::regclass, tgname FROM pg_trigger JOIN pg_constraint c ON c.oid = tgconstraint"
            f" WHERE conname = '{constraint}'"
        )
        yield Case(
            "disable a key's triggers",
            f"DO $$ DECLARE r record; BEGIN FOR r IN {off} LOOP EXECUTE format('ALTER TABLE %s DISABLE TRIGGER %I',"
            " r.tgrelid, r.tgname); END LOOP; END $$",
            of,
        )
        gone = (
            f"DELETE FROM pg_trigger g USING pg_constraint c WHERE c.oid = g.tgconstraint AND conname = '{constraint}'"
        )
        referred = definition.partition(" REFERENCES ")[2].partition("(")[0]
        elsewhere = next(one for one in ("roles", "tenants", "clients") if one not in {table, referred})
        keeps = f"FROM pg_constraint c WHERE c.oid = tgconstraint AND conname = '{constraint}' AND tgfoid ="
        for field, value, function in (
            ("function", "tgfoid = 'suppress_redundant_updates_trigger'::regproc", "check_ins"),
            ("function", "tgfoid = '\"RI_FKey_setdefault_upd\"'::regproc", "check_upd"),
            ("event", "tgtype = 9", "check_ins"),
            ("table", f"tgrelid = '{elsewhere}'::regclass", "check_ins"),
            ("other table", f"tgconstrrelid = '{elsewhere}'::regclass", "check_upd"),
            ("column", "tgattr = '1'", "check_upd"),
            ("condition", "tgqual = (SELECT tgqual FROM pg_trigger WHERE tgqual IS NOT NULL LIMIT 1)", "check_ins"),
        ):
            edited = f"""UPDATE pg_trigger SET {value} {keeps} '"RI_FKey_{function}"'::regproc"""
            yield Case(f"a key's trigger with another {field}", edited, of)
        yield Case("a key's triggers gone", f"{gone} AND g.tgrelid = '{table}'::regclass", of)
        yield Case("disable all triggers of the referred table", f"ALTER TABLE {referred} DISABLE TRIGGER ALL", of)


def _tamper(table: str, index: str, field: str, value: str) -> str:
    """Return SQL that edits the catalog's entry of an index, as a crash or a superuser may leave it.

    It names the table: other damages to that must not come together with it. An index that says it is of another column
    crashes the server as soon as the table is rewritten.
    """
    row = f"('{index}'::regclass, '{table}'::regclass)"
    return f"UPDATE pg_index SET {field} = {value} WHERE (indexrelid, indrelid) = {row}"


def _other_keys(table: str, values: Definition, manifest: Manifest) -> Iterator[tuple[str, str, int]]:
    """Yield other foreign keys on the same columns."""
    match = re.fullmatch(r"(FOREIGN KEY \((\w+)\) REFERENCES (\w+)\((\w+)\))(?: ON DELETE (.+))?", values["definition"])
    assert match, values
    plain, column, referred, key, action = match.groups()
    as_it_was = f" ON DELETE {action}" if action else ""
    for other in _ACTIONS:
        if other != (action or "NO ACTION"):
            yield "other ON DELETE", f"{plain} ON DELETE {other}", 12
    for other in _ACTIONS[:-1]:
        yield "other ON UPDATE", f"{plain} ON UPDATE {other}{as_it_was}", 12
    yield "deferrable key", f"{plain}{as_it_was} DEFERRABLE", 12
    yield "deferred key", f"{plain}{as_it_was} DEFERRABLE INITIALLY DEFERRED", 12
    yield "key not validated", f"{plain}{as_it_was} NOT VALID", 12
    yield "other match", f"{plain.replace(f'{referred}({key})', f'{referred}({key}) MATCH FULL')}{as_it_was}", 12
    yield "key not enforced", f"{plain}{as_it_was} NOT ENFORCED", 18
    kind = manifest.objects[f"column {table}.{column}"]["type"]
    if kind == "uuid":
        other = "tenants" if referred != "tenants" else "cases"
        yield "other referred table", f"FOREIGN KEY ({column}) REFERENCES {other}(id){as_it_was}", 12
        for candidate in manifest.objects:
            if candidate.startswith(f"column {table}.") and manifest.objects[candidate]["type"] == "uuid":
                other = candidate.rpartition(".")[2]
                if other != column:
                    yield "other column", f"FOREIGN KEY ({other}) REFERENCES {referred}({key}){as_it_was}", 12


def _other_checks(_table: str, values: Definition, _manifest: Manifest) -> Iterator[tuple[str, str, int]]:
    """Yield checks that accept something else, and those that are not for all rows."""
    expression = values["definition"].removeprefix("CHECK (").removesuffix(")")
    column = values["columns"][0]
    yield "check that accepts all", "CHECK (true)", 12
    yield "check that forbids nothing but NULL", f"CHECK ({column} IS NOT NULL)", 12
    yield "wider check", f"CHECK ({expression} OR {column} IS NOT NULL)", 12
    yield "wider check by a function", f"CHECK ({expression} OR length({column}::text) = 17)", 12
    yield "narrower check", f"CHECK ({expression} AND {column} IS NOT NULL)", 12
    yield "check not validated", f"CHECK ({expression}) NOT VALID", 12
    yield "check not inherited", f"CHECK ({expression}) NO INHERIT", 12
    yield "check not enforced", f"CHECK ({expression}) NOT ENFORCED", 18
    labels = re.findall(r"'([^']*)'::character varying", expression)
    if labels:
        yield "one label more", f"CHECK ({expression} OR {column} = 'zz')", 12
        yield "one label more, by list", f"CHECK ({column} IN ({', '.join(repr(one) for one in (*labels, 'x'))}))", 12
        yield "another label", f"CHECK ({column} IN ({', '.join(repr(one) for one in (*labels[1:], 'x'))}))", 12
    for label in labels:
        yield "one label less", f"CHECK ({expression} AND {column} <> '{label}') NOT VALID", 12
    for number in dict.fromkeys(re.findall(r"\b\d+\b", expression)):
        for other in (int(number) - 1, int(number) + 1, 10**6):
            shifted = re.sub(rf"\b{number}\b", str(other), expression)
            yield "other limit", f"CHECK ({shifted}) NOT VALID", 12
    for operator, other in ((">=", ">"), ("<=", "<"), (" = (", " >= ("), ("+", "-"), (" > ", " >= ")):
        if operator in expression:
            yield "other operator", f"CHECK ({expression.replace(operator, other, 1)}) NOT VALID", 12


def _other_uniques(table: str, values: Definition, manifest: Manifest) -> Iterator[tuple[str, str, int]]:
    """Yield other primary keys and unique constraints."""
    word = values["definition"].partition(" (")[0]
    columns = values["columns"]
    yield "deferrable constraint", f"{word} ({', '.join(columns)}) DEFERRABLE", 12
    if word == "UNIQUE":
        yield "nulls not distinct", f"UNIQUE NULLS NOT DISTINCT ({', '.join(columns)})", 15
    if len(columns) > 1:
        yield "columns the other way round", f"{word} ({', '.join(reversed(columns))})", 12
        yield "a column less", f"{word} ({columns[0]})", 12
    others = [key.rpartition(".")[2] for key in manifest.objects if key.startswith(f"column {table}.")]
    jsonless = [
        one for one in others if one not in columns and "json" not in manifest.objects[f"column {table}.{one}"]["type"]
    ]
    if jsonless:
        yield "a column more", f"UNIQUE ({', '.join([*columns, jsonless[0]])})", 12
        yield "a column included", f"{word} ({', '.join(columns)}) INCLUDE ({jsonless[0]})", 12


def _indexes(name: str, values: Definition, manifest: Manifest) -> Iterator[Case]:
    """Yield damages to an index."""
    of, table = (name,), values["table"]
    match = re.fullmatch(
        r"CREATE (UNIQUE )?INDEX ON public\.\w+ USING btree \(([^)]+)\)(?: WHERE (.+))?", values["definition"]
    )
    assert match, values
    unique, columns, predicate = match[1] or "", match[2], f" WHERE {match[3]}" if match[3] else ""
    first = columns.split(", ")[0].split()[0]
    yield Case("drop index", f"DROP INDEX {name}", of)
    yield Case("rename index", f"ALTER INDEX {name} RENAME TO other", of, WARNING)
    yield Case("comment index", f"COMMENT ON INDEX {name} IS 'x'", of, WARNING)
    yield Case("cluster on index", f"ALTER TABLE {table} CLUSTER ON {name}", of, WARNING)
    yield Case("change index options", f"ALTER INDEX {name} SET (fillfactor = 50)", of, WARNING)
    for field in ("indisvalid", "indisready", "indislive"):
        yield Case(f"index's {field}", _tamper(table, name, field, "false"), of)
    others = [
        key.rpartition(".")[2]
        for key, one in manifest.objects.items()
        if key.startswith(f"column {table}.") and "json" not in one["type"] and key.rpartition(".")[2] not in columns
    ]

    def again(kind: str, rest: str, how: str = unique) -> Case:
        return Case(kind, f"DROP INDEX {name}; CREATE {how}INDEX {name} ON {table} {rest}", of)

    yield again("other column", f"({others[0]}){predicate}")
    yield again("a column more", f"({columns}, {others[0]}){predicate}")
    yield again("a column before", f"({others[0]}, {columns}){predicate}")
    yield again("a column included", f"({columns}) INCLUDE ({others[0]}){predicate}")
    yield again("other order", f"({columns.replace(' DESC', '')} {'ASC' if 'DESC' in columns else 'DESC'}){predicate}")
    yield again("nulls first", f"({columns} {'NULLS LAST' if 'DESC' in columns else 'NULLS FIRST'}){predicate}")
    yield again("brin", f"USING brin ({columns.replace(' DESC', '')}){predicate}", "")
    yield again("expression", f"(({first}::text)){predicate}")
    if "," in columns:
        yield again("a column less", f"({first}){predicate}")
        yield again("columns the other way round", f"({', '.join(reversed(columns.replace(' DESC', '').split(', ')))})")
    else:
        yield again("hash", f"USING hash ({columns.replace(' DESC', '')}){predicate}", "")
    if predicate:
        yield again("no predicate", f"({columns})")
        yield again("the other predicate", f"({columns}) WHERE NOT {match[3]}")
    else:
        yield again("a predicate", f"({columns}) WHERE {first} IS NOT NULL")
        yield again("a predicate that is false", f"({columns}) WHERE false")
    if unique:
        yield again("not unique", f"({columns}){predicate}", "")
    else:
        yield (
            Case(
                "unique",
                f"DROP INDEX {name}; DELETE FROM {table}; CREATE UNIQUE INDEX {name} ON {table} ({columns}){predicate}",
                of,
            )
            if table != "users"
            else again("unique", f"({columns}, id){predicate}", "UNIQUE ")
        )


def _triggers(name: str, values: Definition, _manifest: Manifest) -> Iterator[Case]:
    """Yield damages to a trigger."""
    trigger, _, table = name.partition(" on ")
    of, definition = (name,), values["definition"]
    yield Case("drop trigger", f"DROP TRIGGER {trigger} ON {table}", of)
    yield Case("rename trigger", f"ALTER TRIGGER {trigger} ON {table} RENAME TO other", of)
    for how in ("DISABLE", "ENABLE REPLICA", "ENABLE ALWAYS"):
        yield Case(f"{how.lower()} trigger", f"ALTER TABLE {table} {how} TRIGGER {trigger}", of)
    yield Case("disable user triggers", f"ALTER TABLE {table} DISABLE TRIGGER USER", of)
    yield Case("comment trigger", f"COMMENT ON TRIGGER {trigger} ON {table} IS 'x'", of, WARNING)
    when = definition[definition.index(" WHEN (") : definition.index(" EXECUTE ")]
    function = definition[definition.index(" EXECUTE ") :]
    column = "updated_at"
    others = {
        "other event": f"BEFORE UPDATE OF {column} ON {table} FOR EACH ROW{when}{function}",
        "more events": f"BEFORE INSERT OR UPDATE ON {table} FOR EACH ROW{function}",
        "other timing": f"AFTER UPDATE ON {table} FOR EACH ROW{when}{function}",
        "no condition": f"BEFORE UPDATE ON {table} FOR EACH ROW{function}",
        "other condition": f"BEFORE UPDATE ON {table} FOR EACH ROW WHEN (OLD.updated_at < NEW.updated_at){function}",
        "condition that is false": f"BEFORE UPDATE ON {table} FOR EACH ROW WHEN (false){function}",
        "other argument": f"BEFORE UPDATE ON {table} FOR EACH ROW{when}{function.replace('()', '(1)')}",
        "other function": f"BEFORE UPDATE ON {table} FOR EACH ROW{when} EXECUTE FUNCTION"
        " suppress_redundant_updates_trigger()",
    }
    for schema in ("elsewhere", "pg_catalog"):
        made = "CREATE SCHEMA elsewhere;" if schema == "elsewhere" else ""
        same = f"{schema}.{function.rpartition(' ')[2]}"
        yield Case(
            f"function of the same name in {schema}",
            f"{made} CREATE FUNCTION {same} RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';"
            f"UPDATE pg_trigger SET tgfoid = '{same}'::regprocedure"
            f" WHERE tgname = '{trigger}' AND tgrelid = '{table}'::regclass",
            of,
        )
    for kind, rest in others.items():
        yield Case(kind, f"DROP TRIGGER {trigger} ON {table}; CREATE TRIGGER {trigger} {rest}", of)


def _functions(name: str, _values: Definition, _manifest: Manifest) -> Iterator[Case]:
    """Yield damages to our trigger function."""
    of = (name,)
    yield Case("drop function", f"DROP FUNCTION {name} CASCADE", of)
    yield Case("rename function", f"ALTER FUNCTION {name} RENAME TO other", of)
    for how in ("STABLE", "SECURITY DEFINER", "COST 1", "LEAKPROOF", "PARALLEL SAFE", "STRICT", "SET search_path = x"):
        yield Case("alter function", f"ALTER FUNCTION {name} {how}", of)
    head = f"CREATE OR REPLACE FUNCTION {name} RETURNS trigger LANGUAGE"
    for body in (
        "BEGIN RETURN NEW; END",
        "BEGIN RETURN NULL; END",
        "BEGIN RETURN OLD; END",
        "\nBEGIN\n    NEW.updated_at = clock_timestamp();\n    RETURN NEW;\nEND\n",
        "\nBEGIN\n    NEW.updated_at = now();\n    RETURN OLD;\nEND\n",
    ):
        yield Case("other body", f"{head} plpgsql AS $x${body}$x$", of)
    yield Case("other language", f"{head} internal AS 'suppress_redundant_updates_trigger'", of)
    yield Case("comment function", f"COMMENT ON FUNCTION {name} IS 'x'", of, WARNING)
    owner = f"CREATE ROLE stranger; ALTER FUNCTION {name} OWNER TO stranger"
    yield Case("change owner", owner, of, WARNING, area="security")


def _views(name: str, values: Definition, manifest: Manifest) -> Iterator[Case]:
    """Yield damages to a view."""
    of, query = (name,), values["query"].rstrip().rstrip(";")
    column = next(
        key.rpartition(".")[2]
        for key, one in manifest.objects.items()
        if key.startswith(f"column {name}.") and one["type"] in {"integer", "bigint"}
    )
    yield Case("drop view", f"DROP VIEW {name}", of)
    yield Case("rename view", f"ALTER VIEW {name} RENAME TO other", of)
    for other in (
        f"SELECT * FROM ({query}) AS q WHERE false",
        f"SELECT * FROM ({query}) AS q LIMIT 10",
        f"{query} UNION ALL {query}",
    ):
        yield Case("other query", f"CREATE OR REPLACE VIEW {name} AS {other}", of)
    for word, replacement in (
        ("Lawyer", "Admin"),
        ("accepted", "pending"),
        ("LEFT JOIN profiles", "JOIN profiles"),
        ("avg(", "max("),
        ("details.success_rate", "details.quality_score"),
    ):
        if word in query:
            changed = query.replace(word, replacement, 1)
            yield Case("other query", f"CREATE OR REPLACE VIEW {name} AS {changed}", of)
    yield Case("rule hidden", f"UPDATE pg_class SET relhasrules = false WHERE oid = '{name}'::regclass", of)
    off = f"UPDATE pg_rewrite SET ev_enabled = 'D' WHERE ev_class = '{name}'::regclass"
    yield Case("rule disabled", off, of)
    yield Case("view option", f"ALTER VIEW {name} SET (security_barrier = true)", of)
    yield Case("view option", f"ALTER VIEW {name} SET (security_invoker = true)", of, since=15)
    yield Case("materialized view", f"DROP VIEW {name}; CREATE MATERIALIZED VIEW {name} AS {query}", of)
    yield Case(
        "table instead of view",
        f"CREATE TEMP TABLE q AS {query}; DROP VIEW {name}; CREATE TABLE {name} AS SELECT * FROM q",
        of,
    )
    yield Case("view default", f"ALTER VIEW {name} ALTER COLUMN {column} SET DEFAULT 1", (f"{name}.{column}",))
    yield Case("view rule", f"CREATE RULE r AS ON INSERT TO {name} DO INSTEAD NOTHING", (f"r on {name}",))
    yield Case("drop comment", f"COMMENT ON VIEW {name} IS NULL", of, WARNING)
    owner = f"CREATE ROLE stranger; ALTER VIEW {name} OWNER TO stranger"
    yield Case("change owner", owner, of, WARNING, area="security")


def _sequences(name: str, _values: Definition, _manifest: Manifest) -> Iterator[Case]:
    """Yield damages to a sequence."""
    of = (name,)
    yield Case("drop sequence", f"DROP SEQUENCE {name} CASCADE", of)
    yield Case("rename sequence", f"ALTER SEQUENCE {name} RENAME TO other", of)
    yield Case("free sequence", f"ALTER SEQUENCE {name} OWNED BY NONE", of)
    yield Case("other owner column", f"ALTER SEQUENCE {name} OWNED BY user_accounts.scope", of)
    for how in (
        "INCREMENT 2",
        "INCREMENT -1",
        "MAXVALUE 1000000",
        "MINVALUE -5",
        "CYCLE",
        "CACHE 100",
        "START 5",
        "AS smallint MAXVALUE 100",
    ):
        yield Case("alter sequence", f"ALTER SEQUENCE {name} {how}", of)
    yield Case("unlog sequence", f"ALTER SEQUENCE {name} SET UNLOGGED", of, since=15)
    yield Case("comment sequence", f"COMMENT ON SEQUENCE {name} IS 'x'", of, WARNING)


def _types(name: str, values: Definition, _manifest: Manifest) -> Iterator[Case]:
    """Yield damages to an enum type."""
    of, labels = (name,), values["labels"]
    yield Case("drop type", f"DROP TYPE {name} CASCADE", of)
    yield Case("rename type", f"ALTER TYPE {name} RENAME TO other", of)
    for label in labels:
        yield Case("rename label", f"ALTER TYPE {name} RENAME VALUE '{label}' TO 'OTHER'", of)
    swaps = ((labels[0], "x"), (labels[1], labels[0]), ("x", labels[1]))
    swapped = ";".join(f"ALTER TYPE {name} RENAME VALUE '{old}' TO '{new}'" for old, new in swaps)
    yield Case("labels in another order", swapped, of)
    yield Case("add label", f"ALTER TYPE {name} ADD VALUE 'OTHER' BEFORE '{labels[0]}'", of)


def legacy(manifest: Manifest) -> Iterator[Case]:
    """Yield damages to the legacy core that was there before us, as far as we need it."""
    for table, columns in NEEDED.items():
        yield Case("legacy table gone", f"DROP TABLE {table} CASCADE", (table,))
        yield Case("legacy table renamed", f"ALTER TABLE {table} RENAME TO {table}_old", (table,))
        yield Case(
            "legacy table without key", f"ALTER TABLE {table} DROP CONSTRAINT {table}_pkey CASCADE", *_keyless(table)
        )
        yield Case("legacy rows hidden", f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY", (table,), WARNING)
        for policy in ("USING (false)", "AS RESTRICTIVE USING (false)"):
            hidden = f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON {table} {policy}"
            yield Case("legacy rows hidden by a policy", hidden, (table,), WARNING)
        if table in {"profiles", "user_roles"}:  # nothing refers to them
            yield Case("legacy table not logged", f"ALTER TABLE {table} SET UNLOGGED", (table,), WARNING)
        for event in ("INSERT", "UPDATE", "DELETE"):
            rule = f"CREATE RULE r AS ON {event} TO {table} DO INSTEAD NOTHING"
            yield Case("legacy rule", rule, (f"r on {table}",), WARNING)
        for field in ("relhasindex", "relhastriggers"):
            edited = f"UPDATE pg_class SET {field} = false WHERE oid = '{table}'::regclass"
            yield Case(f"legacy {field}", edited, (table,))
        for column in columns:
            of, alter = (f"{table}.{column}",), f"ALTER TABLE {table}"
            yield Case("legacy column gone", f"{alter} DROP COLUMN {column} CASCADE", of)
            yield Case("legacy column renamed", f"{alter} RENAME COLUMN {column} TO {column}_old", of)
            of_key = column in {"id", "user_id", "role_id"}
            if manifest.objects[f"column {table}.{column}"].get("not_null") and not of_key:
                yield Case("legacy column takes NULL", f"{alter} ALTER COLUMN {column} DROP NOT NULL", of, WARNING)
    yield from _legacy_guards()


def _legacy_guards() -> Iterator[Case]:
    """Yield labels, indexes and foreign keys of the legacy core that are gone or off, and the orphans of these."""
    for name, labels in NEEDED_LABELS.items():
        for label in sorted(labels):
            yield Case("legacy label gone", f"ALTER TYPE {name} RENAME VALUE '{label}' TO 'OTHER'", (name,))
    for column in ("email", "username"):
        yield Case("legacy index gone", f"DROP INDEX ix_users_{column}", (f"users.{column}",), WARNING)
        tampered = _tamper("users", f"ix_users_{column}", "indisvalid", "false")
        yield Case("legacy index invalid", tampered, (f"users.{column}",), WARNING)
    for table, column, other, _ in KEYS:
        of, alter = (f"{table}.{column}",), f"ALTER TABLE {table}"
        yield Case("legacy key gone", f"{alter} DROP CONSTRAINT {table}_{column}_fkey", of, WARNING)
        yield Case("legacy key off", f"{alter} DISABLE TRIGGER ALL", of, WARNING)
        if table == "profiles":
            continue
        orphan = f"{REPLICA} UPDATE {table} SET {column} = gen_random_uuid() WHERE {ONE.format(table)}"
        yield Case("legacy orphan", orphan, of, WARNING, "data")
        yield Case("legacy orphans", f"{REPLICA} DELETE FROM {other}", of, WARNING, "data")


def _keyless(table: str) -> tuple[tuple[str, ...], str]:
    """Return what is named where a table of the legacy core has no primary key, and how severely."""
    if table in {"users", "cases"}:
        return (f"{table}.id",), ERROR
    columns = {"profiles": "user_id", "user_roles": "role_id"}
    return (f"{table}.{columns.get(table, 'id')}",), WARNING


REPLICA = "SET LOCAL session_replication_role = replica;"


def data(manifest: Manifest, keys: list[str]) -> Iterator[Case]:
    """Yield damages to rows, those that foreign keys would stop among them: triggers are off."""
    for key in keys:
        if manifest.objects[key].get("type") == "f" and "feishu_auths" not in key:
            yield from _orphan(key.removeprefix("constraint "), manifest)
    yield from _initial_rows()
    yield from _workspaces()
    yield from _seeds()
    yield from _people()
    for key in keys:
        if key.startswith("sequence "):
            name, owner = key.removeprefix("sequence "), manifest.objects[key]["owned_by"]
            table, column = owner.split(".")
            row = "" if table == "lawyer_levels" else _row(table, {column: "7"}, manifest)
            # RESTART first: of a sequence that has a new file in this transaction, setval() is rolled back too.
            sql = f"{row}; ALTER SEQUENCE {name} RESTART; SELECT setval('{name}', 5)"
            end = f"ALTER SEQUENCE {name} RESTART; SELECT setval('{name}', {manifest.objects[key]['max']})"
            yield Case("sequence at its end", end, (name,), area="data")
            yield Case("sequence behind its column", f"{REPLICA}{sql}", (name,), area="data")


def _row(table: str, given: dict[str, str], manifest: Manifest) -> str:
    """Return an INSERT of one row that every constraint but foreign keys accepts."""
    values = {}
    for key, definition in manifest.objects.items():
        column = key.rpartition(".")[2]
        if not key.startswith(f"column {table}.") or (column not in given and not _needs_value(definition)):
            continue
        values[column] = given.get(column) or _value(table, column, definition["type"], manifest)
    return f"INSERT INTO {table} ({', '.join(values)}) VALUES ({', '.join(values.values())})"


def _needs_value(definition: Definition) -> bool:
    """Tell whether a column must be given."""
    return definition.get("not_null", False) and "default" not in definition and "identity" not in definition


def _value(table: str, column: str, kind: str, manifest: Manifest) -> str:
    """Return a value that fits a column: a reference where it is one, a label where a check wants one."""
    of_table = [one for one in manifest.objects.values() if one.get("table") == table]
    alone = any(one.get("columns") == [column] and one["type"] in "pu" for one in of_table if "type" in one)
    for one in of_table:
        if one.get("columns") == [column] and one.get("type") == "f" and not alone:
            referred, _, key = one["definition"].partition(" REFERENCES ")[2].partition(")")[0].partition("(")
            return f"coalesce((SELECT {key} FROM {referred} LIMIT 1), gen_random_uuid())"
        if one.get("columns") == [column] and one.get("type") == "c" and kind.startswith("character"):
            return re.findall(r"'[^']*'", one["definition"])[0]
    values = {"uuid": "gen_random_uuid()", "date": "current_date", "timestamp with time zone": "now()", "jsonb": "'{}'"}
    values |= {"integer": "1", "bigint": "0", "boolean": "true"}
    return values.get(kind, "1" if kind.startswith("numeric") else "'x'")


def _orphan(name: str, manifest: Manifest) -> Iterator[Case]:
    """Yield a row that refers to nothing by this foreign key."""
    table = name.rpartition(".")[0]
    column = manifest.objects[f"constraint {name}"]["columns"][0]
    kind = manifest.objects[f"column {table}.{column}"]["type"]
    row = _row(table, {column: "gen_random_uuid()" if kind == "uuid" else "99"}, manifest)
    yield Case("orphan", f"{REPLICA}{row}", (name,), area="data")


ONE = "ctid = (SELECT min(ctid::text)::tid FROM {})"


def _initial_rows() -> Iterator[Case]:
    """Yield initial rows that are gone: one of them, all of them."""
    for table in ("workspace_mappings", "lawyer_level_details", "user_credits"):
        yield Case("initial row gone", f"DELETE FROM {table} WHERE {ONE.format(table)}", (table,), area="data")
        yield Case("initial rows gone", f"TRUNCATE {table}", (table,), area="data")


def _workspaces() -> Iterator[Case]:
    """Yield workspace ids that are not there, not the same, not unique, not well-formed."""
    both = ("users.workspace_id", "workspace_mappings.workspace_id")
    one = ONE.format("users")
    first, second = (f"(SELECT user_id FROM workspace_mappings ORDER BY 1 OFFSET {n} LIMIT 1)" for n in (0, 1))
    swap = (
        "CREATE TEMP TABLE m ON COMMIT DROP AS SELECT user_id, workspace_id, row_number() OVER (ORDER BY user_id) AS n"
        f" FROM workspace_mappings WHERE user_id IN ({first}, {second});"
        "UPDATE workspace_mappings w SET workspace_id = 'x' || m.n FROM m WHERE m.user_id = w.user_id;"
        "UPDATE workspace_mappings w SET workspace_id = m.workspace_id FROM m WHERE w.workspace_id = 'x' || (3 - m.n)"
    )
    loose = "ALTER TABLE users ALTER COLUMN workspace_id DROP NOT NULL, DROP CONSTRAINT uq_users_workspace_id;"
    for kind, sql, severity in (
        ("swapped mappings", swap, ERROR),
        ("user has another workspace", f"UPDATE users SET workspace_id = DEFAULT WHERE {one}", ERROR),
        ("users have other workspaces", "UPDATE users SET workspace_id = DEFAULT", ERROR),
        ("workspace gone", f"{loose} UPDATE users SET workspace_id = NULL WHERE {one}", ERROR),
        ("workspace empty", f"{loose} UPDATE users SET workspace_id = ' ' WHERE {one}", ERROR),
        ("workspace shared", f"{loose} UPDATE users SET workspace_id = (SELECT min(workspace_id) FROM users)", ERROR),
        ("workspace malformed", f"UPDATE users SET workspace_id = upper(workspace_id) WHERE {one}", WARNING),
        ("mapping has another workspace", "UPDATE workspace_mappings SET workspace_id = 'w' || user_id", ERROR),
        (
            "mapping of another user",
            f"""CREATE TEMP TABLE m ON COMMIT DROP AS SELECT {first} AS one, {second} AS two;
         DELETE FROM workspace_mappings WHERE user_id = (SELECT two FROM m);
         UPDATE workspace_mappings SET user_id = (SELECT two FROM m) WHERE user_id = (SELECT one FROM m)""",
            ERROR,
        ),
    ):
        yield Case(kind, sql, both if "mapping" in kind or "other" in kind else both[:1], severity, "data")
    yield Case(
        "wrong workspace type", "UPDATE workspace_mappings SET workspace_type = 'admin'",
        ("workspace_mappings.workspace_type",), WARNING, "business",
    )  # fmt: skip
    for kind, sql, subject in (
        ("workspaces are demos", "is_demo = true", "is_demo"),
        (
            "demo workspace of nobody",
            f"is_demo = true, workspace_id = 'x' || user_id WHERE {ONE.format('workspace_mappings')}",
            "workspace_id",
        ),
    ):
        subjects = (f"workspace_mappings.{subject}",)
        yield Case(kind, f"UPDATE workspace_mappings SET {sql}", subjects, WARNING, "data")
    for kind, sql in (
        ("lawyers are pending again", "'pending' WHERE account_type = 'lawyer'"),
        (
            "an admin is pending again",
            "'pending' WHERE id = (SELECT id FROM users WHERE account_type = 'admin' LIMIT 1)",
        ),
        ("everybody is about to be a lawyer", "'lawyer_pending'"),
    ):
        yield Case(kind, f"UPDATE users SET account_type = {sql}", ("users.account_type",), WARNING, "business")
    yield Case(
        "wrong account type", "UPDATE users SET account_type = 'admin'", ("users.account_type",), WARNING, "business"
    )


_OTHER_VALUES = {
    "boolean": "NOT {}",
    "integer": "{} + 1", "numeric": "{} + 1", "jsonb": "{} || '{{\"x\": 1}}'", "varchar": "{} || 'x'",
}  # fmt: skip


def _seeds() -> Iterator[Case]:
    """Yield seed rows that are gone, and each field of each of them edited."""
    for table, expected in seeds().items():
        key = expected["key"]
        yield Case("seeds gone", f"{REPLICA} TRUNCATE {table} CASCADE", (table,), area="data")
        for row in expected["rows"]:
            where = f"WHERE {key} = '{row[key]}'"
            yield Case("seed gone", f"{REPLICA} DELETE FROM {table} {where}", (table,), area="data")
            for column, value in row.items():
                if column == key:
                    continue
                kind = {bool: "boolean", int: "integer", float: "numeric", str: "varchar"}.get(type(value), "jsonb")
                other = "'user'" if column == "demo_type" and value == "lawyer" else _OTHER_VALUES[kind].format(column)
                other = "'lawyer'" if column == "demo_type" and value == "user" else other
                sql = f"UPDATE {table} SET {column} = {other} {where}"
                yield Case("seed edited", sql, (f"{table}.{column}",), WARNING, "data")


def _people() -> Iterator[Case]:
    """Yield users who can no longer sign in."""
    accounts = (
        "INSERT INTO user_accounts (user_id, type, provider, provider_account_id, is_primary)"
        " SELECT id, 'email', 'email', email, true FROM users WHERE email IS NOT NULL;"
    )
    for kind, sql, subject, severity in (
        ("passwords wiped", "UPDATE users SET password_hash = ''", "users.password_hash", ERROR),
        ("passwords blank", "UPDATE users SET password_hash = ' '", "users.password_hash", ERROR),
        (
            "a password wiped",
            f"UPDATE users SET password_hash = '' WHERE {ONE.format('users')}",
            "users.password_hash",
            WARNING,
        ),
        ("one password for all", "UPDATE users SET password_hash = 'x'", "users.password_hash", ERROR),
        ("addresses gone", "UPDATE users SET email = NULL", "users.email", ERROR),
        ("addresses of accounts gone", f"{accounts} UPDATE users SET email = NULL", "users.email", ERROR),
        ("addresses of accounts differ", f"{accounts} UPDATE users SET email = 'x' || email", "users.email", ERROR),
        (
            "an address of an account gone",
            f"{accounts} UPDATE users SET email = NULL WHERE id = (SELECT user_id FROM user_accounts LIMIT 1)",
            "users.email",
            WARNING,
        ),
        ("users gone", "TRUNCATE users CASCADE", "users", ERROR),
        ("everybody banned", "UPDATE users SET status = 'BANNED'", "users.status", WARNING),
    ):
        yield Case(kind, f"{REPLICA} {sql}", (subject,), severity, "data")
