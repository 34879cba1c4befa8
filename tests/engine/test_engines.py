"""The compiled engine against the reference, step by step, for all that it accepts."""

import dataclasses
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
import yaml

from optsweep.config.checks import InputError
from optsweep.config.schema import Config
from optsweep.data.tensors import Split, epoch_orders, load_dataset
from optsweep.engine.choice import ENGINES, choose_engine
from optsweep.engine.compiled import cache
from optsweep.engine.compiled.rules import rule_of
from optsweep.models.initializers import default
from optsweep.models.mlp import StackedMLP
from optsweep.training.cell import train_cell
from optsweep.training.plan import plan_cell

CPU = torch.device("cpu")
SEEDS = 2
NUM_EXAMPLES = 40  # batches of 32 leave a partial one; 80 steps of one example
SGD = "torch.optim.SGD"

OPTIMIZERS = {
    "sgd": {"_target_": SGD, "lr": 0.1},
    "sgd with decay": {"_target_": SGD, "lr": 0.1, "weight_decay": 1e-2},
    "momentum": {"_target_": SGD, "lr": 0.01, "momentum": 0.9, "weight_decay": 1e-3},
    "nesterov": {"_target_": SGD, "lr": 0.01, "momentum": 0.9, "nesterov": True},
    "adam": {"_target_": "torch.optim.Adam", "lr": 1e-3, "weight_decay": 1e-3},
    "adam betas": {"_target_": "torch.optim.Adam", "lr": 1e-3, "betas": [0.6, 0.666]},
    "amsgrad": {"_target_": "torch.optim.Adam", "lr": 1e-3, "amsgrad": True},
    "adamw": {"_target_": "torch.optim.AdamW", "lr": 1e-3, "weight_decay": 0.1},
    "adamw default": {"_target_": "torch.optim.AdamW", "lr": 1e-3},
    "nadam": {"_target_": "torch.optim.NAdam", "lr": 1e-3, "weight_decay": 1e-3},
    "radam": {"_target_": "torch.optim.RAdam", "lr": 1e-3, "weight_decay": 1e-3},
    "rmsprop": {"_target_": "torch.optim.RMSprop", "lr": 1e-3, "weight_decay": 1e-3},
    "lars": {"_target_": "optsweep.optim.layerwise.LARS", "lr": 1.0, "weight_decay": 1e-3},
    "lamb": {"_target_": "optsweep.optim.layerwise.LAMB", "lr": 1e-3, "weight_decay": 1e-2},
    "adagrad": {"_target_": "torch.optim.Adagrad", "lr": 1e-2, "weight_decay": 1e-3},
}
# Few depths: the compiler takes some ten seconds for each.
NETWORKS = {
    "report": {},
    "deep": {"hidden_sizes": [16, 12, 8, 8]},
    "norm after": {"hidden_sizes": [16, 8], "layernorm_position": [2]},
    "norm before": {
        "hidden_sizes": [16, 8],
        "layernorm_position": "all",
        "layernorm_placement": "before",
    },
}


@pytest.fixture
def default_dtype():
    """`default_dtype(dtype)`: NAdam keeps its product of momenta in the default type."""
    before = torch.get_default_dtype()
    yield torch.set_default_dtype
    torch.set_default_dtype(before)


@pytest.fixture(scope="module")
def train_split(slice_config):
    split = load_dataset(slice_config().dataset, CPU, torch.float64).train
    return Split(split.flat[:NUM_EXAMPLES], split.labels[:NUM_EXAMPLES])


def trained(train_split, precision, batch_size, optimizer, model, decay_all=True):
    """Both engines after two epochs with a rate that changes at every step."""
    values = {
        "optimizer": optimizer | {"decay_biases_and_norms": decay_all},
        "model": model,
        "num_seeds": SEEDS,
        "trainer": {"batch_size": batch_size},
        "dataset": {"num_train": len(train_split)},
    }
    config = Config.from_mapping(values)
    dtype = getattr(torch, precision)
    work = dataclasses.replace(plan_cell(config).work, dtype=dtype)
    split = Split(train_split.images.to(dtype), train_split.labels)
    num = len(split)
    steps = -(-num // batch_size)
    rates = np.linspace(0.5, 1, steps) * optimizer["lr"]
    engines = []
    for name in ("torch", "numba"):
        shape = split.images.shape[1:]
        network = StackedMLP(config.model, config.seeds, default, shape, 10, CPU, dtype)
        engine = ENGINES[name].build(work, network, split)
        assert engine.name == name
        scores = []
        for epoch in (1, 2):
            full = batch_size == num
            orders = None if full else epoch_orders(config.seeds, epoch, num, CPU)
            scores += [engine.train_epoch(orders, rates), engine.evaluate(split)]
        engines.append((network.named_parameters(), scores))
    return engines


def assert_same(reference, fast, tolerance):
    for (name, expected), (_, found) in zip(reference[0], fast[0], strict=True):
        difference = (found - expected).flatten(1).norm(dim=1).detach()
        assert (difference / expected.flatten(1).norm(dim=1)).max() < tolerance, name
    for expected, found in zip(reference[1], fast[1], strict=True):
        np.testing.assert_allclose(found.loss, expected.loss, rtol=tolerance)
        # A prediction may flip where two logits are equal to rounding.
        np.testing.assert_allclose(found.accuracy, expected.accuracy, atol=1.5 / NUM_EXAMPLES)


# Over 80 steps rounding grows where an update divides by a tiny second moment; float64
# tells that the mathematics is the same.
TOLERANCES = {"float32": 1e-4, "float64": 1e-9}
# NAdam multiplies its momenta in the parameters' precision in torch, in float64 here; at one
# example a step that rounding was seen to grow to 9e-4 in float32.
NADAM_FLOAT32 = 5e-3


@pytest.mark.parametrize("precision", ["float64", "float32"])
@pytest.mark.parametrize("batch_size", [1, 32, NUM_EXAMPLES])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_rule(train_split, default_dtype, optimizer, batch_size, precision):
    default_dtype(getattr(torch, precision))
    engines = trained(train_split, precision, batch_size, OPTIMIZERS[optimizer], {})
    rounded = optimizer == "nadam" and precision == "float32"
    assert_same(*engines, NADAM_FLOAT32 if rounded else TOLERANCES[precision])


@pytest.mark.parametrize(
    "settings",
    [
        {"_target_": "torch.optim.Adam", "betas": [0.9, 0.999]},
        {"_target_": "torch.optim.Adam", "betas": [1e-9, 0.9], "amsgrad": True},
        {"_target_": "torch.optim.AdamW", "betas": [1e-9, 0.9], "weight_decay": 0.1},
        {"_target_": "torch.optim.NAdam", "betas": [0.5, 0.9]},
        {"_target_": "torch.optim.RAdam", "betas": [0.5, 0.9]},
        {"_target_": "torch.optim.RMSprop", "alpha": 0.9},
        {"_target_": "torch.optim.Adagrad"},
    ],
    ids=lambda settings: settings["_target_"].rpartition(".")[2],
)
def test_inputs_that_are_zero_in_many_examples(train_split, default_dtype, settings):
    """Their moments decay for up to 79 steps at once; 1e-9 leaves nothing of one after 36."""
    default_dtype(torch.float64)
    is_used = torch.zeros(NUM_EXAMPLES, 784, dtype=torch.bool)
    is_used[::13, ::2] = True  # half of the inputs in every thirteenth example
    is_used[-1, 1::2] = True  # the others in the last one alone
    sparse = Split(train_split.flat * is_used, train_split.labels)
    assert 0 < (sparse.images != 0).sum(1).float().mean() < 40
    assert_same(*trained(sparse, "float64", 1, settings | {"lr": 1e-3}, {}), 1e-9)


@pytest.mark.parametrize("optimizer", ["adam betas", "amsgrad", "adamw default", "rmsprop"])
def test_inputs_that_are_zero_for_four_thousand_examples(train_split, optimizer):
    """In steps of one example their weights are caught up with, in all other steps they are not."""
    num = 4_100
    which = torch.arange(num) % NUM_EXAMPLES
    images = train_split.flat[which]
    images[1:-20, ::3] = 0
    split = Split(images, train_split.labels[which])
    chosen = OPTIMIZERS[optimizer] | {"weight_decay": 0.1 if optimizer == "adamw default" else 0.0}
    assert_same(*trained(split, "float64", 1, chosen, {"hidden_sizes": [20, 7]}), 1e-7)


@pytest.mark.parametrize("decay_all", [True, False])
@pytest.mark.parametrize("batch_size", [1, 3, 32])
@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "adamw", "lars", "lamb"])
def test_every_network(train_split, optimizer, network, batch_size, decay_all):
    chosen = OPTIMIZERS[optimizer] | {"weight_decay": 0.01}
    engines = trained(
        train_split, "float64", batch_size, chosen, NETWORKS[network], decay_all=decay_all
    )
    assert_same(*engines, 1e-9)


@pytest.mark.parametrize("precision", ["float64", "float32"])
@pytest.mark.parametrize("batch_size", [1, 4, 8, 32, NUM_EXAMPLES])
@pytest.mark.parametrize("optimizer", ["sgd with decay", "momentum", "adam", "amsgrad", "lamb"])
@pytest.mark.parametrize("num_inputs", [3, 37])
def test_inputs_of_any_number_none_of_which_is_zero(
    train_split, num_inputs, optimizer, batch_size, precision
):
    """Vectors, shares and tiles that are not whole, and inputs of both signs."""
    generator = torch.Generator().manual_seed(0)
    standardised = torch.randn(NUM_EXAMPLES, num_inputs, generator=generator, dtype=torch.float64)
    assert (standardised != 0).all()
    engines = trained(
        Split(standardised, train_split.labels),
        precision,
        batch_size,
        OPTIMIZERS[optimizer],
        {"hidden_sizes": [130, 7]},
    )
    assert_same(*engines, TOLERANCES[precision])


def history(config):
    record = train_cell(plan_cell(config))
    return [{k: v for k, v in row.items() if k != "seconds"} for row in record.history]


def test_a_seed_does_not_depend_on_its_stack(slice_config):
    stack = history(slice_config("num_seeds=3", "trainer.engine=numba", "trainer.epochs=2"))
    alone = history(slice_config("seed=1", "trainer.engine=numba", "trainer.epochs=2"))
    assert [row for row in stack if row["seed"] == 1] == alone


@pytest.mark.parametrize("batch_size", [1, 3, 32, 100, 1000])
@pytest.mark.parametrize("optimizer", ["sgd", "sgd momentum=0.9", "adam", "lamb"])
def test_history_does_not_depend_on_the_number_of_threads(slice_config, optimizer, batch_size):
    """One to four threads for a seed, two for each of two or for the last of three: all alike."""
    common = (*f"optimizer={optimizer}".split(), f"batch_size={batch_size}", "trainer.engine=numba")
    common += ("trainer.epochs=2",)  # threads that share a core take long to meet after each step
    before = torch.get_num_threads()
    try:
        alone = [
            history(slice_config("seed=1", f"trainer.num_threads={threads}", *common))
            for threads in (1, 2, 3, 4)
        ]
        stack = history(slice_config("num_seeds=2", "trainer.num_threads=4", *common))
        of_three = [
            history(slice_config("num_seeds=3", f"trainer.num_threads={threads}", *common))
            for threads in (1, 2)
        ]
    finally:
        torch.set_num_threads(before)
    assert alone == [[row for row in stack if row["seed"] == 1]] * 4
    assert of_three[0] == of_three[1]


def test_a_diverged_seed_leaves_the_others_untouched(slice_config):
    config = slice_config("num_seeds=2", "trainer.engine=numba", "trainer.epochs=3")
    plan = plan_cell(config)
    expected = history(config)
    network = StackedMLP(config.model, config.seeds, default, 784, 10, CPU)
    network.weights[0].data[1] = float("nan")
    split = load_dataset(config.dataset, CPU, torch.float32).train
    engine = ENGINES[plan.engine.name].build(plan.work, network, split)
    for epoch in (1, 2, 3):
        orders = epoch_orders(config.seeds, epoch, len(split), CPU)
        scores = engine.train_epoch(orders, plan.learning_rates[epoch - 1])
        assert scores.loss[0] == expected[epoch]["train_loss"]
        assert np.isnan(scores.loss[1])


def test_code_from_the_cache_gives_what_fresh_code_gives(slice_config, tmp_path):
    config = slice_config("trainer.epochs=2", "trainer.engine=numba")
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config.to_mapping()))
    program = (
        "import sys, yaml; from optsweep.config.schema import Config; "
        "from optsweep.training.cell import train_cell; "
        "from optsweep.training.plan import plan_cell; "
        "config = Config.from_mapping(yaml.safe_load(open(sys.argv[1]))); "
        "print([row['test_loss'] for row in train_cell(plan_cell(config)).history])"
    )
    printed = {
        subprocess.run(
            [sys.executable, "-c", program, str(tmp_path / "config.yaml")],
            env={**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "cache")},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for _ in range(2)
    }
    assert len(printed) == 1
    assert list((tmp_path / "cache").rglob("*.nbc"))


def test_kept_code_belongs_to_one_state_of_all_sources(tmp_path, monkeypatch):
    for name in ("a.py", "b.py"):
        (tmp_path / name).write_text(name)
    monkeypatch.setattr(cache, "__file__", str(tmp_path / "a.py"))
    before = cache._state()
    assert cache._state() == before
    (tmp_path / "b.py").write_text("another")
    assert cache._state() != before


@pytest.mark.parametrize(
    ("overrides", "choice"),
    [
        ((), "numba"),
        (("trainer.engine=torch",), "torch"),
        (("optimizer=adamw",), "numba"),
        (("optimizer=lars",), "numba"),
        (
            ("optimizer=rmsprop", "momentum=0.9"),
            "torch (numba has no rule for these settings of RMSprop)",
        ),
        (
            ("optimizer=torch.optim.Adamax",),
            "torch (numba has no rule for these settings of Adamax)",
        ),
        (
            ("+optimizer.maximize=true",),
            "torch (numba has no rule for these settings of SGD)",
        ),
    ],
)
def test_the_choice_of_the_engine(slice_config, overrides, choice):
    assert str(plan_cell(slice_config(*overrides)).engine) == choice


def test_only_auto_chooses_another_engine_than_the_one_wanted(slice_config):
    config = slice_config("optimizer=rmsprop", "momentum=0.9", "trainer.engine=numba")
    with pytest.raises(InputError, match="engine=numba: numba has no rule for these settings of"):
        plan_cell(config)


def test_other_devices_have_the_reference(slice_config):
    work = dataclasses.replace(plan_cell(slice_config()).work, device=torch.device("cuda"))
    assert choose_engine(work, "auto") == ("torch", "numba is for the CPU")


@pytest.mark.parametrize(
    ("target", "given", "fused"),
    [("Adam", {}, True), ("AdamW", {"foreach": True}, None), ("SGD", {}, None)],
)
def test_the_reference_takes_the_fused_kernels_that_are_faster(train_split, target, given, fused):
    optimizer = {"_target_": f"torch.optim.{target}", "lr": 0.1, **given}
    dataset, trainer = {"num_train": NUM_EXAMPLES}, {"batch_size": 32}
    values = {"optimizer": optimizer, "dataset": dataset, "trainer": trainer}
    work = dataclasses.replace(plan_cell(Config.from_mapping(values)).work, dtype=torch.float64)
    shape = train_split.images.shape[1:]
    network = StackedMLP(work.model, [0], default, shape, 10, CPU, torch.float64)
    (group,) = ENGINES["torch"].build(work, network, train_split).optimizer.param_groups
    assert group["fused"] is fused


def test_a_rule_needs_all_of_its_settings():
    assert rule_of(torch.optim.Adam, {"lr": 1.0, "capturable": True}) is None
