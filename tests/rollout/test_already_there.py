"""Databases that somebody migrated by hand: what is there and fits is taken, never ours; what does not is refused."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from alembic import command as alembic

from rollout import adopt, manifest, plan
from rollout.rollback import Options, rollback
from rollout.run import Run
from tests.fixtures.databases import execute, query, url_of
from tests.fixtures.legacy import NEW_USER_COLUMNS, attempt, picture, report_of
from tests.fixtures.tiers import tried_once
from tests.rollout.test_migrate import verified

OURS = [table for table in adopt.our_tables(plan.history()[-1].id) if table != "feishu_auths"]
VIEWS = "case_matching_stats, lawyer_performance_summary"

# Names that another tool would have chosen.
OTHER_NAMES = """
DO $$DECLARE c record; n int := 0; BEGIN
    FOR c IN SELECT conrelid::regclass AS of, conname FROM pg_constraint
        WHERE conrelid IN ('lawyer_levels'::regclass, 'user_credits'::regclass) AND contype <> 'n'
           OR conname = 'uq_users_workspace_id' ORDER BY 1, 2
    LOOP
        n := n + 1;
        EXECUTE format('ALTER TABLE %s RENAME CONSTRAINT %I TO %I', c.of, c.conname, 'theirs_' || n);
    END LOOP;
    FOR c IN SELECT indexrelid::regclass AS of FROM pg_index i WHERE indrelid = 'user_credits'::regclass
        AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = i.indexrelid)
    LOOP n := n + 1; EXECUTE format('ALTER INDEX %s RENAME TO %I', c.of, 'theirs_' || n); END LOOP;
END$$
"""


@pytest.fixture(scope="module")
def all_there(make_template, legacy_template):
    """Return a legacy database in which everything of ours is, and nothing tells that we made it."""
    server = make_template(legacy_template)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DATABASE_URL", url_of(server))
        alembic.upgrade(plan.alembic_config(), "head")
    execute(server, "DROP SCHEMA rollout CASCADE", "DROP TABLE lawsker_schema_version", OTHER_NAMES)
    return server


@pytest.fixture
def half_there(make_database, all_there):
    """Return one where only two tables, a column of users and the trigger function are left, with rows of their own."""
    server = make_database(all_there)
    gone = [table for table in OURS if table not in {"lawyer_levels", "user_credits"}]
    columns = [column for column in NEW_USER_COLUMNS if column != "workspace_id"]
    execute(
        server,
        f"DROP VIEW {VIEWS}",
        f"DROP TABLE {', '.join(gone)} CASCADE",
        *(f"ALTER TABLE users DROP COLUMN {column}" for column in columns),
        "UPDATE users SET workspace_id = 'theirs-' || left(id::text, 8) WHERE mod(ascii(left(id::text, 1)), 2) = 0",
        "UPDATE lawyer_levels SET name = '他们的名字', daily_case_limit = 4 WHERE level = 3",
        "DELETE FROM lawyer_levels WHERE level = 10",
        "UPDATE user_credits SET credits_remaining = 77, credits_purchased = 76",
        "DELETE FROM user_credits WHERE mod(ascii(left(user_id::text, 1)), 2) = 0",
    )
    return server


def changes(before, after):
    """Return what differs between two pictures, in both directions; our version table aside."""
    added = [line for line in after.lost(before) if not line.startswith("sequence ")]  # they may have advanced
    return [line for line in [*before.lost(after), *added] if "lawsker_schema_version" not in line]


@pytest.mark.variant
def test_everything_is_there(make_database, all_there, settings_for, monkeypatch):
    """Nothing is made, nothing changes but our version table; a downgrade then leaves everything where it was."""
    server = make_database(all_there)
    before, settings = picture(server), settings_for(server)
    run = attempt(settings)
    assert run.exit_code == 0, run.error
    assert changes(before, picture(server)) == []
    assert verified(settings).exit_code == 0
    monkeypatch.setenv("DATABASE_URL", url_of(server))
    alembic.downgrade(plan.alembic_config(), "baseline")
    assert changes(before, picture(server)) == []


@pytest.mark.variant
@pytest.mark.parametrize("way", ["tool rollback", pytest.param("alembic downgrade", marks=pytest.mark.variant)])
def test_half_of_it_is_there(half_there, settings_for, monkeypatch, way):
    """Theirs is taken: rows and values are kept, what is missing is added; on the way back only ours goes."""
    before, settings = picture(half_there), settings_for(half_there)
    run = attempt(settings, backup=True)
    assert run.exit_code == 0, run.error
    assert query(half_there, "SELECT count(*) FROM users WHERE workspace_id LIKE 'theirs-%'") > 10
    assert query(half_there, "SELECT name || daily_case_limit FROM lawyer_levels WHERE level = 3") == "他们的名字4"
    assert query(half_there, "SELECT name FROM lawyer_levels WHERE level = 10") == "首席合伙人"
    kept = "SELECT count(*) FROM user_credits WHERE credits_remaining = 77"
    theirs = query(half_there, kept)
    assert 0 < theirs < query(half_there, "SELECT count(*) FROM user_credits")
    assert query(half_there, "SELECT bool_and(m.workspace_id = u.workspace_id) FROM workspace_mappings m"
                 " JOIN users u ON u.id = m.user_id")  # fmt: skip
    assert verified(settings).exit_code == 0
    seeds = [one["subject"] for one in report_of(settings, run)["findings"] if "lawyer_levels" in one["subject"]]
    assert seeds, "verify says where a seed row differs"

    if way == "tool rollback":
        rollback(settings, Run("rollback"), Options(to="baseline"), lambda _: True)
    else:
        monkeypatch.setenv("DATABASE_URL", url_of(half_there))
        alembic.downgrade(plan.alembic_config(), "baseline")
    assert changes(before, picture(half_there)) == [], "theirs is as it was, and only ours is gone"
    assert query(half_there, kept) == theirs
    assert attempt(settings).exit_code == 0, "and it goes up again"


@dataclass(frozen=True)
class Different:
    """SQL after which an object of ours differs, and how."""

    statement: str
    subject: str
    how: str


DIFFERENT = [
    Different("ALTER TABLE users ALTER workspace_id DROP NOT NULL", "users.workspace_id", "not_null: expected True"),
    Different("ALTER TABLE users ALTER workspace_id TYPE varchar(60)", "users.workspace_id", "varying(50), found"),
    Different("ALTER TABLE users ALTER workspace_id DROP DEFAULT", "users.workspace_id", "default: expected"),
    Different("ALTER TABLE lawyer_levels ADD theirs int", "lawyer_levels", "lawyer_levels.theirs is not ours"),
    Different("ALTER TABLE lawyer_levels DROP benefits", "lawyer_levels", "lawyer_levels.benefits is missing"),
    Different("ALTER TABLE lawyer_levels ADD CHECK (level < 99)", "lawyer_levels", "_level_check is not ours"),
    Different(
        "CREATE OR REPLACE FUNCTION lawsker_touch_updated_at() RETURNS trigger LANGUAGE plpgsql"
        " AS $$BEGIN RETURN NULL; END$$",
        "lawsker_touch_updated_at()",
        "body: expected",
    ),
    Different(
        "CREATE OR REPLACE VIEW case_matching_stats AS SELECT id AS case_id, case_amount, status,"
        " 0::bigint AS invitations_sent, 0::bigint AS invitations_accepted, 0::bigint AS invitations_declined,"
        " 0::numeric AS avg_match_score FROM cases",
        "case_matching_stats",
        "query: expected",
    ),
    Different(
        "ALTER TABLE user_credits DISABLE TRIGGER update_user_credits_updated_at",
        "update_user_credits_updated_at on user_credits",
        "enabled: expected O, found D",
    ),
    Different(
        "DROP INDEX ix_users_account_type; CREATE INDEX ix_users_account_type ON users (account_type, username)",
        "ix_users_account_type",
        "definition: expected",
    ),
]


@pytest.mark.parametrize(
    "different",
    tried_once(DIFFERENT, keep=2),
    ids=lambda different: f"{different.subject} {different.how}",
)
def test_what_differs_is_refused(make_database, all_there, settings_for, different):
    """Exit code 6, untouched; which object, and how it differs."""
    server = make_database(all_there)
    execute(server, different.statement)
    before = picture(server)
    run = attempt(settings_for(server))
    assert (run.exit_code, run.database) == (6, "untouched"), run.error
    found = [one for one in run.findings if one.check == "what_is_there_is_identical"]
    assert [one for one in found if one.subject == different.subject and different.how in one.problem], found
    assert not [one for one in found if "\n" in one.problem + one.hint], "one line each"
    assert before.differences(picture(server)) == []


def test_our_tables_are_what_the_manifests_say():
    """The list that these tests go by is not empty: the 22 tables of Lawsker, accounts, Pagtive."""
    wanted = manifest.at([one.id for one in plan.history()], major=0)
    assert len(OURS) > 25
    assert {f"table {name}" for name in OURS} <= wanted.objects.keys()
