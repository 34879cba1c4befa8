"""The versions that a study was made with, as pip reads them."""

import subprocess
import sys
from importlib import metadata

from packaging.requirements import Requirement

from optsweep import provenance, runs
from optsweep.config.schema import Config
from optsweep.study.constraints import installed, keep_constraints

HERE = {**provenance.made_by(Config()), "engine": "numba"}
OLD = {"engine": "torch", "versions": {"torch": "1.0.0"}}  # all that earlier results have


def test_pip_finds_everything_in_it_installed(tmp_path):
    assert keep_constraints(tmp_path / "report", [HERE]) == ""
    path = tmp_path / "report" / runs.CONSTRAINTS_FILE
    lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
    names = [Requirement(line).name for line in lines]
    assert {"torch", "numba", "llvmlite", "numpy", "hydra-core"} <= {*names}
    assert "optsweep" not in names
    assert "ruff" not in names  # of an extra that was not asked for
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--no-index", "--no-deps"]
    done = subprocess.run(
        [*command, "-c", str(path), "-r", str(path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Requirement already satisfied") == len(names)


def test_a_study_is_not_said_to_be_made_with_what_is_installed_if_it_was_not(tmp_path):
    line = keep_constraints(tmp_path, [OLD, OLD])
    assert line == (
        "no constraints.txt: no cell was made with what is installed, but by torch 1.0.0"
    )
    assert list(tmp_path.iterdir()) == []
    keep_constraints(tmp_path, [OLD, HERE, HERE])
    text = (tmp_path / runs.CONSTRAINTS_FILE).read_text()
    assert "\n# 1 of 3 cells were made with torch 1.0.0\n" in text


def test_extras_are_followed_if_they_are_asked_for():
    assert "pytest" not in installed("optsweep")
    assert installed("optsweep[test]")["pytest"] == metadata.version("pytest")
