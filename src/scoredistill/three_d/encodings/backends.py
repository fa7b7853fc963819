"""Hash grids computed by other libraries: Dr.Jit (https://github.com/mitsuba-renderer/drjit), on LLVM or CUDA, and
tiny-cuda-nn (https://github.com/NVlabs/tiny-cuda-nn).

Both are optional and imported on first use. Dr.Jit aborts the process if a missing backend is used, so its
availability is always checked first.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib import import_module
from importlib.util import find_spec

import torch
from jaxtyping import Float
from torch import Tensor, nn

from scoredistill.optional import require
from scoredistill.three_d.encodings.hash_layout import Layout


@cache
def drjit_usable(device: str) -> bool:
    """Whether Dr.Jit is installed and can compile for this type of device ("cpu" or "cuda")."""
    if device not in ("cpu", "cuda") or find_spec("drjit") is None:
        return False
    drjit = require("drjit", "nerf", "the Dr.Jit backend of hash grids")
    backend = drjit.JitBackend.LLVM if device == "cpu" else drjit.JitBackend.CUDA
    return bool(drjit.has_backend(backend))


def drjit_values(
    values: Float[Tensor, "rows f"], unit: Float[Tensor, "n 3"], layout: Layout, levels: int
) -> Float[Tensor, "n out"]:
    """Features of the first `levels` levels at points of the unit cube, with first derivatives in both arguments."""
    return _drjit_kernel(layout, levels, values.device.type)(values.flatten(), unit.contiguous()).T


@cache
def _drjit_kernel(layout: Layout, levels: int, device: str) -> Callable[[Tensor, Tensor], Tensor]:
    drjit = require("drjit", "nerf", "the Dr.Jit backend of hash grids")
    if not drjit_usable(device):
        raise RuntimeError(f'Dr.Jit cannot compile for {device}: use backend="torch"')
    types = import_module("drjit.llvm.ad" if device == "cpu" else "drjit.cuda.ad")
    encoding = import_module("drjit.nn").HashGridEncoding(
        types.Float,
        3,
        n_levels=levels,
        n_features_per_level=layout.features,
        hashmap_size=layout.table,
        base_resolution=layout.coarsest,
        per_level_scale=layout.growth,
        align_corners=True,
    )
    if [encoding.level_offset(i) for i in range(levels + 1)] != [layout.start(i) for i in range(levels + 1)]:
        raise RuntimeError('this version of Dr.Jit has another layout of hash grids: use backend="torch"')

    @drjit.wrap(source="torch", target="drjit")
    def kernel(values, unit):  # no annotations: drjit's tensors
        encoding.data = values.array
        features = types.TensorXf(encoding(drjit.unravel(types.Array3f, unit.array)))
        encoding.data = None  # the cached encoding must not keep the table
        return features

    return kernel


def tinycudann_encoding(layout: Layout) -> nn.Module:
    """A tiny-cuda-nn module of the same sizes: points of the unit cube [n, 3] to features [n, levels * features].

    The coarsest level comes first. The parameters are float32 on the current CUDA device.

    Raises:
        RuntimeError: if tiny-cuda-nn is not installed.
    """
    if find_spec("tinycudann") is None:
        raise RuntimeError('tinycudann is not installed: install tiny-cuda-nn, or use backend="torch"')
    return import_module("tinycudann").Encoding(
        n_input_dims=3,
        encoding_config={
            "otype": "HashGrid",
            "n_levels": layout.levels,
            "n_features_per_level": layout.features,
            "log2_hashmap_size": layout.table.bit_length() - 1,
            "base_resolution": layout.coarsest,
            "per_level_scale": layout.growth,
        },
        dtype=torch.float32,
    )
