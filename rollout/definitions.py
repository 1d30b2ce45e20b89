"""Two databases' definitions side by side, as pg_dump writes them: what a restore must bring back to the letter.

PostgreSQL does not always write an expression as it will once that has been read again. Such forms were found, on 12
to 18 alike, by dumping some eighty expressions, restoring, and dumping again; ``canonical`` makes them one.
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

_LIST = "ARRAY["
_LIST_CAST = re.compile(r'::((?:"[^"]+"|[\w .])+?(?:\(\d+(?:,\d+)?\))?[\w ]*)\[\]')
_SIMPLE = re.compile(r"(?:'(?:[^']|'')*'|[\w.]+)(?:::[\w .\"]+(?:\(\d+(?:,\d+)?\))?)*")

# pg_dump lists a policy's roles as pg_authid has them: an ALTER ROLE moves one to the end.
_NAME = r'(?:"(?:[^"]|"")*"|[^\s",.;()]+)'
_ROLES = re.compile(
    rf"^(CREATE POLICY {_NAME} ON {_NAME}(?:\.{_NAME})?(?: AS \w+)?(?: FOR \w+)? TO )({_NAME}(?:, {_NAME})+)",
    re.MULTILINE,
)
# Names and literals are passed over whole: nothing begins inside of one.
_LITERAL_WITH_ALIAS = re.compile(
    r"\"(?:[^\"]|\"\")*\"|(?P<literal>'(?:[^']|'')*'|NULL|true|false|-?[\d.]+)"
    r"(?:(?P<cast>::[a-z\"][\w .\"]*?(?:\(\d+(?:,\d+)?\))?(?:\[\])?) AS (?:\"[^\"]+\"|\w+))?"
)

_SHOWN = 3


def canonical(text: str) -> str:
    """Return (lines of) a definition in the one form that all of PostgreSQL's ways to write it have in common.

    ``v IN ('a', 'b')`` on a varchar is written with one cast of the whole list at first, and with one for each element
    once it has been read again; CREATE STATISTICS leaves out the parentheses of both. A bare literal in a second branch
    of a UNION gets its type's name as an alias. The roles of a policy come in any order.
    """
    start = text.find(_LIST)
    while start >= 0:
        text = _cast_by_element(text, start)
        start = text.find(_LIST, start + 1)
    text = _ROLES.sub(lambda found: found[1] + ", ".join(sorted(re.findall(_NAME, found[2]))), text)
    return _LITERAL_WITH_ALIAS.sub(
        lambda found: f"{found['literal']}{found['cast']}" if found["cast"] else found[0], text
    )


def _cast_by_element(text: str, start: int) -> str:
    """Return a text whose list at ``start`` is cast element by element, where it was cast as a whole."""
    elements, end = _elements(text, start + len(_LIST))
    whole = text[start - 1 : start] == "(" and text.startswith(")::", end)
    cast = _LIST_CAST.match(text, end + whole)
    if cast is None or elements == [""]:
        return text
    if whole:
        written = [f"({element})::{cast[1]}" for element in elements]
    else:
        written = [f"{one}::{cast[1]}" if _SIMPLE.fullmatch(one) else f"({one})::{cast[1]}" for one in elements]
    return f"{text[: start - whole]}{_LIST}{', '.join(written)}]{text[cast.end() :]}"


def _elements(text: str, start: int) -> tuple[list[str], int]:
    """Return the elements of a list that begins at ``start``, and where it has ended (after its bracket)."""
    elements, depth, quoted, begin = [], 0, "", start
    for position in range(start, len(text)):
        character = text[position]
        if quoted:
            quoted = "" if character == quoted else quoted
        elif character in "'\"":
            quoted = character
        elif character in "([":
            depth += 1
        elif character == "," and depth == 0:
            elements.append(text[begin:position].strip())
            begin = position + 1
        elif character in ")]":
            depth -= 1
            if depth < 0:
                return [*elements, text[begin:position].strip()], position + 1
    return elements, len(text)


def _statements(file: Path) -> Iterator[tuple[str, list[str]]]:
    """Yield (what is made, its lines) from a file that pg_dump or pg_restore wrote."""
    state: dict[str, str] = {}
    key, placed, lines = "", list[str](), list[str]()
    with file.open(encoding="utf-8", errors="surrogateescape", newline="\n") as text:
        for line in text:
            stripped = line.rstrip("\n")
            header = _HEADER.fullmatch(stripped)
            if header:
                if key:
                    yield key, [*placed, *_canonical(lines)]
                kind = header["type"]
                key = "" if kind in _DATA else f"{kind} {_qualified(header)}"
                placed, lines = [f"owner {header['owner']}"], []
                placed += [f"{name} {value}" for name, value in sorted(state.items()) if kind in _PLACED]
            elif (setting := _STATE.fullmatch(stripped)) is not None:
                state[setting[1]] = setting[2]
            elif stripped.strip() and stripped not in _FRAME and not stripped.startswith("\\unrestrict "):
                lines.append(stripped)
    if key:
        yield key, [*placed, *_canonical(lines)]


def _canonical(lines: list[str]) -> list[str]:
    """Return a statement's lines in their canonical form; a literal may go over several."""
    return canonical("\n".join(lines)).split("\n")


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
