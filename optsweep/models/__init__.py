"""Networks as stacks of seeds, and how their weights begin."""

from optsweep.models.stack import Stack, build_stack

__all__ = ["Stack", "build_stack"]
