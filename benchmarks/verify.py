"""``tool verify`` in seconds, and ``tool verify --deep`` against COPY of the same tables to nowhere."""

from __future__ import annotations

import statistics
import tempfile

from measuring import BIN, compare, timed, within
from upgrade import run_sql

from rollout import adopt, plan
from rollout.database import engine_for
from rollout.embedded import EmbeddedServer
from rollout.sample_data import create_legacy_schema, fill_legacy

SECONDS, RATIO, MEMORY = 10.0, 3.0, 150.0

READ = ("roles", "user_roles")
"""Tables that the checks read whole besides those that are fingerprinted."""


def measure(*, users: int, rounds: int) -> bool:
    """Upgrade a legacy database once; verify it, copy it to nowhere and verify it deeply, in turns."""
    with tempfile.TemporaryDirectory() as scratch, EmbeddedServer(options={"shared_buffers": "512MB"}) as server:
        run_sql(server, "postgres", "CREATE DATABASE legacy")
        engine = engine_for(server.server("legacy"))
        with engine.begin() as connection:
            create_legacy_schema(connection)
            fill_legacy(connection, users=users, cases=users)
        engine.dispose()
        database = server.server("legacy")
        url = server.url.removesuffix("/postgres") + "/legacy"
        environment = {"DATABASE_URL": url, "ROLLOUT_DIR": scratch}
        timed([BIN / "tool", "migrate", "--no-backup", "--yes"], environment)
        run_sql(server, "legacy", "VACUUM ANALYZE")
        tables = [*adopt.WRITTEN, *adopt.our_tables(plan.history()[-1].id), *READ]
        copies = [part for table in tables for part in ("-c", f"COPY public.{table} TO '/dev/null'")]
        copy = [server.bin / "psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", *copies]
        plain, copied, deep = [], [], []
        for _ in range(rounds):
            plain.append(timed([BIN / "tool", "verify"], environment))
            copied.append(timed(copy, database.environment()))
            deep.append(timed([BIN / "tool", "verify", "--deep"], environment))
    print(f"{users} users, {users} cases")
    results = (
        within("tool verify", statistics.median(one.seconds for one in plain), SECONDS, "s"),
        compare("tool verify --deep / COPY TO '/dev/null'", deep, copied, RATIO),
        within("memory", max(one.peak for one in (*plain, *deep)) / 2**20, MEMORY, "MiB"),
    )
    return all(results)
