"""The report of a run: what it holds, how it is written, how it is read again."""

from __future__ import annotations

import json
import os
import re
from datetime import timedelta
from html.parser import HTMLParser

import pytest

from rollout import errors, memory, messages, report
from rollout.database import Target
from rollout.errors import DatabaseUnavailable, PreflightFailed, RolloutError, VerificationFailed
from rollout.findings import ERROR, WARNING, Finding
from rollout.messages import say
from rollout.run import Run, Step
from rollout.settings import PROJECT, Server
from tests.fixtures.databases import execute

TARGET = Target("db.example", 5432, "lawsker", "owner", "16.4", 160004)


class Page(HTMLParser):
    """A page as a browser reads it: its text, and whether every tag is closed where it must be."""

    VOID = frozenset({"meta", "link", "img", "br"})

    def __init__(self, html):
        """Read the page."""
        super().__init__()
        self.open, self.texts, self.links = [], [], []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        """Open a tag; keep what it would fetch."""
        if tag not in self.VOID:
            self.open.append(tag)
        assert tag not in {"script", "img", "link", "iframe", "object", "form"}
        self.links += [value for name, value in attrs if name in {"src", "href"}]

    def handle_endtag(self, tag):
        """Close the innermost tag, which must be this one."""
        assert self.open.pop() == tag

    def handle_data(self, data):
        """Keep the text."""
        if "style" not in self.open:
            self.texts.append(data)

    @property
    def text(self):
        """The page's text, blanks folded."""
        return re.sub(r"\s+", " ", " ".join(self.texts)).strip()


def page_of(run):
    """Return a run's page, read."""
    return Page(report.render_html(report.values_of(run)))


@pytest.fixture
def run():
    """Return an upgrade that went well."""
    run = Run("migrate", target=TARGET, database="changed", recorded=True)
    run.finished_at = run.started_at + timedelta(seconds=83)
    run.steps = [Step("connect", True, 0.041), Step("backup", True, 61.5, "/backups/b1"), Step("upgrade", True, 12.0)]
    run.result = {
        "from_revision": None,
        "to_revision": "cbf9e5dbbf1e",
        "backup": "/backups/b1",
        "preserved": {"tables": 46, "rows": 8213554},
        "summary": {"passed": 61, "failed": 0, "warnings": 1},
    }
    run.findings = [
        Finding("user_credits", say("{count} rows are missing", count=3), "INSERT …;", WARNING, "x", "data")
    ]
    return run


@pytest.fixture
def failed(run):
    """Return an upgrade that was rolled back because of a finding."""
    finding = Finding(
        "ix_a", say("{kind} is missing", kind="index"), say("Type `tool plan --sql`."), ERROR, "c", "structure"
    )
    run.failed(VerificationFailed(say("{count} checks failed", count=1), hint=say("Mend it."), findings=[finding]))
    run.steps.append(Step("verify", False, 3.0, "1 checks failed"))
    return run


def test_the_page_says_what_happened(run):
    """A success names outcome, state, target, times, findings, preserved, backup, revisions, and the proof's limits."""
    text = page_of(run).text
    parts = (
        "Upgrade succeeded", "升级成功", "The database is changed", "lawsker", "db.example:5432", "16.4", run.run_id,
        "1 min 23 s", "41 ms", "1 min 02 s", "61 passed", "1 warning", "– → cbf9e5dbbf1e", "8,213,554 rows",
        "46 tables", "/backups/b1", "3 rows are missing", "INSERT …;", "Large objects", "foreign tables", "大对象",
        "exit code 退出码 0",
    )  # fmt: skip
    for part in parts:
        assert part in text, part


def test_the_page_of_a_failure_leads_with_what_to_do(failed):
    """A failure says what went wrong and what to do next, before everything else, and marks the step."""
    page = page_of(failed)
    order = [
        "Upgrade failed",
        "The database is rolled back",
        "1 checks failed",
        "Mend it.",
        "Time per step",
        "✕",
        "ix_a",
        "index is missing",
    ]
    places = [page.text.index(part) for part in order]
    assert places == sorted(places)
    assert page.text.index("ix_a") < page.text.index("user_credits")  # errors before warnings


def test_the_page_fetches_nothing(failed):
    """The page is whole in itself: no link, no resource, no script, and a policy that forbids them."""
    html = report.render_html(report.values_of(failed))
    assert Page(html).links == []
    assert "url(" not in html
    assert "@import" not in html
    assert "default-src 'none'" in html


def test_texts_stand_in_both_languages(failed, monkeypatch):
    """A message that has a Chinese text shows both; one that has none shows in English."""
    texts = {"{count} checks failed": "{count} 项检查失败", "Mend it.": "请修复。"}
    monkeypatch.setattr(messages, "chinese_texts", lambda: texts)
    values = report.values_of(failed)
    assert values["error"] == {
        "message": "1 checks failed", "message_zh": "1 项检查失败", "hint": "Mend it.", "hint_zh": "请修复。"
    }  # fmt: skip
    assert "problem_zh" not in values["findings"][-1]
    text = Page(report.render_html(values)).text
    assert "1 checks failed" in text
    assert "1 项检查失败" in text


def test_nothing_in_a_text_becomes_markup(run):
    """Names from the database are shown, never read as HTML."""
    run.findings = [Finding("<script>alert(1)</script>", "<b>x</b> & `<i>`", "'\"", ERROR)]
    run.result["<u>"] = {"<img src=x>": ["<br>"]}
    page = page_of(run)
    assert "<script>alert(1)</script>" in page.text
    assert "<b>x</b> & <i>" in page.text


CODES = sorted(
    {one.exit_code for one in vars(errors).values() if isinstance(one, type) and issubclass(one, RolloutError)}
)


@pytest.mark.parametrize("code", [0, *CODES])
@pytest.mark.parametrize("command", ["migrate", "verify", "rollback", "users upgrade", "something new"])
def test_every_outcome_has_its_page(run, command, code):
    """Each command and exit code has a heading; only 0 reads as a success."""
    run.command, run.exit_code = command, code
    heading = re.search(r"<h1>(.*?)</h1>", report.render_html(report.values_of(run)), re.DOTALL)[1]
    assert ("succeeded" in heading) == (code == 0)


def test_findings_that_are_errors_are_no_success(run):
    """A page made before the run's outcome is known still does not call errors a success."""
    run.findings.append(Finding("ix_a", "index is missing", "make it", ERROR))
    assert "Upgrade found errors" in page_of(run).text


def test_every_step_has_its_chinese_name():
    """Each step that the code takes has a name in both languages (rollout/templates/words.html)."""
    words = report._environment().get_template("words.html").module.steps
    taken = {
        name
        for package in ("rollout", "datamigrations")
        for path in (PROJECT / package).rglob("*.py")
        for name in re.findall(r"run\.step\(\"([^\"]+)\"", path.read_text(encoding="utf-8"))
    }
    assert len(taken) > 10
    assert taken - words.keys() == set()


WITHOUT_A_PAGE = {"backup list", "backup prune", "shelf list", "shelf show", "pagtive rejects", "history", "report",
                  "checks"}  # fmt: skip


def test_every_command_with_a_page_has_a_title():
    """What the page begins with is words in both languages, not what was typed."""
    words = report._environment().get_template("words.html").module.commands
    called = {
        name
        for path in (PROJECT / "commands").glob("*.py")
        for name in re.findall(r"\bcommand\(\"([^\"]+)\"", path.read_text(encoding="utf-8"))
    }
    assert called - words.keys() == WITHOUT_A_PAGE


def test_an_import_that_failed_shows_no_empty_sections(failed):
    """What it never got to has no heading; each language is sent to its own runbook."""
    failed.result |= {"tables": {}, "reasons": {}, "accounts_created": 0, "preserved": {"tables": 3, "rows": 0}}
    text = page_of(failed).text
    assert text.startswith("Upgrade failed"), "the title, in words like the heading"
    assert "content compared" not in text
    assert "数据表" not in text
    assert "Why rows were quarantined" not in text
    assert "Accounts created" in text
    assert "what to do: docs/runbook.md." in text
    assert "处理办法见 docs/runbook.zh-CN.md。" in text


def test_tables_within_a_value_are_tables(run):
    """Who is whom reads as tables, lists as words with commas: no page shows JSON."""
    run.command = "pagtive plan"
    run.result = {
        "identity": {
            "matched": {"created": 2},
            "taken_usernames": 1,
            "colliding": [{"kind": "source_email", "users": ["one", "other"]}],
            "users": [{"source_id": "one", "matched_by": "created"}, {"source_id": "other", "matched_by": "merged"}],
        },
        "source": {"missing": [], "ignored": ["users.a", "users.b"]},
    }
    html = report.render_html(report.values_of(run))
    text = Page(html).text
    assert "one, other" in text
    assert "users.a, users.b" in text
    assert "missing 缺少 none 无" in text
    assert html.count("<table>") == 2
    assert "&#34;" not in html[html.index("Details") :]


def test_an_import_is_accounted_for(run):
    """Each table of an import has its figures, and a mark that says whether they balance."""
    figures = {
        "read": 40000,
        "inserted": 39990,
        "updated": 4,
        "unchanged": 3,
        "merged": 2,
        "quarantined": 1,
        "defaulted": 9,
    }
    run.command = "pagtive import"
    run.result = {
        "tables": {"users": figures, "projects": {**figures, "read": 40007}},
        "reasons": {"ambiguous_email": 1},
        "role_escalations_withheld": [],
    }
    text = page_of(run).text
    assert re.search(r"users 40,000 39,990 4 3 2 1 9 ✓", text)
    assert re.search(r"projects 40,007 39,990 4 3 2 1 9 ✕ 7", text)
    assert "ambiguous_email 1" in text
    assert "Role escalations withheld 未采纳的提权 none 无" in text


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ({"host": "h", "port": 15432}, "host h port 15432"),
        ([{"object": "table a", "rows": 12345, "shelved": True}], "table a 12,345 yes 是"),
        (["a.csv", "b.csv"], "a.csv b.csv"),
        ({"feishu": 2, "email": 30000}, "feishu 2 email 30,000"),
        ([{"a": 1}, {"b": 2}], "b 1 – – 2"),
        (None, "–"),
        (True, "yes 是"),
        ([1, {"a": [2]}], '1 { "a": [ 2 ] }'),
    ],
)
def test_any_further_value_is_shown(run, value, shown):
    """What a command adds to its result is on the page, whatever its shape."""
    run.result["extra_value"] = value
    assert f"extra_value {shown}" in page_of(run).text.replace("object 对象 rows 行数 shelved 已搁置 ", "").replace(
        "extra_value a ", "extra_value "
    )


def test_long_lists_are_cut_on_the_page_only(run, monkeypatch):
    """The page shows the first rows and says how many more there are; the values have all."""
    monkeypatch.setattr(report, "SHOWN_ROWS", 10)
    run.findings = [Finding(f"subject-{number:03}", "p", "h", ERROR) for number in range(25)]
    run.result["rows_of_it"] = [{"n": number} for number in range(12)]
    values = report.values_of(run)
    text = Page(report.render_html(values)).text
    assert "subject-009" in text
    assert "subject-010" not in text
    assert "… and 15 more" in text
    assert "… and 2 more" in text
    assert len(values["findings"]) == 25


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0, "0 ms"),
        (0.0515, "52 ms"),
        (8.44, "8.4 s"),
        (59.96, "1 min 00 s"),
        (192.4, "3 min 12 s"),
        (3839, "1 h 03 min"),
    ],
)
def test_durations_read_well(seconds, shown):
    """Times are shown as people say them."""
    assert report._duration(seconds) == shown


def test_hints_show_what_to_type(run):
    """What stands in backticks, and a statement, is set as code."""
    run.findings = [Finding("a", "p", "Run `tool adopt` first.", ERROR), Finding("b", "p", "DROP INDEX b;", ERROR)]
    html = report.render_html(report.values_of(run))
    assert "Run <code>tool adopt</code> first." in html
    assert "<code>DROP INDEX b;</code>" in html


def modes(directory):
    """Return the names and permissions of a directory's files."""
    return {path.name: oct(path.stat().st_mode & 0o777) for path in directory.iterdir()}


def test_the_report_is_ours_alone(run, settings_for):
    """The directory is 0700, the files 0600, whatever the umask and the directory before; nothing else is left."""
    settings = settings_for(Server("DATABASE_URL", {}))
    settings.reports.mkdir(parents=True, mode=0o755)
    old = os.umask(0)
    try:
        page = report.write(settings, run)
    finally:
        os.umask(old)
    assert page == settings.reports / f"{run.run_id}.html"
    assert settings.reports.stat().st_mode & 0o777 == 0o700
    assert modes(settings.reports) == {f"{run.run_id}.html": "0o600", f"{run.run_id}.json": "0o600"}


def test_a_run_that_reached_nobody_has_a_report(settings_for):
    """Without a connection the report names the database that was meant, and no password."""
    target = Server(
        "DATABASE_URL", {"host": "db1", "port": "6543", "dbname": "lawsker", "user": "u", "password": "s3cret"}
    )
    settings = settings_for(target, notify_urls=("slack://s3cret",))
    run = Run("migrate")
    with pytest.raises(DatabaseUnavailable), run.step("connect"):
        raise DatabaseUnavailable(say("no connection to {where}", where="db1"), hint=say("Check it."))
    run.failed(DatabaseUnavailable(say("no connection to {where}", where="db1"), hint=say("Check it.")))
    page = report.write(settings, run)
    text = Page(page.read_text(encoding="utf-8")).text
    assert "not reached 未连上 db1:6543/lawsker" in text
    values = report.load(settings, run.run_id)
    assert values["error"] == {"message": "no connection to db1", "hint": "Check it."}
    assert values["run_id"] == run.run_id
    assert values["exit_code"] == 4
    for path in settings.reports.iterdir():
        assert "s3cret" not in path.read_text(encoding="utf-8")


def test_a_bug_has_a_report_too(run, settings_for):
    """A run that ended with a bug has no error of ours; its page says so."""
    run.exit_code, run.database = 1, "unknown"
    page = report.write(settings_for(Server("DATABASE_URL", {})), run)
    assert "was stopped by a bug" in page.read_text(encoding="utf-8")


def endless():
    """Return a value that holds itself."""
    value = {}
    value["again"] = value
    return value


@pytest.mark.parametrize("value", [endless(), {("a", "b"): 1}])
def test_only_an_oserror_comes_out(run, settings_for, value):
    """Values that cannot be written, or shown, are an OSError: nothing comes over the error that led here."""
    run.result["x"] = value
    with pytest.raises(OSError, match="report could not be made"):
        report.write(settings_for(Server("DATABASE_URL", {})), run)


def test_a_directory_that_cannot_be_made_is_an_oserror(run, settings_for):
    """Where the directory's place is taken by a file, that is an OSError."""
    settings = settings_for(Server("DATABASE_URL", {}))
    settings.directory.parent.mkdir(exist_ok=True)
    settings.directory.write_text("in the way")
    with pytest.raises(OSError, match="var"):
        report.write(settings, run)


def test_a_file_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    """When the disk is full the old file stays as it was, and nothing is left beside it."""
    path = tmp_path / "report.html"
    report.save(path, "old")

    def full(_descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(report.os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        report.save(path, "new")
    assert modes(tmp_path) == {"report.html": "0o600"}
    assert path.read_text() == "old"


def test_names_that_are_no_utf8_are_written(run, settings_for):
    """A path with bytes that are no UTF-8 does not cost the report."""
    run.result["backup"] = os.fsdecode(b"/backups/\xff")
    settings = settings_for(Server("DATABASE_URL", {}))
    report.write(settings, run)
    assert "udcff" in json.dumps(report.load(settings, run.run_id))


@pytest.fixture
def past(database, settings_for):
    """Return settings, and a failed run that the database remembers, without a report file."""
    settings = settings_for(database)
    run = Run("migrate")
    run.result["preserved"] = {"tables": 3, "rows": 4}
    with pytest.raises(PreflightFailed), memory.recorded(settings, run):
        raise PreflightFailed(say("too old"), hint=say("Upgrade the server."))
    return settings, run


def test_a_report_is_read_from_its_file_first(past):
    """The file has more than the database (Chinese texts), and needs no server."""
    settings, run = past
    report.write(settings, run)
    execute(settings.target, "DROP SCHEMA rollout CASCADE")
    assert report.load(settings, run.run_id)["error"]["message"] == "too old"


@pytest.mark.parametrize("content", [None, "", "{", "[1]", '{"a": 1}', "\ud800"])
def test_a_report_comes_from_the_database_where_its_file_is_gone(past, content):
    """Without its file, or with a damaged one, a report is read from the run's record, and has a page."""
    settings, run = past
    if content is not None:
        settings.reports.mkdir(parents=True)
        (settings.reports / f"{run.run_id}.json").write_bytes(content.encode("utf-8", "surrogatepass"))
    values = report.load(settings, run.run_id)
    assert values["error"] == {"message": "too old", "hint": "Upgrade the server."}
    assert "Upgrade failed" in Page(report.render_html(values)).text


@pytest.mark.parametrize("run_id", ["nobody", "../secret", "/etc/passwd", "", "a" * 100, "x\0"])
def test_an_unknown_run_is_refused(past, run_id):
    """A run that nobody knows is refused; a path is never one."""
    settings, _ = past
    settings.reports.mkdir(parents=True)
    (settings.directory / "secret.json").write_text('{"command": "x", "steps": []}')
    with pytest.raises(PreflightFailed, match="no record of a run"):
        report.load(settings, run_id)


def test_a_database_without_a_memory_knows_no_run(database, settings_for):
    """Where the schema rollout is missing, a run is unknown."""
    with pytest.raises(PreflightFailed, match="no record of a run"):
        report.load(settings_for(database), "1a2b3c4d5e6f")
