"""The space of a search: what is suggested, where, and what lies at an edge."""

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FixedTrial

from optsweep.config.checks import InputError
from optsweep.search.space import Space, at_edge, identity

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


def test_examples_have_every_value_and_both_ends():
    space = Space({"optimizer.lr": LR, "optimizer": CategoricalDistribution(["a", "b", "c"])})
    assert space.examples() == [
        {"optimizer.lr": 1e-4, "optimizer": "a"},
        {"optimizer.lr": 1.0, "optimizer": "b"},
        {"optimizer.lr": 1e-4, "optimizer": "c"},
    ]
    assert list(space.example_values()) == [
        ("optimizer.lr", 1e-4),
        ("optimizer.lr", 1.0),
        *(("optimizer", name) for name in "abc"),
    ]


def test_a_value_brings_along_what_it_depends_on():
    space = Space(
        {
            "optimizer": OPTIMIZER,
            "nesterov": CategoricalDistribution([False, True]),
            "momentum": MOMENTUM,
        },
        {"nesterov": {"optimizer": ("adam",)}, "momentum": {"nesterov": (True,)}},
    )
    point = {"optimizer": "adam", "nesterov": True, "momentum": 0.5}
    assert space.with_value("momentum", 0.5, {"optimizer": "sgd"}) == [point] * 2
    assert space.with_value("optimizer", "sgd", point) == [{"optimizer": "sgd"}] * 2
    assert [point["momentum"] for point in space.with_value("nesterov", True, {})] == [0.0, 0.99]


def test_the_points_of_a_finite_space():
    space = Space(
        {
            "optimizer": OPTIMIZER,
            "epochs": IntDistribution(1, 5, step=2),
            "momentum": FloatDistribution(0.0, 0.2, step=0.1),
        },
        {"epochs": {"optimizer": ("sgd",)}, "momentum": {"optimizer": ("adam",)}},
    )
    points = list(space.points())
    assert points == [
        *({"optimizer": "sgd", "epochs": epochs} for epochs in (1, 3, 5)),
        *({"optimizer": "adam", "momentum": momentum} for momentum in (0.0, 0.1, 0.2)),
    ]
    tried = set(map(identity, points))
    assert space.is_exhausted(tried)
    assert not space.is_exhausted(tried - {identity({"optimizer": "adam", "momentum": 0.1})})


def test_a_continuum_is_never_exhausted_unless_it_cannot_apply():
    ranges = {"optimizer": OPTIMIZER, "momentum": MOMENTUM}
    tried = set(map(identity, ({"optimizer": "adam"}, {"optimizer": "sgd"})))
    conditions = {"momentum": {"optimizer": ("sgd",)}}
    assert not Space(ranges, conditions).is_exhausted(tried)
    assert Space(ranges, {"momentum": {"init": ("a",)}}, {"init": "b"}).is_exhausted(tried)


@pytest.mark.parametrize(
    ("conditions", "message"),
    [
        ({"momentun": {"optimizer": ("sgd",)}}, "momentun: it is not searched; did you mean mom"),
        ({"momentum": {"optimiser": ("sgd",)}}, "optimiser is not chosen before it; did you mean"),
        ({"momentum": {"optimizer": ("sdg",)}}, "optimizer=sdg: it cannot occur; valid are sgd"),
        ({"momentum": {"epochs": (12,)}}, "epochs=12: it cannot occur; valid are numbers from 1"),
        ({"momentum": {"epochs": (True,)}}, "epochs=true: it cannot occur"),
    ],
)
def test_conditions_that_cannot_hold_are_refused(conditions, message):
    dimensions = {
        "optimizer": OPTIMIZER,
        "epochs": IntDistribution(1, 9),
        "momentum": MOMENTUM,
    }
    with pytest.raises(InputError, match=message):
        Space(dimensions, conditions)


def test_values_are_compared_as_a_command_line_has_them():
    for choices, wanted in (((True, False), "true"), (("1e-3",), 0.001), (("null", "a"), None)):
        space = Space(
            {"key": CategoricalDistribution(choices), "momentum": MOMENTUM},
            {"momentum": {"key": (wanted,)}},
        )
        assert space.choose(lambda key, each: getattr(each, "choices", [0.5])[0]) == {
            "key": choices[0],
            "momentum": 0.5,
        }


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
