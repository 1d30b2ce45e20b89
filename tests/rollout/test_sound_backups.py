"""Databases with something unusual in them: their backups are sound, are proven, and come back."""

from __future__ import annotations

import os
import time
from contextlib import nullcontext

import pytest

from rollout import restore
from rollout.backup import create, verify
from rollout.backups import dump, prove
from rollout.backups.archive import restore_archive
from rollout.definitions import canonical
from rollout.errors import BackupFailed, Interrupted
from rollout.postgres_tools import run_tool
from rollout.run import Run
from rollout.settings import Server
from tests.fixtures.databases import execute, properties_of, query


@pytest.fixture
def role(postgres):
    """Return what makes a role by a short name, with options; the roles go after the test, and what they own."""
    made = []

    def make(name, options=""):
        whole = f"{name}_{os.getpid()}"
        quoted = '"' + whole.replace('"', '""') + '"'
        execute(postgres.server, f"CREATE ROLE {quoted} {options}")
        made.append(quoted)
        return quoted

    yield make
    if made:
        execute(postgres.server, f"DROP ROLE {', '.join(made)}")


@pytest.fixture
def sound(database, postgres, role):  # noqa: ARG001 - the roles go after the databases that need them
    """Return a database whose relatives are dropped after the test, before the roles are."""
    yield database
    found = query(
        postgres.server,
        f"SELECT array(SELECT datname::text FROM pg_database WHERE datname LIKE '{database.database}%')",
    )
    for name in found:
        execute(postgres.server, f'ALTER DATABASE "{name}" IS_TEMPLATE false', f'DROP DATABASE "{name}"')


def bring_back(server, settings, before_the_restore=()):
    """Back up, prove and restore; between them, other statements."""
    made = create(settings, Run("backup create"), prove=True)
    execute(server, *before_the_restore)
    run = Run("restore")
    restore.restore(settings, run, made.path, confirm=lambda _: True)
    assert run.findings == []
    verify(made.path, run=Run("backup verify"), settings=settings)


def test_roles_of_a_policy_in_any_order(sound, settings_for, role):
    """An ALTER ROLE after the backup changes the order in which pg_dump lists a policy's roles."""
    a, b, c = (role(name) for name in ("ra", 'r ,"b" TO', "rc"))
    execute(sound, "CREATE TABLE t (a int)", f'CREATE POLICY "p TO b" ON t FOR SELECT TO {a}, {b}, {c} USING (true)')
    bring_back(sound, settings_for(sound), [f"ALTER ROLE {b} CONNECTION LIMIT 5"])


def test_roles_of_a_policy_are_compared():
    """Policies with the same roles are the same, with others they are not."""
    policy = 'CREATE POLICY "p TO b, a" ON public."t 1" AS RESTRICTIVE FOR ALL TO {} USING ((a = 1));'
    one, other, another = (canonical(policy.format(roles)) for roles in ('b, "a, c"', '"a, c", b', '"a", b'))
    assert one == other == policy.format('"a, c", b')
    assert one != another


@pytest.fixture
def member(sound, role):
    """Return the quoted name of a role that may make databases, and the database as it reaches it."""
    name = role("member", "LOGIN CREATEDB PASSWORD 'p'")
    return name, Server("DATABASE_URL", {**sound.parameters, "user": name.strip('"'), "password": "p"})


def test_database_of_a_group(sound, settings_for, role, member, monkeypatch):
    """A member of the group that owns the database and what is in it proves and restores; others cannot get in."""
    group, other = role("group", "NOLOGIN"), role("other", "LOGIN PASSWORD 'p'")
    name, as_member = member
    execute(
        sound,
        f"ALTER DATABASE {sound.database} OWNER TO {group}",
        f"GRANT {group} TO {name}, {other}",
        f"REVOKE CONNECT ON DATABASE {sound.database} FROM PUBLIC",
    )
    execute(sound, f"SET ROLE {group}", "CREATE TABLE t (a int PRIMARY KEY)", "INSERT INTO t VALUES (1)")
    before, may = properties_of(sound), []

    def watched(tool, archive, server, *arguments, **keywords):
        may.append(query(sound, f"SELECT has_database_privilege('{other[1:-1]}', '{server.database}', 'CONNECT')"))
        return restore_archive(tool, archive, server, *arguments, **keywords)

    monkeypatch.setattr(prove, "restore_archive", watched)
    bring_back(as_member, settings_for(as_member))
    assert properties_of(sound) == before
    assert may == [False] * 3


def test_database_of_a_group_without_its_rights(sound, settings_for, role, member):
    """A member who could make a database for the group, and would not have its rights there, proves in an own one."""
    group = role("group", "NOLOGIN")
    name, as_member = member
    execute(sound, f"CREATE SCHEMA s AUTHORIZATION {name}")
    execute(as_member, "CREATE TABLE s.t (a int PRIMARY KEY)", "INSERT INTO s.t VALUES (1)")
    execute(
        sound,
        f"ALTER DATABASE {sound.database} OWNER TO {group}",
        f"ALTER ROLE {name} NOINHERIT",
        f"GRANT {group} TO {name}",
    )
    assert create(settings_for(as_member), Run("backup create"), prove=True).proof is not None


def test_a_right_that_several_granted(sound, settings_for, role):
    """What a role may do with the database, granted by the owner and by another role, is restored as one grant."""
    a, b, name = role("ra"), role("rb"), sound.database
    execute(
        sound,
        f"GRANT CONNECT ON DATABASE {name} TO {a} WITH GRANT OPTION",
        f"GRANT CONNECT ON DATABASE {name} TO {b}",
        f"SET ROLE {a}",
        f"GRANT CONNECT ON DATABASE {name} TO {b} WITH GRANT OPTION",
    )
    bring_back(sound, settings_for(sound))
    assert query(sound, f"SELECT has_database_privilege('{b[1:-1]}', '{name}', 'CONNECT WITH GRANT OPTION')") is True


def test_without_schema_public_or_plpgsql(sound, settings_for):
    """What every new database has, and this one has no more, is not there after a restore either."""
    execute(
        sound, "CREATE SCHEMA s", "CREATE TABLE s.t AS SELECT 1 AS a", "DROP SCHEMA public", "DROP EXTENSION plpgsql"
    )
    bring_back(sound, settings_for(sound))
    assert query(sound, "SELECT to_regnamespace('public') IS NULL AND a = 1 FROM s.t") is True
    assert query(sound, "SELECT count(*) FROM pg_extension") == 0


def test_without_plpgsql_it_takes_a_superuser(sound, settings_for, member):
    """Only a superuser can drop plpgsql from the copy: told in one line, with a way out that works."""
    name, as_member = member
    execute(
        sound, f"ALTER DATABASE {sound.database} OWNER TO {name}", f"CREATE SCHEMA s AUTHORIZATION {name}",
        "DROP EXTENSION plpgsql",
    )  # fmt: skip
    settings = settings_for(as_member)
    with pytest.raises(BackupFailed, match="must be owner of extension plpgsql") as caught:
        create(settings, Run("backup create"), prove=True)
    assert "no extension plpgsql" in caught.value.message
    assert "--on embedded" in caught.value.hint
    assert create(settings, Run("backup create"), prove=True, on="embedded").proof is not None


@pytest.mark.parametrize(("name", "cycle"), [("public.s", "CYCLE"), ('"select"."S 1"', "CYCLE"), ("public.s", "")])
def test_sequence_that_begins_again(sound, settings_for, monkeypatch, name, cycle):
    """A sequence that reaches its end while the dump is made, and begins again; another one may not leave its way."""
    step = f"SELECT nextval('{name}')" if cycle else f"SELECT setval('{name}', last_value % 4 + 1) FROM {name}"
    execute(sound, 'CREATE SCHEMA "select"', f"CREATE SEQUENCE {name} MAXVALUE 4 {cycle}", *[step] * 3)

    def busy(*arguments, **keywords):
        execute(sound, step)
        try:
            return run_tool(*arguments, **keywords)
        finally:
            execute(sound, step)

    monkeypatch.setattr(dump, "run_tool", busy)
    with nullcontext() if cycle else pytest.raises(BackupFailed):
        create(settings_for(sound), Run("backup create"), prove=True)


def test_another_client_encoding(sound, settings_for):
    """A database whose clients speak another encoding, with words and rows that this one cannot hold."""
    execute(
        sound,
        "CREATE TABLE t AS SELECT '😀' AS a",
        "COMMENT ON TABLE t IS '表😀'",
        f"ALTER DATABASE {sound.database} SET client_encoding = 'GBK'",
    )
    bring_back(sound, settings_for(sound))
    assert query(sound, "SELECT octet_length(a) FROM t") == 4
    assert query(sound, "SELECT octet_length(obj_description('t'::regclass))") == 7


def test_a_template_stays_one(sound, settings_for):
    """A database that is a template is one after a restore; one that is not swapped in leaves nothing behind."""
    execute(sound, "CREATE TABLE t (a int)")
    settings, run = settings_for(sound), Run("restore")
    plain = create(settings, Run("backup create"))
    assert "is_template" not in plain.manifest.database
    execute(sound, f"ALTER DATABASE {sound.database} IS_TEMPLATE true")
    template = create(settings, Run("backup create"), prove=True)
    listed = "SELECT string_agg(datname || ' ' || datistemplate, ', ') FROM pg_database WHERE datname LIKE '{}%'"
    with pytest.raises(Interrupted):
        restore.restore(settings, Run("restore"), template.path, confirm=lambda _: False)
    assert query(sound, listed.format(sound.database)) == f"{sound.database} true"
    restore.restore(settings, run, template.path, confirm=lambda _: True)
    assert query(sound, f"SELECT datistemplate FROM pg_database WHERE datname = '{sound.database}'") is True
    for name in (run.result["replaced_database"], sound.database):
        execute(sound, f'ALTER DATABASE "{name}" IS_TEMPLATE false')
    execute(sound, run.result["drop_replaced"])
    restore.restore(settings, Run("restore"), plain.path, confirm=lambda _: True)
    assert properties_of(sound) == plain.manifest.database


@pytest.mark.parametrize("event", ["ddl_command_end", "login"])
def test_event_triggers_that_write(sound, postgres, settings_for, event):
    """What writes down who changes definitions, or logs in, does not write down how the copy is made and read."""
    if postgres.major < 17:
        pytest.skip("event triggers can be switched off, and hear of logins, from 17 on")
    execute(
        sound,
        "CREATE TABLE log (tag text)",
        "CREATE FUNCTION note() RETURNS event_trigger LANGUAGE plpgsql"
        " AS 'BEGIN INSERT INTO public.log VALUES (tg_tag); END'",
        "CREATE MATERIALIZED VIEW m AS SELECT 1 AS a FROM pg_sleep(0.5)",
        "CREATE MATERIALIZED VIEW n AS SELECT a FROM m",
        "CREATE TABLE t AS SELECT 1 AS a",
        f"CREATE EVENT TRIGGER e ON {event} EXECUTE FUNCTION note()",
        "ALTER EVENT TRIGGER e ENABLE ALWAYS",
        "INSERT INTO log VALUES ('before')",
    )
    settings = settings_for(sound)
    made = create(settings, Run("backup create"), prove=True)
    assert made.proof is not None
    run = Run("restore")
    restore.restore(settings, run, made.path, confirm=lambda _: True)
    assert run.findings == []


def test_a_long_comment_takes_no_time():
    """Definitions are read in time with their length, however many quotes are in them."""
    comment = "COMMENT ON TABLE t IS '" + "it''s a ''long'' comment\n" * 20_000 + "';"
    begin = time.monotonic()
    assert canonical(comment) == comment
    assert time.monotonic() - begin < 5


@pytest.mark.parametrize("name", ["x", '"it\'s"'])
def test_a_literal_with_an_alias(name):
    """The alias that a bare literal gets is left out, not that of another expression, nor one inside a text."""
    view = f"CREATE VIEW {name} AS\n SELECT 'x AS y'::text{{}}\nUNION\n SELECT 2 AS a,\n    'a::text AS b' AS c;"
    assert canonical(view.format(" AS text")) == canonical(view.format("")) == view.format("")


def test_lists_that_are_cast(sound, settings_for):
    """IN with another type than text, with a line's end in a value, and in extended statistics."""
    execute(
        sound,
        "CREATE TABLE t (id int, c cidr CHECK (c IN ('10.0.0.0/8', '192.168.0.0/16')),"
        " v varchar CHECK (v IN (E'a\\nb', 'c', '')), w varchar(5) CHECK (v || w IN (E'ARRAY[\\n\\n', v || w)))",
        "CREATE VIEW x AS SELECT * FROM t WHERE v = ANY (ARRAY[]::varchar[]) OR v NOT IN (v || w, 'b')",
    )
    if query(sound, "SELECT current_setting('server_version_num')::int >= 140000"):
        execute(sound, "CREATE STATISTICS s ON (v IN ('a', E'b\\n')), (v || w IN ('a', v || w, w)), id FROM t")
    bring_back(sound, settings_for(sound))
