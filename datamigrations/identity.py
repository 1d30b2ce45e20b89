"""Who a source user is in the target: the map, Feishu, e-mail, or somebody new; several source users may be one person.

``import_people``: one row a source user that fits, with the target's user (``user_id``) and the rule that found it
(``matched_by``: map, feishu, email, created, merged). Source users whom no rule finds are joined into groups that share
an e-mail address or a Feishu id; a group belongs to the target's user of any of its addresses or ids that another
source user has brought along, else its oldest member becomes a new user and the others are merged into it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from datamigrations import addresses, decisions, quarantine
from datamigrations.mapping import USERS
from datamigrations.sqltext import literal
from rollout.messages import say

if TYPE_CHECKING:
    from datamigrations.job import Job

AMBIGUOUS = "ambiguous_email"

KNOWN = "users.known"
"""The name under which ``rollout.import_changes`` keeps hashes of the addresses and ids that source users came with.

A run that reads some users only finds by them who somebody new is the same as.
"""


def known_as(people: str) -> str:
    """Return a query for the hashes (``content``) of the address and of the Feishu id of each of ``people`` (``n``)."""
    return " UNION ALL ".join(
        f"SELECT n, hashtextextended({literal(kind)} || {column}, 0) AS content FROM {people}"
        f" WHERE {column} IS NOT NULL"
        for kind, column in (("email ", "email_key"), ("feishu ", "open_id"))
    )


_PEOPLE = f"""
SELECT w.n, w.id AS source_id, w.email, {addresses.key("w.email")} AS email_key,
       CASE WHEN w.username ~ '^ou_.' THEN w.username END AS open_id,
       w.created_at, coalesce(w.updated_at, w.created_at) AS updated,
       m.matched_by AS mapped_by,
       d.action AS decided,
       coalesce(m.user_id, CASE WHEN d.action = 'match' THEN d.target::uuid
                                WHEN d.action IS NULL THEN coalesce(a.user_id, CASE WHEN e.users = 1 THEN e.user_id END)
                           END) AS user_id,
       CASE WHEN m.user_id IS NOT NULL THEN 'map'
            WHEN d.action = 'match' THEN 'decision'
            WHEN d.action IS NOT NULL THEN NULL
            WHEN a.user_id IS NOT NULL THEN 'feishu'
            WHEN e.users = 1 THEN 'email'
            WHEN e.users > 1 THEN 'ambiguous' END AS matched_by
FROM rollout.import_converted_users AS w
LEFT JOIN public.pagtive_user_map AS m ON m.source_id = w.id
LEFT JOIN rollout.import_decisions AS d ON d.source_id = w.id
LEFT JOIN public.user_accounts AS a
       ON a.provider = 'feishu' AND w.username ~ '^ou_.' AND a.provider_account_id = w.username
LEFT JOIN (
    SELECT {addresses.key("u.email")} AS email_key, count(*) AS users, min(u.id::text)::uuid AS user_id
    FROM public.users AS u
    WHERE {addresses.key("u.email")} IN (SELECT {addresses.key("c.email")} FROM rollout.import_converted_users AS c)
    GROUP BY 1
) AS e ON e.email_key = {addresses.key("w.email")}
WHERE {quarantine.accepted(USERS)}
"""

# ``place``: the order of age, which also says who leads a group.
_NEWCOMERS = """
SELECT p.n, p.source_id, CASE WHEN p.decided IS NULL THEN p.email_key END AS email_key,
       CASE WHEN p.decided IS NULL THEN p.open_id END AS open_id, p.decided,
       row_number() OVER (ORDER BY p.created_at, p.source_id) AS place
FROM rollout.import_people AS p WHERE p.user_id IS NULL
"""

_TWINS = """
SELECT c.n, c.email_key, c.open_id, c.place, c.place AS leader FROM rollout.import_newcomers AS c
WHERE c.email_key IN (SELECT email_key FROM rollout.import_newcomers GROUP BY email_key HAVING count(*) > 1)
   OR c.open_id IN (SELECT open_id FROM rollout.import_newcomers GROUP BY open_id HAVING count(*) > 1)
"""

_JOIN_TWINS = """
UPDATE rollout.import_twins AS c SET leader = l.leader
FROM (
    SELECT n, least(
        leader,
        CASE WHEN email_key IS NOT NULL THEN min(leader) OVER (PARTITION BY email_key) END,
        CASE WHEN open_id IS NOT NULL THEN min(leader) OVER (PARTITION BY open_id) END
    ) AS leader FROM rollout.import_twins
) AS l
WHERE l.n = c.n AND l.leader < c.leader
"""

# Following the leader's leader halves the length of chains of people who share now an address, now an id.
_SHORTEN = """
UPDATE rollout.import_twins AS c SET leader = l.leader
FROM rollout.import_twins AS l WHERE l.place = c.leader AND l.leader < c.leader
"""

_GROUPS = """
SELECT c.n, c.source_id, c.email_key, c.open_id, c.place, coalesce(t.leader, c.place) AS leader
FROM rollout.import_newcomers AS c LEFT JOIN rollout.import_twins AS t ON t.n = c.n
"""

_LINKS = f"""
SELECT l.leader, count(DISTINCT l.user_id) AS users, min(l.user_id::text)::uuid AS user_id
FROM (
    SELECT g.leader, p.user_id
    FROM rollout.import_groups AS g JOIN rollout.import_people AS p ON p.email_key = g.email_key
    UNION
    SELECT g.leader, p.user_id FROM rollout.import_groups AS g JOIN rollout.import_people AS p ON p.open_id = g.open_id
    UNION
    SELECT g.leader, m.user_id
    FROM rollout.import_groups AS g JOIN ({known_as("rollout.import_groups")}) AS k ON k.n = g.n
    JOIN rollout.import_changes AS c ON c.table_name = '{KNOWN}' AND c.content = k.content
    JOIN public.pagtive_user_map AS m ON m.source_id = c.row_key
    WHERE :partly AND NOT EXISTS (SELECT FROM rollout.import_converted_users AS w WHERE w.id = m.source_id)
) AS l
WHERE l.user_id IS NOT NULL
GROUP BY l.leader
"""

# A group whose new user would need an e-mail account that somebody has already.
_ACCOUNT_TAKEN = f"""
SELECT g.n FROM rollout.import_groups AS g JOIN rollout.import_groups AS h ON h.place = g.leader
WHERE h.open_id IS NULL
  AND h.email_key IN (SELECT {addresses.key("a.provider_account_id")} FROM public.user_accounts AS a
                      WHERE a.provider = 'email')
  AND NOT EXISTS (SELECT FROM rollout.import_links AS l WHERE l.leader = g.leader)
"""

# Who is to be created as decided stands alone, and needs an account that nobody has or will have.
_CREATE_TAKEN = f"""
SELECT p.n FROM rollout.import_people AS p
WHERE p.decided = 'create' AND p.mapped_by IS NULL AND (
    EXISTS (SELECT FROM public.user_accounts AS a WHERE a.provider = 'feishu' AND a.provider_account_id = p.open_id)
    OR p.open_id IS NULL AND p.email_key IN (SELECT {addresses.key("a.provider_account_id")}
                                             FROM public.user_accounts AS a WHERE a.provider = 'email')
    OR EXISTS (SELECT FROM rollout.import_people AS o WHERE o.n <> p.n AND o.user_id IS NULL
               AND (o.open_id = p.open_id OR o.email_key = p.email_key))
    OR EXISTS (SELECT FROM public.users AS u WHERE u.email = p.email))
"""

_SETTLE = """
UPDATE rollout.import_people AS p SET user_id = f.user_id, matched_by = f.matched_by
FROM (
    SELECT g.n, coalesce(l.user_id, h.user_id) AS user_id,
           CASE WHEN l.user_id IS NULL AND g.place = g.leader THEN 'created' ELSE 'merged' END AS matched_by
    FROM rollout.import_groups AS g
    LEFT JOIN rollout.import_links AS l ON l.leader = g.leader
    LEFT JOIN rollout.import_leaders AS h ON h.place = g.leader
) AS f
WHERE f.n = p.n
"""

# The source's id where it is a uuid that is free.
_LEADERS = f"""
SELECT g.place, CASE
    WHEN g.source_id ~ '^[0-9a-f]{{8}}(-[0-9a-f]{{4}}){{3}}-[0-9a-f]{{12}}$'
     AND NOT EXISTS (SELECT FROM public.users AS u WHERE u.id::text = g.source_id)
    THEN g.source_id::uuid ELSE gen_random_uuid() END AS user_id
FROM rollout.import_groups AS g
WHERE g.place = g.leader AND {quarantine.accepted(USERS, "g")}
"""

# Source users for whom somebody of an earlier import speaks whom this run has not read, or cannot take today.
_SPOKEN_FOR = """
EXISTS (SELECT FROM public.pagtive_user_map AS m
        WHERE m.user_id = {user} AND m.matched_by <> 'merged'
          AND NOT EXISTS (SELECT FROM rollout.import_people AS o WHERE o.source_id = m.source_id)
          AND ({partly} OR EXISTS (SELECT FROM rollout.import_converted_users AS w WHERE w.id = m.source_id)))
"""

# Of several source users of one target user one speaks for it: the one of the map, of Feishu, of e-mail, the oldest.
_SPEAKERS = """
UPDATE rollout.import_people AS p SET matched_by = 'merged'
FROM (
    SELECT n, mapped_by IS NULL AND {spoken_for} AS spoken_for, row_number() OVER (
        PARTITION BY user_id
        ORDER BY mapped_by IS NOT DISTINCT FROM 'merged',
                 array_position(ARRAY['map', 'decision', 'feishu', 'email', 'created', 'merged'], matched_by),
                 created_at, source_id
    ) AS place FROM rollout.import_people AS q WHERE user_id IS NOT NULL
) AS o
WHERE o.n = p.n AND (o.place > 1 OR o.spoken_for OR p.mapped_by = 'merged') AND p.matched_by <> 'merged'
"""


# Feishu users of the older table that nobody has upgraded: rule 2 cannot see them.
_NOT_UPGRADED = """
SELECT count(*) FROM rollout.import_people AS p JOIN public.feishu_auths AS f ON f.open_id = p.open_id
WHERE p.matched_by IS DISTINCT FROM 'map' AND p.matched_by IS DISTINCT FROM 'feishu'
"""


def resolve(job: Job) -> None:
    """Make ``import_people`` from ``import_converted_users``; whoever cannot be told apart is rejected."""
    decisions.prepare(job)
    addresses.prepare(job)
    job.temporary("import_people", _PEOPLE)
    _warn(job)
    message = "several users of the target have this e-mail address"
    _reject(job, AMBIGUOUS, message, "SELECT n FROM rollout.import_people WHERE matched_by = 'ambiguous'")
    skipped = "SELECT n FROM rollout.import_people WHERE decided = 'skip'"
    _reject(job, quarantine.SKIPPED, "the file of decisions says to skip this user", skipped)
    message = "the decided user's address or Feishu id is somebody's account"
    _reject(job, decisions.CREATE_TAKEN, message, _CREATE_TAKEN)
    job.temporary("import_newcomers", _NEWCOMERS)
    job.temporary("import_twins", _TWINS)
    while job.execute(_JOIN_TWINS):
        job.execute(_SHORTEN)
    job.temporary("import_groups", _GROUPS)
    job.temporary("import_links", _LINKS, partly=job.options.partly)
    _reject(
        job,
        AMBIGUOUS,
        "other source users with this e-mail address or Feishu id are several users of the target",
        "SELECT g.n FROM rollout.import_groups AS g JOIN rollout.import_links AS l ON l.leader = g.leader"
        " WHERE l.users > 1",
    )
    _reject(job, "account_taken", "the e-mail address is another user's account", _ACCOUNT_TAKEN)
    job.temporary("import_leaders", _LEADERS)
    job.execute(_SETTLE)
    # Its statistics are of before: with them, _SPEAKERS compares everybody with everybody.
    job.execute("ANALYZE rollout.import_people")
    spoken_for = _SPOKEN_FOR.format(user="q.user_id", partly=str(job.options.partly).lower())
    job.execute(_SPEAKERS.format(spoken_for=spoken_for))


def _warn(job: Job) -> None:
    """Say how many source users would have been found if the target's Feishu users had accounts."""
    waiting = job.scalar(_NOT_UPGRADED) if job.scalar("SELECT to_regclass('public.feishu_auths') IS NOT NULL") else 0
    job.run.result["feishu_not_upgraded"] = waiting
    if waiting:
        job.run.listener.note(
            say("{count} Feishu users of the target have no account yet: run `tool users upgrade` first", count=waiting)
        )


def _reject(job: Job, code: str, message: str, query: str) -> None:
    """Reject source users and take them out of ``import_people``."""
    if quarantine.reject(job, USERS, code, message, query):
        job.execute("DELETE FROM rollout.import_people AS p WHERE NOT (" + quarantine.accepted(USERS, "p") + ")")
        if job.scalar("SELECT to_regclass('rollout.import_groups') IS NOT NULL"):
            job.execute("DELETE FROM rollout.import_groups AS g WHERE NOT (" + quarantine.accepted(USERS, "g") + ")")
