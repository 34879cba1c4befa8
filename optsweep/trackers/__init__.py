"""Runs as experiment trackers want them, after the fact: it reads run directories and no more.

`records` tells what there is of a sweep and of its cells; `export` brings it to a tracker that
lacks it. Each tracker is a module around its own client, an extra of its name, with a class of
three methods (`export.Tracker`), and imported only when something is exported to it.
"""
