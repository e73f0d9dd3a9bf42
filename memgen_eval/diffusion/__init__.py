"""Denoisers: the contract, the optimal and the Gaussian one, samplers that follow one, the probe that compares them."""
