"""Do two CHECK constraints accept the same rows? The server itself evaluates both, on every value that could tell.

Constraints that read alike need no question. The others are asked for what a comparison with constants can tell apart:
each constant of either, its neighbours, values far off, NULL. That decides for boolean combinations of comparisons; an
expression with anything else in it (a function, say) counts as another one. Nothing is written: works on a replica.
"""

from __future__ import annotations

import re
from decimal import Decimal
from math import prod
from typing import TYPE_CHECKING

from sqlalchemy.exc import DBAPIError

from rollout.database import quote

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from sqlalchemy import Connection

    from rollout.catalog import Definition

_MOST_ROWS = 50_000

_TOKEN = re.compile(
    r"""\s*(?:
    (?P<literal>'(?:[^']|'')*') | (?P<number>\d+(?:\.\d+)?) |
    (?P<cast>::(?:character\ varying|text|smallint|integer|bigint|numeric|date|boolean|
        timestamp\ with\ time\ zone)(?:\[\])?) |
    (?P<keyword>\b(?:AND|OR|NOT|IS|NULL|TRUE|FALSE|true|false|ANY|ARRAY|DISTINCT|FROM)\b) |
    (?P<order><=|>=|<(?!>)|>) | (?P<operator><>|=|[-+]) | (?P<mark>[()\[\],]) |
    (?P<name>[a-z_][a-z0-9_$]*|"(?:[^"]|"")+")
    )""",
    re.VERBOSE,
)
_CHECK = re.compile(r"CHECK \((?P<expression>.*)\)(?P<rest>(?: NO INHERIT| NOT VALID| NOT ENFORCED)*)", re.DOTALL)

_TEXTS = re.compile(r"character varying(\(\d+\))?|text")
_NUMBER = re.compile(r"-?\d+(\.\d+)?")
_DAY = re.compile(r"\d{4}-\d\d-\d\d.*")
_INTEGERS = {"smallint": 2**15, "integer": 2**31, "bigint": 2**63}
_TIMES = {"date": "1 day", "timestamp with time zone": "1 microsecond"}


def same(connection: Connection, expected: Definition, found: Definition, types: Mapping[str, str]) -> bool:
    """Tell whether two CHECK constraints (catalog definitions) of one table accept the same rows.

    ``types``: the type of each of the table's columns. False wherever that cannot be shown.
    """
    one, other = (_CHECK.fullmatch(str(values.get("definition"))) for values in (expected, found))
    columns = sorted({*expected.get("columns", ()), *found.get("columns", ())})
    if one is None or other is None or one["rest"] != other["rest"] or not set(columns) <= types.keys():
        return False
    expressions = [one["expression"], other["expression"]]
    literals: set[str] = set()
    for expression in expressions:
        constants = _literals(expression, {column: types[column] for column in columns})
        if constants is None:
            return False
        literals |= constants
    probes = [_probes(types[column], literals) for column in columns]
    rows = prod(map(len, probes))
    return bool(columns) and 0 < rows <= _MOST_ROWS and _agree(connection, expressions, columns, types, probes)


def _literals(expression: str, types: Mapping[str, str]) -> set[str] | None:
    """Return an expression's constants; None where it says more than comparisons of columns and constants."""
    literals: set[str] = set()
    tokens: list[tuple[str, str]] = []
    position = 0
    while position < len(expression):
        match = _TOKEN.match(expression, position)
        if match is None or match.lastgroup is None:
            return None
        kind, value = match.lastgroup, match[match.lastgroup]
        position = match.end()
        if kind == "name" and value not in {quote(column) for column in types}:
            return None
        if kind == "order" and any(_TEXTS.fullmatch(one) for one in types.values()):
            return None  # the order of texts has no neighbours
        if kind == "cast" and not _may_be_cast(tokens, value, types):
            return None
        if kind in {"literal", "number"}:
            literals.add(value.strip("'").replace("''", "'"))
        tokens.append((kind, value))
    return literals


def _may_be_cast(tokens: list[tuple[str, str]], cast: str, types: Mapping[str, str]) -> bool:
    """Tell whether what stands before a cast is a constant, a list, or a column that the cast does not change."""
    if not tokens or tokens[-1][0] in {"literal", "cast"}:
        return bool(tokens)
    if tokens[-1][1] != ")":
        return False
    depth, start = 0, len(tokens)
    for start in range(len(tokens) - 1, -1, -1):
        depth += {")": 1, "(": -1}.get(tokens[start][1], 0)
        if depth == 0:
            break
    inside = tokens[start + 1 : -1]
    names = [value for kind, value in inside if kind == "name"]
    if not names:
        return all(kind in {"literal", "number", "cast", "mark"} or value in {"ARRAY", "-"} for kind, value in inside)
    kept = {column: cast == "::text" and _TEXTS.fullmatch(kind) is not None for column, kind in types.items()}
    wider = {column: cast in {"::bigint", "::numeric"} and kind in _INTEGERS for column, kind in types.items()}
    column = names[0].strip('"')
    return len(inside) == 1 and (kept.get(column, False) or wider.get(column, False))


def _probes(kind: str, literals: Iterable[str]) -> list[str]:
    """Return, as SQL, the values of a type that tell expressions with these constants apart; none: it is not known."""
    if _TEXTS.fullmatch(kind):
        return [*(_literal(text) for text in sorted({*literals, "", "—"})), "NULL"]
    if kind == "boolean":
        return ["true", "false", "NULL"]
    if kind in _TIMES:
        days = sorted({text for text in literals if _DAY.fullmatch(text)} | {"2000-01-01"})
        moments = [f"{_literal(day)}::{kind} {sign} interval '{_TIMES[kind]}'" for day in days for sign in "+-"]
        return [*map(_literal, days), *moments, "'infinity'", "'-infinity'", "NULL"]
    numbers = {Decimal(text) for text in literals if _NUMBER.fullmatch(text)}
    numbers |= {-number for number in numbers} | {Decimal(0)}
    if kind in _INTEGERS:
        near = {int(number) + step for number in numbers for step in (-2, -1, 0, 1, 2)}
        return [*(str(number) for number in sorted(near) if abs(number) < _INTEGERS[kind]), "NULL"]
    if kind.startswith("numeric"):
        steps = map(Decimal, ("-1", "-1e-9", "0", "1e-9", "1"))
        return [*map(str, sorted({number + step for step in steps for number in numbers})), "'NaN'", "NULL"]
    return []


def _agree(
    connection: Connection,
    expressions: list[str],
    columns: list[str],
    types: Mapping[str, str],
    probes: list[list[str]],
) -> bool:
    """Let the server evaluate both expressions on every combination of the columns' probes."""
    sources = []
    for column, values in zip(columns, probes, strict=True):
        texts = ", ".join(f"CAST({value} AS text)" for value in values)
        kind = types[column].partition("(")[0]
        sources.append(f"(SELECT CAST(v AS {kind}) FROM unnest(ARRAY[{texts}]) AS p(v)) AS p_{column}({quote(column)})")
    one, other = (f"(({expression}) IS NOT FALSE)" for expression in expressions)
    question = f"SELECT bool_and({one} = {other}) FROM {', '.join(sources)}".replace("%", "%%")
    try:
        with connection.begin_nested():
            return bool(connection.exec_driver_sql(question).scalar_one())
    except DBAPIError:
        return False


def _literal(text: str) -> str:
    """Quote a text for SQL."""
    return "'" + text.replace("'", "''") + "'"
