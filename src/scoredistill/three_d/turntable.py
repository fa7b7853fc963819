r"""Videos of a thing that turns, and images of its depths and normals.

A turntable of n frames has azimuths 360 k / n, k = 0 .. n - 1: the last frame is one step before the first, so that a
video that repeats has no pause.

Depth is shown as brightness, linear in 1/z as in a stereoscope, where equal steps are equal disparities:

    b = (1/z - 1/far) / (1/near - 1/far)        near 1, far DIM, nothing black

A normal n is the color (n + 1)/2, so x, y, z are red, green and blue; by default in the axes of the world (right, away
from the viewer of the front, up). With cameras it is in theirs (right, up, towards the viewer).
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

Render = Callable[..., Any]  # cameras -> what has rgb, opacity, depth and normal, as `generators.scene.Rendering`
MODES = ("rgb", "depth", "normals", "opacity")
DIM = 0.15  # brightness of the farthest matter
SOLID = 0.5  # opacity from which on a depth counts
GRAY = 0.5  # behind normals: the color of no direction
LOOKS, LOOK = 8, 64  # views, and their pixels, from which a video's range of depths is found


def turntable(
    render: Render,
    cameras: Cameras,
    batch: int = 4,
    modes: Sequence[str] = ("rgb",),
    device: torch.device | str = "cpu",
) -> Iterator[Float[Tensor, "3 h w"]]:
    """One image per camera, values in [0, 1]; several modes stand side by side.

    Args:
        render: cameras -> rgb [n, 3, h, w], opacity and depth [n, 1, h, w], normal [n, 3, h, w] or None. One that takes
            `normals` is asked for them only where they are shown.
        batch: cameras rendered at once.
        modes: of "rgb", "depth", "normals" and "opacity".
        device: where the renderer wants its cameras.

    Raises:
        ValueError: an unknown mode, a batch below 1, or normals that the renderer does not give.
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
        seen = look(render, some, "normals" in modes, device)
        yield from torch.cat([shown(seen, mode, bounds) for mode in modes], -1).cpu()


def write_turntable(render: Render, path: str | Path, **video: Any) -> Path:
    """Write a video of one round, or of several, as .mp4, .webm or .gif; settings: see `write_turntables`."""
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
    """Write a video in several files, such as a .mp4 and a .gif (see `VideoWriter`); every frame is rendered once.

    Args:
        seconds: per round.
        fps: frames per second; each of a round is rendered once.
        size: pixels of each image, (height, width) or one number for both.
        elevation, radius, fov: of the cameras, see `camera.around`.
        loops: rounds in the file; players of videos stop at the end, a GIF goes on.
        batch, modes, device: see `turntable`.

    Raises:
        ValueError: no frame, no round, or what `turntable` and `VideoWriter` refuse.
    """
    n = round(seconds * fps)
    if n < 1 or loops < 1:
        raise ValueError(
            f"a video needs at least one frame and one round, not {seconds} s at {fps} per second, {loops}"
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
    """n views around a thing, one row per mode; under the images stand their azimuths.

    Raises:
        ValueError: see `turntable`.
    """
    height, width = (size, size) if isinstance(size, int) else size
    cameras = orbit(n, elevation, radius, fov, (height, width))
    frames = list(turntable(render, cameras, batch, modes, device))
    rows = [frame[..., i * width : (i + 1) * width] for i in range(len(modes)) for frame in frames]
    names = [f"{mode} {azimuth:.0f}°" for mode in modes for azimuth in (cameras.azimuth + 1e-3) % 360]
    return grid(to_pil(torch.stack(rows)), columns=n, labels=names)


@torch.no_grad()
def look(render: Render, cameras: Cameras, normals: bool = False, device: torch.device | str = "cpu") -> Any:
    """What a renderer gives for cameras; one that takes `normals` is told whether they are wanted.

    Raises:
        ValueError: normals are wanted and not given.
    """
    wants = "normals" in inspect.signature(render).parameters
    seen = render(cameras.to(device), normals=normals) if wants else render(cameras.to(device))
    if normals and seen.normal is None:
        raise ValueError("this renderer gives no normals: leave the mode normals out")
    return seen


def shown(seen: Any, mode: str, bounds: tuple[float, float] | None = None) -> Float[Tensor, "n 3 h w"]:
    """One of a renderer's answers as images in [0, 1]."""
    if mode == "depth":
        return depth_image(seen.depth, seen.opacity, bounds)
    if mode == "normals":
        return normal_image(seen.normal, seen.opacity)
    return (seen.opacity.expand(-1, 3, -1, -1) if mode == "opacity" else seen.rgb).clamp(0, 1)


def depth_image(
    depth: Float[Tensor, "n 1 h w"], opacity: Float[Tensor, "n 1 h w"], bounds: tuple[float, float] | None = None
) -> Float[Tensor, "n 3 h w"]:
    """Near is bright, far is dark, nothing is black.

    Args:
        depth: along the cameras' axes.
        opacity: in [0, 1].
        bounds: (near, far); by default the range of what is solid in these images.
    """
    near, far = _range(depth, opacity) if bounds is None else bounds
    bright = (1 / depth.clamp(near, far) - 1 / far) / max(1 / near - 1 / far, 1e-9)
    if far - near <= 1e-6 * far:
        bright = torch.ones_like(depth)
    return (opacity * (DIM + (1 - DIM) * bright)).clamp(0, 1).expand(-1, 3, -1, -1)


def normal_image(
    normal: Float[Tensor, "n 3 h w"], opacity: Float[Tensor, "n 1 h w"], cameras: Cameras | None = None
) -> Float[Tensor, "n 3 h w"]:
    """(n + 1) / 2 in the axes of the world, or of `cameras`; gray where nothing is.

    Args:
        normal: in the axes of the world, of any length.
        opacity: in [0, 1].
        cameras: n of them.
    """
    if cameras is not None:
        normal = torch.einsum("nij,nihw->njhw", cameras.poses[:, :3, :3].to(normal), normal)
    length = normal.norm(dim=1, keepdim=True)
    unit = normal / length.clamp_min(1e-6)
    return (GRAY + opacity * unit / 2).clamp(0, 1)


def depth_range(render: Render, cameras: Cameras, device: torch.device | str = "cpu") -> tuple[float, float]:
    """(near, far) of what some of the cameras see in small images: one scale for a whole video."""
    height, width = cameras.size
    scale = min(1.0, LOOK / max(height, width))
    some = torch.linspace(0, len(cameras) - 1, min(LOOKS, len(cameras))).round().long()
    small = cameras[some].resized((max(1, round(height * scale)), max(1, round(width * scale))))
    seen = look(render, small, device=device)
    return _range(seen.depth, seen.opacity)


def _range(depth: Tensor, opacity: Tensor) -> tuple[float, float]:
    solid = depth[(opacity > SOLID) & depth.isfinite() & (depth > 0)]
    return (float(solid.min()), float(solid.max())) if len(solid) else (1.0, 2.0)
