"""Image sets whose truth is known, and what every figure and verdict says of them."""
