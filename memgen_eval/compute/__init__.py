"""Exact products of rows, for anyone: which library multiplies, on how many threads, within which memory."""
