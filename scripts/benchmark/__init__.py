"""The benchmark: optsweep against other ways to train the same networks, on one machine.

`scripts/benchmark.py` starts it. `app` decides what is measured: `tasks`, by all `peers` in turn,
in `rounds`, each in a process of its own (`workers`), and what a start costs (`startup`).
`summary` reads the rows and judges them, `report` makes the page, which says what they lack.
"""
