"""``tool users upgrade``: existing users get sign-in accounts, in one transaction; run again, nothing changes.

``tool migrate --with-users`` does the same inside the upgrade's transaction (``WithUsers``).

Tokens move from table to table inside the server; no token ever comes here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import text

from datamigrations import job as jobs
from datamigrations.preflight import check_target
from datamigrations.sqltext import BLANKS
from rollout import memory
from rollout.errors import ReconciliationFailed, VerificationFailed
from rollout.messages import say
from rollout.report import write_report

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import Connection

    from rollout.memory import Session
    from rollout.run import Run
    from rollout.settings import Settings

# No row of users or feishu_auths may change while we look at them, and no account may appear.
_LOCKS = {"users": "SHARE", "feishu_auths": "SHARE", "user_accounts": jobs.WRITE}

_NEEDED = {
    "users": ("id", "email", "created_at"),
    "feishu_auths": ("user_id", "open_id", "union_id", "access_token", "refresh_token", "token_expires_at"),
    "user_accounts": (
        "user_id", "type", "provider", "provider_account_id", "access_token", "refresh_token", "expires_at",
        "is_primary", "is_verified", "provider_profile",
    ),
}  # fmt: skip

# What each user who has no Feishu account yet, but a row of feishu_auths, would get; ``reason``: why it cannot.
_FEISHU = f"""
CREATE TEMPORARY TABLE upgrade_feishu_wanted ON COMMIT DROP AS
SELECT f.user_id,
       CASE WHEN btrim(f.open_id, {BLANKS}) = '' THEN 'no_open_id'
            WHEN EXISTS (SELECT FROM public.user_accounts AS a
                         WHERE a.provider = 'feishu' AND a.provider_account_id = f.open_id AND a.user_id <> f.user_id)
            THEN 'open_id_taken' END AS reason
FROM public.feishu_auths AS f
WHERE NOT EXISTS (SELECT FROM public.user_accounts AS a WHERE a.user_id = f.user_id AND a.provider = 'feishu')
"""

_CAN_SIGN_IN = f"btrim(u.email, {BLANKS}) <> '' OR EXISTS (SELECT FROM public.feishu_auths AS f WHERE f.user_id = u.id)"

# Whoever has accounts, but none that is primary, and gets no Feishu account: left as is, and told.
_WITHOUT_PRIMARY = f"""
CREATE TEMPORARY TABLE upgrade_without_primary ON COMMIT DROP AS
SELECT a.user_id FROM public.user_accounts AS a
JOIN public.users AS u ON u.id = a.user_id
WHERE ({_CAN_SIGN_IN}) AND a.user_id NOT IN (SELECT user_id FROM upgrade_feishu_wanted)
GROUP BY a.user_id HAVING NOT bool_or(a.is_primary)
"""

_INSERT_FEISHU = """
INSERT INTO public.user_accounts (user_id, type, provider, provider_account_id, access_token, refresh_token, expires_at,
                                  is_primary, is_verified, provider_profile)
SELECT f.user_id, 'oauth', 'feishu', f.open_id, f.access_token, f.refresh_token, f.token_expires_at,
       NOT EXISTS (SELECT FROM public.user_accounts AS a WHERE a.user_id = f.user_id AND a.is_primary), true,
       jsonb_build_object('open_id', f.open_id, 'union_id', f.union_id)
FROM upgrade_feishu_wanted AS w JOIN public.feishu_auths AS f ON f.user_id = w.user_id
WHERE w.reason IS NULL
"""

# Users with an address, no feishu_auths row and no account at all. Of two with the same address the older one gets it.
_EMAIL = f"""
CREATE TEMPORARY TABLE upgrade_email_wanted ON COMMIT DROP AS
SELECT q.user_id, q.address,
       CASE WHEN EXISTS (SELECT FROM public.user_accounts AS a
                         WHERE a.provider = 'email' AND a.provider_account_id = q.address) OR q.turn > 1
            THEN 'email_taken' END AS reason
FROM (
    SELECT u.id AS user_id, btrim(u.email, {BLANKS}) AS address,
           row_number() OVER (PARTITION BY btrim(u.email, {BLANKS}) ORDER BY u.created_at, u.id) AS turn
    FROM public.users AS u
    WHERE btrim(u.email, {BLANKS}) <> ''
      AND NOT EXISTS (SELECT FROM public.feishu_auths AS f WHERE f.user_id = u.id)
      AND NOT EXISTS (SELECT FROM public.user_accounts AS a WHERE a.user_id = u.id)
) AS q
"""

_INSERT_EMAIL = """
INSERT INTO public.user_accounts (user_id, type, provider, provider_account_id, is_primary, is_verified)
SELECT user_id, 'email', 'email', address, true, true FROM upgrade_email_wanted WHERE reason IS NULL
"""

_SKIPPED = """
SELECT user_id::text, reason FROM upgrade_feishu_wanted WHERE reason IS NOT NULL
UNION ALL SELECT user_id::text, reason FROM upgrade_email_wanted WHERE reason IS NOT NULL
UNION ALL SELECT user_id::text, 'no_primary' FROM upgrade_without_primary ORDER BY 1
"""

# Users with an address or Feishu, not left out for a reason, who have no primary account or several.
_PRIMARIES = f"""
SELECT count(*) FROM public.users AS u
LEFT JOIN (SELECT user_id, count(*) AS accounts FROM public.user_accounts WHERE is_primary GROUP BY user_id) AS p
       ON p.user_id = u.id
WHERE ({_CAN_SIGN_IN})
  AND p.accounts IS DISTINCT FROM 1
  AND NOT EXISTS (SELECT FROM upgrade_feishu_wanted AS w WHERE w.user_id = u.id AND w.reason IS NOT NULL)
  AND NOT EXISTS (SELECT FROM upgrade_email_wanted AS w WHERE w.user_id = u.id AND w.reason IS NOT NULL)
  AND NOT EXISTS (SELECT FROM upgrade_without_primary AS w WHERE w.user_id = u.id)
"""

_WITHOUT = """
SELECT coalesce(f.reason, e.reason, 'no_email') AS reason, count(*) AS users
FROM public.users AS u
LEFT JOIN upgrade_feishu_wanted AS f ON f.user_id = u.id
LEFT JOIN upgrade_email_wanted AS e ON e.user_id = u.id
WHERE NOT EXISTS (SELECT FROM public.user_accounts AS a WHERE a.user_id = u.id)
GROUP BY 1 ORDER BY 1
"""

# Whoever was given an account has exactly one primary account, and it holds what it was made from.
_WRONG = """
SELECT count(*) FROM (
    SELECT user_id FROM upgrade_feishu_wanted WHERE reason IS NULL
    UNION ALL SELECT user_id FROM upgrade_email_wanted WHERE reason IS NULL
) AS w
LEFT JOIN public.feishu_auths AS f ON f.user_id = w.user_id
LEFT JOIN upgrade_email_wanted AS e ON e.user_id = w.user_id
WHERE (SELECT count(*) FROM public.user_accounts AS a WHERE a.user_id = w.user_id AND a.is_primary) <> 1
   OR NOT EXISTS (
        SELECT FROM public.user_accounts AS a
        WHERE a.user_id = w.user_id AND a.is_verified
          AND (a.provider, a.provider_account_id, a.access_token, a.refresh_token, a.expires_at) IS NOT DISTINCT FROM
              (CASE WHEN f.user_id IS NULL THEN 'email' ELSE 'feishu' END, coalesce(f.open_id, e.address),
               f.access_token, f.refresh_token, f.token_expires_at))
"""


def upgrade_users(settings: Settings, run: Run, *, dry_run: bool = False) -> None:
    """Give existing users sign-in accounts; fills ``run.result`` with cli.md's keys of ``users upgrade``.

    Also there: ``without_account`` (reason → users left without any account). Raises a ``RolloutError``; then nothing
    has changed.
    """
    try:
        with memory.recorded(settings, run) as session:
            run.result["dry_run"] = dry_run
            _upgrade_alone(session, run, dry_run=dry_run)
    finally:
        run.finish()
        write_report(settings, run)


def _upgrade_alone(session: Session, run: Run, *, dry_run: bool) -> None:
    """Do it in a transaction of its own."""
    check_target(session.own, _NEEDED)
    with jobs.change(session, run, _LOCKS, dry_run=dry_run) as connection:
        result = upgrade(connection, run)
    if not dry_run:
        jobs.finish(session, run, {"user_accounts": sum(result["accounts"].values())})


class WithUsers:
    """The users' upgrade as a part of ``tool migrate`` (a ``rollout.change.Work``)."""

    locks: Mapping[str, str] = _LOCKS
    tables: frozenset[str] = frozenset({"user_accounts"})

    def within(self, connection: Connection, run: Run) -> None:
        """Do it in the upgrade's transaction; raise ``VerificationFailed`` where the accounts are not as they must."""
        try:
            upgrade(connection, run)
        except ReconciliationFailed as error:
            raise VerificationFailed(error.message, hint=error.hint) from error

    def alone(self, session: Session, run: Run) -> None:
        """Do it in a transaction of its own: the schema is there already."""
        _upgrade_alone(session, run, dry_run=False)


def upgrade(connection: Connection, run: Run) -> dict[str, Any]:
    """Do it on a connection whose transaction is the caller's, with the tables locked; return what the result gains.

    Raises ``ReconciliationFailed``.
    """
    with run.step("accounts") as step:
        connection.execute(text(_FEISHU))
        connection.execute(text(_WITHOUT_PRIMARY))
        feishu = connection.execute(text(_INSERT_FEISHU)).rowcount
        connection.execute(text(_EMAIL))
        email = connection.execute(text(_INSERT_EMAIL)).rowcount
        step.detail = say("{feishu} Feishu, {email} e-mail", feishu=feishu, email=email)
    with run.step("reconcile") as step:
        expected = connection.execute(
            text(
                "SELECT (SELECT count(*) FROM upgrade_feishu_wanted WHERE reason IS NULL),"
                " (SELECT count(*) FROM upgrade_email_wanted WHERE reason IS NULL)"
            )
        ).one()
        wrong = connection.execute(text(_WRONG)).scalar_one() + connection.execute(text(_PRIMARIES)).scalar_one()
        if wrong or tuple(expected) != (feishu, email):
            raise ReconciliationFailed(
                say("{count} accounts are not what they were made from", count=wrong),
                hint=say("Look for triggers on user_accounts that change rows: \\d user_accounts in psql."),
            )
        result = _result(connection, feishu, email)
        step.detail = say("{count} users without any account", count=sum(result["without_account"].values()))
    run.result |= result
    return result


def _result(connection: Connection, feishu: int, email: int) -> dict[str, Any]:
    """Return what cli.md names: accounts made by this run, users left out, and how things stand now."""
    providers = connection.execute(
        text("SELECT provider, count(*) FROM public.user_accounts GROUP BY provider ORDER BY provider")
    )
    by_provider = {row[0]: int(row[1]) for row in providers}
    return {
        "accounts": {"feishu": feishu, "email": email},
        "skipped": [{"user_id": row[0], "reason": row[1]} for row in connection.execute(text(_SKIPPED))],
        "users": int(connection.execute(text("SELECT count(*) FROM public.users")).scalar_one()),
        "accounts_total": sum(by_provider.values()),
        "by_provider": by_provider,
        "without_account": {row[0]: int(row[1]) for row in connection.execute(text(_WITHOUT))},
    }
