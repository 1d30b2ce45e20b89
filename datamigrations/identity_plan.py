"""``tool pagtive plan``: who each source user would be in the target, what collides, and what would be withheld.

The same code as the import decides (staging, rules, ``identity.resolve``, the merge of users), in a transaction that is
rolled back. Addresses and names are personal data (a name may be a part of an address, or a telephone number): they are
in the CSV only, which its owner alone may read, never in reports.
"""

from __future__ import annotations

import csv
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from sqlalchemy import text

from datamigrations.addresses import key
from datamigrations.decisions import is_personal
from rollout.output import output

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from datamigrations.job import Job

LISTED = 100
"""How many users, and collisions of each kind, the result lists; the CSV has all users."""

_BATCH = 2000
_COLUMNS = (
    "source_id", "email", "username", "matched_by", "target_user_id", "merged_into", "new_username", "taken_username",
    "withheld_role", "reasons", "change",
)  # fmt: skip
_PERSONAL = {"email", "username", "new_username", "taken_username"}

# Rejected users are no longer among the people: what is said of them comes from the list of rejects.
_USERS = """
SELECT coalesce(x.id, s.id::text) AS source_id, x.email, x.username,
       coalesce(p.matched_by, 'quarantined') AS matched_by,
       CASE WHEN c.n IS NULL THEN p.user_id::text END AS target_user_id,
       CASE WHEN p.matched_by = 'merged' THEN l.source_id END AS merged_into,
       m.username AS new_username,
       CASE WHEN m.username <> m.base THEN m.base END AS taken_username,
       CASE WHEN w.withheld THEN w.old_role || ' -> ' || w.wanted_role END AS withheld_role,
       array_to_string(r.reasons, ', ') AS reasons,
       CASE WHEN w.action = 'update' THEN w.change END AS change
FROM rollout.staged_users AS s
JOIN rollout.import_converted_users AS x ON x.n = s.n
LEFT JOIN rollout.import_people AS p ON p.n = s.n
LEFT JOIN rollout.import_names AS m ON m.n = s.n
LEFT JOIN rollout.import_names AS c ON c.user_id = p.user_id
LEFT JOIN rollout.import_people AS l ON l.user_id = p.user_id AND l.matched_by <> 'merged'
LEFT JOIN rollout.import_plan_users AS w ON w.n = s.n
LEFT JOIN (SELECT n, array_agg(DISTINCT reason ORDER BY reason) AS reasons
           FROM rollout.import_rejected, unnest(reasons) AS reason
           WHERE table_name = 'users' GROUP BY n) AS r ON r.n = s.n
ORDER BY s.n
"""

_SHARED = """
SELECT '{kind}' AS kind, array_agg({who} ORDER BY {who}) AS users FROM {rows} GROUP BY {by} HAVING count(*) > 1
"""
_WANTED = f"SELECT {key('c.email')} FROM rollout.import_converted_users AS c"
_COLLISIONS = " UNION ALL ".join(
    [
        _SHARED.format(
            kind="source_email",
            who="w.id",
            by=key("w.email"),
            rows=f"rollout.import_converted_users AS w WHERE {key('w.email')} IS NOT NULL",
        ),
        _SHARED.format(
            kind="source_feishu",
            who="w.id",
            by="w.username",
            rows="rollout.import_converted_users AS w WHERE w.username ~ '^ou_.'",
        ),
        _SHARED.format(
            kind="target_email",
            who="u.id::text",
            by=key("u.email"),
            rows=f"public.users AS u WHERE {key('u.email')} IN ({_WANTED})"
            " AND u.id NOT IN (SELECT user_id FROM rollout.import_names)",
        ),
    ]
)

_COUNTED = f"SELECT kind, count(*) FROM ({_COLLISIONS}) AS q GROUP BY kind ORDER BY kind"


def collect(job: Job, file: Path | None) -> None:
    """Put the plan into the run's result, and all of it into ``file``. Needs the merge of users.

    ``identity``: ``matched`` {rule: users}, ``taken_usernames``, ``collisions`` {kind: count}, ``colliding`` and
    ``users`` (bounded lists, without addresses and names).
    """
    matched: dict[str, int] = {}
    listed: list[dict[str, Any]] = []
    taken = 0
    with ExitStack() as stack:
        handle = stack.enter_context(output(file, private=True)) if file is not None else None
        writer = csv.writer(handle) if handle is not None else None
        if writer is not None:
            writer.writerow(_COLUMNS)
        for row in _stream(job):
            if writer is not None:
                writer.writerow(_cell(name, row[name]) for name in _COLUMNS)
            matched[row["matched_by"]] = matched.get(row["matched_by"], 0) + 1
            taken += row["taken_username"] is not None
            if len(listed) < LISTED:
                listed.append(_without_addresses(row))
    collisions = {kind: int(count) for kind, count in job.connection.execute(text(_COUNTED))}
    colliding = job.connection.execute(text(_COLLISIONS + " LIMIT :listed"), {"listed": LISTED})
    job.run.result["identity"] = {
        "matched": dict(sorted(matched.items())),
        "taken_usernames": taken,
        "collisions": collisions,
        "colliding": [
            {"kind": one.kind, "users": [who for who in one.users if not is_personal(who)][:LISTED]}
            for one in colliding
        ],
        "users": listed,
    }


def _stream(job: Job) -> Iterator[dict[str, Any]]:
    """Yield one row a source user, a few at a time."""
    query = text(_USERS).execution_options(stream_results=True, yield_per=_BATCH)
    with job.connection.execute(query) as rows:
        for row in rows.mappings():
            yield dict(row)


def _cell(name: str, value: str | None) -> str | None:
    """Return a cell of the CSV: what users choose, and a spreadsheet would run, begins with an apostrophe.

    https://owasp.org/www-community/attacks/CSV_Injection
    """
    return f"'{value}" if name in _PERSONAL and value and value[0] in "=+-@\t\r" else value


def _without_addresses(row: dict[str, Any]) -> dict[str, Any]:
    """Return what a report may hold of a user: no name, no address, not even one that serves as an id; nothing empty.

    ``username_taken`` says that the username is somebody's, without telling it.
    """
    shown = {name: value for name, value in row.items() if name not in _PERSONAL and value is not None}
    told = {name: value for name, value in shown.items() if not is_personal(value)}
    return told | ({"username_taken": True} if row["taken_username"] is not None else {})
