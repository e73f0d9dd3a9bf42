"""Tiny networks of features, written as files, and what they compute in float64."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

WEIGHTS = np.random.default_rng(5).standard_normal((3 * 4, 6)).astype(np.float32)
MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)


class Tiny(nn.Module):
    """Six products with a 2 x 2 average of a colour image."""

    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.from_numpy(WEIGHTS) * scale)

    def forward(self, x: Tensor) -> Tensor:
        return torch.nn.functional.adaptive_avg_pool2d(x, 2).flatten(1) @ self.weight


def expected(prepared: NDArray[Any], scale: float = 1.0) -> NDArray[np.float64]:
    """What `Tiny` makes of prepared images (N, 3, S, S), in float64."""
    count, channels, side, _ = prepared.shape
    pooled = prepared.astype(np.float64).reshape(count, channels, 2, side // 2, 2, side // 2).mean(axis=(3, 5))
    return np.asarray(pooled.reshape(count, -1) @ (WEIGHTS.astype(np.float64) * scale))


def normalised(images: NDArray[Any]) -> NDArray[np.float64]:
    """uint8 images (N, C, H, W) as `Tiny` takes them, grey repeated."""
    colour = np.repeat(images, 3, axis=1) if images.shape[1] == 1 else images
    mean, std = (np.reshape(values, (1, 3, 1, 1)) for values in (MEAN, STD))
    return np.asarray((colour / 255 - mean) / std)


def scripted(path: Path, net: nn.Module | None = None, **metadata: Any) -> Path:
    """A TorchScript file with these metadata."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that torch prefers another format
        module = torch.jit.script(Tiny() if net is None else net)
        torch.jit.save(module, str(path), _extra_files={name: json.dumps(value) for name, value in metadata.items()})
    return path


def onnx_file(
    path: Path, *, kind: str = "float", shape: tuple[Any, ...] = ("N", 3, 8, 8), batch_out: str = "N", **metadata: Any
) -> Path:
    """An .onnx file of a network like `Tiny`: of float or uint8 images, of this layout."""
    from onnx import TensorProto, checker, helper, numpy_helper, save

    entry = helper.make_tensor_value_info("image", TensorProto.FLOAT if kind == "float" else TensorProto.UINT8, shape)
    result = helper.make_tensor_value_info("embedding", TensorProto.FLOAT, (batch_out, 6))
    nodes, last = [], "image"
    if kind == "uint8":
        nodes.append(helper.make_node("Cast", [last], ["levels"], to=TensorProto.FLOAT))
        last = "levels"
    if shape[3] == 3:
        nodes.append(helper.make_node("Transpose", [last], ["first"], perm=[0, 3, 1, 2]))
        last = "first"
    nodes += [
        helper.make_node("AveragePool", [last], ["pooled"], kernel_shape=[4, 4], strides=[4, 4]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("MatMul", ["flat", "weight"], ["embedding"]),
    ]
    graph = helper.make_graph(nodes, "tiny", [entry], [result], [numpy_helper.from_array(WEIGHTS, "weight")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    helper.set_model_props(model, {name: json.dumps(value) for name, value in metadata.items()})
    checker.check_model(model)
    save(model, path)
    return path
