"""A stack after an epoch, in a file: what a killed cell goes on from, and weights that are kept.

A file is a mapping of tensors and plain data in torch's own format. It is read with
`weights_only`, so that it cannot run code, and without another dependency: safetensors has
tensors alone, and neither an optimizer's nested state nor a history.
"""

from __future__ import annotations

import functools
import io
import time
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

import optsweep
from optsweep import runs
from optsweep.config.checks import InputError, first_line
from optsweep.config.identity import config_hash
from optsweep.config.schema import Config
from optsweep.engine import Engine, Scores, Work
from optsweep.models import Stack, build_stack
from optsweep.models.seeding import Initializer
from optsweep.optim.states import is_restorable
from optsweep.provenance import continued, made_by
from optsweep.training.loop import Epoch, Start
from optsweep.training.recording import Recorder

if TYPE_CHECKING:
    from optsweep.training.plan import Plan

# With trainer.checkpoint=true, how often as long as a file takes to be written is trained until
# the next: it takes a twentieth of the time at most.
_TIMES_BETWEEN = 20


@dataclass(frozen=True)
class Snapshot:
    """A stack after an epoch, and all that decides how it goes on.

    Attributes:
        cell: Hash of the cell that it was trained in.
        seeds: The S seeds.
        epoch: After which epoch of the cell.
        age: Epochs since the weights were drawn, those of cells before it included.
        alive: Of each seed, whether it had not diverged.
        tensors: Parameters and buffers, (S, *own axes).
        rng_states: See `Stack`; None in older files of networks that draw nothing.
        engine: Name of the engine that trained it.
        optimizer: What `state` is a state of; see `ResolvedOptimizer.kind`.
        state: What the engine gave of it, see `Engine.state`; None if it cannot be kept.
    """

    cell: str
    seeds: list[int]
    epoch: int
    age: int
    alive: list[bool]
    tensors: dict[str, Tensor]
    rng_states: list[Tensor] | None
    engine: str
    optimizer: str
    state: Any


def write(path: Path, snapshot: Snapshot, progress: Mapping[str, Any] | None = None) -> None:
    """Write a snapshot whole or not at all, with what its cell has recorded up to it."""
    buffer = io.BytesIO()
    content = {"version": optsweep.__version__, "snapshot": vars(snapshot), "progress": progress}
    torch.save(content, buffer)
    runs.write_atomically(path, buffer.getbuffer())


def read(path: Path) -> tuple[Snapshot, dict[str, Any]]:
    """A snapshot, and what its cell had recorded up to it (empty if it is of weights alone).

    Raises:
        InputError: If it is not there, torn, or written by what this torch or version cannot read.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()  # torch itself does not compare checksums
        if damaged is not None:
            raise ValueError(f"{damaged} is damaged")
        content = torch.load(path, map_location="cpu", weights_only=True)
        snapshot = Snapshot(**content["snapshot"])
    except Exception as error:  # of a file that may hold anything, read by several libraries
        raise InputError(f"{path} cannot be read ({first_line(error)})") from error
    return snapshot, content["progress"] or {}


class Checkpoints:
    """The files that a cell writes as it trains; without a directory it writes none.

    Attributes:
        made_by: See `provenance.made_by`; of a cell that goes on, by whom it was begun too.
    """

    def __init__(
        self,
        directory: Path | None,
        plan: Plan,
        stack: Stack,
        engine: Engine,
        recorder: Recorder,
        tell: Callable[[str], None],
    ) -> None:
        """Write to `directory` what the plan's configuration asks for.

        Args:
            directory: Of the cell; None: write nothing, and go on from nothing.
            plan: Of the cell.
            stack: What is trained.
            engine: What trains it.
            recorder: What is recorded.
            tell: Called with a line of what a user should know.
        """
        self._directory = directory
        self._plan = plan
        self._config = plan.config
        self._cell = config_hash(plan.config)
        self.made_by = made_by(plan.config)
        self._optimizer = plan.work.optimizer.kind
        self._stack = stack
        self._engine = engine
        self._recorder = recorder
        self._tell = tell
        self._epochs: list[Epoch] = []
        self._age = 0
        self._due = 0.0

    @functools.cached_property
    def _keeps_state(self) -> bool:
        """Whether the optimizer can go on from a file; asked only if there is going to be one."""
        build = self._plan.work.optimizer.build
        return self._engine.name == "numba" or is_restorable(build)

    def begin(self) -> Start:
        """Put the stack where the cell was killed or is to begin.

        Raises:
            InputError: If the weights to begin with cannot be used.
        """
        if self._directory is not None:
            path = self._directory / runs.CHECKPOINT_FILE
            if path.exists():
                try:
                    return self._continue(*read(path))
                except InputError as error:
                    self._tell(f"begins anew: {error}")
            if self._config.trainer.checkpoint and not self._keeps_state:
                name = self._plan.work.optimizer.target.__name__
                self._tell(f"no checkpoints: the state of optimizer {name} cannot be kept")
        if self._config.start_from is not None:
            return self._fork(read_origin(self._config))
        return Start()

    def after(self, epoch: Epoch) -> None:
        """Write what has to be written after an epoch."""
        self._epochs.append(epoch)
        if self._directory is None:
            return
        if self._config.trainer.keeps(epoch.epoch, is_last=False):
            self._keep(epoch)
        if self._is_due(epoch.epoch):
            self._write_checkpoint(self._directory / runs.CHECKPOINT_FILE, epoch)

    def end(self) -> None:
        """Keep the last weights, if the configuration wants them."""
        if self._directory is not None and self._config.trainer.keeps(
            self._epochs[-1].epoch, is_last=True
        ):
            self._keep(self._epochs[-1])

    def _is_due(self, epoch: int) -> bool:
        every = self._config.trainer.checkpoint
        if not every or epoch in (0, self._config.trainer.epochs) or not self._keeps_state:
            return False
        return time.perf_counter() >= self._due if every is True else epoch % every == 0

    def _write_checkpoint(self, path: Path, epoch: Epoch) -> None:
        """Write what a killed cell goes on from; training does not depend on it."""
        started = time.perf_counter()
        progress = {
            "epochs": _packed(self._epochs),
            "recorded": self._recorder.rows,
            "made_by": self.made_by,
        }
        try:
            write(path, self._snapshot(epoch), progress)
        except OSError as error:
            self._tell(f"{path} cannot be written ({error.strerror}); training goes on without")
        now = time.perf_counter()
        self._due = now + _TIMES_BETWEEN * (now - started)

    def _keep(self, epoch: Epoch) -> None:
        assert self._directory is not None
        path = runs.weights_file(self._directory, epoch.epoch)
        path.parent.mkdir(exist_ok=True)
        write(path, self._snapshot(epoch))

    def _snapshot(self, epoch: Epoch) -> Snapshot:
        return Snapshot(
            cell=self._cell,
            seeds=list(self._config.seeds),
            epoch=epoch.epoch,
            age=self._age + epoch.epoch,
            alive=epoch.alive.tolist(),
            tensors=_tensors_of(self._stack),
            rng_states=self._stack.rng_states,
            engine=self._engine.name,
            optimizer=self._optimizer,
            state=self._engine.state() if self._keeps_state else None,
        )

    def _continue(self, snapshot: Snapshot, progress: Mapping[str, Any]) -> Start:
        """Go on after the epoch of a checkpoint.

        Raises:
            InputError: If it does not fit, before anything is changed.
        """
        assert self._directory is not None
        epoch, keeps = snapshot.epoch, self._config.trainer.keeps
        kept = runs.kept_epochs(self._directory)
        missing = [e for e in range(epoch + 1) if keeps(e, is_last=False) and e not in kept]
        if snapshot.cell != self._cell or snapshot.seeds != list(self._config.seeds):
            reason = "is of another configuration"
        elif snapshot.engine != self._engine.name:
            reason = f"was trained by engine {snapshot.engine}"
        elif missing:
            reason = f"comes after epoch {missing[0]}, whose weights are to be kept"
        else:
            reason = _misfit(snapshot.tensors, self._stack)
        if reason or not self._engine.restore(snapshot.state):
            raise InputError(f"{runs.CHECKPOINT_FILE} {reason or 'has another optimizer'}")
        _put(snapshot, self._stack)
        self._recorder.resume(progress["recorded"])
        self._epochs = _unpacked(progress["epochs"])
        self._age = snapshot.age - snapshot.epoch
        self.made_by = continued(self.made_by, progress.get("made_by"))
        self._tell(f"continues after epoch {epoch}")
        return Start(self._epochs, self._age)

    def _fork(self, snapshot: Snapshot) -> Start:
        """Begin with the weights of another cell, and with its optimizer's state if it fits."""
        assert self._config.start_from is not None
        _put(snapshot, self._stack)
        alike = (snapshot.engine, snapshot.optimizer) == (self._engine.name, self._optimizer)
        known = alike and snapshot.state is not None
        taken = known and self._engine.restore(snapshot.state)
        self._tell(
            f"begins with epoch {snapshot.epoch} of {self._config.start_from.path}; its optimizer "
            + ("goes on" if taken else "begins anew")
        )
        self._age = snapshot.age
        return Start((), self._age, np.array(snapshot.alive))


def read_origin(config: Config) -> Snapshot:
    """The weights that a cell begins with.

    Raises:
        InputError: If they cannot be read, or are not those of the cell's seeds.
    """
    origin = config.start_from
    assert origin is not None
    snapshot, _ = read(runs.weights_file(Path(origin.path), origin.epoch))
    if (snapshot.cell, snapshot.epoch) != (origin.cell, origin.epoch):
        raise InputError(
            f"start_from={origin.path}: the weights of epoch {origin.epoch} are those of another "
            f"cell than {runs.CONFIG_FILE} tells of"
        )
    if snapshot.seeds != list(config.seeds):
        raise InputError(
            f"start_from={origin.path}: weights are kept of {len(snapshot.seeds)} seeds from "
            f"{snapshot.seeds[0]}; give seed={snapshot.seeds[0]} num_seeds={len(snapshot.seeds)}"
        )
    return snapshot


def check_origin(config: Config, work: Work, initializer: Initializer) -> None:
    """Find out whether the weights that a cell begins with fit its network.

    Raises:
        InputError: If they do not, or cannot be read.
    """
    assert config.start_from is not None
    snapshot = read_origin(config)
    one_seed, device = config.seeds[:1], torch.device("cpu")
    shape, num_classes = work.input_shape, work.num_classes
    stack = build_stack(
        work.model, initializer, one_seed, shape, num_classes, device, torch.float32
    )
    reason = _misfit(snapshot.tensors, stack)
    if reason:
        raise InputError(f"start_from={config.start_from.path}: it {reason}")


def _misfit(tensors: Mapping[str, Tensor], stack: Stack) -> str:
    """How saved tensors differ from a stack's, seeds aside; empty if only in their values."""
    own = _tensors_of(stack)
    for name in [*own, *tensors]:
        here, there = (
            "x".join(map(str, each[name].shape[1:])) or "a number" if name in each else "not there"
            for each in (own, tensors)
        )
        if here != there:
            return f"has another network: {name} is {there}, and {here} in this cell's"
    return ""


def _tensors_of(stack: Stack) -> dict[str, Tensor]:
    named = [*stack.named_parameters(), *stack.named_buffers()]
    return {name: tensor.detach() for name, tensor in named}


def _put(snapshot: Snapshot, stack: Stack) -> None:
    """Give a stack, in place, the tensors of another one, and the states it draws from."""
    for name, tensor in _tensors_of(stack).items():
        tensor.copy_(snapshot.tensors[name])
    saved = snapshot.rng_states
    if saved is not None and stack.rng_states[0].shape == saved[0].shape:
        stack.rng_states = list(saved)  # those of one kind of device mean nothing to another


_SPLITS = ("train", "val", "test")


def _packed(epochs: Sequence[Epoch]) -> dict[str, Any]:
    """Epochs as columns: lists, and tensors (epochs, S) or, of scores, (epochs, 2, S)."""
    columns: dict[str, Any] = {
        name: [getattr(epoch, name) for epoch in epochs]
        for name in ("epoch", "step", "lr", "seconds")
    }
    columns["alive"] = torch.from_numpy(np.stack([epoch.alive for epoch in epochs]))
    for split in _SPLITS:
        scores = [getattr(epoch, split) for epoch in epochs]
        columns[split] = None if scores[0] is None else torch.from_numpy(np.stack(scores))
    return columns


def _unpacked(columns: Mapping[str, Any]) -> list[Epoch]:
    def scores(split: str, index: int) -> Any:
        values = columns[split]
        return None if values is None else Scores(*values[index].numpy())

    return [
        Epoch(
            epoch=columns["epoch"][index],
            step=columns["step"][index],
            lr=columns["lr"][index],
            train=scores("train", index),
            val=scores("val", index),
            test=scores("test", index),
            seconds=columns["seconds"][index],
            alive=columns["alive"][index].numpy(),
        )
        for index in range(len(columns["epoch"]))
    ]
