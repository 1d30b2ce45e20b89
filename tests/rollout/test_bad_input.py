"""Bad input: one line what is wrong, one line what to do, an exit code, the database untouched."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

import pytest

from rollout import database as connections
from tests.fixtures.databases import execute, query
from tests.fixtures.legacy import as_role, picture, values_of
from tests.fixtures.tiers import tried_once

VERSION_TABLE = "CREATE TABLE lawsker_schema_version (version_num varchar(32) PRIMARY KEY)"

OWN_TABLES = """
DO $$DECLARE t text; BEGIN
    FOR t IN SELECT format('ALTER TABLE %s OWNER TO {role}', oid::regclass) FROM pg_class
        WHERE relkind IN ('r', 'p', 'm') AND relnamespace = 'public'::regnamespace
    LOOP EXECUTE t; END LOOP; END$$
"""


def assert_one_line_each(result, tmp_path, passwords, *, code, error, hint):
    """See what the operator gets: error, hint, state; no traceback, no password, also not in the report."""
    assert result.exit_code == code, result.output
    told = result.stderr.splitlines()
    (message,) = [line for line in told if line.startswith("error: ")]
    (advice,) = [line for line in told if line.startswith("hint:  ")]
    assert re.search(error, message), message
    assert re.search(hint, advice), advice
    assert told[-1] == "The database is untouched."
    everything = result.output + "".join(path.read_text() for path in (tmp_path / "var").rglob("*") if path.is_file())
    assert "Traceback" not in everything
    assert not [password for password in passwords if password in everything]


@dataclass(frozen=True)
class Bad:
    """Something bad: a libpq parameter that is wrong, and what is said about it."""

    name: str
    value: str
    code: int
    error: str
    hint: str

    def __str__(self):
        """Name the test."""
        return self.name


WRONG = [
    Bad("password", "not-this-one", 4, "does not let us in: .*password authentication failed", "DATABASE_URL"),
    Bad("user", "nobody_of_that_name", 4, "does not let us in", "user and password in DATABASE_URL"),
    Bad("host", "no-such-host.invalid", 4, "the host of DATABASE_URL is unknown", "host name in DATABASE_URL"),
    Bad("port", "1", 4, "no connection to .*:1: .*refused", "host and port in DATABASE_URL"),
    Bad("dbname", "no_such_database", 4, "has no such database: .*no_such_database", "psql -l"),
]


@pytest.mark.parametrize("bad", WRONG, ids=str)
@pytest.mark.parametrize("name", ["migrate", "preflight", "verify", "status"])
def test_the_database_cannot_be_reached(postgres, command, tmp_path, name, bad):
    """Wrong password, user, host, port, database: exit code 4, and which part of DATABASE_URL to look at.

    Nothing is said of a database that nobody has seen; of an upgrade there is a report.
    """
    server = replace(postgres.server, parameters={**postgres.server.parameters, bad.name: bad.value})
    passwords = {server.parameters["password"], postgres.server.parameters["password"]}
    result = command(server, name)
    assert_one_line_each(result, tmp_path, passwords, code=bad.code, error=bad.error, hint=bad.hint)
    reports = list((tmp_path / "var").glob("reports/*.html"))
    assert len(reports) == (name == "migrate")
    assert result.stdout.split() == [word for report in reports for word in ("report:", str(report))]
    values = values_of(command(server, name, "--json"))
    assert (values["exit_code"], values["database"], values["target"]) == (4, "untouched", None)


@pytest.mark.parametrize(
    ("url", "error"),
    [
        (None, "DATABASE_URL is not set"),
        ("", "DATABASE_URL is not set"),
        ("mysql://root:s3cret@localhost/lawsker", "DATABASE_URL is not a PostgreSQL URL"),
        ("lawsker", "DATABASE_URL is not a PostgreSQL URL"),
        ("postgresql://u:s3cret@[::1/lawsker", "DATABASE_URL is not a valid PostgreSQL URL"),
        ("postgresql://u:s3cret@localhost/lawsker?sslmod=require", "unknown parameter sslmod"),
    ],
)
def test_the_url_is_no_url(command, tmp_path, url, error):
    """No DATABASE_URL, or none of PostgreSQL: exit code 3; what is wrong with it is named, its password never."""
    result = command(url, "migrate")
    assert_one_line_each(result, tmp_path, {"s3cret"}, code=3, error=error, hint="DATABASE_URL|Percent-encode")
    values = values_of(command(url, "migrate", "--json"))
    assert (values["exit_code"], values["database"]) == (3, "untouched")


def test_no_more_sessions(command, legacy, tmp_path, limited_role):
    """The role has as many as it may have: the hint is about that, not about the address."""
    role, password = limited_role
    execute(legacy, f"ALTER ROLE {role} CONNECTION LIMIT 0")
    try:
        result = command(as_role(legacy, limited_role), "migrate")
    finally:
        execute(legacy, f"ALTER ROLE {role} CONNECTION LIMIT -1")
    error, hint = f'takes no more sessions: .*too many connections for role "{role}"', "CONNECTION LIMIT"
    assert_one_line_each(result, tmp_path, {password}, code=4, error=error, hint=hint)


@pytest.fixture
def refused(command, tmp_path, limited_role):
    """Return what sees that migrate refuses a database with exit code 6, and that nothing in it changes."""

    def see(server, error, hint, *, owner=None):
        before = picture(owner or server)
        passwords = {server.parameters["password"], limited_role[1]}
        result = command(server, "migrate")
        assert_one_line_each(result, tmp_path, passwords, code=6, error=error, hint=hint)
        values = values_of(command(server, "migrate", "--json"))
        assert (values["exit_code"], values["database"]) == (6, "untouched")
        assert before.differences(picture(owner or server)) == []
        return values

    return see


def test_the_server_is_too_old(legacy, refused, monkeypatch):
    """A server older than all that we support."""
    monkeypatch.setattr(connections, "OLDEST_SERVER", 99)
    refused(legacy, r"the server is PostgreSQL \d+.*: too old", "PostgreSQL 99 or newer is needed")


def test_a_role_that_may_nothing(legacy, refused, limited_role):
    """It may not create the schema of our own memory."""
    error, hint = "permission denied for database", "GRANT CREATE ON DATABASE"
    refused(as_role(legacy, limited_role), error, hint, owner=legacy)
    assert query(legacy, "SELECT to_regnamespace('rollout') IS NULL")


def test_a_role_that_may_not_create_tables(legacy, refused, limited_role):
    """It owns the tables, and may create schemas, but no tables in schema public."""
    execute(
        legacy,
        f"GRANT CREATE ON DATABASE {legacy.database} TO {limited_role[0]}",
        OWN_TABLES.format(role=limited_role[0]),
        "REVOKE CREATE ON SCHEMA public FROM PUBLIC",
    )
    values = refused(as_role(legacy, limited_role), ".", ".", owner=legacy)
    (found,) = [one for one in values["findings"] if one["check"] == "we_may_create"]
    assert "may not create tables in schema public" in found["problem"]
    assert found["hint"].startswith("As its owner: GRANT CREATE ON SCHEMA public")


def test_a_role_that_does_not_own_users(legacy, refused, limited_role):
    """It may create, but users is somebody else's."""
    execute(
        legacy,
        f"GRANT CREATE ON DATABASE {legacy.database} TO {limited_role[0]}",
        f"GRANT CREATE ON SCHEMA public TO {limited_role[0]}",
        f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {limited_role[0]}",
    )
    values = refused(as_role(legacy, limited_role), ".", ".", owner=legacy)
    found = {one["subject"]: one["problem"] for one in values["findings"] if one["check"] == "we_may_alter"}
    assert "does not own the table" in found["users"]


@pytest.mark.parametrize(
    ("statements", "error", "hint"),
    tried_once(
        [
            pytest.param(
                [VERSION_TABLE, "INSERT INTO lawsker_schema_version VALUES ('cff7cdcfa179'), ('0df70416a7c3')"],
                "names 2 revisions; it must name one",
                "tool adopt",
                id="two revisions",
            ),
            pytest.param(
                [VERSION_TABLE, "INSERT INTO lawsker_schema_version VALUES ('feedc0ffee00')"],
                "revision feedc0ffee00, which this checkout does not know",
                "this one is older",
                id="unknown revision",
            ),
            pytest.param(
                ["ALTER TABLE users DROP COLUMN last_login"],
                r"users\.last_login: .*missing",
                "ALTER TABLE users ADD COLUMN",
                id="missing column",
            ),
            pytest.param(
                ["ALTER TABLE profiles RENAME TO people"],
                "profiles: the legacy table is missing",
                "DATABASE_URL",
                id="missing table",
            ),
            pytest.param(
                ["DROP INDEX ix_users_email", "UPDATE users SET email = 'one@example.com' WHERE email IS NOT NULL"],
                r"users\.email: 1 e-mail address",
                "give each user an own address",
                id="equal e-mails",
            ),
            pytest.param(
                [
                    "CREATE TABLE people (LIKE users)",
                    "DROP TABLE users CASCADE",
                    "ALTER TABLE people RENAME TO users",
                    "ALTER TABLE users DROP COLUMN id, ADD COLUMN id serial PRIMARY KEY",
                ],
                r"users\.id: .*integer, expected uuid",
                "keys are uuid",
                id="integer key",
            ),
            pytest.param(["DROP TABLE users CASCADE"], "users is missing, but there is", "DATABASE_URL", id="no users"),
            pytest.param(
                ["CREATE TABLE user_credits (user_id uuid PRIMARY KEY)"],
                "table user_credits exists with another definition: .*user_credits.created_at is missing",
                "This loses nothing and mends what it can.*ALTER TABLE user_credits ADD COLUMN created_at",
                id="differing table",
            ),
            pytest.param(
                ["CREATE VIEW user_credits AS SELECT 1 AS one"],
                "table user_credits .*: its name is taken by view user_credits",
                "RENAME TO",
                id="view of our name",
            ),
            pytest.param(
                ["CREATE SEQUENCE ix_users_account_type"],
                "index ix_users_account_type .* taken by sequence ix_users_account_type",
                "RENAME TO",
                id="sequence of an index's name",
            ),
            pytest.param(
                ["CREATE SEQUENCE lawyer_levels_id_seq"],
                "taken by sequence lawyer_levels_id_seq",
                "RENAME TO",
                id="sequence of a column's",
            ),
            pytest.param(
                ["CREATE TYPE demo_accounts AS ENUM ('a')"],
                "table demo_accounts .* taken by type demo_accounts",
                "RENAME TO",
                id="type of a table's name",
            ),
            pytest.param(
                ["CREATE TABLE pk_user_credits (id int)"],
                "pk_user_credits .* taken by table pk_user_credits",
                "RENAME TO",
                id="table of a key's name",
            ),
            pytest.param(
                ["CREATE RULE r AS ON UPDATE TO users DO ALSO NOTHING"],
                "a rule rewrites statements on users",
                "DISABLE RULE",
                id="rule",
            ),
            pytest.param(
                ["CREATE SCHEMA rollout", "CREATE TABLE rollout.runs (id int)"],
                "rollout cannot be written",
                "RENAME",
                id="another rollout",
            ),
        ],
        keep=6,
    ),
)
def test_a_database_that_does_not_fit(legacy, refused, statements, error, hint):
    """What would stop the upgrade is found before it begins, and named."""
    execute(legacy, *statements)
    refused(legacy, error, hint)
