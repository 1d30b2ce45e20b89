"""The contract of the command line: help, one JSON object with its keys, exit codes, questions, what a person reads."""

from __future__ import annotations

import csv
import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import typer.main
from typer.testing import CliRunner

from cli import app
from commands import back
from rollout import preview
from rollout.sample_data import create_pagtive_schema, fill_pagtive
from rollout.settings import PROJECT
from tests.fixtures import terminal
from tests.fixtures.databases import execute, query, url_of
from tests.fixtures.tiers import tried_once
from tests.fixtures.upgraded import connected

HAN = re.compile(r"[\u4e00-\u9fff]")

ALWAYS = {"command", "ok", "exit_code", "database", "target", "started_at", "finished_at", "seconds", "steps"}
CHECKED = {"summary", "findings"}
KEYS = {
    "migrate": CHECKED | {"run_id", "from_revision", "to_revision", "backup", "preserved"},
    "preflight": CHECKED,
    "verify": CHECKED | {"areas"},
    "plan": set(),
    "status": {"current_revision", "head_revision", "pending", "healthy", "metrics"},
    "rollback": {"run_id", "receipt", "from_revision", "to_revision"},
    "adopt": {"objects", "stands_at", "recorded"},
    "history": {"runs"},
    "checks": {"checks"},
    "backup create": {"path", "bytes", "proven", "tables"},
    "backup list": {"backups"},
    "backup verify": {"proven", "findings"},
    "backup prune": {"removed"},
    "restore": {"path"},
    "rehearse": {"path", "stages", "estimate"},
    "users upgrade": {"run_id", "accounts", "skipped", "users", "by_provider"},
    "pagtive import": {"run_id", "tables", "reasons", "accounts_created", "role_escalations_withheld"},
    "pagtive plan": {"identity", "role_escalations_withheld"},
    "pagtive rejects": {"rejects"},
    "pagtive undo": {"run_id", "tables"},
    "report": {"report"},
    "shelf list": {"entries"},
    "shelf show": {"entries"},
    "shelf accept": {"run_id", "entries"},
    "shelf drop": {"run_id", "entries"},
    "demo": set(),
    "monitor": {"healthy", "metrics"},
}
"""What cli.md promises beside ``ALWAYS``, for every command that there is."""

WITHOUT_DATABASE = {"checks", "backup list", "backup verify", "backup prune", "demo", "report"}


def commands(group=None, name=""):
    """Return the full name of every command."""
    group = group or typer.main.get_command(app)
    found = []
    for one in group.commands.values():
        full = f"{name} {one.name}".strip()
        found += commands(one, full) if hasattr(one, "commands") else [full]
    return found


@pytest.fixture
def call(monkeypatch, tmp_path):
    """Return what runs the command line inside this process, against a database or without any."""

    def run(line, server=None, source=None, **environment):
        monkeypatch.setenv("ROLLOUT_DIR", str(tmp_path / "var"))
        for key, one in {"DATABASE_URL": server, "SOURCE_DATABASE_URL": source}.items():
            if one is not None:
                monkeypatch.setenv(key, url_of(one))
        for key, value in environment.items():
            monkeypatch.setenv(key, value)
        return CliRunner().invoke(app, line.split(), prog_name="tool", env={"COLUMNS": "200"})

    return run


def told(result):
    """Return the one JSON object on stdout; there must be nothing else."""
    assert result.stdout.count("\n") == 1, result.stdout
    values = json.loads(result.stdout)
    assert isinstance(values, dict)
    return values


def fits(values, command, exit_code):
    """Assert that a JSON object is what cli.md says."""
    assert set(values) >= ALWAYS | KEYS[command]
    assert (values["command"], values["exit_code"], values["ok"]) == (command, exit_code, exit_code == 0)
    if command not in WITHOUT_DATABASE and exit_code in {0, 12}:
        assert set(values["target"]) == {"host", "port", "dbname", "user", "server_version"}
    assert all(set(step) == {"name", "ok", "seconds", "detail"} for step in values["steps"])
    if exit_code:
        assert set(values["error"]) == {"message", "hint"}


def test_every_command_has_its_keys():
    """A new command comes with its contract."""
    assert set(commands()) == set(KEYS)


@pytest.mark.parametrize("command", commands())
def test_help_has_an_example_in_both_languages(call, command):
    """Each says what it does, how it is called and what its options mean, in English and Chinese."""
    result = call(f"{command} --help")
    assert result.exit_code == 0
    assert re.search(rf"Example.*: tool {command}", result.stdout)
    assert re.search(rf"示例.*：tool {command}", result.stdout)
    for option in re.findall(r"(?m)^  (?:-\w, )?(--[a-z-]+.*(?:\n {10,}.*)*)", result.stdout):
        assert option.startswith("--help") or HAN.search(option), option
    for paragraph in result.stdout.partition("\nOptions:")[0].split("\n\n"):
        assert paragraph.lstrip().startswith(("Usage:", "Example")) or HAN.search(paragraph), paragraph


def test_the_list_of_commands_is_in_both_languages(call):
    """``tool --help`` names every command."""
    result = call("--help")
    assert result.exit_code == 0
    for command in commands():
        assert re.search(rf"(?m)^  {command.split()[0]} ", result.stdout)
    listed = re.findall(r"(?m)^  \w+ .*(?:\n {4,}.*)*", result.stdout.partition("Commands:\n")[2])
    assert len(listed) == len({command.split()[0] for command in commands()})
    assert [one for one in listed if not HAN.search(one)] == []


READ_ONLY = ["preflight", "verify", "plan", "status", "adopt", "history", "checks", "backup list", "shelf list",
             "pagtive rejects", "rollback --to levels --receipt"]  # fmt: skip


@pytest.mark.parametrize("line", READ_ONLY)
def test_commands_that_only_look(call, migrated_template, line):
    """One JSON object with the promised keys; for people, lines on stdout, and nothing of ours in them unformatted."""
    command = " ".join(word for word in line.split() if not word.startswith("-"))
    command = next(name for name in KEYS if command.startswith(name))
    values = told(call(f"{line} --json", migrated_template))
    assert set(values) >= ALWAYS | KEYS[command] - {"run_id"}, "what only looks is no recorded run"
    assert (values["ok"], values["database"]) == (True, "untouched")
    english = call(line, migrated_template)
    chinese = call(line, migrated_template, ROLLOUT_LANGUAGE="zh")
    assert english.exit_code == chinese.exit_code == 0
    assert english.stdout.strip()
    assert not HAN.search(english.stdout)
    assert HAN.search(chinese.stdout)
    assert "{" not in english.stdout + chinese.stdout


@pytest.mark.variant
def test_an_upgrade_there_and_back(call, legacy):
    """migrate, rollback, shelf and history: JSON of each, and what a person reads at the end of it."""
    fits(told(call("migrate --to credits --no-backup --yes --json", legacy)), "migrate", 0)
    people = call("migrate", legacy)
    last = people.stdout.splitlines()[-1]
    assert re.search(
        r"upgraded from credits \(\w+\) to pagtive \(\w+\) in .* s; backup: /\S+; report: /\S+\.html$", last
    )
    assert "✓ upgrade" in people.stderr
    assert "✓" not in people.stdout
    values = told(call("rollback --to credits --yes --json", legacy))
    fits(values, "rollback", 0)
    assert {"object", "rows", "shelved"} <= set(values["receipt"][0])
    assert "rolled back from credits" in call("rollback --to levels --yes", legacy).stdout
    shelf = told(call("shelf list --json", legacy))
    fits(shelf, "shelf list", 0)
    first, second = dict.fromkeys(one["run_id"] for one in shelf["entries"])
    fits(told(call(f"shelf show {first} --json", legacy)), "shelf show", 0)
    fits(told(call(f"shelf accept {second} --yes --json", legacy)), "shelf accept", 0)
    fits(told(call(f"shelf drop {first} --yes --json", legacy)), "shelf drop", 0)
    fits(told(call(f"shelf show {first} --json", legacy)), "shelf show", 12)
    assert f"{second}_" in call(f"shelf show {second}", legacy).stdout
    history = told(call("history --json", legacy))
    assert [one["command"] for one in history["runs"]] == [
        "shelf drop", "shelf accept", "rollback", "rollback", "migrate", "migrate",
    ]  # fmt: skip
    assert {"run_id", "command", "ok", "exit_code", "started_at", "seconds", "from_revision", "to_revision"} <= set(
        history["runs"][0]
    )
    run_id = history["runs"][2]["run_id"]
    fits(told(call(f"report {run_id} --json", legacy)), "report", 0)
    assert "rollback" in call(f"report {run_id}", legacy).stdout


def test_backups(call, legacy):
    """A backup is made, listed, looked at again, and pruned."""
    made = told(call("backup create --json", legacy))
    fits(made, "backup create", 0)
    assert made["path"].rpartition("/")[2] in call("backup list").stdout
    fits(told(call("backup list --json")), "backup list", 0)
    fits(told(call(f"backup verify {made['path']} --quick --json")), "backup verify", 0)
    quick = call(f"backup verify {made['path']} --quick").stdout
    assert "a restore has proven it before, none was made now" in quick
    assert "it restores" not in quick
    fits(told(call("backup prune --keep 1 --yes --json")), "backup prune", 0)


def test_prune_leaves_the_backups_of_other_databases(call, make_database):
    """One ROLLOUT_DIR for two databases and a source: only the target's history was asked, so the others' stay."""
    prod, stag, source = (make_database() for _ in range(3))
    made = {
        server.database: [
            told(call("backup create --no-proof --json", server))["path"].rpartition("/")[2] for _ in range(2)
        ]
        for server in (prod, stag, source)
    }
    done = told(call("backup prune --keep 1 --yes --json", stag, source))
    assert sorted(path.rpartition("/")[2] for path in done["removed"]) == sorted(
        [made[stag.database][0], made[source.database][0]]
    )
    [(name, why)] = done["kept"].items()
    assert name == made[prod.database][0]
    assert f"/{prod.database}, whose history was not asked" in why
    assert done["target"]["dbname"] == stag.database
    forced = told(call("backup prune --keep 1 --force --yes --json", stag))
    assert [path.rpartition("/")[2] for path in forced["removed"]] == [name]


def test_prune_says_that_only_a_link_went(call, database, tmp_path):
    """The operator reads that the data is still where the link led."""
    made = Path(told(call("backup create --no-proof --json", database))["path"])
    call("backup create --no-proof", database)
    moved = made.rename(tmp_path / "elsewhere")
    made.symlink_to(moved)
    result = call("backup prune --keep 1 --yes", database)
    assert result.exit_code == 0, result.stderr
    assert f"it led to is still there: {moved}" in result.stderr
    assert not made.is_symlink()
    assert moved.is_dir()


def fill(source, *, users):
    """Make a Pagtive database of an empty one."""
    with connected(source) as connection:
        create_pagtive_schema(connection)
        fill_pagtive(connection, users=users)
        connection.commit()


def test_data(call, migrated, database):
    """Accounts, import, rejects and undo; nobody's token is in what they print."""
    fill(database, users=20)
    both = (migrated, database)
    fits(told(call("users upgrade --json", *both)), "users upgrade", 0)
    values = told(call("pagtive import --json --max-quarantined 1000", *both))
    fits(values, "pagtive import", 0)
    again = call("pagtive import --max-quarantined 1000", *both).stdout
    assert "all accounted for" in again
    assert "import --retry-rejects" in again
    assert "pagtive undo" not in again
    fits(told(call("pagtive rejects --json", *both)), "pagtive rejects", 0)
    people = call("users upgrade", *both)
    assert "0 Feishu and 0 e-mail" in people.stdout
    edit = "UPDATE pagtive_projects SET project_name = 'mine' WHERE id = (SELECT id FROM pagtive_projects LIMIT 1)"
    execute(migrated, edit)
    undo = f"pagtive undo {values['run_id']} --yes"
    refused = call(undo, *both)
    assert refused.exit_code == 12
    assert "pagtive_projects (1)" in refused.stderr
    assert "--discard-edits" in refused.stderr
    fits(told(call(f"{undo} --discard-edits --json", *both)), "pagtive undo", 0)


FULL = ("temp_file_limit = '64kB'", "work_mem = '64kB'")
HASTE = (
    "statement_timeout = '150ms'", "idle_in_transaction_session_timeout = '100ms'", "lock_timeout = '1ms'",
    "quote_all_identifiers = on", "datestyle = 'SQL, DMY'", "default_transaction_isolation = 'serializable'",
    "search_path = theirs", "enable_indexscan = off", "client_min_messages = 'error'", "extra_float_digits = -5",
)  # fmt: skip


@pytest.mark.variant
def test_settings_of_the_database_hurry_nobody(call, legacy, postgres, database):
    """A database whose sessions are hurried, quote everything and look elsewhere goes the whole way."""
    fill(database, users=20)
    settings = [*HASTE, *(["transaction_timeout = '700ms'"] if postgres.major >= 17 else [])]
    for server in (legacy, database):
        execute(server, *(f'ALTER DATABASE "{server.database}" SET {one}' for one in settings if "path" not in one))
    execute(legacy, "CREATE SCHEMA theirs", f'ALTER DATABASE "{legacy.database}" SET search_path = theirs')
    for line in ("migrate --no-backup --yes", "verify", "users upgrade", "pagtive import", "rollback --to auth --yes"):
        result = call(f"{line} --json", legacy, database)
        assert result.exit_code == 0, (line, told(result)["error"])


def test_a_server_that_cannot_go_on(call, migrated):
    """Where the server lacks what a query needs, its reason is told, no traceback, and nothing has changed."""
    execute(migrated, *(f'ALTER DATABASE "{migrated.database}" SET {one}' for one in FULL))
    result = call("rollback --to levels --yes", migrated)
    assert (result.exit_code, "Traceback" in result.output) == (12, False)
    assert "error: the server refused: temporary file size exceeds" in result.stderr
    assert "The database is untouched." in result.stderr
    values = told(call("rollback --to levels --receipt --json", migrated))
    assert (values["exit_code"], values["database"]) == (12, "untouched")


@pytest.mark.variant
def test_plan_and_import_read_the_same_source(call, migrated, database):
    """Both take the source's options; the plan says the same as a trial import that was asked with the same words."""
    fill(database, users=4)
    where = database.parameters
    options = f"--database {where['dbname']} --limit-users 3 --source-timezone UTC --json"
    nowhere = replace(database, parameters={**where, "dbname": "nowhere"})
    plan = told(call(f"pagtive plan {options}", migrated, nowhere))
    fits(plan, "pagtive plan", 0)
    trial = told(call(f"pagtive import --dry-run {options}", migrated, nowhere))
    assert plan["identity"] == trial["identity"]
    assert sum(plan["identity"]["matched"].values()) == 3


@pytest.mark.variant
def test_monitor_prints_an_object_a_line(call, migrated_template):
    """One a sample, each with the figures; for people one line each."""
    result = call("monitor --interval 1 --for 1 --json", migrated_template)
    samples = [json.loads(line) for line in result.stdout.splitlines()]
    assert len(samples) >= 1
    assert all(set(one) >= KEYS["monitor"] for one in samples)
    people = call("monitor --interval 1 --for 1", migrated_template).stdout.splitlines()
    assert all("healthy" in line for line in people)


WRONG = {
    "frob": "there is no frob",
    "migrate --frob": "there is no --frob",
    "rollback": "--to is missing",
    "backup verify": "PATH is missing",
    "backup prune --keep 0": "--keep",
    "backup prune --keep-days 1e10 --yes": "--keep-days",
    "backup prune --keep-days inf --yes": "--keep-days",
    "backup prune --keep-days nan --yes": "--keep-days",
    "migrate --mode online": "only atomic",
    "verify --area nonsense": "there is no area nonsense",
    "pagtive import --on-conflict maybe": "--on-conflict maybe is unknown",
    "monitor --interval 0": "--interval",
    "status now": "now",
}


@pytest.mark.parametrize("line", WRONG)
def test_wrong_use(call, line):
    """Exit code 2, one line of error and one of advice; with --json one object."""
    result = call(line)
    assert (result.exit_code, result.stdout) == (2, "")
    lines = [one for one in result.stderr.splitlines() if one != "The database is untouched."]
    assert len(lines) == 2, result.stderr
    assert WRONG[line] in lines[0]
    assert lines[1].startswith("hint:  ")
    values = told(call(f"{line} --json"))
    assert (values["ok"], values["exit_code"], values["database"]) == (False, 2, "untouched")


def test_groups_alone_show_their_help(call):
    """Whoever types ``tool`` or ``tool shelf`` sees what there is."""
    for line in ("", "shelf", "users"):
        result = call(line)
        assert result.exit_code == 2
        assert "Commands:" in result.stderr


NO_DATABASE = [line for line in READ_ONLY if line not in WITHOUT_DATABASE] + [
    "migrate",
    "monitor",
    "report 1234",
    "users upgrade",
]


@pytest.mark.parametrize("line", NO_DATABASE)
def test_without_a_url(call, line):
    """Exit code 3, and the message names the key."""
    result = call(line)
    assert result.exit_code == 3
    assert "DATABASE_URL" in result.stderr
    assert told(call(f"{line} --json"))["exit_code"] == 3


@pytest.mark.variant
def test_nobody_reads_to_the_end(tmp_path):
    """A pipe that is closed (``| head``) makes no failure of a run that ended well, and no noise."""
    command = [sys.executable, PROJECT / "cli.py", "checks"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        assert (process.wait(60), process.stderr.read()) == (0, b"")


@pytest.mark.parametrize("line", ["pagtive plan", "pagtive import --dry-run"])
def test_more_users_than_there_can_be(call, line):
    """Wrong use, before anything is connected to."""
    result = call(f"{line} --limit-users 99999999999999999999")
    assert (result.exit_code, "--limit-users" in result.stderr) == (2, True)
    assert call(f"{line} --limit-users 1000000000").exit_code != 2


def test_rejects_of_a_run_that_is_none(call, migrated, database, tmp_path):
    """Refused, and the file keeps what it holds; of an import without any, the file has its header."""
    fill(database, users=5)
    file = tmp_path / "rejects.csv"
    file.write_text("the former list")
    other = query(migrated, "SELECT run_id FROM rollout.runs ORDER BY number DESC LIMIT 1")
    for run_id in ("typo", other):
        for line in (f"pagtive rejects --run {run_id}", f"pagtive rejects --run {run_id} --csv {file}"):
            result = call(line, migrated)
            assert (result.exit_code, f"there is no import {run_id}" in result.stderr) == (6, True)
    assert file.read_text() == "the former list"
    trial = "pagtive import --json --dry-run --limit-users 1"
    values = told(call(trial, migrated, SOURCE_DATABASE_URL=url_of(database)))
    assert call(f"pagtive rejects --run {values['run_id']} --csv {file}", migrated).exit_code == 0
    assert file.read_text().startswith("run_id,table_name,source_key,")


def test_rejects_for_people(call, migrated, database, tmp_path):
    """What is wrong with a row stands in the file in the operator's language; the reasons are the same in each."""
    fill(database, users=5)
    execute(database, "UPDATE users SET role = 'root' WHERE id = (SELECT min(id::text)::uuid FROM users)")
    file = tmp_path / "rejects.csv"
    assert call("pagtive import", migrated, SOURCE_DATABASE_URL=url_of(database)).exit_code == 0
    for language, said in (("en", "role is none of user, admin"), ("zh", "role 不在允许的取值之内：user, admin")):
        assert call(f"pagtive rejects --csv {file}", migrated, ROLLOUT_LANGUAGE=language).exit_code == 0
        rows = csv.DictReader(file.read_text(encoding="utf-8").splitlines())
        [row] = [row for row in rows if row["table_name"] == "users"]
        assert row["reasons"] == '["unknown_value"]'
        assert said in row["message"]


TO_A_FILE = ["verify --area security --html", "pagtive rejects --csv", "pagtive plan --csv", "report {run} --html"]


@pytest.mark.parametrize("line", tried_once(TO_A_FILE, keep=2))
def test_a_file_that_cannot_be_written(call, migrated, database, tmp_path, line):
    """Exit code 3, which file and why; with --json one object."""
    fill(database, users=5)
    run_id = query(migrated, "SELECT run_id FROM rollout.runs ORDER BY number DESC LIMIT 1")
    line = f"{line.format(run=run_id)} {tmp_path / 'nowhere' / 'file'}"
    result = call(line, migrated, SOURCE_DATABASE_URL=url_of(database))
    assert result.exit_code == 3, result.output
    assert f"error: {tmp_path / 'nowhere' / 'file'} cannot be written: No such file or directory" in result.stderr
    assert "The database is untouched." in result.stderr
    values = told(call(f"{line} --json", migrated, SOURCE_DATABASE_URL=url_of(database)))
    assert (values["exit_code"], values["database"]) == (3, "untouched")


ASKING = ["rollback --to levels", "adopt", "migrate --no-backup", "backup prune --keep 1", "pagtive undo 1234"]


@pytest.mark.parametrize("line", tried_once(ASKING, keep=2))
def test_nobody_to_ask(call, migrated, line):
    """Without a terminal and without --yes: wrong use, and nothing is touched."""
    if line == "adopt":
        execute(migrated, "DROP SCHEMA rollout CASCADE", "DROP TABLE lawsker_schema_version")
    result = call(line, migrated)
    assert result.exit_code == 2
    error, hint, state = result.stderr.splitlines()[-3:]
    assert "no terminal to ask on" in error
    assert "--yes" in hint
    assert state == "The database is untouched."
    values = told(call(f"{line} --json", migrated))
    assert (values["exit_code"], values["database"]) == (2, "untouched")
    assert query(migrated, "SELECT count(*) FROM user_credits") > 0


def on_a_terminal(server, directory, line, answer, *, asked="[y/N]:", **environment):
    """Run the command line on a terminal; when it asks, type; return (exit code, all that was shown)."""
    own = {"DATABASE_URL": url_of(server), "ROLLOUT_DIR": str(directory / "var"), **environment}
    command = [sys.executable, PROJECT / "cli.py", *line.split()]
    return terminal.on_a_terminal(command, answer, asked=asked, directory=directory, environment=own)


@pytest.mark.parametrize(
    ("answer", "code", "words"), tried_once([(b"\x03", 130, "interrupted"), (b"n\n", 12, "not confirmed")])
)
def test_a_question_on_a_terminal(migrated, tmp_path, answer, code, words):
    """The target is named with the receipt; Ctrl-C ends with 130, no with 12, and nothing has changed."""
    exit_code, shown = on_a_terminal(migrated, tmp_path, "rollback --to levels", answer)
    target = migrated.parameters
    assert f"{target['host']}:{target['port']}/{target['dbname']}" in shown
    assert "table user_credits" in shown
    assert words in shown
    assert (exit_code, "The database is untouched." in shown) == (code, True), shown
    assert query(migrated, "SELECT to_regnamespace('rollout_shelf')") is None
    assert query(migrated, "SELECT exit_code FROM rollout.runs ORDER BY number DESC LIMIT 1") == code


@pytest.mark.parametrize(
    ("language", "words"), tried_once([("zh", "请回答 y 或 n。"), ("en", "Please answer y or n.")])
)
def test_another_answer(migrated, tmp_path, language, words):
    """It is asked again, and what it wants to hear is said in the operator's language."""
    line = "rollback --to levels"
    code, shown = on_a_terminal(migrated, tmp_path, line, b"maybe\nN\n", ROLLOUT_LANGUAGE=language)
    assert (code, words in shown, shown.count("[y/N]: "), "Error" in shown) == (12, True, 2, False), shown


def test_an_import_that_is_none_is_not_asked_about(migrated, tmp_path):
    """A run that is not there, or was no import, is refused before the question; its own end would be the same."""
    upgrade = query(migrated, "SELECT run_id FROM rollout.runs")
    for run_id in ("1234", upgrade):
        code, shown = on_a_terminal(migrated, tmp_path, f"pagtive undo {run_id}", b"n\n")
        assert (code, "[y/N]" in shown) == (12, False), shown
        assert f"there is no import {run_id}" in shown
        assert "The database is untouched." in shown


@pytest.mark.parametrize("discard", tried_once([False, True]))
def test_what_a_rollback_asks_about_is_what_it_does(call, migrated, monkeypatch, discard):
    """The question has as many rows of tables as are put away, or lost; values of columns are named beside them."""
    execute(migrated, "UPDATE users SET avatar_url = 'a' WHERE id IN (SELECT id FROM users LIMIT 3)")
    asked = []
    monkeypatch.setattr(back, "ask", lambda question, **_: bool(asked.append(str(question))) or True)
    end = call(f"rollback --to before-last-run{' --discard' if discard else ''}", migrated).stdout
    (question,) = asked
    rows, columns = re.search(r"([\d,]+) rows of tables and the values of (\d+) columns", question).groups()
    assert ("ARE LOST" in question, "are kept on the shelf" in question) == (discard, not discard)
    assert int(columns) > 1
    kept = re.search(r"row\(s\) are on the shelf, ([\d,]+) of tables and ([\d,]+) with values of columns", end)
    assert (kept is None) == discard
    assert discard or (kept[1] == rows and int(kept[2]) > 0), end


@pytest.mark.variant
def test_the_sources_password_is_asked_for(migrated, database, tmp_path):
    """A password is no option; on a terminal it can be typed, and is not shown."""
    fill(database, users=5)
    source = database.parameters
    line = (
        f"pagtive import --dry-run --host {source['host']} --port {source['port']} --user {source['user']}"
        f" --database {source['dbname']}"
    )
    typed = source["password"].encode() + b"\n"
    code, shown = on_a_terminal(
        migrated, tmp_path, line, typed, asked="Password of the source", PGPASSFILE=str(tmp_path / "none")
    )
    assert (code, "nothing was kept" in shown) == (0, True), shown
    assert source["password"] not in shown


@pytest.mark.parametrize("as_json", [True, False], ids=["json", ""])
def test_a_bug(call, migrated_template, monkeypatch, as_json):
    """Exit code 1, the traceback on stderr; with --json still one object."""

    def broken(*_, **__):
        raise ZeroDivisionError("nobody expected this")

    monkeypatch.setattr(preview, "preview", broken)
    result = call("plan --json" if as_json else "plan", migrated_template)
    assert result.exit_code == 1
    assert "Traceback" in result.stderr
    assert "nobody expected this" in result.stderr
    if as_json:
        values = told(result)
        assert (values["exit_code"], values["database"]) == (1, "unknown")
    else:
        assert "this is a bug" in result.stderr


def test_findings_are_grouped_by_area(call, migrated, tmp_path):
    """Errors first in each area, each with what to type; the page has them in Chinese too, and in the picture."""
    execute(
        migrated, "DROP INDEX ix_user_credits_last_reset_date", "UPDATE lawyer_levels SET name = 'x' WHERE level = 2"
    )
    page = tmp_path / "page.html"
    result = call(f"verify --html {page}", migrated)
    assert result.exit_code == 9
    html = page.read_text(encoding="utf-8")
    assert re.search(r"exit code.* 9</small>", html)
    assert "缺失" in html[html.index("<h3>ix_user_credits_last_reset_date</h3>") : html.index("<svg")]
    assert "ix_user_credits_last_reset_date: index is missing" in html[html.index("<svg") :]
    lines = result.stdout.splitlines()
    assert lines.index("structure") > lines.index("data")
    assert any(line.startswith("  ✗ ix_user_credits_last_reset_date: ") for line in lines)
    assert any(line.startswith("  ! lawyer_levels.name: ") for line in lines)
    assert any(line.startswith("      → ") for line in lines)


def test_adopt_shows_what_mends_what_differs(call, legacy):
    """Beneath each object that differs: what ``--mend`` would run, and what only its owner can decide."""
    execute(
        legacy,
        "ALTER TABLE users ADD account_type varchar(10) NOT NULL DEFAULT 'pending'",
        "CREATE VIEW case_matching_stats AS SELECT 1 AS one",
    )
    lines = call("adopt --yes", legacy).stdout.splitlines()
    there = next(
        number for number, line in enumerate(lines) if line.startswith("  different: column users.account_type")
    )
    assert lines[there + 1] == "      → ALTER TABLE users ALTER COLUMN account_type TYPE character varying(20);"
    assert "      → its owner: ALTER VIEW case_matching_stats RENAME TO case_matching_stats_theirs;" in lines


def test_adopt_lists_what_is_not_there(call, legacy):
    """Counts for each family, the odd ones by name, the older tool chain, and what to do next."""
    shown = call("adopt --yes", legacy).stdout
    assert re.search(r"(?m)^  baseline +\d+ +0 +0$", shown)
    assert re.search(r"(?m)^  pagtive +0 +\d+ +0$", shown)
    assert "missing: column users.role" in shown
    assert "008_enhance_lawyer_qualification" in shown
    assert "Next: tool migrate" in shown.splitlines()[-1]
