"""What PostgreSQL's own catalogs say is there: every object's key and definition, in one query.

Keys read like the subjects of cli.md: ``table users``, ``column users.email``, ``constraint users.uq_users_email``,
``index ix_users_email``, ``trigger t on users``, ``function f()``, ``view v``, ``sequence s``, ``type t``,
``extension e``; objects outside ``public`` carry their schema. A definition is a flat dictionary of what defines the
object; ``owner``, ``acl`` and ``comment`` surround it.
"""

from __future__ import annotations

import re
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import text

from rollout.messages import Message, say

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy import Connection

CATALOG_SQL = Path(__file__).parent / "sql" / "catalog.sql"

SURROUNDINGS = ("owner", "acl", "comment")
"""What is not part of an object's definition, though it must not change behind its owner's back either."""

TUNING = (
    "options", "toast_options", "access_method", "replica_identity", "statistics", "storage", "compression",
    "clustered",
)  # fmt: skip
"""What operators may set on tables, columns and indexes for speed and replication; a view's options are its meaning."""

_ELEMENT = re.compile(r"'(?:[^']|'')*'::character varying")
_LIST = re.compile(rf"\(ARRAY\[({_ELEMENT.pattern}(?:, {_ELEMENT.pattern})*)\]\)::text\[\]")

_SHOWN = 120
"""How many characters of a body or a query fit into a line that says how it differs."""

Definition = dict[str, Any]
Catalog = dict[str, Definition]


_ONLY = """AND s.nspname = 'public' AND (c.relkind = 'S' OR c.relname = ANY('{{{names}}}'::text[])
           OR EXISTS (SELECT FROM pg_index x JOIN pg_class t ON t.oid = x.indrelid
                      WHERE x.indexrelid = c.oid AND t.relname = ANY('{{{names}}}'::text[])))"""


def read(connection: Connection, tables: Iterable[str] | None = None) -> Catalog:
    """Read all objects outside the system's schemas and ours; pins ``search_path`` to ``public`` for the transaction.

    ``tables``: of the tables and views, only these of schema public, with all that is on them; nobody who works on
    another one keeps us waiting then. Needs no rights but to connect.
    """
    connection.execute(text("SET LOCAL search_path = public; SET LOCAL quote_all_identifiers = off"))
    only = "" if tables is None else _ONLY.format(names=",".join(sorted(tables)))
    rows = connection.exec_driver_sql(CATALOG_SQL.read_text(encoding="utf-8").replace("/*only*/\n)", f"{only}\n)"))
    return {row[0]: {k: v for k, v in row[1].items() if v is not None and v != ""} for row in rows}


def canonical(value: Any) -> Any:
    """Return a part of a definition as PostgreSQL writes it after a dump and restore; other values as they are.

    ``x IN ('a', 'b')`` on a varchar is written with one cast of the whole list at first, and with one for each element
    once that has been read again; both mean the same.
    """
    if not isinstance(value, str) or "(ARRAY[" not in value:
        return value
    return _LIST.sub(lambda found: f"ARRAY[{_ELEMENT.sub(lambda one: f'({one[0]})::text', found[1])}]", value)


def definition_of(values: Definition, *, leave_out: Iterable[str] | None = None) -> Definition:
    """Return a definition in its canonical form, without surroundings and tuning (or without other fields)."""
    out = set(surroundings_of(values) if leave_out is None else leave_out)
    return {name: canonical(value) for name, value in values.items() if name not in out}


def surroundings_of(values: Definition) -> tuple[str, ...]:
    """Return the names of the fields of a definition that are not part of it."""
    return SURROUNDINGS if "query" in values else (*SURROUNDINGS, *TUNING)


_SAYS = {
    "triggers_off": say("triggers that keep it are switched off"),
    "triggers_edited": say("triggers that keep it are gone or were edited"),
    "index_unusable": say("its index is invalid"),
    "index_does_not_keep_it": say("its index was edited and no longer keeps it"),
    "catalog_edited": say("pg_class was edited: the server overlooks its indexes, triggers, rules or checks"),
    "unlogged": say("it is not logged: a crash empties it"),
}
"""What a field says that is there, or not: no value of its own."""


def differences(expected: Definition, found: Definition) -> list[str]:
    """Return, field by field, how two definitions differ, as ``field: expected …, found …``, each in one line."""
    lines: list[str] = []
    for name in dict.fromkeys([*expected, *found]):
        if expected.get(name) == found.get(name) or (name == "definition" and _only_the_body(expected, found)):
            continue
        if name in _SAYS and found.get(name) is True:
            lines.append(_SAYS[name])
            continue
        one, other = (" ".join(str(values.get(name, "none")).split()) for values in (expected, found))
        begin = _where_they_differ(one, other)
        lines.append(
            say(
                "{field}: expected {expected}, found {found}",
                field=name,
                expected=_excerpt(one, begin),
                found=_excerpt(other, begin),
            )
        )
    return lines


def in_a_row(lines: Iterable[str]) -> str:
    """Return messages as one, each in its language, with semicolons between them."""
    first, *others = [*lines] or [""]
    for one in others:
        first = say("{one}; {other}", one=first, other=one)
    return first


def one_by_one(lines: str) -> list[str]:
    """Return the messages that ``in_a_row`` made one of."""
    found: list[str] = []
    while isinstance(lines, Message) and lines.template == "{one}; {other}":
        found.insert(0, lines.values["other"])
        lines = lines.values["one"]
    return [lines, *found]


def _only_the_body(expected: Definition, found: Definition) -> bool:
    """Tell whether the definitions of two functions differ in nothing but their body, which is a field of its own."""
    body, other = str(expected.get("body") or ""), str(found.get("body") or "")
    if not body or body == other:
        return False
    return str(expected["definition"]).replace(body, other) == found.get("definition")


def _where_they_differ(one: str, other: str) -> int:
    """Return where two long texts begin to differ, or a little before."""
    same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))
    return max(0, same - _SHOWN // 4)


def _excerpt(value: str, begin: int) -> str:
    """Return a text, or of a long one (a body, a query) what is shown of it in a line."""
    if len(value) <= _SHOWN:
        return value
    return ("… " if begin else "") + value[begin : begin + _SHOWN] + (" …" if len(value) > begin + _SHOWN else "")
