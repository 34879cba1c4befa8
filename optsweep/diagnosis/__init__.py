"""Why does training stand where it stands? Readings at checkpoints, forks from them, a verdict.

`subject` is what is looked at: a loss as a mean over examples, at a point of parameters. On it
stand the products of its Hessian (`operators`), their extreme eigenvalues (`lanczos`) and density
(`spectrum`), what a step is expected to do and does (`budget`), how far the rate is from unstable
(`stability`), what the batches' noise is (`noise`), where a way out leads down (`escape`), and
what becomes of the training under another rate, batch or direction (`forks`). `examination` takes
all of them at one checkpoint, `verdicts` decides by stated rules, `cell` goes through a cell's
checkpoints and `records` keeps what was found.
"""
