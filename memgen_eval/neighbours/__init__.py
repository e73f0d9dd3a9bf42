"""Exact nearest neighbours: engines propose, search decides."""
