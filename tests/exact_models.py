"""Networks whose denoiser is known exactly: D* of a few images, computed in float64, as other libraries' networks."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from denoiser_oracles import optimal

SIGMA_DATA = 0.5
Floats = NDArray[np.float64]


def log_sigmas_of(alphas_cumprod: Any) -> Floats:
    """Of each timestep, float64, from the float32 that a scheduler holds."""
    given = np.asarray(alphas_cumprod, dtype=np.float64)
    return np.log((1 - given) / given) / 2


def expected(train: NDArray[Any], x: Tensor, sigma: Any) -> Tensor:
    """D*(x, sigma) for sigma (B,), float64."""
    rows = x.double().reshape(len(x), -1).numpy()
    found = [optimal(train, row[None], float(level))[0] for row, level in zip(rows, sigma, strict=True)]
    return torch.from_numpy(np.stack(found)).reshape(x.shape)


class Exact(nn.Module):
    """D* as a network of a parametrisation: its input is scaled, its clock is that of the scheduler.

    `kind` is epsilon, v_prediction, sample (with the log sigma of each timestep), flow, or edm and edm_v (the inner
    network of EDM's preconditioning, of either sign).
    """

    def __init__(self, train: NDArray[Any], kind: str, log_sigmas: Floats | None = None) -> None:
        super().__init__()
        self.train_images, self.kind, self.log_sigmas = train, kind, log_sigmas
        self.scale = nn.Parameter(torch.ones((), dtype=torch.float64))  # so that it has a device

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        time, given = t.double().numpy(), x.double()
        if self.kind == "flow":
            share = time / 1000  # of noise
            sigma, scale = share / (1 - share), 1 - share
        elif self.kind in ("edm", "edm_v"):
            sigma = np.exp(4 * time)
            scale = 1 / np.sqrt(sigma**2 + SIGMA_DATA**2)
        else:
            assert self.log_sigmas is not None
            sigma = np.exp(np.interp(time, np.arange(len(self.log_sigmas)), self.log_sigmas))
            scale = 1 / np.sqrt(1 + sigma**2)
        level, a = (torch.from_numpy(value).reshape(-1, *[1] * (x.ndim - 1)) for value in (sigma, scale))
        noisy = given / a
        x0 = expected(self.train_images, noisy, sigma)
        eps = (noisy - x0) / level
        skip = SIGMA_DATA**2 / (level**2 + SIGMA_DATA**2)
        found = {
            "sample": x0,
            "epsilon": eps,
            "v_prediction": a * eps - a * level * x0,
            "flow": eps - x0,
            "edm": (x0 - skip * noisy) / (level * SIGMA_DATA * a),
            "edm_v": -(x0 - skip * noisy) / (level * SIGMA_DATA * a),
        }[self.kind]
        return found.to(x.dtype)


class EDMPrecond(nn.Module):
    """The call of EDM's networks around any inner network, written from the paper's table 1."""

    def __init__(
        self, img_resolution: int, img_channels: int, model: nn.Module, *, label_dim: int = 0, sigma_min: float = 0.0
    ) -> None:
        super().__init__()
        self.img_resolution, self.img_channels, self.label_dim = img_resolution, img_channels, label_dim
        self.sigma_min, self.sigma_max, self.sigma_data = sigma_min, float("inf"), SIGMA_DATA
        self.model = model

    def forward(self, x: Tensor, sigma: Tensor, class_labels: Tensor | None = None, **model_kwargs: Any) -> Tensor:
        x, level = x.to(torch.float32), sigma.to(torch.float32).reshape(-1, 1, 1, 1)
        if self.label_dim:
            given = torch.zeros(1, self.label_dim) if class_labels is None else class_labels
            model_kwargs["class_labels"] = given.to(torch.float32).reshape(-1, self.label_dim)
        c_skip = self.sigma_data**2 / (level**2 + self.sigma_data**2)
        c_out = level * self.sigma_data / (level**2 + self.sigma_data**2).sqrt()
        c_in = 1 / (self.sigma_data**2 + level**2).sqrt()
        c_noise = level.log() / 4
        inner = self.model(c_in * x, c_noise.flatten(), **model_kwargs)
        return c_skip * x + c_out * inner.to(torch.float32)


class Small(nn.Module):
    """A convolution and an embedding of its clock, and of its classes where it has any."""

    def __init__(self, channels: int = 3, num_classes: int = 0) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer, self.clock = nn.Conv2d(channels, channels, 3, padding=1), nn.Linear(1, channels)
        self.classes = nn.Linear(num_classes, channels) if num_classes else None

    def forward(self, x: Tensor, t: Tensor, class_labels: Tensor | None = None) -> Tensor:
        shift = self.clock(t[:, None])
        if self.classes is not None:
            shift = shift + self.classes(class_labels)
        out: Tensor = self.layer(x) + shift[:, :, None, None]
        return out
