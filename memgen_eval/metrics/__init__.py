"""The families of figures: arrays in, frozen results out."""
