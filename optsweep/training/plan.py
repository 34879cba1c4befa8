"""From a validated configuration to a plan of its cell: all that can be known without its data."""

from __future__ import annotations

import functools
import inspect
import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch

from optsweep.config.checks import Blaming, InputError, check_arguments, parameters_of
from optsweep.config.schema import Config, MLPConfig
from optsweep.config.targets import locate
from optsweep.data.tensors import Split
from optsweep.engine import Work
from optsweep.engine.choice import ENGINES, Choice, choose_device, choose_engine
from optsweep.engine.footprint import Shape, bytes_of, mlp_shape, what_fits
from optsweep.engine.speeds import speeds_of
from optsweep.models import build_stack
from optsweep.models.seeding import Initializer
from optsweep.optim.rates import timetable
from optsweep.optim.resolved import ResolvedOptimizer, resolve_optimizer, spare_compiler
from optsweep.surroundings import num_cores
from optsweep.training.checkpoints import check_origin

DTYPES = {"float32": torch.float32, "float64": torch.float64}


@dataclass(frozen=True)
class Plan:
    """A configuration that was found to be buildable, each of its parts resolved once.

    Attributes:
        config: What was planned.
        work: Network, optimizer, batches and device, as engines read them.
        initializer: Fills the weights and the bias of a layer.
        engine: Which engine does the work.
        note: How it computes the seeds if not all at once, and why; else empty.
        shape: Of the network.
        learning_rates: (epochs, 1) or (epochs, steps of an epoch).
        cycled: What else the schedule changes; see `Timetable`.
        warnings: What a user should know of.
    """

    config: Config
    work: Work
    initializer: Initializer
    engine: Choice
    note: str
    shape: Shape
    learning_rates: np.ndarray
    cycled: Mapping[str, np.ndarray]
    warnings: tuple[str, ...]

    def num_bytes(self, work: Work | None = None, num_rates: int | None = None) -> int:
        """What the cell takes of this machine's memory, or other work of its kind would.

        Args:
            work: The other work.
            num_rates: Learning rates of its table.
        """
        rates = self.learning_rates.size if num_rates is None else num_rates
        return bytes_of(self.config, work or self.work, self.engine.name, self.shape, rates)

    def that_fit(self, limit: int) -> list[str]:
        """Settings with which it would take no more than so many bytes, each alone."""
        return what_fits(self.work, self.num_bytes, limit, self.engine.name)


def plan_cell(config: Config) -> Plan:
    """Check all that can be checked before data are loaded.

    Raises:
        InputError: If the device is not there, the initialiser, network, optimizer or
            schedule cannot be built as configured, or weights to begin with do not fit.
    """
    spare_compiler()
    device = find_device(config.trainer.device)
    optimizer = resolve_optimizer(config.optimizer)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        epochs = config.trainer.epochs
        rates, cycled = timetable(
            config.scheduler, optimizer.lr, epochs, config.steps_per_epoch, optimizer.settings()
        )
    initializer = find_initializer(config)
    with Blaming("init"):
        initializer(torch.empty(2, 2), torch.empty(2), torch.Generator())
    work = replace(_work(config, optimizer, device), cycled=tuple(cycled))
    if config.trainer.device == "auto" and device.type == "cuda":
        speeds = speeds_of(device, work.dtype)
        work, engine = choose_device(work, config.trainer.engine, speeds)
    else:
        engine = choose_engine(work, config.trainer.engine)
    note, shape = _try(engine, work, initializer)
    if config.start_from is not None:
        check_origin(config, work, initializer)
    messages = tuple(str(warning.message) for warning in caught)
    return Plan(config, work, initializer, engine, note, shape, rates, cycled, messages)


def find_device(name: str) -> torch.device:
    """The device of that name, or for auto the best there is: cuda, then cpu.

    A cell that is cheaper on the CPU is trained there all the same, see `choose_device`. On mps
    nobody has tried it yet, so that it has to be asked for.

    Raises:
        InputError: If there is no such device.
    """
    there = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if name == "auto":
        return torch.device("cuda" if there["cuda"] else "cpu")
    kind, _, index = name.partition(":")
    count = torch.cuda.device_count() if kind == "cuda" else 1
    if not there.get(kind) or (index and not (index.isdigit() and int(index) < count)):
        found = ", ".join(kind for kind, usable in there.items() if usable)
        raise InputError(f"trainer.device={name}: there is no such device; found are {found}")
    return torch.device(name)


def find_initializer(config: Config) -> Initializer:
    """The configured function with its settings.

    Raises:
        InputError: If it may not be named, or lacks a setting.
    """
    settings = dict(config.init)
    function = locate("init", settings.pop("_target_"))
    if not settings:
        return function
    unknown = set(settings) - set(inspect.signature(function).parameters)
    if unknown:
        raise InputError(f"init {function.__name__} has no setting '{unknown.pop()}'")
    check_arguments("init", parameters_of(function), settings)
    return functools.partial(function, **settings)


def _work(config: Config, optimizer: ResolvedOptimizer, device: torch.device) -> Work:
    return Work(
        model=config.model,
        input_shape=config.dataset.input_shape,
        num_classes=config.dataset.num_classes,
        num_examples=config.dataset.num_train_examples,
        batch_size=config.trainer.batch_size,
        num_seeds=config.num_seeds,
        optimizer=optimizer,
        device=device,
        dtype=DTYPES[config.trainer.precision],
        # A team that waits for threads which have no core to run on takes a core to wait.
        num_threads=min(config.trainer.num_threads or torch.get_num_threads(), num_cores()),
    )


def _try(engine: Choice, work: Work, initializer: Initializer) -> tuple[str, Shape]:
    """Take a step, since not every class says at once what it cannot do.

    A multilayer perceptron's step is taken by a tiny one, and a compiled rule takes what its
    class takes.

    Returns:
        What the stack says of how its seeds are computed, and the network's shape.
    """
    if engine.name == "numba":
        work.optimizer.make([torch.zeros(1)])
        return "", mlp_shape(work)
    shape = mlp_shape(work) if isinstance(work.model, MLPConfig) else None
    if isinstance(work.model, MLPConfig):
        tiny = replace(work.model, hidden_sizes=(2,) * len(work.model.hidden_sizes))
        cpu = torch.device("cpu")
        work = replace(work, model=tiny, input_shape=(2,), num_classes=2, device=cpu)
    seeds = range(min(2, work.num_seeds))
    images = torch.linspace(0, 1, 2 * math.prod(work.input_shape)).view(2, *work.input_shape)
    labels = torch.arange(2) % work.num_classes
    split = Split(images.to(work.device), labels.to(work.device))
    work = replace(work, dtype=torch.float32, batch_size=2, num_seeds=len(seeds))
    stack = build_stack(
        work.model,
        initializer,
        seeds,
        work.input_shape,
        work.num_classes,
        work.device,
        work.dtype,
    )
    ENGINES["torch"].build(work, stack, split).train_epoch(None, np.array([work.optimizer.lr]))
    if shape is None:
        num_weights = sum(weight[0].numel() for _, weight in stack.named_parameters())
        shape = Shape(num_weights, stack.num_activations, len(stack.parts) == 1)
    return stack.note, shape
