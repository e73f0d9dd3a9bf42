"""When a model begins to know its training images, and when it begins to copy them, from the reports of a training."""
