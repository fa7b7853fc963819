"""A capture by a distorted lens, edited end to end, compared with its undistorted twin.

    python experiments/distorted_scene.py --out docs/results/scenes/distorted.json

A field is fitted to a synthetic scene and stands for the world. Rays are traced through it, several per pixel, in the
directions that a known lens with distortion sees (its inverse is computed here by Newton's method, independently of the
code that undistorts), and in those of a pinhole camera at the same place: two captures, as PNG files with a
transforms.json, which are edited with the same seed. PSNR between renders of the two edited scenes is compared with
that between edits of the twin with two seeds. How much there is to undo is told by the photographs read as if the lens
had no distortion.
"""

import argparse
import json
import subprocess
import tempfile
import time
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from scoredistill import __version__
from scoredistill.datasets import synthetic_scenes
from scoredistill.metrics import psnr
from scoredistill.tasks import edit_scene
from scoredistill.tasks.session import editor
from scoredistill.three_d.camera import Cameras, orbit
from scoredistill.three_d.capture import Capture, normalized, read_capture, write_transforms
from scoredistill.three_d.capture.distortion import Distortion, zoom
from scoredistill.three_d.fitting import PosedImages, fit, scene_of
from scoredistill.three_d.scenes.base import Scene
from scoredistill.three_d.scenes.nerf import NeRF

LENS = {"k1": -0.45, "k2": 0.15, "p1": 0.01, "p2": -0.01}  # 9% at the corners
INSTRUCTION, ELEVATION = "make it night", (5.0, 50.0)
FINER = 2  # rays per pixel along each axis
STEPS = {"fit_steps": 100, "rounds": 2, "sweeps": 4, "edit_steps": 60}


def inverse(lens: Distortion, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Directions of the rays that a lens sees at (x, y), by Newton's method with differences."""
    seen_x, seen_y, step = x, y, 1e-5
    for _ in range(20):
        at_x, at_y = lens(x, y)
        (ax, ay), (bx, by) = lens(x + step, y), lens(x, y + step)
        a, b, c, d = (ax - at_x) / step, (bx - at_x) / step, (ay - at_y) / step, (by - at_y) / step
        off_x, off_y, area = seen_x - at_x, seen_y - at_y, a * d - b * c
        x, y = x + (d * off_x - b * off_y) / area, y + (a * off_y - c * off_x) / area
    assert np.abs(np.subtract(lens(x, y), (seen_x, seen_y))).max() < 1e-9
    return x, y


@torch.no_grad()
def photographed(world: NeRF, cameras: Cameras, lens: Distortion) -> Tensor:
    """Photographs of the field through a lens, [n, 3, h, w]; pixels are means of the rays in them."""
    height, width = cameras.size
    fine = cameras.resized((height * FINER, width * FINER))
    shots = []
    for i in range(len(cameras)):
        (fx, fy), (cx, cy) = fine.focal[i].tolist(), fine.center[i].tolist()
        columns, rows = np.arange(width * FINER) + 0.5, np.arange(height * FINER) + 0.5
        x, y = inverse(lens, *np.meshgrid((columns - cx) / fx, (rows - cy) / fy))
        seen = torch.from_numpy(np.stack([x, -y, -np.ones_like(x)], -1)).float().reshape(-1, 3)
        directions = torch.nn.functional.normalize(seen @ fine.poses[i, :3, :3].T, dim=1)
        rgb = world.trace(fine.eyes[i].expand_as(directions), directions)["rgb"]
        image = rgb.T.reshape(1, 3, height * FINER, width * FINER)
        shots.append(torch.nn.functional.avg_pool2d(image, FINER))
    return torch.cat(shots).clamp(0, 1)


def written(folder: Path, images: Tensor, cameras: Cameras, kept: tuple[int, ...], lens: dict[str, float]) -> Path:
    """A capture on disk; coefficients of the lens are added to its file."""
    names = tuple(f"{i:03d}.png" for i in range(len(images)))
    path = write_transforms(Capture(images, cameras, names, kept), folder)
    path.write_text(json.dumps({**json.loads(path.read_text()), **lens}))
    return folder


@torch.no_grad()
def seen(scene: Scene, size: int) -> Tensor:
    """Renders of a scene from eight sides."""
    return scene.render(orbit(8, 20.0, 3.0, 40.0, (size, size))).rgb.clamp(0, 1)


def compared(one: Tensor, other: Tensor) -> dict[str, float]:
    """Mean over the sides, and its standard error, of the PSNR between renders."""
    values = psnr(one, other)
    return {"mean": round(float(values.mean()), 2), "se": round(float(values.std() / len(values) ** 0.5), 2)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("docs/results/scenes/distorted.json"))
    parser.add_argument("--scene", default="toys", choices=list(synthetic_scenes.SCENES))
    parser.add_argument("--views", type=int, default=12)
    parser.add_argument("--size", type=int, default=64, help="side of the photographs in pixels")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    start, held, lens = time.process_time(), 2, Distortion(**LENS)
    total = asked.views + held
    kept = tuple(int((i + 0.5) * total / held) for i in range(held))
    cameras = synthetic_scenes.spread(total, ELEVATION, asked.size, asked.seed)
    true = synthetic_scenes.render(asked.scene, cameras, samples=2).rgb
    views = PosedImages(true, cameras)
    world = scene_of(views, seed=asked.seed)
    for _ in fit(world, views, steps=200, rng=torch.Generator().manual_seed(asked.seed)):
        pass
    (fx, fy), (cx, cy) = cameras.focal[0].tolist(), cameras.center[0].tolist()
    factor = zoom(lens, (fx, fy, cx, cy), (asked.size, asked.size))
    pinhole = replace(cameras, focal=cameras.focal * factor)
    prior = editor("emoji-edit")
    with tempfile.TemporaryDirectory() as name:
        distorted = photographed(world, cameras, lens)
        captures = {
            "distorted": written(Path(name) / "d", distorted, cameras, kept, LENS),
            "twin": written(Path(name) / "t", photographed(world, pinhole, Distortion()), pinhole, kept, {}),
            "distortion ignored": written(Path(name) / "i", distorted, cameras, kept, {}),
        }
        read = {key: normalized(read_capture(folder))[0].images for key, folder in captures.items()}
        near = {key: compared(read[key], read["twin"]) for key in ("distorted", "distortion ignored")}
        print(near, f"{time.process_time() - start:.0f} s", flush=True)
        fits, renders = {}, {}
        runs = [("twin", 0), ("distorted", 0), ("twin", 1)]
        for key, plus in runs:
            result = edit_scene(captures[key], INSTRUCTION, prior, seed=asked.seed + plus, **STEPS)
            renders[key, plus] = seen(result.scene, asked.size)
            fits[f"{key}, seed {asked.seed + plus}"] = round(result.fit_psnr or 0.0, 2)
            renders.setdefault((key, -1), seen(result.before, asked.size))
            against = compared(renders[key, plus], renders["twin", 0])
            print(key, plus, fits, against, f"{time.process_time() - start:.0f} s", flush=True)
    twin, unedited = renders["twin", 0], renders["twin", -1]
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    results = {
        "command": "python experiments/distorted_scene.py", "date": str(date.today()), "version": __version__,
        "commit": commit.stdout.strip(), "seed": asked.seed, "scene": asked.scene, "instruction": INSTRUCTION,
        "photographs": [asked.views, held, asked.size], "lens": LENS, "zoom": round(factor, 3), "editing": STEPS,
        "photographs against the twin's, dB": near,
        "fit, held-out dB": fits,
        "fitted scene against the twin's, dB": compared(renders["distorted", -1], unedited),
        "edited scenes against the twin's, dB": {
            "distorted, same seed": compared(renders["distorted", 0], twin),
            "twin, other seed": compared(renders["twin", 1], twin),
            "unedited twin": compared(unedited, twin),
        },
        "CPU seconds": round(time.process_time() - start, 1),
    }  # fmt: skip
    asked.out.parent.mkdir(parents=True, exist_ok=True)
    asked.out.write_text(json.dumps(results, indent=1) + "\n")
    print(json.dumps(results["edited scenes against the twin's, dB"]))


if __name__ == "__main__":
    main()
