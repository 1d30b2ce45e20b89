"""Sign-in: people can still do it, with the passwords and the addresses that they had."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from sqlalchemy import text

from rollout.checks.registry import Area, Subject, check
from rollout.findings import ERROR, WARNING, Finding
from rollout.messages import say

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection

_NEEDS = (
    "table users", "column users.password_hash", "column users.email", "column users.phone_number",
    "column users.status",
)  # fmt: skip

# Of type char, blanks at the end do not count: quicker than btrim().
_PEOPLE = """
SELECT count(*) AS users, count(*) FILTER (WHERE password_hash::bpchar <> '') AS with_password,
       count(*) FILTER (WHERE email::bpchar <> '') AS with_email,
       count(*) FILTER (WHERE phone_number::bpchar <> '') AS with_phone,
       count(*) FILTER (WHERE status = 'ACTIVE') AS active,
       coalesce(min(password_hash COLLATE "C") = max(password_hash COLLATE "C"), true) AS one_password
FROM {users} AS u
"""

# What ANALYZE saw last: the share of rows that are neither NULL nor empty, and whether one value stands in all of them.
_STATISTICS = text(
    """
SELECT s.attname, 1 - s.null_frac - coalesce((
           SELECT f FROM unnest(s.most_common_vals::text::text[], s.most_common_freqs) AS m(v, f) WHERE btrim(v) = ''
       ), 0) AS share,
       coalesce(s.most_common_freqs[1] > 0.999, false) AS one
FROM pg_stats s WHERE s.schemaname = 'public' AND s.tablename = 'users' AND s.attname IN ('email', 'password_hash')
AND (SELECT c.reltuples <> 0 FROM pg_class c WHERE c.oid = 'public.users'::regclass) -- ANALYZE of no rows keeps the old
"""
)

_MOST = 0.9
"""A tenth of the addresses gone, and the users still there: no single operator does that."""

FEW = 10
"""Up to here, what becomes of users is their operator's business."""


def people(connection: Connection, users: str = "users") -> dict[str, Any]:
    """Count the users, those with a password, an e-mail address, a phone number: an upgrade's record keeps it."""
    return dict(connection.exec_driver_sql(_PEOPLE.format(users=users)).mappings().one())


def _before(subject: Subject) -> dict[str, Any]:
    """Return what is known of the users of before: from the last upgrade's record, else from ANALYZE; as shares."""
    record = None
    if subject.remembers:
        record = subject.connection.execute(
            text(
                "SELECT (record::json -> 'people')::text FROM rollout.runs WHERE command = 'migrate' AND ok"
                " AND (record::json -> 'people') IS NOT NULL ORDER BY number DESC LIMIT 1"
            )
        ).scalar()
    if record is not None:
        known: dict[str, Any] = json.loads(record)
        total = max(known["users"], 1)
        return {
            **known,
            "emails": known["with_email"],
            "with_email": known["with_email"] / total,
            "with_password": known["with_password"] / total,
            "phones": known.get("with_phone", 0),
        }
    seen = {row.attname: row for row in subject.connection.execute(_STATISTICS)}
    if seen.keys() != {"email", "password_hash"}:
        return {}
    password = seen["password_hash"]
    return {
        "seen": True,
        "with_email": seen["email"].share,
        "with_password": password.share,
        "one_password": password.one,
    }


@check(Area.DATA, needs=_NEEDS)
def people_can_sign_in(subject: Subject) -> Iterator[Finding]:
    """Users, passwords, addresses, phone numbers did not vanish; some are active (an empty password: a warning)."""
    if subject.in_upgrade:
        return  # there, the proof that nothing that existed changed sees every byte
    now = people(subject.connection, subject.rows("users"))
    then = _before(subject)
    total = now["users"]
    hint = say("Many at once is nobody's wish: `tool backup list`, then `tool restore PATH` brings them back.")
    if "users" not in subject.sampled and then.get("users", 0) > FEW and total < then["users"] / 2:
        yield Finding("users", say("{now} users are left of {then}", now=total, then=then["users"]), hint)
    if not total:
        if "seen" in then:
            yield Finding("users", say("no user is left"), hint)
        return
    few = total <= FEW
    lost = total - now["with_password"]
    if now["with_password"] / total < then.get("with_password", 0) / 2 and not few:
        yield Finding("users.password_hash", say("the passwords of {count} users are empty", count=lost), hint)
    elif now["one_password"] and not few and not then.get("one_password", True):
        yield Finding("users.password_hash", say("all users have one and the same password"), hint)
    elif lost:
        yield Finding(
            "users.password_hash",
            say("the passwords of {count} users are empty", count=lost),
            "SELECT id, username FROM users WHERE btrim(password_hash) = '';",
            WARNING,
        )
    if few:
        return
    if not now["active"] and then.get("active", 1):
        yield Finding(
            "users.status",
            say("no user is ACTIVE: nobody can sign in"),
            "SELECT status, count(*) FROM users GROUP BY status;",
            ERROR if then.get("active", 0) > FEW else WARNING,
        )
    yield from _addresses(now, then, hint, sampled="users" in subject.sampled)


def _addresses(now: dict[str, Any], then: dict[str, Any], hint: str, *, sampled: bool) -> Iterator[Finding]:
    """Yield what became of the e-mail addresses and phone numbers of many users."""
    total, left, had = now["users"], now["with_email"], then.get("emails", 0)
    if left / total < then.get("with_email", 0) / 2:
        yield Finding("users.email", say("{count} users have no e-mail address", count=total - left), hint)
    elif not left:
        yield Finding("users.email", say("no user has an e-mail address"), hint, WARNING)
    elif not sampled and left < _MOST * had <= total:
        problem = say("{count} users had an e-mail address at the upgrade, {now} do", count=had, now=left)
        yield Finding("users.email", problem, hint, WARNING)
    had, left = then.get("phones", 0), now["with_phone"]
    if not sampled and left < had / 2:  # in numbers, not shares: who is imported has none
        problem = say("{count} users had a phone number at the upgrade, {now} do", count=had, now=left)
        yield Finding("users.phone_number", problem, hint, WARNING)


@check(Area.DATA, needs=("table user_accounts", "column users.email"))
def email_accounts_agree(subject: Subject) -> Iterator[Finding]:
    """Users who sign in by e-mail have that address; single ones that differ are a warning, a mass of them is not."""
    source = "JOIN users u ON u.id = a.user_id WHERE a.provider = 'email'"
    differs = "lower(btrim(u.email)) IS DISTINCT FROM lower(btrim(a.provider_account_id))"
    total, different = subject.connection.exec_driver_sql(
        f"SELECT count(*), count(*) FILTER (WHERE {differs}) FROM {subject.rows('user_accounts')} AS a {source}"
    ).one()
    if different:
        yield Finding(
            "users.email",
            say("{count} user(s) sign in by an e-mail address that is not theirs", count=different),
            f"SELECT u.id, u.email, a.provider_account_id FROM user_accounts AS a {source} AND {differs};",
            ERROR if different > total / 2 and total > FEW else WARNING,
        )
