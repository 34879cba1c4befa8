"""Many steps for one call of the host's: a captured graph, or what stands for it on a CPU."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

# Steps before anything is captured: in the first one optimizers make their state, and do other
# things than in those that follow; and libraries choose their kernels.
WARM_UP = 3
_FEWEST, _MOST = 32, 64  # steps of a graph: where a launch costs nothing, and a capture little


class Runner(Protocol):
    """Takes steps, each of which advances by itself."""

    def run(self, num_steps: int) -> None:
        """Take so many steps."""
        ...


def runner_of(step: Callable[[], None], num_steps: int, device: torch.device) -> Runner:
    """What takes the steps of epochs on a device, each of so many whole batches."""
    if device.type == "cuda":
        return CapturedSteps(step, steps_of_graph(num_steps), device)
    return RepeatedSteps(step)


def steps_of_graph(num_steps: int) -> int:
    """How many steps a graph has, so that few of an epoch's are left over.

    >>> [steps_of_graph(num_steps) for num_steps in (1, 31, 234, 60_000)]
    [1, 31, 39, 60]
    """
    if num_steps < _FEWEST:
        return max(1, num_steps)
    return min(
        range(_FEWEST, min(num_steps, _MOST) + 1), key=lambda size: (num_steps % size, -size)
    )


class RepeatedSteps:
    """The same calls, one by one."""

    def __init__(self, step: Callable[[], None]) -> None:
        """Take this step."""
        self._step = step

    def run(self, num_steps: int) -> None:
        """See `Runner.run`."""
        _call(self._step, num_steps)


class CapturedSteps:
    """A `torch.cuda.CUDAGraph` of several steps; what an epoch has beside is taken one by one."""

    def __init__(self, step: Callable[[], None], size: int, device: torch.device) -> None:
        """Capture `size` steps on a CUDA device as soon as some have been taken."""
        self._step = step
        self._size = size
        self._device = device
        self._graph: torch.cuda.CUDAGraph | None = None

    def run(self, num_steps: int) -> None:
        """See `Runner.run`."""
        with torch.cuda.device(self._device):
            if self._graph is None:
                num_warm = min(WARM_UP, num_steps)
                self._warm_up(num_warm)
                num_steps -= num_warm
                self._graph = self._captured()
            num_replays, num_left = divmod(num_steps, self._size)
            for _ in range(num_replays):
                self._graph.replay()
            _call(self._step, num_left)

    def _warm_up(self, num_steps: int) -> None:
        """Take steps on a stream of their own, as a capture does."""
        stream, callers = torch.cuda.Stream(), torch.cuda.current_stream()
        stream.wait_stream(callers)
        with torch.cuda.stream(stream):
            _call(self._step, num_steps)
        callers.wait_stream(stream)

    def _captured(self) -> torch.cuda.CUDAGraph:
        """The graph of some steps, none of which is taken."""
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            _call(self._step, self._size)
        return graph


class TapedSteps:
    """What a graph does, on any device: the operations of one step, on the same memory again.

    Nothing of Python is run in a replay, so that what a step decides there, counts there or reads
    from a tensor stays for ever as it was when the tape was made.
    """

    def __init__(self, step: Callable[[], None]) -> None:
        """Record the operations of a step after some that have been taken."""
        self._step = step
        self._num_taken = 0
        self._tape: list[_Operation] = []

    def run(self, num_steps: int) -> None:
        """See `Runner.run`."""
        for _ in range(num_steps):
            if self._tape:
                self._replay()
            elif self._num_taken < WARM_UP:
                self._step()
            else:
                with _Recording(self._tape):
                    self._step()
            self._num_taken += 1

    @torch.no_grad()
    def _replay(self) -> None:
        for operation in self._tape:
            again = operation.function(*operation.arguments, **operation.settings)
            for then, now in zip(_tensors(operation.result), _tensors(again), strict=True):
                if now.data_ptr() != then.data_ptr():
                    then.copy_(now)


class _Operation(NamedTuple):
    """One call below autograd, and the tensors that it has given."""

    function: Callable[..., Any]
    arguments: Sequence[Any]
    settings: Mapping[str, Any]
    result: Any


class _Recording(TorchDispatchMode):
    """Keeps every operation that reads or writes memory, in the order in which they are done."""

    def __init__(self, tape: list[_Operation]) -> None:
        super().__init__()
        self._tape = tape

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if not is_view(func):
            self._tape.append(_Operation(func, args, kwargs or {}, result))
        return result


def _call(step: Callable[[], None], num_steps: int) -> None:
    for _ in range(num_steps):
        step()


def is_view(function: Any) -> bool:
    """Whether an operator gives another look at memory and does nothing else."""
    returns = function._schema.returns
    aliases = [each.alias_info for each in returns if each.alias_info is not None]
    return bool(aliases) and not any(alias.is_write for alias in aliases)


def _tensors(result: Any) -> list[Tensor]:
    """The tensors of what an operator has given: one, several or lists of them."""
    if isinstance(result, (list, tuple)):
        return [each for part in result for each in _tensors(part)]
    return [result] if isinstance(result, Tensor) else []
