"""The benchmark: optsweep against other ways to train the same network, on one machine.

It is started by `scripts/benchmark.py`; nothing else of the package imports it.
"""
