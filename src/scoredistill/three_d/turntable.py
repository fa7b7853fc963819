r"""Turntable videos of a scene, and images of its depth and normals.

A turntable of n frames has the azimuths 360 k / n, k = 0 .. n - 1. The last frame is one step before the first, so a
looping video does not pause.

Depth is shown as brightness that is linear in 1/z, so that equal steps are equal disparities:

    b = (1/z - 1/far) / (1/near - 1/far)        1 at near, DIM at far, black where the image is empty

A normal n has the color (n + 1)/2, so x, y and z are red, green and blue; by default in world axes (right, away from a
viewer of the front, up), or in the axes of given cameras (right, up, towards the viewer).
"""

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from scoredistill.media.images import grid, to_pil
from scoredistill.media.video import VideoWriter
from scoredistill.three_d.camera import Cameras, orbit

Render = Callable[..., Any]  # cameras -> an object with rgb, opacity, depth and normal, such as `Rendering`
MODES = ("rgb", "depth", "normals", "opacity")
DIM = 0.15  # brightness at the largest depth
SOLID = 0.5  # opacity above which a depth counts in the range of depths
GRAY = 0.5  # background of normal images
PROBES, PROBE_SIZE = 8, 64  # number and pixels of the views from which the range of depths of a video is found


def turntable(
    render: Render,
    cameras: Cameras,
    batch: int = 4,
    modes: Sequence[str] = ("rgb",),
    device: torch.device | str = "cpu",
) -> Iterator[Float[Tensor, "3 h w"]]:
    """Render one image per camera, with values in [0, 1]; several modes are placed side by side.

    Args:
        render: cameras -> rgb [n, 3, h, w], opacity and depth [n, 1, h, w], normal [n, 3, h, w] or None. If it has an
            argument `normals`, it is True only where normals are shown.
        cameras: one per image.
        batch: cameras rendered at once.
        modes: any of "rgb", "depth", "normals" and "opacity".
        device: on which the renderer expects its cameras.

    Raises:
        ValueError: if a mode is unknown, batch is below 1, or the renderer gives no normals.
    """
    if unknown := [m for m in modes if m not in MODES] or (not modes and ["none"]):
        raise ValueError(f"unknown mode {', '.join(unknown)}: use any of {', '.join(MODES)}")
    if batch < 1:
        raise ValueError(f"batch must be at least 1, not {batch}")
    return _frames(render, cameras, batch, modes, device)


def _frames(
    render: Render, cameras: Cameras, batch: int, modes: Sequence[str], device: torch.device | str
) -> Iterator[Tensor]:
    bounds = depth_range(render, cameras, device) if "depth" in modes else None
    for start in range(0, len(cameras), batch):
        some = cameras[start : start + batch]
        seen = render_views(render, some, "normals" in modes, device)
        yield from torch.cat([mode_image(seen, mode, bounds) for mode in modes], -1).cpu()


def write_turntable(render: Render, path: str | Path, **video: Any) -> Path:
    """Write a turntable video as .mp4, .webm or .gif; see `write_turntables` for the settings."""
    return write_turntables(render, [path], **video)[0]


def write_turntables(
    render: Render,
    paths: Sequence[str | Path],
    seconds: float | int = 4.0,
    fps: int = 24,
    size: int | tuple[int, int] = 256,
    elevation: float | int = 15.0,
    radius: float | int = 3.0,
    fov: float | int = 40.0,
    loops: int = 1,
    batch: int = 4,
    modes: Sequence[str] = ("rgb",),
    device: torch.device | str = "cpu",
) -> list[Path]:
    """Write one turntable video to several files, such as an .mp4 and a .gif, rendering every frame once.

    Args:
        render: see `turntable`.
        paths: files to write; the suffix gives the format, see `VideoWriter`.
        seconds: per revolution.
        fps: frames per second.
        size: of each image in pixels, (height, width) or one number for both.
        elevation, radius, fov: of the cameras, see `camera.around`.
        loops: revolutions in the file; video players stop at its end, a GIF repeats.
        batch, modes, device: see `turntable`.

    Returns:
        The paths.

    Raises:
        ValueError: if there would be no frame or no revolution, or for the reasons of `turntable` and `VideoWriter`.
    """
    n = round(seconds * fps)
    if n < 1 or loops < 1:
        raise ValueError(
            f"a turntable needs at least one frame and one loop, not {seconds} s at {fps} per second, {loops} loops"
        )
    height, width = (size, size) if isinstance(size, int) else size
    cameras = orbit(n, elevation, radius, fov, (height, width))
    frames = turntable(render, cameras, batch, modes, device)
    times, end = [k / fps for k in range(n * loops)], n * loops / fps
    with ExitStack() as stack:
        writers = [VideoWriter(p, height, width * len(modes), times=times, duration=end) for p in paths]
        outs = [stack.enter_context(writer) for writer in writers]
        kept = []
        for frame in frames:
            pixels = np.asarray(to_pil(frame[None])[0])
            kept += [pixels] if loops > 1 else []
            for out in outs:
                out.write(pixels)
        for pixels in kept * (loops - 1):
            for out in outs:
                out.write(pixels)
    return [Path(p) for p in paths]


def contact_sheet(
    render: Render,
    n: int = 8,
    size: int | tuple[int, int] = 128,
    elevation: float | int = 15.0,
    radius: float | int = 3.0,
    fov: float | int = 40.0,
    batch: int = 4,
    modes: Sequence[str] = ("rgb", "depth", "normals"),
    device: torch.device | str = "cpu",
) -> Image.Image:
    """An image grid of n views around the scene, one row per mode, labeled with mode and azimuth.

    Args and errors are those of `write_turntables`.
    """
    height, width = (size, size) if isinstance(size, int) else size
    cameras = orbit(n, elevation, radius, fov, (height, width))
    frames = list(turntable(render, cameras, batch, modes, device))
    rows = [frame[..., i * width : (i + 1) * width] for i in range(len(modes)) for frame in frames]
    names = [f"{mode} {azimuth:.0f}°" for mode in modes for azimuth in (cameras.azimuth + 1e-3) % 360]
    return grid(to_pil(torch.stack(rows)), columns=n, labels=names)


@torch.no_grad()
def render_views(render: Render, cameras: Cameras, normals: bool = False, device: torch.device | str = "cpu") -> Any:
    """Call a renderer without gradients, passing `normals` on if it has such an argument.

    Raises:
        ValueError: if normals are requested but not returned.
    """
    wants = "normals" in inspect.signature(render).parameters
    seen = render(cameras.to(device), normals=normals) if wants else render(cameras.to(device))
    if normals and seen.normal is None:
        raise ValueError("this renderer gives no normals: leave out the mode normals")
    return seen


def mode_image(seen: Any, mode: str, bounds: tuple[float, float] | None = None) -> Float[Tensor, "n 3 h w"]:
    """Images in [0, 1] of one mode of a rendering; `bounds` are those of `depth_image`."""
    if mode == "depth":
        return depth_image(seen.depth, seen.opacity, bounds)
    if mode == "normals":
        return normal_image(seen.normal, seen.opacity)
    return (seen.opacity.expand(-1, 3, -1, -1) if mode == "opacity" else seen.rgb).clamp(0, 1)


def depth_image(
    depth: Float[Tensor, "n 1 h w"], opacity: Float[Tensor, "n 1 h w"], bounds: tuple[float, float] | None = None
) -> Float[Tensor, "n 3 h w"]:
    """Depth as brightness: near is bright, far is dark, empty is black.

    Args:
        depth: along the optical axes.
        opacity: in [0, 1].
        bounds: (near, far); by default the range of depths of solid pixels in these images.
    """
    near, far = _range(depth, opacity) if bounds is None else bounds
    bright = (1 / depth.clamp(near, far) - 1 / far) / max(1 / near - 1 / far, 1e-9)
    if far - near <= 1e-6 * far:
        bright = torch.ones_like(depth)
    return (opacity * (DIM + (1 - DIM) * bright)).clamp(0, 1).expand(-1, 3, -1, -1)


def normal_image(
    normal: Float[Tensor, "n 3 h w"], opacity: Float[Tensor, "n 1 h w"], cameras: Cameras | None = None
) -> Float[Tensor, "n 3 h w"]:
    """Normals as colors (n + 1) / 2; gray where the image is empty.

    Args:
        normal: in world axes, of any length.
        opacity: in [0, 1].
        cameras: n cameras to whose axes normals are rotated; world axes by default.
    """
    if cameras is not None:
        normal = torch.einsum("nij,nihw->njhw", cameras.poses[:, :3, :3].to(normal), normal)
    length = normal.norm(dim=1, keepdim=True)
    unit = normal / length.clamp_min(1e-6)
    return (GRAY + opacity * unit / 2).clamp(0, 1)


def depth_range(render: Render, cameras: Cameras, device: torch.device | str = "cpu") -> tuple[float, float]:
    """(near, far) of solid pixels in small renders of some of the cameras: one scale for a whole video."""
    height, width = cameras.size
    scale = min(1.0, PROBE_SIZE / max(height, width))
    some = torch.linspace(0, len(cameras) - 1, min(PROBES, len(cameras))).round().long()
    small = cameras[some].resized((max(1, round(height * scale)), max(1, round(width * scale))))
    seen = render_views(render, small, device=device)
    return _range(seen.depth, seen.opacity)


def _range(depth: Tensor, opacity: Tensor) -> tuple[float, float]:
    solid = depth[(opacity > SOLID) & depth.isfinite() & (depth > 0)]
    return (float(solid.min()), float(solid.max())) if len(solid) else (1.0, 2.0)
