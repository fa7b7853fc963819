"""A 1024x512 panorama and a video of 250 frames, three instructions each: images to look at, and their figures.

    python experiments/gallery.py --out docs/results/edits

Writes panorama.jpg (source and edits, halves exchanged, so that the 360-degree seam is in the middle), regions.jpg,
video.gif (source and edits side by side, every fifth frame), frames.jpg (from the whole length) and gallery.json.
The runs themselves stay in --runs and go on where they stopped.
"""

import argparse
import json
import shutil
from datetime import date
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from scoredistill import __version__
from scoredistill.datasets.packaged_media import CLIPS, IMAGES, path_of
from scoredistill.datasets.procedural_edits import EDITS
from scoredistill.media.images import grid, read_image, save_gif, to_tensor
from scoredistill.media.video import open_video
from scoredistill.metrics.edits import psnr, wrap_seam
from scoredistill.tasks import edit_image, edit_video
from scoredistill.tasks.image_editing.request import EditRequest
from scoredistill.tasks.video_editing.request import VideoRequest

PANORAMA, VIDEO = "forest", "bikes"
EDITED = ("make it night", "make it snowy", "turn it into a pencil sketch")
VIDEOED = ("make it night", "make it sepia", "turn it into a pencil sketch")
REGIONS = ("0-0.5: make it night", "0.5-1: make it sunset")
EVERY, SEEN = 5, 6  # frames of the GIF; frames of the sheet


def edit_of(text: str):  # type: ignore[no-untyped-def]
    """The procedural edit behind an instruction."""
    return next(edit for edit in EDITS.values() if edit.instructions[0] == text)


def rolled(image: Image.Image) -> Image.Image:
    """The panorama turned by half a circle."""
    pixels = np.asarray(image)
    return Image.fromarray(np.roll(pixels, pixels.shape[1] // 2, 1))


def panoramas(runs: Path, out: Path) -> dict:
    """The edits of the panorama."""
    path = path_of(*IMAGES[PANORAMA])
    source = read_image(path)
    shown, found = [rolled(source)], {}
    for text in EDITED:
        result = edit_image(path, text, wrap=True, progress=True)
        made, truth = (
            to_tensor(result.image),
            edit_of(text)(to_tensor(source), source.height / (EditRequest.windows * 64)),
        )
        found[text] = {
            "wrap seam, against the source's": float(wrap_seam(made, to_tensor(source))),
            "PSNR to the truth": float(psnr(made, truth)),
            "PSNR of the source": float(psnr(to_tensor(source), truth)),
            "rows": result.counts["rows"],
            "calls": result.counts["calls"],
            "seconds": round(result.seconds, 1),
        }
        shown.append(rolled(result.image))
    grid(shown, columns=1, pad=4).save(out / "panorama.jpg", quality=88)
    result = edit_image(path, "", wrap=True, regions=REGIONS, progress=True)
    result.image.save(out / "regions.jpg", quality=88)
    found["; ".join(REGIONS)] = {"rows": result.counts["rows"], "seconds": round(result.seconds, 1)}
    return found


def videos(runs: Path, out: Path) -> dict:
    """The edits of the video."""
    path, found = path_of(*CLIPS[VIDEO][:2]), {}
    source = open_video(path)
    columns = [list(source.frames())]
    for text in VIDEOED:
        folder = runs / f"{VIDEO}-{text.replace(' ', '_')}"
        if not (folder / "result.json").is_file():
            if folder.exists() and not (folder / ".groups").is_dir():
                shutil.rmtree(folder)
            edit_video(path, text, out=folder, resume=folder.exists(), progress=True)
        frames = list(open_video(folder / "edited.mp4").frames())
        assert len(frames) == len(source)
        truth = [edit_of(text)(image(f), source.height / (VideoRequest.windows * 64)) for f in columns[0][::10]]
        values = [float(psnr(image(f), t)) for f, t in zip(frames[::10], truth, strict=True)]
        summary = json.loads((folder / "result.json").read_text())
        found[text] = {"PSNR to the truth": float(np.mean(values)), **summary}
        columns.append(frames)
    image_grid = lambda k: grid(
        [Image.fromarray(c[k]).resize((320, 136), Image.Resampling.LANCZOS) for c in columns], 2
    )
    save_gif(
        [image_grid(k) for k in range(0, len(source), EVERY)], out / "video.gif", seconds=len(source) / 25, size=448
    )
    chosen = np.linspace(0, len(source) - 1, SEEN).round().astype(int)
    sheet = [Image.fromarray(c[k]).resize((320, 136), Image.Resampling.LANCZOS) for c in columns for k in chosen]
    grid(sheet, columns=SEEN).save(out / "frames.jpg", quality=85)
    return found


def image(frame: np.ndarray) -> torch.Tensor:
    """A frame as a batch of one."""
    return torch.from_numpy(frame.copy()).permute(2, 0, 1)[None].float() / 255


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("docs/results/edits"))
    parser.add_argument("--runs", type=Path, default=Path("runs/gallery"))
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    chosen.out.mkdir(parents=True, exist_ok=True)
    results = {"command": "python experiments/gallery.py", "date": str(date.today()), "version": __version__}
    for name, measure in (("panorama", panoramas), ("video", videos)):
        results[name] = measure(chosen.runs, chosen.out)
        (chosen.out / "gallery.json").write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
