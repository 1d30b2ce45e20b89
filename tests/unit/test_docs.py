"""What people read: the generated pages are fresh, pairs of pages agree, and what a page tells one to type exists."""

import importlib.util
import re
from pathlib import Path

import pytest
import typer.main
from typer.testing import CliRunner

from cli import app
from rollout import errors, plan
from rollout.messages import chinese_texts, in_chinese
from rollout.presentation import Speaker
from rollout.settings import PROJECT

PAGES = sorted([*PROJECT.glob("*.md"), *(PROJECT / "docs").rglob("*.md")])
PAIRS = [("README.md", "README.zh-CN.md"), ("docs/runbook.md", "docs/runbook.zh-CN.md")]
RUNBOOKS = PAIRS[1]

GROUP = typer.main.get_command(app)
CODE_BLOCK = re.compile(r"^ *```(\w*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
CODE_SPAN = re.compile(r"`([^`\n]+)`")

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(PROJECT).as_posix())
each_pair = pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair[0])
each_runbook = pytest.mark.parametrize("name", RUNBOOKS)


def read(name):
    """Return a page's text."""
    return (PROJECT / name).read_text(encoding="utf-8")


def generator():
    """Load docs/generate.py, which is a script."""
    spec = importlib.util.spec_from_file_location("generate", PROJECT / "docs" / "generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def prose(text):
    """Return a page without its code blocks."""
    return CODE_BLOCK.sub("", text)


def headings(text):
    """Return a page's headings, with their level."""
    return re.findall(r"^(#+) (.+)$", prose(text), re.MULTILINE)


def typed(text):
    """Return the lines of a page's code blocks that one types: no comments; of a console, those after ``$``."""
    found = []
    for language, block in CODE_BLOCK.findall(text):
        for line in block.splitlines():
            command = re.sub(r"\s+(#|--) .*$", "", line).strip()
            if language == "console":
                command = command.removeprefix("$ ") if command.startswith("$ ") else ""
            if language in {"sh", "console", "sql"} and command:
                found.append(command)
    return found


def slug(heading):
    """Return the anchor that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", heading.replace("`", "").lower()).replace(" ", "-")


def leads_somewhere(page, path, anchor):
    """Tell whether a page's link leads to a file of ours and, with an anchor, to a heading in it."""
    there = (page.parent / path).resolve() if path else page
    return there.exists() and (not anchor or anchor in {slug(title) for _, title in headings(read(there))})


def calls_of_tool(text):
    """Yield each ``tool …`` that a page tells one to type, as its words."""
    for code in [*typed(text), *CODE_SPAN.findall(prose(text))]:
        for call in re.findall(r"(?:^|&& )tool ([^|&;]+)", code):
            yield call.split()


def problem_with(words):
    """Return what is wrong with a call of tool: an unknown command or option; None where it is fine."""
    command = GROUP
    for word in words:
        if word in getattr(command, "commands", {}):
            command = command.commands[word]
        elif word.startswith("-"):
            options = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
            if word.partition("=")[0] not in options | {"--help"}:
                return f"no option {word}"
        elif hasattr(command, "commands"):
            return f"no command {word}"
    return None


def states(text):
    """Return the exit-code table of a runbook: code → what it says of the database."""
    rows = re.findall(r"^\| (\d+) \|[^|]*\| ([^|]*) \|", text, re.MULTILINE)
    return {int(code): state for code, state in rows}


def error_classes():
    """Return the classes of errors, without their base."""
    return [one for one in vars(errors).values() if isinstance(one, type) and errors.RolloutError in one.__bases__]


def test_the_generated_pages_are_fresh(capsys):
    """What `make docs` would write is what is there."""
    assert generator().main(["--check"]) == 0, capsys.readouterr().err


def test_a_stale_page_is_named(tmp_path, capsys, monkeypatch):
    """--check fails on a page that is missing or differs, names it, and writes nothing; without it, it is written."""
    module = generator()
    monkeypatch.setattr(module, "DOCS", tmp_path)
    monkeypatch.setattr(module, "PAGES", {"one.md": lambda: ["first"], "two.md": lambda: ["second"]})
    (tmp_path / "one.md").write_text("first\n", encoding="utf-8")
    assert module.main(["--check"]) == 1
    assert "docs/two.md" in capsys.readouterr().err
    assert not (tmp_path / "two.md").exists()
    assert module.main([]) == 0
    assert module.main(["--check"]) == 0
    assert (tmp_path / "two.md").read_text(encoding="utf-8") == "second\n"


def test_every_command_is_documented_and_has_help_with_an_example():
    """docs/cli.md has a section for each command, with what --help prints."""
    names = [name for name in generator().commands(GROUP) if name != "tool"]
    assert len(names) > 15
    sections = {title for _, title in headings(read("docs/cli.md"))}
    for name in names:
        assert name in sections
        result = CliRunner().invoke(app, [*name.split()[1:], "--help"])
        assert result.exit_code == 0
        is_group = any(other.startswith(f"{name} ") for other in names)
        assert is_group or re.search(rf"Example[^:]*: .*\b{name}\b", " ".join(result.output.split())), name


@each_page
def test_what_a_page_tells_one_to_type_exists(page):
    """Every `tool …`, with its options, is a command; every `make …` a target."""
    text = page.read_text(encoding="utf-8")
    wrong = [f"tool {' '.join(words)}: {problem_with(words)}" for words in calls_of_tool(text) if problem_with(words)]
    targets = set(re.findall(r"^([a-z-]+):", read("Makefile"), re.MULTILINE))
    for code in [*typed(text), *CODE_SPAN.findall(prose(text))]:
        wrong += [f"make {name}" for name in re.findall(r"(?:^|&& )make ([a-z-]+)", code) if name not in targets]
    assert not wrong, "\n" + "\n".join(wrong)


def test_what_messages_tell_one_to_type_exists():
    """A hint that names a command which is not there would be the last straw at night."""
    calls = {
        code: code.split()[1:] for text in chinese_texts() for code in CODE_SPAN.findall(text) if code[:5] == "tool "
    }
    assert len(calls) > 5
    wrong = [f"{code}: {problem_with(words)}" for code, words in calls.items() if problem_with(words)]
    assert not wrong, "\n" + "\n".join(wrong)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("migrate --to accounts", None),
        ("backup list", None),
        ("pagtive import --dry-run", None),
        ("backup restore", "no command restore"),
        ("fly", "no command fly"),
        ("migrate --now", "no option --now"),
    ],
)
def test_commands_that_do_not_exist_are_noticed(line, problem):
    """The rule for commands finds what breaks it, and nothing else."""
    assert problem_with(line.split()) == problem


@each_pair
def test_both_languages_have_the_same_sections(pair):
    """A page and its translation have headings of the same levels, in the same order, and as many tables' rows."""
    english, chinese = map(read, pair)
    assert [level for level, _ in headings(english)] == [level for level, _ in headings(chinese)]
    assert len(re.findall(r"^\|", english, re.MULTILINE)) == len(re.findall(r"^\|", chinese, re.MULTILINE))


@each_pair
def test_both_languages_have_the_same_code(pair):
    """A page and its translation tell one to type the same, in blocks of the same kinds."""
    english, chinese = map(read, pair)
    assert typed(english) == typed(chinese)
    assert [kind for kind, _ in CODE_BLOCK.findall(english)] == [kind for kind, _ in CODE_BLOCK.findall(chinese)]


@pytest.mark.parametrize("name", PAIRS[0])
def test_readme_starts_with_the_two_commands(name):
    """A newcomer finds `make demo` and `make test` first."""
    assert typed(read(name))[:2] == ["make demo", "make test"]


@pytest.mark.parametrize("name", PAIRS[0])
def test_readme_has_every_setting(name):
    """Each variable that the tool reads stands in the table of settings."""
    keys = set(re.findall(r'"((?:SOURCE_)?DATABASE_URL|ROLLOUT_[A-Z_]+)"', read("rollout/settings.py")))
    assert len(keys) >= 7
    table = set(re.findall(r"^\| `([A-Z_]+)`", read(name), re.MULTILINE))
    assert keys <= table


@each_runbook
def test_the_exit_codes_are_those_of_the_classes(name):
    """Each code has its row, and the row says the state that the class leaves the database in."""
    found = states(read(name))
    classes = {one.exit_code: one.default_database for one in error_classes()}
    assert set(found) == {0, 1, 2} | set(classes)
    speak = Speaker(chinese="zh" in name)
    for code, state in classes.items():
        assert found[code].startswith(speak.state(state)), code


def test_exit_codes_are_distinct():
    """One class, one code."""
    codes = [one.exit_code for one in error_classes()]
    assert len(codes) == len(set(codes)) > 10


@each_runbook
def test_the_runbook_names_the_families_in_their_order(name):
    """What one can say after --to is what the history has."""
    families = list(plan.families())
    named = re.findall(r"`([a-z]+)`", re.search(r"`baseline`.*?`pagtive`", read(name), re.DOTALL)[0])
    assert named == families


@each_page
def test_links_resolve(page):
    """Every link to a file of ours leads to one, and its anchor to a heading there."""
    text = CODE_SPAN.sub("", prose(page.read_text(encoding="utf-8")))
    links = [link for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link]
    assert [link for link in links if not leads_somewhere(page, *link.partition("#")[::2])] == []


def test_hints_lead_to_checks():
    """A hint that points into docs/checks.md finds the check's heading there."""
    sections = {title for _, title in headings(read("docs/checks.md"))}
    assert set(generator().CHECKS) <= sections


@each_page
def test_no_page_holds_a_password(page):
    """Examples have a user and a host, and the password elsewhere."""
    assert not re.search(r"://[^\s/@:]+:[^\s/@]+@", page.read_text(encoding="utf-8"))


def test_the_decisions_are_all_listed():
    """The list of decisions has each of them, by its title."""
    folder = Path(PROJECT / "docs" / "adr")
    listed = re.findall(r"^\d+\. \[(.+)\]\((.+)\)$", read("docs/adr/README.md"), re.MULTILINE)
    files = sorted(path.name for path in folder.glob("0*.md"))
    assert [name for _, name in listed] == files
    for number, (title, name) in enumerate(listed, start=1):
        assert (folder / name).read_text(encoding="utf-8").startswith(f"# {number}. {title}\n")
        assert name.startswith(f"{number:04d}-")


def test_checks_are_explained_in_both_languages():
    """docs/checks.md has each check's text in English and Chinese."""
    page = read("docs/checks.md")
    for check in generator().CHECKS.values():
        assert f"### {check.name}\n\n{check.doc}\n\n{in_chinese(check.doc)}\n" in page + "\n"
