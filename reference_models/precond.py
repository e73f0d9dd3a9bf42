"""EDM's preconditioning around a network, which makes it a denoiser, and the loss that belongs to it."""

from __future__ import annotations

from torch import Tensor, nn

P_MEAN, P_STD = -1.2, 1.2  # of log sigma in training


class Preconditioned(nn.Module):
    """A network as a denoiser, an estimate of ``E[x0 | x0 + sigma * eps = x]`` for data in [-1, 1].

    Parameters
    ----------
    network : nn.Module
        From images (B, C, H, W) and a number for each image's noise level (B,) to (B, C, H, W).
    sigma_data : float
        Root mean square of the data's values.

    References
    ----------
    .. [1] Karras et al., "Elucidating the Design Space of Diffusion-Based Generative Models", NeurIPS 2022, table 1.
    """

    def __init__(self, network: nn.Module, *, sigma_data: float) -> None:
        super().__init__()
        self.network = network
        self.sigma_data = sigma_data

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        """From x (B, C, H, W) and sigma (B,) to the clean images (B, C, H, W), float32."""
        x, sigma = x.float(), sigma.float()
        c_skip = self.sigma_data**2 / (sigma**2 + self.sigma_data**2)
        c_out = sigma * self.sigma_data / (sigma**2 + self.sigma_data**2).sqrt()
        c_in = 1 / (sigma**2 + self.sigma_data**2).sqrt()
        c_noise = sigma.log() / 4
        predicted: Tensor = self.network(each(c_in) * x, c_noise)
        clean: Tensor = each(c_skip) * x + each(c_out) * predicted
        return clean


def edm_loss(denoiser: Preconditioned, x0: Tensor, *, sigma: Tensor, eps: Tensor) -> Tensor:
    """Mean over all values of ``weight(sigma) * (D(x0 + sigma * eps) - x0)^2``, a scalar.

    The weight ``(sigma^2 + sigma_data^2) / (sigma * sigma_data)^2`` makes 1 the loss of a network that says nothing of
    data of mean square ``sigma_data^2``, at every sigma.

    Parameters
    ----------
    denoiser : Preconditioned
        The model.
    x0, eps : float32, (B, C, H, W)
        Clean images in [-1, 1], and standard normal noise.
    sigma : float32, (B,)
        Noise levels; in training ``exp(P_MEAN + P_STD * normal)``.
    """
    weight = (sigma**2 + denoiser.sigma_data**2) / (sigma * denoiser.sigma_data) ** 2
    error: Tensor = denoiser(x0 + each(sigma) * eps, sigma) - x0
    return (each(weight) * error**2).mean()


def each(coefficient: Tensor) -> Tensor:
    """A coefficient for each image (B,) as (B, 1, 1, 1), so that it multiplies images."""
    return coefficient.reshape(-1, 1, 1, 1)
