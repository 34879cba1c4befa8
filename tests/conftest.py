"""Fixtures that all tests share: configurations, and the small slice of real images."""

import functools
import gzip
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import optsweep.training.cell
from optsweep.cli import composition
from optsweep.config.schema import Config
from optsweep.data.arrays import Arrays
from optsweep.data.files import FILES
from optsweep.training.cell import train_cell
from optsweep.training.plan import plan_cell

TESTS = Path(__file__).resolve().parent
SEARCH_PATH = f"hydra.searchpath=[file://{TESTS / 'conf'}]"


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    """Networks this small gain nothing from threads, and workers of xdist share the cores."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def _interrupts():
    """A shell that starts tests in the background has them and their programs ignore these."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def data_root(tmp_path_factory) -> Path:
    """A `dataset.root` with the slice; not the checkout's, for decoded files are kept there."""
    root = tmp_path_factory.mktemp("data")
    shutil.copytree(TESTS / "data" / "slice", root / "slice")
    return root


@pytest.fixture(scope="session")
def compose():
    """`compose(*overrides) -> Config`, what a command line with these overrides trains.

    As with `--config-dir tests/conf`, whose options can be named beside those of `conf`.
    """

    @functools.cache
    def composed(*overrides: str) -> Config:
        return composition.compose(SEARCH_PATH, *overrides)

    return composed


@pytest.fixture(scope="session")
def slice_settings(data_root) -> list[str]:
    """What a command line needs to train on the slice, with one thread."""
    on_cpu = ["trainer.device=cpu", "trainer.num_threads=1"]
    return [SEARCH_PATH, "dataset=slice", f"dataset.root={data_root}", *on_cpu]


@pytest.fixture(scope="session")
def slice_config(compose, data_root):
    """`slice_config(*overrides) -> Config`, a cell on 1000 training and 200 test images."""
    return lambda *overrides: compose(
        "dataset=slice", f"dataset.root={data_root}", "trainer.device=cpu", *overrides
    )


@pytest.fixture(scope="session")
def example_arrays():
    """`example_arrays(kind) -> Arrays` of 300 training and 100 test images of the slice.

    - grey: (28, 28) bytes, most of them 0;
    - standardised: (28, 28) floats of mean 0 and variance 1, none of them 0;
    - vectors: the 37 inputs among these that vary most;
    - colour: (32, 32, 3) bytes: the image, its mirror and its negative, with a border.
    """

    @functools.cache
    def arrays(kind: str) -> Arrays:
        raw = [
            gzip.decompress((TESTS / "data/slice" / f"{file}.gz").read_bytes()) for file in FILES
        ]
        grey = [np.frombuffer(raw[i], np.uint8, offset=16).reshape(-1, 28, 28) for i in (0, 2)]
        labels = [np.frombuffer(raw[i], np.uint8, offset=8) for i in (1, 3)]
        grey, labels = [grey[0][:300], grey[1][:100]], [labels[0][:300], labels[1][:100]]
        spread = grey[0].std(0) + 1
        dense = [((x - grey[0].mean(0) - 0.1) / spread).astype(np.float32) for x in grey]
        varying = np.argsort(-grey[0].std(0).ravel(), kind="stable")[:37]
        framed = [np.pad(x, ((0, 0), (2, 2), (2, 2))) for x in grey]
        images = {
            "grey": grey,
            "standardised": dense,
            "vectors": [x.reshape(-1, 784)[:, varying] for x in dense],
            "colour": [np.stack([x, x[:, :, ::-1], 255 - x], axis=3) for x in framed],
        }[kind]
        return Arrays(images[0], labels[0], images[1], labels[1])

    return arrays


@pytest.fixture(scope="session")
def npz_file(example_arrays, tmp_path_factory):
    """`npz_file(kind) -> Path` of an .npz with these arrays."""

    @functools.cache
    def path(kind: str) -> Path:
        file = tmp_path_factory.mktemp("npz") / f"{kind}.npz"
        np.savez(file, **example_arrays(kind)._asdict())
        return file

    return path


@pytest.fixture(scope="session")
def npz_config(compose, npz_file):
    """`npz_config(kind, *overrides) -> Config`, a cell on these arrays."""
    return lambda kind, *overrides: compose(
        "dataset=npz", f"dataset.path={npz_file(kind)}", "trainer.device=cpu", *overrides
    )


@pytest.fixture
def train_and_keep(monkeypatch):
    """`train_and_keep(config) -> Record, StackedMLP`: train a cell, and keep the network too."""

    def trained(config: Config):
        engines = []

        def spy(engine, *arguments):
            engines.append(engine)
            return train(engine, *arguments)

        train = optsweep.training.loop.train
        monkeypatch.setattr(optsweep.training.cell, "train", spy)
        record = train_cell(plan_cell(config))
        return record, engines[0].model

    return trained


def slice_arguments(data_root) -> list[str]:
    on_cpu = ("dataset=slice", f"dataset.root={data_root}", "trainer.device=cpu")
    return ["--config-dir", str(TESTS / "conf"), *on_cpu]


def program_environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(TESTS.parent), "COLUMNS": "120"}


@pytest.fixture
def start(tmp_path, data_root):
    """`start(*arguments)`: the program on the slice, in an empty folder."""

    def started(
        *arguments: str, module=("-m", "optsweep"), new_session=False, **environment: str
    ) -> subprocess.Popen:
        return subprocess.Popen(
            [sys.executable, *module, *slice_arguments(data_root), *arguments],
            cwd=tmp_path,
            env=program_environment() | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=new_session,
        )

    return started


@pytest.fixture(scope="session")
def program_server():
    """See the module of this name."""
    with subprocess.Popen(
        [sys.executable, TESTS / "program_server.py"],
        env=os.environ | {"PYTHONPATH": str(TESTS.parent)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as server:
        yield server
        server.stdin.close()


@pytest.fixture
def run(start, tmp_path, tmp_path_factory, data_root, program_server):
    """`run(*arguments)`: (exit code, standard output, standard error).

    With keywords, by a new interpreter; else without its imports.
    """

    def ran(*arguments: str, **keywords) -> tuple[int, str, str]:
        if keywords:
            process = start(*arguments, **keywords)
            output, errors = process.communicate()
            return process.returncode, output, errors
        told = [tmp_path_factory.mktemp("told") / name for name in ("output", "errors")]
        for path in told:
            path.touch()
        request = {
            "arguments": slice_arguments(data_root) + list(arguments),
            "folder": str(tmp_path),
            "environment": program_environment(),
            "output": str(told[0]),
            "errors": str(told[1]),
        }
        print(json.dumps(request), file=program_server.stdin, flush=True)
        code = int(program_server.stdout.readline())
        return code, told[0].read_text(), told[1].read_text()

    return ran
