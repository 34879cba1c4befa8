"""From a plan to a trained cell: the loop over epochs, what it records, when it stops."""
