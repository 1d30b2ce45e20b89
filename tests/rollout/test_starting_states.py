"""Generated starting states: any part of our schema may be there already, with rows; upgrade and rollback give it back.

Two states run with the suite; ``STARTING_STATES=40 pytest tests/rollout/test_starting_states.py`` runs more.
"""

from __future__ import annotations

import os
import random
import re

import pytest

from rollout import manifest, plan
from rollout.adopt import our_tables
from tests.fixtures.databases import execute
from tests.fixtures.legacy import HEAD, attempt, picture
from tests.fixtures.migrated import back, by_hand

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


def referred_to(table):
    """Return the tables of ours that a table refers to."""
    found = (re.search(r"REFERENCES (\w+)\(", str(one.get("definition"))) for _, one in WANTED.parts_of(table))
    return {match[1] for match in found if match and match[1] in TABLES}


def some_tables(dice):
    """Return some of our tables and all that they refer to, in an order in which they can be made."""
    share = dice.choice([0.1, 0.3, 0.6, 0.9])
    wanted = {table for table in TABLES if dice.random() < share}
    for _ in range(4):
        wanted |= {other for table in wanted for other in referred_to(table)}
    order = []
    while len(order) < len(wanted):
        order += [table for table in sorted(wanted) if table not in order and referred_to(table) <= set(order)]
    return order


def make_some(server, dice):
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


@pytest.mark.parametrize("seed", range(int(os.environ.get("STARTING_STATES", "2"))))
def test_there_and_back(legacy, settings_for, seed):
    """Byte for byte by pg_dump, row for row by content; also where the baseline stays and everything else goes."""
    make_some(legacy, random.Random(seed))  # noqa: S311 - the same states every time
    before = picture(legacy)
    settings = settings_for(legacy)
    assert attempt(settings).error is None
    assert back(settings).error is None
    assert before.differences(picture(legacy)) == []
    assert attempt(settings).error is None
    assert back(settings, "baseline").error is None
    assert before.lost(picture(legacy)) == []
