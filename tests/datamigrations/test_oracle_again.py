"""Imports after imports against the oracle: decisions, conflicts, grown sources, retries, and undoing them again."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datamigrations.undo import undo_run
from rollout.run import Run
from tests.datamigrations.oracle import canonical, moment
from tests.datamigrations.oracle_again import NOW, TABLES, USER, Again, Target, column, key_of
from tests.datamigrations.test_oracle import BOUNDED, SOURCES, as_text, few, prepare, untied, without_keys
from tests.fixtures.pagtive import TARGETS, attempt_import, imported, rows_of, uid

LATER = few(None, "2024-01-01 00:00:00", "2024-01-02 00:00:00", "2024-01-03 00:00:00", "2024-01-02 00:00:00.000001")
PEOPLE = few(*(uid(number) for number in range(1, 5)), uid(1).replace("00000001", "ABCDEF01"), "cuid-1", "cuid-2")
OWNERS = few(uid(1), uid(2), uid(3), "cuid-1", "nobody")
PERSON = st.fixed_dictionaries(
    {
        "id": PEOPLE,
        "email": few(None, "a@x.com", " A@X.com", "b@x.com", "twice@x.com", "ali@x.com", "taken@x.com", "\ufb01@x.com"),
        "username": few(None, "bob", "bob", "lawsker1", "ou_1", "ou_2", "ou_3"),
        "status": few(None, 0, 1, 2, 3),
        "role": few(None, "user", "admin", "super_admin", "verified", "user"),
        "agreed_agreement_version": few(None, "v1", "v2"),
        "created_at": LATER,
        "updated_at": LATER,
    }
)
PROJECT = st.fixed_dictionaries(
    {
        "id": few(uid(1, 1), uid(2, 1), uid(3, 1), uid(0xABC, 1).upper()),
        "user_id": OWNERS,
        "project_name": few("a", "b", "a", "n" * 256),
        "pages": few(None, "null", '["x"]', '{"a": 1.0}'),
        "style_tags": few(None, "[]", '["y"]'),
        "is_public": few(None, True, False),
        "batch_index": few(None, 1),
        "created_at": LATER,
        "updated_at": LATER,
    }
)
DETAIL = st.fixed_dictionaries(
    {
        "project_id": few(uid(1, 1), uid(2, 1), uid(3, 1), uid(0xABC, 1)),
        "page_id": few("1", "01", "2", "x", None),
        "html": few(None, "<p>", "页面"),
        "images": few(None, "[]", "null"),
        "versionId": few(None, uid(1)),
        "created_at": LATER,
        "updated_at": LATER,
    }
)
LOG = st.fixed_dictionaries(
    {
        "id": few(uid(1, 2), uid(2, 2), uid(3, 2)),
        "user_id": few(None, uid(1), uid(2), "nobody"),
        "project_id": few(None, uid(1, 1), uid(2, 1), "project-1"),
        "request_prompts": few("[]", '["x"]'),
        "status": few("success", "pending", " success ", "done"),
        "duration_ms": few(None, 1),
        "request_timestamp": LATER,
        "response_timestamp": LATER,
    }
)
CODE = st.fixed_dictionaries(
    {
        "id": few(uid(1, 3), uid(2, 3), uid(3, 3)),
        "code": few("A", "B", "C"),
        "status": few("available", "used", None, "gone"),
        "used_by_user_id": few(None, uid(1), "nobody"),
        "used_at": LATER,
        "created_at": LATER,
    }
)
SOURCE = st.fixed_dictionaries(
    {
        "users": st.lists(PERSON, max_size=7),
        "projects": st.lists(PROJECT, max_size=5),
        "project_details": st.lists(DETAIL, max_size=7),
        "llmlog": st.lists(LOG, max_size=4),
        "invitation_codes": st.lists(CODE, max_size=4),
    }
).map(untied)
EDITS = st.fixed_dictionaries(
    {
        table: st.none() | st.tuples(st.integers(0, 3), LATER.filter(bool))
        for table in ("users", "projects", "project_details", "llm_logs", "invitation_codes")
    }
)
EDITED = {
    "users": "status = 'BANNED', updated_at = %s",
    "projects": "project_name = 'mine', updated_at = %s",
    "project_details": "html = 'mine', updated_at = %s",
    "llm_logs": "model = 'mine', response_timestamp = %s",
    "invitation_codes": "status = 'expired', used_at = %s",
}
OPTIONS = st.fixed_dictionaries({"on_conflict": few("newer", "newer", "source", "keep"), "rising": st.booleans()})
DECISION = st.tuples(few("match", "match", "create", "skip"), st.integers(1, 8).map(lambda number: uid(number, 9)))
DECISIONS = st.none() | st.dictionaries(st.integers(0, 6), DECISION, max_size=3)

STORY = st.fixed_dictionaries(
    {"first": SOURCE, "decisions": DECISIONS, "edits": EDITS, "second": SOURCE, "options": OPTIONS}
)
LISTED_TWICE = """
SELECT count(*) FROM (SELECT FROM rollout.quarantine WHERE resolved_by IS NULL GROUP BY table_name, source_key
                      HAVING count(DISTINCT run_id) > 1) AS q
"""


class World:
    """A source and a target, what imports did with them, and what the oracle says they must."""

    def __init__(self, given_settings, source, target):
        """Begin with an empty source, and a target that has users and accounts."""
        self.settings, self.source, self.rows = given_settings, source, target
        source.run("SET TimeZone = 'UTC'")
        without_keys(source)
        prepare(target)
        self.last, self.seen, self.runs = {table: {} for table in TABLES}, {}, []

    def holds(self, content):
        """Let the source hold these rows and no other."""
        for table in SOURCES.values():
            self.source.run(f"DELETE FROM {table}")
        for table, rows in content.items():
            for row in rows:
                self.source.add(table, **row)

    def edit(self, edits):
        """Let somebody change rows of the target; triggers do not fire, so that times are what is said."""
        self.rows.run("SET session_replication_role = replica")
        for table, edit in edits.items():
            if edit:
                where = f"FROM {TARGETS[table]} ORDER BY ctid::text LIMIT 1 OFFSET {edit[0]}"
                only = " WHERE registration_source = 'pagtive' OR id::text LIKE '%%-8000-000000000009'"
                where = where.replace(" ORDER", only + " ORDER") if table == "users" else where
                self.rows.run(
                    f"UPDATE {TARGETS[table]} SET {EDITED[table]} WHERE id = (SELECT id {where})", edit[1] + "+00"
                )
        self.rows.run("SET session_replication_role = DEFAULT")

    def target(self):
        """Look at the target."""
        users = self.rows.run(
            "SELECT id::text, email, status::text, role, agreed_agreement_version, updated_at::text FROM users"
        )
        accounts = self.rows.run("SELECT provider, provider_account_id, user_id::text FROM user_accounts")
        mapped = self.rows.run("SELECT source_id, user_id::text, matched_by FROM pagtive_user_map")
        return Target(
            users={row[0]: (*row[1:5], moment(row[5])) for row in users},
            accounts={row[:2]: row[2] for row in accounts},
            names={row[0] for row in self.rows.run("SELECT username FROM users")},
            mapped={row[0]: row[1:] for row in mapped},
            rows={table: self.table(table) for table in TABLES},
            last={table: dict(rows) for table, rows in self.last.items()},
            seen=dict(self.seen),
            open=self.open(),
        )

    def table(self, table):
        """Return a table's rows by key, in the form in which they are compared."""
        found = self.rows.run(
            "SELECT attname FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped",
            f"public.{TARGETS[table]}",
        )
        skipped = {"reference_files", "version_id"} if table != "project_details" else {"id"}
        names = [name for (name,) in found if name not in skipped]
        rows = self.rows.run(f"SELECT {', '.join(f'{name}::text' for name in names)} FROM {TARGETS[table]}")
        listed = [{name: column(table, name, value) for name, value in zip(names, row, strict=True)} for row in rows]
        return {key_of(table, row): row for row in listed}

    def open(self):
        """Return what is open in quarantine."""
        if not self.rows.one("SELECT to_regclass('rollout.quarantine') IS NOT NULL"):
            return []
        rows = self.rows.run("SELECT table_name, source_key, reasons FROM rollout.quarantine WHERE resolved_by IS NULL")
        return sorted((table, key, tuple(reasons)) for table, key, reasons in rows)

    def state(self):
        """Return what an undo has to give back."""
        return self.rows.contents(), self.open()

    def import_(self, *, on_conflict="newer", rising=False, decisions=None, retry=False):
        """Import, and compare with the oracle."""
        before, state = self.target(), self.state()
        tables = {name: as_text(self.source, table) for name, table in SOURCES.items()}
        oracle = Again.of(
            tables, before, on_conflict=on_conflict, rising=rising, decisions=decisions or {}, retry=retry
        )  # fmt: skip
        options = {"on_conflict": on_conflict, "allow_role_escalation": rising, "retry_rejects": retry}
        listed = [
            {"line": str(line), "source_id": key, "action": action, "target": target if action == "match" else ""}
            for line, (key, (action, target)) in enumerate(oracle.decisions.items(), start=2)
        ]
        try:
            oracle.work_out()
        except ValueError:
            run = attempt_import(self.settings, decisions=listed, **options)
            assert (run.exit_code, run.database) == (6, "untouched")
            assert self.state() == state
            return None
        run = imported(self.settings, decisions=listed, **options)
        if retry and not any("//" not in f"/{key}/" for _, key, _ in before.open):
            assert (run.result["retried"], run.database) == (0, "untouched")
            return run
        self.compare(oracle, before, run)
        self.remember(oracle, run)
        return run

    def compare(self, oracle, before, run):
        """Compare what became of everything with what the oracle says."""
        after = self.target()
        self.compare_users(oracle, before, after, run)
        for table in TABLES:
            expected = oracle.after[table]
            assert after.rows[table].keys() == expected.keys(), table
            for key, row in expected.items():
                found = after.rows[table][key]
                open_times = {name for name, value in row.items() if value == NOW}
                assert all(found[name] for name in open_times)
                known = {name: value for name, value in row.items() if name not in open_times}
                if table in USER:
                    known[USER[table]] = self.foreseen.get(known[USER[table]], known[USER[table]])
                assert {name: found[name] for name in known} == known, (table, key)
            counts, actions = run.result["tables"][table], oracle.actions[table]
            assert (counts["inserted"], counts["updated"]) == (actions["insert"], actions["update"]), table
            assert counts["unchanged"] == actions["unchanged"] + actions["kept"], table
            assert run.result["kept"].get(table, 0) == actions["kept"], table
            assert counts["quarantined"] == len(oracle.source[table]) - len(oracle.kept[table]), table
            assert counts["defaulted"] == oracle.defaulted[table], table
        assert after.open == oracle.left_open()

    def compare_users(self, oracle, before, after, run):
        """Compare the users, the map, and what was withheld."""
        counts, actions = run.result["tables"]["users"], oracle.actions["users"]
        created = [one for one in oracle.people if one.rule == "created"]
        merged = sum(one.rule == "merged" for one in oracle.people)
        assert (counts["inserted"], counts["merged"], counts["updated"]) == (len(created), merged, actions["update"])
        assert counts["unchanged"] == actions["unchanged"] + actions["kept"]
        assert counts["read"] == len(oracle.source["users"])
        assert run.result["role_escalations_withheld"] == oracle.withheld
        rules = {key: rule for key, (_, rule) in before.mapped.items()}
        rules |= {one.key: one.rule for one in oracle.people if one.says is None}
        assert {key: rule for key, (_, rule) in after.mapped.items()} == rules
        self.foreseen = {}
        for one in oracle.people:
            user = after.mapped[one.key][0]
            assert self.foreseen.setdefault(one.user, user) == user
            assert one.user.startswith("new ") or one.user == user
        assert len(set(self.foreseen.values())) == len(self.foreseen)
        names = oracle.expected_names()
        found = dict(self.rows.run("SELECT id::text, username FROM users"))
        assert {one.key: found[after.mapped[one.key][0]] for one in created} == names
        old = {key: row[1:4] for key, row in after.users.items() if key in before.users}
        assert old == oracle.after["users"]
        assert after.users.keys() - before.users.keys() == {after.mapped[one.key][0] for one in created}

    def remember(self, oracle, run):
        """Keep what the import left, by which an edit shows."""
        after = self.target()
        for table in TABLES:
            for key, row in oracle.after[table].items():
                if row is not self.before_rows(oracle, table).get(key):
                    self.last[table][key] = after.rows[table][key]
        for one in oracle.people:
            if one.rule != "merged" and (one.says is None or one.action == "update"):
                user = after.mapped[one.key][0]
                age = moment(one.row["updated_at"]) or moment(one.row["created_at"])
                self.seen[user] = after.users[user][1:4], age, after.users[user][4]
        self.runs.append(run)

    @staticmethod
    def before_rows(oracle, table):
        """Return a table's rows before the import."""
        return oracle.target.rows[table]


@pytest.fixture
def world(settings_for, make_database, source_templates, upgraded):
    """Return what makes a world of its own for each example."""

    def make():
        source_server, target_server = make_database(source_templates["text"]), make_database(upgraded)
        source, target = rows_of(source_server), rows_of(target_server)
        return settings_for(target_server, source_server), source, target

    return make


def as_the_oracle_says(world, story):
    """Import, edit, import another state of the source in another way, and take both back."""
    given_settings, source, target = world()
    first, edits, options = story["first"], story["edits"], story["options"]
    with source as source_rows, target as target_rows:
        one = World(given_settings, source_rows, target_rows)
        one.holds(first)
        clean = one.state()
        people = [canonical(person["id"]) for person in first["users"]]
        decided = {people[number % len(people)]: said for number, said in (story["decisions"] or {}).items() if people}
        one.import_(decisions=decided)
        one.edit(edits)
        one.holds(story["second"])
        state = one.state()
        run = one.import_(**options)
        after = one.rows.contents()
        if not {"code_taken", "duplicate_code"} & run.result["reasons"].keys():  # a code that has become free by now
            again = imported(one.settings, on_conflict=options["on_conflict"], allow_role_escalation=options["rising"])
            assert (one.rows.contents(), again.database) == (after, "untouched")
        if run.database == "changed":
            undo_run(one.settings, Run("pagtive undo"), run.run_id)
        assert one.rows.contents() == state[0]
        if not any(edits.values()) and len(one.runs) > 1 and one.runs[0].database == "changed":
            undo_run(one.settings, Run("pagtive undo"), one.runs[0].run_id)
            assert one.rows.contents() == clean[0]


def retried_as_the_oracle_says(world, first, second):
    """Import, change the source, retry; then a whole import, and take all of it back."""
    given_settings, source, target = world()
    with source as source_rows, target as target_rows:
        one = World(given_settings, source_rows, target_rows)
        one.holds(first)
        one.import_()
        one.holds(second)
        state = one.state()
        run = one.import_(retry=True)
        whole = one.state()
        last = one.import_()
        for undone, before in ((last, whole), (run, state)):
            if undone.database == "changed":
                undo_run(one.settings, Run("pagtive undo"), undone.run_id)
                assert one.rows.contents() == before[0]
                assert one.rows.one(LISTED_TWICE) == 0
                if last.database == "changed":
                    assert one.open() == before[1]


@pytest.mark.variant
@settings(BOUNDED, max_examples=2)
@given(story=STORY)
def test_any_second_import(world, story):
    """Whatever a source, decisions and edits were, and become: as the oracle says, and an undo leaves no trace."""
    as_the_oracle_says(world, story)


@pytest.mark.exhaustive
@settings(BOUNDED, max_examples=100)
@given(story=STORY)
def test_many_second_imports(world, story):
    """The same for many more of them."""
    as_the_oracle_says(world, story)


@pytest.mark.variant
@settings(BOUNDED, max_examples=3)
@given(first=SOURCE, second=SOURCE)
def test_any_retry(world, first, second):
    """Whatever was mended, and whatever else changed: a retry reads what is open, and does what an import would."""
    retried_as_the_oracle_says(world, first, second)


@pytest.mark.exhaustive
@settings(BOUNDED, max_examples=100)
@given(first=SOURCE, second=SOURCE)
def test_many_retries(world, first, second):
    """The same for many more of them."""
    retried_as_the_oracle_says(world, first, second)
