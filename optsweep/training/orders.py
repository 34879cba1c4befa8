"""The order of the examples of each epoch; for a GPU, drawn while the epoch before is trained."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType

import torch
from torch import Tensor


class Orders:
    """Orders of one epoch after the other, `with Orders(…) as orders: orders.of(epoch)`.

    A GPU trains on while its host waits for the last step, so that the host may as well draw: ten
    seeds of 60,000 examples take some ten milliseconds, as long as an epoch there. They are put
    into pinned memory, from which a device copies without the host. A CPU has no time to give.
    """

    def __init__(
        self,
        draw: Callable[[int], Tensor | None],
        num_epochs: int,
        device: torch.device,
        ahead: bool,
        rows: Sequence[int] = (),
    ) -> None:
        """Call `draw` once for every epoch that is asked for.

        Args:
            draw: From an epoch's number to its orders (S, N) on the CPU, or None; it may be called
                by another thread.
            num_epochs: The last epoch, after which nothing is drawn.
            device: Where they are wanted.
            ahead: Whether the next epoch is drawn as soon as one is asked for.
            rows: Of each member of a stack, which of the S orders is its; none: each has its own.
                Those that share one get it on the device, without being drawn or moved twice.
        """
        self._draw = draw
        self._num_epochs = num_epochs
        self._device = device
        self._rows = torch.tensor(rows, device=device) if rows else None
        self._pool = ThreadPoolExecutor(1) if ahead else None
        self._next: dict[int, Future[Tensor | None]] = {}

    def __enter__(self) -> Orders:
        """Nothing is drawn yet."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Wait for what is being drawn."""
        if self._pool is not None:
            self._pool.shutdown()

    def of(self, epoch: int) -> Tensor | None:
        """The orders of an epoch, on the device."""
        if self._pool is None:
            return self._moved(self._draw(epoch))
        drawn = self._next.pop(epoch, None) or self._pool.submit(self._pinned, epoch)
        orders = drawn.result()
        if epoch < self._num_epochs:
            self._next[epoch + 1] = self._pool.submit(self._pinned, epoch + 1)
        return self._moved(orders)

    def _moved(self, orders: Tensor | None) -> Tensor | None:
        if orders is None:
            return None
        orders = orders.to(self._device, non_blocking=self._device.type == "cuda")
        return orders if self._rows is None else orders[self._rows]

    def _pinned(self, epoch: int) -> Tensor | None:
        orders = self._draw(epoch)
        if orders is None or self._device.type != "cuda":
            return orders
        return orders.pin_memory()
