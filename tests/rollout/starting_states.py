"""What a database may have of ours before the first upgrade: generated from the manifest, identical or different."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rollout import manifest, plan
from rollout.adopt import our_tables
from tests.fixtures.databases import execute
from tests.fixtures.legacy import HEAD
from tests.fixtures.migrated import by_hand

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator

    from rollout.catalog import Definition
    from rollout.settings import Server

WANTED = manifest.at([one.id for one in plan.history()], major=0)
TABLES = [table for table in our_tables(HEAD) if table != "feishu_auths"]  # the legacy sample has that one

COLUMNS = {
    "workspace_id": "ADD workspace_id varchar(50) NOT NULL"
    " DEFAULT ('ws-' || replace(gen_random_uuid()::text, '-', ''))",
    "account_type": "ADD account_type varchar(20) NOT NULL DEFAULT 'pending'",
    "email_verified": "ADD email_verified boolean NOT NULL DEFAULT false",
    "registration_source": "ADD registration_source varchar(20) NOT NULL DEFAULT 'web'",
    "role": "ADD role varchar(20) NOT NULL DEFAULT 'user'",
    "avatar_url": "ADD avatar_url varchar(500)",
}
ROWS = {
    "user_credits": "INSERT INTO user_credits (user_id) SELECT id FROM users ORDER BY id LIMIT 7",
    "demo_accounts": "INSERT INTO demo_accounts (demo_type, workspace_id, display_name, demo_data)"
    """ VALUES ('user', 'theirs', 'x', '{"a": 1}')""",
    "enterprise_service_packages": "INSERT INTO enterprise_service_packages"
    " (package_name, package_type, monthly_fee, case_volume_limit) VALUES ('theirs', 'custom', 1, 1)",
    "user_accounts": "INSERT INTO user_accounts"
    " (user_id, type, provider, provider_account_id, is_primary, is_verified)"
    " SELECT id, 'oauth', 'google', 'g' || id, true, true FROM users ORDER BY id LIMIT 4",
    "workspace_mappings": "INSERT INTO workspace_mappings (user_id, workspace_id, workspace_type)"
    " SELECT id, workspace_id, 'user' FROM users ORDER BY id LIMIT 9",
}


@dataclass(frozen=True)
class There:
    """What of ours is there: columns of users, and tables."""

    columns: list[str]
    tables: list[str]


@dataclass(frozen=True)
class Different:
    """One object of another definition: what makes it so, and whether ``--mend`` mends it or its owner has to."""

    subject: str
    made: str
    is_mended: bool = True


def referred_to(table: str) -> set[str]:
    """Return the tables of ours that a table refers to."""
    found = (re.search(r"REFERENCES (\w+)\(", str(one.get("definition"))) for _, one in WANTED.parts_of(table))
    return {match[1] for match in found if match and match[1] in TABLES}


def some_tables(dice: random.Random) -> list[str]:
    """Return some of our tables and all that they refer to, in an order in which they can be made."""
    share = dice.choice([0.1, 0.3, 0.6, 0.9])
    wanted = {table for table in TABLES if dice.random() < share}
    for _ in range(4):
        wanted |= {other for table in wanted for other in referred_to(table)}
    order: list[str] = []
    while len(order) < len(wanted):
        order += [table for table in sorted(wanted) if table not in order and referred_to(table) <= set(order)]
    return order


def make_some(server: Server, dice: random.Random) -> There:
    """Make some of our columns, tables, indexes and rows by hand."""
    columns = [name for name in COLUMNS if dice.random() < 0.4]
    tables = some_tables(dice)
    execute(server, *(f"ALTER TABLE users {COLUMNS[name]}" for name in columns))
    by_hand(server, *tables)
    for key, one in WANTED.objects.items():
        if key.startswith("index ") and one["table"] in tables and dice.random() < 0.5:
            execute(server, one["definition"].replace(" INDEX ON ", f" INDEX by_hand_{dice.randrange(10**9)} ON "))
    for table in tables:
        known = table in ROWS and (table != "workspace_mappings" or "workspace_id" in columns)
        if known and dice.random() < 0.6:
            execute(server, ROWS[table])
    return There(columns, tables)


def make_different(server: Server, there: There, dice: random.Random) -> list[Different]:
    """Make up to five objects different, each of another table or kind; return them."""
    of_tables = [list(_of_table(table)) for table in dice.sample(there.tables, min(3, len(there.tables)))]
    of_users = [one for name in there.columns for one in _of_column("users", name, f"users.{name}")]
    chosen = [dice.choice(some) for some in [*of_tables, of_users, list(_of_names(there))] if some]
    chosen = dice.sample(chosen, dice.randrange(1, len(chosen) + 1))
    execute(server, *(one.made for one in chosen))
    return chosen


def _of_table(table: str) -> Iterator[Different]:
    """Yield the ways in which a table that is there may differ."""
    parts = dict(WANTED.parts_of(table))
    alter = f"ALTER TABLE {table}"
    yield Different(table, f"{alter} ADD theirs integer", is_mended=False)
    yield Different(table, f"{alter} ADD CONSTRAINT theirs CHECK (true)", is_mended=False)
    held = {name for key, one in parts.items() if key.startswith("constraint ") for name in one["columns"]}
    for key, one in parts.items():
        name = key.rpartition(".")[2]
        if key.startswith("column ") and name not in held:
            yield from _of_column(table, name, table)
            if one.get("default") or not one["not_null"]:
                yield Different(table, f"{alter} DROP COLUMN {name}")
    ordered = sorted(parts.items(), key=lambda item: item[1].get("type") == "f")  # as by_hand numbers them
    for number, (key, one) in enumerate(ordered):
        if key.startswith("constraint ") and one["type"] in {"c", "f"}:
            yield from _of_constraint(table, f"by_hand_{table}_{number}", key.rpartition(".")[2], one)
    for key, one in WANTED.objects.items():
        if one.get("table") == table and key.startswith("index "):
            name = key.removeprefix("index ")
            column = next(part.rpartition(".")[2] for part in parts if part.startswith("column "))
            yield Different(name, f"CREATE INDEX {name} ON {table} ({column}, ({column} IS NULL))")
            yield Different(name, f"CREATE INDEX {name} ON cases (created_at)", is_mended=False)
        elif one.get("table") == table and key.startswith("trigger "):
            made = str(one["definition"]).replace("lawsker_touch_updated_at", "update_updated_at_column")
            yield Different(key.removeprefix("trigger "), made, is_mended=False)


def _of_column(table: str, name: str, subject: str) -> Iterator[Different]:
    """Yield the ways in which one column may differ."""
    one = WANTED.objects[f"column {table}.{name}"]
    alter, ours = f"ALTER TABLE {table} ALTER {name}", str(one["type"])
    default = str(one.get("default", ""))
    if one.get("identity") or default.startswith("nextval"):
        return
    narrow, wide = _other_types(ours)
    if narrow:
        yield Different(subject, f"{alter} TYPE {narrow}")
    if wide:
        yield Different(subject, f"{alter} TYPE {wide}", is_mended=False)
    if one["not_null"]:
        yield Different(subject, f"{alter} DROP NOT NULL")
    elif table not in {"users", *ROWS}:
        yield Different(subject, f"{alter} SET NOT NULL")
    if default:
        yield Different(subject, f"{alter} DROP DEFAULT")
    if ours.startswith("character"):
        yield Different(subject, f"{alter} SET DEFAULT 'other'")


def _other_types(ours: str) -> tuple[str, str]:
    """Return a type all of whose values fit into ours, and one that could hold more; empty where there is none."""
    length = re.fullmatch(r"character varying\((\d+)\)", ours)
    if length:
        return f"varchar({int(length[1]) - 1})", f"varchar({int(length[1]) + 9})"
    return {"integer": ("smallint", "bigint"), "bigint": ("integer", "numeric"), "text": ("varchar(99)", "")}.get(
        ours, ("", "")
    )


def _of_constraint(table: str, there: str, ours: str, one: Definition) -> Iterator[Different]:
    """Yield the ways in which a constraint, there under a name that somebody chose, may differ."""
    gone = f"ALTER TABLE {table} DROP CONSTRAINT {there}"
    other = "CHECK (true)"
    if one["type"] == "f":
        other = re.sub(r" ON DELETE .*", "", str(one["definition"])) + " ON DELETE RESTRICT"
    yield Different(table, gone)
    yield Different(table, f"{gone}, ADD CONSTRAINT {ours} {other}")
    yield Different(table, f"{gone}, ADD CONSTRAINT {there} {other}", is_mended=False)  # ours is added beside it


def _of_names(there: There) -> Iterator[Different]:
    """Yield things of others that have the names of ours."""
    touch = "lawsker_touch_updated_at()"
    yield Different(
        touch,
        f"CREATE FUNCTION {touch} RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RETURN NULL; END$$",
        is_mended=False,
    )
    stats = "case_matching_stats"
    yield Different(stats, f"CREATE VIEW {stats} AS SELECT 1 AS one", is_mended=False)
    yield Different(stats, f"CREATE TABLE {stats} (one int)", is_mended=False)
    yield Different("ix_users_email_verified", "CREATE TABLE ix_users_email_verified ()", is_mended=False)
    if "account_type" in there.columns:
        name = "ck_users_account_type"
        yield Different(f"users.{name}", f"ALTER TABLE users ADD CONSTRAINT {name} CHECK (account_type <> '')")
        yield Different("ix_users_account_type", "CREATE INDEX ix_users_account_type ON users (account_type, id)")
    for table in TABLES:
        if table not in there.tables:
            yield Different(table, f"CREATE VIEW {table} AS SELECT 1 AS one", is_mended=False)
    if "lawyer_levels" not in there.tables:
        sequence = "lawyer_levels_id_seq"
        yield Different(sequence, f"CREATE SEQUENCE {sequence}", is_mended=False)
