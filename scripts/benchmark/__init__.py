"""The benchmark: optsweep against other ways to train the same networks, on one machine.

`app` is the program, `tasks` what everyone trains, `peers` a table of who does and their loops,
`rounds` let them take turns, and `report` makes the page, its figure and the README's table.
"""
