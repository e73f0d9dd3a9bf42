"""Several reports on one page or in one table: side by side, in order, or one since another."""
