"""The convolutional network of the study, after LeNet-5."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional

from optsweep.config.checks import InputError


class LeNet(nn.Module):
    """Two convolutions with pooling, then three linear layers: 61,706 weights on 28 x 28.

    For an image of 1 x 28 x 28, C 5 x 5 being a convolution and P 2 x 2 a pooling:

        C 5 x 5, padding 2   6 x 28 x 28     P 2 x 2   6 x 14 x 14
        C 5 x 5             16 x 10 x 10     P 2 x 2  16 x 5 x 5 = 400
        linear              120 - 84 - classes

    Other sizes give another number of inputs to the first linear layer. It departs from the
    classic: ReLU and max pooling stand for tanh and for averages with a weight and a sigmoid of
    their own, every channel of the second convolution sees all six of the first, and the output
    is linear, to be trained with cross entropy, in place of radial basis functions. The padding
    of 2 stands for the classic's margin, in which 28 x 28 pixels lie on 32 x 32.

    Source: LeCun, Bottou, Bengio & Haffner 1998, "Gradient-based learning applied to document
    recognition", Proceedings of the IEEE 86 (11), section II.B.
    """

    def __init__(self, input_shape: Sequence[int], num_classes: int) -> None:
        """Build the layers for images (channels, height, width).

        Raises:
            InputError: If the examples are no such images, or too small to be pooled twice.
        """
        super().__init__()
        if len(input_shape) != 3 or min(input_shape[1:]) < 12:
            shape = " x ".join(map(str, input_shape))
            raise InputError(
                f"model LeNet: examples of shape {shape}; expected channels x height x width "
                "with at least 12 x 12 pixels"
            )
        channels, height, width = input_shape
        self.conv1 = nn.Conv2d(channels, 6, kernel_size=5, padding=2)
        self.conv2 = nn.Conv2d(6, 16, kernel_size=5)
        pooled = 16 * ((height // 2 - 4) // 2) * ((width // 2 - 4) // 2)
        self.linear1 = nn.Linear(pooled, 120)
        self.linear2 = nn.Linear(120, 84)
        self.linear3 = nn.Linear(84, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, classes) of images (B, channels, height, width).

        In place, ReLU takes no memory of its own: a tenth to a quarter of a step at b = 256.
        """
        x = functional.max_pool2d(self.conv1(images).relu_(), 2)
        x = functional.max_pool2d(self.conv2(x).relu_(), 2)
        x = self.linear1(x.flatten(1)).relu_()
        return self.linear3(self.linear2(x).relu_())
