"""What is disturbed: a cell, a sweep and a search that are small, and have all files there are."""

CELL = ("batch_size=50", "num_seeds=2", "trainer.epochs=4", "record.gradients=true")
SWEEP = ("--multirun", "name=tried", *CELL, "optimizer=sgd,adam")
SEARCH = (
    *("--multirun", "hydra/sweeper=optuna", "name=tried", "dataset.val_size=200", "num_seeds=2"),
    *("batch_size=50", "trainer.epochs=4", "weight_decay=tag(log,interval(1e-6,1e-1))"),
    *("hydra.sweeper.n_trials=3", "hydra.sweeper.final_num_seeds=2"),
)
# What the sampler proposes then depends on the trials before.
MODELLED = (*SEARCH, "hydra.sweeper.sampler.n_startup_trials=1")
TORCH = (
    *("--multirun", "name=tried", "trainer.engine=torch", "optimizer=adam,lars", "momentum=0.9"),
    *("batch_size=50", "trainer.epochs=4", "scheduler=one_cycle", "scheduler.interval=step"),
)
CHECKPOINT = "trainer.checkpoint=1"
JOBLIB = ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2")
NAME = "tried"
