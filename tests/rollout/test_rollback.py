"""Rollback: removes what we made and only that, keeps and gives back what people entered, refuses before it touches."""

from __future__ import annotations

from dataclasses import replace

import pytest
from alembic import command

from rollout import plan
from rollout.adopt import our_tables
from rollout.database import engine_for, run_lock
from rollout.rollback import BEFORE_LAST_RUN
from rollout.run import Run
from rollout.settings import PROJECT
from rollout.shelf import entries as shelf
from rollout.verify import verify
from tests.fixtures.databases import execute, query, url_of
from tests.fixtures.legacy import HEAD, attempt, picture
from tests.fixtures.migrated import back, by_hand
from tests.fixtures.tiers import tried_once
from tests.fixtures.upgraded import connected

OURS = our_tables(HEAD)
FAMILIES = plan.families()
A_WEEK = (PROJECT / "tests/fixtures/a_week.sql").read_text(encoding="utf-8")


_ENABLED = (
    "SELECT array_agg(tgrelid::regclass || '.' || tgname || ' ' || tgenabled::text ORDER BY 1, tgname)"
    " FROM pg_trigger WHERE NOT tgisinternal"
)


@pytest.fixture(scope="module")
def before(legacy_template):
    """Return the picture of the legacy database before any upgrade."""
    return picture(legacy_template)


@pytest.fixture
def a_week_later(migrated):
    """Return an upgraded database in which people have worked for a week."""
    execute(migrated, A_WEEK)
    return migrated


def ours(server, tables=OURS):
    """Return the rows of our tables, and of users, as sorted texts."""
    found = {}
    for table in [*tables, "users"]:
        found[table] = query(server, f"SELECT array_agg(t::text ORDER BY t::text) FROM {table} t")
    return found


def on_shelf(server):
    """Return the entries on the shelf."""
    with connected(server) as connection:
        return shelf.entries(connection)


def refused(run, *words):
    """Assert that a rollback was refused with these words, untouched; return its error."""
    assert (run.exit_code, run.database) == (12, "untouched"), run.error
    assert all(word in run.error.message for word in words), run.error.message
    assert run.error.hint
    assert "\n" not in run.error.message + run.error.hint
    return run.error


def test_before_the_first_upgrade_is_as_it_was(migrated, before, settings_for):
    """Schema, rows, files, triggers and sequences are those of before; our version table is gone, rows are kept."""
    run = back(settings_for(migrated))
    assert (run.exit_code, run.database, run.error) == (0, "changed", None)
    assert before.differences(picture(migrated)) == []
    assert query(migrated, "SELECT to_regclass('public.lawsker_schema_version')") is None
    assert query(migrated, "SELECT count(*) FROM rollout.applied_revisions") == 0
    assert {"table workspace_mappings", "table lawyer_levels"} < {entry.object for entry in on_shelf(migrated)}
    for one in run.result["shelf"]:  # `tool shelf show` prints it, for psql: an id mostly begins with a digit
        assert query(migrated, f"SELECT count(*) FROM {one['table']}") == one["rows"]


def test_what_people_entered_comes_back(a_week_later, settings_for):
    """After rollback and upgrade every row of ours is what it was, to the last byte, and the shelf is gone."""
    settings = settings_for(a_week_later)
    then, enabled = ours(a_week_later), query(a_week_later, _ENABLED)
    assert back(settings).exit_code == 0
    assert query(a_week_later, "SELECT count(*) FROM users WHERE last_login > now() - interval '1 hour'") == 3
    run = attempt(settings)
    assert (run.exit_code, run.error) == (0, None)
    assert ours(a_week_later) == then
    assert all(one["returned"] == one["rows"] and one["left"] == 0 for one in run.result["unshelved"])
    assert query(a_week_later, "SELECT to_regnamespace('rollout_shelf')") is None
    assert query(a_week_later, _ENABLED) == enabled


@pytest.mark.variant
def test_only_what_would_not_come_back_anyway_is_put_away(a_week_later, settings_for):
    """Rows that have in the columns what these come with are not copied."""
    other = query(
        a_week_later,
        "SELECT count(*) FROM users WHERE role <> 'user'"
        " OR num_nonnulls(agreed_agreement_version, avatar_url, twitter_url) > 0",
    )
    users = query(a_week_later, "SELECT count(*) FROM users")
    assert 0 < other < users
    entered, settings = ours(a_week_later), settings_for(a_week_later)
    back(settings, BEFORE_LAST_RUN)
    put = {entry.columns: entry.rows for entry in on_shelf(a_week_later) if entry.kind == shelf.COLUMNS}
    assert next(rows for columns, rows in put.items() if "role" in columns) == other
    attempt(settings)
    assert ours(a_week_later) == entered


GONE = {
    "an index": ("index ix_users_account_type", "DROP INDEX ix_users_account_type"),
    "a table": ("table credit_purchase_records", "DROP TABLE credit_purchase_records"),
    "a column": ("column users.avatar_url", "ALTER TABLE users DROP avatar_url"),
    "columns, all": ("column users.role", ("ALTER TABLE users DROP role, DROP agreed_agreement_version,"
                     " DROP avatar_url, DROP twitter_url")),
    "a constraint": ("constraint users.ck_users_role", "ALTER TABLE users DROP CONSTRAINT ck_users_role"),
    "a view": ("view case_matching_stats", "DROP VIEW case_matching_stats"),
    "a function": ("function lawsker_touch_updated_at()", "DROP FUNCTION lawsker_touch_updated_at() CASCADE"),
}  # fmt: skip


@pytest.mark.variant
@pytest.mark.parametrize("case", tried_once(GONE))
def test_what_is_gone_already_is_in_nobodys_way(migrated, before, settings_for, case):
    """The receipt says so; the rest goes, what was there before us is as it was; an upgrade makes all again."""
    key, statement = GONE[case]
    execute(migrated, statement)
    settings = settings_for(migrated)
    run = back(settings)
    assert (run.exit_code, run.error) == (0, None)
    assert key in {one["object"] for one in run.result["receipt"] if one["missing"]}
    assert before.differences(picture(migrated)) == []
    run = attempt(settings)
    assert (run.exit_code, run.error) == (0, None)


@pytest.mark.variant
def test_a_table_that_was_given_another_name_stays(migrated, settings_for):
    """A trigger of ours on it is named like anybody's; without that the table is its owner's, and stays."""
    execute(migrated, "ALTER TABLE user_accounts RENAME TO theirs")
    settings = settings_for(migrated)
    refused(back(settings), "on theirs")
    execute(migrated, "DROP TRIGGER update_user_accounts_updated_at ON theirs")
    assert back(settings).exit_code == 0
    assert query(migrated, "SELECT count(*) FROM theirs") == 0


@pytest.mark.variant
def test_numbers_are_not_given_twice(a_week_later, settings_for):
    """Identity and serial columns go on after the rows that came back."""
    settings = settings_for(a_week_later)
    back(settings, "auth")
    attempt(settings)
    highest = query(a_week_later, "SELECT max(id) FROM pagtive_project_details")
    insert = "INSERT INTO pagtive_project_details (project_id, page_id) SELECT id, 2 FROM pagtive_projects"
    execute(a_week_later, insert)
    assert query(a_week_later, "SELECT min(id) FROM pagtive_project_details WHERE page_id = 2") > highest


def test_receipt_tells_whose_rows_go(a_week_later, settings_for):
    """Rows that people entered or changed are told from those that the upgrade made, in tables and in columns."""
    before = ours(a_week_later)
    run = back(settings_for(a_week_later), receipt_only=True)
    receipt = {one["object"]: one for one in run.result["receipt"]}
    users = query(a_week_later, "SELECT count(*) FROM users")
    credited = query(a_week_later, "SELECT count(*) FROM user_credits")
    assert _counts(receipt["table user_credits"]) == (credited, 4)
    assert _counts(receipt["table lawyer_levels"]) == (10, 1)
    assert _counts(receipt["table enterprise_service_packages"]) == (4, 0)
    assert _counts(receipt["table user_accounts"]) == (5, 5)
    assert _counts(receipt["table workspace_mappings"]) == (users, 0)
    assert _counts(receipt["column users.avatar_url"]) == (2, 2)
    assert _counts(receipt["column users.registration_source"]) == (users, 3)
    assert _counts(receipt["column users.email_verified"]) == (users, 0)
    assert receipt["table user_accounts"]["made_by_upgrade"] == 0
    assert {"view lawyer_performance_summary", "function lawsker_touch_updated_at()"} < set(receipt)
    assert not {"table feishu_auths", "column feishu_auths.open_id", "table users"} & set(receipt), "they were there"
    assert (run.exit_code, run.database) == (0, "untouched")
    assert ours(a_week_later) == before


def _counts(one):
    return one["rows"], one["entered"]


@pytest.mark.variant
def test_receipt_still_tells_them_apart_the_second_time(a_week_later, settings_for):
    """Rows that came back are people's where they were people's, and the upgrade's where they were the upgrade's."""
    settings = settings_for(a_week_later)
    first = back(settings).result["receipt"]
    attempt(settings)
    assert back(settings, receipt_only=True).result["receipt"] == first


@pytest.mark.variant
@pytest.mark.parametrize("family", ["accounts", "penalties", "baseline"])
def test_a_family_can_be_the_target(a_week_later, settings_for, family):
    """What stays is verified at that revision; what went comes back with the next upgrade."""
    settings = settings_for(a_week_later)
    then = ours(a_week_later)
    run = back(settings, family)
    assert (run.exit_code, run.result["to_revision"]) == (0, FAMILIES[family])
    assert query(a_week_later, "SELECT version_num FROM lawsker_schema_version") == FAMILIES[family]
    look = Run("verify")
    verify(settings, look)
    assert look.result["summary"]["failed"] == 0
    assert attempt(settings).exit_code == 0
    assert ours(a_week_later) == then


@pytest.mark.variant
def test_runs_can_be_taken_back_one_after_the_other(legacy, before, settings_for):
    """``before-last-run`` goes back run by run; into the midst of a run it does not guess."""
    settings = settings_for(legacy)
    attempt(settings, to="credits")
    attempt(settings)
    assert back(settings).result["to_revision"] == FAMILIES["credits"]
    assert back(settings).result["to_revision"] is None
    assert before.differences(picture(legacy)) == []
    attempt(settings)
    assert back(settings, "levels").exit_code == 0
    refused(back(settings), "no last run")


OTHERS = {
    "view boss": "CREATE VIEW boss AS SELECT account_type, count(*) FROM users GROUP BY 1",
    "view boss1": "CREATE VIEW boss1 AS SELECT workspace_id FROM users",
    "view boss2": "CREATE VIEW boss2 AS SELECT * FROM boss1",
    "materialized view summary": "CREATE MATERIALIZED VIEW summary AS SELECT * FROM lawyer_performance_summary",
    "table constraint note_w_fkey on note": "CREATE TABLE note (w varchar(50) REFERENCES users (workspace_id))",
    "table constraint note_a_a_fkey on note_a": "CREATE TABLE note_a (a uuid REFERENCES user_accounts)",
    "table column note_id.id": "CREATE TABLE note_id (id int DEFAULT nextval('lawyer_levels_id_seq'))",
    "function f(user_credits)": "CREATE FUNCTION f(user_credits) RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "index theirs": "CREATE INDEX theirs ON users (account_type, id)",
    "index on_credits": "CREATE INDEX on_credits ON user_credits (credits_purchased)",
    "table column user_credits.note": "ALTER TABLE user_credits ADD note text",
    "trigger theirs on cases": "CREATE TRIGGER theirs BEFORE UPDATE ON cases FOR EACH ROW"
    " EXECUTE FUNCTION lawsker_touch_updated_at()",
    "trigger theirs_too on user_credits": "CREATE TRIGGER theirs_too BEFORE UPDATE ON user_credits FOR EACH ROW"
    " EXECUTE FUNCTION update_updated_at_column()",
    "policy theirs on user_credits": "CREATE POLICY theirs ON user_credits USING (true)",
    "rule theirs on user_credits": "CREATE RULE theirs AS ON INSERT TO user_credits DO ALSO NOTHING",
    "table child": "CREATE TABLE child () INHERITS (user_credits)",
    "table parent": "CREATE TABLE parent (credits_weekly int); ALTER TABLE user_credits INHERIT parent",
    "type pair": "CREATE TYPE pair AS (a user_credits)",
    "publication relation user_credits in publication theirs": "CREATE PUBLICATION theirs FOR TABLE user_credits",
    "statistics object theirs": "CREATE STATISTICS theirs ON credits_purchased, credits_weekly FROM user_credits",
}


def test_what_others_hang_on_ours_is_named(migrated, settings_for):
    """A rollback refuses before anything is touched, names all of it, and says how to remove each."""
    execute(migrated, *OTHERS.values())
    settings = settings_for(migrated)
    run = back(settings, "baseline", confirm=lambda _: pytest.fail("asked, though it must refuse"))
    error = refused(run, "view boss1", "table child")
    assert {one.subject for one in run.findings} >= set(OTHERS)
    assert error.hint == run.findings[0].hint
    assert back(settings, "baseline", receipt_only=True).exit_code == 12
    execute(migrated, *(one.hint.partition("then: ")[2] for one in run.findings))
    assert back(settings, "baseline").exit_code == 0


@pytest.mark.parametrize(
    ("what", "to", "goes"),
    tried_once(
        [("view boss", "accounts", True), ("table constraint note_a_a_fkey on note_a", "performance", False),
         ("view boss", "levels", True), ("view boss", "baseline", False), ("index on_credits", "points", False),
         ("table constraint note_a_a_fkey on note_a", "accounts", True)], keep=2,
    ),
)  # fmt: skip
def test_what_hangs_on_what_stays_is_no_matter(migrated, settings_for, what, to, goes):
    """Only what depends on what would go is in the way."""
    execute(migrated, OTHERS[what])
    run = back(settings_for(migrated), to)
    assert (run.exit_code == 0) is goes
    if not goes:
        refused(run, what)


def test_discard_keeps_nothing(a_week_later, settings_for):
    """Nothing is put on a shelf, and the receipt says so."""
    run = back(settings_for(a_week_later), "levels", discard=True)
    assert run.exit_code == 0
    assert not any(one["shelved"] for one in run.result["receipt"])
    assert query(a_week_later, "SELECT to_regnamespace('rollout_shelf')") is None
    assert query(a_week_later, "SELECT to_regclass('user_credits')") is None


@pytest.mark.variant
def test_discard_takes_only_what_the_receipt_showed(a_week_later, settings_for):
    """A row that comes in between the receipt and the answer stops a rollback that would lose it."""

    def write(_):
        execute(
            a_week_later, "INSERT INTO demo_accounts (demo_type, workspace_id, display_name) VALUES ('user', 'x', 'x')"
        )
        return True

    run = back(settings_for(a_week_later), "baseline", confirm=write, discard=True)
    assert (run.exit_code, run.database) == (12, "rolled back")
    assert "since the receipt" in run.error.message
    assert query(a_week_later, "SELECT version_num FROM lawsker_schema_version") == HEAD


def test_no_for_an_answer(migrated, settings_for):
    """Whoever says no has changed nothing."""
    refused(back(settings_for(migrated), confirm=lambda _: False), "not confirmed")
    assert query(migrated, "SELECT to_regnamespace('rollout_shelf')") is None


REFUSALS = {
    "unknown": ("nonsense", "", "no revision or family nonsense"),
    "newer": ("head", "UPDATE lawsker_schema_version SET version_num = '{penalties}'", "newer"),
    "below the baseline": ("base", "", "below the baseline"),
    "two rows": ("levels", ("ALTER TABLE lawsker_schema_version DROP CONSTRAINT lawsker_schema_version_pkc;"
                 " INSERT INTO lawsker_schema_version VALUES ('{levels}')"), "names 2 revisions"),
    "unknown id": ("levels", "UPDATE lawsker_schema_version SET version_num = 'abcdef123456'", "abcdef123456"),
    "no row": ("levels", "DELETE FROM lawsker_schema_version", "names no revision"),
    "no version table": ("levels", "DROP TABLE lawsker_schema_version", "names no revision"),
    "no memory": ("levels", "DROP SCHEMA rollout CASCADE", "does not remember"),
    "changed by others": (BEFORE_LAST_RUN, "UPDATE lawsker_schema_version SET version_num = '{levels}'", "no last run"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSALS)
def test_refusals_are_clear_and_early(migrated, settings_for, case):
    """Each is one line of error, one of advice, exit code 12, and nothing touched or asked; the receipt says it too."""
    to, damage, words = REFUSALS[case]
    if damage:
        execute(migrated, damage.format(**FAMILIES))
    settings = settings_for(migrated)
    refused(back(settings, to, receipt_only=True), words)
    refused(back(settings, to, confirm=lambda _: pytest.fail("asked")), words)


def test_nothing_to_roll_back(legacy, settings_for):
    """A database without any revision of ours is left alone."""
    refused(back(settings_for(legacy), "levels"), "no revision of ours")


def test_nothing_to_do(migrated, settings_for):
    """The revision that the database is at is no error."""
    run = back(settings_for(migrated), "pagtive")
    assert (run.exit_code, run.database, run.result["receipt"]) == (0, "untouched", [])


def test_another_run_holds_the_lock(migrated, settings_for):
    """A rollback does not wait for another run: exit code 5."""
    with run_lock(engine_for(migrated)):
        run = back(settings_for(migrated))
    assert (run.exit_code, run.database) == (5, "untouched")


def test_a_revision_that_cannot_be_taken_back(migrated, settings_for, monkeypatch):
    """It is named before anything is touched."""
    history = plan.history()
    monkeypatch.setattr(plan, "history", lambda: (*history[:-1], replace(history[-1], reversible=False)))
    refused(back(settings_for(migrated), "levels"), history[-1].id)


@pytest.mark.variant
def test_a_shelf_of_the_same_run(a_week_later, settings_for):
    """What another has put under our name on the shelf stays, and nothing goes."""
    run = Run("rollback")
    execute(a_week_later, "CREATE SCHEMA rollout_shelf", f'CREATE TABLE rollout_shelf."{run.run_id}_user_credits" ()')
    before = picture(a_week_later)
    back(settings_for(a_week_later), "levels", run=run)
    assert (run.exit_code, run.database) == (12, "rolled back")
    assert "already holds" in run.error.message
    assert before.differences(picture(a_week_later)) == []


def test_a_failure_leaves_everything(a_week_later, settings_for):
    """Something of others that refuses in the midst of it: all is as before, the shelf included."""
    execute(
        a_week_later,
        "CREATE FUNCTION no() RETURNS event_trigger LANGUAGE plpgsql AS $$BEGIN RAISE 'not today'; END$$",
        "CREATE EVENT TRIGGER no ON sql_drop WHEN TAG IN ('DROP FUNCTION') EXECUTE FUNCTION no()",
    )
    before = picture(a_week_later)
    run = back(settings_for(a_week_later), "baseline")
    assert (run.exit_code, run.database) == (12, "rolled back")
    assert "not today" in run.error.message
    assert before.differences(picture(a_week_later)) == []
    assert on_shelf(a_week_later) == []


SLY = {
    "clients": "UPDATE clients SET name = 'changed' WHERE id = (SELECT id FROM clients LIMIT 1)",
    "ix_cases_case_number": "DROP INDEX ix_cases_case_number",
    "cases.description": "ALTER TABLE cases ALTER description SET DEFAULT 'x'",
    "users_updated_at on users": "ALTER TABLE users DISABLE TRIGGER users_updated_at",
}


@pytest.mark.variant
@pytest.mark.parametrize("subject", SLY)
def test_what_stays_is_proven_untouched(migrated, settings_for, subject):
    """Something of others that changes the legacy core while ours goes: it is named, and all is rolled back."""
    execute(
        migrated,
        "CREATE FUNCTION sly() RETURNS event_trigger LANGUAGE plpgsql AS $$BEGIN IF EXISTS"
        " (SELECT FROM pg_event_trigger_dropped_objects() WHERE object_identity = 'public.case_matching_stats')"
        f" THEN {SLY[subject]}; END IF; END$$",
        "CREATE EVENT TRIGGER sly ON sql_drop WHEN TAG IN ('DROP VIEW') EXECUTE FUNCTION sly()",
    )
    before = picture(migrated)
    run = back(settings_for(migrated))
    assert (run.exit_code, run.database) == (12, "rolled back")
    assert subject in run.error.message
    assert before.differences(picture(migrated)) == []


@pytest.mark.variant
def test_rows_whose_owner_is_gone_stay_on_the_shelf(a_week_later, settings_for):
    """They are reported with the reason; an optional reference is cleared; everything else comes back."""
    settings = settings_for(a_week_later)
    back(settings, "baseline")
    reviewed = query(
        a_week_later, "SELECT related_case_id FROM rollout_shelf.{}".format(_name(a_week_later, "lawyer_point"))
    )
    first = query(a_week_later, "SELECT id FROM users ORDER BY id LIMIT 1")
    _delete(a_week_later, "users", first)
    _delete(a_week_later, "cases", reviewed)
    run = attempt(settings)
    assert (run.exit_code, run.error) == (0, None)
    told = {one["object"]: one for one in run.result["unshelved"]}
    assert (told["table user_accounts"]["returned"], told["table user_accounts"]["left"]) == (4, 1)
    assert "users" in told["table user_accounts"]["why"][0]
    assert (
        told["table lawyer_point_transactions"]["returned"],
        told["table lawyer_point_transactions"]["cleared"],
    ) == (1, 2)
    assert query(a_week_later, "SELECT count(*) FROM lawyer_point_transactions WHERE related_case_id IS NULL") == 1
    left = {entry.object: entry for entry in on_shelf(a_week_later)}
    assert left["table user_accounts"].rows == 1
    assert left["table user_accounts"].why
    assert query(a_week_later, f"SELECT count(*) FROM {left['table user_accounts'].table}") == 1
    assert attempt(settings).exit_code == 0, "what is left does not stop an upgrade"


@pytest.mark.variant
def test_of_two_shelves_the_newer_one_counts(a_week_later, settings_for, monkeypatch):
    """A plain upgrade gives nothing back; what people enter after it wins over what is older, and that is kept too."""
    settings = settings_for(a_week_later)
    monkeypatch.setenv("DATABASE_URL", url_of(a_week_later))
    assert back(settings, "baseline").exit_code == 0
    command.upgrade(plan.alembic_config(), "head")
    assert query(a_week_later, "SELECT count(*) FROM user_accounts") == 0
    execute(
        a_week_later,
        "UPDATE users SET account_type = 'admin'",
        "UPDATE lawyer_levels SET name = 'newer' WHERE level = 1",
    )
    assert back(settings, "baseline").exit_code == 0
    run = attempt(settings)
    assert (run.exit_code, run.error) == (0, None)
    assert query(a_week_later, "SELECT array_agg(DISTINCT account_type::text) FROM users") == ["admin"]
    assert query(a_week_later, "SELECT name FROM lawyer_levels WHERE level = 1") == "newer"
    assert query(a_week_later, "SELECT count(*) FROM user_accounts") == 5, "nothing newer stood in their way"
    left = {entry.object for entry in on_shelf(a_week_later)}
    assert {"table lawyer_levels", "table user_credits"} < left
    assert any(name.startswith("columns users (account_type") for name in left)


def _name(server, part):
    """Return the quoted name of a table on the shelf."""
    return '"' + query(server, f"SELECT relname FROM pg_class WHERE relname ~ '_{part}' AND relnamespace ="
                               " 'rollout_shelf'::regnamespace AND relkind = 'r'") + '"'  # fmt: skip


def _delete(server, table, identifier):
    """Delete a row and, whatever refers to it, look the other way."""
    execute(server, f"SET session_replication_role = replica; DELETE FROM {table} WHERE id = '{identifier}'")


@pytest.mark.variant
def test_a_shelf_that_was_changed_is_left_alone(a_week_later, settings_for):
    """What is not what was put away stops the upgrade before anything is touched; told so, it goes on without it."""
    settings = settings_for(a_week_later)
    back(settings, "credits")
    name = _name(a_week_later, "user_accounts")
    execute(a_week_later, f"UPDATE rollout_shelf.{name} SET provider_account_id = 'mine'")
    run = attempt(settings)
    assert (run.exit_code, run.database) == (6, "untouched")
    assert "somebody changed what a rollback put away" in run.error.message
    execute(a_week_later, run.error.hint[run.error.hint.index("COMMENT ON") :])
    assert attempt(settings).error is None
    assert query(a_week_later, "SELECT count(*) FROM user_accounts") == 0
    assert query(a_week_later, f"SELECT count(*) FROM rollout_shelf.{name} WHERE provider_account_id = 'mine'") == 5


@pytest.mark.variant
def test_a_row_that_the_table_refuses_stays(a_week_later, settings_for):
    """One row that breaks a rule does not keep the others on the shelf."""
    settings = settings_for(a_week_later)
    back(settings, "credits")
    name = _name(a_week_later, "user_accounts")
    execute(a_week_later, f"UPDATE rollout_shelf.{name} SET provider = 'fax' WHERE ctid = '(0,1)'")
    with connected(a_week_later) as connection:
        (entry,) = [one for one in shelf.entries(connection) if one.object == "table user_accounts"]
        found = shelf.table_fingerprint(connection, shelf.SHELF, entry.name, entry.fingerprinted)
        replace(entry, digest=found.digest).label(connection)
        connection.commit()
    run = attempt(settings)
    told = {one["object"]: one for one in run.result["unshelved"]}
    assert (told["table user_accounts"]["returned"], told["table user_accounts"]["left"]) == (4, 1)
    assert query(a_week_later, "SELECT count(*) FROM user_accounts") == 4


@pytest.mark.variant
def test_rows_of_ours_leave_a_table_that_was_there(legacy, settings_for):
    """Seeds and initial rows that we put into tables that were there go; theirs, and what people changed, stay."""
    by_hand(legacy, "lawyer_levels", "user_credits")
    execute(
        legacy,
        "INSERT INTO lawyer_levels (level, name, requirements, benefits, daily_case_limit, monthly_amount_limit) VALUES"
        """ (1, 'theirs', '{"level_points": 0, "cases_completed": 0}', '{"ai_credits": 20}', 2, 5000),"""
        """ (2, 'theirs', '{"level_points": 500, "cases_completed": 3}', '{"ai_credits": 30}', 3, 8000)""",
        "INSERT INTO user_credits (user_id) SELECT id FROM users ORDER BY id LIMIT 3",
    )
    before = picture(legacy)
    settings = settings_for(legacy)
    assert attempt(settings).exit_code == 0
    assert query(legacy, "SELECT count(*) FROM lawyer_levels") == 10
    receipt = {one["object"]: one for one in back(settings, receipt_only=True).result["receipt"]}
    assert receipt["rows of lawyer_levels"]["rows"] == 8
    assert "table lawyer_levels" not in receipt
    assert back(settings).exit_code == 0
    assert before.differences(picture(legacy)) == []


def test_plain_alembic_goes_back_too(migrated, before, monkeypatch):
    """``alembic downgrade`` drops without a shelf, and leaves what was there before us."""
    monkeypatch.setenv("DATABASE_URL", url_of(migrated))
    execute(migrated, "DROP INDEX ix_users_account_type")  # what is gone already is in nobody's way here either
    command.downgrade(plan.alembic_config(), FAMILIES["baseline"])
    assert query(migrated, "SELECT to_regnamespace('rollout_shelf')") is None
    assert query(migrated, "SELECT version_num FROM lawsker_schema_version") == FAMILIES["baseline"]
    now = picture(migrated)
    assert before.lost(now) == []
    assert set(now.contents) - set(before.contents) == {"public.lawsker_schema_version"}


@pytest.mark.variant
def test_a_database_that_we_created(database, settings_for):
    """On one that was empty everything goes, the legacy core too, and everything comes back."""
    settings = settings_for(database)
    assert attempt(settings).exit_code == 0
    execute(
        database,
        "INSERT INTO tenants (id, name, tenant_code, mode, status)"
        " VALUES (gen_random_uuid(), 'A', 'a', 'SAAS', 'ACTIVE')",
        "INSERT INTO users (id, tenant_id, username, password_hash, status)"
        " SELECT gen_random_uuid(), id, 'u', '!', 'ACTIVE' FROM tenants",
        "INSERT INTO workspace_mappings (user_id, workspace_id, workspace_type)"
        " SELECT id, workspace_id, 'user' FROM users",
    )
    then = ours(database, [*OURS, "tenants"])
    assert back(settings, "base").exit_code == 0
    assert query(database, "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == 0
    assert attempt(settings).exit_code == 0
    assert ours(database, [*OURS, "tenants"]) == then
