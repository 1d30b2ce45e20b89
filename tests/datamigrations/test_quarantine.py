"""What does not fit the target goes to quarantine: every rule, every reason, the whole row, and nothing else."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from datamigrations import identity, merge, quarantine, rules
from datamigrations.mapping import TABLES
from datamigrations.quarantine import rejects
from datamigrations.source import SourceTable
from datamigrations.staged import Staged
from datamigrations.told import told
from rollout.messages import in_chinese
from rollout.sample_data.pagtive import create_pagtive_schema
from tests.fixtures.databases import execute
from tests.fixtures.pagtive import attempt_import, figures, imported, rows_of, uid
from tests.fixtures.tiers import tried_once
from tests.fixtures.upgraded import connected

BIG = 2**31

TYPICAL = [
    ("users", {"email": "e" * 256}, "too_long"),
    ("users", {"name": "n" * 256}, "too_long"),
    ("users", {"username": "n" * 256}, "too_long"),
    ("users", {"image": "i" * 501}, "too_long"),
    ("users", {"twitter_url": "t" * 501}, "too_long"),
    ("users", {"agreed_agreement_version": "v" * 21}, "too_long"),
    ("users", {"status": 3}, "unknown_value"),
    ("users", {"status": -1}, "unknown_value"),
    ("users", {"role": "root"}, "unknown_value"),
    ("users", {"role": "Admin"}, "unknown_value"),
    ("users", {"created_at": "294276-12-31"}, "not_a_time"),
    ("users", {"last_login": "4713-01-01 BC"}, "not_a_time"),
    ("projects", {"user_id": None}, "missing"),
    ("projects", {"user_id": uid(99)}, "unknown_user"),
    ("projects", {"project_name": None}, "missing"),
    ("projects", {"project_name": "名" * 256}, "too_long"),
    ("projects", {"batch_id": "b" * 37}, "too_long"),
    ("project_details", {"project_id": None}, "missing"),
    ("project_details", {"project_id": uid(99, 1)}, "unknown_project"),
    ("project_details", {"page_id": None}, "missing"),
    ("llmlog", {"user_id": uid(99)}, "unknown_user"),
    ("llmlog", {"provider": None}, "missing"),
    ("llmlog", {"provider": "p" * 51}, "too_long"),
    ("llmlog", {"model": None}, "missing"),
    ("llmlog", {"model": "m" * 101}, "too_long"),
    ("llmlog", {"scenario": "s" * 101}, "too_long"),
    ("llmlog", {"request_prompts": None}, "missing"),
    ("llmlog", {"request_config": None}, "missing"),
    ("llmlog", {"status": None}, "missing"),
    ("llmlog", {"status": "done"}, "unknown_value"),
    ("llmlog", {"temporary_page_id": "t" * 101}, "too_long"),
    ("invitation_codes", {"code": None}, "missing"),
    ("invitation_codes", {"code": "c" * 51}, "too_long"),
    ("invitation_codes", {"status": "revoked"}, "unknown_value"),
    ("invitation_codes", {"used_by_user_id": uid(99)}, "unknown_user"),
]

TEXT = [
    ("users", {"id": "i" * 65}, "too_long"),
    ("users", {"id": None}, "missing"),
    ("projects", {"id": "project-1"}, "not_a_uuid"),
    ("projects", {"id": ""}, "not_a_uuid"),
    ("projects", {"pages": r'["\u0000"]'}, "not_json"),
    ("projects", {"pages": r'["\ud800"]'}, "not_json"),
    ("projects", {"style_tags": r'{"a": 1e1000000}'}, "not_json"),
    ("project_details", {"project_id": "p"}, "not_a_uuid"),
    ("project_details", {"page_id": "abc"}, "not_an_integer"),
    ("project_details", {"page_id": ""}, "not_an_integer"),
    ("project_details", {"page_id": "1.0"}, "not_an_integer"),
    ("project_details", {"page_id": "１"}, "not_an_integer"),
    ("project_details", {"page_id": "0x1"}, "not_an_integer"),
    ("project_details", {"page_id": "2147483648"}, "out_of_range"),
    ("project_details", {"page_id": "-2147483649"}, "out_of_range"),
    ("project_details", {"page_id": "9" * 400}, "out_of_range"),
    ("project_details", {"versionId": "latest"}, "not_a_uuid"),
    ("project_details", {"images": r'["\u0000"]'}, "not_json"),
    ("llmlog", {"id": "log-1"}, "not_a_uuid"),
    ("llmlog", {"page_id": "x"}, "not_an_integer"),
    ("llmlog", {"request_prompts": r'"\u0000"'}, "not_json"),
    ("invitation_codes", {"id": "code-1"}, "not_a_uuid"),
]

_COUNTS = "page_id usage_prompt_tokens usage_completion_tokens usage_total_tokens duration_ms"

# Where an installation keeps everything as text.
LOOSE = [
    (table, {column: value}, reason)
    for table, columns, value, reason in (
        ("users", "created_at updated_at last_login", "soon", "not_a_time"),
        ("projects", "id", None, "missing"),
        ("projects", "is_public is_featured is_published", "perhaps", "not_a_boolean"),
        ("projects", "batch_index", "x", "not_an_integer"),
        ("projects", "batch_index", str(BIG), "out_of_range"),
        ("projects", "created_at updated_at", "2024-02-30", "not_a_time"),
        ("project_details", "created_at updated_at", "2024-01-01 25:00", "not_a_time"),
        ("llmlog", "id", None, "missing"),
        ("llmlog", _COUNTS, "1e3", "not_an_integer"),
        ("llmlog", _COUNTS, str(-BIG - 1), "out_of_range"),
        ("llmlog", "request_timestamp response_timestamp", "now-ish", "not_a_time"),
        ("llmlog", "request_prompts request_config", "{", "not_json"),
        ("invitation_codes", "id", None, "missing"),
        ("invitation_codes", "created_at expires_at used_at", "24-13-13", "not_a_time"),
    )
    for column in columns.split()
]

NAMES = {"llmlog": "llm_logs"}


def ordinary(source):
    """Write one good row into every table; return what a bad row of each needs besides."""
    user = source.user(1)
    project = source.project(1, user)
    source.page(project, 1)
    source.log(1, user)
    source.code(1, "GOOD")
    return {
        "users": {"id": uid(2), "username": "bad"},
        "projects": {"id": uid(2, 1), "user_id": user},
        "project_details": {"project_id": project, "page_id": "2"},
        "llmlog": {"id": uid(2, 2), "user_id": user},
        "invitation_codes": {"id": uid(2, 3), "code": "BAD"},
    }


def check(settings, source, target, cases):
    """Write one row for each case, import, and find each in quarantine for its one reason; the good rows get in."""
    needs = ordinary(source)
    expected = {}
    for number, (table, values, reason) in enumerate(cases, start=10):
        row = {**needs[table], **values}
        kind = {"users": 0, "projects": 1, "llmlog": 2, "invitation_codes": 3}.get(table)
        if kind is not None and "id" not in values:
            row["id"] = uid(number, kind)
        if table == "invitation_codes" and "code" not in values:
            row["code"] = f"BAD{number}"
        if table == "project_details" and "page_id" not in values:
            row["page_id"] = str(number)
        source.add(table, **row)
        expected[number] = (NAMES.get(table, table), reason)
    run = imported(settings)
    found = target.run("SELECT table_name, array_to_string(reasons, ',') FROM rollout.quarantine")
    assert sorted(found) == sorted(expected.values())
    for name in run.result["tables"]:
        count = sum(table == name for table, _ in expected.values())
        assert figures(run, name) == {"read": 1 + count, "inserted": 1, "quarantined": count}, name


def test_every_rule_of_the_typical_source(settings, source, target):
    """One row for each rule: quarantined for that reason alone."""
    check(settings, source, target, TYPICAL)


@pytest.mark.parametrize("source_server", ["text"], indirect=True)
def test_every_rule_of_an_older_source(settings, source, target):
    """Text ids and page ids, and json: what no cast of PostgreSQL may stumble over."""
    source.run("ALTER TABLE users DROP CONSTRAINT users_pkey, ALTER id DROP NOT NULL")
    check(settings, source, target, TEXT)


def test_every_rule_of_a_source_of_texts(settings, source, target):
    """Times, booleans and integers that are text in the source: each value that is none, in each column."""
    listed = (
        "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'public'"
        " ORDER BY table_name, ordinal_position"
    )
    constraints = "SELECT conrelid::regclass::text, conname FROM pg_constraint WHERE contype IN ('f', 'p', 'u')"
    for table, name in source.run(f"{constraints} AND connamespace = 'public'::regnamespace ORDER BY contype"):
        source.run(f"ALTER TABLE {table} DROP CONSTRAINT {name}")
    for table, name in source.run(listed):
        column = f'ALTER "{name}"'
        source.run(f"ALTER TABLE {table} {column} DROP DEFAULT, {column} DROP NOT NULL, {column} TYPE text")
    check(settings, source, target, LOOSE)


def every_message():
    """Yield everything that is said of a row, by the rules and elsewhere."""
    for table in TABLES:
        columns = {field.name: Staged("text", "") for field in table.fields}
        texts = SourceTable(table, table.source, columns, None, 0, (), ())
        yield from (rule.message for rule in (*rules.rules(texts), *merge._references(table)))
    for module in (merge, identity):
        source = Path(module.__file__).read_text(encoding="utf-8")
        found = re.findall(
            r'(?:message = f?|, message = "\w+", |_reject\(\s*job,\s*\S+,\s*)"([a-z][^"]+ [^"]+)"', source
        )
        assert found
        yield from (one.replace("{name}", "code") for one in found)


def test_every_message_is_there_in_chinese_too():
    """Whatever is said of a row that does not fit, an operator can read it in either language."""
    for text in every_message():
        (said,) = told(text)
        assert str(said) == text
        assert in_chinese(said) != text
    assert told("id is missing; what we once said") == ["id is missing", "what we once said"]


def test_no_rule_is_without_a_case():
    """Every rule that a source can meet in some column is tried above in that column."""
    tried = {(table, next(iter(values)), reason) for table, values, reason in (*TYPICAL, *TEXT, *LOOSE)}
    missing = []
    for table in TABLES:
        columns = {field.name: Staged("text", "") for field in table.fields}
        texts = SourceTable(table, table.source, columns, None, 0, (), ())
        for rule in (*rules.rules(texts), *merge._references(table)):
            case = (table.source, rule.message.split()[0], rule.code)
            missing += [case] if case not in tried else []
    assert missing == []


@pytest.mark.parametrize("source_server", ["text"], indirect=True)
def test_integers_in_every_guise(settings, source, target):
    """Leading zeros, signs and blanks are no fault: it is the number that counts."""
    project = source.project(1, source.user(1))
    for page in ("007", "+8", " 9\n", "-1", "0" * 300 + "10", "2147483647"):
        source.page(project, page)
    imported(settings)
    found = target.run("SELECT page_id FROM pagtive_project_details ORDER BY 1")
    assert found == [(-1,), (7,), (8,), (9,), (10,), (2147483647,)]


@pytest.mark.parametrize("source_server", ["text"], indirect=True)
def test_the_first_of_two_pages_of_one_number_stays(settings, source, target):
    """`1` and `01` are one page: the older stays, of two as old the one that the source has first."""
    user = source.user(1)
    one, two = source.project(1, user), source.project(2, user)
    source.page(one, "1", html="first")
    source.page(one, "01", html="second")
    source.page(two, "01", html="younger", created_at="2024-03-05")
    source.page(two, "1", html="older", created_at="2024-03-01")
    source.page(two, "+1", html="of no age", created_at=None, updated_at=None)
    runs = [imported(settings), imported(settings)]
    assert target.run("SELECT html FROM pagtive_project_details ORDER BY project_id") == [("first",), ("older",)]
    assert [run.result["reasons"] for run in runs] == [{"duplicate_page": 3}] * 2
    keys = target.run("SELECT DISTINCT source_key FROM rollout.quarantine ORDER BY 1")
    assert keys == [(f"{one}/01",), (f"{two}/+1",), (f"{two}/01",)]


def test_a_target_where_backslashes_escape(settings, source, target):
    """Patterns mean what they say there too: a time, a uuid, an address that is text is read."""
    source.run("ALTER TABLE users ALTER created_at TYPE text")
    source.user(1, created_at="2024-01-01T10:00:00Z", email=r"a\b@x.com")
    target.run(f"ALTER DATABASE {settings.target.database} SET standard_conforming_strings = off")
    assert figures(imported(settings), "users") == {"read": 1, "inserted": 1}
    assert imported(settings).database == "untouched"


@pytest.mark.parametrize("source_server", ["text"], indirect=True)
def test_the_same_of_two_stays_wherever_the_source_moves_it(settings, source, target):
    """They differ in json, a time, a text, the way the key is written only; or they are users of one id."""
    source.run("ALTER TABLE users DROP CONSTRAINT users_pkey CASCADE")
    differing = [{"images": '["b"]'}, {"updated_at": "2024-05-02"}, {"versionId": uid(7)}, {}]
    for number in range(6):  # of so many, chance would have chosen another one somewhere
        project = source.project(number, source.user(number, status=1))
        source.user(number, status=0)
        for page, values in enumerate(differing):
            source.page(project, f"{page}", updated_at="2024-03-02")
            source.page(project, f"0{page}", **{"updated_at": "2024-03-02", **values})
    first = imported(settings)
    assert first.result["reasons"] == {"duplicate_key": 6, "duplicate_page": 24}
    before = target.contents()
    source.run("UPDATE project_details SET html = html WHERE page_id NOT LIKE '0%%'")
    source.run("UPDATE users SET status = status WHERE status::text = '1'")
    again = imported(settings)
    assert (again.database, again.result["reasons"]) == ("untouched", first.result["reasons"])
    assert target.contents() == before
    moved = "SELECT source_key, count(*) FROM rollout.quarantine WHERE table_name = 'project_details' GROUP BY 1"
    assert [count for _, count in target.run(moved)] == [2] * 24


def test_a_bad_first_page_does_not_displace_a_good_second(settings, source, target):
    """Only rows that fit count as the first."""
    source.run("ALTER TABLE project_details ALTER images TYPE json")
    project = source.project(1, source.user(1))
    source.page(project, 1, html="bad", images=r'"\u0000"', created_at="2020-01-01")
    source.page(project, 1, html="good")
    imported(settings)
    assert target.run("SELECT html FROM pagtive_project_details") == [("good",)]
    assert target.rejected() == {f"project_details {project}/1": ["not_json"]}


@pytest.mark.parametrize("source_server", ["text"], indirect=True)
def test_keys_that_are_there_twice(settings, source, target):
    """Without a primary key a source may have a row twice, in another spelling too: the older one is taken."""
    for table in ("users", "projects", "llmlog", "invitation_codes"):
        source.run(f"ALTER TABLE {table} DROP CONSTRAINT {table}_pkey")
    upper = uid(1).replace("00000001", "ABCDEF01")
    source.user(1, id=upper, created_at="2024-01-02")
    source.user(1, id=upper.lower(), created_at="2024-01-01", username="older")
    for created in ("2024-01-02", "2024-01-01"):
        source.project(1, upper, created_at=created, project_name=created)
        source.log(1, upper, request_timestamp=created)
        source.code(1, f"C{created}", created_at=created)
    run = imported(settings)
    assert run.result["reasons"] == {"duplicate_key": 4}
    assert target.run("SELECT project_name FROM pagtive_projects") == [("2024-01-01",)]
    assert target.one("SELECT username FROM users WHERE id::text = %s", upper.lower()) == "older"
    assert target.one("SELECT user_id::text FROM pagtive_projects") == upper.lower()


@pytest.mark.variant
def test_codes_that_are_there_twice(settings, source, target):
    """Of two rows with one code the older is taken, but one that the target has keeps its code."""
    source.code(1, "A", created_at="2024-02-01")
    source.code(2, "A", created_at="2024-01-01")
    source.code(3, "B")
    imported(settings)
    assert target.rejected() == {f"invitation_codes {uid(1, 3)}": ["duplicate_code"]}
    source.code(4, "B", created_at="2020-01-01")
    target.run("INSERT INTO pagtive_invitation_codes (code) VALUES ('C')")
    source.code(5, "C")
    run = imported(settings)
    assert run.result["reasons"] == {"code_taken": 1, "duplicate_code": 2}
    found = target.run("SELECT code, left(id::text, 8)::int FROM pagtive_invitation_codes WHERE code <> 'C' ORDER BY 1")
    assert found == [("A", 2), ("B", 3)]


@pytest.mark.parametrize("source_server", ["text"], indirect=True)
def test_every_reason_of_a_row_is_kept_with_the_whole_row(settings, source, target):
    """A row that is wrong in five ways says so five times; what was read of it is there as json."""
    source.log(
        1, "nobody", id="log", page_id="x", provider=None, model="m" * 200, status="done", response_content="中文",
        request_prompts='[{"a": 1}]',
    )  # fmt: skip
    imported(settings)
    reasons, message, row = target.run("SELECT reasons, message, source_row FROM rollout.quarantine")[0]
    assert reasons == ["missing", "not_a_uuid", "not_an_integer", "too_long", "unknown_user", "unknown_value"]
    assert message == (
        "id is not a uuid; page_id is not an integer; provider is missing; model is longer than 100 characters;"
        " status is none of pending, processing, success, failed; user_id is no known user"
    )
    assert row["id"] == "log"
    assert row["response_content"] == "中文"
    assert json.loads(row["request_prompts"]) == [{"a": 1}]
    columns = source.run("SELECT column_name FROM information_schema.columns WHERE table_name = 'llmlog'")
    assert set(row) == {column for (column,) in columns}


def test_rows_that_hang_on_a_quarantined_one_follow_it(settings, source, target):
    """A user does not fit, so neither do its projects, and their pages; each says why."""
    user = source.user(1, status=9)
    project = source.project(1, user)
    source.page(project, 1)
    source.log(1, None, project_id=project)
    imported(settings)
    assert target.rejected() == {
        f"users {user}": ["unknown_value"],
        f"projects {project}": ["unknown_user"],
        f"project_details {project}/1": ["unknown_project"],
    }
    assert target.run("SELECT user_id, project_id FROM pagtive_llm_logs") == [(None, None)]


@pytest.mark.parametrize("source_server", tried_once(["text", "typical"]), indirect=True)
def test_a_row_too_large_for_json_is_kept_with_its_long_values_cut(settings, source, target, monkeypatch):
    """Json of 256 MB is the most: of a rejected row beyond that the beginning is kept, and how long the value was."""
    monkeypatch.setattr(quarantine, "_WHOLE_BYTES", 5_000)
    monkeypatch.setattr(quarantine, "_CUT_BYTES", 100)
    source.page(source.project(1, source.user(1)), 1)
    source.page(uid(7, 1), 1, html="<" * 6_000, script="s")
    assert imported(settings).result["reasons"] == {"unknown_project": 1}
    row = target.one("SELECT source_row FROM rollout.quarantine")
    assert row["html"] == "<" * 100 + "… (6000 bytes)"
    assert (row["script"], row["project_id"]) == ("s", uid(7, 1))
    assert not row.keys() & {"n", "h_html"}


def test_a_mended_row_gets_in(settings, source):
    """The next run takes a row that was mended, and counts only what is still wrong."""
    source.user(1, role="root")
    source.user(2, role="root")
    imported(settings)
    source.run("UPDATE users SET role = 'user' WHERE id = %s", uid(1))
    run = imported(settings)
    assert figures(run, "users") == {"read": 2, "inserted": 1, "quarantined": 1}


def test_rejects_lists_one_run(settings, source):
    """By default the last import that was committed; a dry run does not count, a run of one's choice does."""
    source.user(1, role="root")
    first = imported(settings)
    source.user(2, role="root")
    second = imported(settings)
    source.user(3, role="root")
    imported(settings, dry_run=True)
    assert [row["source_key"] for row in rejects(settings)] == [uid(1), uid(2)]
    assert [row["source_key"] for row in rejects(settings, first.run_id)] == [uid(1)]
    row = next(rejects(settings, second.run_id))
    assert (row["table_name"], row["reasons"], row["run_id"]) == ("users", ["unknown_value"], second.run_id)
    assert row["source_row"]["role"] == "root"
    source.run("DELETE FROM users")
    imported(settings)
    assert list(rejects(settings)) == []


def test_rejects_of_a_database_without_memory(settings_for, database):
    """Where nothing was ever run there is nothing to list."""
    assert list(rejects(settings_for(database))) == []


@pytest.mark.variant
def test_more_than_allowed_rolls_everything_back(settings, source, target):
    """``--max-quarantined`` counts over all tables; at the limit it passes, beyond it nothing was changed."""
    user = source.user(1)
    source.user(2, role="root")
    source.project(1, uid(99))
    source.project(2, user)
    run = attempt_import(settings, max_quarantined=1)
    assert (run.exit_code, run.database) == (10, "rolled back")
    assert run.error.message == "2 rows would go to quarantine, 1 are allowed"
    assert run.result["reasons"] == {"unknown_user": 1, "unknown_value": 1}
    for table in ("pagtive_projects", "pagtive_user_map", "rollout.quarantine"):
        assert target.one(f"SELECT count(*) FROM {table}") == 0
    assert imported(settings, max_quarantined=2).database == "changed"


def test_no_secret_goes_into_quarantine(settings, source, target):
    """Columns that are not imported never get anywhere, whatever the source keeps in them."""
    source.run("ALTER TABLE users ADD password text, ADD access_token text")
    source.add("users", id=uid(1), role="root", password="geheim-1", access_token="geheim-2")
    run = imported(settings)
    assert run.result["source"]["ignored"] == ["users.password", "users.access_token"]
    kept = target.one("SELECT source_row::text FROM rollout.quarantine")
    assert "geheim" not in kept + json.dumps(run.as_json(), default=str)


def test_bytes_that_are_no_utf8(settings_for, postgres, target_server):
    """A SQL_ASCII source checks nothing: rows with other bytes go to quarantine, all others come over as they are."""
    name = f"{target_server.database}_ascii"
    options = "TEMPLATE template0 ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C'"
    execute(postgres.server, f"CREATE DATABASE {name} {options}")
    server = postgres.server.to_database(name)
    try:
        with connected(server) as connection:
            create_pagtive_schema(connection)
            connection.commit()
        with rows_of(server) as source:
            source.connection.set_client_encoding("UTF8")
            user = source.user(1, name="王五")
            project = source.project(1, user, project_name="官网", pages='{"标题": [1]}')
            source.page(project, 1, html="页面")
            source.run("UPDATE projects SET style_tags = ARRAY['\"深色\"']::jsonb[]")
            for page in (2, 3):
                source.page(project, page)
            source.run(r"UPDATE project_details SET html = convert_from('\xff41', 'SQL_ASCII') WHERE page_id = 2")
            source.user(2, name="x")
            source.run(r"UPDATE users SET name = convert_from('\xe9', 'SQL_ASCII') WHERE id = %s", uid(2))
        run = imported(settings_for(target_server, server))
        with rows_of(target_server) as target:
            assert target.rejected() == {f"users {uid(2)}": ["not_utf8"], f"project_details {project}/2": ["not_utf8"]}
            assert target.one("SELECT full_name FROM profiles WHERE user_id = %s", user) == "王五"
            found = target.run("SELECT project_name, pages, style_tags FROM pagtive_projects")
            assert found == [("官网", {"标题": [1]}, ["深色"])]
            assert target.one("SELECT html FROM pagtive_project_details WHERE page_id = 1") == "页面"
        assert run.exit_code == 0
    finally:
        execute(postgres.server, f"DROP DATABASE {name}")


@pytest.mark.parametrize("pages", ["[" * 20_000 + "]" * 20_000, "[" * 3 + "]" * 2])
def test_json_that_no_server_can_hold(settings, source, pages):
    """Nested too deep, or cut: what the server raises for it is a reason, not the end of the import."""
    source.run("ALTER TABLE projects ALTER pages TYPE text")
    source.project(1, source.user(1), pages=pages)
    source.project(2, uid(1), pages='{"a": [1]}')
    run = imported(settings)
    assert figures(run, "projects") == {"read": 2, "inserted": 1, "quarantined": 1}
    assert run.result["reasons"] == {"not_json": 1}


def test_page_numbers_of_a_type_with_decimals(settings, source, target):
    """A number without a fraction is an integer, however many zeros follow its point."""
    source.run("ALTER TABLE project_details ALTER page_id TYPE numeric(12, 2) USING page_id::numeric")
    project = source.project(1, source.user(1))
    for number in ("1.00", "-2000000", "3.5", "2147483648"):
        source.page(project, number)
    run = imported(settings)
    assert target.run("SELECT page_id FROM pagtive_project_details ORDER BY 1") == [(-2_000_000,), (1,)]
    assert run.result["reasons"] == {"not_an_integer": 1, "out_of_range": 1}


def test_a_domain_over_a_domain(settings, source, target):
    """It is read as the type below both."""
    source.run("CREATE DOMAIN tags AS jsonb[]")
    source.run("CREATE DOMAIN style AS tags")
    source.run("ALTER TABLE projects ALTER style_tags DROP DEFAULT, ALTER style_tags TYPE style")
    source.project(1, source.user(1), style_tags=None)
    source.run("""UPDATE projects SET style_tags = ARRAY['"a"', '"b"']::jsonb[]""")
    assert figures(imported(settings), "projects") == {"read": 1, "inserted": 1}
    assert target.one("SELECT style_tags FROM pagtive_projects") == ["a", "b"]
