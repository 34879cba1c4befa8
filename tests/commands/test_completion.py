"""What a shell completes, and what --help tells: the programs beside cells and sweeps."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from optsweep.__main__ import COMMANDS
from optsweep.commands.completion import complete

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("line", "wanted", "asks_hydra"),
    [
        ("optsweep comp", ["compare"], True),
        ("optsweep export --to tr", ["trackio"], False),
        ("optsweep export --fo", ["--follow"], False),
        ("optsweep best --on", ["--onnx"], False),
        ("optsweep compare ra", ["rates"], False),
        ("optsweep report --o", ["--out"], False),
        ("optsweep optimizer=ad", [], True),
        ("optsweep lr-range optimizer=ad", [], True),
    ],
)
def test_what_is_completed(line, wanted, asks_hydra, tmp_path, monkeypatch, capsys):
    (tmp_path / "multirun" / "rates").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COMP_LINE", line)
    monkeypatch.setenv("COLUMNS", "80")
    assert complete(COMMANDS) is asks_hydra
    assert capsys.readouterr().out.split() == wanted


def said(*arguments: str, **variables: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "optsweep", *arguments],
        env=os.environ | {"PYTHONPATH": str(ROOT)} | variables,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def test_overrides_are_completed_behind_a_command():
    found = said("-sc", "query=bash", COMP_LINE="optsweep lr-range optimizer=ad", COMP_POINT="30")
    assert {"optimizer=adam", "optimizer=adamw"} <= set(found.split())


def test_help_names_every_command():
    text = said("--help")
    assert all(f"optsweep {name} " in text for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_does_not_import_what_it_may_not_need(name):
    heavy = ("torch", "pandas", "matplotlib", "tensorboard", "mlflow", "wandb", "trackio")
    program = (
        f"import sys; sys.argv = ['optsweep', '{name}', '--help']\n"
        "from optsweep.__main__ import main\n"
        "try:\n    main()\n"
        "except SystemExit as ended:\n    assert not ended.code\n"
        f"print([each for each in {heavy} if each in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "[]"
    assert done.stdout.startswith(f"usage: optsweep {name}")
