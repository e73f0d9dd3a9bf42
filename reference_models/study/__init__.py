"""Whole studies: a grid of trainings, when each begins to copy, and how that depends on the factors of the grid."""
