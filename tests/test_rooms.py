"""The rooms of the house, and the only direction in which one imports another."""

import ast
from collections.abc import Iterator
from pathlib import Path

import optsweep

PACKAGE = Path(optsweep.__file__).parent
# From the floor up: a room imports from its own row only itself, and from the rows before it all.
ROWS = (
    ("__init__", "interrupts", "processes"),
    ("config",),
    ("surroundings",),
    ("liveness", "provenance"),
    ("runs",),
    ("seals",),
    ("sweeps",),
    ("data", "models", "optim"),
    ("engine",),
    ("training",),
    ("diagnosis",),
    ("search",),
    ("report",),
    ("trackers",),
    ("cli",),
    ("study", "commands"),
    ("__main__",),
)
HEIGHT = {room: height for height, row in enumerate(ROWS) for room in row}
# What a user calls is at the door, whatever room it is done in.
AT_THE_DOOR = {("__init__", "training")}


def room_of(path: Path) -> str:
    inside = path.relative_to(PACKAGE).parts
    return inside[0] if len(inside) > 1 else path.stem


def imported(path: Path) -> Iterator[str]:
    """The rooms that a module imports, at any place in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.ImportFrom) and node.module == "optsweep":
            names = [f"optsweep.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        for name in names:
            top, _, rest = name.partition(".")
            room = rest.partition(".")[0]
            if top == "optsweep":
                is_room = room in HEIGHT or (bool(room) and (PACKAGE / room).is_dir())
                yield room if is_room else "__init__"


def test_a_room_imports_only_what_lies_below_it():
    paths = sorted(PACKAGE.rglob("*.py"))
    assert {room_of(path) for path in paths} <= HEIGHT.keys()  # or give it its place in ROWS
    upwards = [
        f"{path.relative_to(PACKAGE)} imports {room}"
        for path in paths
        for own, room in ((room_of(path), each) for each in imported(path))
        if room != own and HEIGHT[room] >= HEIGHT[own] and (own, room) not in AT_THE_DOOR
    ]
    assert not upwards
