"""The arguments of a network's constructor: filled in, given, unknown, missing."""

import pytest
from torch import nn

from optsweep.config.checks import InputError
from optsweep.config.schema import ModuleConfig
from optsweep.config.targets import allow_targets
from optsweep.models.constructor import constructor

SHAPE, NUM_CLASSES = (3, 32, 20), 7


class Told(nn.Module):
    """Keeps what it was told."""

    def __init__(self, width, num_classes, scale=1.0, in_channels=1):
        super().__init__()
        self.told = {"width": width, "num_classes": num_classes, "scale": scale}
        self.told["in_channels"] = in_channels


class Derived(Told):
    """Hands on what it does not know."""

    def __init__(self, extra=0, **kwargs):
        super().__init__(**kwargs)
        self.told["extra"] = extra


class Shaped(nn.Module):
    def __init__(self, input_shape, num_inputs, in_features, out_features):
        super().__init__()
        self.told = (input_shape, num_inputs, in_features, out_features)


class Fails(nn.Module):
    def __init__(self, width: int = 1):
        super().__init__()
        raise RuntimeError(f"width {width} is too small\nsecond line")


def make_told(**kwargs) -> Told:
    return Told(**kwargs)


def make_nothing() -> None:
    return None


@pytest.fixture(autouse=True)
def _allowed():
    allow_targets([__name__])
    yield
    allow_targets([])


def told(target, shape=SHAPE, **settings):
    return constructor(ModuleConfig(f"{__name__}.{target}", settings), shape, NUM_CLASSES)().told


def test_what_the_constructor_asks_for_is_filled_in():
    assert told("Told", width=5) == {
        "width": 5,
        "num_classes": NUM_CLASSES,
        "scale": 1.0,
        "in_channels": 3,
    }
    assert told("Shaped") == (SHAPE, 1920, 1920, NUM_CLASSES)


def test_what_is_given_is_not_filled_in():
    assert told("Told", width=5, in_channels=9)["in_channels"] == 9


def test_vectors_have_no_channels():
    assert told("Told", shape=(37,), width=5)["in_channels"] == 1


@pytest.mark.parametrize("target", ["Derived", "make_told"])
def test_what_is_handed_on_by_keywords_is_known(target):
    found = told(target, width=5, scale=2.0)
    assert (found["num_classes"], found["scale"], found["in_channels"]) == (NUM_CLASSES, 2.0, 3)


@pytest.mark.parametrize(
    ("target", "settings", "message"),
    [
        (
            "Told",
            {"depth": 3},
            "model Told has no setting 'depth'; it has: width, num_classes, scale, in_channels",
        ),
        (
            "Derived",
            {"depth": 3},
            "model Derived has no setting 'depth'; it has: "
            "extra, width, num_classes, scale, in_channels",
        ),
        ("Told", {}, "model Told needs a setting 'width'"),
        ("Fails", {}, "model Fails: width 1 is too small"),
        ("make_nothing", {}, "model make_nothing gives a NoneType; expected a torch.nn.Module"),
        ("make_nothing", {"a": 1}, "model make_nothing has no setting 'a'; it has: none"),
    ],
)
def test_mistakes_in_one_line(target, settings, message):
    with pytest.raises(InputError) as error:
        told(target, **settings)
    assert str(error.value) == message


def test_a_function_of_torchvision():
    config = ModuleConfig("torchvision.models.resnet18", {"width_per_group": 64})
    network = constructor(config, SHAPE, NUM_CLASSES)()
    assert network.fc.out_features == NUM_CLASSES
    with pytest.raises(InputError, match=r"resnet18 has no setting 'width'; it has: weights, pro"):
        constructor(ModuleConfig("torchvision.models.resnet18", {"width": 1}), SHAPE, NUM_CLASSES)
