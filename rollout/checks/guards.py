"""What stands around rows that are not ours: the version table, and what guards the legacy core's rows."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from sqlalchemy import text

from rollout.checks.legacy import KEYS, NEEDED
from rollout.checks.registry import Area, Subject, check
from rollout.database import VERSION_TABLE, identifier
from rollout.findings import ERROR, WARNING, Finding
from rollout.messages import say

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rollout.catalog import Definition

_VERSION = text(
    """
SELECT c.relkind::text AS kind, c.relpersistence::text AS persistence,
       c.relrowsecurity OR c.relforcerowsecurity AS row_security,
       ARRAY(SELECT w.rulename::text FROM pg_rewrite w WHERE w.ev_class = c.oid AND w.rulename <> '_RETURN' ORDER BY 1)
           AS rules,
       ARRAY(SELECT t.tgname::text FROM pg_trigger t WHERE t.tgrelid = c.oid AND NOT t.tgisinternal ORDER BY 1)
           AS triggers,
       ARRAY(SELECT a.attname || ' ' || format_type(a.atttypid, a.atttypmod) FROM pg_attribute a
             WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum) AS columns,
       EXISTS (SELECT FROM pg_index x WHERE x.indrelid = c.oid AND x.indisprimary AND x.indisvalid) AS has_key,
       EXISTS (SELECT FROM aclexplode(c.relacl) AS g WHERE g.grantee = 0 AND g.privilege_type <> 'SELECT') AS everybodys
FROM pg_class c WHERE c.oid = to_regclass(:table)
"""
)

_COLUMN = re.compile(r"version_num (text|character varying(\((3[2-9]|[4-9]\d|\d{3,})\))?)")
"""As Alembic makes it, or wider."""


@check(Area.STRUCTURE)
def the_version_table_holds(subject: Subject) -> Iterator[Finding]:
    """The table that says where the database stands is Alembic's: logged, one column, a key, no rules or triggers."""
    row = subject.connection.execute(_VERSION, {"table": f"public.{VERSION_TABLE}"}).one_or_none()
    if row is None:
        return  # that no revision is recorded is a finding of its own
    for problem, hint in _wrong_with(row):
        yield Finding(VERSION_TABLE, problem, hint, ERROR)
    if row.kind == "r" and not row.has_key:
        hint = f"ALTER TABLE {VERSION_TABLE} ADD PRIMARY KEY (version_num);"
        yield Finding(VERSION_TABLE, say("it has no primary key"), hint, WARNING)
    if row.everybodys:
        yield Finding(
            VERSION_TABLE,
            say("everybody (PUBLIC) may write to it"),
            f"REVOKE ALL ON {VERSION_TABLE} FROM PUBLIC;",
            WARNING,
        )


def _wrong_with(row: Any) -> Iterator[tuple[str, str]]:
    """Yield (problem, hint) for all that is not as Alembic makes it."""
    alter = f"ALTER TABLE {VERSION_TABLE}"
    if row.kind != "r":
        yield say("it is no table"), say("Check that {key} names the right database.", key="DATABASE_URL")
        return
    if row.persistence != "p":
        yield say("it is not logged: a crash empties it"), f"{alter} SET LOGGED;"
    if row.row_security:
        yield say("row security hides its row"), f"{alter} DISABLE ROW LEVEL SECURITY, NO FORCE ROW LEVEL SECURITY;"
    for rule in row.rules:
        yield (
            say("the rule {name} on it is nobody's that we know", name=rule),
            f"DROP RULE {identifier(rule)} ON {VERSION_TABLE};",
        )
    for trigger in row.triggers:
        yield (
            say("the trigger {name} on it is nobody's that we know", name=trigger),
            f"DROP TRIGGER {identifier(trigger)} ON {VERSION_TABLE};",
        )
    if len(row.columns) != 1 or not _COLUMN.fullmatch(row.columns[0]):
        further = [one.rpartition(" ")[0] for one in row.columns if not one.startswith("version_num ")]
        drop = ", ".join(f"DROP COLUMN {identifier(one)}" for one in further)
        yield (
            say("its columns are {columns}, expected version_num alone", columns=", ".join(row.columns) or "none"),
            f"{alter} {drop or 'ALTER COLUMN version_num TYPE character varying(32)'};",
        )


_UNIQUE = (
    ("users", ("email",)),
    ("users", ("username",)),
    ("roles", ("id",)),
    ("tenants", ("id",)),
    ("profiles", ("user_id",)),
    ("user_roles", ("user_id", "role_id")),
)
"""What sign-in, rows of ours and the import count on to be there once."""


@check(Area.STRUCTURE)
def legacy_rows_are_guarded(subject: Subject) -> Iterator[Finding]:
    """Others' legacy core has its keys, is logged, shows its rows; needed columns are NOT NULL (else warnings)."""
    if subject.revision is None or subject.is_ours("table users"):
        return  # not there yet, or compared with our own definition
    for table, columns in _UNIQUE:
        if f"table {table}" in subject.catalog and not any(
            _is_unique(one, table, columns) for one in subject.catalog.values()
        ):
            yield Finding(
                f"{table}.{columns[-1]}",
                say("nothing keeps ({columns}) unique", columns=", ".join(columns)),
                f"CREATE UNIQUE INDEX CONCURRENTLY ON {table} ({', '.join(columns)});",
                WARNING,
            )
    yield from _nullable(subject)
    yield from _states(subject)
    for table, column, other, referred in KEYS:
        yield from _key(subject, table, column, f"{other}({referred})")
    for key, found in subject.catalog.items():
        if key.startswith("rule ") and found["table"] in NEEDED and " DO INSTEAD " in f"{found['definition']} ":
            yield Finding(
                key.partition(" ")[2],
                say("a rule does something else instead of what is written to {table}", table=found["table"]),
                say("Keep it if it is meant; else DROP RULE {rule};", rule=key.partition(" ")[2]),
                WARNING,
            )


def _is_unique(found: Definition, table: str, columns: tuple[str, ...]) -> bool:
    """Tell whether a constraint or index lets these columns' values be in one row only."""
    if found.get("table") != table:
        return False
    if found.get("type") in {"p", "u"}:
        unusable = found.get("index_unusable") or found.get("index_does_not_keep_it")
        return {*found.get("columns", ())} == {*columns} and not unusable
    one = re.fullmatch(r"CREATE UNIQUE INDEX ON \S+ USING \w+ \((.+?)\)(?: WHERE (.+))?", str(found.get("definition")))
    if one is None or not found.get("valid", False):
        return False
    # lower(email) keeps the address unique too, and more than that.
    names = {re.sub(r"^lower\(\(?(\w+)\)?.*", r"\1", part) for part in one[1].split(", ")}
    return names == {*columns} and (one[2] is None or one[2].endswith(" IS NOT NULL)"))


def _states(subject: Subject) -> Iterator[Finding]:
    """Yield tables of the core that a crash empties, whose rows only their owner sees, or that the catalog belies."""
    policies: dict[str, dict[str, Definition]] = {}
    for key, found in subject.catalog.items():
        if key.startswith("policy "):
            policies.setdefault(found["table"], {})[key.partition(" ")[2].rpartition(" on ")[0]] = found
    for table in NEEDED:
        found = subject.catalog.get(f"table {table}", {})
        if found.get("catalog_edited"):
            yield Finding(
                table,
                say("somebody edited pg_class: the server overlooks its indexes, triggers or checks"),
                say("`tool backup list`, then `tool restore PATH`: a copy has whole catalogs."),
            )
        if found.get("persistence", "p") != "p":
            yield Finding(
                table, say("it is not logged: a crash empties it"), f"ALTER TABLE {table} SET LOGGED;", WARNING
            )
        if found.get("row_security"):
            yield from _hidden(table, policies.get(table, {}))


def _hidden(table: str, policies: dict[str, Definition]) -> Iterator[Finding]:
    """Yield a table whose policies show no row: one that forbids all, or none that lets anything through."""
    reading = {name: one for name, one in policies.items() if one["command"] in {"*", "r"}}
    forbid = [name for name, one in reading.items() if not one["permissive"] and one.get("using") == "false"]
    hint = f"ALTER TABLE {table} DISABLE ROW LEVEL SECURITY;"
    if not policies:
        problem = say("row security hides all its rows from everybody but its owner: it has no policy")
    elif forbid:
        problem = say("the policy {name} hides all its rows from everybody but its owner", name=", ".join(forbid))
        hint = " ".join(f"DROP POLICY {identifier(name)} ON {table};" for name in forbid)
    elif all(one.get("using") == "false" for one in reading.values() if one["permissive"]):
        problem = say("row security hides all its rows from everybody but its owner: no policy shows any")
    else:
        return
    yield Finding(table, problem, hint, WARNING)


def _key(subject: Subject, table: str, column: str, other: str) -> Iterator[Finding]:
    """Yield a foreign key of the core that is gone or switched off."""
    there = [
        one
        for one in subject.catalog.values()
        if (one.get("table"), one.get("type"), one.get("columns")) == (table, "f", [column])
        and f" REFERENCES {other}" in str(one["definition"])
    ]
    if f"column {table}.{column}" not in subject.catalog or any(not _is_off(one) for one in there):
        return
    enable = " ".join(f"ALTER TABLE {one} ENABLE TRIGGER ALL;" for one in (table, other.partition("(")[0]))
    yield Finding(
        f"{table}.{column}",
        say("no foreign key sees to it that it leads to {other}", other=other),
        enable if there else f"ALTER TABLE {table} ADD FOREIGN KEY ({column}) REFERENCES {other};",
        WARNING,
    )


def _is_off(found: Definition) -> bool:
    """Tell whether a foreign key's triggers do not fire."""
    return bool(found.get("triggers_off") or found.get("triggers_edited"))


def _nullable(subject: Subject) -> Iterator[Finding]:
    """Yield columns of the core that we need and that may be NULL now."""
    for table, columns in NEEDED.items():
        for column in columns:
            key = f"column {table}.{column}"
            expected, found = subject.manifest.objects.get(key, {}), subject.catalog.get(key)
            if found is not None and expected.get("not_null") and not found.get("not_null"):
                yield Finding(
                    f"{table}.{column}",
                    say("the legacy column may be NULL"),
                    f"ALTER TABLE {table} ALTER COLUMN {column} SET NOT NULL;",
                    WARNING,
                )
