"""Networks as stacks of seeds, and how their weights begin."""
