"""The study: its experiments, one after the other, and then the report."""
