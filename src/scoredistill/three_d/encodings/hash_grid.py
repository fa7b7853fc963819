r"""Hash grid encoding (Mueller et al. 2022, Instant Neural Graphics Primitives, https://arxiv.org/abs/2201.05989).

Level l of L interpolates trilinearly between the vertices of a grid over the cube. A point x has the position u s_l in
that grid, with u = (x + 1) / 2 in [0, 1]; `hash_layout` gives the scales s_l and the row of each vertex. The rows of
all levels lie one after the other in one parameter, which the backends "torch" and "drjit" read in place.
"""

from importlib.util import find_spec

import torch
from jaxtyping import Float
from torch import Tensor, nn

from scoredistill.three_d.encodings.backends import drjit_usable, drjit_values, tinycudann_encoding
from scoredistill.three_d.encodings.base import Encoding
from scoredistill.three_d.encodings.hash_layout import Layout

INSIDE = 1 - 2.0**-24  # largest u, just inside the last cell: no vertex beyond the grid is read


def torch_values(values: Float[Tensor, "rows f"], unit: Float[Tensor, "n 3"], layout: Layout) -> list[Tensor]:
    """Features [n, f] of each level at points of the unit cube, in torch, with derivatives of every order.

    If `values` holds the first levels only, the features of those are returned.
    """
    step = torch.arange(2, device=unit.device)
    found, level = [], 0
    while level < layout.levels and layout.start(level) < len(values):
        position = unit * layout.scale(level)
        cell = position.detach().floor()
        i, j, k = (cell.long()[..., None] + step).unbind(1)  # each [n, 2]
        rows = layout.index(i[:, None, None], j[:, None, :, None], k[:, :, None, None], level) + layout.start(level)
        inside = position - cell
        x, y, z = torch.stack([1 - inside, inside], -1).unbind(1)
        weights = z[:, :, None, None] * (y[:, None, :, None] * x[:, None, None])
        near = values.index_select(0, rows.flatten()).view(len(unit), 8, values.shape[1])
        found.append(torch.bmm(weights.view(len(unit), 1, 8), near)[:, 0])
        level += 1
    return found


class HashGrid(Encoding):
    """Hashed grids of feature vectors with trilinear interpolation; levels are concatenated.

    Backends: "torch" is the reference, for every dtype and with derivatives of every order. "drjit" computes the same
    values from the same parameter in one compiled kernel, in float32 (torch computes other dtypes) and with first
    derivatives only. "tinycudann" (CUDA) has its own parameters and grids shifted by half a cell, so the other backends
    cannot read what it has learned. "auto" is tinycudann on CUDA if it is installed, else drjit if it is usable, else
    torch.

    Args:
        levels, features, table, coarsest, finest: see `Layout`; the output has levels times features channels.
        backend: "auto", "torch", "drjit" or "tinycudann".
        bound: initial values are uniform in [-bound, bound]; 1e-4 by default, as in the paper (not for tinycudann).
        device: of the parameter.
        rng: draws the initial values.

    Raises:
        ValueError: if a size is out of range, or the backend is unknown.
        RuntimeError: if the backend is not available.
    """

    def __init__(
        self,
        levels: int = 8,
        features: int = 2,
        table: int = 2**14,
        coarsest: int = 16,
        finest: int = 128,
        backend: str = "auto",
        bound: float = 1e-4,
        device: torch.device | str = "cpu",
        rng: torch.Generator | None = None,
    ):
        layout = Layout(levels, features, table, coarsest, finest)
        super().__init__(levels, levels * features)
        self.layout = layout
        self.backend = _chosen(backend, torch.device(device).type, layout)
        if self.backend == "tinycudann":
            self.foreign = tinycudann_encoding(layout)
        else:
            start = 2 * torch.rand(layout.start(levels), features, generator=rng) - 1
            self.values = nn.Parameter((bound * start).to(device))

    def forward(self, points: Float[Tensor, "n 3"]) -> Float[Tensor, "n f"]:
        """Features of points, the coarsest level first."""
        unit = ((points + 1) / 2).clamp(0, INSIDE)
        fades = [fade for fade in self.fades() if fade > 0]
        width = self.layout.features
        if self.backend == "tinycudann":
            found = list(self.foreign(unit).to(points.dtype).split(width, 1))[: len(fades)]
        else:
            shown = self.values[: self.layout.start(len(fades))]
            fast = self.backend == "drjit" and points.dtype == shown.dtype == torch.float32 and len(points) > 0
            if fast and drjit_usable(points.device.type):
                found = list(drjit_values(shown, unit, self.layout, len(fades)).split(width, 1))
            else:
                found = torch_values(shown, unit, self.layout)
        features = torch.cat(found, 1)
        if fades[-1] < 1:
            features = features * features.new_tensor(fades).repeat_interleave(width)
        return nn.functional.pad(features, (0, self.features - features.shape[1]))


def _chosen(backend: str, device: str, layout: Layout) -> str:
    if backend not in ("auto", "torch", "drjit", "tinycudann"):
        raise ValueError(f'backend must be "auto", "torch", "drjit" or "tinycudann", not {backend!r}')
    fits = layout.features % 2 == 0 and drjit_usable(device)  # drjit fetches pairs
    if backend == "drjit" and not fits:
        raise RuntimeError(f'drjit needs an even number of features and a compiler for {device}: use backend="torch"')
    if backend != "auto":
        return backend
    power = layout.table & (layout.table - 1) == 0 and layout.features in (1, 2, 4, 8)
    if device == "cuda" and power and find_spec("tinycudann") is not None:
        return "tinycudann"
    return "drjit" if fits else "torch"
