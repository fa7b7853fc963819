"""The autoencoder's own flicker, the limitation the paper names, and what the source's detail does about it.

    python experiments/flicker.py --out docs/results/edits/flicker.json

Warp error (1000 times the mean absolute difference of a frame from the next one led back by the source's flow) of clips
at their working size: the source; the source through the autoencoder; the same with the source's detail (no edit at
all); an edit by CSD-Edit without and with the detail, and the true edit.
"""

import argparse
import json
from datetime import date
from pathlib import Path

import torch

from scoredistill import __version__
from scoredistill.datasets import packaged_media as data
from scoredistill.datasets.procedural_edits import EDITS
from scoredistill.media.images import to_pil, to_tensor
from scoredistill.metrics.edits import psnr, source_flows, warp_error
from scoredistill.priors.pipelines import load_prior
from scoredistill.tasks import edit_video
from scoredistill.tasks.image_editing.canvas import Canvas
from scoredistill.tasks.image_editing.detail import with_detail

EDIT = "sepia"


def measured(name: str, height: int, frames: int) -> dict[str, float]:
    """All figures of one clip."""
    prior, source = load_prior("emoji-edit"), data.clip(name, height, frames)
    flows, canvas = source_flows(source), Canvas(prior, source)
    again = canvas.decode(canvas.source)
    truth = EDITS[EDIT](source)
    video = to_pil(source)
    edits = {
        d: to_tensor(edit_video(video, EDITS[EDIT].instructions[0], prior, size=height, detail=d).frames)
        for d in (0.0, 1.0)
    }
    shown = {
        "source": source,
        "through the autoencoder": again,
        "through the autoencoder, with detail": with_detail(source, again, again),
        f"{EDIT}, csd without detail": edits[0.0],
        f"{EDIT}, csd with detail": edits[1.0],
        f"{EDIT}, true": truth,
    }
    found = {what: 1000 * warp_error(images, source, flows) for what, images in shown.items()}
    found |= {
        f"PSNR to the truth, {k}": float(psnr(edits[d], truth).mean()) for k, d in (("without", 0.0), ("with", 1.0))
    }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("docs/results/edits/flicker.json"))
    parser.add_argument("--height", type=int, default=96)
    parser.add_argument("--frames", type=int, default=12)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    clips = {name: measured(name, chosen.height, chosen.frames) for name in data.CLIPS}
    results = {
        "command": f"python experiments/flicker.py --height {chosen.height} --frames {chosen.frames}",
        "date": str(date.today()), "version": __version__, "clips": clips,
    }  # fmt: skip
    chosen.out.parent.mkdir(parents=True, exist_ok=True)
    chosen.out.write_text(json.dumps(results, indent=1) + "\n")
    print(json.dumps(clips, indent=1))


if __name__ == "__main__":
    main()
