"""Output that is closed, full, cut off or short of letters: what is trained goes on."""

import sys

import pytest

from optsweep import runs

CELL = ("trainer.epochs=2", "num_seeds=2")
POSIX = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}


@pytest.fixture
def shell(run):
    """`shell(redirection)`: the program, started by a shell that does this to its streams."""

    def ran(redirection: str, *arguments: str) -> tuple[int, str, str]:
        script = f'set -o pipefail; "$@" {redirection}'
        call = "import os, sys; os.execvp('bash', ['bash', *sys.argv[1:]])"
        module = ("-c", call, "-c", script, "bash", sys.executable, "-m", "optsweep")
        return run(*arguments, module=module)

    return ran


def finished(root) -> list:
    return list((root / "multirun" / "cells").glob(f"*/{runs.RESULT_FILE}"))


@pytest.mark.parametrize("redirection", ["<&- >&- 2>&-", "2>&1 | head -n 1"])
def test_a_cell_is_finished_without_output(shell, tmp_path, redirection):
    code, _, errors = shell(redirection, *CELL)
    assert (code, errors) == (0, "")
    assert len(finished(tmp_path)) == 1


def test_a_cell_is_finished_on_a_full_output_that_is_told_of_once(shell, tmp_path):
    code, output, errors = shell(">/dev/full", *CELL)
    assert (code, output) == (0, "")
    told = "standard output cannot be written (No space left on device); it goes on without"
    assert errors == f"optsweep: warning: {told}\n"
    assert len(finished(tmp_path)) == 1


def test_a_sweep_side_by_side_is_finished_without_output(shell, tmp_path):
    side_by_side = ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "seed=0,1")
    code, _, errors = shell(">&- 2>&-", "--multirun", *CELL, *side_by_side)
    assert (code, errors) == (0, "")
    assert len(finished(tmp_path)) == 2


def test_letters_that_cannot_be_shown_are_replaced(run):
    code, output, errors = run(*CELL, **POSIX)
    assert (code, errors) == (0, "")
    assert output.isascii()
    assert "accuracy 0.2" in output
    assert " +- 0.0" in output
