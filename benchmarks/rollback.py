"""``tool rollback`` to before the first upgrade, and its receipt: seconds and memory beside their limits.

People have worked since the upgrade: accounts, pages, credits and edited users, so that there is something to keep.
"""

from __future__ import annotations

import tempfile

from databases import create_legacy, environment, run_sql
from measuring import BIN, Measured, timed, within

from rollout.embedded import EmbeddedServer

ROLLBACK, RECEIPT, MEMORY = 10.0, 5.0, 200.0
SETTINGS = {"shared_buffers": "512MB", "max_wal_size": "4GB"}

# One user in ten: an account and a page, one in twenty edited.
WORK = (
    (
        "INSERT INTO user_accounts (user_id, type, provider, provider_account_id, is_primary, is_verified)"
        " SELECT id, 'oauth', 'google', 'g' || id, true, true FROM users WHERE id::text < '19'"
    ),
    "INSERT INTO pagtive_projects (user_id, project_name) SELECT id, 'page' FROM users WHERE id::text < '19'",
    "UPDATE users SET avatar_url = 'https://example.com/' || id WHERE id::text < '0d'",
)


def measure(*, users: int, rounds: int) -> bool:
    """Upgrade a legacy database once, then show the receipt and roll back on copies of it."""
    with tempfile.TemporaryDirectory() as scratch, EmbeddedServer(options=SETTINGS) as server:
        create_legacy(server, "upgraded", users=users)
        _tool(server, "upgraded", scratch, "migrate", "--no-backup", "--yes")
        run_sql(server, "upgraded", *WORK, "VACUUM ANALYZE")
        receipts: list[Measured] = []
        rollbacks: list[Measured] = []
        for _ in range(rounds):
            run_sql(server, "postgres", "DROP DATABASE IF EXISTS copy", "CREATE DATABASE copy TEMPLATE upgraded")
            run_sql(server, "postgres", "CHECKPOINT")
            receipts.append(_tool(server, "copy", scratch, "rollback", "--to", "before-last-run", "--receipt"))
            rollbacks.append(_tool(server, "copy", scratch, "rollback", "--to", "before-last-run", "--yes"))
    print(f"{users} users, {users} cases")
    results = [
        within("receipt", min(one.seconds for one in receipts), RECEIPT, "s"),
        within("rollback of all families", min(one.seconds for one in rollbacks), ROLLBACK, "s"),
        within("memory", max(one.peak for one in (*receipts, *rollbacks)) / 2**20, MEMORY, "MiB"),
    ]
    return all(results)


def _tool(server: EmbeddedServer, dbname: str, scratch: str, *arguments: str) -> Measured:
    """Run the command line on a database of the server."""
    return timed([BIN / "tool", *arguments], environment(server, dbname, scratch))
