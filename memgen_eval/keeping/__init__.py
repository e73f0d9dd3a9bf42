"""What an evaluation keeps on disk, and where."""
