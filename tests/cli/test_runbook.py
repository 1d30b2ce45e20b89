"""Pages of both runbooks, typed as they stand: a rollback and what it gives back, a restore after damage."""

from __future__ import annotations

import os
import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from rollout.definitions import canonical
from rollout.settings import PROJECT
from rollout.wheel import wheel_bin
from tests.fixtures.databases import execute, query, url_of
from tests.fixtures.legacy import picture
from tests.fixtures.terminal import on_a_terminal
from tests.rollout.test_rollback import A_WEEK, ours

BLOCK = re.compile(r"^ *```(\w+)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)

# Of each page: its file, what is set in the environment, two sections, and what must be seen.
ENGLISH = (
    "runbook.md", {}, "Before the night", "Restore a backup", "it restores to what was backed up",
    r"public\.lawyer_level_details: [\d,]+ rows in the backup, - today",
)  # fmt: skip
CHINESE = (
    "runbook.zh-CN.md", {"LANG": "zh_CN.UTF-8"}, "升级之前", "恢复备份", "恢复后与备份时一致",
    r"public\.lawyer_level_details：备份中 [\d,]+ 行，当前 - 行",
)  # fmt: skip


def blocks(page, section):
    """Return the code blocks of a section: of a console, the lines after the dollar sign."""
    content = (PROJECT / "docs" / page).read_text(encoding="utf-8")
    text = re.search(rf"^## {section}\n(.*?)(?=^## |\Z)", content, re.MULTILINE | re.DOTALL)[1]
    found = []
    for kind, block in BLOCK.findall(text):
        lines = [line.strip() for line in block.splitlines()]
        found.append([line.removeprefix("$ ") for line in lines if kind != "console" or line.startswith("$ ")])
    return found


def content(server):
    """Return what is in a database, but for its files, which a copy has anew, in words that a copy has too."""
    found = picture(server)
    schema = "\n".join(map(canonical, found.schema.splitlines()))
    return replace(found, filenodes={}, schema=schema)


def shown(page, section):
    """Return (what is typed, the lines that the page shows after it) of a section's first console."""
    content = (PROJECT / "docs" / page).read_text(encoding="utf-8")
    console = re.search(rf"^## {section}\n.*?^```console\n(.*?)^```$", content, re.MULTILINE | re.DOTALL)[1]
    for part in console.removeprefix("$ ").split("\n$ "):
        typed, *lines = part.splitlines()
        yield typed, lines


def alike(line):
    """Return a line without what differs from night to night: numbers, times, ids, database and user, widths."""
    line = re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", line.rpartition("\x1b[2K")[2])
    line = re.sub(r"\S+:\d+/\w+( \(\w+\))?", lambda found: "DATABASE (USER)" if found[1] else "DATABASE", line)
    line = re.sub(r"\b[0-9a-f]{12}\b", "RUN", line)
    line = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d|\d[\d.,]*( [KM]?B\b)?", "#", line)
    return " ".join(line.split())


class Night:
    """An operator at a shell, who types the lines of the page with the names that were on the screen."""

    def __init__(self, server, directory):
        """Sit down at a server."""
        self.directory, self.names = directory, {"lawsker": server.database}
        path = [str(Path(sys.executable).parent), os.environ["PATH"], str(wheel_bin())]
        self.environment = {
            "DATABASE_URL": url_of(server),
            "ROLLOUT_DIR": str(directory / "rollout"),
            "PATH": os.pathsep.join(path),
            "PAGER": "cat",
        }

    def type(self, line):
        """Type a line, and yes where it asks; return what was shown."""
        line = line.replace("/srv/rollout", str(self.directory / "rollout"))
        command = ["bash", "-c", re.sub(r"\b(lawsker(__[a-z]+)?|NAME)(_\d{8}T\d{6})?\b", self._name, line)]
        code, shown = on_a_terminal(command, b"y\n", directory=self.directory, environment=self.environment)
        assert code == 0, f"{line}\n{shown}"
        for kind in ("__restored", "__replaced"):
            for found in re.findall(rf"{self.names['lawsker']}{kind}_\d{{8}}T\d{{6}}", shown):
                self.names[f"lawsker{kind}"] = found
        return shown

    def _name(self, found):
        """Return a name of the page as it is tonight."""
        return self.names[found[1]]

    def psql(self, lines):
        """Type lines into psql."""
        return self.type(f"""psql "$DATABASE_URL" -Xv ON_ERROR_STOP=1 <<'END'\n{chr(10).join(lines)}\nEND""")


@pytest.fixture
def night(migrated, tmp_path):
    """Yield an operator of an upgraded database; what the restore made is dropped afterwards."""
    operator = Night(migrated, tmp_path)
    yield operator
    for kind in ("__restored", "__replaced"):
        execute(migrated.to_database("postgres"), f'DROP DATABASE IF EXISTS "{operator.names.get("lawsker" + kind)}"')


@pytest.mark.variant
@pytest.mark.parametrize(
    ("page", "language", "before", "section", "same", "differs"), [ENGLISH, CHINESE], ids=["en", "zh"]
)
def test_the_restore_page(night, migrated, page, language, before, section, same, differs):  # noqa: PLR0917
    """Rows and a table are lost after a backup; the page brings them back, takes that back, and tidies up."""
    night.environment |= language
    _, _, [create, _], *_ = blocks(page, before)
    night.names["NAME"] = re.search(r"backups/([\w.-]+)", night.type(create))[1]
    whole = content(migrated)
    execute(migrated, "DELETE FROM insurances", "DROP TABLE lawyer_level_details CASCADE")
    execute(migrated, "UPDATE users SET email = NULL")
    damaged = picture(migrated)
    assert whole.lost(damaged)

    [look, verify], [restore], checks, back, gone = blocks(page, section)
    assert night.names["NAME"] in night.type(look)
    assert same in night.type(verify)
    assert re.search(differs, night.type(restore))
    assert whole.lost(content(migrated)) == []
    for line in checks:
        night.type(line)

    night.psql(back)
    assert damaged.differences(picture(migrated)) == []
    replaced, restored = night.names["lawsker__replaced"], night.names["lawsker__restored"]
    rename = 'ALTER DATABASE "{}" RENAME TO "{}"'
    maintenance = migrated.to_database("postgres")
    execute(maintenance, rename.format(migrated.database, replaced), rename.format(restored, migrated.database))
    night.psql(gone)
    assert whole.lost(content(migrated)) == []
    left = f"SELECT count(*) FROM pg_database WHERE datname LIKE '{migrated.database}%'"
    assert query(migrated, left) == 1


@pytest.mark.variant
@pytest.mark.parametrize(
    ("page", "language", "section"),
    [("runbook.md", {}, "Roll back"), ("runbook.zh-CN.md", {"LANG": "zh_CN.UTF-8"}, "回滚")],
    ids=["en", "zh"],
)
def test_the_rollback_page(night, migrated, page, language, section):
    """A week after the upgrade: back to before it; all that people wrote comes back; the page shows what is seen."""
    night.environment |= language
    execute(migrated, A_WEEK)
    then, seen = ours(migrated), []
    for typed, lines in shown(page, section):
        screen = night.type(typed)
        found = {alike(line) for line in screen.splitlines()}
        missing = [line for line in lines if alike(line) not in found]
        assert missing == [], f"{typed}\n{screen}"
        seen.append(typed)
        if typed.endswith("--to before-last-run"):
            assert query(migrated, "SELECT to_regclass('lawsker_schema_version')") is None
    assert len(seen) == 5
    assert ours(migrated) == then
