"""Messages: every template in the code has its Chinese text, and both say the same with the same values."""

import ast
import re
import string

import pytest

from rollout import verify
from rollout.checks.registry import CHECKS
from rollout.errors import LockNotAcquired
from rollout.messages import chinese_texts, in_chinese, say
from rollout.run import Run
from rollout.settings import PROJECT

FOLDERS = ("rollout", "datamigrations", "commands")

HAN = re.compile(r"[\u4e00-\u9fff]")
NOTHING_TO_TRANSLATE = re.compile(r".*;|(pip install|— tool) .*|\W*(\w+\}\W*)+")
"""Statements, commands, and texts of placeholders alone."""


def product():
    """Yield the product's files as (path from the project's root, syntax tree)."""
    for path in [PROJECT / "cli.py", *(found for folder in FOLDERS for found in (PROJECT / folder).rglob("*.py"))]:
        yield path.relative_to(PROJECT).as_posix(), ast.parse(path.read_text(encoding="utf-8"))


def calls(tree):
    """Yield every call of say() in a file."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and getattr(node.func, "id", getattr(node.func, "attr", "")) == "say":
            yield node


def all_calls():
    """Return every call of say() in the product, with the file where it stands."""
    return [(path, call) for path, tree in product() for call in calls(tree)]


def template_of(call):
    """Return the template of a call of say(), None where it is no literal."""
    first = call.args[0] if call.args else None
    return first.value if isinstance(first, ast.Constant) and isinstance(first.value, str) else None


def templates():
    """Return every template in the code, what checks say of themselves among them, with the first place of each."""
    assert verify.VERIFIED, "importing it registered every check"
    found = {str(check.doc): f"check {check.name}" for check in CHECKS.values()}
    for path, call in all_calls():
        found.setdefault(template_of(call), f"{path}:{call.lineno}")
    return found


def placeholders(template):
    """Return the names that a template leaves open."""
    return {name for _, name, _, _ in string.Formatter().parse(template) if name is not None}


def mistakes(call):
    """Yield what is wrong with a call of say()."""
    template = template_of(call)
    if template is None:
        yield "the template is no literal: no Chinese text can be found for it"
    elif all(keyword.arg for keyword in call.keywords):
        names = {keyword.arg for keyword in call.keywords}
        if names != placeholders(template):
            yield f"the values {sorted(names)} do not fit {template!r}"


def test_every_template_is_a_literal_and_gets_its_values():
    """A template that is put together, or lacks a value, would fail when an operator most needs it."""
    found = [
        f"{path}:{call.lineno} {one}" for path, tree in product() for call in calls(tree) for one in mistakes(call)
    ]
    assert not found, "\n" + "\n".join(found)


def test_every_template_has_a_chinese_text():
    """Nothing that operators read is in English only."""
    missing = [f"{where} {template!r}" for template, where in templates().items() if template not in chinese_texts()]
    assert not missing, "\nadd to rollout/chinese.json:\n" + "\n".join(missing)


def test_no_chinese_text_is_stale():
    """A text whose template has gone is taken out."""
    stale = chinese_texts().keys() - templates().keys()
    assert not stale, "\ntake out of rollout/chinese.json:\n" + "\n".join(stale)


@pytest.mark.parametrize("say_what", ["placeholders", "code"])
def test_both_languages_say_the_same(say_what):
    """The Chinese text has the same values, and the same things to type between backticks."""
    part = {"placeholders": placeholders, "code": lambda text: set(re.findall(r"`([^`]*)`", text))}[say_what]
    wrong = [english for english, chinese in chinese_texts().items() if part(english) != part(chinese)]
    assert not wrong, "\n" + "\n".join(wrong)


def test_every_chinese_text_is_chinese():
    """An English text copied over is no translation; statements and commands are the same in both."""
    left = [english for english, chinese in chinese_texts().items() if not HAN.search(chinese)]
    assert [english for english in left if not NOTHING_TO_TRANSLATE.fullmatch(english)] == []


def test_the_texts_stand_in_order():
    """Sorted, so that two branches that add texts rarely meet."""
    assert list(chinese_texts()) == sorted(chinese_texts())


@pytest.mark.parametrize(
    ("source", "count"),
    [
        ('say("{a} is gone", a=1)', 0),
        ('messages.say("gone")', 0),
        ('say("{a} is gone", **values)', 0),
        ('say(f"{a} is gone")', 1),
        ("say(template, a=1)", 1),
        ('say("{a} is gone")', 1),
        ('say("{a} is gone", a=1, b=2)', 1),
    ],
)
def test_mistakes_are_noticed(source, count):
    """The rule for calls finds what breaks it, and nothing else."""
    assert [len(list(mistakes(call))) for call in calls(ast.parse(source))] == [count]


def test_a_message_reads_in_both_languages():
    """Values that are messages are shown in the same language; the rest stays as it is."""
    message = say("{subject}: {problem}", subject="users.role", problem=say("{kind} is missing", kind="column"))
    assert message == "users.role: column is missing"
    assert in_chinese(message) == "users.role：缺失（column）"


def test_a_step_that_fails_says_why_in_both_languages():
    """The step keeps the message itself, not only its English text."""
    run = Run("migrate")
    with pytest.raises(LockNotAcquired), run.step("lock"):
        raise LockNotAcquired(say("not confirmed"), hint=say("Run this again."))
    assert run.steps[0].detail == "not confirmed"
    assert in_chinese(run.steps[0].detail) == "未获确认"


def test_what_has_no_chinese_text_stays_english():
    """A server's own words, or a template that is not in the table yet, are better than nothing."""
    assert in_chinese("FATAL: out of memory") == "FATAL: out of memory"
    assert in_chinese(say("{a} and {b}", a=1, b=2)) == "1 and 2"
