r"""Synthetic scenes: posed images of meshes that ship with pybullet, rendered on the CPU by its TinyRenderer.

A scene consists of a few colored or textured meshes in the unit ball, with z up and the front towards -y (`camera`).
Two lights are fixed in the world, in the directions d_1 and d_2. There are no shadows and no specular reflections, so a
point of the surface with normal n has the same color in all images:

    color = albedo ( AMBIENT + DIFFUSE (max(0, n d_1) + max(0, n d_2)) )

Images are rendered `samples` times as large and averaged. TinyRenderer samples pixel (i, j) at column j and row i + 1
of the OpenGL viewport rather than at (j + 1/2, i + 1/2); the projection matrix is shifted by half a pixel for that.

The meshes are those of Bullet (https://github.com/bulletphysics/bullet3, examples of pybullet 3.2.7).
"""

from __future__ import annotations

import ctypes
import math
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from scoredistill.optional import require
from scoredistill.three_d.camera import Cameras, around
from scoredistill.three_d.capture import Capture, write_transforms

AMBIENT, DIFFUSE = 0.5, 0.4  # their sum stays below 1, so that white stands out from the background
LIGHTS = ((-2.0, -3.0, 4.0), (3.0, 2.0, 1.5))  # towards the lights, in the world of the scene
GOLDEN = 180 * (3 - math.sqrt(5))  # the golden angle in degrees


@dataclass(frozen=True)
class Piece:
    """One mesh of a scene.

    Args:
        file: an OBJ or URDF file of pybullet's data, or "cylinder".
        at: position of its origin.
        turn: roll, pitch and yaw in degrees.
        scale: scale factor, or one per axis (OBJ files only).
        color: RGB in [0, 1], multiplied with the texture; None for the color of the file.
    """

    file: str
    at: tuple[float, float, float] = (0.0, 0.0, 0.0)
    turn: tuple[float, float, float] = (0.0, 0.0, 0.0)
    scale: float | tuple[float, float, float] = 1.0
    color: tuple[float, float, float] | None = None


@dataclass(frozen=True)
class Scene:
    """Meshes, and the ball that they fill: a point x of the unit ball is at `center` + `radius` x among the meshes."""

    pieces: tuple[Piece, ...]
    center: tuple[float, float, float] = (0.0, 0.0, 0.0)
    radius: float = 1.0


@dataclass(frozen=True)
class Shots:
    """Rendered images of a scene.

    Args:
        rgb: composited over the background, in [0, 1].
        alpha: covered fraction of each pixel, in [0, 1].
        depth: along the optical axis, the mean over the covered samples of a pixel; 0 where it is empty.
        cameras: of the images.
    """

    rgb: Float[Tensor, "n 3 h w"]
    alpha: Float[Tensor, "n 1 h w"]
    depth: Float[Tensor, "n 1 h w"]
    cameras: Cameras


SCENES: dict[str, Scene] = {
    "duck": Scene((Piece("duck.obj", turn=(90.0, 0.0, 90.0)),), (0.08, -0.18, 0.83), 0.97),
    "bunny": Scene((Piece("bunny.obj", color=(0.95, 0.6, 0.7)),), (0.0, -0.02, 0.02), 1.01),
    "teddy": Scene(
        (Piece("teddy2_VHACD_CHs.obj", turn=(90.0, 0.0, 180.0), color=(0.8, 0.5, 0.22)),), (-0.68, 0.21, 0.66), 0.5
    ),
    "ring": Scene((Piece("torus/torus_textured.obj"),), (0.0, 0.0, 0.0), 0.77),
    "racecar": Scene((Piece("racecar/racecar.urdf", turn=(0.0, 0.0, -90.0), scale=8.0),), (0.0, -1.33, 0.58), 2.09),
    "r2d2": Scene((Piece("r2d2.urdf", turn=(0.0, 0.0, 180.0), scale=4.0),), (0.0, -0.21, -0.22), 2.15),
    "rover": Scene((Piece("husky/husky.urdf", turn=(0.0, 0.0, -90.0), scale=2.0),), (0.0, 0.0, 0.37), 1.12),
    "bicycle": Scene((Piece("bicycle/bike.urdf", turn=(0.0, 0.0, -90.0)),), (-0.03, -0.13, -0.43), 1.41),
    "toys": Scene(
        (
            Piece("cylinder", at=(0.0, 0.0, -0.03), scale=(1.25, 1.25, 0.06), color=(0.35, 0.7, 0.4)),
            Piece("soccerball.urdf", at=(-0.45, 0.4, 0.5), scale=1.0),
            Piece("duck.obj", at=(0.45, -0.25, -0.05), turn=(90.0, 0.0, 110.0), scale=0.55),
            Piece("lego/lego.urdf", at=(-0.4, -0.6, 0.2), turn=(0.0, 0.0, 25.0), scale=17.0),
            Piece("torus/torus_textured.obj", at=(0.5, 0.55, 0.2), turn=(90.0, 0.0, 0.0), scale=0.75),
        ),
        (0.02, 0.02, 0.08),
        1.31,
    ),
    "table": Scene(
        (
            Piece("table/table.urdf"),
            Piece("objects/mug.urdf", at=(-0.4, -0.2, 0.63), turn=(0.0, 0.0, 100.0), scale=4.0),
            Piece("duck.obj", at=(0.3, -0.1, 0.61), turn=(90.0, 0.0, 110.0), scale=0.3),
            Piece("soccerball.urdf", at=(-0.05, 0.25, 0.78), scale=0.3),
            Piece("lego/lego.urdf", at=(0.5, 0.25, 0.7), turn=(0.0, 0.0, 30.0), scale=8.0),
        ),
        (0.0, 0.0, 0.41),
        0.95,
    ),
}


def render(
    name: str,
    cameras: Cameras,
    background: Sequence[float] = (1.0, 1.0, 1.0),
    samples: int = 3,
) -> Shots:
    """Render a scene over a background of one color.

    Args:
        name: one of `SCENES`.
        cameras: any cameras; surfaces nearer than 0.05 are clipped.
        background: RGB in [0, 1].
        samples: per pixel, along each axis.

    Raises:
        ValueError: if the name is unknown, or `samples` or `background` are out of range.
        MissingExtra: if pybullet is not installed.
    """
    scene = _scene(name)
    if samples < 1:
        raise ValueError(f"samples must be at least 1, not {samples}")
    if len(background) != 3 or not all(0 <= c <= 1 for c in background):
        raise ValueError(f"background must be three numbers in [0, 1], not {tuple(background)}")
    fine = cameras.resized((cameras.size[0] * samples, cameras.size[1] * samples))
    with _stage(scene) as take:
        views = [_averaged(take(fine[i]), background, samples) for i in range(len(fine))]
    values = torch.from_numpy(np.stack(views)) if views else torch.zeros(0, 5, *cameras.size)
    return Shots(values[:, :3], values[:, 3:4], values[:, 4:], cameras)


def spread(n: int, elevation: tuple[float, float], size: int = 64, seed: int = 0) -> Cameras:
    """n cameras evenly distributed over the part of a sphere between two elevations: a Fibonacci spiral.

    Heights sin(e) are equally spaced, and successive azimuths differ by the golden angle. The distance is 3 and the
    field of view 40 degrees, so the unit ball fills the image.

    Args:
        n: number of cameras.
        elevation: (low, high) in degrees.
        size: side of the images in pixels.
        seed: of the rotation of the spiral.

    Raises:
        ValueError: if n is below 1, or the elevations are not in order or not in [-90, 90].
    """
    low, high = elevation
    if n < 1 or not -90 <= low <= high <= 90:
        raise ValueError(f"expected at least one view and -90 <= low <= high <= 90, got {n} and {elevation}")
    start = float(torch.rand((), generator=torch.Generator().manual_seed(seed))) * 360
    part = (torch.arange(n, dtype=torch.float64) + 0.5) / n
    height = math.sin(math.radians(low)) * (1 - part) + math.sin(math.radians(high)) * part
    azimuth = (start + GOLDEN * torch.arange(n, dtype=torch.float64)) % 360
    return around(azimuth.float(), torch.rad2deg(height.asin()).float(), 3.0, 40.0, (size, size))


def make(
    name: str,
    out: Path,
    views: int = 40,
    held_out: int = 8,
    size: int = 64,
    elevation: tuple[float, float] = (-5.0, 60.0),
    seed: int = 0,
    background: Sequence[float] = (1.0, 1.0, 1.0),
) -> Capture:
    """Render a scene and write it as a capture, see `capture.write_transforms`.

    All views lie on one spiral (`spread`). Held-out views are taken from it at equal steps, so that they are between
    the others. Images are RGB over the background.

    Args:
        name: one of `SCENES`.
        out: a folder that does not exist or is empty.
        views: number of images for reconstruction, at least 2.
        held_out: number of further images for testing.
        size: side of the images in pixels.
        elevation: of the cameras, (low, high) in degrees.
        seed: of the rotation of the spiral of cameras.
        background: RGB in [0, 1].

    Returns:
        The capture.

    Raises:
        ValueError: if the name is unknown, a number is out of range, or the folder is not empty.
        MissingExtra: if pybullet is not installed.
    """
    out = Path(out)
    _scene(name)
    if views < 2 or held_out < 0 or size < 1:
        raise ValueError(f"expected views >= 2, held_out >= 0 and size >= 1, got {views}, {held_out} and {size}")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"{out} is not an empty folder: choose a new one")
    total = views + held_out
    kept = tuple(int((i + 0.5) * total / held_out) for i in range(held_out))
    shots = render(name, spread(total, elevation, size, seed), background)
    names = tuple(f"{i:04d}.png" for i in range(total))
    capture = Capture(shots.rgb, shots.cameras, names, kept, shots.alpha, shots.depth)
    write_transforms(capture, out)
    return capture


def _scene(name: str) -> Scene:
    if name not in SCENES:
        raise ValueError(f"there is no scene {name!r}: use one of {', '.join(SCENES)}")
    return SCENES[name]


@contextmanager
def _stage(scene: Scene) -> Iterator[Any]:
    """A function that renders one image of the scene: camera -> colors [h, w, 3], covered [h, w], depth [h, w]."""
    with _quiet():
        bullet = require("pybullet", "scenes", "rendering synthetic scenes")
        pybullet_data = require("pybullet_data", "scenes", "rendering synthetic scenes")
        client = bullet.connect(bullet.DIRECT)
    try:
        with _quiet():
            bullet.setAdditionalSearchPath(pybullet_data.getDataPath(), physicsClientId=client)
            for piece in scene.pieces:
                _place(bullet, client, piece)
        yield lambda camera: _shot(bullet, client, scene, camera)
    finally:
        bullet.disconnect(client)


def _place(bullet: Any, client: int, piece: Piece) -> None:
    turn = bullet.getQuaternionFromEuler([math.radians(angle) for angle in piece.turn])
    if piece.file.endswith(".urdf"):
        bullet.loadURDF(
            piece.file, piece.at, turn, useFixedBase=True, globalScaling=piece.scale, physicsClientId=client
        )
        return
    x, y, z = piece.scale if isinstance(piece.scale, tuple) else (piece.scale,) * 3
    form: dict[str, Any] = {"fileName": piece.file, "meshScale": (x, y, z)}
    if piece.file == "cylinder":
        form = {"radius": x, "length": z}
    paint = {} if piece.color is None else {"rgbaColor": (*piece.color, 1.0)}
    kind = bullet.GEOM_CYLINDER if piece.file == "cylinder" else bullet.GEOM_MESH
    shape = bullet.createVisualShape(kind, **form, **paint, physicsClientId=client)
    bullet.createMultiBody(
        0, baseVisualShapeIndex=shape, basePosition=piece.at, baseOrientation=turn, physicsClientId=client
    )


def _shot(bullet: Any, client: int, scene: Scene, camera: Cameras) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Render one camera, which is moved to the world of the meshes instead of moving the meshes to the unit ball."""
    height, width = camera.size
    pose = camera.poses[0].double().numpy().copy()
    away = max(0.0, float(pose[:3, 2] @ pose[:3, 3]))  # depth of the origin
    near, far = scene.radius * max(0.05, away - 1.1), scene.radius * (away + 1.1)
    pose[:3, 3] = np.asarray(scene.center) + scene.radius * pose[:3, 3]
    view = np.linalg.inv(pose).T.flatten().tolist()
    lens = projection(camera, near, far).T.flatten().tolist()
    colors = np.zeros((height, width, 3), np.float32)
    for light in LIGHTS:
        _, _, rgba, z, owner = bullet.getCameraImage(
            width,
            height,
            view,
            lens,
            lightDirection=light,
            lightColor=(1, 1, 1),
            lightAmbientCoeff=AMBIENT / len(LIGHTS),
            lightDiffuseCoeff=DIFFUSE,
            lightSpecularCoeff=0.0,
            shadow=0,
            renderer=bullet.ER_TINY_RENDERER,
            physicsClientId=client,
        )
        colors += np.asarray(rgba, np.uint8).reshape(height, width, 4)[..., :3] / np.float32(255)
    covered = np.asarray(owner).reshape(height, width) >= 0
    z = 2 * np.asarray(z, np.float64).reshape(height, width) - 1
    depth = 2 * far * near / (far + near - z * (far - near)) / scene.radius
    return colors, covered, depth


def projection(camera: Cameras, near: float, far: float) -> np.ndarray:
    """OpenGL projection matrix [4, 4] of a camera, for a renderer that samples at column j and row i + 1."""
    height, width = camera.size
    (fx, fy), (cx, cy) = camera.focal[0].tolist(), camera.center[0].tolist()
    return np.array(
        [
            [2 * fx / width, 0, 1 - (2 * cx - 1) / width, 0],
            [0, 2 * fy / height, (2 * cy + 1) / height - 1, 0],
            [0, 0, -(far + near) / (far - near), -2 * far * near / (far - near)],
            [0, 0, -1, 0],
        ]
    )


def _averaged(
    taken: tuple[np.ndarray, np.ndarray, np.ndarray], background: Sequence[float], samples: int
) -> np.ndarray:
    """RGB, alpha and depth [5, h, w], averaged over the samples of each pixel."""
    colors, covered, depth = taken
    tiles = lambda v: v.reshape(v.shape[0] // samples, samples, v.shape[1] // samples, samples, -1).mean((1, 3))
    mask = covered[..., None].astype(np.float32)
    alpha = tiles(mask)
    rgb = tiles(colors * mask) + (1 - alpha) * np.asarray(background, np.float32)
    far = tiles(depth[..., None] * mask) / np.maximum(alpha, 1e-6)
    return np.concatenate([rgb.clip(0, 1), alpha, far], -1).transpose(2, 0, 1).astype(np.float32)


@contextmanager
def _quiet() -> Iterator[None]:
    """Discard output to file descriptors 1 and 2, since pybullet prints from C when it is imported and loads meshes."""
    sys.stdout.flush()
    sys.stderr.flush()
    kept: dict[int, int] = {}
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        for descriptor in (1, 2):
            with suppress(OSError):  # it is closed, so there is nothing to silence
                kept[descriptor] = os.dup(descriptor)
                os.dup2(nowhere, descriptor)
        yield
    finally:
        with suppress(OSError, TypeError, AttributeError):  # flush the buffers of C, where the system allows it
            ctypes.CDLL(None).fflush(None)
        for descriptor, copy in kept.items():
            os.dup2(copy, descriptor)
            os.close(copy)
        os.close(nowhere)
