"""The rules for revision files, held without a database: names, declarations, docstrings, imports, one history."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory

from models import core, metadata

if TYPE_CHECKING:
    from alembic.script import Script

ROOT = Path(__file__).parents[2]
VERSIONS = ROOT / "alembic" / "versions"
FILES = sorted(VERSIONS.glob("*.py"))
VERBS = "create|add|drop|rename|index|constrain|validate|backfill|seed"
NAME = re.compile(rf"20\d\d(0[1-9]|1[0-2])([0-2]\d|3[01])_(?P<revision>[0-9a-f]{{12}})_({VERBS})_[a-z0-9_]+\.py")
FAMILIES = [
    "baseline",
    "auth",
    "levels",
    "memberships",
    "matching",
    "points",
    "credits",
    "penalties",
    "enterprise",
    "performance",
    "accounts",
    "pagtive",
]
LEGACY = {
    model.__tablename__ for model in vars(core).values() if isinstance(model, type) and hasattr(model, "__table__")
}
LOCK_MODES = {"ACCESS SHARE", "SHARE ROW EXCLUSIVE", "ACCESS EXCLUSIVE"}
MAKES_TO_REMOVES = {
    "create_table": "drop_table",
    "create_index": "drop_index",
    "create_trigger": "drop_trigger",
    "create_function": "drop_function",
    "create_view": "drop_view",
    "create_enum": "drop_enum",
    "add_column": "drop_column",
    "create_check_constraint": "drop_constraint",
    "create_unique_constraint": "drop_constraint",
    "ensure_random_uuid": "drop_random_uuid",
}
"""Each operation of upgrade(), and the one that downgrade() must have for it."""

each_file = pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem[9:])


def scripts() -> list[Script]:
    """Return the revisions, first to last, as Alembic reads them."""
    directory = ScriptDirectory.from_config(Config(ROOT / "alembic.ini"))
    return list(reversed(list(directory.walk_revisions())))


each_script = pytest.mark.parametrize("script", scripts(), ids=lambda script: Path(script.path).stem[9:])


def operations(tree: ast.AST) -> list[ast.Call]:
    """Return every call of ``op.something(…)`` in a tree."""
    return [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id == "op"
    ]


def calls(function: ast.FunctionDef, module: ast.Module) -> set[str]:
    """Return the names of the operations that a function calls, itself or through the module's own functions."""
    names = {
        node.func.id for node in ast.walk(function) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    called = [node for node in module.body if isinstance(node, ast.FunctionDef) and node.name in names]
    return {call.func.attr for tree in [function, *called] for call in operations(tree)}


def functions(path: Path) -> tuple[ast.Module, ast.FunctionDef, ast.FunctionDef]:
    """Return a revision's tree, its upgrade() and its downgrade()."""
    module = ast.parse(path.read_text(encoding="utf-8"))
    named = {node.name: node for node in module.body if isinstance(node, ast.FunctionDef)}
    return module, named["upgrade"], named["downgrade"]


def test_every_file_is_part_of_the_one_line_of_history() -> None:
    """One head, one base, no branch, no file that is left out."""
    history = scripts()
    assert [script.down_revision for script in history] == [None, *(script.revision for script in history[:-1])]
    assert sorted(Path(script.path) for script in history) == FILES


def test_the_folder_is_no_package() -> None:
    """An ``__init__.py`` beside env.py or in versions/ would shadow the library."""
    assert list((ROOT / "alembic").rglob("__init__.py")) == []


def test_families_come_in_their_order_each_in_one_piece() -> None:
    """Rolling back to a family leaves that family and all before it."""
    families = [script.module.family for script in scripts()]
    assert list(dict.fromkeys(families)) == FAMILIES
    assert families == sorted(families, key=FAMILIES.index)


def test_the_baseline_has_a_name_for_sql_scripts() -> None:
    """``alembic upgrade baseline:head --sql`` is what an existing database needs."""
    assert {script.module.branch_labels for script in scripts()[1:]} == {None}
    assert scripts()[0].module.branch_labels == ("baseline",)


@each_file
def test_file_name_says_date_revision_verb_and_what(path: Path) -> None:
    """YYYYMMDD_<12 hex digits>_<verb>_<what>.py, with the revision's own id."""
    match = NAME.fullmatch(path.name)
    assert match, f"{path.name}: rename to YYYYMMDD_<rev>_<verb>_<what>.py, the verb one of {VERBS}"
    assert f'\nrevision = "{match["revision"]}"\n' in path.read_text(encoding="utf-8")


@each_script
def test_declarations_are_complete_and_of_their_types(script: Script) -> None:
    """What the plan reads from a revision is there, and right."""
    module = script.module
    assert module.depends_on is None
    assert module.family in FAMILIES
    assert type(module.atomic) is bool
    assert type(module.reversible) is bool
    assert set(module.locks) <= LEGACY, "locks names tables that were there before all our revisions"
    assert set(module.locks.values()) <= LOCK_MODES


@each_file
def test_declarations_stand_between_docstring_and_code(path: Path) -> None:
    """Each declaration once, at the top level, in the order of the template."""
    body = ast.parse(path.read_text(encoding="utf-8")).body
    names = [node.targets[0].id for node in body if isinstance(node, ast.Assign)]
    expected = ["revision", "down_revision", "branch_labels", "depends_on", "family", "atomic", "reversible", "locks"]
    assert names[: len(expected)] == expected


@each_file
def test_docstring_says_what_changes_and_which_locks(path: Path) -> None:
    """First a sentence on what changes for the application, then a paragraph on locks."""
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    first, _, rest = docstring.partition("\n\n")
    assert re.fullmatch(r"[A-Z][^\n]+\.", first)
    assert re.match(r"Locks: \S.+", rest)


@each_script
def test_docstring_names_the_tables_that_are_locked(script: Script) -> None:
    """What is declared to the plan is also said to the reader."""
    _, _, rest = script.module.__doc__.partition("\n\n")
    for table, mode in script.module.locks.items():
        assert re.search(rf"\b{table}\b", rest), f"the docstring does not name {table}"
        assert mode in rest, f"the docstring does not name {mode}"


@each_file
def test_imports_nothing_of_ours(path: Path) -> None:
    """Frozen: models and rollout change, a revision does not."""
    modules = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            modules |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "a revision never imports another one"
            modules.add((node.module or "").split(".")[0])
    assert modules <= {"alembic", "sqlalchemy", *sys.stdlib_module_names}


@each_file
def test_no_bare_sql_and_nothing_read(path: Path) -> None:
    """``op.execute`` only for statements built from a literal table; no bind, so that --sql works."""
    module, _, _ = functions(path)
    for call in operations(module):
        assert call.func.attr not in {"get_bind", "get_context", "run_async", "bulk_insert", "batch_alter_table"}
        if call.func.attr == "execute":
            assert isinstance(call.args[0], ast.Call), f"line {call.lineno}: use an operation instead of bare SQL"
    for node in ast.walk(module):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            assert not re.search(r"DROP [^;]*CASCADE", node.value), f"line {node.lineno}: name what depends instead"


@each_file
def test_downgrade_takes_back_what_upgrade_makes(path: Path) -> None:
    """Each kind of operation has its reverse; indexes and triggers too: a table that was there before us stays."""
    module, upgrade, downgrade = functions(path)
    made, removed = calls(upgrade, module), calls(downgrade, module)
    assert {MAKES_TO_REMOVES[name] for name in made & MAKES_TO_REMOVES.keys()} <= removed
    assert made - MAKES_TO_REMOVES.keys() <= {"f", "alter_column", "backfill", "execute"}


@each_file
def test_names_are_literal_and_short_enough(path: Path) -> None:
    """PostgreSQL cuts names after 63 bytes; a name not in ``op.f`` would follow the convention of another day."""
    module, _, _ = functions(path)
    for node in ast.walk(module):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and re.fullmatch(r"[a-z_0-9]+", node.value):
            assert len(node.value) <= 63, node.value
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr.endswith("Constraint")
        ):
            name = next((keyword.value for keyword in node.keywords if keyword.arg == "name"), None)
            assert isinstance(name, (ast.Call, ast.Constant)), f"line {node.lineno}: a constraint without a name"


def test_names_are_those_of_the_models() -> None:
    """Every name of a constraint or index of the models stands, letter by letter, in a revision."""
    text = "\n".join(path.read_text(encoding="utf-8") for path in FILES)
    for table in metadata.tables.values():
        for item in [*table.constraints, *table.indexes]:
            assert f'"{item.name}"' in text, f"{item.name} stands in no revision"
