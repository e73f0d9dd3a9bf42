"""Families that are measured where samples, train and test were placed: in pixels, or in the space of features."""
