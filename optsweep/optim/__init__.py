"""Optimizers and learning-rate schedules: what torch lacks, and how all of them act on stacks."""
