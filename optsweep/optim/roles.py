"""What the parameters of a network are for, told by their names, axes and order."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor


def roles_of(parameters: Sequence[tuple[str, Tensor]]) -> list[str]:
    """The role of every parameter of a stack, one of `config.roles.ROLES`.

    Weights are parameters of two axes or more that are called so, as initialisers see it; the
    first and the last of them, in the order of the modules, are those of the input and the output
    layer. A vector is a bias if it stands beside such a weight, as a linear layer's does; all
    others belong to a norm. What has axes of a matrix and is not called a weight is an embedding.

    Args:
        parameters: Names and tensors (S, ...), with the parameter's own axes behind S.

    >>> import torch
    >>> shapes = {"conv.weight": (2, 4, 1, 5, 5), "conv.bias": (2, 4), "norm.weight": (2, 4),
    ...           "body.weight": (2, 8, 4), "head.weight": (2, 3, 8)}
    >>> roles_of([(name, torch.zeros(shape)) for name, shape in shapes.items()])
    ['first', 'bias', 'norm', 'hidden', 'last']
    """
    weights = [name for name, tensor in parameters if tensor.ndim > 2 and "weight" in _leaf(name)]

    def role(name: str, tensor: Tensor) -> str:
        if name in weights:
            ends = {weights[-1]: "last", weights[0]: "first"}
            return ends.get(name, "hidden")
        if tensor.ndim > 2:
            return "embedding"
        module, leaf = name.rpartition(".")[0], _leaf(name)
        sibling = f"{module}.{leaf.replace('bias', 'weight')}".lstrip(".")
        return "bias" if "bias" in leaf and sibling in weights else "norm"

    return [role(name, tensor) for name, tensor in parameters]


def _leaf(name: str) -> str:
    return name.rpartition(".")[2]
