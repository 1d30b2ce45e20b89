"""The architecture, proven over the syntax trees: import arrows, who may do what, sizes, docstrings."""

import ast
import functools
import sys

import pytest

from rollout.settings import PROJECT

LAYERS = ["models", "rollout", "datamigrations", "commands", "cli"]
"""Lowest first: a layer imports itself and lower ones, never a higher one; the last two are the command line."""

REVISIONS = "alembic/versions/"
ENTRY = "alembic/env.py"
READS_ENVIRONMENT = {"rollout/settings.py"}
RUNS_PROGRAMS = {"rollout/postgres_tools.py", "rollout/embedded.py", "rollout/linter.py"}
MODULE_LINES = 300
FUNCTION_LINES = 40

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


@functools.cache
def sources(*patterns):
    """Return the project's files that match, as (path from the project's root, syntax tree)."""
    paths = sorted({path for pattern in patterns for path in PROJECT.glob(pattern)})
    assert paths, f"nothing matches {patterns}"
    return [(path.relative_to(PROJECT).as_posix(), ast.parse(path.read_text(encoding="utf-8"))) for path in paths]


def product():
    """Return the files of the product itself: no tests, no benchmarks."""
    return sources("*.py", *(f"{layer}/**/*.py" for layer in LAYERS), "alembic/**/*.py", "docs/**/*.py")


def imported(path, tree):
    """Yield (line, module) for every import of a file, wherever it stands; relative ones are resolved."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = path.split("/")[: -node.level] if node.level else []
            yield node.lineno, ".".join([*above, *([node.module] if node.module else [])])


def used_of_os(tree):
    """Yield (line, name) for everything that a file takes from the module os."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "os":
            yield node.lineno, node.attr
        elif isinstance(node, ast.ImportFrom) and node.module == "os":
            yield from ((node.lineno, alias.name) for alias in node.names)


def layer_of(path):
    """Return the layer that a file belongs to: its folder, or its own name at the root."""
    return path.split("/")[0].removesuffix(".py")


def allowed_project_imports(path):
    """Return which of our layers a file may import."""
    if path.startswith(REVISIONS):
        return set()
    if path == ENTRY:
        return {"models", "rollout"}
    layer = layer_of(path)
    return set(LAYERS[: LAYERS.index(layer) + 1]) if layer in LAYERS else set(LAYERS)


def wrong_imports(path, tree):
    """Yield imports against the arrows; a revision may import Alembic, SQLAlchemy and the standard library only."""
    for line, module in imported(path, tree):
        top = module.split(".")[0]
        if top in LAYERS and top not in allowed_project_imports(path):
            yield f"{path}:{line} imports {module}: against the arrows {' → '.join(reversed(LAYERS))}"
        elif path.startswith(REVISIONS) and top not in {"alembic", "sqlalchemy", *sys.stdlib_module_names}:
            yield f"{path}:{line} imports {module}: revisions import alembic, sqlalchemy and the standard library only"


def wrong_environment(path, tree):
    """Yield reads of the environment outside of rollout/settings.py."""
    names = {"environ", "environb", "getenv", "getenvb", "putenv", "unsetenv"}
    for line, name in used_of_os(tree) if path not in READS_ENVIRONMENT else ():
        if name in names:
            yield f"{path}:{line} reads the environment: only rollout/settings.py may"


def wrong_programs(path, tree):
    """Yield what runs other programs outside of the modules that are there for it."""
    for line, module in imported(path, tree) if path not in RUNS_PROGRAMS else ():
        if module.split(".")[0] in {"subprocess", "pty", "multiprocessing"}:
            yield f"{path}:{line} imports {module}: only {', '.join(sorted(RUNS_PROGRAMS))} may"
    for line, name in used_of_os(tree):
        if name in {"system", "popen"} or name.startswith(("exec", "spawn", "posix_spawn")):
            yield f"{path}:{line} calls os.{name}: use subprocess where it is allowed"


def wrong_output(path, tree):
    """Yield what prints outside of the command line."""
    for node in ast.walk(tree) if layer_of(path) in LAYERS[:-2] else ():
        if isinstance(node, ast.Name) and node.id == "print":
            yield f"{path}:{node.lineno} prints: only the command line may"
        elif isinstance(node, ast.Attribute) and node.attr in {"echo", "secho"}:
            yield f"{path}:{node.lineno} calls {node.attr}: only the command line may"


def too_long(path, tree):
    """Yield modules and functions that have two jobs; revisions are lists, and may be long."""
    if path.startswith(REVISIONS):
        return
    lines = tree.body[-1].end_lineno if tree.body else 0
    if lines > MODULE_LINES:
        yield f"{path} has {lines} lines: past {MODULE_LINES} it has two jobs"
    for node in ast.walk(tree):
        if isinstance(node, FUNCTIONS) and (lines := _lines_of(node)) > FUNCTION_LINES:
            yield f"{path}:{node.lineno} {node.name}() has {lines} lines: past {FUNCTION_LINES} it has two jobs"


def _lines_of(function):
    """Return a function's lines; a signature with an option a line counts as one, it is no job."""
    return function.end_lineno - function.body[0].lineno + 2


def undocumented(path, tree):
    """Yield modules, and public classes, functions and methods, without a docstring."""
    if not ast.get_docstring(tree):
        yield f"{path} has no docstring"
    inside_revision = path.startswith(REVISIONS)  # upgrade() and downgrade() are explained by the module's docstring
    open_bodies = [] if inside_revision else [tree]
    while open_bodies:
        for node in open_bodies.pop().body:
            if not isinstance(node, (*FUNCTIONS, ast.ClassDef)) or node.name.startswith("_"):
                continue
            if not ast.get_docstring(node):
                yield f"{path}:{node.lineno} {node.name} has no docstring"
            if isinstance(node, ast.ClassDef):
                open_bodies.append(node)


def undocumented_tests(path, tree):
    """Yield tests that do not say what they hold."""
    for node in ast.walk(tree):
        if isinstance(node, FUNCTIONS) and node.name.startswith("test_") and not ast.get_docstring(node):
            yield f"{path}:{node.lineno} {node.name} has no docstring"


RULES = [wrong_imports, wrong_environment, wrong_programs, wrong_output, too_long, undocumented]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_product_keeps_the_rule(rule):
    """Every file of the product keeps every rule."""
    found = [violation for path, tree in product() for violation in rule(path, tree)]
    assert not found, "\n" + "\n".join(found)


def test_every_test_says_what_it_holds():
    """A test's docstring is the claim that it can falsify."""
    found = [one for path, tree in sources("tests/**/test_*.py") for one in undocumented_tests(path, tree)]
    assert not found, "\n" + "\n".join(found)


def test_no_package_shadows_alembic():
    """An __init__.py in alembic/ or tests/alembic/ would hide the library from everyone."""
    assert not [folder for folder in ("alembic", "tests/alembic") if (PROJECT / folder / "__init__.py").exists()]
    assert not (PROJECT / "tests" / "alembic").exists()


def test_no_module_escapes_the_layers():
    """A new package or module at the root has to take its place among the layers."""
    modules = {path.stem for path in PROJECT.glob("*.py")}
    packages = {path.parent.name for path in PROJECT.glob("*/__init__.py")}
    assert modules | packages == set(LAYERS)


@pytest.mark.parametrize(
    ("rule", "path", "source"),
    [
        (wrong_imports, "models/core.py", "from rollout import plan"),
        (wrong_imports, "models/core.py", "def late():\n    import rollout.plan"),
        (wrong_imports, "rollout/plan.py", "if TYPE_CHECKING:\n    from datamigrations.job import Job"),
        (wrong_imports, "datamigrations/job.py", "import cli"),
        (wrong_imports, "alembic/env.py", "from datamigrations import job"),
        (wrong_imports, "alembic/versions/1_x.py", "from models import metadata"),
        (wrong_imports, "alembic/versions/1_x.py", "import psycopg2"),
        (wrong_environment, "rollout/plan.py", "import os\nos.environ['HOME']"),
        (wrong_environment, "cli.py", "from os import getenv"),
        (wrong_programs, "rollout/plan.py", "import subprocess"),
        (wrong_programs, "cli.py", "from subprocess import run"),
        (wrong_programs, "rollout/embedded.py", "import os\nos.system('ls')"),
        (wrong_output, "rollout/plan.py", "print('x')"),
        (wrong_output, "datamigrations/job.py", "import typer\ntyper.echo('x')"),
        (too_long, "rollout/plan.py", "\n" * MODULE_LINES + "x = 1"),
        (too_long, "rollout/plan.py", "def f():\n" + "    x = 1\n" * FUNCTION_LINES),
        (undocumented, "rollout/plan.py", "x = 1"),
        (undocumented, "rollout/plan.py", "'''Doc.'''\nclass C:\n    '''Doc.'''\n    def m(self): ..."),
        (undocumented_tests, "tests/test_x.py", "def test_x(): ..."),
    ],
)
def test_each_rule_notices_what_breaks_it(rule, path, source):
    """A rule that lets everything pass would prove nothing."""
    assert len(list(rule(path, ast.parse(source)))) == 1


@pytest.mark.parametrize(
    ("rule", "path", "source"),
    [
        (wrong_imports, "cli.py", "from datamigrations import job\nfrom rollout import plan\nimport models, typer"),
        (wrong_imports, "rollout/checks/data.py", "from . import registry\nfrom .. import plan\nfrom models import x"),
        (wrong_imports, "alembic/env.py", "from rollout import environment\nfrom models import metadata"),
        (wrong_imports, "alembic/versions/1_x.py", "import json\nimport sqlalchemy as sa\nfrom alembic import op"),
        (wrong_environment, "rollout/settings.py", "import os\nos.environ['HOME']"),
        (wrong_programs, "rollout/postgres_tools.py", "import subprocess"),
        (wrong_output, "cli.py", "print('x')"),
        (too_long, "rollout/plan.py", "\n" * (MODULE_LINES - 1) + "x = 1"),
        (too_long, "rollout/plan.py", "def f():\n" + "    x = 1\n" * (FUNCTION_LINES - 1)),
        (too_long, "alembic/versions/1_x.py", "def upgrade():\n" + "    x = 1\n" * MODULE_LINES),
        (undocumented, "rollout/plan.py", "'''Doc.'''\ndef _private(): ..."),
    ],
)
def test_each_rule_lets_pass_what_keeps_it(rule, path, source):
    """A rule that cries wolf would be switched off."""
    assert list(rule(path, ast.parse(source))) == []
