"""Sets of images: what they are, how they are read, and the sets that have a name."""
