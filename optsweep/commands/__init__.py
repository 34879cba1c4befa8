"""The programs beside training: `compare`, `best`, `export` and `lr-range`, each a thin one.

What they do stands in the rooms below: tables and figures in `report`, trackers in `trackers`,
the range test in `training`. Here is how a user names runs, and what a terminal shows.
"""
