"""Denoisers looked at closely: their Jacobians, and two models that start from the same noise."""
