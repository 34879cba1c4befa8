"""The space of a search: what is suggested, where, and what lies at an edge."""

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FixedTrial

from optsweep.config.checks import InputError
from optsweep.search.space import Space, at_edge

LR = FloatDistribution(1e-4, 1.0, log=True)
OPTIMIZER = CategoricalDistribution(["sgd", "adam"])
MOMENTUM = FloatDistribution(0.0, 0.99)


def test_a_key_is_chosen_only_where_it_applies():
    space = Space(
        {
            "optimizer": OPTIMIZER,
            "optimizer.momentum": MOMENTUM,
            "trainer.epochs": IntDistribution(1, 9),
        },
        {"optimizer.momentum": {"optimizer": ("sgd",)}},
    )
    values = {"optimizer.momentum": 0.5, "trainer.epochs": 3}
    assert space.suggest(FixedTrial({"optimizer": "sgd", **values})) == {
        "optimizer": "sgd",
        **values,
    }
    adam = FixedTrial({"optimizer": "adam", **values})
    assert space.suggest(adam) == {"optimizer": "adam", "trainer.epochs": 3}


def test_a_condition_may_hold_by_a_fixed_setting():
    conditions = {"optimizer.momentum": {"optimizer": ("sgd", "lars")}}
    for fixed, chosen in (("lars", {"optimizer.momentum": 0.5}), ("adam", {})):
        space = Space({"optimizer.momentum": MOMENTUM}, conditions, {"optimizer": fixed})
        assert space.suggest(FixedTrial({"optimizer.momentum": 0.5})) == chosen


def test_a_condition_on_what_is_chosen_later_is_refused():
    with pytest.raises(
        InputError, match=r"conditions\.optimizer\.momentum: optimizer is not chosen"
    ):
        Space(
            {"optimizer.momentum": MOMENTUM, "optimizer": OPTIMIZER},
            {"optimizer.momentum": {"optimizer": ("sgd",)}},
        )


def test_a_search_for_nothing_is_refused():
    with pytest.raises(InputError, match="a search needs something to search"):
        Space({})


def test_corners_are_the_ends_of_all_ranges():
    space = Space({"optimizer.lr": LR, "optimizer": OPTIMIZER})
    assert space.corners() == [
        {"optimizer.lr": 1e-4, "optimizer": "sgd"},
        {"optimizer.lr": 1.0, "optimizer": "adam"},
    ]


@pytest.mark.parametrize(
    ("distribution", "value", "edge"),
    [
        (LR, 1e-4, True),
        (LR, 1.5e-4, True),  # a fiftieth of the four decades
        (LR, 2e-4, False),
        (LR, 0.5, False),
        (LR, 0.9, True),
        (MOMENTUM, 0.0, False),
        (MOMENTUM, 0.98, True),
        (IntDistribution(1, 100), 1, True),
        (IntDistribution(5, 5), 5, False),
        (OPTIMIZER, "sgd", False),
    ],
)
def test_edges(distribution, value, edge):
    assert at_edge(distribution, value) is edge


def test_the_mapping_tells_spaces_apart():
    def mapping(high):
        return Space({"optimizer.lr": FloatDistribution(1e-4, high, log=True)}).to_mapping()

    assert mapping(1.0) == mapping(1.0) != mapping(0.5)


def test_suggestions_come_from_optuna():
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    chosen = Space({"optimizer.lr": LR, "optimizer": OPTIMIZER}).suggest(study.ask())
    assert study.trials[0].params == chosen
    assert LR.low <= chosen["optimizer.lr"] <= LR.high
