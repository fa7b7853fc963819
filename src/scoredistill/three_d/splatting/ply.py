"""PLY files of Gaussians, in the layout of the reference implementation, which splat viewers open.

Binary little-endian PLY, one float32 property each: x y z, nx ny nz (zeros), f_dc_0..2, f_rest_* (higher harmonics, all
of red, then of green, then of blue; none for degree 0), opacity (logit), scale_0..2 (logarithms), rot_0..3 (w x y z).
"""

import math
from os import PathLike
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from scoredistill.files import atomic
from scoredistill.three_d.splatting.gaussians import Gaussians

FAINTEST = -math.log(254)  # logit of the opacity 1/255


def write_ply(path: str | PathLike[str], gaussians: Gaussians) -> None:
    """Write Gaussians to a file atomically; parameters are converted to float32.

    Gaussians that cannot be drawn are left out, because viewers may fail on them: those with parameters or deviations
    that are not finite, with a quaternion of 0, or with an opacity below 1/255, which renderers skip.

    Raises:
        ValueError: if there is none that can be drawn; nothing is written.
    """
    with torch.no_grad():
        rest = gaussians.colors[:, 1:].transpose(1, 2).flatten(1)
        columns = [gaussians.means, torch.zeros_like(gaussians.means), gaussians.colors[:, 0], rest]
        columns += [gaussians.opacities[:, None], gaussians.scales, gaussians.quaternions]
        table = torch.cat(columns, 1).float().cpu()
        whole = table.isfinite().all(1) & gaussians.scales.float().exp().isfinite().all(1).cpu()
        turned = table[:, -4:].norm(dim=1) > 0
        seen = gaussians.opacities.float().cpu() >= FAINTEST
        rows = table[whole & turned & seen].numpy().astype("<f4")
    if not len(rows):
        raise ValueError("no Gaussian can be drawn: all are transparent, or not finite")
    header = [
        "ply",
        "format binary_little_endian 1.0",
        f"element vertex {len(rows)}",
        *(f"property float {name}" for name in _names(rest.shape[1])),
        "end_header",
    ]
    with atomic(Path(path)) as draft:
        draft.write_bytes("\n".join([*header, ""]).encode("ascii") + rows.tobytes())


def read_ply(path: str | PathLike[str]) -> Gaussians:
    """Read Gaussians from a file of this layout, with properties in any order; harmonics above degree 1 are dropped.

    Raises:
        ValueError: if the file has another layout or is truncated.
    """
    raw = Path(path).read_bytes()
    head, found, body = raw.partition(b"end_header\n")
    lines = head.decode("ascii", "replace").splitlines()
    if not found or lines[:2] != ["ply", "format binary_little_endian 1.0"]:
        raise ValueError(f"{path} is not a binary little-endian PLY file")
    elements = [line.split() for line in lines if line.startswith("element ")]
    names = [line.split() for line in lines if line.startswith("property ")]
    if [e[1] for e in elements] != ["vertex"] or any(len(n) != 3 or n[1] not in ("float", "float32") for n in names):
        raise ValueError(f"{path} must have the element vertex alone, with float properties")
    order = [name for _, _, name in names]
    rest = sum(name.startswith("f_rest_") for name in order)
    if missing := set(_names(rest)) - {"nx", "ny", "nz"} - set(order):
        raise ValueError(f"{path} has no Gaussians: the properties {', '.join(sorted(missing))} are missing")
    if rest % 3 or int((rest // 3 + 1) ** 0.5) ** 2 != rest // 3 + 1:
        raise ValueError(f"{path} has {rest} coefficients of higher harmonics, which do not make a whole degree")
    count = int(elements[0][2])
    if len(body) < 4 * count * len(order):
        raise ValueError(f"{path} is truncated: save or download it again")
    table = np.frombuffer(body, "<f4", count * len(order)).reshape(count, len(order))
    values = torch.from_numpy(table.astype(np.float32))

    def take(*wanted: str) -> Tensor:
        return values[:, [order.index(name) for name in wanted]]

    colors = take("f_dc_0", "f_dc_1", "f_dc_2")[:, None]
    if rest:
        higher = take(*(f"f_rest_{i}" for i in range(rest))).unflatten(1, (3, -1)).transpose(1, 2)
        colors = torch.cat([colors, higher[:, :3]], 1)
    return Gaussians(
        take("x", "y", "z"),
        take("scale_0", "scale_1", "scale_2"),
        take("rot_0", "rot_1", "rot_2", "rot_3"),
        take("opacity")[:, 0],
        colors,
    )


def _names(rest: int) -> list[str]:
    higher = [f"f_rest_{i}" for i in range(rest)]
    shape = ["opacity", "scale_0", "scale_1", "scale_2", "rot_0", "rot_1", "rot_2", "rot_3"]
    return ["x", "y", "z", "nx", "ny", "nz", "f_dc_0", "f_dc_1", "f_dc_2", *higher, *shape]
