"""Samples, train and test in the space of the features or in pixels, and what is measured there."""
