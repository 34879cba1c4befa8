"""Keeps torch from importing its compiler, which nothing here uses."""

from torch.optim import Optimizer


def spare_compiler() -> None:
    """Let optimizers be made without `torch._dynamo`: 0.8 s and 150 MB, with sympy and triton.

    `Optimizer.add_param_group` imports it at the first call, to be left alone by torch.compile,
    unless the function's attribute `__dynamo_disable` says what to call instead. Where a release
    of torch knows no such attribute, nothing changes.
    """
    plain = getattr(Optimizer.add_param_group, "__wrapped__", None)
    if plain is not None:
        vars(plain).setdefault("__dynamo_disable", plain)
