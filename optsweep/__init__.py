"""optsweep: which optimizer, schedule, initialisation and batch size train a network best."""

__version__ = "0.1.0"
