"""A realistic Pagtive source database of any size; ``pagtive_source`` says which row is how."""

from __future__ import annotations

from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import text

from rollout.sample_data.pages import Pages
from rollout.sample_data.pagtive_rows import rows_of
from rollout.sample_data.pagtive_source import COLUMNS, Source
from rollout.sample_data.stream import copy

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection

    from rollout.sample_data.stream import Progress

SQL = Path(__file__).parent.parent / "sql"

FLAVOURS = {"typical": (), "text": ("pagtive_source_text.sql",), "minimal": ("pagtive_source_minimal.sql",)}
"""Kinds of installations: most; those with text keys, times with zone, and json; those without what is optional."""


def create_pagtive_schema(connection: Connection, *, flavour: str = "typical") -> None:
    """Create an empty source database of one of ``FLAVOURS``; raise ``KeyError`` for any other."""
    for name in ("pagtive_source.sql", *FLAVOURS[flavour]):
        connection.exec_driver_sql((SQL / name).read_text(encoding="utf-8"))


def fill_pagtive(
    connection: Connection,
    *,
    users: int,
    projects_per_user: int = 5,
    pages_per_project: int = 5,
    page_bytes: tuple[int, int] = (3000, 6000),
    seed: int = 2,
    legacy_users: int = 0,
    dirty: float = 0.02,
    progress: Progress | None = None,
) -> None:
    """Fill an empty source database, within the caller's transaction: the same arguments give the same rows.

    ``page_bytes``: least and most bytes of a page's script, styles and html together, 500 to 1,000,000.
    ``legacy_users``: how many users the legacy database has that some of these are to be found in.
    ``dirty``: the share of dirty rows in every table, 0 to 1; what a row of which index holds, ``pagtive_source`` says.
    Rows stream: memory does not grow with them. Raises ``ValueError`` where a number is out of its bounds.
    """
    if not 0 <= dirty <= 1:
        raise ValueError("dirty must lie between 0 and 1")
    found = _columns(connection)
    source = Source(
        seed=seed,
        users=users,
        projects_per_user=projects_per_user,
        pages_per_project=pages_per_project,
        legacy_users=legacy_users,
        period=round(1 / dirty) if dirty else 0,
        text_keys=found["users"]["id"] == "text",
        json_arrays=found["projects"]["style_tags"] == "_jsonb",
    )
    pages = Pages(seed, *page_bytes)
    for table, (rows, total) in rows_of(source, pages).items():
        if table not in found:
            continue
        columns = [column for column in COLUMNS[table] if column in found[table]]
        taken = _taken(rows, [COLUMNS[table].index(column) for column in columns])
        copy(connection, table, columns, taken, total=total, progress=progress)
        connection.execute(text(f"ANALYZE {table}"))


def _columns(connection: Connection) -> dict[str, dict[str, str]]:
    """Return the types of the source's columns by table and name."""
    found: dict[str, dict[str, str]] = {}
    for row in connection.execute(
        text("SELECT table_name, column_name, udt_name FROM information_schema.columns WHERE table_schema = 'public'")
    ):
        found.setdefault(row.table_name, {})[row.column_name] = row.udt_name
    return found


def _taken(rows: Iterator[tuple[str, ...]], positions: list[int]) -> Iterator[tuple[str, ...]]:
    """Return rows with only the columns that the source has."""
    return map(itemgetter(*positions), rows)
