"""Usernames of new users: the source's, else made of the e-mail address or the id; one that is taken gets a number."""

from __future__ import annotations

from typing import TYPE_CHECKING

from datamigrations.sqltext import BLANKS

if TYPE_CHECKING:
    from datamigrations.job import Job

# What a username is made of; ``stem`` is what a number is put behind, so that both together fit the column.
_NAMES = f"""
SELECT q.*, left(q.base, 240) AS stem,
       CASE WHEN row_number() OVER (PARTITION BY q.base ORDER BY q.place) = 1
             AND NOT EXISTS (SELECT FROM public.users AS u WHERE u.username = q.base)
            THEN q.base END AS username
FROM (
    SELECT p.n, p.user_id, row_number() OVER (ORDER BY p.created_at, p.source_id) AS place,
           CASE WHEN btrim(w.username, {BLANKS}) <> '' THEN w.username
                WHEN split_part(p.email, '@', 1) <> '' THEN split_part(p.email, '@', 1)
                ELSE 'user_' || left(p.source_id, 8) END AS base
    FROM rollout.import_people AS p JOIN rollout.import_converted_users AS w ON w.n = p.n
    WHERE p.matched_by = 'created'
) AS q
"""

# The k-th user of a stem that is left without a name gets the k-th number that nobody has, from 2 on.
_NUMBERED = """
WITH rest AS (
    SELECT n, stem, row_number() OVER (PARTITION BY stem ORDER BY place) AS turn
    FROM rollout.import_names WHERE username IS NULL
), need AS (
    SELECT stem, count(*) AS users FROM rest GROUP BY stem
), taken AS (
    SELECT DISTINCT x.stem, x.number FROM (
        SELECT substring(username FROM '^(.*)-[1-9][0-9]{0,8}$') AS stem,
               substring(username FROM '-([1-9][0-9]{0,8})$')::bigint AS number
        FROM (SELECT username FROM public.users UNION ALL SELECT username FROM rollout.import_names) AS every
    ) AS x JOIN need ON need.stem = x.stem
), free AS (
    SELECT need.stem, g.number, row_number() OVER (PARTITION BY need.stem ORDER BY g.number) AS turn
    FROM need, generate_series(2, 1 + need.users + (SELECT count(*) FROM taken AS t WHERE t.stem = need.stem))
         AS g (number)
    WHERE NOT EXISTS (SELECT FROM taken AS t WHERE t.stem = need.stem AND t.number = g.number)
)
UPDATE rollout.import_names AS m SET username = rest.stem || '-' || free.number
FROM rest JOIN free ON free.stem = rest.stem AND free.turn = rest.turn
WHERE m.n = rest.n
"""


def assign(job: Job) -> None:
    """Make ``import_names``: one row a new user, with its ``username``. Needs ``identity.resolve``."""
    job.temporary("import_names", _NAMES)
    if job.scalar("SELECT EXISTS (SELECT FROM rollout.import_names WHERE username IS NULL)"):
        job.execute(_NUMBERED)
