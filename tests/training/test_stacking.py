"""Cells that are trained as one stack are recorded as each alone, but for rounding."""

import pytest
import torch

from optsweep.config.checks import ForeignError
from optsweep.training import stacking
from optsweep.training.cell import train_cell
from optsweep.training.plan import plan_cell
from optsweep.training.stacking import free_memory, pays, stacked, stacks_of, train_cells, why_alone

CPU = torch.device("cpu")
SMALL = (
    *("model.hidden_sizes=[12,8]", "batch_size=48", "trainer.epochs=2", "num_seeds=2"),
    *("dataset.train_size=150", "trainer.precision=float64"),
)
# Everything in which members may differ, one after the other.
GRID = [
    ["optimizer.lr=0.1"],
    ["optimizer.lr=0.02", "seed=5", "num_seeds=3"],
    ["weight_decay=0.1"],
    ["momentum=0.9"],
    ["momentum=nesterov", "optimizer.lr=0.01"],
    ["scheduler=cosine"],
    ["scheduler=one_cycle", "scheduler.interval=step"],
    ["init=kaiming"],
    ["optimizer=adam"],
    ["optimizer=adamw", "optimizer.decay_biases_and_norms=false", "weight_decay=0.1"],
    ["optimizer=lars", "optimizer.lr=0.5"],
    ["optimizer=adam", "+optimizer.groups.last.lr=1e-4"],
]


@pytest.fixture
def planned(slice_config):
    """`planned(*overrides) -> Plan` of a small cell."""

    def plan(*overrides):
        own = {override.partition("=")[0] for override in overrides}
        own |= {"model.hidden_sizes"} if "model" in own else set()
        given = [each for each in SMALL if each.partition("=")[0] not in own]
        return plan_cell(slice_config(*given, *overrides))

    return plan


def unlimited(device):
    return None


def assert_alike(found, expected, num_others):
    def but_scores(row):
        return {k: v for k, v in row.items() if not k.endswith(("_loss", "_accuracy", "seconds"))}

    def scores(row):
        keys = [key for key in row if key.endswith(("_loss", "_accuracy"))]
        return {key: row[key] for key in keys if row[key] is not None}

    pairs = [*zip(found.history, expected.history, strict=True)]
    pairs += zip(found.result["per_seed"], expected.result["per_seed"], strict=True)
    for one, other in pairs:
        assert but_scores(one) == but_scores(other)
        assert scores(one) == pytest.approx(scores(other), rel=1e-9)
    own = {"per_seed", "seconds", "warnings", "objective", "other_cores"}
    assert found.result.keys() == expected.result.keys()
    for key in found.result.keys() - own:
        assert found.result[key] == expected.result[key], key
    assert found.result["objective"] == pytest.approx(expected.result["objective"], rel=1e-9)
    (note,) = found.result["warnings"]
    assert f"with {num_others} other cells" in note
    assert found.gradients == expected.gradients == []


@pytest.mark.parametrize("engine", ["torch", "torch_graph"])
def test_cells_of_a_stack_are_as_each_alone(planned, engine):
    plans = [planned(f"trainer.engine={engine}", *overrides) for overrides in GRID]
    assert {plan.engine.name for plan in plans} == {engine}
    assert stacks_of(plans, unlimited) == [plans]
    told = []
    records = train_cells(plans, told.append)
    assert [[epoch.epoch for epoch in epochs] for epochs in told] == [[n] * 12 for n in range(3)]
    assert [epochs[5].lr for epochs in told] == [None, *plans[5].learning_rates[:, -1]]
    for plan, record in zip(plans, records, strict=True):
        assert_alike(record, train_cell(plan), len(plans) - 1)
    shares = [record.result["seconds"] for record in records]
    assert shares[1] / shares[0] == pytest.approx(3 / 2)


@pytest.mark.parametrize("overrides", [["model=lenet", "dataset.train_size=100"]], ids=["lenet"])
def test_other_networks(planned, overrides):
    common = ("trainer.engine=torch", "trainer.epochs=1", *overrides)
    plans = [planned(*common, f"optimizer={name}") for name in ("sgd", "adam")]
    for plan, record in zip(plans, train_cells(plans), strict=True):
        assert_alike(record, train_cell(plan), 1)


def test_each_member_draws_its_own_masks(planned):
    common = ("trainer.engine=torch", "model.dropout=0.3")
    plans = [planned(*common, *more) for more in (["init=xavier"], ["optimizer.lr=0.05"])]
    for plan, record in zip(plans, train_cells(plans), strict=True):
        assert_alike(record, train_cell(plan), 1)


@pytest.mark.parametrize("engine", ["torch", "torch_graph"])
def test_a_cell_that_diverges_leaves_the_others_alone(planned, engine):
    common = (f"trainer.engine={engine}", "trainer.epochs=3")
    grid = (["optimizer.lr=0.1"], ["optimizer.lr=1e38", "weight_decay=1e38"], ["momentum=0.9"])
    plans = [planned(*common, *overrides) for overrides in grid]
    records = train_cells(plans)
    statuses = [record.result["status"] for record in records]
    assert statuses == ["completed", "diverged", "completed"]
    for plan, record in zip(plans, records, strict=True):
        assert_alike(record, train_cell(plan), 2)


def test_only_cells_of_one_shape_are_put_together(planned):
    torch_s = "trainer.engine=torch"
    cells = {
        "sgd": [torch_s],
        "numba": ["trainer.engine=numba"],
        "adam": [torch_s, "optimizer=adam"],
        "wide": [torch_s, "model.hidden_sizes=[20]"],
        "long": [torch_s, "trainer.epochs=3"],
        "large batch": [torch_s, "batch_size=64"],
        "single": [torch_s, "trainer.precision=float32"],
        "kept": [torch_s, "trainer.keep_weights=true"],
        "recorded": [torch_s, "record.weights=true"],
        "cycled": [torch_s, "momentum=0.9", "scheduler=one_cycle", "scheduler.cycle_momentum=true"],
        "kaiming": [torch_s, "init=kaiming"],
        "compiled, too": ["trainer.engine=numba", "optimizer=adam"],
    }
    plans = {name: planned(*overrides) for name, overrides in cells.items()}
    names = {id(plan): name for name, plan in plans.items()}
    found = [[names[id(p)] for p in stack] for stack in stacks_of(plans.values(), unlimited)]
    together = ["sgd", "adam", "kaiming"]
    assert sorted(found) == sorted([together, *([name] for name in cells if name not in together)])
    alone = {name: why_alone(plan) for name, plan in plans.items() if why_alone(plan)}
    assert alone == {
        "numba": "engine numba trains seeds one by one",
        "compiled, too": "engine numba trains seeds one by one",
        "kept": "weights are kept",
        "recorded": "weights or gradients are recorded",
        "cycled": "its schedule changes more than the learning rate",
    }
    assert not any(map(pays, plans.values()))  # on a CPU


def test_a_stack_takes_no_more_memory_than_half_of_what_is_free(planned):
    plans = [planned("trainer.engine=torch", f"optimizer.lr={lr}") for lr in (0.1, 0.2, 0.3, 0.4)]
    one = plans[0].num_bytes()
    sizes = [len(stack) for stack in stacks_of(plans, lambda device: 2 * one)]
    assert sizes == [1, 1, 1, 1]
    sizes = [len(stack) for stack in stacks_of(plans, lambda device: 8 * one)]
    assert sizes == [4]
    assert free_memory(CPU) > 0


def test_a_stack_takes_what_the_moments_of_each_cell_take(planned):
    sgd, adam = (planned("trainer.engine=torch", f"optimizer={name}") for name in ("sgd", "adam"))
    mixed, same = sgd.num_bytes(stacked([sgd, adam])), sgd.num_bytes(stacked([sgd, sgd]))
    assert mixed == sgd.num_bytes(stacked([adam, sgd]))
    moments = 2 * adam.shape.num_weights * adam.work.num_seeds * adam.work.dtype.itemsize
    assert mixed - same == moments


def test_there_is_a_most_of_cells(planned, monkeypatch):
    monkeypatch.setattr(stacking, "_MOST_CELLS", 3)
    plans = [planned("trainer.engine=torch", f"optimizer.lr={lr}") for lr in (0.1, 0.2, 0.3, 0.4)]
    assert [len(stack) for stack in stacks_of(plans, unlimited)] == [3, 1]


def test_what_one_optimizer_raises_is_told(planned, monkeypatch):
    plans = [planned("trainer.engine=torch", f"optimizer={name}") for name in ("sgd", "lars")]

    def refuse(*_):
        raise RuntimeError("no step today")

    monkeypatch.setattr(plans[1].work.optimizer.target, "_update", refuse)
    with pytest.raises(ForeignError, match="no step today"):
        train_cells(plans)
