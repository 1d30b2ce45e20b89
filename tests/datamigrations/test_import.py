"""What the import brings over, value by value, and what happens when it runs again."""

from __future__ import annotations

import threading
import time

import pytest

from datamigrations.pagtive import ImportOptions, import_pagtive
from datamigrations.pipe import Pipe
from rollout.run import Run, Silent
from rollout.sample_data.pagtive import fill_pagtive
from tests.fixtures.legacy import picture
from tests.fixtures.pagtive import FLAVOURS, TARGETS, attempt_import, figures, imported, uid
from tests.fixtures.tiers import tried_once
from tests.fixtures.upgraded import USERS, connected

COUNTED = ("inserted", "updated", "unchanged", "merged", "quarantined")

NEW_USER = """
SELECT u.username, u.email, u.phone_number, u.status::text, u.role, u.agreed_agreement_version, u.avatar_url,
       u.twitter_url, u.account_type, u.registration_source, u.email_verified, t.tenant_code, t.mode::text,
       t.status::text, t.name, p.full_name, p.verification_status::text, p.avatar_url, w.workspace_type,
       w.workspace_id = u.workspace_id, c.credits_weekly, c.credits_remaining, u.created_at AT TIME ZONE 'UTC',
       u.updated_at AT TIME ZONE 'UTC', u.last_login AT TIME ZONE 'UTC', left(u.password_hash, 1)
FROM users u JOIN tenants t ON t.id = u.tenant_id JOIN profiles p ON p.user_id = u.id
JOIN workspace_mappings w ON w.user_id = u.id JOIN user_credits c ON c.user_id = u.id WHERE u.id = %s
"""

PROJECT = """
SELECT id::text, user_id::text, project_name, pages, style_tags, reference_files, batch_id, batch_index, is_public,
       is_featured FROM pagtive_projects
"""
PAGE = "SELECT project_id::text, page_id, script, styles, html, images, version_id::text FROM pagtive_project_details"
LOG = """
SELECT id::text, user_id::text, project_id::text, page_id, usage_total_tokens,
       response_timestamp AT TIME ZONE 'Asia/Shanghai' FROM pagtive_llm_logs
"""


def fill(server, **values):
    """Fill a source with sample data."""
    with connected(server) as connection:
        fill_pagtive(connection, **{"users": 100, "page_bytes": (500, 700), "legacy_users": USERS, **values})
        connection.commit()


def as_text(row):
    """Return a row's values as text, None as it is."""
    return [None if value is None else str(value) for value in row]


def test_a_new_user_and_all_that_belongs_to_it(settings, source, target):
    """Every column of the page's table, with the tenant made for it and an e-mail account."""
    person = source.user(
        1, email=" Wang.Wu@Example.com ", name="王五", username="wangwu", status=0, role="verified",
        agreed_agreement_version="v2", created_at="2024-01-01 08:00", updated_at="2024-01-02 08:00",
        email_verified="2024-01-03", image="https://img.example/1.png", last_login="2024-01-04 08:00",
        twitter_url="https://twitter.example/w",
    )  # fmt: skip
    run = imported(settings)
    assert as_text(target.run(NEW_USER, person)[0]) == [
        "wangwu", "Wang.Wu@Example.com", None, "INACTIVE", "user", "v2", "https://img.example/1.png",
        "https://twitter.example/w", "user", "pagtive", "True", "pagtive", "SAAS", "ACTIVE", "pagtive", "王五",
        "UNVERIFIED", "https://img.example/1.png", "user", "True", "1", "1", "2024-01-01 00:00:00",
        "2024-01-02 00:00:00", "2024-01-04 00:00:00", "!",
    ]  # fmt: skip
    account = "SELECT user_id::text, type, provider, provider_account_id, is_primary, is_verified FROM user_accounts"
    assert target.run(account) == [(person, "email", "email", "Wang.Wu@Example.com", True, True)]
    assert run.result["accounts_created"] == 1
    assert (run.exit_code, run.database) == (0, "changed")


def test_a_new_user_of_whom_little_is_known(settings, source, target):
    """NULL everywhere: active, an ordinary user, no account; the time of the import stands for the times."""
    nothing = dict.fromkeys(
        ("email", "name", "username", "status", "role", "agreed_agreement_version", "created_at", "updated_at")
    )
    person = source.user(1, **nothing)
    run = imported(settings)
    row = as_text(target.run(NEW_USER, person)[0])
    assert row[:11] == ["user_00000001", None, None, "ACTIVE", "user", None, None, None, "user", "pagtive", "False"]
    now = "SELECT created_at = updated_at AND created_at > now() - interval '1 minute' FROM users WHERE id = %s"
    assert target.one(now, person)
    assert run.result["tables"]["users"]["defaulted"] == 1
    assert run.result["accounts_created"] == 0


@pytest.mark.parametrize(
    ("source_server", "verified"), [("typical", "2024-01-01"), ("text", True)], indirect=["source_server"]
)
def test_email_verified_is_a_time_or_true(settings, source, target, verified):
    """Whichever way an installation says it; NULL and false are no."""
    source.user(1, email_verified=verified)
    source.user(2, email_verified=None)
    if verified is True:
        source.user(3, email_verified=False)
    imported(settings)
    found = target.run("SELECT username FROM users WHERE email_verified AND registration_source = 'pagtive'")
    assert found == [("pagtive1",)]


def test_password_markers_differ_and_are_no_hash(settings, source, target):
    """No two new users share a marker, and none looks like what a hash function makes."""
    for number in range(1, 4):
        source.user(number)
    imported(settings)
    found = target.run("SELECT password_hash FROM users WHERE registration_source = 'pagtive'")
    assert len({row[0] for row in found}) == 3
    assert all(row[0].startswith("!") and len(row[0]) > 20 for row in found)


@pytest.mark.variant
def test_the_role_named_user(settings, source, target):
    """The tenant's own role named User, else the global one, else none."""
    person = source.user(1)
    tenant = target.one("SELECT id::text FROM tenants WHERE tenant_code = 'lawsker'")
    wanted = target.one("SELECT id::text FROM roles WHERE name = 'User' AND tenant_id = %s", tenant)
    other = target.one("SELECT id::text FROM roles WHERE name = 'User' AND tenant_id IS NULL")
    imported(settings, tenant="lawsker")
    assert target.run("SELECT role_id::text FROM user_roles WHERE user_id = %s", person) == [(wanted,)]
    second = source.user(2)
    imported(settings, tenant="fresh")
    assert target.run("SELECT role_id::text FROM user_roles WHERE user_id = %s", second) == [(other,)]


def test_values_of_the_other_tables(settings, source, target):
    """Ids are kept, arrays of json become json, naive times are read in Shanghai, NULL flags get their defaults."""
    user = source.user(1)
    project = source.project(
        1, user, project_name="官网", pages='[{"id": 1}]', batch_id="b", batch_index=3, is_public=True,
        created_at="2024-02-01 08:00", updated_at="2024-02-02 08:00",
    )  # fmt: skip
    source.run("UPDATE projects SET style_tags = ARRAY['\"dark\"', '{\"a\": [1]}']::jsonb[], is_featured = NULL")
    source.page(project, 7, script="s\\t", styles="c", html="<p>\n'\"</p>", images='["x"]', versionId=uid(1, 4))
    source.log(1, user, project_id=project, page_id=7, response_timestamp="2024-04-02", usage_total_tokens=5)
    source.code(1, "A-1", status="used", used_at="2024-05-02", used_by_user_id=user)
    imported(settings)
    assert target.run(PROJECT) == [(project, user, "官网", [{"id": 1}], ["dark", {"a": [1]}], [], "b", 3, True, False)]
    times = "SELECT (created_at AT TIME ZONE 'UTC')::text, (updated_at AT TIME ZONE 'UTC')::text FROM pagtive_projects"
    assert target.run(times) == [("2024-02-01 00:00:00", "2024-02-02 00:00:00")]
    assert target.run(PAGE) == [(project, 7, "s\\t", "c", "<p>\n'\"</p>", ["x"], uid(1, 4))]
    assert [as_text(row) for row in target.run(LOG)] == [[uid(1, 2), user, project, "7", "5", "2024-04-02 00:00:00"]]
    codes = "SELECT id::text, code, status, used_by_user_id::text FROM pagtive_invitation_codes"
    assert target.run(codes) == [(uid(1, 3), "A-1", "used", user)]


@pytest.mark.parametrize(
    ("zone", "hour"), tried_once([("America/New_York", "05"), ("utc", "00"), ("Asia/Shanghai", "16")])
)
def test_naive_times_are_read_in_the_zone(settings, source, target, zone, hour):
    """``--source-timezone`` says what a time without zone means."""
    source.user(1, created_at="2024-01-02 00:00")
    imported(settings, source_timezone=zone)
    assert target.one("SELECT to_char(created_at AT TIME ZONE 'UTC', 'HH24') FROM users WHERE id = %s", uid(1)) == hour


@pytest.mark.parametrize("source_server", ["text"], indirect=True)
def test_times_with_a_zone_are_kept(settings, source, target):
    """``--source-timezone`` changes nothing about times that have one."""
    source.user(1, created_at="2024-01-02 00:00+05")
    imported(settings, source_timezone="America/New_York")
    assert target.one("SELECT to_char(created_at AT TIME ZONE 'UTC', 'HH24') FROM users WHERE id = %s", uid(1)) == "19"


@pytest.mark.parametrize(
    ("zone", "times"),
    [
        (
            "America/New_York",
            {
                "2024-11-03 01:30": "2024-11-03 06:30:00",
                "2024-03-10 02:30": "2024-03-10 07:30:00",
                "294276-12-31 23:59": None,
            },
        ),
        (
            "UTC",
            {
                "0001-01-01 00:00": "0001-01-01 00:00:00",
                "9999-12-31 23:59:59.999999": "9999-12-31 23:59:59.999999",
                "infinity": "infinity",
                "-infinity": "-infinity",
            },
        ),
        ("Asia/Shanghai", {"4713-01-02 00:00 BC": None, "1991-09-15 01:30": "1991-09-14 17:30:00"}),
    ],
)
def test_odd_times(settings, source, target, zone, times):
    """Times that a clock shows twice or never are read as PostgreSQL does; the ends of the range stop nothing."""
    people = {source.user(number, created_at=naive): utc for number, (naive, utc) in enumerate(times.items())}
    run = imported(settings, source_timezone=zone)
    assert run.result["reasons"].get("not_a_time", 0) == list(times.values()).count(None)
    found = dict(target.run("SELECT id::text, (created_at AT TIME ZONE 'UTC')::text FROM users"))
    assert {person: found.get(person) for person in people} == people


WRITTEN = {
    "2024-01-01 12:00:00": "2024-01-01 04:00:00",
    " 2024/01/01 12:00 ": "2024-01-01 04:00:00",
    "2024-01-01": "2023-12-31 16:00:00",
    "20240101T120000": "2024-01-01 04:00:00",
    "2024-01-01 01:30 PM": "2024-01-01 05:30:00",
    "2024-01-01 12:00:00 UTC": "2024-01-01 12:00:00",
    "2024-01-01 12:00:00.5utc": "2024-01-01 12:00:00.5",
    "2024-01-01T12:00:00Z": "2024-01-01 12:00:00",
    "2024-01-01 12:00 GMT": "2024-01-01 12:00:00",
    "2024-07-01 12:00 Europe/Berlin": "2024-07-01 10:00:00",
    "2024-07-01 12:00 america/port-au-prince": "2024-07-01 16:00:00",
    "20240101T120000Z": "2024-01-01 12:00:00",
    "20240101T120000+01": "2024-01-01 11:00:00",
    "2024-01-01 12:00+1": "2024-01-01 11:00:00",
    "2024-01-01 12:00 +0130": "2024-01-01 10:30:00",
    "2024-01-01 12:00:00-05:30": "2024-01-01 17:30:00",
    "0044-03-15 12:00:00+00 BC": "0044-03-15 12:00:00 BC",
    "infinity": "infinity",
    "-Infinity": "-infinity",
    **dict.fromkeys(
        (
            "now", "today", "tomorrow", "yesterday", "epoch", "2024-01-01 allballs", "Jan 1 2024", "1704061205",
            "2024-01-01 12:00:00 CST", "2024-01-01 12:00 UTC+8", "2024-01-01 12:00 UTC+08", "2024-01-01 12:00 GMT+0800",
            "2024-01-01 12:00 Foo/Bar", "2024-01-01 12:00 Foo/Bar-3", "2024-01-01+08", "2024-01-01-05:00",
            "Mon Jan 01 2024 12:00:00 GMT+0800", "",
        )
    ),
}  # fmt: skip
"""Times as texts of a source → what they are in UTC; None: nothing that can be told."""


def test_times_that_are_texts(settings, source, target):
    """A zone is honoured or the row refused, never dropped; words that mean the time of the import are no times."""
    source.run("ALTER TABLE users ALTER last_login TYPE text")
    people = {source.user(number, last_login=written): utc for number, (written, utc) in enumerate(WRITTEN.items())}
    run = imported(settings)
    assert run.result["reasons"] == {"not_a_time": list(WRITTEN.values()).count(None)}
    found = dict(target.run("SELECT id::text, (last_login AT TIME ZONE 'UTC')::text FROM users"))
    wrong = {written: found.get(uid(n)) for n, written in enumerate(WRITTEN) if found.get(uid(n)) != people[uid(n)]}
    assert wrong == {}


@pytest.mark.variant
def test_missing_times_are_taken_from_each_other(settings, source, target):
    """A missing created_at is the updated_at, and the other way round; each row that needed it is counted."""
    user = source.user(1)
    source.project(1, user, created_at=None)
    source.project(2, user, updated_at=None)
    source.project(3, user, created_at=None, updated_at=None)
    source.log(1, user, request_timestamp=None, response_timestamp="2024-06-01")
    source.code(1, "A", created_at=None)
    runs = [imported(settings), imported(settings)]
    for run in runs:
        assert [run.result["tables"][name]["defaulted"] for name in TARGETS] == [0, 3, 0, 1, 1]
    same = "SELECT count(*) FROM pagtive_projects WHERE created_at = updated_at"
    assert target.one(same) == 3
    assert target.one("SELECT (request_timestamp = response_timestamp) FROM pagtive_llm_logs")
    assert [figures(runs[1], name).get("unchanged", 0) for name in TARGETS] == [1, 3, 0, 1, 1]


def test_logs_of_nobody_and_of_unknown_projects(settings, source, target):
    """A log may belong to nobody; a project that nobody knows becomes NULL, and is counted."""
    user = source.user(1)
    source.log(1, None)
    source.log(2, user, project_id=uid(99, 1))
    run = imported(settings)
    found = target.run("SELECT user_id::text, project_id FROM pagtive_llm_logs ORDER BY id")
    assert found == [(None, None), (user, None)]
    assert run.result["logs_without_project"] == 1


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_sample_data_balances_and_a_second_run_touches_nothing(
    settings_for, make_database, source_templates, upgraded, flavour
):
    """Every row is accounted for; the second run finds all unchanged, and not one row version is new."""
    source, target = make_database(source_templates[flavour]), make_database(upgraded)
    fill(source, dirty=0.2)
    settings = settings_for(target, source)
    first = imported(settings)
    tables = first.result["tables"]
    for counts in tables.values():
        assert counts["read"] == sum(counts[name] for name in COUNTED)
    assert tables["projects"]["read"] == 500
    assert tables["project_details"]["quarantined"] > 100
    before = picture(target)
    versions = "SELECT string_agg(ctid::text || xmin, ' ' ORDER BY ctid) FROM {}"
    with connected(target) as connection:
        rows = {t: connection.exec_driver_sql(versions.format(t)).scalar() for t in TARGETS.values()}
    second = imported(settings)
    for name, counts in second.result["tables"].items():
        assert (counts["inserted"], counts["updated"]) == (0, 0)
        assert counts["unchanged"] == tables[name]["inserted"] + tables[name]["updated"] + tables[name]["unchanged"]
        assert (counts["merged"], counts["quarantined"]) == (tables[name]["merged"], tables[name]["quarantined"])
    assert second.result["reasons"] == first.result["reasons"]
    assert second.result["role_escalations_withheld"] == first.result["role_escalations_withheld"] > 0
    assert second.database == "untouched"
    assert before.differences(picture(target)) == []
    with connected(target) as connection:
        assert rows == {t: connection.exec_driver_sql(versions.format(t)).scalar() for t in TARGETS.values()}


@pytest.mark.variant
def test_a_dry_run_shows_the_same_and_leaves_nothing(settings, source_server, target_server):
    """Same figures, and the target is what it was: no tenant, no quarantine, no staging table."""
    fill(source_server, dirty=0.2)
    before = picture(target_server)
    dry = imported(settings, dry_run=True)
    assert before.differences(picture(target_server)) == []
    assert dry.database == "untouched"
    with connected(target_server) as connection:
        for empty in ("quarantine", "import_changes"):
            assert connection.exec_driver_sql(f"SELECT count(*) FROM rollout.{empty}").scalar() == 0
        left = "SELECT count(*) FROM pg_class WHERE relname ~ '^staged'"
        assert connection.exec_driver_sql(left).scalar() == 0
    real = imported(settings)
    for key in ("tables", "reasons", "accounts_created", "role_escalations_withheld", "logs_without_project"):
        assert dry.result[key] == real.result[key]


@pytest.mark.variant
def test_a_grown_source_brings_the_difference(settings, source, target):
    """New rows are inserted, newer ones update, the others are left; ids of pages go on where they were."""
    user = source.user(1)
    project = source.project(1, user)
    source.page(project, 1)
    source.page(project, 2, html="old")
    imported(settings)
    source.run("UPDATE project_details SET html = 'new', updated_at = '2024-09-01' WHERE page_id = 2")
    source.page(project, 3)
    source.user(2)
    run = imported(settings)
    assert figures(run, "users") == {"read": 2, "inserted": 1, "unchanged": 1}
    assert figures(run, "project_details") == {"read": 3, "inserted": 1, "updated": 1, "unchanged": 1}
    found = target.run("SELECT page_id, html FROM pagtive_project_details ORDER BY id")
    assert found == [(1, "<p>"), (2, "new"), (3, "<p>")]
    target.run("INSERT INTO pagtive_project_details (project_id, page_id) VALUES (%s, 4)", project)


@pytest.mark.variant
def test_only_the_oldest_users_and_what_is_theirs(settings, source, target):
    """``--limit-users``: oldest by created_at; projects, pages, logs and codes of the others stay away, unread."""
    for number, created in enumerate(["2024-03-01", "2024-01-01", "2024-02-01", None], start=1):
        user = source.user(number, created_at=created)
        project = source.project(number, user)
        source.page(project, 1)
        source.log(number, user)
        source.code(number, f"C{number}", used_by_user_id=user)
    run = imported(settings, limit_users=2)
    for name in TARGETS:
        assert figures(run, name) == {"read": 2, "inserted": 2}
    assert target.run("SELECT source_id FROM pagtive_user_map ORDER BY 1") == [(uid(2),), (uid(3),)]
    assert figures(imported(settings), "projects") == {"read": 4, "inserted": 2, "unchanged": 2}


def test_another_tenant(settings, source, target):
    """New users go to the tenant that is named, which is used as it is where it exists."""
    source.user(1)
    imported(settings, tenant="hengxin")
    of_user = "SELECT t.tenant_code, t.name FROM users u JOIN tenants t ON t.id = u.tenant_id WHERE u.id = %s"
    assert target.run(of_user, uid(1)) == [("hengxin", "恒信律师事务所")]
    assert target.one("SELECT count(*) FROM tenants WHERE tenant_code = 'pagtive'") == 0


def test_nobody_new_needs_no_tenant(settings, source, target):
    """Where everybody is matched, no tenant is made."""
    target.lawsker_user(1, email="a@example.com")
    source.user(1, email="a@example.com")
    imported(settings)
    assert target.one("SELECT count(*) FROM tenants WHERE tenant_code = 'pagtive'") == 0


def test_statistics_are_fresh(settings, source, target):
    """After COMMIT the planner knows how large the tables are."""
    user = source.user(1)
    for number in range(1, 6):
        source.project(number, user)
    imported(settings)
    written = ("pagtive_projects", "users", "profiles", "workspace_mappings", "user_credits", "pagtive_user_map")
    for table in written:
        size = target.one("SELECT reltuples FROM pg_class WHERE oid = to_regclass(%s)", table)
        assert size == target.one(f"SELECT count(*) FROM {table}") > 0, table


def test_statistics_that_cannot_be_had_are_said(settings, source, target):
    """What was committed stays, and it is told which ANALYZE failed; the other tables have theirs."""
    user = source.user(1)
    for number in range(1, 6):
        source.project(number, user)
    target.run(
        "CREATE FUNCTION refuse(value uuid) RETURNS uuid IMMUTABLE LANGUAGE plpgsql AS $$"
        " BEGIN IF current_query() LIKE 'ANALYZE%%' THEN RAISE 'no statistics today'; END IF; RETURN value; END $$"
    )
    target.run("CREATE INDEX refusing ON profiles (refuse(user_id))")
    run = imported(settings)
    assert run.exit_code == 0
    assert [step.detail for step in run.steps if step.name == "analyze"] == ["no statistics today"]
    assert target.one("SELECT count(*) FROM profiles WHERE user_id = %s", uid(1)) == 1
    assert target.one("SELECT reltuples FROM pg_class WHERE relname = 'pagtive_projects'") == 5


def test_progress_is_told(settings, source):
    """Every table tells how many rows have come."""
    user = source.user(1)
    source.project(1, user)
    heard = {}

    class Ears(Silent):
        """A listener that keeps the progress."""

        def progress(self, name, done, _total, unit):
            heard[name] = (done, unit)

    import_pagtive(settings, Run("pagtive import", listener=Ears()), ImportOptions())
    assert heard["copy users"] == (1, "rows")
    assert heard["copy projects"] == (1, "rows")
    done, unit = heard["copy"]
    assert (done > 100, unit) == (True, "bytes")


def test_a_large_page_is_as_it_was(settings, source, target):
    """Twenty megabytes in one value come over to the byte."""
    project = source.project(1, source.user(1))
    source.page(project, 1)
    source.run("UPDATE project_details SET html = repeat('页面<>&\"''\\', 1000000) || random()")
    imported(settings)
    digest = "SELECT md5(html), length(html) FROM {}"
    assert target.run(digest.format("pagtive_project_details")) == source.run(digest.format("project_details"))


def test_large_rows_do_not_pile_up():
    """However far behind the reader is, no more waits in the pipe than it has room for, and all of it comes through."""
    pipe, sent = Pipe(), []

    def send():
        for number in range(5):
            pipe.write(bytes([number]) * 5_000_000)
            sent.append(number)
        pipe.end()

    writer = threading.Thread(target=send)
    writer.start()
    time.sleep(0.3)
    waiting = len(sent)
    got = b"".join(iter(pipe.read, b""))
    writer.join()
    assert waiting == 0
    assert got == b"".join(bytes([number]) * 5_000_000 for number in range(5))


@pytest.mark.variant
def test_many_projects_of_one_user(settings, source, target):
    """One user who has nearly everything is no other case."""
    user = source.user(1)
    source.run(
        "INSERT INTO projects (id, user_id, project_name)"
        " SELECT md5(n::text)::uuid, %s, n FROM generate_series(1, 5000) AS n",
        user,
    )
    source.run("INSERT INTO project_details (project_id, page_id, html) SELECT id, 1, 'x' FROM projects")
    assert figures(imported(settings), "project_details") == {"read": 5000, "inserted": 5000}
    assert target.one("SELECT count(*) FROM pagtive_project_details") == 5000
    assert figures(imported(settings), "projects") == {"read": 5000, "unchanged": 5000}


def test_pages_that_are_written_later_get_their_own_id(settings, source, target):
    """The identity of pages goes on behind what was imported."""
    source.page(source.project(1, source.user(1)), 1)
    imported(settings)
    target.run("INSERT INTO pagtive_project_details (project_id, page_id) VALUES (%s, 2)", uid(1, 1))
    assert target.one("SELECT max(id) = max(id) FILTER (WHERE page_id = 2) FROM pagtive_project_details")


@pytest.mark.variant
def test_parts_bring_the_same_as_the_whole(settings, source_server, monkeypatch):
    """A table that comes in parts is whole: nothing is lost, nothing comes twice, for the same reasons."""
    fill(source_server, dirty=0.2)
    whole = imported(settings, jobs=1, dry_run=True)
    monkeypatch.setattr("datamigrations.staging._SPLIT_BYTES", 1)
    split = imported(settings, jobs=3, dry_run=True)
    assert split.result["tables"] == whole.result["tables"]
    assert split.result["reasons"] == whole.result["reasons"]
    assert split.result["logs_without_project"] == whole.result["logs_without_project"]


@pytest.mark.parametrize("table", tried_once(["user_accounts", "profiles", "workspace_mappings", "user_credits"]))
def test_what_belongs_to_a_new_user_and_does_not_arrive(settings, source, target, table):
    """A trigger that drops it: the import does not balance, and nothing is changed."""
    source.user(1, email="a@x.example")
    target.run("CREATE FUNCTION drop_it() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RETURN NULL; END$$")
    target.run(f"CREATE TRIGGER zz BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION drop_it()")
    run = attempt_import(settings)
    assert (run.exit_code, run.database) == (10, "rolled back"), run.error
    assert run.error.message == f"1 new users have no row in {table}"
    assert target.one("SELECT count(*) FROM pagtive_user_map") == 0


def test_tables_of_the_targets_that_are_called_as_ours(settings, source, target):
    """Tables in public with the names of our working tables are neither read nor written."""
    for name in ("import_people", "import_names", "import_rejected", "import_groups", "import_plan_projects"):
        target.run(f"CREATE TABLE public.{name} (n bigint, x text)")
        target.run(f"INSERT INTO public.{name} VALUES (1, 'mine')")
    source.project(1, source.user(1))
    assert figures(imported(settings), "projects") == {"read": 1, "inserted": 1}
    assert target.run("SELECT n, x FROM public.import_people") == [(1, "mine")]


def test_a_trigger_that_makes_profiles_and_accounts(settings, source, target):
    """A profile gets what it has not; an account that is there already is the one."""
    target.run(
        "CREATE FUNCTION make() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN"
        " INSERT INTO profiles (user_id, full_name, verification_status)"
        "  VALUES (NEW.id, CASE WHEN NEW.username = 'pagtive2' THEN 'theirs' END, 'UNVERIFIED');"
        " INSERT INTO user_accounts (user_id, type, provider, provider_account_id, is_primary)"
        "  VALUES (NEW.id, 'email', 'email', NEW.email, true);"
        " RETURN NULL; END$$"
    )
    target.run("CREATE TRIGGER make AFTER INSERT ON users FOR EACH ROW EXECUTE FUNCTION make()")
    for number in (1, 2):
        source.user(number, name="Wang", image="https://example.com/i")
    run = imported(settings)
    assert run.result["accounts_created"] == 0
    found = target.run(
        "SELECT p.full_name, p.avatar_url FROM profiles p JOIN users u ON u.id = p.user_id"
        " WHERE u.registration_source = 'pagtive' ORDER BY u.username"
    )
    assert found == [("Wang", "https://example.com/i"), ("theirs", "https://example.com/i")]


@pytest.mark.parametrize("source_server", ["text"], indirect=True)
def test_the_oldest_users_whose_ids_are_written_in_two_ways(settings, source):
    """What belongs to them is found in capitals too, as in a whole import."""
    user, project = uid(0xABC), uid(0xDEF, 1)
    source.user(0xABC)
    source.project(0xDEF, user.upper())
    source.page(project.upper(), 1)
    source.log(1, user.upper())
    source.code(1, "A", used_by_user_id=user.upper())
    run = imported(settings, limit_users=1)
    assert all(figures(run, name) == {"read": 1, "inserted": 1} for name in TARGETS)


@pytest.mark.parametrize(
    ("said", "verified"),
    [("2024/01/03", True), ("20240103", True), ("infinity", True), ("yes", True), ("no", False), ("20", False)],
)
@pytest.mark.parametrize("source_server", ["text"], indirect=True)
def test_email_verified_in_other_forms(settings, source, target, said, verified):
    """Every form of a time that other columns are read in, and every word for true."""
    source.run("ALTER TABLE users ALTER email_verified TYPE text")
    source.user(1, email_verified=said)
    imported(settings)
    assert target.one("SELECT email_verified FROM users WHERE registration_source = 'pagtive'") is verified
