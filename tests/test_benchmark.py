"""The benchmark: peers that do the same work, arithmetic on hand-made rows, resuming."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from optsweep import runs
from optsweep.benchmark import launcher, libraries, limits, study_time, targets
from optsweep.benchmark.app import main
from optsweep.benchmark.arguments import parse
from optsweep.benchmark.equal_work import compare_losses
from optsweep.benchmark.figure import speed_figure
from optsweep.benchmark.images import load_images
from optsweep.benchmark.matrix import Measurement, schedule
from optsweep.benchmark.network import initial_weights, mean_loss
from optsweep.benchmark.peers import OURS, PEERS
from optsweep.benchmark.report import Benchmark, full_report, short_report
from optsweep.benchmark.rows import LIMITS, STARTS, TIMES, Rows
from optsweep.benchmark.summary import bounds, fractions, ratios, timings
from optsweep.benchmark.targets import start_targets, study_targets
from optsweep.benchmark.tasks import Cell, Task, task_of
from optsweep.config.checks import InputError
from optsweep.config.schema import Config
from optsweep.models.initializers import default
from optsweep.models.mlp import StackedMLP
from optsweep.report.pictures import save

TESTS = Path(__file__).resolve().parent


@pytest.fixture(scope="module")
def dataset(slice_config):
    return slice_config().dataset


@pytest.fixture(scope="module")
def images(dataset):
    return load_images(dataset)


@pytest.fixture(scope="module")
def load(images, dataset):
    """`load(name)`: a peer that has the slice; skips if it is not installed."""
    loaded = {}

    def peer(name):
        if missing := PEERS[name].missing():
            pytest.skip(f"{PEERS[name].title} is not installed (pip install {' '.join(missing)})")
        if name not in loaded:
            for variable, value in PEERS[name].environment.items():
                os.environ.setdefault(variable, value)
            loaded[name] = PEERS[name].load()(images, dataset)
        return loaded[name]

    return peer


OTHERS = [peer for peer in PEERS if peer != OURS]
# What libraries say of themselves while they are used as they are meant to be.
quiet = pytest.mark.filterwarnings("ignore")


@quiet
@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "adam"])
@pytest.mark.parametrize("peer", OTHERS)
def test_a_peer_does_the_same_work(load, peer, optimizer):
    """Of a full batch there is one order, so that losses agree to rounding.

    Adam divides by gradients: where one is about its epsilon, rounding decides on the step.
    """
    num_seeds = 2 if PEERS[peer].stacks else 1
    task = Task(1000, optimizer, num_seeds, 1000)
    ours = load(OURS).train(task, [3, 4][:num_seeds])
    assert ours.seconds <= ours.job_seconds
    theirs = load(peer)
    theirs.prepare(task)
    trained = theirs.train(task, [3, 4][:num_seeds])
    assert trained.seconds > 0
    np.testing.assert_allclose(
        trained.losses, ours.losses, rtol=1e-3 if optimizer == "adam" else 1e-5
    )


@quiet
@pytest.mark.parametrize("peer", OTHERS)
def test_a_peer_takes_every_step_of_an_epoch(load, peer):
    """40 steps, the last with 10 examples; with a tenth fewer, losses were 4.7 % higher.

    Orders differ: over 20 of them, the losses' differences had a standard deviation of 0.6 %.
    """
    task = Task(25, "momentum", 1, 985)
    ours = load(OURS).train(task, [5])
    theirs = load(peer)
    theirs.prepare(task)
    assert theirs.train(task, [5]).losses == pytest.approx(ours.losses, rel=0.025)


def test_weights_start_as_ours_do(slice_config):
    model = StackedMLP(slice_config().model, [7], default, 784, 10, torch.device("cpu"))
    for layer, (weight, bias) in enumerate(initial_weights(7, 784, 10)):
        np.testing.assert_allclose(weight.T, model.weights[layer][0].detach(), atol=1e-7)
        np.testing.assert_allclose(bias, model.biases[layer][0].detach(), atol=1e-7)


def test_loss_is_the_mean_cross_entropy(images):
    weights = initial_weights(0, 784, 10)
    x = torch.from_numpy(images.pixels)
    for weight, bias in weights[:-1]:
        x = torch.relu(x @ torch.from_numpy(weight) + torch.from_numpy(bias))
    logits = x @ torch.from_numpy(weights[-1][0]) + torch.from_numpy(weights[-1][1])
    expected = torch.nn.functional.cross_entropy(logits, torch.from_numpy(images.labels))
    assert mean_loss(weights, images.pixels, images.labels) == pytest.approx(
        expected.item(), rel=1e-6
    )


@pytest.mark.parametrize("library", libraries.LIBRARIES)
def test_every_library_multiplies_all_products_of_a_step(library):
    needed = libraries.NEEDS.get(library)
    if needed and importlib.util.find_spec(needed) is None:
        pytest.skip(f"{needed} is not installed")
    make, limit = libraries.LIBRARIES[library]()
    limit(1)
    rng = np.random.default_rng(0)
    for batch_size in (1, 3):
        for shape in limits.products(batch_size):
            left, right = limits._operands(rng, *shape)
            found = make(left, right)()
            found = found[-1] if isinstance(found, tuple) else found
            np.testing.assert_allclose(np.asarray(found), left @ right, rtol=1e-5)


def test_slow_peers_are_timed_on_a_part_of_an_epoch():
    parts = {1: 3000}
    assert task_of(Cell(1, "sgd", 1), 60_000, parts, quick=False).num_examples == 3000
    assert task_of(Cell(1, "sgd", 1), 60_000, {}, quick=False).num_examples == 60_000
    assert task_of(Cell(32, "sgd", 1), 60_000, parts, quick=False).num_examples == 60_000
    assert task_of(Cell(60_000, "sgd", 1), 60_000, parts, quick=True).num_steps == 1


def test_ours_and_peers_take_turns():
    order = list(schedule([Cell(1, "sgd", 10)], ["jax", "keras", "torch"], 60_000, 3, False))
    told = [(each.peer, each.task.num_examples, each.repeat) for each in order]
    one_round = [(OURS, 60_000), ("jax", 60_000), ("torch", 3000), (OURS, 3000)]  # Keras: no stack
    assert told == [(*each, repeat) for repeat in (0, 1) for each in one_round]
    assert order[-1].is_check
    seeds = {tuple(each.seeds) for each in order}
    assert len(seeds) == 2  # the same for all, new in every repeat
    assert len({seed for each in seeds for seed in each}) == 20


def row(peer, batch_size, seconds, losses="0.5", **more):
    cell = {"batch_size": batch_size, "optimizer": "sgd", "num_seeds": 1, "num_examples": 60_000}
    times = {"seconds": seconds, "compile_seconds": 0.0, "losses": losses, "other_cores": 0.0}
    return dict.fromkeys(TIMES) | {"peer": peer, "repeat": 0} | cell | times | more


ROWS = pd.DataFrame(
    [
        row(OURS, 1, 0.5, job_seconds=0.75, engine="numba", compile_seconds=1.0),
        row(OURS, 1, 0.4, repeat=1, job_seconds=0.75, engine="numba", compile_seconds=1.0),
        row(OURS, 1, 0.6, repeat=2, job_seconds=0.75, engine="numba", compile_seconds=1.0),
        row(OURS, 1, 0.01, num_examples=3000, losses="0.7"),
        row("jax", 1, 1.5, compile_seconds=5.0),
        row("torch", 1, 0.8, num_examples=3000, losses="0.7001"),
        row(OURS, 256, 0.2, engine="numba"),
        row("jax", 256, 0.15),
        row(OURS, 256, 1.5, num_seeds=10, losses=" ".join(["0.5"] * 10), engine="numba"),
        row("jax", 256, 3.0, num_seeds=10, losses=" ".join(["0.5"] * 10)),
    ]
)
ENVIRONMENT = {
    "processor": "a processor",
    "num_cores": 2,
    "python": "3.12.0",
    "versions": {"numpy": "2.0.0"},
    "variables": {},
}
MACHINE = pd.DataFrame(
    [
        {
            "of": "square product",
            "library": "NumPy",
            "how": "together",
            "batch_size": 0,
            "rate": 250,
        },
        {"of": "products", "library": "NumPy", "how": "together", "batch_size": 256, "rate": 200},
        {"of": "products", "library": "oneDNN", "how": "apart", "batch_size": 256, "rate": 300},
        {"of": "a += b, weights", "how": "1 thread", "rate": 100.0, "unit": "GB/s"},
        {"of": "pixels not zero", "batch_size": 1, "rate": 0.5, "unit": "share"},
        {"of": "pixels not zero", "batch_size": 256, "rate": 1.0, "unit": "share"},
    ]
).assign(unit=lambda table: table["unit"].fillna("GFLOP/s"))
CELLS = [Cell(1, "sgd", 1), Cell(256, "sgd", 1), Cell(256, "sgd", 10)]


def benchmark(**more):
    times = timings(ROWS, 60_000)
    found = {
        "environment": ENVIRONMENT,
        "times": times,
        "bound": bounds(MACHINE, CELLS, 60_000),
        "equal": compare_losses(ROWS),
        "limits": MACHINE,
        "starts": pd.DataFrame(),
        "libraries": {},
        "study": {},
    }
    return Benchmark(**found | more)


def test_times_are_of_a_whole_epoch_and_one_run():
    times = timings(ROWS, 60_000).set_index(["peer", "batch_size", "num_seeds"])
    ours = times.loc[(OURS, 1, 1)]
    assert ours[["median", "low", "high", "num_repeats"]].tolist() == [0.5, 0.4, 0.6, 3]
    assert ours["with_compile"] == pytest.approx(0.6)  # a second over ten epochs
    assert times.loc[("torch", 1, 1), "median"] == pytest.approx(16)  # 20 × 3000 examples
    assert times.loc[("jax", 256, 10), "median"] == pytest.approx(0.3)


def test_ratios_are_by_cell():
    found = ratios(timings(ROWS, 60_000), "jax")
    assert dict(found) == pytest.approx(
        {(1, "sgd", 1): 3.0, (256, "sgd", 1): 0.75, (256, "sgd", 10): 2.0}
    )


def test_limits_are_products_or_bandwidth():
    """26.87 GFLOP an epoch; plain SGD moves 12 bytes of each of 58,098 or 108,274 weights."""
    found = bounds(MACHINE, CELLS, 60_000)
    assert found["arithmetic"].tolist() == pytest.approx([0.10747, 0.08956, 0.08956], rel=1e-3)
    bandwidth = [60_000 * 58_098 * 12 / 1e11, 235 * 108_274 * 12 / 1e11]
    assert found["bandwidth"].tolist() == pytest.approx([*bandwidth, bandwidth[1]])
    assert found["bound"].tolist() == pytest.approx([bandwidth[0], 0.08956, 0.08956], rel=1e-3)
    shares = fractions(timings(ROWS, 60_000), found).set_index(["peer", "batch_size"])
    assert shares.loc[(OURS, 1), "fraction"] == pytest.approx(0.8366, rel=1e-3)


def test_short_report():
    tables, rest = short_report(benchmark()).split("What was aimed at:\n")
    assert (
        tables
        == """\
Seconds per epoch of plain SGD, one network:

|  | b = 1 | b = 256 |
| --- | ---: | ---: |
| optsweep | 0.500 | 0.200 |
| JAX, jit + scan | 1.50 | 0.150 |
| PyTorch, eager | 16.0 | – |

How many times as fast as JAX, jit + scan, geometric mean 1.65:

|  | b = 1 | b = 256 |
| --- | ---: | ---: |
| SGD, 1 seed | 3.00 | 0.75 |
| SGD, 10 seeds | – | 2.00 |

"""
    )
    assert "| 1.5 × JAX in the geometric mean | 1.65 × over 3 cells | met |" in rest.splitlines()
    assert rest.endswith(
        "Measured on a processor, 2 cores, with Python 3.12.0, numpy 2.0.0; OPENBLAS_CORETYPE not "
        "set. Medians of 1 to 3 repeats.\n"
    )


def test_full_report_has_every_target_and_table():
    text = full_report(benchmark(notes=["Lightning is left out"]))
    lines = text.splitlines()
    for line in (
        "- Lightning is left out",
        "| every cell at least as fast as JAX | 0.75 × at least (SGD, 1 seed, batch size 256); "
        "1 of 3 cells below | **not met** |",
        "| 1.5 × JAX in the geometric mean | 1.65 × over 3 cells | met |",
        "| plain SGD at batch size 1 at least 2.5 × JAX | 3.00 × at least (SGD, 1 seed, batch size "
        "1) | met |",
        "| 20 × plain eager PyTorch of one network at batch size 1 | 32.00 × at least (SGD, 1 "
        "seed, batch size 1) | met |",
        "| 2 × plain eager PyTorch of one network at batch size 256 | – | not measured |",
        "| 60 % of the float32 matmul peak from batch size 256 on | 45 % at least (SGD, 1 seed, "
        "batch size 256) | **not met** |",
        "| a run of ten seeds costs no more than one alone | 0.75 × at most (SGD, batch size 256) "
        "| met |",
        "| SGD, 1 seed: optsweep | 0.500 (0.400 … 0.600) | 0.200 (0.200 … 0.200) |",
        "| SGD, 1 seed: optsweep | 84 % | 45 % |",
        "| NumPy, together | 250 | 200 |",
        "| oneDNN, apart | – | 300 |",
    ):
        assert line in lines, line
    assert "All 4 comparisons agree" in text
    assert "at batch size 1 timed on 3,000 examples and scaled to an epoch" in text


def test_busy_machines_are_told():
    busy = timings(ROWS.assign(other_cores=0.8), 60_000)
    assert "Other programs kept up to 0.8 cores busy" in short_report(benchmark(times=busy))


def test_figure_has_a_panel_for_every_number_of_seeds(tmp_path):
    found = benchmark()
    save(speed_figure(found.times, found.bound), tmp_path)
    text = (tmp_path / "benchmark.svg").read_text()
    for word in ("SGD, 1 seed", "SGD, 10 seeds", "optsweep", "batch size"):
        assert word in text
    assert (tmp_path / "benchmark.png").stat().st_size > 0


def test_unequal_work_is_found():
    """Ten runs that differ by about 0.001 may differ by 0.005 and four errors of 0.0003."""
    rng = np.random.default_rng(0)
    ours = 0.5 + 0.001 * rng.standard_normal(10)

    def rows(shift):
        theirs = ours + shift + 0.001 * rng.standard_normal(10)
        pairs = ((OURS, ours), ("jax", theirs))
        texts = {peer: " ".join(map(str, losses)) for peer, losses in pairs}
        return pd.DataFrame([row(peer, 256, 1, texts[peer], num_seeds=10) for peer in texts])

    same, different = compare_losses(rows(0.0)), compare_losses(rows(0.02))
    assert same["equal"].tolist() == [True]
    assert different["equal"].tolist() == [False]
    assert different["num_runs"].tolist() == [10]
    text = full_report(benchmark(equal=different))
    assert "1 of 1 comparisons differ" in text
    assert "| JAX, jit + scan, SGD, 10 seeds, batch size 256 | 0.5" in text


def test_targets_of_start_and_study():
    columns = ["what", "seconds", "told", "trains", "megabytes"]
    starts = pd.DataFrame(
        [
            ["bare Hydra app, --help", 0.4, None, None, 30],
            ["optsweep --help", 0.5, None, None, 31],
            ["import torch", 2.0, None, None, 600],
            ["default job", 6.0, 2.5, 3.0, 1100],
        ],
        columns=columns,
    ).set_index("what")
    assert [(target.found, target.is_met) for target in start_targets(starts)] == [
        ("1.25 × (0.50 s and 0.40 s)", True),
        ("1.50 × (3.00 s and 2.00 s)", False),
        ("500 MB more (1,100 MB and 600 MB)", False),
    ]
    cells = {"num_cells": 3, "flops": 250e9 * 600, "cell_seconds": 1200.0, "report_seconds": 60.0}
    study = {"cells": cells, "quick": {"wall_seconds": 200.0}}
    assert [(target.found, target.is_met) for target in study_targets(study, MACHINE)] == [
        ("2.10 × (21.0 min for 3 cells and the report; 10.0 min of products at 250 GFLOP/s)", True),
        ("200 s", False),
    ]
    assert {target.is_met for target in start_targets(pd.DataFrame())} == {None}
    assert targets.study_targets({}, MACHINE)[0].verdict == "not measured"


def test_study_is_summed_up_from_its_cells(tmp_path):
    config = Config()
    seeds = [{"epochs": 10, "seed": 0}, {"epochs": 5, "seed": 1}]
    result = {"config_hash": "", "seconds": 4.0, "per_seed": seeds}
    for name in ("one", "two"):
        directory = tmp_path / "cells" / name
        runs.start(directory, config)
        runs.write(directory, [], result)
        os.utime(directory / "config.yaml", (1000, 1000))
        os.utime(directory / "result.json", (1006, 1006))
    assert study_time.of_cells(tmp_path) == {
        "num_cells": 2,
        "flops": 2 * 15 * 60_000 * 447_776,
        "training_seconds": 8.0,
        "cell_seconds": 12.0,
    }
    assert study_time.of_cells(tmp_path / "nothing") is None


def test_launcher_tells_when_a_line_came():
    command = [sys.executable, "-S", launcher.__file__, '["here"]', sys.executable, "-c"]
    done = subprocess.run(
        [*command, "print('it is here')"], capture_output=True, text=True, check=True
    )
    found = json.loads(done.stdout)
    assert 0 < found["at"]["here"] <= found["seconds"]
    assert found["megabytes"] > 1
    assert found["exit_code"] == 0


def test_half_a_row_is_dropped(tmp_path):
    rows = Rows(tmp_path / "rows.csv", STARTS)
    rows.add({"what": "a", "repeat": 0})
    text = rows.path.read_text()
    rows.path.write_text(text + "b,0,1.")
    assert Rows(rows.path, STARTS).keys(("what", "repeat")) == {("a", 0)}
    assert rows.path.read_text() == text
    assert Rows(tmp_path / "other.csv", LIMITS).read().empty


def test_missing_peers_are_left_out_or_refused(monkeypatch):
    monkeypatch.setattr(
        "optsweep.benchmark.peers.About.missing",
        lambda about: ["jax", "keras"] if about.title == "Keras on JAX" else [],
    )
    assert parse([]).missing == ("keras",)
    assert "keras" not in parse([]).peers
    with pytest.raises(InputError, match=r"--peers keras: .* not installed; pip install jax keras"):
        parse(["--peers", "keras"])


@pytest.fixture
def program(tmp_path, data_root, monkeypatch, capsys):
    """`program(*arguments) -> (exit code, errors)`, on the slice, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    search_path = f"hydra.searchpath=[file://{TESTS / 'conf'}]"
    settings = [search_path, "dataset=slice", f"dataset.root={data_root}", "trainer.device=cpu"]

    def ran(*arguments: str):
        try:
            code = main([*arguments, "--set", *settings])
        except SystemExit as stopped:
            code = stopped.code
        return code, capsys.readouterr().err

    return ran


def test_program_measures_what_is_missing(program, tmp_path):
    small = ["--only", "matrix", "--peers", "torch", "--optimizers", "sgd", "--seeds", "1"]
    small += ["--batch-sizes", "500", "--repeats", "2", "--quick"]
    assert program(*small) == (0, "")
    folder = tmp_path / "multirun" / "benchmark-quick"
    path = folder / "measurements.csv"
    text = path.read_text()
    lines = text.splitlines()
    # A B A B, in separate processes
    assert [line.split(",")[0] for line in lines[1:]] == [OURS, "torch"] * 2
    assert "All 1 comparisons agree" in (folder / "benchmark.md").read_text()
    assert {"readme.md", "benchmark.svg", "benchmark.png"} <= {p.name for p in folder.iterdir()}

    path.write_text("\n".join(lines[:-1]) + "\n")
    assert program(*small)[0] == 0
    again = path.read_text().splitlines()
    assert again[:-1] == lines[:-1]
    assert again[-1].startswith("torch,500,sgd,1,1000,1,")

    environment = json.loads((folder / "environment.json").read_text())
    (folder / "environment.json").write_text(json.dumps(environment | {"processor": "another"}))
    code, errors = program(*small)
    assert code == 2
    assert "measurements with other processor; --fresh" in errors
    assert errors.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--batch-sizes", "2000"], "--batch-sizes 2000: expected 1 to 1000"),
        (["--peers", "jaxx"], "invalid choice"),
        (["--repeats", "0"], "0: expected a whole number from 1"),
    ],
)
def test_mistakes_are_told_in_a_line(program, arguments, message):
    code, errors = program(*arguments)
    assert code == 2
    assert message in errors
    assert errors.count("\n") == 1


def test_measurements_name_their_seeds():
    assert Measurement("jax", Task(1, "sgd", 2, 10), 0).seeds == [1000, 1001]
