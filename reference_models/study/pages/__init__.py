"""The page of a study: its charts, tables and words."""
