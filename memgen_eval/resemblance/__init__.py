"""Whether samples, test and training images can be the same kind of picture."""
