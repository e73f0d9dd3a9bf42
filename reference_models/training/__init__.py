"""A training: its state, its steps, its checkpoints, and a run from the first step to the report."""
