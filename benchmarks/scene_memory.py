"""Memory of a scene edit with many large photographs, over that of the loaded editor.

    python benchmarks/scene_memory.py --out docs/results/scenes/memory.json

JPEG photographs with their cameras are made in a temporary folder. The figure is the growth of the resident set's peak
over what it is when the editor is loaded and has edited a tiny scene; the bound is 1 GiB. The working size, views and
rays are the defaults of `edit`; steps are few, because memory does not grow with their number. Linux only.
"""

import argparse
import json
import subprocess
import tempfile
import time
from datetime import date
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from scoredistill import __version__
from scoredistill.tasks import edit_scene
from scoredistill.tasks.session import editor
from scoredistill.three_d.camera import orbit

BOUND = 1024  # MiB
STEPS = {"rounds": 1, "sweeps": 1, "fit_steps": 8, "edit_steps": 4}
LENSES = {"pinhole": {}, "distorted": {"camera_model": "OPENCV", "k1": -0.1, "k2": 0.02, "p1": 1e-3, "p2": -1e-3}}


def photographs(folder: Path, count: int, width: int, height: int, lens: dict[str, object], seed: int) -> Path:
    """A capture whose images are one noisy photograph, in a file each."""
    (folder / "images").mkdir(parents=True)
    coarse = np.random.default_rng(seed).integers(0, 256, (height // 40, width // 40, 3), np.uint8)
    image = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
    image.save(folder / "images/0000.jpg", quality=90)
    data = (folder / "images/0000.jpg").read_bytes()
    cameras, frames = orbit(count, 20.0, 3.0, 40.0, (height, width)), []
    for i in range(count):
        (folder / f"images/{i:04d}.jpg").write_bytes(data)
        frames.append({"file_path": f"images/{i:04d}.jpg", "transform_matrix": cameras.poses[i].tolist()})
    focal = float(cameras.focal[0, 0])
    shared = {"fl_x": focal, "fl_y": focal, "cx": width / 2, "cy": height / 2, "w": width, "h": height, **lens}
    (folder / "transforms.json").write_text(json.dumps({**shared, "frames": frames}))
    return folder


def peak(anew: bool = False) -> float:
    """Peak of this process's resident set in MiB, or from now on."""
    if anew:
        Path("/proc/self/clear_refs").write_text("5")
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("docs/results/scenes/memory.json"))
    parser.add_argument("--photographs", type=int, default=60)
    parser.add_argument("--width", type=int, default=4000)
    parser.add_argument("--height", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    prior, cases = editor("emoji-edit"), {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tiny = photographs(folder / "tiny", 3, 160, 120, {}, asked.seed)
        edit_scene(tiny, "make it night", prior, views=1, use=2, rays=64, samples=8, **STEPS)
        loaded = peak(anew=True)
        for lens, numbers in LENSES.items():
            capture = photographs(folder / lens, asked.photographs, asked.width, asked.height, numbers, asked.seed)
            peak(anew=True)
            start = time.process_time()
            result = edit_scene(capture, "make it night", prior, seed=asked.seed, out=folder / f"{lens}-out", **STEPS)
            grown = peak() - loaded  # what an earlier case has not given back counts as well
            assert len(result.capture) == asked.photographs
            cases[lens] = {
                "mebibytes": round(grown, 1), "bound": BOUND, "within": grown < BOUND, "loaded": round(loaded, 1),
                "CPU seconds": round(time.process_time() - start, 1),
            }  # fmt: skip
            print(lens, cases[lens], flush=True)
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    results = {
        "command": "python benchmarks/scene_memory.py", "date": str(date.today()), "version": __version__,
        "commit": commit.stdout.strip(), "seed": asked.seed, "photographs": asked.photographs,
        "pixels": [asked.width, asked.height], "editing": STEPS, "cases": cases,
    }  # fmt: skip
    asked.out.parent.mkdir(parents=True, exist_ok=True)
    asked.out.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
