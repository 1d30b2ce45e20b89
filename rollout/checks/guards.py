"""What stands around rows that are not ours: the version table, and what guards the legacy core's rows."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from sqlalchemy import text

from rollout.checks.legacy import NEEDED
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
    ("profiles", ("user_id",)),
    ("user_roles", ("user_id", "role_id")),
)
"""What sign-in, rows of ours and the import count on to be there once."""


@check(Area.STRUCTURE)
def legacy_rows_are_guarded(subject: Subject) -> Iterator[Finding]:
    """Others' legacy core has unique keys, needed columns are NOT NULL, no rule swallows rows (warnings)."""
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
