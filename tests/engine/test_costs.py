"""The formulas of costs choose the engine that was measured to be faster."""

import subprocess
import sys

import pytest
import torch

from optsweep.config.schema import MLPConfig
from optsweep.engine import Work
from optsweep.engine.choice import ENGINES, choose_engine
from optsweep.optim.resolved import ResolvedOptimizer

ALL = 60_000
SGD, ADAM = (torch.optim.SGD, {"lr": 0.1}), (torch.optim.Adam, {"lr": 1e-3})
# Time of torch by that of the compiled loops, on one core; all that lie between 0.9 and 1.1 are
# left out, since a repetition might tell otherwise.
MEASURED = [
    ((32,), 1, 1, SGD, 95),
    ((32,), 256, 10, ADAM, 2.0),
    ((32,), ALL, 1, SGD, 1.25),
    ((128, 56), 1, 1, SGD, 77),
    ((128, 56), 1, 10, ADAM, 18),
    ((128, 56), 8, 1, ADAM, 10),
    ((128, 56), 32, 1, SGD, 5.2),
    ((128, 56), 256, 1, ADAM, 2.9),
    ((128, 56), 256, 10, SGD, 2.0),
    ((128, 56), 1000, 10, ADAM, 1.7),
    ((128, 56), ALL, 1, SGD, 1.65),
    ((128, 56), ALL, 10, ADAM, 1.5),
    ((128, 56, 32), 32, 10, SGD, 2.8),
    ((128, 56, 32), 1000, 1, ADAM, 2.0),
    ((128, 56, 32), ALL, 10, SGD, 1.7),
    ((512, 256), 1, 1, ADAM, 15),
    ((512, 256), 32, 10, SGD, 3.0),
    ((512, 256), 256, 1, SGD, 1.28),
    ((512, 256), 256, 10, ADAM, 1.22),
    ((512, 512), 1000, 1, SGD, 0.88),
    ((512, 512), ALL, 1, ADAM, 0.81),
    ((1024,), 32, 1, SGD, 4.4),
    ((1024,), 256, 10, ADAM, 1.6),
    ((1024, 1024), 1, 1, ADAM, 8.0),
    ((1024, 1024), 32, 10, SGD, 1.7),
    ((1024, 1024), 256, 1, SGD, 0.86),
    ((1024, 1024), 1000, 10, ADAM, 0.77),
    ((1024, 1024), ALL, 1, SGD, 0.67),
]


def work(hidden_sizes, batch_size, num_seeds, optimizer, num_threads=1):
    target, arguments = optimizer
    return Work(
        model=MLPConfig(hidden_sizes=hidden_sizes),
        input_shape=(1, 28, 28),
        num_classes=10,
        num_examples=ALL,
        batch_size=batch_size,
        num_seeds=num_seeds,
        optimizer=ResolvedOptimizer(target, arguments, True, arguments["lr"]),
        device=torch.device("cpu"),
        dtype=torch.float32,
        num_threads=num_threads,
    )


@pytest.mark.parametrize(
    ("hidden_sizes", "batch_size", "num_seeds", "optimizer", "ratio"), MEASURED
)
def test_the_faster_engine_is_chosen(hidden_sizes, batch_size, num_seeds, optimizer, ratio):
    asked = work(hidden_sizes, batch_size, num_seeds, optimizer)
    assert choose_engine(asked, "auto").name == ("numba" if ratio > 1 else "torch")
    torch_time, numba_time = (ENGINES[name].seconds_per_epoch(asked) for name in ("torch", "numba"))
    assert 1 / 2 < torch_time / numba_time / ratio < 2


@pytest.mark.parametrize("num_threads", [1, 2])
@pytest.mark.parametrize("num_seeds", [1, 5, 10])
@pytest.mark.parametrize("batch_size", [1, 32, 256, 1000, 4096, ALL])
@pytest.mark.parametrize("optimizer", [SGD, ADAM])
def test_the_networks_of_the_report_are_compiled(optimizer, batch_size, num_seeds, num_threads):
    for hidden_sizes in [(128,), (128, 56), (128, 56, 32), (128, 56, 32, 32, 32, 32)]:
        asked = work(hidden_sizes, batch_size, num_seeds, optimizer, num_threads)
        assert choose_engine(asked, "auto") == ("numba", "")


def test_who_is_refused_learns_that_the_other_one_is_faster():
    choice = choose_engine(work((1024, 1024), 1000, 1, SGD), "auto")
    assert str(choice) == "torch (numba would be slower)"


@pytest.mark.parametrize("name", ENGINES)
def test_more_work_costs_more_and_threads_help(name):
    def cost(*arguments):
        return ENGINES[name].seconds_per_epoch(work(*arguments))

    usual = cost((128, 56), 256, 2, ADAM)
    assert usual < cost((128, 56), 32, 2, ADAM)
    assert usual < cost((256, 56), 256, 2, ADAM)
    assert usual < cost((128, 56), 256, 3, ADAM)
    assert usual > cost((128, 56), 256, 2, SGD)
    assert usual > cost((128, 56), 256, 2, ADAM, 2)


def test_neither_choice_nor_cost_loads_the_compiler():
    program = (
        "import sys, optsweep.engine.choice; "
        "sys.exit('numba' in sys.modules or 'llvmlite' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
