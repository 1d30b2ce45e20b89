"""Bits of SQL text that several modules write."""

from __future__ import annotations

BLANKS = r"E' \t\n\r\f\v\u00a0\u3000'"
"""What counts as a blank around a value (SQL literal): white space, no-break space, ideographic space."""

UUID_PATTERN = "'^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$'"
"""A regular expression (SQL literal) for the usual form of a uuid."""


def as_key(text: str) -> str:
    """Return SQL for an id (SQL of type text) as ids are compared: a uuid in small letters, all else as it is."""
    return f"CASE WHEN {text} ~ {UUID_PATTERN} THEN lower({text}) ELSE {text} END"


def literal(value: str) -> str:
    """Return a string as an SQL literal."""
    escaped = value.replace("'", "''")
    return f"E'{escaped.replace(chr(92), chr(92) * 2)}'" if "\\" in value else f"'{escaped}'"
