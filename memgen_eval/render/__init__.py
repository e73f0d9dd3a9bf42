"""A report as a table, markdown and a page."""
