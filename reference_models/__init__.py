"""Reference models and studies: a user of memgen_eval, which imports nothing of it."""
