"""What editing takes at size: memory of large images and long videos, rows of a step, memory of the coupling.

    python benchmarks/large_edits.py --out docs/results/edits/large.json

Each case runs in a process of its own, on one thread; its figure is the growth of the resident set's peak over what it
is when the model is loaded, has edited a small image, and the source is there. Fewer sweeps than usual. Images and
videos are made from a panorama of the viser package.
"""

import argparse
import json
import multiprocessing
import time
from datetime import date
from pathlib import Path

import torch
from PIL import Image
from torch.utils._python_dispatch import TorchDispatchMode

from scoredistill import __version__
from scoredistill.datasets.packaged_media import IMAGES, path_of
from scoredistill.estimators import Batch, Stein
from scoredistill.estimators.base import Estimate, Estimator
from scoredistill.media.video import Video
from scoredistill.priors import Counted, ImageGuided, Prior
from scoredistill.priors.pipelines import load_prior
from scoredistill.tasks import edit_image, edit_video
from scoredistill.tasks.session import editor

BOUND = {"image": 3072, "video": 700}  # MiB above the loaded model that this script holds the cases to


def panorama(width: int, height: int) -> Image.Image:
    """The forest, enlarged."""
    return (
        Image.open(path_of(*IMAGES["forest"]), formats=("JPEG", "PNG"))
        .convert("RGB")
        .resize((width, height), Image.Resampling.BICUBIC)
    )


def peak(anew: bool = False) -> float:
    """Peak of this process's resident set in MiB, or from now on.

    Linux only: the peak that `resource` knows is inherited from the process that started this one.
    """
    if anew:
        Path("/proc/self/clear_refs").write_text("5")
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def image(width: int, height: int, **settings: object) -> dict:
    """A panorama of this size, edited as `settings` say."""
    prior = editor("emoji-edit")
    edit_image(panorama(256, 64), "make it night", prior, sweeps=1, wrap=True)
    source, before, start = panorama(width, height), peak(anew=True), time.perf_counter()
    result = edit_image(source, "make it night", prior, wrap=True, **settings)
    assert result.image.size == (width, height)
    return {"mebibytes": peak() - before, "rows": result.counts["rows"], "seconds": time.perf_counter() - start}


def video(frames: int, width: int = 96, height: int = 64, **settings: object) -> dict:
    """A pan over a panorama, made frame by frame."""
    import tempfile

    import numpy as np

    wide = np.asarray(panorama(768, 192))
    read = lambda start, stop: (
        np.ascontiguousarray(np.roll(wide, -i, 1)[64 : 64 + height, :width]) for i in range(start, stop)
    )
    source = Video("pan", height, width, tuple(i / 25 for i in range(frames)), frames / 25, read)
    prior = editor("emoji-edit")
    edit_image(panorama(96, 64), "make it night", prior, sweeps=1)
    with tempfile.TemporaryDirectory() as folder:
        before, start = peak(anew=True), time.perf_counter()
        result = edit_video(source, "make it night", prior, out=Path(folder) / "run", **settings)
        seconds = time.perf_counter() - start
        assert result.path is not None
        assert result.path.is_file()
    return {"mebibytes": peak() - before, "rows": result.counts["rows"], "seconds": seconds}


CASES = {
    "image 8192x2048, default": (image, {"width": 8192, "height": 2048}),
    "image 8192x2048, all of it at the model's scale": (
        image, {"width": 8192, "height": 2048, "size": 0, "stride": 1.0, "sweeps": 1},
    ),
    "video of 500 frames": (video, {"frames": 500, "sweeps": 1}),
    "video of 2000 frames": (video, {"frames": 2000, "sweeps": 1}),
}  # fmt: skip


class _Largest(TorchDispatchMode):
    """The largest tensor, in numbers, that operations return; and the sum over all."""

    def __init__(self) -> None:
        super().__init__()
        self.largest = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for value in out if isinstance(out, (tuple, list)) else (out,):
            if isinstance(value, torch.Tensor):
                self.largest = max(self.largest, value.numel())
        return out


class _Given(Estimator):
    def __call__(self, prior, batch, t, rng=None) -> Estimate:
        return Estimate(batch.x.clone())


def coupling(d: int = 1024) -> list[dict]:
    """The largest tensor of a coupled step without its scores, N doubled: at most N^2 or N d numbers."""
    found = []
    for n in (64, 128, 256, 512, 1024, 2048):
        x = torch.randn(n, d, generator=torch.Generator().manual_seed(0))
        row = {"n": n, "n^2 + n d": n * n + n * d}
        for name in ("row", "paper"):
            prior = Prior.from_callable(lambda x, t, cond: x, load_prior("emoji-edit").schedule)
            with _Largest() as seen:
                Stein(_Given(), normalise=name)(prior, Batch(x), torch.full((n,), 0.5))
            row[f"largest tensor, {name}"] = seen.largest
        row["official code, kernel gradient"] = n * n * d
        found.append(row)
    return found


def step() -> dict:
    """Rows and calls of one CSD-Edit step at the usual guidance scales, against the released code's."""
    from scoredistill.estimators import CSDEdit

    n = 16
    counted = Counted(load_prior("emoji-edit"))
    prior = ImageGuided(counted, 7.5, 1.5)
    x = torch.randn(n, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    text = load_prior("emoji-edit").encode_text(["make it night"] * n)
    CSDEdit()(prior, Batch(x, {**text, "image": x}, x), torch.full((n,), 0.4), torch.Generator().manual_seed(0))
    ours = {"rows per particle": counted.rows / n, "calls": counted.calls}
    return {"ours": ours, "released code": {"rows per particle": 6, "calls": 2 * n}, "particles": n}


def _in_process(name: str, queue) -> None:
    torch.set_num_threads(1)
    function, options = CASES[name]
    queue.put(function(**options))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("docs/results/edits/large.json"))
    parser.add_argument("--case", nargs="*", default=list(CASES))
    chosen = parser.parse_args()
    context, cases = multiprocessing.get_context("spawn"), {}
    if chosen.out.is_file():
        cases = json.loads(chosen.out.read_text())["cases"]
    for name in chosen.case:
        queue = context.Queue()
        process = context.Process(target=_in_process, args=(name, queue))
        process.start()
        cases[name] = found = queue.get()
        process.join()
        bound = BOUND[name.split()[0]]
        found |= {"bound, mebibytes": bound, "within": found["mebibytes"] <= bound}
        print(name, {key: round(value, 1) for key, value in found.items()}, flush=True)
        results = {
            "command": "python benchmarks/large_edits.py", "date": str(date.today()), "version": __version__,
            "cases": cases, "coupling": coupling(), "step": step(),
        }  # fmt: skip
        chosen.out.parent.mkdir(parents=True, exist_ok=True)
        chosen.out.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
