"""Content fingerprints: every value of every type counts, in its place; order and database do not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from rollout.contents import relations, table_contents
from rollout.database import engine_for
from rollout.fingerprint import pin_settings, table_fingerprint
from tests.fixtures.databases import execute

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from rollout.settings import Server

# Two values of each type, which differ as little as the type allows; some that the type itself calls equal.
VALUES = {
    "smallint": ("0", "1"),
    "integer": ("-1", "1"),
    "bigint": ("4294967296", "0"),
    "boolean": ("true", "false"),
    "uuid": ("'00000000-0000-0000-0000-000000000001'", "'00000000-0000-0000-0000-000000000002'"),
    "timestamptz": ("'2026-01-01 00:00:00+00'", "'2026-01-01 00:00:00.000001+00'"),
    "timestamp": ("'infinity'", "'-infinity'"),
    "date": ("'2026-01-01'", "'infinity'"),
    "time": ("'00:00'", "'24:00'"),
    "interval": ("'24 hours'", "'1 day'"),
    "numeric": ("1.0", "1.00"),
    "float8": ("'-0'", "'0'"),
    "text": ("''", "' '"),
    "varchar(9)": ("'张三'", "'张四'"),
    "char(3)": ("'a'", "'b'"),
    "bytea": (r"'\x00'", r"'\x0000'"),
    "json": ("""'{"a":1}'""", """'{"a": 1}'"""),
    "jsonb": ("'1.0'", "'1.00'"),
    "inet": ("'10.0.0.1/32'", "'10.0.0.1/31'"),
    "mood": ("'well'", "'ill'"),
    "plain": ("1", "2"),
    "integer[]": ("'{1,2}'", "'[0:1]={1,2}'"),
}


@pytest.fixture
def values(database: Server) -> Server:
    """Make a table with a column of each type, two of text and two of integer, and a row with the first values."""
    columns = [f"c{number} {kind}" for number, kind in enumerate(VALUES)]
    execute(
        database,
        "CREATE TYPE mood AS ENUM ('well', 'ill')",
        "CREATE DOMAIN plain AS integer",
        f"CREATE TABLE held (id integer, a text, b text, i integer, j integer, {', '.join(columns)})",
        f"INSERT INTO held VALUES (1, 'x', 'y', 5, 6, {', '.join(first for first, _ in VALUES.values())})",
        "INSERT INTO held (id, a, b, i, j) VALUES (2, 'p', 'q', 7, 8)",
    )
    return database


def _both(connection: Connection) -> tuple[object, object]:
    """Return the table's fingerprint, taken both ways: by its name, and as backups take it."""
    pin_settings(connection)
    (held,) = [one for one in relations(connection) if one.name == "held"]
    (content,) = table_contents(connection, [(held, held.columns)])
    return table_fingerprint(connection, "public", "held", held.columns), content.fingerprint


CHANGES = [
    *(f"UPDATE held SET c{number} = {second} WHERE id = 1" for number, (_, second) in enumerate(VALUES.values())),
    *(f"UPDATE held SET c{number} = NULL WHERE id = 1" for number in range(len(VALUES))),
    "UPDATE held SET a = b, b = a WHERE id = 1",
    "UPDATE held SET i = j, j = i WHERE id = 1",
    "UPDATE held SET a = CASE a WHEN 'x' THEN 'p' ELSE 'x' END",
    "UPDATE held SET i = CASE i WHEN 5 THEN 7 ELSE 5 END",
    "UPDATE held SET i = NULL, j = i WHERE id = 1",
    "UPDATE held SET a = 'z' WHERE id = 2",  # all that comes after it is NULL there
    "DELETE FROM held WHERE id = 2",
    "INSERT INTO held SELECT * FROM held WHERE id = 2",
]


def test_every_change_of_a_value_shows(values: Server) -> None:
    """Each small change alone gives another fingerprint, whichever way it is taken, and none gives another's."""
    engine = engine_for(values)
    found: dict[str, tuple[object, object]] = {}
    with engine.connect() as connection:
        for change in ("SELECT 1", *CHANGES):
            connection.exec_driver_sql(change)
            found[change] = _both(connection)
            connection.rollback()
    assert len({one for one, _ in found.values()}) == len(found)
    assert len({other for _, other in found.values()}) == len(found)


def test_order_and_settings_do_not_count(values: Server) -> None:
    """The same rows in another order, seen with other settings, have the same fingerprint."""
    with engine_for(values).connect() as connection:
        before = _both(connection)
        connection.rollback()
        connection.exec_driver_sql(
            "SET timezone = 'Asia/Shanghai'; SET datestyle = 'German'; SET extra_float_digits = 0"
        )
        connection.exec_driver_sql("CREATE TABLE others AS SELECT * FROM held; DELETE FROM held")
        connection.exec_driver_sql("INSERT INTO held SELECT * FROM others ORDER BY id DESC")
        assert _both(connection) == before


# Whose halves the server's own hash folds into the same, and what lies at the ends of time.
FOLDED = {
    "bigint": ("-1", "4294967295", "0", "4294967297", "-4294967296"),
    "timestamptz": ("'2000-01-01 00:00:00+00'", "'2000-01-01 01:11:34.967297+00'", "'4714-11-24 00:00:00+00 BC'",
                    "'294276-12-31 23:59:59.999999+00'", "'infinity'", "'-infinity'", "NULL"),
    "timestamp": ("'2000-01-01'", "'2000-01-01 01:11:34.967297'", "'4714-11-24 BC'", "'294276-12-31 23:59:59.999999'"),
}  # fmt: skip


@pytest.mark.parametrize("kind", FOLDED)
def test_no_two_values_are_one(database: Server, kind: str) -> None:
    """Values that have nothing to do with each other have hashes of their own."""
    execute(database, f"CREATE TABLE held (c {kind})", "INSERT INTO held VALUES (NULL)")
    engine = engine_for(database)
    found = []
    with engine.connect() as connection:
        for value in FOLDED[kind]:
            connection.exec_driver_sql(f"UPDATE held SET c = {value}")
            found.append(_both(connection))
    assert len(set(found)) == len(found)


@pytest.mark.parametrize("kind", ["smallint", "bigint"])
def test_wide_tables_are_hashed_in_groups(database: Server, kind: str) -> None:
    """In a table of more columns than the server's stack holds hashes, every column counts too."""
    columns = [f"c{number}" for number in range(900)]
    execute(database, f"CREATE TABLE held ({', '.join(f'{name} {kind} DEFAULT 1' for name in columns)})",
            "INSERT INTO held DEFAULT VALUES")  # fmt: skip
    with engine_for(database).connect() as connection:
        found = [_both(connection)]
        for column in ("c0", "c599", "c899"):
            connection.exec_driver_sql(f"UPDATE held SET {column} = 2")
            found.append(_both(connection))
    assert len(set(found)) == len(found)
