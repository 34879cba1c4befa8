"""Where the room stands: above training, below what shows its verdicts."""

import ast
from pathlib import Path

import pytest

import optsweep

PACKAGE = Path(optsweep.__file__).parent
BELOW = {"config", "data", "models", "optim", "engine", "training", "diagnosis", "runs"}


def rooms_imported(module):
    """The rooms of optsweep that a module imports from, wherever in it."""
    nodes = ast.walk(ast.parse(module.read_text(encoding="utf-8")))
    froms = [node for node in nodes if isinstance(node, ast.ImportFrom)]
    named = {node.module for node in froms if (node.module or "").startswith("optsweep.")}
    named |= {f"optsweep.{a.name}" for n in froms if n.module == "optsweep" for a in n.names}
    return {name.split(".")[1] for name in named}


MODULES = sorted((PACKAGE / "diagnosis").glob("*.py"))


@pytest.mark.parametrize("module", MODULES, ids=lambda path: path.stem)
def test_it_imports_from_below_alone(module):
    assert rooms_imported(module) <= BELOW


@pytest.mark.parametrize("room", sorted(BELOW - {"diagnosis", "runs"}))
def test_what_is_below_does_not_import_it(room):
    for module in (PACKAGE / room).rglob("*.py"):
        assert "diagnosis" not in rooms_imported(module), module
