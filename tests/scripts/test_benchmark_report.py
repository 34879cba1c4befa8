"""The benchmark's arithmetic on hand-made rows: medians, ratios, limits, equal work, verdicts."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
from benchmark import limits, runner, startup, summary
from benchmark.peers import OURS
from benchmark.report import page, short_table, write_report
from benchmark.summary import Benchmark, fractions, ratios, targets


def row(peer, batch_size, seconds, losses="0.5", **more):
    cell = {"batch_size": batch_size, "optimizer": "sgd", "num_seeds": 1, "num_examples": 60_000}
    times = {"seconds": seconds, "compile_seconds": 0.0, "losses": losses, "other_cores": 0.0}
    return {"peer": peer, "model": "mlp", "repeat": 0} | cell | times | more


TEN = " ".join(["0.5"] * 10)
ROWS = [
    row(OURS, 1, 0.5, engine="numba", compile_seconds=1.0),
    row(OURS, 1, 0.4, repeat=1, engine="numba", compile_seconds=1.0),
    row(OURS, 1, 0.6, repeat=2, engine="numba", compile_seconds=1.0),
    row(OURS, 1, 0.01, num_examples=3000, losses="0.7"),
    row("jax", 1, 1.5, compile_seconds=5.0),
    row("torch", 1, 0.8, num_examples=3000, losses="0.7001"),
    row(OURS, 256, 0.2, engine="numba"),
    row("jax", 256, 0.15),
    row(OURS, 256, 1.5, num_seeds=10, losses=TEN, engine="numba"),
    row("jax", 256, 3.0, num_seeds=10, losses=TEN),
    row(OURS, 256, 1.0, model="lenet", num_examples=15_000, engine="torch"),
    row("torch", 256, 1.5, model="lenet", num_examples=15_000),
    row(OURS, 256, 8.0, model="lenet", num_examples=15_000, num_seeds=10, losses=TEN),
    row("torch", 256, 15.0, model="lenet", num_examples=15_000, num_seeds=10, losses=TEN),
]
ENVIRONMENT = {
    "processor": "a processor",
    "num_cores": 2,
    "python": "3.12.0",
    "versions": {"numpy": "2.0.0"},
    "variables": {},
    "num_train": 60_000,
}


def rate(of, library, how, batch_size, rate, unit="GFLOP/s"):
    return dict(zip(limits.COLUMNS, (of, library, how, batch_size, rate, unit), strict=False))


LIMITS = [
    rate("square product", "NumPy", "together", 0, 250),
    rate("products", "NumPy", "together", 256, 200),
    rate("products", "oneDNN", "apart", 256, 300),
    rate("a += b, weights", "Numba", "1 thread", 0, 100, "GB/s"),
    rate("pixels not zero", "Numba", "", 1, 0.5, "share"),
    rate("pixels not zero", "Numba", "", 256, 1.0, "share"),
]
STARTS = [
    [startup.BARE_HYDRA, 0, 0.4, None, None, 30],
    [startup.HELP, 0, 0.5, None, None, 31],
    [startup.IMPORT_TORCH, 0, 2.0, None, None, 600],
    [startup.JOB, 0, 6.0, 2.5, 3.0, 1100],
]
CELLS = {"num_cells": 3, "flops": 250e9 * 600, "training_seconds": 1000.0, "cell_seconds": 1200.0}
STUDY = {
    "cells": CELLS | {"report_seconds": 60.0},
    "quick": CELLS | {"wall_seconds": 200.0},
}


@pytest.fixture
def summed_up(tmp_path):
    """`summed_up(**measured) -> Benchmark` of what was measured in place of the above."""

    def made(
        environment=ENVIRONMENT, rows=ROWS, rates=LIMITS, starts=STARTS, study=STUDY, notes=()
    ):
        tables = (
            (runner, pd.DataFrame(rows, columns=runner.TIMES)),
            (limits, pd.DataFrame(rates, columns=limits.COLUMNS)),
            (startup, pd.DataFrame(starts, columns=startup.COLUMNS)),
        )
        for part, table in tables:
            table.to_csv(tmp_path / part.FILE, index=False)
        texts = {summary.ENVIRONMENT_FILE: ENVIRONMENT, summary.STUDY_FILE: study}
        for file, value in (texts | {summary.NOTES_FILE: notes}).items():
            (tmp_path / file).write_text(json.dumps(value))
        return Benchmark(tmp_path)

    return made


def test_times_are_of_a_whole_epoch_and_one_run(summed_up):
    times = summed_up().times.set_index(["peer", "batch_size", "num_seeds"])
    ours = times.loc[(OURS, 1, 1)]
    assert ours[["median", "low", "high", "num_repeats"]].tolist() == [0.5, 0.4, 0.6, 3]
    assert ours["with_compile"] == pytest.approx(0.6)  # a second over ten epochs
    assert times.loc[("torch", 1, 1), "median"] == pytest.approx(16)  # 20 × 3000 examples
    assert times.loc[("jax", 256, 10), "median"] == pytest.approx(0.3)
    assert summed_up().lenet["median"].tolist() == pytest.approx([4.0, 6.0, 3.2, 6.0])


def test_ratios_are_by_cell(summed_up):
    found = ratios(summed_up().times, "jax")
    assert found["ratio"].tolist() == pytest.approx([3.0, 0.75, 2.0])
    assert found["batch_size"].tolist() == [1, 256, 256]


def test_limits_are_products_or_bandwidth(summed_up):
    """26.87 GFLOP an epoch; plain SGD moves 12 bytes of each of 58,098 or 108,274 weights."""
    benchmark = summed_up()
    found = benchmark.bound
    assert found["arithmetic"].tolist() == pytest.approx([0.10747, 0.08956, 0.08956], rel=1e-3)
    bandwidth = [60_000 * 58_098 * 12 / 1e11, 235 * 108_274 * 12 / 1e11]
    assert found["bandwidth"].tolist() == pytest.approx([*bandwidth, bandwidth[1]])
    assert found["bound"].tolist() == pytest.approx([bandwidth[0], 0.08956, 0.08956], rel=1e-3)
    shares = fractions(benchmark.times, found).set_index(["peer", "batch_size"])
    assert shares.loc[(OURS, 1), "fraction"] == pytest.approx(0.8366, rel=1e-3)


def test_verdicts(summed_up):
    assert [target[1:] for target in targets(summed_up())] == [
        ("0.75 × at least (SGD, 1 seed, batch size 256); 1 of 3 missed it", "**not met**"),
        ("1.65 × (over 3 cells)", "met"),
        ("3.00 × (SGD, 1 seed, batch size 1)", "met"),
        ("32.00 × (SGD, 1 seed, batch size 1)", "met"),
        ("–", "not measured"),  # plain PyTorch at batch size 256
        ("1.50 × at least (SGD, 1 seed, batch size 256)", "met"),  # lenet
        ("45 % at least (SGD, 1 seed, batch size 256); 2 of 2 missed it", "**not met**"),
        ("0.75 × (SGD, 10 seeds, batch size 256)", "met"),
        ("1.25 × (0.50 s and 0.40 s)", "met"),
        ("1.50 × (3.00 s and 2.00 s)", "**not met**"),
        ("500 MB more (1,100 MB and 600 MB)", "**not met**"),
        (
            "2.10 × (21.0 min for 3 cells and the report; 10.0 min of products at 250 GFLOP/s)",
            "met",
        ),
        ("200 s", "**not met**"),
    ]


def test_nothing_is_judged_without_measurements(summed_up):
    benchmark = summed_up(rows=[], rates=[], starts=[], study={})
    assert {target.verdict for target in targets(benchmark)} == {"not measured"}
    assert page(benchmark).count("\n## ") == 1  # of the targets


def test_half_of_lenet_is_no_verdict(summed_up):
    benchmark = summed_up(rows=ROWS[:-2])
    assert [target.verdict for target in targets(benchmark)][5] == "not measured"


def test_short_table(summed_up):
    assert (
        short_table(summed_up())
        == """\
Seconds per epoch of plain SGD, one network, by batch size b:

|  | b = 1 | b = 256 |
| --- | ---: | ---: |
| optsweep | 0.500 | 0.200 |
| JAX, jit + scan | 1.50 | 0.150 |
| PyTorch, eager | 16.0 | – |
"""
    )


def test_page_has_every_table(summed_up):
    text = page(summed_up(notes=["Lightning is left out"]))
    lines = text.splitlines()
    for line in (
        "Measured on a processor, 2 cores, with Python 3.12.0, numpy 2.0.0; OPENBLAS_CORETYPE not "
        "set. Medians of 1 to 3 repeats.",
        "- Lightning is left out",
        "| 1.5 × JAX in the geometric mean | 1.65 × (over 3 cells) | met |",
        "| SGD, 1 seed: optsweep | 0.500 (0.400 … 0.600) | 0.200 (0.200 … 0.200) |",
        "| SGD, 1 seed: optsweep | 84 % | 45 % |",
        "| SGD, 10 seeds | – | 2.00 |",
        "| SGD, 10 seeds: optsweep | 3.20 (3.20 … 3.20) |",
        "| SGD, 1 seed: optsweep | 1.00 → 0.600 | 0.000 → 0.200 |",
        "| SGD, batch size 1 | 0.107 | 0.418 |",
        "| NumPy, together | 250 | 200 |",
        "| oneDNN, apart | – | 300 |",
        "| a += b, weights | 100 |",
        "| default job | 2.50 | 3.00 | 6.00 | 1,100 |",
        "| --quick, run afresh | 3 | 150.0 | 1,000 | 1,200 | – | 200 |",
    ):
        assert line in lines, line
    assert "All 6 comparisons agree" in text
    assert "at batch size 1 timed on 3,000 examples and scaled to an epoch" in text
    assert "\n\n\n" not in text


def test_busy_machines_are_told(summed_up):
    text = page(summed_up(rows=[each | {"other_cores": 0.8} for each in ROWS]))
    assert "Other programs kept up to 0.8 cores busy" in text


def test_figure_has_a_panel_for_every_number_of_seeds(summed_up, tmp_path):
    summed_up()
    list(write_report(tmp_path))
    text = (tmp_path / "benchmark.svg").read_text()
    for word in ("SGD, 1 seed", "SGD, 10 seeds", "optsweep", "batch size"):
        assert word in text
    assert (tmp_path / "benchmark.png").stat().st_size > 0


def test_unequal_work_is_found(summed_up):
    """Ten runs that differ by about 0.001 may differ by 0.005 and four errors of 0.0003."""
    rng = np.random.default_rng(0)
    ours = 0.5 + 0.001 * rng.standard_normal(10)

    def rows(shift):
        theirs = ours + shift + 0.001 * rng.standard_normal(10)
        pairs = {OURS: ours, "jax": theirs}
        texts = {peer: " ".join(map(str, losses)) for peer, losses in pairs.items()}
        return [row(peer, 256, 1, texts[peer], num_seeds=10) for peer in pairs]

    assert summed_up(rows=rows(0.0)).equal["equal"].tolist() == [True]
    different = summed_up(rows=rows(0.02))
    assert different.equal["equal"].tolist() == [False]
    assert different.equal["num_runs"].tolist() == [10]
    text = page(different)
    assert "1 of 1 comparisons differ" in text
    assert "| JAX, jit + scan, SGD, 10 seeds, batch size 256 | 0.5" in text


def test_measurements_of_before_lenet_are_read(summed_up, tmp_path):
    before = summed_up()
    rows = pd.read_csv(tmp_path / runner.FILE)
    mlp = rows[rows["model"] == "mlp"].drop(columns="model")
    mlp.to_csv(tmp_path / runner.FILE, index=False)
    pd.testing.assert_frame_equal(Benchmark(tmp_path).times, before.times)


def test_the_kept_page_is_what_its_rows_make(tmp_path, request):
    kept = request.config.rootpath / "notebooks" / "benchmark"
    for name in summary.MEASURED_FILES:
        shutil.copy(kept / name, tmp_path)
    list(write_report(tmp_path))
    assert (tmp_path / "benchmark.md").read_text() == (kept / "benchmark.md").read_text()
