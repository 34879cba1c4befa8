"""The benchmark's arithmetic on hand-made rows: medians, ratios, equal work, verdicts."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
from benchmark import rounds, startup, summary
from benchmark.peers import OURS, PEERS
from benchmark.report import page, short_table, write_report
from benchmark.summary import Benchmark, targets
from benchmark.tasks import BATCH_SIZES, OPTIMIZERS


def row(peer, batch_size, seconds, losses="0.5", **more):
    cell = {"batch_size": batch_size, "optimizer": "sgd", "num_seeds": 1, "num_examples": 60_000}
    times = {"seconds": seconds, "compile_seconds": 0.0, "losses": losses, "other_cores": 0.0}
    return {"peer": peer, "network": "mlp", "repeat": 0} | cell | times | more


TEN = " ".join(["0.5"] * 10)
SHORT = {"num_examples": 3000}
ROWS = [
    row(OURS, 1, 0.5, engine="numba"),
    row(OURS, 1, 0.4, repeat=1, engine="numba"),
    row(OURS, 1, 0.6, repeat=2, engine="numba"),
    row(OURS, 1, 0.01, losses="0.7", **SHORT),
    row("jax", 1, 1.5, compile_seconds=5.0),
    row("jax-pinned", 1, 0.45),
    row("jax-pinned", 1, 0.6, repeat=1),
    row("jax-pinned", 1, 0.6, repeat=2),
    row("torch", 1, 0.8, losses="0.7001", **SHORT),
    row(OURS, 256, 0.2, engine="numba"),
    row("jax", 256, 0.15),
    row(OURS, 256, 1.5, num_seeds=10, losses=TEN, engine="numba"),
    row("jax", 256, 3.0, num_seeds=10, losses=TEN),
    row(OURS, 256, 0.05, network="1024-1024", engine="torch", **SHORT),
    row("torch", 256, 0.04, network="1024-1024", **SHORT),
    row(OURS, 256, 0.4, network="lenet", engine="torch", losses="2", **SHORT),
    row("torch", 256, 0.6, network="lenet", losses="2", **SHORT),
]
ENVIRONMENT = {
    "processor": "a processor",
    "num_cores": 2,
    "python": "3.12.0",
    "versions": {"numpy": "2.0.0"},
    "variables": {},
    "num_train": 60_000,
}
LIMITS = [
    [summary.PEAK, "NumPy", 0, 250],
    [summary.PEAK, "torch.mm", 0, 240],
    [summary.INK, "", 1, 0.5],
]
STARTS = [
    [startup.BARE_HYDRA, 0, 0.4, None, 30],
    [startup.HELP, 0, 0.5, None, 31],
    [startup.IMPORT_TORCH, 0, 2.0, None, 600],
    [startup.JOB, 0, 6.0, 3.0, 1100],
]
CELLS = {"num_cells": 3, "flops": 250e9 * 600, "cell_seconds": 1200.0, "report_seconds": 60.0}
STUDY = {"cells": CELLS, "quick": {"wall_seconds": 200.0}}


@pytest.fixture
def summed_up(tmp_path):
    """`summed_up(**measured) -> Benchmark` of what was measured in place of the above."""

    def made(rows=ROWS, rates=LIMITS, starts=STARTS, study=STUDY, notes=()):
        tables = (
            (rounds.FILE, pd.DataFrame(rows, columns=rounds.COLUMNS)),
            (summary.LIMITS_FILE, pd.DataFrame(rates, columns=summary.LIMITS)),
            (startup.FILE, pd.DataFrame(starts, columns=startup.COLUMNS)),
        )
        for file, table in tables:
            table.to_csv(tmp_path / file, index=False)
        texts = {summary.ENVIRONMENT_FILE: ENVIRONMENT, summary.STUDY_FILE: study}
        for file, value in (texts | {summary.NOTES_FILE: notes}).items():
            (tmp_path / file).write_text(json.dumps(value))
        return Benchmark(tmp_path)

    return made


def test_times_are_of_a_whole_epoch_and_one_run(summed_up):
    forms = summed_up().forms
    times = forms[forms["network"] == "mlp"].set_index(["peer", "batch_size", "num_seeds"])
    ours = times.loc[(OURS, 1, 1)]
    assert ours[["median", "low", "high", "num_rounds"]].tolist() == [0.5, 0.4, 0.6, 3]
    assert times.loc[("jax", 1, 1), "with_compile"] == pytest.approx(2.0)  # 5 s over ten epochs
    assert times.loc[("torch", 1, 1), "median"] == pytest.approx(16)  # 20 × 3000 examples
    assert times.loc[("jax", 256, 10), "median"] == pytest.approx(0.3)


def test_a_peers_fastest_form_counts_in_each_cell(summed_up):
    times = summed_up().times
    jax = times[times["family"] == "jax"].set_index(["batch_size", "num_seeds"])["peer"]
    assert jax.to_dict() == {(1, 1): "jax-pinned", (256, 1): "jax", (256, 10): "jax"}


def test_ratios_are_of_medians_and_undecided_where_rounds_disagree(summed_up):
    """Of three rounds at batch size 1: 0.45 / 0.5, 0.6 / 0.4 and 0.6 / 0.6."""
    found = summed_up().ratios("jax").set_index(["batch_size", "num_seeds"]).sort_index()
    assert found["value"].tolist() == pytest.approx([1.2, 0.75, 2.0])
    assert found.loc[(1, 1), ["low", "high"]].tolist() == pytest.approx([0.9, 1.5])
    assert found["undecided"].tolist() == [True, False, False]


def test_arithmetic_is_dense_or_executed(summed_up):
    """26.87 GFLOP an epoch, 24.08 of them with inputs, half of which are zero; 250 GFLOP/s."""
    rates = summed_up().arithmetic().set_index(["peer", "network", "batch_size", "num_seeds"])
    ours = rates.loc[(OURS, "mlp", 256, 1)]
    assert ours["dense"] == pytest.approx(100 * 26.87 / 250 / 0.2, rel=1e-3)
    assert ours["executed"] == pytest.approx(100 * (26.87 - 12.04) / 250 / 0.2, rel=1e-3)
    for name in [("jax", "mlp", 256, 1), (OURS, "1024-1024", 256, 1)]:  # by PyTorch, the latter
        assert rates.loc[name, "executed"] == rates.loc[name, "dense"]


def test_verdicts(summed_up):
    assert targets(summed_up())[["found", "verdict"]].values.tolist() == [
        [
            "0.75 × at least (SGD, 1 seed, b = 256); 1 of 3 missed it; rounds of 1 on both sides",
            "**not met**",
        ],
        ["1.22 × (over 3 cells)", "**not met**"],
        ["–", "not measured"],
        ["–", "not measured"],
        ["1.20 × (SGD, 1 seed, b = 1)", "**not met**"],
        ["32.00 × (SGD, 1 seed, b = 1)", "met"],
        ["–", "not measured"],  # plain PyTorch at batch size 256
        ["1.50 × (LeNet, SGD, 1 seed, b = 256)", "met"],
        ["30 % at least (SGD, 1 seed, b = 256); 2 of 2 missed it", "**not met**"],
        ["54 % at least (SGD, 1 seed, b = 256); 1 of 2 missed it", "**not met**"],
        ["0.75 × (SGD, 10 seeds, b = 256)", "met"],
        ["1.25 × (0.50 s and 0.40 s)", "met"],
        ["1.50 × (3.00 s and 2.00 s)", "**not met**"],
        ["500 MB more (1,100 MB and 600 MB)", "**not met**"],
        [
            "2.10 × (21.0 min for 3 cells and the report; 10.0 min of products at 250 GFLOP/s)",
            "met",
        ],
        ["200 s", "**not met**"],
    ]


def test_a_target_whose_rounds_disagree_is_undecided(summed_up):
    verdicts = targets(summed_up(rows=ROWS[:9])).set_index("target")["verdict"]
    assert verdicts.filter(like="as fast as JAX").tolist() == ["undecided"]


def test_aims_are_judged_once_all_forms_and_cells_are_measured(summed_up):
    cells = [(size, name, n) for size in BATCH_SIZES for name in OPTIMIZERS for n in (1, 10)]
    seconds = {OURS: 1.0, "jax": 9.0, "jax-pinned": 4.0, "jax-singly": 2.0}
    rows = [
        row(peer, size, taken, "0.5", optimizer=name, num_seeds=n)
        for size, name, n in cells
        for peer, taken in seconds.items()
        if n in PEERS[peer].num_seeds
    ]
    lacking = targets(summed_up(rows=rows[:-1])).set_index("target")["verdict"]
    assert {*lacking.filter(like="best form")} == {"not measured"}
    found = targets(summed_up(rows=rows)).set_index("target")["found"]
    aims = found.filter(like="best form").tolist()
    assert aims == ["2.83 × (over 30 cells)", "2.00 × at least (SGD, 10 seeds, b = 1)"]


def test_nothing_is_judged_without_measurements(summed_up):
    benchmark = summed_up(rows=[], rates=[], starts=[], study={})
    assert {*targets(benchmark)["verdict"]} == {"not measured"}
    assert page(benchmark).count("\n## ") == 1  # of the targets


def test_short_table(summed_up):
    assert (
        short_table(summed_up())
        == """\
Seconds per epoch of plain SGD, one network, by batch size b:

|  | b = 1 | b = 256 |
| --- | ---: | ---: |
| optsweep | 0.500 | 0.200 |
| JAX, jit + scan | 0.600 | 0.150 |
| PyTorch, eager | 16.0 | – |
"""
    )


def test_page_has_every_table(summed_up):
    busy = [each | {"other_cores": 0.8} for each in ROWS]
    text = page(summed_up(rows=busy, notes=["Keras is left out"]))
    lines = text.splitlines()
    pinned = PEERS["jax-pinned"].form
    for line in (
        "- Keras is left out",
        "| 1.5 × JAX in the geometric mean | 1.22 × (over 3 cells) | **not met** |",
        "| SGD, 1 seed: optsweep | 0.500 (0.400) | 0.200 (0.200) |",
        "| SGD, 1 seed: JAX, jit + scan | 1.20 ? | 0.75 |",
        "| 1024-1024, SGD, 1 seed: PyTorch, eager | – | 0.80 |",
        f"| SGD, 1 seed | {pinned} | vmap on all cores |",
        "| SGD, 1 seed: optsweep | 12 / 21 | 30 / 54 |",
        "| default job | 3.00 | 6.00 | 1,100 |",
    ):
        assert line in lines, line
    assert "0 of 7 comparisons differ" in text
    assert "128-56 at b = 1 on 3,000 examples (torch);" in text
    assert "from before methods were kept" in text
    assert "Other programs kept up to 0.8 cores busy" in text
    told = next(line for line in lines if line.startswith("**Not measured yet:**"))
    assert "PyTorch, torch.compile; " in told
    assert "standardised" in told
    assert "\n\n\n" not in text


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
    assert "- JAX, jit + scan, SGD, 10 seeds, b = 256: our loss 0." in text


def test_the_kept_page_is_what_its_rows_make(tmp_path, request):
    kept = request.config.rootpath / "notebooks" / "benchmark"
    for name in summary.MEASURED_FILES:
        shutil.copy(kept / name, tmp_path)
    list(write_report(tmp_path))
    assert (tmp_path / "benchmark.md").read_text() == (kept / "benchmark.md").read_text()
