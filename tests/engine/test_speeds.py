"""The choice between a GPU and the CPU: what a GPU costs, and how fast a machine is."""

import dataclasses
import math

import pytest
import torch
from test_costs import ADAM, ALL, SGD, work
from torch.utils._python_dispatch import TorchDispatchMode

from optsweep.config.checks import InputError
from optsweep.config.schema import MLPConfig, ModuleConfig
from optsweep.data.tensors import Split, epoch_orders
from optsweep.engine import speeds
from optsweep.engine.choice import ENGINES, choose_device, choose_engine
from optsweep.engine.costs import calls_of_step, cuda_mlp_seconds
from optsweep.engine.graph.replay import is_view
from optsweep.engine.speeds import Speeds, measure, speeds_of
from optsweep.models import build_stack
from optsweep.models.initializers import default
from optsweep.training import plan
from optsweep.training.plan import plan_cell

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
# A host of 10 µs a call, and a GPU of 30 TFLOP/s and 2 TB/s.
FAST = Speeds(cpu_factor=1.0, seconds_per_call=1e-5, flops=3e13, bytes_per_second=2e12)
MOMENTUM = (torch.optim.SGD, {"lr": 0.1, "momentum": 0.9})


class Counter(TorchDispatchMode):
    """Counts operations that have work to do."""

    num = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.num += func._schema.name.startswith("aten::") and not is_view(func)
        return func(*args, **(kwargs or {}))


def on_gpu(*arguments):
    return dataclasses.replace(work(*arguments), device=CUDA)


@pytest.mark.parametrize("optimizer", [SGD, MOMENTUM, ADAM])
@pytest.mark.parametrize("norms", [(), (1,)])
@pytest.mark.parametrize("hidden_sizes", [(8,), (8, 8), (8, 8, 8, 8)])
def test_the_calls_of_a_step_are_as_counted(hidden_sizes, norms, optimizer):
    """Those of 20 steps by those of the formula, an epoch's own few calls included."""
    asked = dataclasses.replace(
        work(hidden_sizes, 4, 2, optimizer),
        model=MLPConfig(hidden_sizes, norms),
        input_shape=(6,),
        num_examples=80,
    )
    stack = build_stack(asked.model, default, range(2), (6,), 10, CPU, torch.float32)
    split = Split(torch.rand(80, 6), torch.arange(80) % 10)
    engine = ENGINES["torch"].build(asked, stack, split)
    for group in engine.optimizer.param_groups:
        group.update(foreach=True, fused=False)  # as torch does of itself on a GPU
    rates = torch.tensor([0.1]).numpy()
    engine.train_epoch(epoch_orders(range(2), 1, 80, CPU), rates)
    with Counter() as counter:
        engine.train_epoch(epoch_orders(range(2), 2, 80, CPU), rates)
    assert counter.num / 20 == pytest.approx(calls_of_step(asked), rel=0.1)


@pytest.mark.parametrize(
    ("batch_size", "num_seeds", "optimizer", "device"),
    [
        (1, 1, SGD, "cpu"),
        (1, 10, ADAM, "cpu"),
        (256, 10, ADAM, "cuda"),
        (1000, 10, SGD, "cuda"),
        (ALL, 1, SGD, "cuda"),
    ],
)
def test_a_cell_is_trained_where_it_is_cheaper(batch_size, num_seeds, optimizer, device):
    asked = on_gpu((128, 56), batch_size, num_seeds, optimizer)
    chosen, (name, reason) = choose_device(asked, "auto", FAST)
    assert chosen == dataclasses.replace(asked, device=torch.device(device))
    assert name == {"cpu": "numba", "cuda": "torch"}[device]
    on_cpu = ENGINES["numba"].seconds_per_epoch(work((128, 56), batch_size, num_seeds, optimizer))
    seconds = [on_cpu, cuda_mlp_seconds(asked, FAST)]
    assert reason == "an epoch takes about {:.2g} s on the CPU, {:.2g} on cuda".format(*seconds)
    assert (min(seconds) == on_cpu) is (device == "cpu")


def test_one_example_a_step_is_bound_by_calls():
    """60,000 steps of 45 calls of 10 µs."""
    assert calls_of_step(on_gpu((128, 56), 1, 1, SGD)) == 45
    assert cuda_mlp_seconds(on_gpu((128, 56), 1, 1, SGD), FAST) == pytest.approx(27)


def test_a_slow_processor_moves_the_choice():
    asked = on_gpu((128, 56), 32, 1, SGD)
    assert choose_device(asked, "auto", FAST)[0].device == CPU
    slow = dataclasses.replace(FAST, cpu_factor=100.0)
    assert choose_device(asked, "auto", slow)[0].device == CUDA


def test_more_work_costs_more():
    def cost(*arguments):
        return cuda_mlp_seconds(on_gpu(*arguments), FAST)

    usual = cost((1024, 1024), 4096, 10, SGD)
    assert usual < cost((1024, 1024), 4096, 20, SGD)
    assert usual < cost((1024, 2048), 4096, 10, SGD)
    assert usual < cost((1024, 1024), 256, 10, SGD)
    assert usual < cost((1024, 1024), 4096, 10, ADAM)


def test_what_was_asked_for_is_done():
    asked = on_gpu((128, 56), 1, 1, SGD)
    assert choose_device(asked, "torch_graph", FAST) == (asked, ("torch_graph", ""))
    for seconds_per_call, device in ((1e-5, CUDA), (1e-4, CPU)):
        host = dataclasses.replace(FAST, seconds_per_call=seconds_per_call)
        there, (name, _) = choose_device(asked, "torch", host)
        assert (there.device, name) == (device, "torch")
    assert choose_device(asked, "numba", FAST) == (
        dataclasses.replace(asked, device=CPU),
        ("numba", ""),
    )
    lenet = dataclasses.replace(asked, model=ModuleConfig("optsweep.models.lenet.LeNet"))
    assert choose_device(lenet, "auto", FAST)[0].device == CUDA
    with pytest.raises(InputError, match="numba knows no network but"):
        choose_device(lenet, "numba", FAST)


@pytest.fixture
def small(monkeypatch):
    """A GPU's products take a CPU seconds."""
    monkeypatch.setattr(speeds, "_SIDE", 64)


def test_a_machine_is_measured_once(tmp_path, monkeypatch, small):
    monkeypatch.setattr(speeds, "user_folder", lambda: tmp_path)
    speeds_of.cache_clear()
    found = speeds_of(CPU, torch.float32)
    assert all(0 < value < math.inf for value in dataclasses.astuple(found))
    (kept,) = (tmp_path / "speeds").iterdir()
    speeds_of.cache_clear()  # as in another process
    monkeypatch.delattr(speeds, "measure")
    assert speeds_of(CPU, torch.float32) == found
    kept.write_text("{torn")
    speeds_of.cache_clear()
    with pytest.raises(NameError):
        speeds_of(CPU, torch.float32)
    speeds_of.cache_clear()


def test_where_nothing_can_be_kept_it_is_measured_all_the_same(tmp_path, monkeypatch, small):
    (tmp_path / "file").touch()
    monkeypatch.setattr(speeds, "user_folder", lambda: tmp_path / "file")
    speeds_of.cache_clear()
    assert speeds_of(CPU, torch.float64).flops > 0
    speeds_of.cache_clear()


@pytest.mark.skipif(torch.cuda.is_available(), reason="a machine with a GPU")
def test_without_a_gpu_nothing_is_measured(compose, monkeypatch):
    def refuse(*_):
        raise AssertionError

    monkeypatch.setattr(plan, "speeds_of", refuse)
    planned = plan_cell(compose())
    assert (planned.engine, planned.work.device) == (("numba", ""), CPU)
    assert choose_engine(planned.work, "auto") == planned.engine


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_gpu_can_be_measured():
    assert measure(CUDA, torch.float32).flops > 1e11
