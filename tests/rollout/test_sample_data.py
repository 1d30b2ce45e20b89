"""The sample databases: the same every time, as odd as their docstrings say, valid, and made without holding them."""

from __future__ import annotations

import os
import re
import secrets
import subprocess
import sys
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import Connection, text
from sqlalchemy.exc import DataError

from rollout.database import engine_for, quote
from rollout.fingerprint import Fingerprint, pin_settings, table_fingerprint
from rollout.sample_data import create_legacy_schema, create_pagtive_schema, fill_legacy, fill_pagtive, people
from rollout.sample_data.cases import Docket
from rollout.sample_data.legacy import COLUMNS as LEGACY_COLUMNS
from rollout.sample_data.names import EMAIL_DOMAINS, PEOPLE
from rollout.sample_data.pages import Pages
from rollout.sample_data.pagtive_source import COLUMNS, DIRT, TEXT_DIRT, Source, matched
from rollout.sample_data.people import Spaces
from rollout.sample_data.stream import mix, space, uuid_text
from rollout.settings import PROJECT, Server
from tests.fixtures.databases import execute, url_of
from tests.fixtures.pagtive import FLAVOURS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.fixtures.databases import MakeDatabase
    from tests.fixtures.servers import Postgres

USERS = 400


@pytest.fixture
def connection(database: Server) -> Iterator[Connection]:
    """Yield a connection, in a transaction, to an empty database."""
    with engine_for(database).begin() as one:
        yield one


@pytest.fixture(scope="module")
def legacy(make_template: MakeDatabase) -> Iterator[Connection]:
    """Yield a connection to a filled legacy database, for tests that only read."""
    yield from _filled(make_template(), lambda one: _make_legacy(one, feishu_auths=True))


@pytest.fixture(scope="module", params=FLAVOURS)
def pagtive(make_template: MakeDatabase, request: pytest.FixtureRequest) -> Iterator[tuple[Connection, Source]]:
    """Yield a connection to a filled source of each flavour, a tenth of it dirty, and what it should hold."""
    for connection in _filled(make_template(), lambda one: _make_pagtive(one, request.param)):
        yield connection, _source(text_keys=request.param == "text")


def _filled(server: Server, fill: Any) -> Iterator[Connection]:
    """Fill a database, yield a connection to it."""
    engine = engine_for(server)
    with engine.begin() as one:
        fill(one)
    with engine.connect() as one:
        yield one


def _make_legacy(connection: Connection, **schema: Any) -> None:
    """Make the legacy database that most tests read."""
    create_legacy_schema(connection, **schema)
    fill_legacy(connection, users=USERS, cases=3 * USERS)


def _make_pagtive(connection: Connection, flavour: str) -> None:
    """Make the source that most tests read."""
    create_pagtive_schema(connection, flavour=flavour)
    fill_pagtive(connection, users=USERS, legacy_users=USERS, dirty=0.1, page_bytes=(600, 900))


def _source(**changed: Any) -> Source:
    """Return what ``_make_pagtive`` fills."""
    values: dict[str, Any] = {
        "seed": 2, "users": USERS, "projects_per_user": 5, "pages_per_project": 5, "legacy_users": USERS, "period": 10,
        "text_keys": False, "json_arrays": True,
    }  # fmt: skip
    return Source(**{**values, **changed})


def _column(connection: Connection, query: str, **values: Any) -> list[Any]:
    """Return the first column of a query."""
    return list(connection.execute(text(query), values).scalars())


def _value(connection: Connection, query: str, **values: Any) -> Any:
    """Return the one value of a query."""
    return connection.execute(text(query), values).scalar_one()


def _fingerprints(connection: Connection) -> dict[str, Fingerprint]:
    """Return the content of every table of ``public``."""
    pin_settings(connection)
    columns = connection.execute(
        text(
            "SELECT c.relname, array_agg(a.attname ORDER BY a.attnum) FROM pg_class AS c"
            " JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped"
            " WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'm') GROUP BY 1"
        )
    ).all()
    return {name: table_fingerprint(connection, "public", name, names) for name, names in columns}


# --- The legacy database ---


def test_the_same_arguments_give_the_same_legacy_database(legacy: Connection, connection: Connection) -> None:
    """Every table of a second database, other people's too, holds what the first one's does, byte for byte."""
    _make_legacy(connection, feishu_auths=True)
    first = _fingerprints(legacy)
    assert len(first) == 13 + 1 + 1 + 30 - 1 + 1  # core, version, Feishu, theirs (a parent has no rows), their view
    assert {name for name, found in first.items() if not found.rows} == set()
    assert _fingerprints(connection) == first


def test_another_seed_gives_other_rows_with_the_same_e_mail_addresses(
    legacy: Connection, connection: Connection
) -> None:
    """The source's generator knows legacy addresses by index, whatever the seed."""
    create_legacy_schema(connection, other_tables=0)
    fill_legacy(connection, users=USERS, cases=3 * USERS, seed=7)
    ids, addresses = "SELECT id FROM users", "SELECT email FROM users ORDER BY 1"
    assert not set(_column(connection, ids)) & set(_column(legacy, ids))
    assert _column(connection, addresses) == _column(legacy, addresses)


def test_every_legacy_user_is_as_the_docstring_says(legacy: Connection) -> None:
    """E-mail, username, phone, status, tenant, roles and Feishu of each user follow from the index."""
    rows = legacy.execute(
        text(
            "SELECT u.id::text, u.email, u.username, coalesce(u.phone_number, '\\N') AS phone, u.status::text,"
            " t.tenant_code, f.open_id, p.user_id IS NOT NULL AS profile, w.user_id IS NOT NULL AS wallet,"
            " array(SELECT r.id::text FROM user_roles AS x JOIN roles AS r ON r.id = x.role_id"
            "       WHERE x.user_id = u.id) AS roles"
            " FROM users AS u JOIN tenants AS t ON t.id = u.tenant_id LEFT JOIN feishu_auths AS f ON f.user_id = u.id"
            " LEFT JOIN profiles AS p ON p.user_id = u.id LEFT JOIN wallets AS w ON w.user_id = u.id"
        )
    ).all()
    found = {row.id: row for row in rows}
    codes = ("lawsker", "hengxin", "pacific", "yuanda_bank", "old-client")
    spaces = Spaces.of(1)
    assert len(found) == USERS
    for index in range(USERS):
        row = found[uuid_text(spaces.users, index)]
        assert row.email == people.email(index)
        assert (row.email is None) == (index % 10 == 7)
        assert (row.email != (row.email or "").lower()) == (index % 10 in (3, 7))
        assert row.username == people.username(index)
        assert row.phone == people.phone(index)
        assert row.status == people.status(index)
        assert row.tenant_code == codes[index // 20 % 5]
        assert row.open_id == people.feishu_open_id(index)
        assert row.profile == (index % 11 != 10)
        assert row.wallet == (12 <= index % 20 <= 16)
        assert sorted(row.roles) == sorted(uuid_text(spaces.roles, number) for number in people.roles(index))


def test_legacy_users_hold_no_role_one_or_two(legacy: Connection) -> None:
    """There is each of the combinations that trip joins up: two roles named Lawyer among them."""
    held = _column(
        legacy,
        "SELECT array_agg(r.name || CASE WHEN r.tenant_id IS NULL THEN ' (global)' ELSE '' END"
        " ORDER BY r.name, r.tenant_id)"
        " FROM users AS u LEFT JOIN user_roles AS x ON x.user_id = u.id LEFT JOIN roles AS r ON r.id = x.role_id"
        " GROUP BY u.id",
    )
    counted = Counter(tuple(names) for names in held)
    blocks, thirds = USERS // 20, len(range(0, USERS // 20, 3))
    assert counted == {
        ("User",): 12 * blocks - thirds, ("User", "User (global)"): thirds, ("Lawyer",): 4 * blocks - 3 * thirds,
        ("Admin", "Lawyer"): thirds, ("Lawyer", "User"): thirds, ("Lawyer", "Lawyer"): thirds,
        ("Sales",): blocks - thirds, ("Sales", "User"): thirds, ("Institution",): blocks,
        ("Admin",): blocks - thirds, ("Admin", "User"): thirds, (None,): blocks,
    }  # fmt: skip


def test_cases_are_spread_over_the_lawyers_as_the_docstring_says(legacy: Connection) -> None:
    """A fifth of the lawyers has no case, a fifth only completed ones; every status occurs; nobody else has cases."""
    docket, spaces = Docket(Spaces.of(1), USERS, 3 * USERS), Spaces.of(1)
    expected: dict[str | None, Counter[str]] = {}
    for case in range(docket.cases):
        lawyer, status = docket.assignment(case)
        expected.setdefault(None if lawyer is None else uuid_text(spaces.users, lawyer), Counter())[status] += 1
    found: dict[str | None, Counter[str]] = {}
    for user, status in legacy.execute(text("SELECT assigned_to_user_id::text, status::text FROM cases")):
        found.setdefault(user, Counter())[status] += 1
    assert found == expected
    lawyers = [uuid_text(spaces.users, people.lawyer(number)) for number in range(people.lawyers(USERS))]
    assert set(found) - {None} == {user for number, user in enumerate(lawyers) if number % 5 != 4}
    assert all(set(found[user]) == {"COMPLETED"} for number, user in enumerate(lawyers) if number % 5 == 3)
    assert len(_column(legacy, "SELECT DISTINCT status FROM cases")) == 6


def test_an_ordinary_role_fills_with_every_foreign_key_checked(make_database: MakeDatabase, postgres: Postgres) -> None:
    """Rows that a superuser loads without key checks are valid: an owner who may not skip them loads the very same."""
    database, role, password = make_database(), f"plain_{secrets.token_hex(4)}", secrets.token_hex(8)
    execute(database, f"CREATE ROLE {role} LOGIN PASSWORD '{password}'", f"GRANT ALL ON SCHEMA public TO {role}")
    found = {}
    try:
        for server in (database, make_database()):
            as_role = server is database
            user = Server("TEST", {**server.parameters, "user": role, "password": password}) if as_role else server
            engine = engine_for(user)
            with engine.begin() as one:
                _make_legacy(one, feishu_auths=postgres.major > 12)  # there it needs an extension, and thus a superuser
                assert _value(one, "SELECT current_setting('session_replication_role')") == "origin"
            with engine.connect() as one:
                found[as_role] = _fingerprints(one)
    finally:
        execute(database, f"DROP OWNED BY {role}", f"DROP ROLE {role}")
    assert found[True] == found[False]


def test_filling_leaves_the_schema_as_it_was(connection: Connection) -> None:
    """Indexes that were off while rows came in are there again, each with its definition."""
    indexes = "SELECT indexdef FROM pg_indexes WHERE schemaname = 'public' ORDER BY 1"
    create_legacy_schema(connection)
    before = _column(connection, indexes)
    fill_legacy(connection, users=30)
    assert _column(connection, indexes) == before
    assert sum("UNIQUE INDEX ix_" in definition for definition in before) == 5


def test_constraints_have_the_names_that_postgresql_gives(legacy: Connection) -> None:
    """The older tool chain knew no naming convention; its version table holds an id that is not ours."""
    names = set(_column(legacy, "SELECT conname FROM pg_constraint WHERE connamespace = 'public'::regnamespace"))
    assert {"users_pkey", "users_tenant_id_fkey", "tenants_domain_key", "insurances_case_id_key"} <= names
    assert not [name for name in names if re.match(r"(pk|fk|uq|ck)_", name)]
    assert _column(legacy, "SELECT version_num FROM alembic_version") == ["008_enhance_lawyer_qualification"]


@pytest.mark.parametrize(("wanted", "tables"), [(0, 0), (3, 16), (16, 16), (30, 30), (45, 45)])
def test_as_many_tables_are_other_peoples_as_wanted(connection: Connection, wanted: int, tables: int) -> None:
    """Nothing of theirs with 0, every kind of theirs from 16 on; filling works either way."""
    create_legacy_schema(connection, other_tables=wanted)
    fill_legacy(connection, users=25)
    query = "SELECT count(*) FROM pg_class WHERE relkind IN ('r', 'p') AND relnamespace = 'public'::regnamespace"
    assert _value(connection, query) == 13 + 1 + tables
    assert _value(connection, "SELECT count(*) FROM pg_trigger WHERE NOT tgisinternal") > 0 or not wanted


def test_other_peoples_objects_come_in_every_kind(legacy: Connection) -> None:
    """Triggers on users in each enabled state, and what else an upgrade must leave alone."""
    states = "SELECT tgenabled::text FROM pg_trigger WHERE tgrelid = 'users'::regclass AND NOT tgisinternal"
    assert sorted(_column(legacy, states)) == ["A", "D", "O", "O", "R"]
    for query in (
        "SELECT count(*) FROM pg_trigger WHERE tgrelid = 'users'::regclass AND tginitdeferred AND NOT tgisinternal",
        "SELECT count(*) FROM pg_policies",
        "SELECT count(*) FROM pg_attribute WHERE attgenerated = 's'",
        "SELECT count(*) FROM pg_attribute WHERE attidentity IN ('a', 'd') AND attrelid > 16384",
        "SELECT count(*) FROM pg_partitioned_table",
        "SELECT count(*) FROM pg_matviews WHERE ispopulated",
        "SELECT count(*) FROM pg_views WHERE schemaname = 'public' AND definition LIKE '%users%'",
        "SELECT count(*) FROM pg_indexes WHERE schemaname = 'public' AND indexdef LIKE '%WHERE (closed_at IS NULL)%'",
        "SELECT count(*) FROM pg_indexes WHERE schemaname = 'public' AND indexdef LIKE '%lower(%'",
        "SELECT count(*) FROM pg_class WHERE relname = 'CrmContacts'",
        "SELECT count(*) FROM pg_class WHERE relacl::text LIKE '%=r/%' AND relnamespace = 'public'::regnamespace",
        "SELECT count(*) FROM pg_description WHERE description = '客服工单'",
        "SELECT count(*) FROM support_tickets WHERE case_id IS NOT NULL",
        "SELECT count(*) FROM monthly_case_totals",
    ):
        assert _value(legacy, query) > 0, query


def test_other_peoples_triggers_on_users_bite(connection: Connection) -> None:
    """Whoever updates users without care moves updated_at, and leaves a row in their audit table at COMMIT."""
    create_legacy_schema(connection)
    fill_legacy(connection, users=20)
    moved = "SELECT count(*) FROM users WHERE updated_at = now()"
    audited = "SELECT count(*) FROM user_audit WHERE user_id IS NOT NULL"
    assert (_value(connection, moved), _value(connection, audited)) == (0, 0)
    connection.execute(text("UPDATE users SET last_login = NULL"))
    assert (_value(connection, moved), _value(connection, audited)) == (20, 0)
    connection.execute(text("SET CONSTRAINTS ALL IMMEDIATE"))
    assert _value(connection, audited) == 20


def test_nobody_real_is_in_it(legacy: Connection) -> None:
    """No password hash, token, phone number, id card or e-mail address is one that somebody could have."""
    assert not _column(legacy, "SELECT password_hash FROM users WHERE password_hash !~ '^![0-9a-f]{32}$'")
    assert not _column(legacy, "SELECT phone_number FROM users WHERE phone_number !~ '^12[0-9]{9}$'")
    assert not _column(legacy, "SELECT id_card_number FROM profiles WHERE id_card_number !~ '^999999'")
    assert not _column(legacy, "SELECT access_token FROM feishu_auths WHERE access_token !~ '^not-a-token'")
    domains = {address.split("@")[1].lower() for address in _column(legacy, "SELECT email FROM users") if address}
    assert domains == set(EMAIL_DOMAINS)


def test_names_are_chinese_and_english() -> None:
    """Chinese and English ones; apostrophes, hyphens, a middle dot, letters beyond ASCII and beyond the first plane."""
    names = {person.full_name for person in PEOPLE}
    assert {"王伟", "欧阳芳", "Grace O'Brien", "Zoë Smith-Jones", "阿卜杜拉·买买提", "𠮷田三郎"} <= names
    assert all(person.given.isascii() and person.given.isalpha() for person in PEOPLE)
    assert all(person.family.isascii() and person.family.isalpha() for person in PEOPLE)


@pytest.mark.parametrize("users", [0, 1, 17])
def test_a_legacy_database_may_be_tiny(connection: Connection, users: int) -> None:
    """Without lawyers or Sales the rows still fit; without users there are no cases."""
    create_legacy_schema(connection)
    fill_legacy(connection, users=users, cases=9)
    assert _value(connection, "SELECT count(*) FROM users") == users
    assert _value(connection, "SELECT count(*) FROM cases") == (9 if users else 0)


@pytest.mark.variant
def test_progress_is_told(connection: Connection) -> None:
    """Each table's progress rises, in rows, and ends with what the table holds."""
    told: list[tuple[str, int, int | None, str]] = []
    create_legacy_schema(connection, other_tables=0)
    fill_legacy(connection, users=20_500, cases=10, progress=lambda *heard: told.append(heard))
    of_users = [(done, total, unit) for name, done, total, unit in told if name == "users"]
    assert of_users == [(10_000, 20_500, "rows"), (20_000, 20_500, "rows"), (20_500, 20_500, "rows")]
    for name, done, total, _ in {heard[0]: heard for heard in told}.values():
        assert done == _value(connection, f"SELECT count(*) FROM {quote(name)}")
        assert total in (None, done)
    assert {heard[0] for heard in told} == set(LEGACY_COLUMNS) - {"feishu_auths"}


_MEMORY = """
from rollout import settings
from rollout.database import engine_for
from rollout.sample_data import create_legacy_schema, create_pagtive_schema, fill_legacy, fill_pagtive
from tests.fixtures.pagtive import FLAVOURS

def peak():
    # ru_maxrss would begin with what the tests' own process has, which starts this one
    with open("/proc/self/status") as status:
        return next(line.split()[1] for line in status if line.startswith("VmHWM:"))

def fill(target, scale):
    for make, fill, sizes in (
        (create_legacy_schema, fill_legacy, {"users": 1_000 * scale, "cases": 400 * scale}),
        (create_pagtive_schema, fill_pagtive, {"users": 20 * scale}),
    ):
        with engine_for(target).connect() as connection:
            make(connection)
            fill(connection, **sizes)
            connection.rollback()

target = settings.load().target
fill(target, 1)
small = peak()
fill(target, 30)
print(small, peak())
"""


@pytest.mark.variant
def test_memory_does_not_grow_with_the_rows(database: Server) -> None:
    """A process that fills 30,000 users and 15,000 pages needs no more than one that fills a thirtieth of them."""
    done = subprocess.run(
        [sys.executable, "-c", _MEMORY],
        env={**os.environ, "DATABASE_URL": url_of(database)},
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=True,
    )
    small, large = (int(kilobytes) / 1024 for kilobytes in done.stdout.split())
    assert large < 150
    assert large - small < 8


def test_ids_are_unique_and_look_random() -> None:
    """No two indexes share a uuid; all are version 4; neighbours are far apart."""
    of = space(1, "anything")
    ids = [uuid_text(of, index) for index in range(50_000)]
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", one) for one in ids)
    assert len({one[:2] for one in ids[:2000]}) == 256
    assert len({mix(index) % 1000 for index in range(20_000)}) == 1000


# --- The Pagtive source ---


def test_the_same_arguments_give_the_same_source(
    pagtive: tuple[Connection, Source], connection: Connection, request: pytest.FixtureRequest
) -> None:
    """Every table of a second source holds what the first one's does; another seed gives something else."""
    first, source = pagtive
    flavour = request.node.callspec.params["pagtive"]
    _make_pagtive(connection, flavour)
    expected = _fingerprints(first)
    assert _fingerprints(connection) == expected
    rows = {
        "users": source.users, "projects": source.projects, "project_details": source.details,
        "llmlog": source.projects, "invitation_codes": source.codes,
    }  # fmt: skip
    there = ("users", "projects", "project_details") if flavour == "minimal" else tuple(rows)
    assert {name: found.rows for name, found in expected.items()} == {name: rows[name] for name in there}


def test_another_seed_gives_another_source(connection: Connection) -> None:
    """No id of one seed's source is in another's."""
    ids = set()
    create_pagtive_schema(connection)
    for seed in (3, 4):
        fill_pagtive(connection, users=5, seed=seed)
        ids |= set(_column(connection, "SELECT id FROM users"))
        connection.execute(text("TRUNCATE users, projects, project_details, llmlog, invitation_codes"))
    assert len(ids) == 10


def test_flavours_differ_in_their_types(pagtive: tuple[Connection, Source], request: pytest.FixtureRequest) -> None:
    """Keys, times and json have the types of each kind of installation; the small one lacks what is optional."""
    connection, _ = pagtive
    rows = connection.execute(
        text(
            "SELECT table_name || '.' || column_name, udt_name FROM information_schema.columns"
            " WHERE table_schema = 'public'"
        )
    )
    types: dict[str, str] = {row[0]: row[1] for row in rows}
    flavour = request.node.callspec.params["pagtive"]
    expected = {
        "typical": ("uuid", "timestamp", "jsonb", "_jsonb", "int4", "timestamp"),
        "text": ("text", "timestamptz", "json", "json", "text", "bool"),
        "minimal": ("uuid", "timestamp", "jsonb", "_jsonb", "int4", None),
    }[flavour]
    names = ("users.id", "projects.created_at", "projects.pages", "projects.style_tags", "project_details.page_id")
    assert tuple(types.get(name) for name in (*names, "users.email_verified")) == expected
    full = {f"{table}.{column}" for table, columns in COLUMNS.items() for column in columns}
    assert full - set(types) == (
        set()
        if flavour != "minimal"
        else {name for name in full if name.startswith(("llmlog.", "invitation_codes."))}
        | {"users.email_verified", "users.image", "users.last_login", "users.twitter_url"}
    )


def test_every_source_user_is_as_the_docstring_says(pagtive: tuple[Connection, Source]) -> None:
    """E-mail, username, status and role of each clean user follow from the index; dirty ones have their one fault."""
    connection, source = pagtive
    rows = connection.execute(
        text(
            "SELECT id::text, coalesce(email, '\\N') AS email, coalesce(username, '\\N') AS username, status, role"
            " FROM users"
        )
    )
    found = {row.id: row for row in rows}
    assert len(found) == USERS
    for index in range(USERS):
        row, dirt = found[source.user_id(index)], source.dirt("users", index)
        assert row.email == source.email(index)
        assert (row.username == source.username(index)) == (dirt != "long_username")
        status = {4: 0, 6: 2, 8: None}.get(index % 11, 1)
        assert row.status == (7 if dirt == "bad_status" else status)
        role = {4: "admin", 6: "super_admin", 8: "verified", 10: None}.get(index % 13, "user")
        assert row.role == ("root" if dirt == "bad_role" else role)


def test_source_users_meet_legacy_users(pagtive: tuple[Connection, Source], legacy: Connection) -> None:
    """By e-mail address in three spellings, by Feishu, by username, by id; each address meets one legacy user."""
    connection, _ = pagtive
    ours = {address.lower(): address for address in _column(legacy, "SELECT email FROM users WHERE email IS NOT NULL")}
    theirs = _column(connection, "SELECT email FROM users WHERE email IS NOT NULL")
    meeting = [address for address in theirs if address.strip().lower() in ours]
    assert len(meeting) == len({address.strip().lower() for address in meeting}) == 3 * USERS // 20
    assert sum(address == ours.get(address.lower()) for address in meeting) == USERS // 20
    assert sum(address != address.strip() for address in meeting) == USERS // 20
    feishu = set(_column(legacy, "SELECT open_id FROM feishu_auths"))
    used = _column(connection, "SELECT username FROM users WHERE username LIKE 'ou\\_%'")
    assert len(set(used) & feishu) == USERS // 20
    assert len(set(used) - feishu) == USERS // 20
    names = set(_column(legacy, "SELECT username FROM users"))
    taken = set(_column(connection, "SELECT username FROM users")) & names
    assert taken == {people.username(block) for block in range(USERS // 20)} - _replaced(USERS)
    doubles = set(map(str, _column(connection, "SELECT id FROM users")))
    assert len(doubles & set(map(str, _column(legacy, "SELECT id FROM users")))) == USERS // 20


def _replaced(users: int) -> set[str]:
    """Return the usernames of place 9 that dirt has replaced by one that is too long."""
    source = _source()
    places = range(9, users, 20)
    return {people.username(index // 20) for index in places if source.dirt("users", index) == "long_username"}


def test_matching_avoids_users_that_have_feishu_or_no_address() -> None:
    """The legacy users matched by address are distinct, have one, and are not those matched by Feishu."""
    indexes = [matched(index) for index in range(4000) if index % 20 < 3]
    assert len(set(indexes)) == len(indexes)
    assert all(people.email(index) and not people.feishu_open_id(index) for index in indexes)


def test_without_legacy_users_nobody_meets_one(connection: Connection) -> None:
    """``legacy_users`` is how many there are: indexes past it are not used."""
    create_pagtive_schema(connection)
    fill_pagtive(connection, users=100, projects_per_user=1, pages_per_project=1)
    addresses = _column(connection, "SELECT lower(trim(email)) FROM users WHERE email > ''")
    assert {address.split("@")[1] for address in addresses} == {"pagtive.example"}


_FAULTS = {
    ("users", "bad_status"): "status NOT IN (0, 1, 2)",
    ("users", "bad_role"): "role = 'root'",
    ("users", "long_username"): "length(username) > 255",
    ("users", "long_agreement"): "length(agreed_agreement_version) > 20",
    ("users", "no_created_at"): "created_at IS NULL AND updated_at IS NOT NULL",
    ("users", "no_times"): "created_at IS NULL AND updated_at IS NULL",
    ("projects", "orphan"): "user_id NOT IN (SELECT id FROM users)",
    ("projects", "long_name"): "length(project_name) > 255",
    ("projects", "no_name"): "project_name IS NULL",
    ("projects", "no_created_at"): "created_at IS NULL AND updated_at IS NOT NULL",
    ("projects", "no_times"): "created_at IS NULL AND updated_at IS NULL",
    ("projects", "long_batch"): "length(batch_id) > 36",
    ("projects", "bad_id"): "id::text LIKE 'project-%'",
    ("projects", "nul_in_json"): "pages::text LIKE '%\\u0000%'",
    ("project_details", "orphan"): "project_id NOT IN (SELECT id FROM projects)",
    ("project_details", "no_page"): "page_id IS NULL",
    ("project_details", "no_created_at"): "created_at IS NULL",
    ("project_details", "bad_page"): "page_id::text = 'abc'",
    ("project_details", "big_page"): "length(page_id::text) > 9",
    ("project_details", "bad_version"): "\"versionId\"::text = 'latest'",
    ("project_details", "duplicate_page"): (
        "EXISTS (SELECT FROM project_details AS o WHERE o.project_id = t.project_id AND o.ctid < t.ctid"
        " AND ltrim(o.page_id::text, '0') = ltrim(t.page_id::text, '0'))"
    ),
    ("llmlog", "bad_status"): "status = 'done'",
    ("llmlog", "unknown_user"): "user_id NOT IN (SELECT id FROM users)",
    ("llmlog", "no_provider"): "provider IS NULL",
    ("llmlog", "no_prompts"): "request_prompts IS NULL",
    ("llmlog", "no_request_time"): "request_timestamp IS NULL",
    ("llmlog", "long_model"): "length(model) > 100",
    ("llmlog", "bad_id"): "id::text LIKE 'log-%'",
    ("llmlog", "bad_page"): "page_id::text = 'abc'",
    ("invitation_codes", "bad_status"): "status = 'revoked'",
    ("invitation_codes", "long_code"): "length(code) > 50",
    ("invitation_codes", "duplicate_code"): (
        "EXISTS (SELECT FROM invitation_codes AS o WHERE o.code = t.code AND o.ctid < t.ctid)"
    ),
    ("invitation_codes", "no_code"): "code IS NULL",
    ("invitation_codes", "unknown_user"): "used_by_user_id NOT IN (SELECT id FROM users)",
    ("invitation_codes", "bad_id"): "id::text LIKE 'code-%'",
}


def test_every_kind_of_dirt_is_there_as_often_as_said(pagtive: tuple[Connection, Source]) -> None:
    """What ``Source.dirt`` tells of each row is what the tables hold: no more, no less."""
    connection, source = pagtive
    rows = {"users": source.users, "projects": source.projects, "project_details": source.details}
    if _value(connection, "SELECT to_regclass('llmlog') IS NOT NULL"):
        rows |= {"llmlog": source.projects, "invitation_codes": source.codes}
    for table, count in rows.items():
        expected = Counter(source.dirt(table, index) for index in range(count))
        del expected[None]
        kinds = DIRT[table] + (TEXT_DIRT[table] if source.text_keys else ())
        assert set(expected) == set(kinds)
        assert abs(sum(expected.values()) - count / 10) < 1
        for kind in kinds:
            found = _value(connection, f"SELECT count(*) FROM {table} AS t WHERE {_FAULTS[table, kind]}")
            assert found == expected[kind], (table, kind)


def test_every_kind_of_dirt_has_a_fault_that_shows_it() -> None:
    """A new kind of dirt needs a line in the test above."""
    kinds = {(table, kind) for table in DIRT for kind in DIRT[table] + TEXT_DIRT[table]}
    assert set(_FAULTS) == kinds


def test_a_clean_source_has_no_dirt(connection: Connection) -> None:
    """With ``dirty=0`` no row has any fault, but the oddities of users stay."""
    create_pagtive_schema(connection, flavour="text")
    fill_pagtive(connection, users=100, projects_per_user=2, pages_per_project=2, page_bytes=(500, 600), dirty=0)
    for (table, kind), fault in _FAULTS.items():
        assert _value(connection, f"SELECT count(*) FROM {table} AS t WHERE {fault}") == 0, (table, kind)
    assert _value(connection, "SELECT count(*) FROM users WHERE email IS NULL") == 15


@pytest.mark.parametrize("pagtive", ["typical", "text"], indirect=True)
def test_logs_name_nobody_nothing_and_unknown_projects(pagtive: tuple[Connection, Source]) -> None:
    """A tenth of the logs has no user, a twentieth no project, another twentieth one that nobody knows."""
    connection, source = pagtive
    logs = source.projects
    assert _value(connection, "SELECT count(*) FROM llmlog WHERE project_id IS NULL") == logs // 20
    unknown = "SELECT count(*) FROM llmlog WHERE project_id NOT IN (SELECT id FROM projects)"
    assert _value(connection, unknown) == logs // 20
    dirty = sum(source.dirt("llmlog", index) == "unknown_user" for index in range(9, logs, 10))
    assert _value(connection, "SELECT count(*) FROM llmlog WHERE user_id IS NULL") == logs // 10 - dirty


def test_naive_times_are_shanghais(make_database: MakeDatabase) -> None:
    """The same point of time stands in a source without zones as Shanghai's clock shows it."""
    times: dict[str, list[Any]] = {}
    for flavour, expression in (("typical", "created_at AT TIME ZONE 'Asia/Shanghai'"), ("text", "created_at")):
        for connection in _filled(make_database(), lambda one, name=flavour: _make_pagtive(one, name)):
            times[flavour] = _column(connection, f"SELECT {expression} FROM users ORDER BY email, name, image, 1")
    assert times["typical"] == times["text"]
    assert times["text"][0].tzinfo is not None


def test_style_tags_survive_quoting(pagtive: tuple[Connection, Source]) -> None:
    """Quotes, braces and backslashes arrive in jsonb[] and in json alike."""
    connection, _ = pagtive
    tags = max(_column(connection, "SELECT style_tags FROM projects"), key=len)
    assert tags == ["极简", "dark mode", 'the "new" {style}', "retro\\80s"]


@pytest.mark.variant
def test_json_that_jsonb_rejects_is_there_in_text_flavour(connection: Connection) -> None:
    r"""A ``\u0000`` passes as json and stops whoever casts without care."""
    _make_pagtive(connection, "text")
    with pytest.raises(DataError, match="unsupported Unicode escape"), connection.begin_nested():
        connection.execute(text("SELECT count(pages::jsonb) FROM projects"))


@pytest.mark.parametrize("bounds", [(500, 500), (3000, 6000), (200_000, 200_000)])
def test_pages_have_the_size_that_was_asked_for(connection: Connection, bounds: tuple[int, int]) -> None:
    """Script, styles and html of a page are together within the bounds, and their stored size is not a trifle."""
    create_pagtive_schema(connection)
    fill_pagtive(connection, users=4, page_bytes=bounds)
    row = connection.execute(
        text(
            "SELECT min(size), max(size), count(DISTINCT html), sum(stored) / sum(size) FROM (SELECT html,"
            " octet_length(html) + octet_length(styles) + coalesce(octet_length(script), 0) AS size, "
            " pg_column_size(html) + pg_column_size(styles) + coalesce(pg_column_size(script), 0.0) AS stored"
            " FROM project_details) AS t"
        )
    ).one()
    assert bounds[0] <= row[0] <= row[1] <= bounds[1]
    assert row[2] == 4 * 5 * 5
    assert row[3] > 0.3


@pytest.mark.parametrize("dirty", [-0.1, 1.5])
def test_a_share_of_dirt_out_of_bounds_is_refused(connection: Connection, dirty: float) -> None:
    """A share is between none and all."""
    create_pagtive_schema(connection)
    with pytest.raises(ValueError, match="dirty"):
        fill_pagtive(connection, users=1, dirty=dirty)


@pytest.mark.parametrize("bounds", [(499, 600), (700, 600), (600, 1_000_001)])
def test_page_sizes_out_of_bounds_are_refused(bounds: tuple[int, int]) -> None:
    """A page has its head at least, and the smaller bound comes first."""
    with pytest.raises(ValueError, match="page_bytes"):
        Pages(1, *bounds)


def test_an_unknown_flavour_is_refused(connection: Connection) -> None:
    """A typing error does not pass for the typical flavour."""
    with pytest.raises(KeyError, match="typcial"):
        create_pagtive_schema(connection, flavour="typcial")
