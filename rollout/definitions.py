"""Two databases' definitions side by side, as pg_dump writes them: what a restore must bring back to the letter.

PostgreSQL does not always write an expression as it will once that has been read again. Two such forms were found, on
12 to 18 alike, by dumping some sixty expressions, restoring, and dumping again; ``canonical`` makes them one.
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING

from rollout.messages import say

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

Blocks = dict[str, list[str]]
"""By what they make (``TABLE public.users``), the hashes of the statements."""

_HEADER = re.compile(r"-- Name: (?P<name>.*); Type: (?P<type>[A-Z ]+); Schema: (?P<schema>.*); Owner: ?(?P<owner>.*)")
_STATE = re.compile(r"SET default_(tablespace|table_access_method) = (.*);")

# What is made in a tablespace or by an access method, as the last SET before it said.
_PLACED = {"TABLE", "INDEX", "CONSTRAINT", "MATERIALIZED VIEW"}
_DATA = {"TABLE DATA", "MATERIALIZED VIEW DATA", "SEQUENCE SET", "BLOB", "BLOBS", "BLOB METADATA", "LARGE OBJECT"}
_DATA |= {"STATISTICS DATA", "SUBSCRIPTION", "SUBSCRIPTION TABLE"}

# Comments of pg_dump's own; others are part of a function's body.
_FRAME = {"--", "-- PostgreSQL database dump complete"}

_LIST = "(ARRAY["
_LITERAL_WITH_ALIAS = re.compile(
    r"((?:'(?:[^']|'')*'|NULL|true|false|-?[\d.]+)::[a-z\"][\w .\"]*?(?:\(\d+(?:,\d+)?\))?(?:\[\])?)"
    r" AS (?:\"[^\"]+\"|\w+)"
)

_SHOWN = 3


def canonical(line: str) -> str:
    """Return a line of a definition in the one form that both of PostgreSQL's ways to write it have in common.

    ``v IN ('a', 'b')`` on a varchar is written with one cast of the whole list at first, and with one for each element
    once it has been read again. A bare literal in a second branch of a UNION gets its type's name as an alias.
    """
    start = line.find(_LIST)
    while start >= 0:
        elements, end = _elements(line, start + len(_LIST))
        if line.startswith(")::text[]", end):
            written = ", ".join(f"({element})::text" for element in elements)
            line = f"{line[:start]}ARRAY[{written}]{line[end + len(')::text[]') :]}"
        start = line.find(_LIST, start + 1)
    return _LITERAL_WITH_ALIAS.sub(r"\1", line)


def _elements(line: str, start: int) -> tuple[list[str], int]:
    """Return the elements of a list that begins at ``start``, and where it has ended (after its bracket)."""
    elements, depth, quoted, begin = [], 0, "", start
    for position in range(start, len(line)):
        character = line[position]
        if quoted:
            quoted = "" if character == quoted else quoted
        elif character in "'\"":
            quoted = character
        elif character in "([":
            depth += 1
        elif character == "," and depth == 0:
            elements.append(line[begin:position].strip())
            begin = position + 1
        elif character in ")]":
            depth -= 1
            if depth < 0:
                return [*elements, line[begin:position].strip()], position + 1
    return elements, len(line)


def _statements(file: Path) -> Iterator[tuple[str, list[str]]]:
    """Yield (what is made, its lines) from a file that pg_dump or pg_restore wrote."""
    state: dict[str, str] = {}
    key, lines = "", list[str]()
    with file.open(encoding="utf-8", errors="surrogateescape", newline="\n") as text:
        for line in text:
            stripped = line.rstrip("\n")
            header = _HEADER.fullmatch(stripped)
            if header:
                if key:
                    yield key, lines
                kind = header["type"]
                key = "" if kind in _DATA else f"{kind} {_qualified(header)}"
                lines = [f"owner {header['owner']}"]
                lines += [f"{name} {value}" for name, value in sorted(state.items()) if kind in _PLACED]
            elif (setting := _STATE.fullmatch(stripped)) is not None:
                state[setting[1]] = setting[2]
            elif stripped.strip() and stripped not in _FRAME and not stripped.startswith("\\unrestrict "):
                lines.append(canonical(stripped))
    if key:
        yield key, lines


def _qualified(header: re.Match[str]) -> str:
    """Return an object's name with its schema, where it has one."""
    return header["name"] if header["schema"] in ("-", "") else f"{header['schema']}.{header['name']}"


def read(file: Path) -> Blocks:
    """Return the hashes of all statements in a file that pg_dump or pg_restore wrote."""
    found: Blocks = {}
    for key, lines in _statements(file):
        found.setdefault(key, []).append(hashlib.sha256("\n".join(lines).encode(errors="replace")).hexdigest())
    return {key: sorted(hashes) for key, hashes in found.items()}


def differences(expected: Path, found: Path) -> Iterator[tuple[str, str]]:
    """Yield (object, how) for everything that two files define differently."""
    one, other = read(expected), read(found)
    changed = [key for key in one.keys() & other.keys() if one[key] != other[key]]
    ours, theirs = _texts(expected, changed), _texts(found, changed)
    for key in sorted(one.keys() | other.keys()):
        if key not in other:
            yield key, say("{key} is missing", key=key)
        elif key not in one:
            yield key, say("{key} is not in the backup", key=key)
        elif one[key] != other[key]:
            yield key, say("{key} reads differently: {how}", key=key, how=_how(ours[key], theirs[key]))


def _texts(file: Path, keys: Collection[str]) -> dict[str, list[str]]:
    """Return the lines of some objects' statements."""
    texts: dict[str, list[str]] = {key: [] for key in keys}
    for key, lines in _statements(file):
        if key in texts:
            texts[key] += lines
    return texts


def _how(expected: list[str], found: list[str]) -> str:
    """Say in which lines two statements differ."""
    missing = [line.strip() for line in expected if line not in found][:_SHOWN]
    extra = [line.strip() for line in found if line not in expected][:_SHOWN]
    if not missing and not extra:
        return say("its lines stand in another order")
    return "; ".join([*(f"- {line}" for line in missing), *(f"+ {line}" for line in extra)])
