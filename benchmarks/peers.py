"""What anyone would otherwise call, written as its documentation or the literature has it; preparation included."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks import OURS
from benchmarks.truth import Found
from memgen_eval import OptimalDenoiser
from memgen_eval.neighbours.search import nearest_neighbours

CDIST_ROWS = 500  # 100 MB of distances to 50,000 references
Search = Callable[[NDArray[Any], NDArray[Any], int], Found]
Denoise = Callable[[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.float32], NDArray[np.float64]], NDArray[Any]]


def ours(queries: NDArray[Any], references: NDArray[Any], k: int) -> Found:
    """The library's exact search."""
    found = nearest_neighbours(queries, references, k)
    return Found(found.squared_distances, found.indices)


def faiss_knn(queries: NDArray[Any], references: NDArray[Any], k: int) -> Found:
    """FAISS's exhaustive search, float32."""
    import faiss

    return Found(*faiss.knn(queries.astype(np.float32), references.astype(np.float32), k))


def sklearn_brute(queries: NDArray[Any], references: NDArray[Any], k: int) -> Found:
    """scikit-learn's exhaustive search: float32 in, float64 inside."""
    from sklearn.neighbors import NearestNeighbors

    model = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(references.astype(np.float32))
    distances, indices = model.kneighbors(queries.astype(np.float32))
    return Found(np.square(distances), indices)


def torch_cdist(queries: NDArray[Any], references: NDArray[Any], k: int) -> Found:
    """`torch.cdist` and `topk`, float32, in blocks of queries."""
    targets = torch.from_numpy(references).float()
    rows = torch.from_numpy(queries).float()
    starts = range(0, len(rows), CDIST_ROWS)
    nearest = [torch.cdist(rows[i : i + CDIST_ROWS], targets).topk(k, largest=False) for i in starts]
    distances, indices = (torch.cat([part[side] for part in nearest]).numpy() for side in (0, 1))
    return Found(np.square(distances), indices)


SEARCHES: dict[str, Search] = {
    OURS: ours,
    "faiss.knn": faiss_knn,
    "sklearn brute": sklearn_brute,
    "torch.cdist": torch_cdist,
}


def our_denoiser(
    train: NDArray[np.uint8], x0: NDArray[np.uint8], eps: NDArray[np.float32], sigmas: NDArray[np.float64]
) -> NDArray[Any]:
    """The library's D*."""
    return np.asarray(OptimalDenoiser(train).curve(x0, eps, sigmas).numpy())


def direct(
    train: NDArray[np.uint8], x0: NDArray[np.uint8], eps: NDArray[np.float32], sigmas: NDArray[np.float64]
) -> NDArray[Any]:
    """As in the literature: for each sigma all squared distances, a softmax, and the weighted mean, float32."""
    images, clean, noise = _scaled(train), _scaled(x0), torch.from_numpy(eps)
    norms = images.square().sum(dim=1)
    means = []
    for sigma in sigmas.tolist():
        noisy = clean + sigma * noise
        squared = torch.addmm(norms, noisy, images.T, alpha=-2).add_(noisy.square().sum(dim=1, keepdim=True))
        means.append(torch.softmax(squared.mul_(-0.5 / sigma**2), dim=1) @ images)
    return np.asarray(torch.stack(means).numpy())


def attention(
    train: NDArray[np.uint8], x0: NDArray[np.uint8], eps: NDArray[np.float32], sigmas: NDArray[np.float64]
) -> NDArray[Any]:
    """For each sigma one call of torch's attention: the mask ``-|y|^2 / (2 sigma^2)`` makes its weights those of D*."""
    images, clean, noise = _scaled(train), _scaled(x0), torch.from_numpy(eps)
    norms = images.square().sum(dim=1)
    keys = images[None, None]  # (1, 1, N, D)
    means = []
    for sigma in sigmas.tolist():
        queries = ((clean + sigma * noise) / sigma**2)[None, None]
        mask = (norms * (-0.5 / sigma**2)).expand(len(clean), len(images))
        mean = torch.nn.functional.scaled_dot_product_attention(queries, keys, keys, attn_mask=mask, scale=1.0)
        means.append(mean[0, 0])
    return np.asarray(torch.stack(means).numpy())


def _scaled(images: NDArray[np.uint8]) -> Tensor:
    """On [-1, 1]: centred, which costs float32 the fewest digits."""
    return torch.from_numpy(images).float().div_(127.5).sub_(1)


DENOISERS: dict[str, Denoise] = {OURS: our_denoiser, "direct float32": direct, "torch attention": attention}
