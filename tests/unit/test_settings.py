"""Settings: every way to write a URL means what libpq means by it, and what is wrong is named without its value."""

import traceback

import psycopg2.extensions
import pytest

from rollout import settings
from rollout.errors import ConfigurationError
from rollout.settings import Server, load, rollout_directory, speaks_chinese

URL = "postgresql://ann:secret@db.example.com:6543/lawsker"


@pytest.fixture
def target(monkeypatch):
    """Set a target that is good, for tests of other settings."""
    monkeypatch.setenv("DATABASE_URL", URL)


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg2", "postgresql+asyncpg"])
def test_every_spelling_of_the_scheme_is_accepted(scheme):
    """SQLAlchemy's and asyncpg's spellings mean the same server."""
    server = Server.from_url("DATABASE_URL", URL.replace("postgresql", scheme))
    assert server.parameters == {
        "host": "db.example.com",
        "port": "6543",
        "user": "ann",
        "password": "secret",
        "dbname": "lawsker",
    }


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("postgresql://u:p%40%2F%23%3A@h/d", {"password": "p@/#:"}),
        ("postgresql://u@/d?host=/var/run/postgresql", {"host": "/var/run/postgresql"}),
        ("postgresql://u@%2Fvar%2Frun/d", {"host": "/var/run"}),
        ("postgresql://u@a:1,b:2/d?target_session_attrs=read-write", {"host": "a,b", "port": "1,2"}),
        ("postgresql://u@[::1]:5433/d", {"host": "::1", "port": "5433"}),
        ("postgresql://u@h/d?sslmode=verify-full&sslrootcert=/ca.pem", {"sslmode": "verify-full"}),
        ("postgresql+asyncpg://u@h/d?ssl=require", {"sslmode": "require"}),
        ("  postgresql://u@h/%E5%BE%8B  ", {"dbname": "律"}),
        ("postgresql:///d", {"dbname": "d"}),
    ],
)
def test_what_libpq_understands_survives(url, expected):
    """Percent-encoding, sockets, several hosts, IPv6 and TLS come out as libpq reads them."""
    parameters = Server.from_url("DATABASE_URL", url).parameters
    assert {name: parameters.get(name) for name in expected} == expected


@pytest.mark.parametrize(
    "url",
    [
        "mysql://ann:secret@h/d",
        "h:5432/d",
        "host=h dbname=d password=secret",
        "postgresql://ann:secret@h:port/d?nonsense",
        "postgresql://ann:sec%zzret@h/d",
        "postgresql://ann:secret@h/d?no_such_parameter=secret",
        "postgresql://ann:secret@[::1/d",
    ],
)
def test_what_is_no_postgresql_url_is_refused_without_quoting_it(url):
    """The message names the key; nothing of the URL that could be a password is repeated."""
    with pytest.raises(ConfigurationError) as raised:
        Server.from_url("SOURCE_DATABASE_URL", url)
    told = f"{raised.value.message} {raised.value.hint}"
    assert "SOURCE_DATABASE_URL" in raised.value.message
    assert "secret" not in told
    assert "sec%zzret" not in told
    assert "secret" not in "".join(traceback.format_exception(raised.value))
    assert raised.value.exit_code == 3


def test_an_unknown_parameter_is_named():
    """The name of a parameter is safe to repeat, and is what has to be mended."""
    with pytest.raises(ConfigurationError, match="no_such_parameter"):
        Server.from_url("DATABASE_URL", "postgresql://u@h/d?no_such_parameter=x")


@pytest.mark.usefixtures("target")
def test_no_representation_shows_a_password():
    """Settings may end up in a log or a traceback: passwords and tokens of notifications do not."""
    loaded = load(source_override={"password": "hidden"})
    assert "secret" not in repr(loaded)
    assert "hidden" not in repr(loaded)
    assert "DATABASE_URL" in repr(loaded)


def test_another_database_of_the_same_server():
    """``to_database`` changes the name and nothing else, and leaves the original alone."""
    server = Server.from_url("DATABASE_URL", URL)
    other = server.to_database("copy")
    assert other.database == "copy"
    assert server.database == "lawsker"
    assert {**other.parameters, "dbname": "lawsker"} == server.parameters


def test_client_tools_get_every_parameter_through_the_environment():
    """What libpq can parse from a URL, and has a variable for, reaches pg_dump without an argument list."""
    server = Server.from_url("DATABASE_URL", URL + "?sslmode=require&connect_timeout=7&options=-c%20work_mem%3D1MB")
    assert server.environment() == {
        "PGHOST": "db.example.com",
        "PGPORT": "6543",
        "PGUSER": "ann",
        "PGPASSWORD": "secret",
        "PGDATABASE": "lawsker",
        "PGSSLMODE": "require",
        "PGCONNECT_TIMEOUT": "7",
        "PGOPTIONS": "-c work_mem=1MB",
    }


def test_known_variables_are_variables_of_libpq():
    """A misspelt parameter name in our table would silently drop a setting: libpq's parser knows them all."""
    for name in settings._LIBPQ_VARIABLES:
        assert psycopg2.extensions.parse_dsn(f"{name}=1") == {name: "1"}


def test_without_a_target_the_key_is_named():
    """No ``DATABASE_URL``: one line says so, the hint says what to write."""
    with pytest.raises(ConfigurationError, match="DATABASE_URL is not set") as raised:
        load()
    assert "DATABASE_URL=postgresql://" in raised.value.hint


@pytest.mark.parametrize("blank", ["", "   "])
def test_an_empty_variable_counts_as_unset(monkeypatch, blank):
    """Compose files and CI set variables to nothing."""
    monkeypatch.setenv("DATABASE_URL", blank)
    monkeypatch.setenv("ROLLOUT_LOCK_TIMEOUT", blank)
    with pytest.raises(ConfigurationError, match="DATABASE_URL is not set"):
        load()


def test_libpqs_own_variables_work(monkeypatch):
    """Who has ``PGDATABASE`` or a service set needs no URL."""
    monkeypatch.setenv("PGDATABASE", "lawsker")
    monkeypatch.setenv("PGHOST", "/run/postgresql")
    loaded = load()
    assert loaded.target.parameters == {"dbname": "lawsker", "host": "/run/postgresql"}
    assert loaded.target.key == "PGDATABASE"


@pytest.mark.usefixtures("target")
def test_the_url_stands_above_libpqs_variables(monkeypatch):
    """``DATABASE_URL`` names the target also where ``PGDATABASE`` is set."""
    monkeypatch.setenv("PGDATABASE", "another")
    assert load().target.database == "lawsker"


def test_a_dot_env_file_is_read(tmp_path):
    """``.env`` of the working directory: comments, quotes, ``export``, blanks around names and values."""
    (tmp_path / ".env").write_text(
        f"# ours\n\nexport DATABASE_URL='{URL}'\n SOURCE_DATABASE_URL = \"{URL}2\" \nROLLOUT_DIR=here\n",
        encoding="utf-8",
    )
    loaded = load()
    assert loaded.target.database == "lawsker"
    assert loaded.source.database == "lawsker2"
    assert loaded.directory == tmp_path / "here"


@pytest.mark.usefixtures("target")
def test_the_environment_stands_above_dot_env(tmp_path):
    """A variable given for one command beats the file."""
    (tmp_path / ".env").write_text("DATABASE_URL=postgresql://u@h/of_the_file\n", encoding="utf-8")
    assert load().target.database == "lawsker"


def test_a_broken_line_of_dot_env_is_named_by_its_number(tmp_path):
    """The line may hold a password: its number is enough to find it."""
    (tmp_path / ".env").write_text("ROLLOUT_DIR=x\nsecret\n", encoding="utf-8")
    with pytest.raises(ConfigurationError, match="line 2") as raised:
        load()
    assert "secret" not in str(raised.value)


def test_a_dot_env_file_of_another_encoding(tmp_path):
    """What some editors put before the first line does no harm; another encoding than UTF-8 is said."""
    (tmp_path / ".env").write_bytes(b"\xef\xbb\xbfDATABASE_URL=postgresql://u@h/dot\n")
    assert load().target.database == "dot"
    (tmp_path / ".env").write_bytes("DATABASE_URL=postgresql://用户@h/dot\n".encode("gbk"))
    with pytest.raises(ConfigurationError, match=r"\.env cannot be read: not UTF-8"):
        load()


@pytest.mark.usefixtures("target")
def test_our_files_go_to_var_of_the_working_directory(tmp_path):
    """``ROLLOUT_DIR`` is ./var where it is not set, and absolute from then on."""
    loaded = load()
    assert loaded.directory == tmp_path / "var" == rollout_directory()
    assert loaded.backups == tmp_path / "var" / "backups"
    assert loaded.reports == tmp_path / "var" / "reports"


@pytest.mark.usefixtures("target")
def test_options_of_the_source_stand_above_its_url(monkeypatch):
    """``--host`` and friends of ``pagtive import`` change that part only."""
    monkeypatch.setenv("SOURCE_DATABASE_URL", "postgresql://u:p@old/pagtive_previews")
    source = load(source_override={"host": "new"}).source
    assert source.parameters == {"host": "new", "user": "u", "password": "p", "dbname": "pagtive_previews"}
    monkeypatch.delenv("SOURCE_DATABASE_URL")
    assert load(source_override={"host": "new"}).source.parameters == {"host": "new"}
    assert load().source is None


@pytest.mark.usefixtures("target")
def test_timeouts_are_seconds(monkeypatch):
    """Fractions are fine; 0 means none."""
    assert (load().lock_timeout, load().statement_timeout) == (10.0, 0.0)
    monkeypatch.setenv("ROLLOUT_LOCK_TIMEOUT", "0.5")
    monkeypatch.setenv("ROLLOUT_STATEMENT_TIMEOUT", "3600")
    assert (load().lock_timeout, load().statement_timeout) == (0.5, 3600.0)


@pytest.mark.parametrize("value", ["soon", "-1", "nan", "inf", "10s", "1e9"])
@pytest.mark.usefixtures("target")
def test_what_is_no_number_of_seconds_is_refused(monkeypatch, value):
    """The message names the key."""
    monkeypatch.setenv("ROLLOUT_LOCK_TIMEOUT", value)
    with pytest.raises(ConfigurationError, match="ROLLOUT_LOCK_TIMEOUT is not a number of seconds"):
        load()


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, False),
        ({"LANG": "zh_CN.UTF-8"}, True),
        ({"LANG": "zh_CN.UTF-8", "LC_ALL": "en_US.UTF-8"}, False),
        ({"LANG": "en_US.UTF-8", "ROLLOUT_LANGUAGE": "zh"}, True),
        ({"LANG": "zh_CN.UTF-8", "ROLLOUT_LANGUAGE": "en"}, False),
        ({"LANG": "zh_CN.UTF-8", "LC_ALL": ""}, True),
    ],
)
def test_the_language_follows_our_variable_then_the_locale(environment, expected):
    """``ROLLOUT_LANGUAGE`` decides, then the locale in the order that POSIX gives its variables."""
    assert speaks_chinese(environment) is expected
