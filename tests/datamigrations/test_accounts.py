"""``tool users upgrade``: who gets which account, who does not and why, and that a second run changes nothing."""

from __future__ import annotations

import json
from dataclasses import replace

import psycopg2
import pytest

from datamigrations.accounts import upgrade_users
from rollout.errors import RolloutError
from rollout.run import Run
from tests.fixtures.legacy import WAITING, meanwhile, picture, until
from tests.fixtures.pagtive import rows_of

ACCOUNT = """
SELECT type, provider, provider_account_id, access_token, refresh_token, (expires_at AT TIME ZONE 'UTC')::text,
       is_primary, is_verified, provider_profile FROM user_accounts WHERE user_id = %s ORDER BY provider
"""


@pytest.fixture
def bare(target):
    """Yield a target whose legacy users have neither e-mail addresses nor Feishu, so that a test has only its own."""
    target.run("ALTER TABLE users DISABLE TRIGGER USER")
    target.run("UPDATE users SET email = NULL")
    target.run("DELETE FROM feishu_auths")
    return target


def attempt(settings, **options):
    """Upgrade; return the run, however it ended."""
    run = Run("users upgrade")
    try:
        upgrade_users(settings, run, **options)
    except RolloutError as error:
        run.failed(error)
    return run


def upgraded(settings, **options):
    """Upgrade; return the run, which has to have succeeded."""
    run = attempt(settings, **options)
    assert run.exit_code == 0, run.error
    return run


def feishu(rows, user, open_id, **values):
    """Write a row of the older Feishu table."""
    rows.add("feishu_auths", user_id=user, open_id=open_id, **values)


def test_feishu_rows_become_accounts(settings, bare):
    """Tokens, expiry and profile are taken over; the account is primary and verified."""
    user = bare.lawsker_user(1, email="a@example.com")
    feishu(
        bare, user, "ou_1", union_id="on_1", access_token="at", refresh_token="rt",
        token_expires_at="2030-01-01 00:00+00",
    )  # fmt: skip
    run = upgraded(settings)
    assert bare.run(ACCOUNT, user) == [
        (
            "oauth",
            "feishu",
            "ou_1",
            "at",
            "rt",
            "2030-01-01 00:00:00",
            True,
            True,
            {"open_id": "ou_1", "union_id": "on_1"},
        )
    ]
    assert run.result["accounts"] == {"feishu": 1, "email": 0}
    assert run.result["by_provider"] == {"feishu": 1}


def test_email_addresses_become_accounts(settings, bare):
    """Users with an address and nothing else; blanks around it are none of it, a user without one gets nothing."""
    users = [bare.lawsker_user(number, email=email) for number, email in enumerate(["A@x.com", " b@x.com ", None, " "])]
    run = upgraded(settings)
    assert bare.run(ACCOUNT, users[0]) == [("email", "email", "A@x.com", None, None, None, True, True, None)]
    assert bare.run(ACCOUNT, users[1])[0][2] == "b@x.com"
    assert bare.run(ACCOUNT, users[2]) == bare.run(ACCOUNT, users[3]) == []
    assert run.result["accounts"] == {"feishu": 0, "email": 2}
    assert run.result["skipped"] == []
    assert run.result["without_account"] == {"no_email": run.result["users"] - 2}


def test_addresses_that_differ_in_case_are_two_accounts(settings, bare):
    """The target's own rule: addresses are what they are, to the letter."""
    for number, email in enumerate(["a@x.com", "A@x.com"]):
        bare.lawsker_user(number, email=email)
    assert upgraded(settings).result["accounts"]["email"] == 2


def test_who_has_an_account_is_left_as_is(settings, bare):
    """A Feishu account stays what it is; any account at all keeps an e-mail account away."""
    one, two = bare.lawsker_user(1, email="a@x.com"), bare.lawsker_user(2, email="b@x.com")
    bare.account(one, "feishu", "ou_other", access_token="mine")
    feishu(bare, one, "ou_1", access_token="older")
    bare.account(two, "github", "gh")
    run = upgraded(settings)
    assert [row[2:4] for row in bare.run(ACCOUNT, one)] == [("ou_other", "mine")]
    assert [row[1] for row in bare.run(ACCOUNT, two)] == ["github"]
    assert run.result["accounts"] == {"feishu": 0, "email": 0}
    assert run.database == "untouched"


def test_a_second_account_is_not_primary(settings, bare):
    """A user with a primary account of another provider gets the Feishu account beside it."""
    user = bare.lawsker_user(1)
    bare.account(user, "github", "gh", is_primary=True)
    feishu(bare, user, "ou_1")
    upgraded(settings)
    assert [(row[1], row[6]) for row in bare.run(ACCOUNT, user)] == [("feishu", False), ("github", True)]


def test_what_somebody_else_has_is_skipped(settings, bare):
    """An open id or an address that is another user's account: reported with its reason, the others go on."""
    holder = bare.lawsker_user(1)
    bare.account(holder, "feishu", "ou_taken")
    bare.account(holder, "email", "taken@x.com", type="email")
    by_id, by_mail = bare.lawsker_user(2), bare.lawsker_user(3, email="taken@x.com")
    blank, good = bare.lawsker_user(4), bare.lawsker_user(5, email="good@x.com")
    feishu(bare, by_id, "ou_taken")
    feishu(bare, blank, " \t")
    run = upgraded(settings)
    assert run.result["skipped"] == [
        {"user_id": by_id, "reason": "open_id_taken"},
        {"user_id": by_mail, "reason": "email_taken"},
        {"user_id": blank, "reason": "no_open_id"},
    ]
    assert len(bare.run(ACCOUNT, good)) == 1
    left = {"open_id_taken": 1, "email_taken": 1, "no_open_id": 1}
    assert {name: run.result["without_account"][name] for name in left} == left


def test_one_address_with_and_without_blanks(settings, bare):
    """Two users whose addresses differ in blanks only: the older one gets the account."""
    young = bare.lawsker_user(1, email="a@x.com", created_at="2024-01-02+00")
    old = bare.lawsker_user(2, email=" a@x.com", created_at="2024-01-01+00")
    run = upgraded(settings)
    assert bare.run(ACCOUNT, old)[0][2] == "a@x.com"
    assert run.result["skipped"] == [{"user_id": young, "reason": "email_taken"}]


def test_the_legacy_sample_and_a_second_run(settings, target, target_server):
    """Everybody with Feishu or an address has exactly one primary account; run again, nothing changes."""
    first = upgraded(settings)
    count = target.one("SELECT count(*) FROM feishu_auths")
    by_feishu = "EXISTS (SELECT FROM feishu_auths WHERE user_id = u.id)"
    emails = f"SELECT count(*) FROM users u WHERE email IS NOT NULL AND NOT {by_feishu}"
    assert first.result["accounts"] == {"feishu": count, "email": target.one(emails)}
    assert count > 0
    primary = "(SELECT count(*) FROM user_accounts WHERE user_id = u.id AND is_primary)"
    wrong = f"SELECT count(*) FROM users u WHERE (email IS NOT NULL OR {by_feishu}) AND {primary} <> 1"
    assert target.one(wrong) == 0
    assert first.result["users"] == target.one("SELECT count(*) FROM users")
    assert first.result["accounts_total"] == sum(first.result["by_provider"].values())
    before = picture(target_server)
    versions = target.run("SELECT ctid::text, xmin::text FROM user_accounts ORDER BY 1")
    second = upgraded(settings)
    assert second.result["accounts"] == {"feishu": 0, "email": 0}
    assert second.result["by_provider"] == first.result["by_provider"]
    assert second.result["without_account"] == first.result["without_account"]
    assert before.differences(picture(target_server)) == []
    assert target.run("SELECT ctid::text, xmin::text FROM user_accounts ORDER BY 1") == versions


def test_a_dry_run_shows_the_same_and_leaves_nothing(settings, target, target_server):
    """Same figures, no account."""
    before = picture(target_server)
    dry = upgraded(settings, dry_run=True)
    assert before.differences(picture(target_server)) == []
    assert (dry.database, target.one("SELECT count(*) FROM user_accounts")) == ("untouched", 0)
    real = upgraded(settings)
    for key in ("accounts", "skipped", "users", "by_provider", "without_account"):
        assert dry.result[key] == real.result[key]


def test_no_token_is_told(settings, bare):
    """Neither the result nor the report nor our memory holds a token, also where a row is skipped or all fails."""
    bare.account(bare.lawsker_user(1), "feishu", "ou_1")
    feishu(bare, bare.lawsker_user(2), "ou_1", access_token="geheim-a", refresh_token="geheim-b")
    feishu(bare, bare.lawsker_user(3), "ou_3", access_token="geheim-c")
    runs = [upgraded(settings)]
    bare.run("DELETE FROM user_accounts WHERE provider_account_id = 'ou_3'")
    bare.run("ALTER TABLE user_accounts ADD CHECK (access_token IS NULL)")
    runs.append(attempt(settings))
    assert (runs[1].exit_code, runs[1].database) == (8, "rolled back")
    told = json.dumps([run.as_json() for run in runs], default=str)
    told += "".join(path.read_text(encoding="utf-8") for path in settings.reports.iterdir())
    told += str(bare.run("SELECT record FROM rollout.runs"))
    assert "geheim" not in told


def test_a_trigger_that_changes_accounts(settings, bare):
    """What was written is read back: an account that is not what it was made from rolls everything back."""
    bare.lawsker_user(1, email="a@x.com")
    body = "NEW.is_primary = false; RETURN NEW"
    bare.run(f"CREATE FUNCTION meddle() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN {body}; END$$")
    bare.run("CREATE TRIGGER meddle BEFORE INSERT ON user_accounts FOR EACH ROW EXECUTE FUNCTION meddle()")
    run = attempt(settings)
    assert (run.exit_code, run.database) == (10, "rolled back")
    assert bare.one("SELECT count(*) FROM user_accounts") == 0


def test_a_target_without_the_tables(settings_for, make_database, legacy_template):
    """An older schema: refused, untouched, with the command that upgrades it."""
    run = attempt(settings_for(make_database(legacy_template)))
    assert (run.exit_code, run.database) == (6, "untouched")
    assert "user_accounts" in run.error.message
    assert "tool migrate" in run.error.hint


def test_a_user_whose_address_changes_meanwhile(settings, bare, target_server):
    """The upgrade waits for writers, and then sees what they wrote; beyond the timeout it gives up untouched."""
    user = bare.lawsker_user(1, email="old@x.com")
    with rows_of(target_server) as other:
        other.connection.autocommit = False
        other.run("UPDATE users SET email = 'new@x.com' WHERE id = %s", user)
        with meanwhile(lambda: upgraded(settings)):
            until(target_server, f"{WAITING} AND relation = 'users'::regclass")
            other.connection.commit()
    assert bare.run(ACCOUNT, user)[0][2] == "new@x.com"
    holder = psycopg2.connect(**target_server.parameters)
    with holder.cursor() as cursor:
        cursor.execute("LOCK TABLE users IN ROW EXCLUSIVE MODE")

        assert attempt(replace(settings, lock_timeout=0.2)).exit_code == 5
    holder.close()
