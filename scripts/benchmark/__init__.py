"""The benchmark: optsweep against other ways to train the same networks, on one machine.

`scripts/benchmark.py` starts it. `app` decides what is measured, `runner` takes turns, in a process
for each of the `peers`; `report` reads what they left and judges it.
"""
