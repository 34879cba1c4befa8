"""What a result tells of the code that made it, and what is made of that."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from llvmlite import binding

import optsweep
from optsweep import provenance, runs
from optsweep.config.schema import Config, ModuleConfig

PACKAGE = Path(optsweep.__file__).parent


@pytest.fixture
def copy(tmp_path):
    """A copy of the package, whose sources can be changed."""
    shutil.copytree(PACKAGE, tmp_path / "copy" / "optsweep")
    shutil.copytree(PACKAGE.parent / "conf", tmp_path / "copy" / "conf")
    return tmp_path / "copy"


def told(root: Path) -> dict:
    (path,) = root.glob(f"multirun/cells/*/{runs.RESULT_FILE}")
    return json.loads(path.read_text())


def change(copy: Path, module: str) -> None:
    path = copy / "optsweep" / module
    path.write_text(path.read_text() + "\n# changed\n")


def test_a_result_tells_what_made_it(run, tmp_path, slice_config):
    assert run("trainer.epochs=1")[0] == 0
    result = told(tmp_path)
    assert result["sources"] == provenance.sources(Config())
    assert {name: result["versions"][name] for name in ("torch", "numpy")} == {
        "torch": torch.__version__.partition("+")[0],
        "numpy": np.__version__,
    }
    assert {"numba", "scipy", "python", "optsweep"} < result["versions"].keys()
    assert result["data"] == slice_config().dataset.source["sha256"]
    assert result["processor"] == provenance.processor()
    assert (result["device"], result["engine"], result["num_threads"]) == ("cpu", "numba", 1)


def asked(copy: Path, expression: str) -> str:
    """What the copy's `provenance` says."""
    code = f"from optsweep import provenance; print(provenance.{expression})"
    return subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(copy)},
        cwd=copy,
    ).stdout.strip()


def test_a_processor_s_vectors_are_named():
    features, name = binding.get_host_cpu_features(), provenance.processor()
    if not features.get("avx2"):
        pytest.skip("not a processor with AVX2")
    if not Path("/proc/cpuinfo").exists():
        pytest.skip("a system that does not list what its processor can")
    assert name.endswith(", AVX-512" if features.get("avx512f") else ", AVX2")


def test_rooms_that_ask_for_cells_and_tell_of_them_decide_nothing(copy):
    own = provenance._own_fingerprint()
    assert asked(copy, "_own_fingerprint()") == own
    change(copy, "report/tables.py")
    change(copy, "cli/app.py")
    assert asked(copy, "_own_fingerprint()") == own
    change(copy, "training/loop.py")
    assert asked(copy, "_own_fingerprint()") != own


def test_the_commit_is_that_of_the_checkout(copy):
    """Not that of a repository in which the package happens to be installed."""

    def git(*arguments: str) -> str:
        who = ("-c", "user.name=a", "-c", "user.email=a@b")
        command = ("git", "-C", str(copy), *who, *arguments)
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    def commit() -> str:
        return asked(copy, "_commit()")

    git("init", "-q")
    assert commit() == "None"
    git("add", "optsweep/__init__.py")
    git("commit", "-q", "-m", "one")
    assert commit() == git("rev-parse", "HEAD")
    change(copy, "__init__.py")
    assert commit() == git("rev-parse", "HEAD") + "-dirty"


def test_what_other_code_made_is_used_and_trained_again_if_asked_for(copy, run, tmp_path):
    cell = ("trainer.epochs=1", "seed=3", "trainer.engine=torch")
    grid = ("--multirun", *cell, "seed=3,4")
    assert run(*grid)[0] == 0
    (other,) = (tmp_path / "multirun" / "cells").glob("*seeds_4*")
    elsewhere = {"PYTHONPATH": str(copy)}
    change(copy, "optim/layerwise.py")
    before = (other / runs.RESULT_FILE).read_bytes()
    code, output, errors = run(*cell, **elsewhere)
    assert (code, errors) == (0, "")
    known = json.loads(before)["sources"]["optsweep"]
    assert f"done before by other sources of optsweep ({known}" in output
    assert "(rerun=stale trains it again)" in output
    _, output, _ = run(*grid, **elsewhere)
    assert output.count("2 of 2 cells done before by other code: other sources of optsweep") == 1
    assert (other / runs.RESULT_FILE).read_bytes() == before

    assert run(*cell, "rerun=stale", **elsewhere)[1].count("results: ") == 1
    output = run(*grid, "rerun=stale", **elsewhere)[1]
    assert (output.count("results: "), output.count("done before: ")) == (1, 1)
    assert json.loads((other / runs.RESULT_FILE).read_text())["sources"]["optsweep"] != known


def test_rerun_has_three_values(run):
    code, output, errors = run("rerun=old")
    assert (code, output) == (2, "")
    assert errors == "optsweep: error: rerun=old: expected true, false or stale\n"


def test_other_libraries_are_other_code_where_they_compute():
    made = {**provenance.made_by(Config()), "engine": "numba"}
    assert provenance.by_other_code(made, Config()) == ""
    assert provenance.by_other_code({"versions": made["versions"]}, Config()) == (
        "an unknown version"
    )
    older = made | {"versions": made["versions"] | {"numba": "0.1", "python": "2.7"}}
    assert provenance.by_other_code(older, Config()) == "numba 0.1"
    assert provenance.by_other_code(older | {"engine": "torch"}, Config()) == ""


def test_the_rooms_that_decide_are_those_that_training_imports():
    """A room that training comes to depend on, or one more, has to be in the list."""
    code = (
        "import sys, optsweep.training.cell, optsweep.training.plan; "
        "print(*{name.split('.')[1] for name in sys.modules if name.startswith('optsweep.')})"
    )
    imported = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    rooms = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert rooms.intersection(imported) == set(provenance.DECIDING_ROOMS)


def test_sources_of_the_user_s_own_count(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "sources_mine").mkdir()
    path = tmp_path / "sources_mine" / "networks.py"
    path.write_text("raise SystemExit('it is not imported')")
    config = Config(model=ModuleConfig("sources_mine.networks.Wide"))
    made = {**provenance.made_by(config), "engine": "torch"}
    assert made["sources"].keys() == {"optsweep", "sources_mine"}
    assert provenance.by_other_code(made, config) == ""
    path.write_text("# other\n")
    provenance._fingerprint_of.cache_clear()
    assert provenance.by_other_code(made, config).startswith("other sources of sources_mine (")
