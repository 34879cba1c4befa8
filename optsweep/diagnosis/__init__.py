"""Why does training stand where it stands? Readings at checkpoints, forks from them, a verdict.

`subject` is what is looked at: a loss as a mean over examples, at a point of parameters. On it
stand the products of its Hessian (`operators`), their extreme eigenvalues (`lanczos`) and density
(`spectrum`), what a step is expected to do and does (`budget`), how the optimizer steps and how far
its rate is from unstable (`walker`), what the batches' noise is (`noise`), where a way out leads
down (`escape`), and what becomes of the training under another rate, batch or direction (`forks`).
`examination` takes all of them at one checkpoint, `cell` goes through a cell's checkpoints,
`records` keeps what was found, `done` knows which were examined before in the same way, and
`verdicts` decides by stated rules on the readings that were kept.
"""
