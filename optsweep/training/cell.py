"""A plan becomes a trained cell, and the trained cell a record."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from optsweep.config.identity import config_hash
from optsweep.config.schema import Config, DatasetConfig
from optsweep.data.tensors import Dataset, load_dataset
from optsweep.engine import Scores
from optsweep.engine.choice import ENGINES
from optsweep.models import build_stack
from optsweep.runs import mean_accuracy
from optsweep.surroundings import OtherCores, process_name
from optsweep.training.checkpoints import Checkpoints
from optsweep.training.loop import Epoch, Training, train
from optsweep.training.plan import Plan
from optsweep.training.recording import Recorder

_datasets: dict[tuple[str, torch.device, torch.dtype], Dataset] = {}  # the one loaded last


@dataclass(frozen=True)
class Record:
    """What a run directory keeps of a cell: rows of history.csv and gradients.csv, result.json."""

    history: list[dict[str, Any]]
    result: dict[str, Any]
    gradients: list[dict[str, Any]]


def train_cell(
    plan: Plan,
    on_epoch: Callable[[Epoch], None] = lambda epoch: None,
    directory: Path | None = None,
    tell: Callable[[str], None] = lambda line: None,
) -> Record:
    """Load the data, train the stack and score it.

    Args:
        plan: What to train.
        on_epoch: Told of every epoch that is trained here.
        directory: Where checkpoints and weights go; None: nowhere, whatever the configuration.
        tell: Told in a line what a user should know, such as where the training begins.

    Raises:
        InputError: If the data are missing or corrupt, or the weights to begin with are.
    """
    config, work = plan.config, plan.work
    engine_module = ENGINES[plan.engine.name]
    with threads(work.num_threads):
        with ThreadPoolExecutor(1) as pool:  # 0.1 s less than one after the other
            prepared = pool.submit(engine_module.prepare)
            dataset = loaded(config.dataset, work.device, work.dtype)
        if remark := prepared.result():
            tell(remark)
        stack = build_stack(
            work.model,
            plan.initializer,
            config.seeds,
            work.input_shape,
            work.num_classes,
            work.device,
            work.dtype,
        )
        engine = engine_module.build(work, stack, dataset.train)
        recorder = Recorder(config.record, stack, dataset.train, config.seeds)
        checkpoints = Checkpoints(directory, plan, stack, engine, recorder, tell)

        start = checkpoints.begin()

        def told(epoch: Epoch) -> None:
            recorder.record(epoch.epoch, epoch.alive)
            on_epoch(epoch)
            checkpoints.after(epoch)

        others = OtherCores()
        training = train(
            engine,
            dataset,
            config.seeds,
            plan.learning_rates,
            work.batch_size,
            told,
            config.stopping,
            start,
            plan.cycled,
        )
        checkpoints.end()
        return record_of(plan, training, checkpoints.made_by, recorder.rows, others)


def record_of(
    plan: Plan,
    training: Training,
    made_by: dict[str, Any],
    gradients: list[dict[str, Any]],
    others: OtherCores,
) -> Record:
    """The record of a cell, within the `threads` that it was trained by.

    Args:
        plan: Of the cell.
        training: What it gave.
        made_by: See `provenance.made_by`.
        gradients: What was recorded of weights and gradients.
        others: What other processes did meanwhile.
    """
    result = _result(plan, training, made_by)
    result |= {"other_cores": others.mean(), "process": process_name()}
    return Record(_history(plan.config, training), result, gradients)


@contextlib.contextmanager
def threads(num_threads: int) -> Iterator[None]:
    """Let torch use so many threads for as long as this lasts, and not for the next cell."""
    before = torch.get_num_threads()
    torch.set_num_threads(num_threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def loaded(config: DatasetConfig, device: torch.device, dtype: torch.dtype) -> Dataset:
    """Load a dataset, unless the cell before had the same: a sweep has hundreds of cells."""
    key = (repr(config), device, dtype)
    if key not in _datasets:
        _datasets.clear()  # before the next one is loaded: each takes 220 MB
        _datasets[key] = load_dataset(config, device, dtype)
    return _datasets[key]


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


def _result(plan: Plan, training: Training, made_by: dict[str, Any]) -> dict[str, Any]:
    config = plan.config
    per_seed = [_seed_result(training, index, seed) for index, seed in enumerate(config.seeds)]
    completed = any(seed["status"] == "completed" for seed in per_seed)
    # Never the test split.
    judged_by = "val_accuracy" if config.dataset.val_size else "final_train_accuracy"
    return {
        "status": "completed" if completed else "diverged",
        "config_hash": config_hash(config),
        "num_seeds": config.num_seeds,
        "objective": mean_accuracy(seed[judged_by] for seed in per_seed),
        "seconds": training.epochs[-1].seconds,
        "stopped": dataclasses.asdict(training.stopped) if training.stopped else None,
        "device": _device_name(plan.work.device),
        "engine": plan.engine.name,
        "num_threads": torch.get_num_threads(),
        "warnings": list(plan.warnings),
        **made_by,
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


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    return str(device)
