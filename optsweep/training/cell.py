"""A validated configuration becomes a trained cell, and the trained cell a record."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import inspect
import math
import platform
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

import optsweep
from optsweep.config.checks import InputError
from optsweep.config.identity import config_hash
from optsweep.config.schema import Config, DatasetConfig
from optsweep.config.targets import locate
from optsweep.data.tensors import Dataset, load_dataset
from optsweep.engine import Scores
from optsweep.engine.choice import (
    Choice,
    base_lr,
    check_engine,
    choose_engine,
    import_engine,
    make_engine,
)
from optsweep.models.mlp import Initializer, StackedMLP
from optsweep.optim.lean_torch import spare_compiler
from optsweep.optim.schedules import learning_rates
from optsweep.training.loop import Epoch, Training, train
from optsweep.training.recording import Recorder

_DTYPES = {"float32": torch.float32, "float64": torch.float64}
_datasets: dict[tuple[str, torch.device, torch.dtype], Dataset] = {}  # the one loaded last


@dataclass(frozen=True)
class Record:
    """What a run directory keeps of a cell: rows of history.csv and gradients.csv, result.json."""

    history: list[dict[str, Any]]
    result: dict[str, Any]
    gradients: list[dict[str, Any]]


@dataclass(frozen=True)
class Plan:
    """A configuration that was found to be buildable, with what needed no data."""

    config: Config
    device: torch.device
    engine: Choice
    learning_rates: np.ndarray
    warnings: tuple[str, ...]


def plan_cell(config: Config) -> Plan:
    """Check all that can be checked before data are loaded.

    Raises:
        InputError: If the device is not there, or the initialiser, optimizer or schedule
            cannot be built as configured.
    """
    spare_compiler()
    device = _device(config.trainer.device)
    with warnings.catch_warnings(record=True) as caught, _blaming("scheduler"):
        warnings.simplefilter("always", UserWarning)
        epochs = config.trainer.epochs
        rates = learning_rates(config.scheduler, base_lr(config), epochs, config.steps_per_epoch)
    with _blaming("init"):
        weight, bias = torch.empty(2, 2), torch.empty(2)
        _initializer(config)(weight, bias, torch.Generator())
    with _blaming("optimizer"):
        engine = choose_engine(config, device)
        check_engine(engine, config)
    return Plan(config, device, engine, rates, tuple(str(warning.message) for warning in caught))


@contextlib.contextmanager
def _blaming(group: str) -> Iterator[None]:
    """Turn what a class says of the settings it was given into a mistake of the user's."""
    try:
        yield
    except InputError:
        raise
    except (ValueError, TypeError, ArithmeticError, AssertionError, RuntimeError) as error:
        text = str(error).partition("\n")[0] or type(error).__name__
        raise InputError(text if text.startswith(group) else f"{group}: {text}") from error


def train_cell(plan: Plan, on_epoch: Callable[[Epoch], None] = lambda epoch: None) -> Record:
    """Load the data, train the stack and score it.

    Raises:
        InputError: If the data are missing or corrupt.
    """
    config = plan.config
    if config.trainer.num_threads:
        torch.set_num_threads(config.trainer.num_threads)
    dtype = _DTYPES[config.trainer.precision]
    with ThreadPoolExecutor(1) as pool:  # 0.1 s less than one after the other
        pool.submit(import_engine, plan.engine)
        dataset = _dataset(config.dataset, plan.device, dtype)
    num_inputs = dataset.train.images.shape[1]
    model = StackedMLP(
        config.model,
        config.seeds,
        _initializer(config),
        num_inputs,
        dataset.num_classes,
        plan.device,
        dtype,
    )
    batch_size = config.trainer.batch_size
    engine = make_engine(plan.engine, config, model, dataset.train)
    recorder = Recorder(config.record, model, dataset.train, config.seeds)

    def told(epoch: Epoch) -> None:
        recorder.record(epoch.epoch, epoch.alive)
        on_epoch(epoch)

    training = train(
        engine, dataset, config.seeds, plan.learning_rates, batch_size, told, config.stopping
    )
    result = _result(plan, training, engine.name)
    return Record(_history(config, training), result, recorder.rows)


def _device(name: str) -> torch.device:
    """The device of that name, or for auto the best there is: cuda, then mps, then cpu."""
    there = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if name == "auto":
        return torch.device(next(kind for kind, usable in there.items() if usable))
    kind, _, index = name.partition(":")
    count = torch.cuda.device_count() if kind == "cuda" else 1
    if not there.get(kind) or (index and not (index.isdigit() and int(index) < count)):
        found = ", ".join(kind for kind, usable in there.items() if usable)
        raise InputError(f"trainer.device={name}: there is no such device; found are {found}")
    return torch.device(name)


def _dataset(config: DatasetConfig, device: torch.device, dtype: torch.dtype) -> Dataset:
    """Load a dataset, unless the cell before had the same: a sweep has hundreds of cells."""
    key = (repr(config), device, dtype)
    if key not in _datasets:
        _datasets.clear()  # before the next one is loaded: each takes 220 MB
        dataset = load_dataset(config, device, dtype)
        # Until networks flatten for themselves.
        flat = {
            name: split and dataclasses.replace(split, images=split.flat)
            for name, split in vars(dataset).items()
            if name != "num_classes"
        }
        _datasets[key] = dataclasses.replace(dataset, **flat)
    return _datasets[key]


def _initializer(config: Config) -> Initializer:
    settings = dict(config.init)
    function = locate("init", settings.pop("_target_"))
    if not settings:
        return function
    unknown = set(settings) - set(inspect.signature(function).parameters)
    if unknown:
        raise InputError(f"init {function.__name__} has no setting '{unknown.pop()}'")
    return functools.partial(function, **settings)


def _history(config: Config, training: Training) -> list[dict[str, Any]]:
    rows = []
    for index, seed in enumerate(config.seeds):
        for epoch in training.epochs:
            row = {"seed": seed, "epoch": epoch.epoch, "step": epoch.step, "lr": epoch.lr}
            row |= _split_scores(epoch, index)
            rows.append(row | {"seconds": epoch.seconds})
            if not epoch.alive[index]:
                break  # the epoch in which it diverged is its last row, without scores
    return rows


def _split_scores(epoch: Epoch, index: int) -> dict[str, float | None]:
    """Loss and accuracy of one seed on every split, None where there is none."""
    scores: dict[str, float | None] = {}
    for split in ("train", "val", "test"):
        values: Scores | None = getattr(epoch, split)
        for metric in Scores._fields:
            known = values is not None and epoch.alive[index]
            scores[f"{split}_{metric}"] = float(getattr(values, metric)[index]) if known else None
    return scores


def _result(plan: Plan, training: Training, engine: str) -> dict[str, Any]:
    config = plan.config
    per_seed = [_seed_result(training, index, seed) for index, seed in enumerate(config.seeds)]
    completed = any(seed["status"] == "completed" for seed in per_seed)
    return {
        "status": "completed" if completed else "diverged",
        "config_hash": config_hash(config),
        "num_seeds": config.num_seeds,
        "objective": _objective(per_seed, "val" if config.dataset.val_size else "final_train"),
        "seconds": training.epochs[-1].seconds,
        "stopped": dataclasses.asdict(training.stopped) if training.stopped else None,
        "device": _device_name(plan.device),
        "engine": engine,
        "num_threads": torch.get_num_threads(),
        "warnings": list(plan.warnings),
        "versions": {
            "optsweep": optsweep.__version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
        },
        "per_seed": per_seed,
    }


def _seed_result(training: Training, index: int, seed: int) -> dict[str, Any]:
    last = training.epochs[-1]
    survived = [epoch for epoch in training.epochs if epoch.alive[index]]
    completed = bool(last.alive[index])
    final = training.final_train
    return {
        "seed": seed,
        "status": "completed" if completed else "diverged",
        "epochs": survived[-1].epoch if survived else 0,
        "steps": survived[-1].step if survived else 0,
        **_split_scores(last, index),
        "final_train_loss": float(final.loss[index]) if completed else None,
        "final_train_accuracy": float(final.accuracy[index]) if completed else None,
    }


def _objective(per_seed: list[dict[str, Any]], split: str) -> float:
    """Mean accuracy over the seeds, never of the test split; a diverged seed counts as 0."""
    accuracies = [seed[f"{split}_accuracy"] or 0.0 for seed in per_seed]
    objective = math.fsum(accuracies) / len(accuracies)
    assert math.isfinite(objective)
    return objective


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    return str(device)
