"""The spaces in which novelty, fidelity and feature similarity are measured: pixels, networks, any callable."""
