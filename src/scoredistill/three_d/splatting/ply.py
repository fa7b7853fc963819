"""PLY files of Gaussians, in the layout of the reference implementation, which splat viewers open.

One float32 property each: x y z, nx ny nz (zeros), f_dc_0..2, f_rest_* (higher harmonics, all of red, then of green,
then of blue; none for degree 0), opacity (logit), scale_0..2 (logarithms), rot_0..3 (w x y z).

The format has no convention of axes, but viewers expect those of captures with COLMAP: y down, and z forward from the
front. A point (x, y, z) of ours (z up, front towards -y) becomes (x, -z, y) there. A comment in the header says which
axes a file has.
"""

import math
from os import PathLike
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from scoredistill.files import atomic
from scoredistill.three_d import ply
from scoredistill.three_d.splatting.gaussians import Gaussians

FAINTEST = -math.log(254)  # logit of the opacity 1/255
AXES = {True: "axes: x right, y down, z forward", False: "axes: x right, y forward, z up"}  # by y_down


def write_ply(path: str | PathLike[str], gaussians: Gaussians, y_down: bool = False) -> None:
    """Write Gaussians to a file atomically (binary, little-endian); parameters are converted to float32.

    Gaussians that cannot be drawn are left out, because viewers may fail on them: those with parameters or deviations
    that are not finite, with a quaternion of 0, or with an opacity below 1/255, which renderers skip.

    Args:
        path: of the file.
        gaussians: in our axes, z up and the front towards -y.
        y_down: write them with y down, as viewers expect.

    Raises:
        ValueError: if there is none that can be drawn; nothing is written.
    """
    gaussians = gaussians.rotated(_y_down(gaussians.means)) if y_down else gaussians
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
        f"comment {AXES[y_down]}",
        f"element vertex {len(rows)}",
        *(f"property float {name}" for name in _names(rest.shape[1])),
        "end_header",
    ]
    with atomic(Path(path)) as draft:
        draft.write_bytes("\n".join([*header, ""]).encode("ascii") + rows.tobytes())


def read_ply(path: str | PathLike[str], y_down: bool | None = None) -> Gaussians:
    """Read Gaussians from a PLY file of any format, with their properties of any type and in any order.

    Harmonics above degree 1 are dropped; other properties and elements are ignored.

    Args:
        path: of the file.
        y_down: whether the file has y down, so that Gaussians are turned to z up. By default as its comment says; files
            without one keep their coordinates.

    Raises:
        ValueError: if the file is no PLY file, is truncated, or has no Gaussians.
    """
    content = ply.read(path)
    table = content.elements.get("vertex", {})
    columns = {name: column for name, column in table.items() if isinstance(column, np.ndarray)}
    rest = sum(name.startswith("f_rest_") for name in columns)
    if missing := [name for name in _names(rest) if name not in ("nx", "ny", "nz") and name not in columns]:
        raise ValueError(f"{path} has no Gaussians: the properties {', '.join(missing)} are missing")
    if rest % 3 or int((rest // 3 + 1) ** 0.5) ** 2 != rest // 3 + 1:
        raise ValueError(f"{path} has {rest} coefficients of higher harmonics, which do not make a whole degree")

    def take(*wanted: str) -> Tensor:
        return torch.from_numpy(np.stack([columns[name].astype(np.float32) for name in wanted], 1))

    colors = take("f_dc_0", "f_dc_1", "f_dc_2")[:, None]
    if rest:
        higher = take(*(f"f_rest_{i}" for i in range(rest))).unflatten(1, (3, -1)).transpose(1, 2)
        colors = torch.cat([colors, higher[:, :3]], 1)
    found = Gaussians(
        take("x", "y", "z"),
        take("scale_0", "scale_1", "scale_2"),
        take("rot_0", "rot_1", "rot_2", "rot_3"),
        take("opacity")[:, 0],
        colors,
    )
    turned = AXES[True] in content.comments if y_down is None else y_down
    return found.rotated(_y_down(found.means).T) if turned else found


def _y_down(like: Tensor) -> Tensor:
    """The rotation (x, y, z) -> (x, -z, y)."""
    return like.new_tensor([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]])


def _names(rest: int) -> list[str]:
    higher = [f"f_rest_{i}" for i in range(rest)]
    shape = ["opacity", "scale_0", "scale_1", "scale_2", "rot_0", "rot_1", "rot_2", "rot_3"]
    return ["x", "y", "z", "nx", "ny", "nz", "f_dc_0", "f_dc_1", "f_dc_2", *higher, *shape]
