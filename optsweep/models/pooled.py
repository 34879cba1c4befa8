"""A multilayer perceptron of coarser images, to tell the number of inputs from what they hold."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from torch.nn import functional

from optsweep.config.checks import InputError
from optsweep.config.schema import MLPConfig
from optsweep.models.mlp import MLP


class PooledMLP(MLP):
    """The MLP on squares of pixels that are averaged, and then given several times over.

    An image of 28 x 28 pixels with pool = 4 and repeat = 1 has 49 inputs, which hold as many
    means. With repeat = 4 each mean fills a square of 4 x 4 inputs, 784 again, which hold no more.
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        num_classes: int,
        pool: int = 1,
        repeat: int = 1,
        hidden_sizes: Sequence[int] = MLPConfig.hidden_sizes,
    ) -> None:
        """Build the layers for images (channels, height, width).

        Raises:
            InputError: If the examples are no such images, or do not divide into the squares.
        """
        if len(input_shape) != 3 or min(pool, repeat) < 1 or any(n % pool for n in input_shape[1:]):
            shape = " x ".join(map(str, input_shape))
            raise InputError(
                f"model PooledMLP: pool={pool}, repeat={repeat} and examples of shape {shape}; "
                "expected channels x height x width that divide by pool, and numbers from 1"
            )
        channels, height, width = input_shape
        num_inputs = channels * (height // pool * repeat) * (width // pool * repeat)
        super().__init__(num_inputs, num_classes, hidden_sizes)
        self.pool, self.repeat = pool, repeat

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, classes) of images (B, channels, height, width)."""
        means = functional.avg_pool2d(images, self.pool)
        for axis in (-2, -1):
            means = means.repeat_interleave(self.repeat, axis)
        return super().forward(means)
