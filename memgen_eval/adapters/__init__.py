"""Models of other libraries at the door: recognised by what they are, and made into samplers and denoisers."""
