"""Faults, tried for real: after each, nothing is lost and nothing is wrong.

`scripts/faults.py` starts it. `app` tries kinds of faults side by side and counts; `ground` is
where one is tried, `forks` makes thousands of starts cheap, `records` compares what came out.
Each kind has a module: `kills`, `damage`, `output`, `inputs`, `crowds`, `disks`.
"""
