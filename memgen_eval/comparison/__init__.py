"""Reports beside one another: what moved, and what else differs."""
