"""The command line, and the only place that knows Hydra.

It imports neither torch nor pandas before a cell has to be trained, so that `--help`,
shell completion and finished cells answer at once.
"""

from optsweep.cli.app import main

__all__ = ["main"]
