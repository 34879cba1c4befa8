"""The compiled engine for multilayer perceptrons on a CPU."""
