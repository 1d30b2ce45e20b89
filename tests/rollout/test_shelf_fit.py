"""What people entered after they had altered our columns: rollbacks keep it, upgrades give back what fits.

What does not is said: nothing is cut, altered, or turned into a default without a word, and nothing else is kept back.
"""

from __future__ import annotations

import pytest

from rollout.shelf import entries as shelf
from tests.fixtures.databases import execute, query
from tests.fixtures.legacy import as_role, attempt, picture
from tests.fixtures.migrated import back
from tests.fixtures.tiers import tried_once
from tests.fixtures.upgraded import connected
from tests.rollout.test_rollback import A_WEEK, ours, refused

FIRST = "(SELECT id FROM users ORDER BY id LIMIT 1)"
FIRST_CREDITS = "(SELECT user_id FROM user_credits ORDER BY user_id LIMIT 1)"
LAST_SPACE = "(SELECT workspace_id FROM users ORDER BY id DESC LIMIT 1)"
NO_CHECK, NO_DEFAULT = "ALTER TABLE users DROP CONSTRAINT ck_users_role", "ALTER TABLE users ALTER role DROP DEFAULT"

# What people did; the column, or the table, of which one value or row does not fit; how to find that on the shelf.
ALTERED = {
    "values of several columns that checks and NOT NULL forbid": (
        (
            f"{NO_CHECK}, DROP CONSTRAINT ck_users_account_type, ALTER role DROP NOT NULL",
            f"UPDATE users SET role = NULL, account_type = 'boss', avatar_url = 'kept' WHERE id = {FIRST}",
        ),
        {"users.role": "role IS NULL AND avatar_url = 'kept'", "users.account_type": "account_type = 'boss'"},
    ),
    "a value that a check forbids": (
        (NO_CHECK, f"UPDATE users SET role = 'boss', avatar_url = 'kept' WHERE id = {FIRST}"),
        {"users.role": "role = 'boss'"},
    ),
    "no value where a later revision wants one": (
        (
            "ALTER TABLE users ALTER account_type DROP NOT NULL",
            f"UPDATE users SET account_type = NULL WHERE id = {FIRST}",
        ),
        {"users.account_type": "account_type IS NULL"},
    ),
    "a value that is no longer unique": (
        (
            "ALTER TABLE users DROP CONSTRAINT uq_users_workspace_id",
            f"DELETE FROM workspace_mappings WHERE user_id = {FIRST} OR workspace_id = {LAST_SPACE}",
            f"UPDATE users SET workspace_id = {LAST_SPACE} WHERE id = {FIRST}",
        ),
        {"users.workspace_id": "true"},
    ),
    "a flag that became a text": (
        (
            "ALTER TABLE users ALTER email_verified DROP DEFAULT",
            "ALTER TABLE users ALTER email_verified TYPE text",
            f"UPDATE users SET email_verified = 'perhaps', registration_source = 'kept' WHERE id = {FIRST}",
        ),
        {"users.email_verified": "email_verified = 'perhaps'"},
    ),
    "a text that became json": (
        (
            NO_CHECK,
            NO_DEFAULT,
            "ALTER TABLE users ALTER role TYPE json USING to_json(role)",
            "ALTER TABLE users ALTER role SET DEFAULT '{}'",
            "UPDATE users SET role = '\"admin\"'",
        ),
        {"users.role": "role::text = '\"admin\"'"},
    ),
    "a text that became a type of theirs": (
        (
            "CREATE DOMAIN theirs AS varchar(20)",
            f"{NO_CHECK}, ALTER role TYPE theirs",
            f"UPDATE users SET role = 'boss' WHERE id = {FIRST}",
        ),
        {"users.role": "role = 'boss'"},
    ),
    "a number of a table that became a text": (
        (
            "ALTER TABLE user_credits ALTER credits_purchased DROP DEFAULT",
            "ALTER TABLE user_credits ALTER credits_purchased TYPE text",
            f"UPDATE user_credits SET credits_purchased = 'many' WHERE user_id = {FIRST_CREDITS}",
        ),
        {"user_credits": "credits_purchased = 'many'"},
    ),
    "no value in a table that wants one": (
        (
            "ALTER TABLE user_credits ALTER credits_purchased DROP NOT NULL",
            f"UPDATE user_credits SET credits_purchased = NULL WHERE user_id = {FIRST_CREDITS}",
        ),
        {"user_credits": "credits_purchased IS NULL"},
    ),
    "two rows of one key": (
        (
            "ALTER TABLE user_credits DROP CONSTRAINT pk_user_credits CASCADE",
            f"INSERT INTO user_credits SELECT user_id, 1, 1, 77 FROM user_credits WHERE user_id = {FIRST_CREDITS}",
        ),
        {"user_credits": "credits_purchased = 77"},
    ),
}  # fmt: skip


def entry_of(server, place):
    """Return what is on the shelf of a table, or of a column."""
    table, _, column = place.partition(".")
    with connected(server) as connection:
        (entry,) = [one for one in shelf.entries(connection) if one.source == table and (column or "id") in
                    (one.columns if column else ("id",))]  # fmt: skip
    return entry


@pytest.mark.variant
@pytest.mark.parametrize("case", tried_once(ALTERED))
def test_what_does_not_fit_stays_and_is_reported(migrated, settings_for, case):
    """It is on the shelf as it was, and the run says of what; every other value, of the same row too, comes back."""
    statements, places = ALTERED[case]
    execute(migrated, *statements)
    settings, then = settings_for(migrated), ours(migrated)
    run = back(settings, "baseline")
    assert (run.exit_code, run.error) == (0, None)
    run = attempt(settings)
    assert (run.exit_code, run.error) == (0, None)
    for place, condition in places.items():
        entry = entry_of(migrated, place)
        (told,) = [one for one in run.result["unshelved"] if one["object"] == entry.object]
        assert told["left"] == entry.rows
        assert any(place in why or "." not in place for why in told["why"])
        assert query(migrated, f"SELECT count(*) FROM {entry.table} WHERE {condition}") == entry.rows > 0
    now, tables = ours(migrated), {place for place in places if "." not in place} or {"users"}
    filled = {"workspace_mappings"} if "workspace_id" in "".join(statements) else set()
    assert {table for table in then if then[table] != now[table]} == tables | filled
    if any("'kept'" in one for one in statements):
        assert query(migrated, "SELECT count(*) FROM users WHERE 'kept' IN (avatar_url, registration_source)") == 1
    assert back(settings).exit_code == 0, "what is left there is in nobody's way"


@pytest.mark.variant
@pytest.mark.parametrize(
    "statements",
    [
        ("ALTER TABLE lawyer_levels DROP name CASCADE",),
        ("ALTER TABLE lawyer_levels DROP name CASCADE", "ALTER TABLE lawyer_levels ADD name varchar(50)"),
    ],
)
def test_rows_of_ours_that_lack_a_column(migrated, settings_for, statements):
    """Seeds that somebody took a column from are made anew; what came with them stays on the shelf, with the reason."""
    execute(migrated, *statements)
    settings = settings_for(migrated)
    assert back(settings, "baseline").exit_code == 0
    run = attempt(settings)
    assert (run.exit_code, run.error) == (0, None)
    told = {one["object"]: one for one in run.result["unshelved"]}
    assert (told["table lawyer_levels"]["left"], bool(told["table lawyer_levels"]["why"])) == (10, True)
    assert query(migrated, "SELECT count(name) FROM lawyer_levels") == 10


@pytest.mark.variant
def test_a_table_whose_key_was_dropped(migrated, settings_for):
    """The table that is made again has it: every row comes back."""
    execute(migrated, A_WEEK, "ALTER TABLE user_credits DROP CONSTRAINT pk_user_credits CASCADE")
    settings, then = settings_for(migrated), ours(migrated)
    assert back(settings, "baseline").exit_code == 0
    run = attempt(settings)
    assert (run.exit_code, run.error) == (0, None)
    assert ours(migrated) == then


@pytest.mark.variant
def test_generated_values_come_back_as_values(migrated, settings_for):
    """A column that its owner lets the server fill goes and comes back like any other."""
    if query(migrated, "SHOW server_version_num")[:2] == "12":
        pytest.skip("PostgreSQL 12 cannot make a generated column an ordinary one")
    execute(
        migrated,
        A_WEEK,
        "ALTER TABLE enterprise_clients DROP company_name CASCADE",
        "ALTER TABLE enterprise_clients ADD company_name varchar(200) NOT NULL"
        " GENERATED ALWAYS AS ('Firma ' || contact_person) STORED",
    )
    settings = settings_for(migrated)
    run = back(settings, "baseline")
    assert (run.exit_code, run.error) == (0, None)
    run = attempt(settings)
    assert (run.exit_code, run.error) == (0, None)
    assert query(migrated, "SELECT company_name FROM enterprise_clients") == "Firma 王"


@pytest.mark.variant
def test_rows_that_are_the_same(migrated, settings_for):
    """Of rows that are the same, which a table without its key may hold, one comes back; the others are not lost."""
    execute(
        migrated,
        "ALTER TABLE user_credits DROP CONSTRAINT pk_user_credits CASCADE",
        *[f"INSERT INTO user_credits SELECT * FROM user_credits WHERE user_id = {FIRST_CREDITS} LIMIT 1"] * 2,
    )
    settings, rows = settings_for(migrated), query(migrated, "SELECT count(*) FROM user_credits")
    assert back(settings, "baseline").exit_code == 0
    for put_away in (rows, 2):
        run = attempt(settings)
        assert (run.exit_code, run.error) == (0, None)
        (told,) = [one for one in run.result["unshelved"] if one["left"]]
        assert (told["object"], told["rows"], told["left"]) == ("table user_credits", put_away, 2)
        assert told["why"]
        assert query(migrated, f"SELECT count(*) FROM {entry_of(migrated, 'user_credits').table}") == 2
        assert query(migrated, "SELECT count(*) FROM user_credits") == rows - 2
        assert back(settings, "credits").exit_code == 0, "and they are there once more the next time"
        assert back(settings, "baseline").exit_code == 0


@pytest.fixture
def owned(migrated, limited_role):
    """Yield the upgraded database as its owner reaches it, who is no superuser and owns all that is in it."""
    role = limited_role[0]
    execute(
        migrated,
        A_WEEK,
        f"ALTER DATABASE {migrated.database} OWNER TO {role}",
        f"GRANT ALL ON SCHEMA public TO {role}",
        f"""DO $$ DECLARE statement text; BEGIN
        FOR statement IN
            SELECT format('ALTER TABLE %s OWNER TO {role}', oid::regclass) FROM pg_class
            WHERE relkind IN ('r', 'v', 'm', 'p') AND relnamespace IN
                (SELECT oid FROM pg_namespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema')
            UNION ALL
            SELECT format('ALTER FUNCTION %s OWNER TO {role}', oid::regprocedure) FROM pg_proc
            WHERE pronamespace = 'public'::regnamespace
            UNION ALL
            SELECT format('ALTER SCHEMA %I OWNER TO {role}', nspname) FROM pg_namespace WHERE nspname ~ '^rollout'
            UNION ALL
            SELECT format('ALTER TYPE %s OWNER TO {role}', oid::regtype) FROM pg_type
            WHERE typnamespace = 'public'::regnamespace AND typtype = 'e'
        LOOP EXECUTE statement; END LOOP; END $$""",
    )
    yield as_role(migrated, limited_role)
    execute(migrated, f"REASSIGN OWNED BY {role} TO CURRENT_USER")


@pytest.mark.variant
@pytest.mark.parametrize(
    ("table", "discard"),
    tried_once([("users", False), ("user_credits", False), ("users", True), ("user_credits", True)]),
)
def test_rows_that_row_security_hides(owned, migrated, settings_for, table, discard):
    """Whoever does not see every row takes none away, and gets no receipt of the rest; told how, it goes."""
    execute(migrated, f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY")
    before, settings = picture(migrated), settings_for(owned)
    refused(back(settings, "baseline", receipt_only=True), "row security", table)
    error = refused(back(settings, "baseline", discard=discard), "row security", table)
    assert before.differences(picture(migrated)) == []
    execute(owned, error.hint.partition(";")[0])
    run = back(settings, "baseline", discard=discard)
    assert (run.exit_code, run.error) == (0, None)


@pytest.mark.variant
def test_row_security_that_hides_nothing_from_us(owned, migrated, settings_for):
    """A table's owner sees every row: everything goes, and comes back."""
    execute(migrated, *(f"ALTER TABLE {one} ENABLE ROW LEVEL SECURITY" for one in ("users", "user_credits")))
    settings, then = settings_for(owned), ours(migrated)
    assert back(settings, "baseline").exit_code == 0
    run = attempt(settings)
    assert (run.exit_code, run.error) == (0, None)
    assert ours(migrated) == then
