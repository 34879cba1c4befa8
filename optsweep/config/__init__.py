"""What a cell is: the schema of its configuration, its label and hash, what it may name.

Plain frozen dataclasses, no Hydra and no torch.
"""
