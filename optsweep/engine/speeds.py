"""What this machine's processor and GPU were measured to do, once, for the choice between them.

A run of about a second, and only on a machine that has a GPU to choose: what is found is kept in
the user's cache, for each GPU, processor, precision and version of PyTorch.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import platform
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from optsweep.config.schema import MLPConfig
from optsweep.data.tensors import Split, epoch_orders
from optsweep.engine import Work, reference
from optsweep.engine.costs import calls_of_step, torch_mlp_seconds
from optsweep.models import build_stack
from optsweep.models.initializers import default
from optsweep.optim.resolved import ResolvedOptimizer
from optsweep.runs import write_atomically
from optsweep.surroundings import user_folder

_FOLDER = "speeds"
_CPU = torch.device("cpu")
_SGD = ResolvedOptimizer(torch.optim.SGD, {"lr": 0.1}, decay_biases_and_norms=True, lr=0.1)
_NUM_STEPS, _REPETITIONS = 100, 3
_SIDE = 2048  # of the matrices that are multiplied: 17 GFLOP, and 17 MB that are read and written


@dataclass(frozen=True)
class Speeds:
    """What a GPU and its host do.

    Attributes:
        cpu_factor: Time of a training on the CPU by what `costs` says of it.
        seconds_per_call: Of the host, for one operation on the GPU.
        flops: Floating-point operations of the GPU's in a second, in a large product.
        bytes_per_second: That the GPU reads or writes, in a large sum.
    """

    cpu_factor: float
    seconds_per_call: float
    flops: float
    bytes_per_second: float


@functools.cache
def speeds_of(device: torch.device, dtype: torch.dtype) -> Speeds:
    """Those that are kept of a GPU; measured and kept, if there are none."""
    path = _path(device, dtype)
    with suppress(OSError, ValueError, TypeError):  # absent, torn, or of another version
        return Speeds(**json.loads(path.read_text()))
    found = measure(device, dtype)
    with suppress(OSError):  # measured again at the next start
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, json.dumps(asdict(found)))
    return found


def measure(device: torch.device, dtype: torch.dtype) -> Speeds:
    """Measure a device, a CPU too, and the CPU."""
    usual = _work(MLPConfig(), (1, 28, 28), 32, _CPU, dtype)
    tiny = _work(MLPConfig((8, 8)), (8,), 1, device, dtype)
    matrix = torch.ones(_SIDE, _SIDE, device=device, dtype=dtype)
    product = torch.empty_like(matrix)

    def multiply() -> None:
        torch.mm(matrix, matrix, out=product)

    def add() -> None:
        torch.add(matrix, 1, out=product)

    return Speeds(
        cpu_factor=_seconds(_training(usual), _CPU) / torch_mlp_seconds(usual),
        seconds_per_call=_seconds(_training(tiny), device) / _NUM_STEPS / calls_of_step(tiny),
        flops=2 * _SIDE**3 / _seconds(multiply, device),
        bytes_per_second=2 * _SIDE**2 * dtype.itemsize / _seconds(add, device),
    )


def _work(
    model: MLPConfig,
    input_shape: tuple[int, ...],
    batch_size: int,
    device: torch.device,
    dtype: torch.dtype,
) -> Work:
    """An epoch of one seed by SGD."""
    return Work(
        model=model,
        input_shape=input_shape,
        num_classes=10,
        num_examples=_NUM_STEPS * batch_size,
        batch_size=batch_size,
        num_seeds=1,
        optimizer=_SGD,
        device=device,
        dtype=dtype,
        num_threads=torch.get_num_threads(),
    )


def _training(work: Work) -> Callable[[], None]:
    """What trains an epoch on random examples."""
    generator = torch.Generator().manual_seed(0)
    shape = work.num_examples, *work.input_shape
    images = torch.rand(shape, generator=generator, dtype=work.dtype).to(work.device)
    split = Split(images, (torch.arange(work.num_examples) % work.num_classes).to(work.device))
    arguments = (work.input_shape, work.num_classes, work.device, work.dtype)
    engine = reference.build(work, build_stack(work.model, default, [0], *arguments), split)
    orders = epoch_orders([0], 1, work.num_examples, work.device)

    def train() -> None:
        engine.train_epoch(orders, np.array([work.optimizer.lr]))

    return train


def _seconds(act: Callable[[], None], device: torch.device) -> float:
    """The least time of some repetitions, after one that is not timed."""
    times = []
    for _ in range(1 + _REPETITIONS):
        _wait_for(device)
        started = time.perf_counter()
        act()
        _wait_for(device)
        times.append(time.perf_counter() - started)
    return min(times[1:])


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _path(device: torch.device, dtype: torch.dtype) -> Path:
    """Where speeds of this machine are kept; a home is shared by machines."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)
    facts = [name, dtype, torch.__version__, platform.processor(), platform.node()]
    facts += [os.cpu_count(), torch.get_num_threads()]
    digest = hashlib.sha256(repr(facts).encode()).hexdigest()[:10]
    return user_folder() / _FOLDER / f"{digest}.json"
