"""From run directories to tables and figures; never imports torch."""

import logging

# matplotlib would say in two lines, on every start, that it finds no home for its own settings.
logging.getLogger("matplotlib").setLevel(logging.ERROR)
