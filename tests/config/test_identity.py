"""The names of cells: everything that decides the result is in the hash, and nothing else."""

import dataclasses
import re
from pathlib import Path

import pytest

from optsweep.config.identity import MAX_LABEL_LENGTH, cell_name, config_hash, label
from optsweep.config.schema import Config, DatasetConfig, MLPConfig, Origin

# Where the data come from, how fast the work goes, and what of it is kept.
IRRELEVANT = {
    "dataset.root",
    "trainer.num_threads",
    "trainer.checkpoint",
    "trainer.keep_weights",
}
ORIGIN = Origin("multirun/cells/default_0123456789", "0123456789", 4)


def other(value):
    """A value of the same kind, but another one."""
    if value is None:
        return 1
    if isinstance(value, bool):
        return not value
    if isinstance(value, (int, float)):
        return value + 1
    if isinstance(value, str):
        return value + "x"
    if isinstance(value, dict):
        return {**value, "another": "x"}
    return (*value, 3)


def variants(config):
    """Every key, and the configuration with that key changed."""
    for group in dataclasses.fields(config):
        value = getattr(config, group.name)
        if dataclasses.is_dataclass(value):
            changed = {
                field.name: dataclasses.replace(
                    value, **{field.name: other(getattr(value, field.name))}
                )
                for field in dataclasses.fields(value)
            }
        elif isinstance(value, dict):
            changed = {key: {**value, key: other(value[key])} for key in value}
        else:
            another = ORIGIN if group.name == "start_from" else other(value)
            yield group.name, dataclasses.replace(config, **{group.name: another})
            continue
        for key, item in changed.items():
            yield f"{group.name}.{key}", dataclasses.replace(config, **{group.name: item})


VARIANTS = dict(variants(Config()))


def test_variants_are_of_every_key():
    assert {"dataset.name", "optimizer.lr", "trainer.epochs", "seed"} <= VARIANTS.keys()
    assert VARIANTS.keys() >= IRRELEVANT


@pytest.mark.parametrize("key", VARIANTS)
def test_hash_is_of_all_that_decides_the_result(key):
    same = config_hash(VARIANTS[key]) == config_hash(Config())
    assert same == (key in IRRELEVANT)


def test_hash_is_of_the_cell_and_the_epoch_that_a_cell_begins_with():
    known = config_hash(Config(start_from=ORIGIN))
    for key, same in (("path", True), ("cell", False), ("epoch", False)):
        moved = dataclasses.replace(ORIGIN, **{key: other(getattr(ORIGIN, key))})
        assert (config_hash(Config(start_from=moved)) == known) == same


def test_hashes_of_variants_differ_from_one_another():
    relevant = [config for key, config in VARIANTS.items() if key not in IRRELEVANT]
    assert len({config_hash(config) for config in relevant}) == len(relevant)


def test_hash_is_ten_hexadecimal_digits():
    assert re.fullmatch("[0-9a-f]{10}", config_hash(Config()))


def test_hash_does_not_depend_on_the_order_of_keys():
    optimizer = dict(reversed(Config().optimizer.items()))
    assert config_hash(Config(optimizer=optimizer)) == config_hash(Config())


@pytest.mark.parametrize(
    ("one", "another"),
    [
        ("optimizer.lr=1", "optimizer.lr=1.0"),
        ("optimizer.lr=0.1", ""),
        ("weight_decay=0", "weight_decay=none"),
        ("momentum=0.90", "momentum=report"),
        ("optimizer=adam momentum=0.6", "momentum=0.6 optimizer=adam"),
        ("batch_size=full", "batch_size=60000"),
        ("depth=deeper layernorm_position=all", "depth=3 layernorm_position=[3,2,1]"),
        ("dataset.root=/elsewhere", "trainer.num_threads=1"),
        ("init=gaussian init.std=1", "init=gaussian init.std=1.0"),
        ("optimizer=adam optimizer.eps=1", "optimizer=adam optimizer.eps=1.0"),
        ("scheduler=polynomial scheduler.power=2", "scheduler=polynomial"),
        ("scheduler=warmup scheduler.warmup_epochs=4.0", "scheduler=warmup"),
    ],
)
def test_a_cell_written_in_two_ways_has_one_name(compose, one, another):
    assert cell_name(compose(*one.split())) == cell_name(compose(*another.split()))


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ("", "default"),
        ("trainer.num_threads=2 dataset.root=/data", "default"),
        ("optimizer.lr=0.2", "lr_0.2"),
        ("momentum=0.9", "momentum_0.9"),
        ("optimizer=adam", "adam-lr_0.001"),
        ("optimizer=amsgrad", "amsgrad-lr_0.001"),
        ("optimizer=adam momentum=report_low", "adam-lr_0.001-betas_0.6_0.666"),
        ("batch_size=full", "batch_size_60000"),
        ("depth=deeper layernorm_position=all", "hidden_128x56x32-layernorm_1+2+3_after"),
        ("num_seeds=5", "seeds_0..4"),
        ("dataset=mnist dataset.val_size=100", "mnist-val_100"),
        ("init=gaussian scheduler=cosine", "gaussian-cosineannealinglr"),
        ("scheduler=cosine scheduler.interval=step", "cosineannealinglr-per_step"),
    ],
)
def test_label_says_what_differs_from_the_default(compose, overrides, expected):
    assert label(compose(*overrides.split())) == expected


def test_label_has_a_fixed_order(compose):
    overrides = ["init=gaussian", "optimizer=adam", "batch_size=32", "num_seeds=3", "depth=1"]
    labels = {
        label(compose(*overrides)),
        label(compose(*reversed(overrides))),
        label(compose(*sorted(overrides))),
    }
    assert labels == {"gaussian-adam-lr_0.001-hidden_128-batch_size_32-seeds_0..2"}


LONGEST = Config(
    dataset=DatasetConfig(name="a / long: name\nof *data* \\ with $every (sign)", val_size=1),
    init={"_target_": "optsweep.models.initializers.orthogonal"},
    optimizer={"_target_": "torch.optim.Adam", "lr": 1 / 3, "betas": [1 / 3, 1 / 7]},
    scheduler={"_target_": "torch.optim.lr_scheduler.CosineAnnealingLR", "interval": "step"},
    model=MLPConfig(tuple(10 * [1024]), tuple(range(1, 11)), "before"),
    seed=2**31 - 1,
    num_seeds=1000,
)


@pytest.mark.parametrize("config", [*VARIANTS.values(), LONGEST])
def test_label_is_short_and_fit_for_a_file_name(config):
    text = label(config)
    assert 1 <= len(text) <= MAX_LABEL_LENGTH == 80
    assert re.fullmatch(r"[A-Za-z0-9_.+-]+", text)
    assert not text.endswith("-")
    assert len(Path(cell_name(config)).parts) == 1


def test_cell_name_is_label_and_hash():
    assert cell_name(LONGEST) == f"{label(LONGEST)}_{config_hash(LONGEST)}"
    assert len(label(LONGEST)) == MAX_LABEL_LENGTH


# Overrides -> the names that these cells have had since the first release. A field that is
# renamed, or a new one that enters the hash, would orphan every finished cell of everybody.
GOLDEN = [
    (
        "",
        "default_e287db8977",
    ),
    (
        "optimizer=adam scheduler=cosine_warmup",
        "adam-lr_0.001-cosine_warmup_9616b382d3",
    ),
    (
        "optimizer=adam momentum=report_low",
        "adam-lr_0.001-betas_0.6_0.666_06a20d327e",
    ),
    (
        "batch_size=full init=gaussian",
        "gaussian-batch_size_60000_b5a9621d23",
    ),
    (
        "batch_size=1",
        "batch_size_1_0cda937b2f",
    ),
    (
        "depth=deeper layernorm_position=first optimizer=lamb",
        "lamb-lr_0.005-hidden_128x56x32-layernorm_1_after_497027bbd3",
    ),
    (
        "layernorm_position=[1,2] model.layernorm_placement=before",
        "layernorm_1+2_before_328d523f6a",
    ),
    (
        "model.hidden_sizes=[256,128]",
        "hidden_256x128_19fc027d1d",
    ),
    (
        "scheduler=factor_fast",
        "factor_from_2_b1c7c9b5f1",
    ),
    (
        "scheduler=factor_slow init=xavier",
        "xavier-factor_from_0.2_db883ff935",
    ),
    (
        "scheduler=piecewise scheduler.interval=step",
        "piecewise-per_step_1b9ee1834e",
    ),
    (
        "scheduler=cosine momentum=nesterov weight_decay=5.5e-3",
        "momentum_0.9-nesterov_True-weight_decay_0.0055-cosineannealinglr_037c58e305",
    ),
    (
        "dataset=mnist",
        "mnist_79c72a2787",
    ),
    (
        "dataset=kmnist",
        "kmnist_204beb21a0",
    ),
    (
        "dataset.val_size=10000 stopping.patience=3",
        "val_10000-stopping_44ea8f2a7e",
    ),
    (
        "dataset.train_size=5000 num_seeds=10 seed=5",
        "train_5000-seeds_5..14_8efa1135b4",
    ),
    (
        "optimizer=torch.optim.Adamax",
        "adamax_214ff416f3",
    ),
    (
        "optimizer=lars optimizer.decay_biases_and_norms=false",
        "lars-lr_3-momentum_0.9-decay_biases_and_norms_False_8d4ace733e",
    ),
    (
        "record.gradients=true trainer.epochs=30",
        "epochs_30-recorded_14fc815bb3",
    ),
    (
        "trainer.precision=float64 trainer.device=cpu trainer.engine=torch",
        "device_cpu-engine_torch-precision_float64_d2f77f1f58",
    ),
    (
        "optimizer=amsgrad optimizer.lr=0.1 trainer.num_threads=2",
        "amsgrad-lr_0.1_0261e9e3b7",
    ),
    (
        "optimizer=rmsprop init=kaiming",
        "kaiming-rmsprop-lr_0.001_fd686918fc",
    ),
    (
        "init=orthogonal scheduler=one_cycle optimizer=nadam",
        "orthogonal-nadam-lr_0.002-onecyclelr-per_step_fd0701f7ec",
    ),
    (
        "optimizer=muon",
        "muon-lr_0.02-momentum_0.95-nesterov_True-rest_lr_0.001_ddcf4870b0",
    ),
    (
        "optimizer=muon optimizer.rest.roles=[last,bias,norm]",
        "muon-lr_0.02-momentum_0.95-nesterov_True-rest_last+bias+norm-rest_lr_0.001_deb02b2f39",
    ),
    (
        "optimizer=schedulefree_sgd",
        "sgdschedulefree-lr_1-momentum_0.9_e03cf45795",
    ),
    (
        "optimizer=schedulefree_adamw",
        "adamwschedulefree-lr_0.0025_f2299887ea",
    ),
    (
        "optimizer=lion",
        "lion-lr_0.0003-betas_0.9_0.99_2ffab800a1",
    ),
    (
        "optimizer=soap",
        "soap-lr_0.003-betas_0.95_0.95_29d935a2a2",
    ),
    (
        "optimizer=prodigy",
        "prodigy-lr_1_c5bfae5828",
    ),
    (
        "optimizer=ademamix",
        "ademamix-lr_0.001-betas_0.9_0.999_0.9999_585a55ba9e",
    ),
    (
        "optimizer=sophia",
        "sophiah-lr_0.06-betas_0.96_0.99_d0157e9df6",
    ),
    (
        "+optimizer.groups.last.lr=0.01",
        "last_lr_0.01_a42d395a10",
    ),
    (
        "optimizer=lars optimizer.adapt_biases_and_norms=false",
        "lars-lr_3-momentum_0.9-adapt_biases_and_norms_False_2c65d256fe",
    ),
    (
        "scheduler=sequential",
        "sequentiallr_1367e6bee2",
    ),
    (
        "scheduler=chained",
        "chainedscheduler_0df981870e",
    ),
    (
        "scheduler=warmup_stable_decay",
        "warmup_stable_decay-per_step_1e994b94ed",
    ),
    (
        "scheduler=one_cycle scheduler.cycle_momentum=true momentum=0.9",
        "momentum_0.9-onecyclelr-per_step_cdb51526f7",
    ),
    (
        "model.dropout=0.25",
        "dropout_0.25_d8c701b559",
    ),
]


@pytest.mark.parametrize(("overrides", "name"), GOLDEN)
def test_names_of_cells_never_change(compose, overrides, name):
    assert cell_name(compose(*overrides.split())) == name
