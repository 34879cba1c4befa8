"""A folder of real runs on the slice: grids and a search."""

import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def optsweep_in(data_root):
    """`optsweep_in(folder, *arguments) -> (code, output, errors)`, in a process of its own."""

    def ran(folder: Path, *arguments: str) -> tuple[int, str, str]:
        done = subprocess.run(
            [sys.executable, "-m", "optsweep", *arguments],
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )
        return done.returncode, done.stdout, done.stderr

    return ran


@pytest.fixture(scope="session")
def on_slice(data_root) -> list[str]:
    """What lets a command line train quickly on the slice."""
    return [
        "--config-dir",
        str(TESTS / "conf"),
        "dataset=slice",
        f"dataset.root={data_root}",
        *("trainer.device=cpu", "trainer.epochs=2", "dataset.val_size=200", "num_seeds=5"),
    ]


@pytest.fixture(scope="session")
def trained(optsweep_in, on_slice, tmp_path_factory) -> Path:
    """A folder with `multirun`: the grids `rates` and `gauss`, and the search `mine`."""
    folder = tmp_path_factory.mktemp("trained")
    many = ["--multirun", *on_slice]
    space = ["optimizer.lr=tag(log,interval(1e-2,1.0))", "momentum=interval(0.0,0.9)"]
    search = ["hydra/sweeper=optuna", "hydra.sweeper.n_trials=4", "name=mine", "num_seeds=2"]
    for arguments in (
        [*many, "name=rates", "optimizer.lr=0.1,0.3", "trainer.keep_weights=true"],
        [*many, "name=gauss", "optimizer.lr=0.1,0.3", "init=gaussian"],
        [*many, *search, *space],
    ):
        code, output, errors = optsweep_in(folder, *arguments)
        assert code == 0, output + errors
    return folder
