"""A step reads no value and waits for nothing: shown on tensors that hold none.

`torch.device("meta")` and FakeTensorMode know shapes, types and devices alone; whatever needs a
value fails there. Tensors of a GPU can be such ones where there is no GPU.
"""

import contextlib

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from optsweep.config.schema import MLPConfig
from optsweep.data.tensors import Split
from optsweep.engine.graph.networks import network_of
from optsweep.engine.graph.optimizers import capturable
from optsweep.engine.graph.replay import WARM_UP, is_view
from optsweep.engine.graph.step import Step
from optsweep.models.initializers import default
from optsweep.models.mlp import StackedMLP
from optsweep.optim.layerwise import LARS
from optsweep.optim.resolved import ResolvedOptimizer

SEEDS, EXAMPLES, BATCH = range(2), 20, 8
FORBIDDEN = {"nonzero", "masked_select", "_local_scalar_dense"}
SGD, ADAM, ADAMW = torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW
OPTIMIZERS = {
    "sgd": (SGD, {"lr": 0.1}),
    "momentum": (SGD, {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 1e-3}),
    "adam": (ADAM, {"lr": 0.1}),
    "amsgrad": (ADAM, {"lr": 0.1, "amsgrad": True, "weight_decay": 1e-3}),
    "adamw": (ADAMW, {"lr": 0.1}),
    "nadam": (torch.optim.NAdam, {"lr": 0.1}),
    "radam": (torch.optim.RAdam, {"lr": 0.1}),
    "rmsprop": (torch.optim.RMSprop, {"lr": 0.1, "momentum": 0.9, "centered": True}),
    "adamax": (torch.optim.Adamax, {"lr": 0.1}),
    "lars": (LARS, {"lr": 0.1}),
}
NETWORKS = {"report": MLPConfig(), "norms": MLPConfig((9, 8), (1, 2))}


class Watch(TorchDispatchMode):
    """Names the operations that have work to do, and refuses those that wait or leave the device.

    Fused kernels of optimizers are not called: torch does not tell what they do to a tensor without
    values. They change some in place.
    """

    def __init__(self, device: str):
        super().__init__()
        self.device = device
        self.names: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        space, name = func._schema.name.split("::")
        tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
        assert {x.device.type for x in tensors} <= {self.device}, f"{name} copies"
        assert name not in FORBIDDEN, name
        if space == "aten" and not is_view(func):  # not a question after a device
            self.names.append(name)
        if name.startswith("_fused_"):
            return None
        result = func(*args, **(kwargs or {}))
        made = [x for x in tree_leaves(result) if isinstance(x, Tensor)]
        assert {x.device.type for x in made} <= {self.device}, f"{name} copies"
        return result


def new_step(device: str, network: MLPConfig, optimizer, batch_size=BATCH) -> Step:
    place = torch.device(device)
    stack = StackedMLP(network, SEEDS, default, (1, 28, 28), 10, torch.device("cpu"))
    # Drawn on a CPU, since a generator of random numbers needs the device that it is for.
    stack.weights = [weight.detach().to(place) for weight in stack.weights]
    stack.biases = [bias.detach().to(place) for bias in stack.biases]
    stack.norms = {
        layer: (scale.detach().to(place), shift.detach().to(place))
        for layer, (scale, shift) in stack.norms.items()
    }
    train = Split(
        torch.zeros(EXAMPLES, 1, 28, 28, device=place),
        torch.zeros(EXAMPLES, dtype=torch.int64, device=place),
    )
    target, settings = optimizer
    form = capturable(ResolvedOptimizer(target, settings, True, settings["lr"]))
    written_out = network_of(stack, 3)
    # Not `build`, which tries the class out on values.
    built = form.make([parameter for _, parameter in written_out.named_parameters()])
    return Step(written_out, built, train, len(SEEDS), batch_size)


@pytest.mark.parametrize("batch_size", [1, BATCH, EXAMPLES])
@pytest.mark.parametrize("network", NETWORKS)
def test_a_step_runs_through_without_memory(network, batch_size):
    step = new_step("meta", NETWORKS[network], OPTIMIZERS["lars"], batch_size)
    with Watch("meta") as watch:
        for _ in range(min(WARM_UP, step.num_full)):
            step()
        if step.has_rest:
            step.rest()
    assert watch.names


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_step_on_a_gpu_reads_no_value_and_stays_there(optimizer, network):
    with FakeTensorMode():
        step = new_step("cuda", NETWORKS[network], OPTIMIZERS[optimizer])
        with Watch("cuda") as watch:
            for _ in range(WARM_UP):
                step()
            step.rest()
    assert watch.names


@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "adam", "amsgrad", "adamw", "lars"])
def test_a_step_on_a_cpu_reads_no_value(optimizer):
    """Here fused kernels are called, with zeros in place of what is not there."""
    with FakeTensorMode():
        step = new_step("cpu", MLPConfig(), OPTIMIZERS[optimizer])
        for _ in range(WARM_UP):
            step()


def test_reading_a_value_would_be_noticed():
    class Reading(SGD):
        def step(self, closure=None):
            super().step()
            float(self.param_groups[0]["params"][0].sum())

    for device, mode, error in (
        ("cpu", FakeTensorMode, DataDependentOutputException),
        ("meta", contextlib.nullcontext, RuntimeError),
    ):
        with mode():
            step = new_step(device, MLPConfig(), (Reading, {"lr": 0.1}))
            step._optimizer._need_device_dtype_check_for_fused = False
            with Watch(device), pytest.raises((error, AssertionError)):
                step()


# Beside the optimizer's: 2 of examples, 4 of each of three layers, 2 fewer of the first, 4 of
# hidden units, 9 of loss and hits and their gradient, 2 of rates and counter.
@pytest.mark.parametrize(
    ("optimizer", "most"), [("sgd", 30), ("momentum", 30), ("adam", 30), ("adamw", 30)]
)
def test_a_step_has_few_operations(optimizer, most):
    with FakeTensorMode():
        step = new_step("cuda", MLPConfig(), OPTIMIZERS[optimizer])
        with Watch("cuda"):
            step()  # the first makes the optimizer's state
        with Watch("cuda") as watch:
            step()
    assert len(watch.names) <= most, watch.names
