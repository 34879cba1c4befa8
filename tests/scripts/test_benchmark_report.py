"""The benchmark's arithmetic on hand-made rows: medians, ratios, losses, tables."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
from benchmark import rounds
from benchmark.peers import OURS
from benchmark.report import (
    ENVIRONMENT_FILE,
    arithmetic,
    fastest,
    page,
    readme_table,
    sum_up,
    write_report,
)


def row(peer, batch_size, seconds, **more):
    cell = {"network": "mlp", "batch_size": batch_size, "optimizer": "sgd", "num_seeds": 1}
    rest = {"num_examples": 60_000, "repeat": 0, "loss": 0.5, "engine": None, "other_cores": None}
    return {"peer": peer, "seconds": seconds} | cell | rest | more


SHORT = {"num_examples": 3000}
ROWS = [
    row(OURS, 1, 0.05, engine="numba", **SHORT),
    row(OURS, 1, 0.04, repeat=1, engine="numba", **SHORT),
    row(OURS, 1, 0.06, repeat=2, engine="numba", **SHORT),
    row("jax", 1, 0.15, **SHORT),
    row("jax-pinned", 1, 0.045, **SHORT),
    row("jax-pinned", 1, 0.06, repeat=1, **SHORT),
    row("jax-pinned", 1, 0.06, repeat=2, **SHORT),
    row(OURS, 256, 0.2, engine="numba"),
    row("jax", 256, 0.15),
    row(OURS, 256, 1.5, num_seeds=10, engine="numba"),
    row("jax", 256, 3.0, num_seeds=10),
    row(OURS, 256, 0.05, network="1024-1024", engine="torch", other_cores=0.8, **SHORT),
    row("torch", 256, 0.04, network="1024-1024", loss=0.51, **SHORT),
    row(OURS, 32, 0.4, optimizer="adam", engine="numba"),
    row("torch", 32, 0.6, optimizer="adam"),
    row(OURS, 256, 0.4, network="lenet", engine="torch", **SHORT),
    row("torch", 256, 0.6, network="lenet", **SHORT),
    row("keras", 1000, 1.0),  # ours failed there
]
ENVIRONMENT = {
    "processor": "a processor",
    "num_cores": 2,
    "versions": {"numpy": "2.0.0"},
    "variables": {"OMP_NUM_THREADS": "2"},
    "methods": {"JAX": "as it is"},
    "num_train": 60_000,
    "nonzero": 0.5,
    "peak": 250.0,
}


@pytest.fixture
def forms():
    return sum_up(pd.DataFrame(ROWS, columns=rounds.COLUMNS), 60_000)


def test_times_are_of_a_whole_epoch_and_one_run(forms):
    times = forms[forms["network"] == "mlp"].set_index(["peer", "batch_size", "num_seeds"])
    ours = times.loc[(OURS, 1, 1)]
    assert ours[["median", "minimum"]].tolist() == pytest.approx([1.0, 0.8])  # 20 × 3000 examples
    assert ours["num_rounds"] == 3
    assert times.loc[("jax", 256, 10), "median"] == pytest.approx(0.3)
    assert "keras" not in set(forms["peer"])  # for there is nothing to compare it with


def test_a_titles_fastest_form_counts_in_each_cell(forms):
    best = fastest(forms, "title")
    jax = best[best["title"] == "JAX"].set_index(["batch_size", "num_seeds"])["peer"]
    assert jax.to_dict() == {(1, 1): "jax-pinned", (256, 1): "jax", (256, 10): "jax"}


def test_ratios_are_of_medians_and_undecided_where_rounds_disagree(forms):
    """Of three rounds at batch size 1: 0.45 / 0.5, 0.6 / 0.4 and 0.6 / 0.6."""
    best = fastest(forms, "title")
    found = best[best["title"] == "JAX"].set_index(["batch_size", "num_seeds"]).sort_index()
    assert found["ratio"].tolist() == pytest.approx([1.2, 0.75, 2.0])
    assert found["of_minima"].tolist() == pytest.approx([0.045 / 0.04, 0.75, 2.0])
    assert found.loc[(1, 1), ["low", "high"]].tolist() == pytest.approx([0.9, 1.5])
    assert found["undecided"].tolist() == [True, False, False]


def test_losses_are_multiples_of_ours_in_the_same_cell(forms):
    found = forms.set_index(["peer", "network"])["loss"]
    assert found["torch", "1024-1024"] == pytest.approx(1.02)
    np.testing.assert_allclose(found[OURS], 1)


def test_arithmetic_is_dense_or_executed(forms):
    """26.87 GFLOP an epoch, 24.08 of them with inputs, half of which are zero; 250 GFLOP/s."""
    rates = arithmetic(forms, ENVIRONMENT)
    rates = rates.set_index(["peer", "network", "batch_size", "num_seeds"])
    ours = rates.loc[(OURS, "mlp", 256, 1)]
    assert ours["dense"] == pytest.approx(100 * 26.87 / 250 / 0.2, rel=1e-3)
    assert ours["executed"] == pytest.approx(100 * (26.87 - 12.04) / 250 / 0.2, rel=1e-3)
    for name in [("jax", "mlp", 256, 1), (OURS, "1024-1024", 256, 1)]:  # by PyTorch, the latter
        assert rates.loc[name, "executed"] == rates.loc[name, "dense"]
    assert "lenet" not in rates.index.get_level_values("network")


def test_readme_table_has_plain_sgd_and_the_worst_of_other_networks(forms):
    table = readme_table(fastest(forms, "title"))
    assert table.splitlines()[2:] == [
        "|  | optsweep | JAX | PyTorch | times as fast as the fastest other |",
        "| --- | ---: | ---: | ---: | ---: |",
        "| SGD, 1 seed, b = 1 | 1.00 | 1.20 | – | 1.20 ? (JAX, pinned) |",
        "| SGD, 1 seed, b = 256 | 0.200 | 0.150 | – | 0.75 (JAX, vmapped) |",
        "| SGD, 10 seeds, b = 256 | 0.150 | 0.300 | – | 2.00 (JAX, vmapped) |",
        "| 1024-1024, SGD, 1 seed, b = 256 | 1.00 | – | 0.800 | 0.80 (PyTorch) |",
        "| LeNet, SGD, 1 seed, b = 256 | 8.00 | – | 12.0 | 1.50 (PyTorch) |",
    ]
    assert " in 2 of all 6 cells it is not the fastest:" in table
    rows = pd.DataFrame(ROWS, columns=rounds.COLUMNS)
    rows.loc[(rows["optimizer"] == "adam") & (rows["peer"] == "torch"), "seconds"] = 0.3
    assert " in 3 of all 6 cells" in readme_table(fastest(sum_up(rows, 60_000), "title"))


def test_page_has_every_table(forms):
    text = page(forms, ENVIRONMENT)
    lines = text.splitlines()
    for line in (
        "| JAX | 128-56 | 3 | 1.22 | 1.19 | 0.75 (SGD, 1 seed, b = 256) | 1 | 1 | 1.00 … 1.00 |",
        "| PyTorch | all others | 2 | 1.10 | 1.10 | 0.80 (1024-1024, SGD, 1 seed, b = 256) "
        "| 1 | 0 | 1.00 … 1.02 |",
        "| SGD, 1 seed, b = 1 | 1.20 ?, pinned | – |",
        "| SGD, 1 seed, b = 256 | 0.200 (0.200) | 0.150 (0.150) | – | – |",
        "| SGD, 1 seed, b = 256 | 30 / 54 | 72 / 72 | – |",
        "- JAX: as it is.",
        "| 1024-1024, SGD, 1 seed, b = 256 | torch, 3,000 |",
    ):
        assert line in lines, line
    assert "numpy 2.0.0, OMP_NUM_THREADS=2; 1 to 3 alternating rounds" in text
    assert "kept at most 0.8 cores busy" in text
    assert "\n\n\n" not in text


def test_figure_has_a_panel_for_every_number_of_seeds(tmp_path):
    pd.DataFrame(ROWS, columns=rounds.COLUMNS).to_csv(tmp_path / rounds.FILE, index=False)
    (tmp_path / ENVIRONMENT_FILE).write_text(json.dumps(ENVIRONMENT))
    write_report(tmp_path)
    text = (tmp_path / "benchmark.svg").read_text()
    for word in ("SGD, 1 seed<", "SGD, 10 seeds<", "optsweep", "batch size"):
        assert word in text
    assert (tmp_path / "benchmark.png").stat().st_size > 0


def test_the_kept_page_is_what_its_rows_make(tmp_path, request):
    kept = request.config.rootpath / "notebooks" / "benchmark"
    for name in (rounds.FILE, ENVIRONMENT_FILE):
        shutil.copy(kept / name, tmp_path)
    write_report(tmp_path)
    assert (tmp_path / "benchmark.md").read_text() == (kept / "benchmark.md").read_text()
