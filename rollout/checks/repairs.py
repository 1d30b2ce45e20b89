"""What to type to bring one object back to its definition: the hints of the structure checks.

Statements that take long on a big table are the ones that keep it in use (CONCURRENTLY, NOT VALID first).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rollout.catalog import definition_of
from rollout.database import identifier
from rollout.messages import say

if TYPE_CHECKING:
    from collections.abc import Callable

    from rollout.catalog import Catalog, Definition


def missing(key: str, expected: Definition, there: Catalog | None = None) -> str:
    """Return how to make an object again; ``there``: what may stand in its way."""
    kind, _, name = key.partition(" ")
    table, _, part = name.rpartition(".")
    definition = _one_line(str(expected.get("definition", expected.get("query", ""))))
    in_the_way = f"DROP INDEX {part}; " if kind == "constraint" and f"index {part}" in (there or {}) else ""
    statements = {
        "column": f"ALTER TABLE {table} ADD COLUMN {part} {_column(expected)};",
        "constraint": _released(
            expected, there or {}, f"{in_the_way}ALTER TABLE {table} ADD CONSTRAINT {part} {definition};"
        ),
        "index": f"{definition.replace(' INDEX ON ', f' INDEX CONCURRENTLY {name} ON ', 1)};",
        "trigger": f"{definition};",
        "function": _function(expected) if kind == "function" else "",
        "view": f"CREATE VIEW {name} AS {definition}",
        "sequence": f"CREATE SEQUENCE {name} AS {expected.get('type')} OWNED BY {expected.get('owned_by', 'NONE')};",
    }
    return statements.get(kind) or say("Its rows are gone: `tool backup list`, then `tool restore PATH`.")


def differing(key: str, expected: Definition, found: Definition, there: Catalog) -> str:
    """Return how to alter an object to what is expected; ``there``: what may rest on it."""
    kind, _, name = key.partition(" ")
    repair = _REPAIRS.get(kind)
    how = {field for field in {*expected, *found} if expected.get(field) != found.get(field)}
    how &= {*definition_of(expected), *definition_of(found)}
    if "identity" in how and "identity" in expected and "identity" in found:
        how = how - {"identity"} | {"generated"}
    statement = repair(name, expected, how) if repair is not None else ""
    if " DROP CONSTRAINT " in statement:
        statement = _released(expected, there, statement)
    return statement or say("`tool plan --sql` shows how it is made.")


def _released(expected: Definition, there: Catalog, statement: str) -> str:
    """Return a statement that makes a key again, between what drops the foreign keys on it and makes them again."""
    if expected.get("type") not in {"p", "u"}:
        return statement
    on_it = f" REFERENCES {expected['table']}({', '.join(expected['columns'])})"
    before, after = "", ""
    for key, one in there.items():
        if one.get("type") == "f" and on_it in str(one["definition"]):
            alter, name = f"ALTER TABLE {one['table']}", key.rpartition(".")[2]
            before += f"{alter} DROP CONSTRAINT {name}; "
            after += f" {alter} ADD CONSTRAINT {name} {one['definition']};"
    return before + statement + after


_OF_TABLES = {
    "replica_identity": "REPLICA IDENTITY DEFAULT",
    "access_method": "SET ACCESS METHOD heap",
    "clustered": "SET WITHOUT CLUSTER",
}
"""What sets a field of a table, or of an index of it, back to what it is by default."""


def surrounding(key: str, field: str, expected: Definition) -> str:
    """Return how to set a comment, storage options or the replica identity back."""
    kind, _, name = key.partition(" ")
    if field == "comment":
        if kind in {"constraint", "column"}:
            table, _, part = name.rpartition(".")
            name = f"{part} ON {table}" if kind == "constraint" else name
        return f"COMMENT ON {kind.upper()} {name} IS {_literal(expected.get('comment'))};"
    if field in _OF_TABLES:
        return f"ALTER TABLE {expected.get('table', name)} {_OF_TABLES[field]};"
    if kind == "column":
        table, _, column = name.rpartition(".")
        name = f"{table} ALTER COLUMN {column}"
        if field == "compression":
            return f"ALTER TABLE {name} SET COMPRESSION default;"
        if field == "statistics":
            return f"ALTER TABLE {name} SET STATISTICS -1;"
        kind = "table"
    return say("Keep it if it was set on purpose; else ALTER {kind} {name} RESET (…);", kind=kind.upper(), name=name)


def _literal(value: str | None) -> str:
    """Quote a text for SQL."""
    return "NULL" if value is None else "'" + value.replace("'", "''") + "'"


def _one_line(sql: str) -> str:
    """Put a definition on one line."""
    return " ".join(sql.split())


def _column(expected: Definition) -> str:
    """Return a column's definition."""
    words = [str(expected.get("type"))]
    if "collation" in expected:
        words.append(f"COLLATE {identifier(expected['collation'])}")
    if "identity" in expected:
        words.append(f"GENERATED {'ALWAYS' if expected['identity'] == 'a' else 'BY DEFAULT'} AS IDENTITY")
    if "default" in expected:
        words.append(f"DEFAULT {expected['default']}")
    if expected.get("not_null"):
        words.append("NOT NULL")
    return " ".join(words)


def _alter_column(name: str, expected: Definition, how: set[str]) -> str:
    """Return how to alter a column."""
    table, _, column = name.rpartition(".")
    actions = []
    if how & {"type", "collation"}:
        collation = f' COLLATE "{expected.get("collation", "default")}"' if "collation" in how else ""
        actions.append(f"TYPE {expected['type']}{collation} USING {column}::{expected['type']}")
    if "default" in how:
        actions.append(f"SET DEFAULT {expected['default']}" if "default" in expected else "DROP DEFAULT")
    if "not_null" in how:
        actions.append("SET NOT NULL" if expected.get("not_null") else "DROP NOT NULL")
    if "identity" in how:
        kind = "ALWAYS" if expected.get("identity") == "a" else "BY DEFAULT"
        actions.append(f"ADD GENERATED {kind} AS IDENTITY" if "identity" in expected else "DROP IDENTITY")
    if "generated" in how and "identity" in expected:
        actions.append(f"SET GENERATED {'ALWAYS' if expected['identity'] == 'a' else 'BY DEFAULT'}")
    return f"ALTER TABLE {table} {', '.join(f'ALTER COLUMN {column} {one}' for one in actions)};" if actions else ""


def _alter_constraint(name: str, expected: Definition, how: set[str]) -> str:
    """Return how to alter a constraint, or to make it again."""
    table, _, constraint = name.rpartition(".")
    if how == {"validated"}:
        return f"ALTER TABLE {table} VALIDATE CONSTRAINT {constraint};"
    if how == {"triggers_off"}:
        referred = expected["definition"].partition(" REFERENCES ")[2].partition("(")[0]
        return " ".join(f"ALTER TABLE {one} ENABLE TRIGGER ALL;" for one in dict.fromkeys((table, referred)) if one)
    if how == {"index_unusable"}:
        return f"REINDEX INDEX {constraint};"
    again = f"DROP CONSTRAINT {constraint}, ADD CONSTRAINT {constraint} {_one_line(expected['definition'])}"
    return f"ALTER TABLE {table} {again};"


def _alter_index(name: str, expected: Definition, how: set[str]) -> str:
    """Return how to make an index again."""
    if how == {"valid"}:
        return f"REINDEX INDEX CONCURRENTLY {name};"
    return f"DROP INDEX CONCURRENTLY {name}; {missing(f'index {name}', expected)}"


def _alter_trigger(name: str, expected: Definition, how: set[str]) -> str:
    """Return how to enable a trigger, or to make it again."""
    trigger, _, table = name.partition(" on ")
    if how == {"enabled"}:
        return f"ALTER TABLE {table} ENABLE TRIGGER {trigger};"
    return f"DROP TRIGGER {trigger} ON {table}; {_one_line(expected['definition'])};"


def _alter_table(name: str, _expected: Definition, how: set[str]) -> str:
    """Return how to set a table's properties back."""
    actions = {
        "persistence": "SET LOGGED",
        "row_security": "DISABLE ROW LEVEL SECURITY",
        "force_row_security": "NO FORCE ROW LEVEL SECURITY",
        "of_type": "NOT OF",
    }
    chosen = [action for field, action in actions.items() if field in how]
    return f"ALTER TABLE {name} {', '.join(chosen)};" if len(chosen) == len(how) else ""


def _function(expected: Definition) -> str:
    """Return a whole function on one line, its body to the byte."""
    head = _one_line(str(expected["definition"]).partition("AS $function$")[0])
    body = str(expected["body"]).replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n")
    return f"{head} AS E'{body}';"


def _alter_view(name: str, expected: Definition, how: set[str]) -> str:
    """Return how to reset a view's options, or to make it again."""
    if how == {"options"} and "options" not in expected:
        return f"ALTER VIEW {name} RESET (security_barrier, security_invoker, check_option);"
    return f"DROP VIEW {name}; CREATE VIEW {name} AS {_one_line(expected['query'])}"


def _alter_sequence(name: str, expected: Definition, how: set[str]) -> str:
    """Return all of a sequence's properties."""
    # The server refuses OWNED BY for the sequence of an identity column.
    owner = f" OWNED BY {expected.get('owned_by', 'NONE')}" if "owned_by" in how else ""
    logged = f"ALTER SEQUENCE {name} SET LOGGED; " if "unlogged" in how else ""
    return (
        f"{logged}ALTER SEQUENCE {name} AS {expected['type']} INCREMENT BY {expected['increment']}"
        f" MINVALUE {expected['min']} MAXVALUE {expected['max']} START WITH {expected['start']}"
        f" CACHE {expected['cache']} {'' if expected['cycle'] else 'NO '}CYCLE{owner};"
    )


_REPAIRS: dict[str, Callable[[str, Definition, set[str]], str]] = {
    "column": _alter_column,
    "constraint": _alter_constraint,
    "index": _alter_index,
    "trigger": _alter_trigger,
    "table": _alter_table,
    "function": lambda _name, expected, _how: _function(expected),
    "view": _alter_view,
    "sequence": _alter_sequence,
}
