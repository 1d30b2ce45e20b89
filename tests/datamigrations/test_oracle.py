"""The import against an independent oracle: sample data of every kind of installation, then sources made at random."""

from __future__ import annotations

import json
from collections import Counter

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from datamigrations.undo import undo_run
from rollout.run import Run
from rollout.sample_data.pagtive import fill_pagtive
from tests.datamigrations.oracle import STATUS, Oracle, address, canonical, choice, moment
from tests.fixtures.pagtive import FLAVOURS, TARGETS, imported, rows_of, uid
from tests.fixtures.upgraded import USERS, connected

SOURCES = {name: {"llm_logs": "llmlog"}.get(name, name) for name in TARGETS}
MAYBE = {"email_verified", "image", "last_login", "twitter_url"}
PLAIN = {
    "projects": ("project_description", "project_style", "global_style_code", "batch_id", "project_name"),
    "project_details": ("script", "styles", "html", "mermaid_content"),
    "llm_logs": ("provider", "model", "scenario", "response_content", "response_error", "status", "temporary_page_id"),
    "invitation_codes": ("code",),
}


def as_text(rows, table):
    """Return a source table's rows with every value as text; arrays of json as json, missing columns as None."""
    listed = rows.run("SELECT column_name, udt_name FROM information_schema.columns WHERE table_name = %s", table)
    columns = [f'to_jsonb("{name}")::text' if kind == "_jsonb" else f'"{name}"::text' for name, kind in listed]
    if not columns:
        return None
    names = [name for name, _ in listed]
    return [
        {**dict.fromkeys(MAYBE), **dict(zip(names, row, strict=True))}
        for row in rows.run(f"SELECT {', '.join(columns)} FROM {table}")
    ]


def foretell(source, target):
    """Ask the oracle what an import of this source into this target has to bring."""
    tables = {name: as_text(source, table) for name, table in SOURCES.items()}
    users = target.run("SELECT id::text, email, status::text, role, agreed_agreement_version FROM users")
    accounts = target.run("SELECT provider, provider_account_id, user_id::text FROM user_accounts")
    return Oracle(
        {name: rows for name, rows in tables.items() if rows is not None},
        {row[0]: row[1:] for row in users},
        {row[:2]: row[2] for row in accounts},
        {row[0] for row in target.run("SELECT username FROM users")},
    ).work_out()


def check(oracle, run, target):
    """Compare what an import of an empty map did with what the oracle says."""
    check_counts(oracle, run)
    check_people(oracle, run, target)
    check_rows(oracle, target)


def check_counts(oracle, run):
    """Compare counts and reasons; the equation holds for every table."""
    reasons = Counter(reason for rows in oracle.reasons.values() for _, found in rows for reason in found)
    assert run.result["reasons"] == dict(reasons)
    for name, counts in run.result["tables"].items():
        rejected, read = len(oracle.reasons.get(name, [])), len(oracle.source.get(name, []))
        assert (counts["read"], counts["quarantined"]) == (read, rejected), name
        if name != "users":
            assert counts["inserted"] == len(oracle.kept[name]) == read - rejected
    rules = Counter(person.rule for person in oracle.people)
    counts = run.result["tables"]["users"]
    assert (counts["inserted"], counts["merged"]) == (rules["created"], rules["merged"])
    assert counts["updated"] + counts["unchanged"] == rules["feishu"] + rules["email"]


def check_people(oracle, run, target):
    """Compare the map, the new users, and what matched ones took over."""
    found = {row[0]: row[1:] for row in target.run("SELECT source_id, matched_by, user_id::text FROM pagtive_user_map")}
    assert {key: rule for key, (rule, _) in found.items()} == {
        canonical(person.row["id"]): person.rule for person in oracle.people
    }
    foreseen = {}
    for person in oracle.people:
        user = found[canonical(person.row["id"])][1]
        assert foreseen.setdefault(person.user, user) == user
        if not person.user.startswith("new "):
            assert person.user == user
    assert len(set(foreseen.values())) == len(foreseen)
    names = oracle.expected_names()
    for person in (one for one in oracle.people if one.rule == "created"):
        row = person.row
        status, role, email, username = target.run(
            "SELECT status::text, role, email, username FROM users WHERE id = %s", foreseen[person.user]
        )[0]
        assert username == names[canonical(row["id"])]
        assert email == address(row["email"])
        assert status == STATUS.get(choice(row["status"]), "ACTIVE")
        assert role == ({"verified": "user"}.get(choice(row["role"]), choice(row["role"])) or "user")
        account = target.run(
            "SELECT provider, provider_account_id FROM user_accounts WHERE user_id = %s", foreseen[person.user]
        )
        wanted = [("feishu", person.open_id)] if person.open_id else [("email", email)] if email else []
        assert account == wanted
    takeovers, withheld = oracle.expected_takeovers()
    now = {
        row[0]: row[1:]
        for row in target.run("SELECT id::text, status::text, role, agreed_agreement_version FROM users")
    }
    assert {user: now[user] for user in takeovers} == takeovers
    assert run.result["role_escalations_withheld"] == withheld
    oracle.foreseen = foreseen


def check_rows(oracle, target):
    """Compare the rows of the other tables, value by value."""
    owner = {key: oracle.foreseen[user] for key, user in oracle.known.items()}
    for name in [name for name in TARGETS if name != "users" and name in oracle.source]:
        found = {}
        for (row,) in target.run(f"SELECT to_jsonb(t) FROM {TARGETS[name]} t"):
            key = (row["project_id"], row["page_id"]) if name == "project_details" else row["id"]
            found[key] = row
        key_of = oracle.by_page if name == "project_details" else oracle.by_id
        assert found.keys() == {key_of(row) for row in oracle.kept[name]}
        for row in oracle.kept[name]:
            there = found[key_of(row)]
            assert {column: there[column] for column in PLAIN[name]} == {column: row[column] for column in PLAIN[name]}
            check_references(oracle, owner, name, row, there)


def check_references(oracle, owner, name, row, there):
    """Compare owner, project, times and json of one row."""
    mine = {"invitation_codes": "used_by_user_id", "project_details": None}.get(name, "user_id")
    if mine:
        assert there[mine] == (owner[canonical(row[mine])] if row[mine] else None)
    if name == "llm_logs":
        known = canonical(row["project_id"]) in oracle.projects
        assert there["project_id"] == (canonical(row["project_id"]) if known else None)
    for column in {"pages", "images", "request_prompts", "request_config"} & row.keys():
        assert there[column] == oracle.as_json(row[column])
    if name == "projects":
        assert there["style_tags"] == (oracle.as_json(row["style_tags"]) or [])
    created, other = ("request_timestamp", "response_timestamp") if name == "llm_logs" else ("created_at", "updated_at")
    expected = moment(row[created]) or moment(row.get(other))
    if expected:
        assert moment(there[created]) == expected
    if name in {"projects", "project_details"} and (row[other] or row[created]):
        assert moment(there[other]) == (moment(row[other]) or moment(row[created]))


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_sample_data(settings_for, make_database, source_templates, upgraded, flavour):
    """Dirty sample data of each kind of installation, every row."""
    source_server, target_server = make_database(source_templates[flavour]), make_database(upgraded)
    with connected(source_server) as connection:
        fill_pagtive(connection, users=120, page_bytes=(500, 600), legacy_users=USERS, dirty=0.25)
        connection.commit()
    with rows_of(source_server) as source, rows_of(target_server) as target:
        target.run(
            "INSERT INTO user_accounts (user_id, type, provider, provider_account_id)"
            " SELECT user_id, 'oauth', 'feishu', open_id FROM feishu_auths"
        )
        oracle = foretell(source, target)
        run = imported(settings_for(target_server, source_server))
        check(oracle, run, target)
        assert {"feishu", "email", "created", "merged"} == {person.rule for person in oracle.people}


def few(*values):
    """Return a strategy of few values, so that they meet."""
    return st.sampled_from(values)


TIMES = few(None, "2024-01-01 00:00:00", "2024-01-02 00:00:00", "2024-01-02 00:00:00.000001")
USER_IDS = few(uid(1), uid(2), uid(3), uid(1).replace("00000001", "ABCDEF01"), "cuid-1", "cuid-2", "x" * 65)
PROJECT_IDS = few(uid(1, 1), uid(2, 1), uid(3, 1), "project-1")
USER = st.fixed_dictionaries(
    {
        "id": USER_IDS,
        "email": few(
            None,
            "",
            "a@x.com",
            " A@X.com",
            "b@x.com",
            "B@x.com ",
            "twice@x.com",
            "ＡＬＩ@x.com",
            "ali@x.com",
            "\ufb01@x.com",
            "e\u0301@x.com",
            "É@x.com",
            "\u212a@x.com",
            "\u2009k@x.com",
            "taken@x.com",
            "n" * 256,
        ),
        "username": few(None, " ", "bob", "bob", "bob-2", "lawsker1", "ou_1", "ou_2", "ou_3", "n" * 255, "n" * 256),
        "status": few(None, 0, 1, 2, 3),
        "role": few(None, "user", "admin", "super_admin", "verified", "root"),
        "agreed_agreement_version": few(None, "v1", "v" * 21),
        "created_at": TIMES,
        "updated_at": TIMES,
    }
)
PROJECT = st.fixed_dictionaries(
    {
        "id": PROJECT_IDS,
        "user_id": few(None, uid(1), uid(2), "cuid-1", "nobody"),
        "project_name": few(None, "a", "b", "n" * 256),
        "pages": few(None, "null", '["x"]', r'["\u0000"]'),
        "style_tags": few(None, "[]", '["y"]'),
        "created_at": TIMES,
        "updated_at": TIMES,
    }
)
DETAIL = st.fixed_dictionaries(
    {
        "project_id": few(None, uid(1, 1), uid(2, 1), uid(3, 1), "project-1"),
        "page_id": few(None, "1", "01", " +1", "2", "x", "9999999999"),
        "html": few(None, "", "<p>", "页面"),
        "versionId": few(None, uid(1), "latest"),
        "created_at": TIMES,
        "updated_at": TIMES,
    }
)
LOG = st.fixed_dictionaries(
    {
        "id": few(uid(1, 2), uid(2, 2), uid(3, 2), "log"),
        "user_id": few(None, uid(1), uid(2), "nobody"),
        "project_id": few(None, uid(1, 1), uid(9, 1), "project-1"),
        "request_prompts": few("[]", None),
        "status": few("success", "pending", " ", None, "done"),
        "request_timestamp": TIMES,
        "response_timestamp": TIMES,
    }
)
CODE = st.fixed_dictionaries(
    {
        "id": few(uid(1, 3), uid(2, 3), uid(3, 3), "code"),
        "code": few("A", "B", None, "c" * 51),
        "status": few("available", "used", None, "gone"),
        "used_by_user_id": few(None, uid(1), "nobody"),
        "created_at": TIMES,
    }
)


def untied(content):
    """Leave one of the rows of one key that are as old: which of them stays is a matter of hashes."""
    return {
        table: list({(*_key(table, row), row[CREATED.get(table, "created_at")]): row for row in rows}.values())
        for table, rows in content.items()
    }


def _key(table, row):
    """Return what tells a row from others of its table."""
    if table == "project_details":
        return canonical(row["project_id"]), (row["page_id"] or "").strip(" +0")
    return (canonical(row["id"]),)


CREATED = {"llmlog": "request_timestamp"}
SOURCE = st.fixed_dictionaries(
    {
        "users": st.lists(USER, max_size=8),
        "projects": st.lists(PROJECT, max_size=5),
        "project_details": st.lists(DETAIL, max_size=8),
        "llmlog": st.lists(LOG, max_size=5),
        "invitation_codes": st.lists(CODE, max_size=4),
    }
).map(untied)


def without_keys(rows):
    """Let a source have anything."""
    for table in ("users", "projects", "llmlog", "invitation_codes"):
        rows.run(f"ALTER TABLE {table} DROP CONSTRAINT {table}_pkey")
        rows.run(f"ALTER TABLE {table} ALTER id DROP NOT NULL")


BOUNDED = settings(
    max_examples=3,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
)


@BOUNDED
@given(content=SOURCE)
def test_any_source(settings_for, make_database, source_templates, upgraded, content):
    """Whatever a source holds: as the oracle says, the same again changes nothing, and an undo leaves no trace."""
    as_the_oracle_says(settings_for, make_database, source_templates, upgraded, content)


@pytest.mark.exhaustive
@settings(BOUNDED, max_examples=100)
@given(content=SOURCE)
def test_many_sources(settings_for, make_database, source_templates, upgraded, content):
    """The same for many more of them."""
    as_the_oracle_says(settings_for, make_database, source_templates, upgraded, content)


def as_the_oracle_says(settings_for, make_database, source_templates, upgraded, content):
    """Import a source, twice, and take it back; compare each with the oracle."""
    source_server, target_server = make_database(source_templates["text"]), make_database(upgraded)
    given_settings = settings_for(target_server, source_server)
    with rows_of(source_server) as source, rows_of(target_server) as target:
        without_keys(source)
        for table, rows in content.items():
            for row in rows:
                source.add(table, **row)
        prepare(target)
        oracle = foretell(source, target)
        before = target.contents()
        run = imported(given_settings)
        check(oracle, run, target)
        after = target.contents()
        again = imported(given_settings)
        assert target.contents() == after
        assert again.result["reasons"] == run.result["reasons"]
        assert json.dumps(again.result["tables"]).count('"inserted": 0, "updated": 0') == len(TARGETS)
        if target.one("SELECT count(*) FROM rollout.import_changes") and run.database == "changed":
            undo_run(given_settings, Run("pagtive undo"), run.run_id)
        assert target.contents() == before


def prepare(target):
    """Give a target users and accounts that the random sources can meet."""
    target.run("ALTER TABLE users DISABLE TRIGGER USER")
    target.lawsker_user(1, email="A@x.com", role="admin")
    target.lawsker_user(2, email="Twice@x.com")
    target.lawsker_user(3, email="twice@x.com")
    target.account(target.lawsker_user(4), "feishu", "ou_1")
    target.account(target.lawsker_user(5), "email", "Taken@x.com", type="email")
    target.lawsker_user(7, email="FI@x.com")
    target.lawsker_user(8, email="\u00e9@x.com")
    target.account(target.lawsker_user(6, email="b@x.com"), "feishu", "ou_2")
