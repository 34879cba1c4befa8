"""Measures on a study with known numbers."""

import math

import pytest
from run_tree import config_of, curve, write_cell

from optsweep.report.collection import Setting, collect_runs
from optsweep.report.grids import at_edge, best_of, grid_axes, interaction
from optsweep.report.measures import measure
from optsweep.report.timing import fixed_share, step_times

INF = math.inf


@pytest.fixture(scope="module")
def collection(tree):
    return collect_runs(tree)


@pytest.mark.parametrize(
    ("of", "default", "gaussian"),
    [
        ({"name": "test_accuracy"}, [0.80, 0.81, 0.82], [0.70, 0.71, 0.0]),
        ({"name": "train_loss"}, [0.5, 0.6, 0.7], [1.0, 1.1, INF]),
        ({"name": "train_loss", "epoch": 1}, [1.0, 1.1, 1.2], [1.5, 1.6, 1.7]),
        ({"name": "train_loss", "epoch": -1}, [0.5, 0.6, 0.7], [1.0, 1.1, INF]),
        ({"name": "train_loss", "epoch": 9}, [math.nan] * 3, [math.nan] * 3),
        ({"name": "generalisation_gap"}, [0.03] * 3, [0.03, 0.03, math.nan]),
        ({"name": "running_gap"}, [0.02] * 3, [0.02, 0.02, math.nan]),
        ({"name": "best", "of": "test_accuracy"}, [0.80, 0.81, 0.82], [0.70, 0.71, 0.61]),
        ({"name": "improvement", "of": "train_loss"}, [1.8, 1.7, 1.6], [1.3, 1.2, -INF]),
        (
            {"name": "improvement", "of": "test_accuracy", "start": 0.5},
            [0.10, 0.09, 0.11],
            [0.10, 0.09, -0.61],
        ),
        ({"name": "epochs_to", "test_accuracy": 0.8}, [2, 2, 2], [INF, INF, INF]),
        ({"name": "seconds_to", "train_loss": 1.0}, [2, 4, 4], [4, INF, INF]),
    ],
)
def test_a_measure_is_one_number_per_seed(collection, of, default, gaussian):
    for init, expected in (("default", default), ("gaussian", gaussian)):
        (setting,) = collection.find("r1_init", {"init": init})
        found = measure(collection, setting.cells, of)
        assert found.index.tolist() == [0, 1, 2]
        assert found.tolist() == pytest.approx(expected, nan_ok=True)


def test_wobble_is_what_was_lost_on_the_way(tmp_path):
    steady = curve((2, 0.1), (1, 0.5), (1, 0.6), (1, 0.7))
    unsteady = curve((2, 0.9), (1, 0.5), (1, 0.4), (1, 0.7), (1, 0.55))
    cell = write_cell(tmp_path, config_of(), {0: unsteady, 1: [*steady, steady[-1]]})
    found = measure(collect_runs(tmp_path), [cell], {"name": "wobble"})
    assert found.tolist() == pytest.approx([0.25, 0])  # the fall from epoch 0 is not counted


def test_seconds_leave_out_the_first_epoch_and_belong_to_the_stack(collection):
    (setting,) = collection.find("r1_init", {"init": "default"})
    found = measure(collection, setting.cells, {"name": "seconds_per_epoch"})
    assert found.to_dict() == {0: 2.0}
    steps = measure(collection, setting.cells, {"name": "seconds_per_step"})
    assert steps.to_dict() == {0: pytest.approx(2 / 235)}


def test_times_beside_other_work_are_not_known(tmp_path):
    curves = {seed: curve(*[(1, 0.5)] * 4) for seed in (0, 1)}
    for seed, load in ((0, 0.02), (2, 1.3), (4, None)):
        own = {seed + at: rows for at, rows in curves.items()}
        write_cell(tmp_path, config_of(seed=seed, num_seeds=2), own, other_cores=load)
    collection = collect_runs(tmp_path)
    cells = list(collection.cells.index)
    assert len(collection.taken_alone(cells)) == 2
    found = measure(collection, cells, {"name": "seconds_per_epoch"})
    assert found.to_dict() == pytest.approx({0: 2.0, 2: math.nan, 4: 2.0}, nan_ok=True)
    reached = measure(collection, cells, {"name": "seconds_to", "test_accuracy": 0.5})
    assert reached.isna().to_dict() == {seed: seed in (2, 3) for seed in range(6)}


def test_times_of_another_number_of_threads_are_not_known(tmp_path):
    for seed, threads in enumerate((2, 2, 1, 1)):  # of a tie the more
        scores = {seed: curve(*[(1, 0.5)] * 4)}
        write_cell(tmp_path, config_of(seed=seed), scores, num_threads=threads)
    collection = collect_runs(tmp_path)
    cells = list(collection.cells.index)
    assert collection.threads_of(cells) == 2
    for name in ({"name": "seconds_per_epoch"}, {"name": "seconds_to", "test_accuracy": 0.5}):
        known = measure(collection, cells, name).notna()
        assert known.to_dict() == {0: True, 1: True, 2: False, 3: False}


def test_runs_of_one_process_are_one_time(tmp_path):
    for seed, process in ((0, "a"), (1, "a"), (2, "b")):
        own = {seed: curve(*[(1, 0.5)] * 4)}
        write_cell(tmp_path, config_of(seed=seed, num_seeds=1), own, process=process)
    collection = collect_runs(tmp_path)
    cells = list(collection.cells.index)
    found = measure(collection, cells, {"name": "seconds_per_epoch"})
    assert found.to_dict() == pytest.approx({0: 2.0, 2: 2.0})


def test_an_unknown_measure_is_a_mistake(collection):
    (setting,) = collection.find("r1_init", {"init": "default"})
    with pytest.raises(ValueError, match="there is no measure colour"):
        measure(collection, setting.cells, {"name": "colour"})


def test_the_fixed_share_of_a_steps_time(tmp_path):
    for size in (10, 100, 1000):  # 235 steps an epoch of 2 s each: no work per example
        write_cell(
            tmp_path,
            config_of(batch_size=size, num_seeds=1),
            {0: curve(*[(1, 0.5)] * 4)},
        )
    collection = collect_runs(tmp_path)
    settings = [_setting(collection, cell) for cell in collection.cells.index]
    assert step_times(collection, settings).to_numpy() == pytest.approx(2 / 235)
    assert fixed_share(collection, settings, 100).tolist() == pytest.approx([1])
    assert fixed_share(collection, settings[:2], 100).empty


def test_a_stack_of_seeds_is_no_timing(collection):
    assert step_times(collection, collection.settings_of("r1_init")).empty


@pytest.fixture
def search(tmp_path):
    """Three rates times three decays; validation accuracy 0.1 · rate index + 0.01 · decay index."""
    for i, lr in enumerate((0.1, 0.2, 0.4)):
        for j, decay in enumerate((0.0, 0.1, 0.2)):
            scores = curve((2, 0.1), (1, 0.1 * i + 0.01 * j))
            for each in scores:
                each |= {"val_loss": 1.0, "val_accuracy": each["test_accuracy"] + 0.5}
            config = config_of(lr=lr, weight_decay=decay, val_size=100)
            write_cell(tmp_path, config, {0: scores, 1: scores})
    collection = collect_runs(tmp_path)
    return collection, [_setting(collection, cell) for cell in collection.cells.index]


def test_a_search_chooses_by_validation_and_warns_of_the_edge(search):
    collection, settings = search
    best = best_of(collection, settings)
    assert (best.value("lr"), best.value("weight_decay")) == (0.4, 0.2)
    assert grid_axes(settings) == ["lr", "weight_decay"]
    assert at_edge(best, settings) == ["lr", "weight_decay"]
    inner = [one for one in settings if one.value("lr") == 0.1 and one.value("weight_decay") == 0]
    assert at_edge(inner[0], settings) == ["lr"]  # no decay has nothing below


def test_a_sum_of_rows_and_columns_has_no_interaction(search):
    collection, settings = search
    keys = ("lr", "weight_decay")
    assert interaction(collection, settings, keys).tolist() == pytest.approx([0, 0], abs=1e-12)


def test_a_diagonal_is_all_interaction(tmp_path):
    for i, lr in enumerate((0.1, 0.2)):
        for j, decay in enumerate((0.0, 0.1)):
            scores = curve((2, 0.1), (1, 0.5 if i == j else 0.4))
            for each in scores:
                each |= {"val_loss": 1.0, "val_accuracy": each["test_accuracy"]}
            write_cell(tmp_path, config_of(lr=lr, weight_decay=decay, val_size=100), {0: scores})
    collection = collect_runs(tmp_path)
    settings = [_setting(collection, cell) for cell in collection.cells.index]
    assert interaction(collection, settings, ("lr", "weight_decay")).tolist() == pytest.approx([1])


WEIGHTS = [f"linear1.weight[0,{pixel}]" for pixel in (724, 725, 726)]
SIGNAL = "linear1.weight[0,300]"
TRACES = {  # of epochs 0 to 6
    WEIGHTS[0]: [1, -1, 1, -1, 1, -1, 1],
    WEIGHTS[1]: [0, 0, 0, -1, -1, -1, -1],
    WEIGHTS[2]: [10, 0, 0, 0, 0, 0, 0],
    SIGNAL: [5, 5, 5, 5, 5, 5, 5],
}


@pytest.mark.parametrize(
    ("of", "expected"),
    [
        ({"name": "first_moving_epoch", "weight": WEIGHTS[1]}, 3),
        ({"name": "first_moving_epoch", "weight": "signal"}, 0),
        ({"name": "gradient_size", "weight": "signal"}, 5),
        ({"name": "pixel_nonzero", "weight": WEIGHTS[0]}, 0.01),
        ({"name": "initial_gradient", "parameter": "linear1.weight"}, 3),
        ({"name": "sign_changes", "weight": WEIGHTS[0]}, 1.0),
        ({"name": "sign_changes", "weight": WEIGHTS[1]}, 0.0),
        ({"name": "settling", "weight": WEIGHTS[0]}, 1.0),
        ({"name": "settling", "weight": WEIGHTS[2]}, 0.0),
    ],
)
def test_measures_of_gradients(tmp_path, of, expected):
    config = config_of(record={"gradients": True})
    rows = []
    for epoch in range(7):
        at = {"seed": 0, "epoch": epoch}
        for parameter, trace in TRACES.items():
            rows.append(
                {**at, "quantity": "gradient", "parameter": parameter, "value": trace[epoch]}
            )
        for parameter, norm in (("linear1.weight", 3), ("linear1.bias", 4)):
            value = norm * (1 if epoch < 6 else 0.5)
            rows.append({**at, "quantity": "gradient_norm", "parameter": parameter, "value": value})
    for parameter in TRACES:
        share = 0.6 if parameter == SIGNAL else 0.01
        row = {"seed": 0, "epoch": 0, "quantity": "pixel_nonzero_fraction"}
        rows.append({**row, "parameter": parameter, "value": share})
    cell = write_cell(tmp_path, config, {0: curve(*[(1, 0.5)] * 7)}, rows)
    found = measure(collect_runs(tmp_path), [cell], of)
    assert found.tolist() == pytest.approx([expected])


def _setting(collection, cell: str) -> Setting:
    row = collection.cells.loc[cell]
    return Setting(cell, (cell,), {}, row["facets"], row["status"], "")
