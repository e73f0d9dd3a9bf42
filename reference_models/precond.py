"""EDM and rectified flow: a network's coefficients at each noise level, which make it a denoiser, and its loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

Parametrization = Literal["edm", "flow"]
P_MEAN, P_STD = -1.2, 1.2  # of log sigma in EDM's training


@dataclass(frozen=True, eq=False)
class Coefficients:
    """Of ``D(x, sigma) = c_skip x + c_out F(c_in x, c_noise)`` for a network F, each (B,)."""

    c_skip: Tensor
    c_out: Tensor
    c_in: Tensor
    c_noise: Tensor

    @property
    def weight(self) -> Tensor:
        """Of ``(D(x, sigma) - x0)^2`` in the loss, (B,): the network's own error counts the same at every level."""
        return 1 / self.c_out**2


def edm(sigma: Tensor, sigma_data: float) -> Coefficients:
    """EDM's [1]_, for noise levels (B,) and data of this root mean square.

    References
    ----------
    .. [1] Karras et al., "Elucidating the Design Space of Diffusion-Based Generative Models", NeurIPS 2022, table 1.
    """
    return Coefficients(
        c_skip=sigma_data**2 / (sigma**2 + sigma_data**2),
        c_out=sigma * sigma_data / (sigma**2 + sigma_data**2).sqrt(),
        c_in=1 / (sigma**2 + sigma_data**2).sqrt(),
        c_noise=sigma.log() / 4,
    )


def flow(sigma: Tensor) -> Coefficients:
    """Rectified flow's [1]_, for noise levels (B,): F predicts ``v = eps - x0`` from ``x_t = (1 - t) x0 + t eps``.

    With ``sigma = t / (1 - t)``: ``x_t = x / (1 + sigma)``, ``t = sigma / (1 + sigma)``, and ``x0 = x_t - t v``.

    References
    ----------
    .. [1] Liu, Gong and Liu, "Flow Straight and Fast: Learning to Generate and Transfer Data with Rectified Flow",
       ICLR 2023, equation 1; here time runs from data to noise.
    """
    return Coefficients(
        c_skip=1 / (1 + sigma),
        c_out=-sigma / (1 + sigma),
        c_in=1 / (1 + sigma),
        c_noise=sigma / (1 + sigma),
    )


def training_sigma(z: Tensor, parametrization: Parametrization) -> Tensor:
    """Noise levels in training from standard normal draws z, both (B,).

    EDM: ``exp(P_MEAN + P_STD z)`` [1]_. Flow: ``t = sigmoid(z)`` [2]_, which is ``sigma = t / (1 - t) = exp(z)``.

    References
    ----------
    .. [1] Karras et al., "Elucidating the Design Space of Diffusion-Based Generative Models", NeurIPS 2022, table 1.
    .. [2] Esser et al., "Scaling Rectified Flow Transformers for High-Resolution Image Synthesis", ICML 2024,
       section 3.1.
    """
    return z.exp() if parametrization == "flow" else (P_MEAN + P_STD * z).exp()


class Preconditioned(nn.Module):
    """A network as a denoiser, an estimate of ``E[x0 | x0 + sigma * eps = x]`` for data in [-1, 1].

    Parameters
    ----------
    network : nn.Module
        From images (B, C, H, W), a number for each image's noise level (B,), and labels if there are any, to
        (B, C, H, W).
    parametrization : "edm" or "flow"
        What the network is given and predicts.
    sigma_data : float
        Root mean square of the data's values.
    """

    def __init__(self, network: nn.Module, parametrization: Parametrization = "edm", *, sigma_data: float) -> None:
        super().__init__()
        self.network = network
        self.parametrization = parametrization
        self.sigma_data = sigma_data

    def coefficients(self, sigma: Tensor) -> Coefficients:
        """Of the parametrization, at noise levels (B,)."""
        return flow(sigma) if self.parametrization == "flow" else edm(sigma, self.sigma_data)

    def forward(self, x: Tensor, sigma: Tensor, labels: Tensor | None = None) -> Tensor:
        """From x (B, C, H, W), sigma (B,) and labels (B,) to the clean images (B, C, H, W), float32."""
        x = x.float()
        at = self.coefficients(sigma.float())
        given = (each(at.c_in) * x, at.c_noise)
        predicted: Tensor = self.network(*given) if labels is None else self.network(*given, labels)
        return each(at.c_skip) * x + each(at.c_out) * predicted.float()


def training_loss(
    denoiser: Preconditioned, x0: Tensor, *, eps: Tensor, z: Tensor, labels: Tensor | None = None
) -> Tensor:
    """`denoising_loss` at the noise levels that `training_sigma` makes of standard normal draws z (B,)."""
    sigma = training_sigma(z, denoiser.parametrization)
    return denoising_loss(denoiser, x0, eps=eps, sigma=sigma, labels=labels)


def denoising_loss(
    denoiser: Preconditioned, x0: Tensor, *, eps: Tensor, sigma: Tensor, labels: Tensor | None = None
) -> Tensor:
    """Mean over all values of ``weight(sigma) * (D(x0 + sigma * eps) - x0)^2``, a scalar.

    EDM: 1, at every sigma, for a network that says nothing of data of mean square ``sigma_data^2``.
    Flow: the mean of ``(v(x_t, t) - (eps - x0))^2``.

    Parameters
    ----------
    denoiser : Preconditioned
        The model.
    x0, eps : float32, (B, C, H, W)
        Clean images in [-1, 1], and standard normal noise.
    sigma : float32, (B,)
        Noise levels.
    labels : int64, (B,), optional
        Classes; -1: none.
    """
    weight = denoiser.coefficients(sigma).weight
    error: Tensor = denoiser(x0 + each(sigma) * eps, sigma, labels) - x0
    return (each(weight) * error**2).mean()


def each(coefficient: Tensor) -> Tensor:
    """A coefficient for each image (B,) as (B, 1, 1, 1), so that it multiplies images."""
    return coefficient.reshape(-1, 1, 1, 1)
