"""Overrides, labels and facets."""

import pandas as pd
import pytest
from run_tree import config_of

from optsweep.report import settings
from optsweep.report.searches import readable_trials

LENET = "optsweep.models.lenet.LeNet"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", {}),
        ("init=gaussian", {"init": "gaussian"}),
        ("optimizer.momentum=0.9 trainer.batch_size=256", {"momentum": 0.9, "batch_size": 256}),
        ("optimizer.betas=[0.6,0.666]", {"betas": (0.6, 0.666)}),
        ("+optimizer.eps=1e-6", {"eps": 1e-6}),
        ("optimizer=custom optimizer._target_=torch.optim.Adamax", {"optimizer": "adamax"}),
        ("dataset.root='/a b/c=d' seed=1", {"root": "/a b/c=d", "seed": 1}),
        ("optimizer.nesterov=true optimizer.lr=null", {"nesterov": True, "lr": None}),
    ],
)
def test_overrides_become_values(text, expected):
    assert settings.parse_overrides(text) == expected


def test_a_label_says_what_a_user_would_write():
    chosen = {"init": "xavier", "scheduler": "cosine_warmup", "lr": 0.1, "betas": (0.6, 0.666)}
    assert settings.label(chosen, list(chosen)) == (
        "xavier, cosine warmup, lr 0.1, betas (0.6, 0.666)"
    )


def test_facets_are_plain_and_the_schedules_base_counts():
    found = settings.facets(config_of(init="gaussian", momentum=0.9).to_mapping())
    assert found["init"] == "gaussian"
    assert found["optimizer"] == "sgd"
    assert found["scheduler"] == "constant"
    assert found["momentum"] == 0.9
    assert found["num_train"] == 60000
    assert settings.family(found) == "sgd with momentum"
    assert (found["model"], found["depth"]) == ("mlp", 2)
    lenet = settings.facets(config_of(model={"_target_": LENET}).to_mapping())
    assert lenet["model"] == "lenet"
    assert "depth" not in lenet
    assert settings.family(lenet) == "sgd (lenet)"
    factor = {"_target_": "optsweep.optim.schedules.factor", "factor": 0.9, "base_lr": 2.0}
    assert settings.facets(config_of(scheduler=factor).to_mapping())["lr"] == 2.0


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ({}, True),
        ({"batch_size": 60000}, True),
        ({"batch_size": "full"}, True),
        ({"batch_size": 256}, False),
        ({"layernorm_position": []}, True),
        ({"nesterov": False}, True),
        ({"nesterov": 0}, False),
        ({"unknown": 1}, False),
    ],
)
def test_a_setting_is_matched_by_overrides_or_facets(where, expected):
    chosen = {"batch_size": "full"}
    facets = {"batch_size": 60000, "layernorm_position": (), "nesterov": False}
    assert settings.matches(where, chosen, facets) is expected


def test_two_rates_of_one_optimizer_are_two_settings():
    # Muon's, and that of the optimizer of the parameters that are no matrices.
    rates = "optimizer.lr=0.02 optimizer.rest.lr=0.003"
    assert settings.parse_overrides(rates) == {"lr": 0.02, "rest_lr": 0.003}
    assert settings.in_words(f"optimizer=muon {rates}") == "muon, lr 0.02, rest lr 0.003"
    trials = pd.DataFrame({"optimizer.lr": [0.02], "optimizer.rest.lr": [0.003]})
    assert readable_trials(trials).iloc[0].to_dict() == {"lr": "0.02", "rest lr": "0.003"}
