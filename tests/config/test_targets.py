"""What dotted paths may name: judged by the object that is found, not by the text of the path."""

import sys

import pytest
import torch

from optsweep.config.checks import InputError
from optsweep.config.targets import allow_targets, lasting, locate, present
from optsweep.models import initializers
from optsweep.optim import schedules
from optsweep.optim.layerwise import LAMB

FOUND = [
    ("optimizer", "torch.optim.Adam", torch.optim.Adam),
    ("optimizer", "torch.optim.adam.Adam", torch.optim.Adam),
    ("optimizer", "optsweep.optim.layerwise.LAMB", LAMB),
    ("optimizer", "optsweep.optimizers.LAMB", LAMB),  # where it was once
    ("scheduler", "torch.optim.lr_scheduler.StepLR", torch.optim.lr_scheduler.StepLR),
    ("scheduler", "optsweep.optim.schedules.warmup", schedules.warmup),
    ("init", "optsweep.models.initializers.xavier", initializers.xavier),
    ("model", "torch.nn.Linear", torch.nn.Linear),
]
REFUSED = [
    # Outside, named at once or through what a module imports.
    ("optimizer", "os.system"),
    ("scheduler", "optsweep.runs.os.system"),
    ("scheduler", "optsweep.optim.schedules.math.exp"),
    ("scheduler", "optsweep.optim.schedules.warnings.warn"),
    ("scheduler", "torch.os.system"),
    ("model", "optsweep.models.mlp.torch.load"),
    ("init", "optsweep.models.initializers.nn.init.zeros_"),
    ("optimizer", "torch.optim.optimizer.torch.load"),
    ("model", "torch.nn.modules.module.torch.load"),
    ("dataset", "numpy.load"),
    ("dataset", "optsweep.data.files.subprocess.run"),
    # Inside, but not of the kind or not made for it.
    ("optimizer", "torch.optim.Optimizer"),
    ("optimizer", "torch.optim.Adam.step"),
    ("optimizer", "torch.optim.Adam.__class__"),
    ("optimizer", "torch.nn.Linear"),
    ("optimizer", "torch.optim"),
    ("scheduler", "torch.optim.Adam"),
    ("scheduler", "optsweep.optim.rates.timetable"),
    ("scheduler", "optsweep.optim.schedules._check_warmup"),
    ("scheduler", "optsweep.optim.schedules.Schedule"),
    ("init", "torch.nn.init.zeros_"),
    ("init", "optsweep.data.files.download_debian_package"),
    ("model", "torch.hub.load"),
    ("model", "torch.jit.load"),
    ("model", "torchvision.models.list_models"),
    ("dataset", "optsweep.data.files.load_contents"),
]


@pytest.fixture(autouse=True)
def nothing_allowed():
    yield
    allow_targets([])


@pytest.fixture
def mypackage(tmp_path, monkeypatch):
    """A package of the user's, which tells when it is imported."""
    (tmp_path / "mypackage").mkdir()
    (tmp_path / "mypackage" / "__init__.py").write_text(
        "import torch\nfrom os import system\n"
        "class Mine(torch.optim.SGD): pass\n"
        "class Net(torch.nn.Linear): pass\n"
        "def half(num_steps): return lambda t: 0.5\n"
        "def _private(num_steps): return lambda t: 0.5\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("mypackage", None)


@pytest.mark.parametrize(("place", "path", "expected"), FOUND)
def test_found(place, path, expected):
    assert locate(place, path) is expected


@pytest.mark.parametrize(("place", "path"), REFUSED)
def test_refused(place, path):
    with pytest.raises(InputError, match=r"_target_=.*: expected an? ") as error:
        locate(place, path)
    assert "\n" not in str(error.value)


def test_what_is_not_there_is_told():
    with pytest.raises(InputError, match=r"optimizer._target_=torch.optim.Adamm: there is no such"):
        locate("optimizer", "torch.optim.Adamm")


@pytest.mark.parametrize(
    ("place", "name"),
    [("optimizer", "Mine"), ("model", "Net"), ("scheduler", "half")],
)
def test_a_package_is_imported_only_if_the_user_allows_it(mypackage, place, name):
    with pytest.raises(InputError, match=r"to trust a package: allow_targets=\[mypackage\]"):
        locate(place, f"mypackage.{name}")
    assert "mypackage" not in sys.modules
    allow_targets(["mypackage"])
    assert locate(place, f"mypackage.{name}").__module__ == "mypackage"


@pytest.mark.parametrize("name", ["_private", "system", "torch.load"])
def test_an_allowed_package_opens_no_other(mypackage, name):
    allow_targets(["mypackage"])
    with pytest.raises(InputError, match="expected"):
        locate("scheduler", f"mypackage.{name}")


def test_torchvision_s_builders_are_networks():
    assert locate("model", "torchvision.models.resnet18").__name__ == "resnet18"


def test_paths_last_when_code_moves():
    for path in ("optsweep.optim.schedules.factor", "torch.optim.Adam"):
        assert present(lasting(path)) == path == present(path)


def test_an_extra_that_is_not_installed_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "schedulefree", None)  # as if it were not there
    with pytest.raises(InputError, match=r"it is an extra; pip install 'optsweep\[optimizers\]'$"):
        locate("optimizer", "schedulefree.SGDScheduleFree")


def test_of_an_extra_that_is_there_a_missing_class_is_told():
    with pytest.raises(InputError, match="there is no such object"):
        locate("optimizer", "schedulefree.SGDSchedule")
