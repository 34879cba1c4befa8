"""Training a cell: what is recorded of every epoch and seed, divergence, repeatability."""

import dataclasses
import functools
import importlib.metadata
import json
import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from optsweep.data.tensors import load_dataset
from optsweep.engine import reference
from optsweep.models import initializers
from optsweep.surroundings import num_cores
from optsweep.training.cell import train_cell
from optsweep.training.plan import plan_cell

SCORES = [
    f"{split}_{metric}" for split in ("train", "val", "test") for metric in ("loss", "accuracy")
]


@pytest.fixture
def cell(slice_config):
    """`cell(*overrides) -> Config` of a small cell: 10 steps an epoch, of 100 images."""
    small = (
        "trainer.engine=torch",
        "trainer.epochs=3",
        "batch_size=100",
        "model.hidden_sizes=[16,8]",
    )

    def config(*overrides):
        keys = {override.partition("=")[0] for override in overrides}
        renamed = {"batch_size": "trainer.batch_size"}
        kept = [
            one
            for one in small
            if not keys & {one.partition("=")[0], renamed.get(one.partition("=")[0])}
        ]
        return slice_config(*kept, *overrides)

    return config


@pytest.fixture
def spoil(monkeypatch):
    """`spoil(seeds, factor)` multiplies the initial weights of some seeds."""
    gaussian = initializers.gaussian

    def set_up(seeds, factor):
        @functools.wraps(gaussian)
        def spoiled(weight, bias, generator, std=0.01):
            gaussian(weight, bias, generator, std)
            if generator.initial_seed() in seeds:
                weight.mul_(factor)

        monkeypatch.setattr(initializers, "gaussian", spoiled)

    return set_up


def run(config, on_epoch=lambda epoch: None):
    return train_cell(plan_cell(config), on_epoch)


def timeless(record):
    """A record without what differs from run to run."""
    history = [{k: v for k, v in row.items() if k != "seconds"} for row in record.history]
    of_run = ("seconds", "other_cores", "process")
    result = {k: v for k, v in record.result.items() if k not in of_run}
    return history, result


def rows_of(record, seed):
    return [row for row in record.history if row["seed"] == seed]


# --- what is recorded


def test_history_has_a_row_for_every_seed_and_epoch(cell):
    record = run(cell("seed=4", "num_seeds=2", "dataset.val_size=150"))
    # 850 training examples make 9 steps, the last of 50.
    expected = [(seed, epoch, 9 * epoch) for seed in (4, 5) for epoch in range(4)]
    assert [(row["seed"], row["epoch"], row["step"]) for row in record.history] == expected
    for row in record.history:
        assert all(math.isfinite(row[score]) for score in SCORES)
        assert all(0 <= row[score] <= 1 for score in SCORES if score.endswith("accuracy"))


def test_record_is_plain_finite_data(cell):
    record = run(cell("num_seeds=2", "trainer.epochs=1"))
    json.dumps([record.history, record.result], allow_nan=False)


def test_no_validation_split_no_validation_scores(cell):
    record = run(cell("trainer.epochs=1"))
    for row in [*record.history, *record.result["per_seed"]]:
        assert row["val_loss"] is None
        assert row["val_accuracy"] is None


def test_learning_rate_is_that_of_the_last_step_of_the_epoch(cell):
    record = run(cell("scheduler=linear", "scheduler.interval=step"))
    rates = [row["lr"] for row in record.history]
    assert rates[0] is None
    assert rates[1:] == pytest.approx([0.1 * (1 - t / 30) for t in (9, 19, 29)])


def test_seconds_grow_from_zero(cell):
    record = run(cell("num_seeds=2"))
    for seed in (0, 1):
        seconds = [row["seconds"] for row in rows_of(record, seed)]
        assert seconds[0] == 0
        assert (np.diff(seconds) > 0).all()
    assert record.result["seconds"] == record.history[-1]["seconds"]


def test_every_epoch_is_told_when_it_ends(cell):
    told = []
    record = run(cell("num_seeds=2"), told.append)
    assert [epoch.epoch for epoch in told] == [0, 1, 2, 3]
    for epoch in told:
        for seed in (0, 1):
            row = rows_of(record, seed)[epoch.epoch]
            assert row["train_loss"] == epoch.train.loss[seed]
            assert row["test_accuracy"] == epoch.test.accuracy[seed]
            assert epoch.alive[seed]


def test_result_says_what_was_run(cell):
    config = cell("seed=2", "num_seeds=3", "scheduler=multistep")
    record = run(config)
    result = record.result
    assert result["status"] == "completed"
    assert result["num_seeds"] == 3
    assert result["device"] == "cpu"
    assert result["engine"] == "torch"
    assert result["warnings"] == ["scheduler.milestones: 15, 30 is never reached in 3 epochs"]
    assert result["versions"]["torch"] == importlib.metadata.version("torch")
    assert [seed["seed"] for seed in result["per_seed"]] == [2, 3, 4]
    for per_seed in result["per_seed"]:
        assert (per_seed["status"], per_seed["epochs"], per_seed["steps"]) == ("completed", 3, 30)
        last = rows_of(record, per_seed["seed"])[-1]
        assert {score: per_seed[score] for score in SCORES} == {s: last[s] for s in SCORES}


@pytest.mark.parametrize("batch_size", ["100", "full"])
def test_scores_are_those_of_the_weights(cell, train_and_keep, batch_size):
    config = cell("num_seeds=2", "dataset.val_size=200", f"batch_size={batch_size}")
    record, model = train_and_keep(config)
    dataset = load_dataset(config.dataset, torch.device("cpu"), torch.float32)
    per_seed = record.result["per_seed"]
    for name, split in [("final_train", dataset.train), ("val", dataset.val)]:
        with torch.no_grad():
            logits = model.forward(split.images).double()
        for seed in (0, 1):
            loss = functional.cross_entropy(logits[seed], split.labels).item()
            num_correct = (logits[seed].argmax(1) == split.labels).sum().item()
            # A mean of float32 losses: relative rounding of 6e-8 each.
            assert per_seed[seed][f"{name}_loss"] == pytest.approx(loss, rel=1e-6)
            assert per_seed[seed][f"{name}_accuracy"] == num_correct / len(split)


def test_epoch_zero_is_the_untrained_network(cell):
    row = run(cell("trainer.epochs=1", "init.std=0", "init=gaussian")).history[0]
    # Without weights all classes are equally likely, and argmax takes the first.
    assert row["train_loss"] == pytest.approx(math.log(10), rel=1e-6)
    assert row["test_loss"] == pytest.approx(math.log(10), rel=1e-6)


def test_evaluation_in_chunks_is_the_same(cell, monkeypatch):
    config = cell("num_seeds=2", "dataset.val_size=130")
    whole = run(config)
    monkeypatch.setattr(reference, "_EVALUATION_VALUES", 2 * 64 * 194)  # 64 examples a seed
    chunked = run(config)
    for one, other in zip(whole.history, chunked.history, strict=True):
        for score in SCORES:
            assert one[score] == pytest.approx(other[score], rel=1e-6)


# --- the objective


def test_objective_is_the_mean_validation_accuracy(cell):
    result = run(cell("num_seeds=3", "dataset.val_size=150")).result
    accuracies = [seed["val_accuracy"] for seed in result["per_seed"]]
    assert result["objective"] == pytest.approx(sum(accuracies) / 3, rel=1e-15)
    assert len(set(accuracies)) > 1


def test_objective_without_validation_split_is_the_final_training_accuracy(cell):
    result = run(cell("num_seeds=3")).result
    accuracies = [seed["final_train_accuracy"] for seed in result["per_seed"]]
    assert result["objective"] == pytest.approx(sum(accuracies) / 3, rel=1e-15)


@pytest.mark.parametrize("val_size", [0, 150])
def test_diverged_seed_counts_as_zero(cell, spoil, val_size):
    spoil({1}, math.nan)
    result = run(cell("num_seeds=2", "init=gaussian", f"dataset.val_size={val_size}")).result
    accuracy = "val_accuracy" if val_size else "final_train_accuracy"
    assert result["per_seed"][1][accuracy] is None
    assert result["objective"] == pytest.approx(result["per_seed"][0][accuracy] / 2)


# --- divergence

# Weights that are not numbers have diverged before the first step. Weights of 1e10 make a loss
# of 1e30, which float32 has, and a step of 1e19 in every layer, after which it is infinite.
SPOILED = pytest.mark.parametrize(("factor", "last_epoch"), [(math.nan, 0), (1e12, 1)])


@SPOILED
def test_divergence_is_recorded(cell, spoil, factor, last_epoch):
    spoil({1}, factor)
    record = run(cell("num_seeds=3", "init=gaussian"))
    rows = rows_of(record, 1)
    assert [row["epoch"] for row in rows] == list(range(last_epoch + 1))
    for row in rows[:-1]:
        assert math.isfinite(row["train_loss"])
        assert math.isfinite(row["test_accuracy"])
    assert [rows[-1][score] for score in SCORES] == 6 * [None]
    seeds = record.result["per_seed"]
    assert [seed["status"] for seed in seeds] == ["completed", "diverged", "completed"]
    assert record.result["status"] == "completed"
    assert (seeds[1]["epochs"], seeds[1]["steps"]) == (0, 0)  # those that it survived
    for score in [*SCORES, "final_train_loss", "final_train_accuracy"]:
        assert seeds[1][score] is None
        assert (seeds[0][score] is None) == score.startswith("val")
    for seed in (0, 2):
        assert len(rows_of(record, seed)) == 4
    json.dumps([record.history, record.result], allow_nan=False)


@pytest.mark.parametrize("factor", [math.nan, 1e12])
@pytest.mark.parametrize("batch_size", ["100", "full"])
@pytest.mark.parametrize(
    "optimizer",
    [
        "optimizer=sgd",
        "optimizer=adam",
        "optimizer=rmsprop",
        "optimizer=lars",
        "optimizer=lamb",
        "optimizer=torch.optim.Adafactor",
    ],
)
def test_divergence_leaves_the_other_seeds_untouched(
    cell, spoil, train_and_keep, optimizer, batch_size, factor
):
    config = cell(
        "num_seeds=3",
        "init=gaussian",
        optimizer,
        f"batch_size={batch_size}",
        "layernorm_position=first",
    )
    whole, whole_model = train_and_keep(config)
    spoil({1}, factor)
    broken, broken_model = train_and_keep(config)
    for index in (0, 2):
        (one, _), (other, _) = timeless(whole), timeless(broken)
        assert [r for r in one if r["seed"] == index] == [r for r in other if r["seed"] == index]
        assert whole.result["per_seed"][index] == broken.result["per_seed"][index]
        for (name, a), (_, b) in zip(
            whole_model.named_parameters(), broken_model.named_parameters(), strict=True
        ):
            assert torch.equal(a[index], b[index]), name


def test_stack_that_has_diverged_as_a_whole_stops_early(cell):
    told = []
    # Steps grow 1.5 fold, so after 220 of them, 22 epochs, float32 has certainly overflown.
    config = cell("num_seeds=2", "momentum=high", "optimizer.lr=1.0", "trainer.epochs=100")
    record = run(config, told.append)
    assert record.result["status"] == "diverged"
    assert record.result["objective"] == 0.0
    assert [seed["status"] for seed in record.result["per_seed"]] == 2 * ["diverged"]
    assert len(told) <= 1 + 22 + 1
    assert not told[-1].alive.any()
    assert told[-2].alive.any()


def test_seeds_that_diverge_at_different_times_are_each_recorded(cell, spoil):
    spoil({0}, math.nan)
    told = []
    config = cell("num_seeds=2", "init=gaussian", "momentum=high", "trainer.epochs=100")
    record = run(config, told.append)
    assert record.result["status"] == "diverged"
    assert len(rows_of(record, 0)) == 1
    assert len(rows_of(record, 1)) == len(told) > 1
    assert not math.isnan(rows_of(record, 1)[-2]["train_loss"])


def test_seed_whose_final_weights_overflow_on_the_training_split_has_diverged(cell, monkeypatch):
    """It may be a single training example, in the last step, when the test split is still fine."""
    evaluate = reference.ReferenceEngine.evaluate
    losses = []

    def overflowing(self, split):
        scores = evaluate(self, split)
        if split is self.train:
            losses.append(scores.loss)
            if len(losses) == 2:  # of the untrained network, then of the final weights
                scores.loss[1] = math.inf
        return scores

    monkeypatch.setattr(reference.ReferenceEngine, "evaluate", overflowing)
    record = run(cell("num_seeds=2"))
    assert [seed["status"] for seed in record.result["per_seed"]] == ["completed", "diverged"]
    json.dumps([record.history, record.result], allow_nan=False)


# --- repeatability


@pytest.mark.parametrize(
    "overrides",
    [
        ("num_seeds=3", "optimizer=adam", "scheduler=one_cycle"),
        ("num_seeds=2", "batch_size=full", "optimizer=lamb"),
        ("num_seeds=1", "batch_size=64", "dataset.val_size=100", "layernorm_position=all"),
    ],
)
def test_the_same_cell_twice_is_the_same_bit_for_bit(cell, overrides):
    config = cell(*overrides)
    assert timeless(run(config)) == timeless(run(config))


def test_global_random_state_does_not_matter(cell):
    config = cell("num_seeds=2", "trainer.epochs=1")
    torch.manual_seed(1)
    one = run(config)
    torch.manual_seed(2)
    assert timeless(run(config)) == timeless(one)


@pytest.mark.parametrize("batch_size", ["100", "full"])
@pytest.mark.parametrize(("precision", "tolerance"), [("float32", 1e-5), ("float64", 1e-12)])
def test_a_seed_in_a_stack_agrees_with_the_seed_alone(cell, precision, tolerance, batch_size):
    """For the first epoch: after that, rounding grows as it does in any training."""
    shared = (f"batch_size={batch_size}", f"trainer.precision={precision}", "trainer.epochs=1")
    stack = run(cell(*shared, "seed=3", "num_seeds=3"))
    for seed in (3, 4, 5):
        alone = run(cell(*shared, f"seed={seed}"))
        for one, stacked in zip(alone.history, rows_of(stack, seed), strict=True):
            for score in ("train_loss", "test_loss"):
                assert one[score] == pytest.approx(stacked[score], rel=tolerance)


def test_seeds_differ(cell):
    record = run(cell("num_seeds=3", "trainer.epochs=1"))
    for epoch in (0, 1):
        losses = [rows_of(record, seed)[epoch]["train_loss"] for seed in range(3)]
        assert len(set(losses)) == 3


def test_seeds_have_their_own_order_of_examples(cell, monkeypatch):
    """Not only their own weights: with equal weights they still part."""

    @functools.wraps(initializers.kaiming)
    def alike(weight, bias, generator):
        initializers.default(weight, bias, torch.Generator().manual_seed(0))

    monkeypatch.setattr(initializers, "kaiming", alike)
    record = run(cell("num_seeds=2", "init=kaiming", "trainer.epochs=1"))
    (start, end), (other_start, other_end) = (rows_of(record, seed) for seed in (0, 1))
    assert start["train_loss"] == other_start["train_loss"]
    assert end["train_loss"] != other_end["train_loss"]


def test_training_learns(cell):
    record = run(cell("num_seeds=2", "trainer.epochs=20", "optimizer=adam"))
    for per_seed in record.result["per_seed"]:
        assert per_seed["final_train_accuracy"] > 0.7
        assert per_seed["test_accuracy"] > 0.6


def test_threads_are_set_for_the_cell_alone(cell):
    before, counts = torch.get_num_threads(), []
    config = cell("trainer.epochs=1")
    trainer = dataclasses.replace(config.trainer, num_threads=before + 2)
    config = dataclasses.replace(config, trainer=trainer)
    record = run(config, lambda epoch: counts.append(torch.get_num_threads()))
    most = min(before + 2, num_cores())
    assert counts == [most] * 2
    assert record.result["num_threads"] == most
    assert torch.get_num_threads() == before
