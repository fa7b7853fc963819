"""index.html beside the output directories of runs: a gallery of all of them, newest first.

The page is made anew from what lies there, under a lock, so that of two commands that end at the same time the later
one lists both; it replaces an earlier gallery only. Thumbnails lie in .gallery/ and are made when a run has changed.
Links are relative: the directory can be moved or served.
"""

import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

from PIL import Image

from scoredistill.files import atomic
from scoredistill.reports.page import Card, Page
from scoredistill.tasks.lock import Busy, Lock
from scoredistill.tasks.output_paths import RUNS
from scoredistill.tasks.run_config import read_config, result_of

NAME, FOLDER = "index.html", ".gallery"
GENERATOR = "scoredistill gallery"  # marks pages that may be replaced
MARK = f'<meta name="generator" content="{GENERATOR}">'
SIDE, QUALITY = 256, 80  # longer side of a thumbnail in pixels, quality of its JPEG
NEWEST = 500  # runs that are listed
WAIT, PAUSE = 10.0, 0.05  # seconds to wait for another command, and between looks
IMAGES = (
    "edited.png", "enlarged_00.png", "image_00.png", "image_000.png", "icon_00.png", "result.png", "grid.png",
    "images.png", "preview.png", "sheet.png", "image_grid.png",
)  # fmt: skip
"""Files that can stand for a run, the best first."""
PAGES = ("report.html", NAME)


def update(folder: Path) -> Path | None:
    """Make or renew the gallery of a directory of runs.

    Args:
        folder: the directory: one called runs, or one that has a gallery already. Others are left alone.

    Returns:
        The page; None if there is none, as the directory is another or has an index.html of somebody else.

    Raises:
        OSError: if it cannot be written.
    """
    page = folder / NAME
    if not (ours(page) or (folder.absolute().name == RUNS.name and not page.exists() and not page.is_symlink())):
        return None
    thumbnails = folder / FOLDER
    if thumbnails.is_symlink():
        return None
    thumbnails.mkdir(exist_ok=True)
    lock = Lock(thumbnails, "the gallery")
    if not _taken(lock):
        return page if page.is_file() else None
    try:
        runs = sorted(runs_in(folder), key=_changed, reverse=True)
        made = Page("Runs", f"{len(runs)} in {folder.absolute().name}", generator=GENERATOR)
        made.cards([card(run, folder, _thumbnail(run, thumbnails)) for run in runs[:NEWEST]])
        if ours(page) or not page.exists():
            made.save(page)
    finally:
        lock.release()
    return page


def ours(page: Path) -> bool:
    """Whether a file is a gallery, which may be replaced."""
    try:
        with page.open(encoding="utf-8", errors="replace") as file:
            return not page.is_symlink() and MARK in file.read(4000)
    except OSError:
        return False


def runs_in(folder: Path) -> list[Path]:
    """The output directories of runs and studies in a directory."""
    found = [path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")]
    return [path for path in found if read_config(path) or (path / "report.html").is_file()]


def card(run: Path, folder: Path, image: Path | None) -> Card:
    """What a page in a directory shows of a run in it: an image, its title, settings, and a link to its report."""
    config, summary = read_config(run), result_of(run)
    request = config.get("request", {})
    page = next((name for name in PAGES if (run / name).is_file()), None)
    notes = [str(request[name]) for name in ("method",) if request.get(name)]
    notes += [f"seed {request['seed']}"] if "seed" in request else []
    notes += [f"CLIP {value:.0f}"] if (value := score(summary)) is not None else []
    notes += [] if summary or page else ["unfinished"]
    when = time.strftime("%Y-%m-%d %H:%M", time.localtime(_changed(run)))
    return Card(
        title(request) or run.name.replace("_", " "),
        ", ".join(notes),
        f"{run.name}, {when}",
        _link(run / page if page else run, folder),
        None if image is None else _link(image, folder),
    )


def title(request: Mapping[str, Any]) -> str:
    """What a run is about: its prompt, its instruction or its regions."""
    regions = request.get("regions") or ()
    several = request.get("prompts") or request.get("demo") or ()
    return str(request.get("prompt") or request.get("instruction") or ", ".join(map(str, several or regions)))


def score(summary: Mapping[str, Any]) -> float | None:
    """The mean CLIP similarity of a run, if its result has one."""
    found = summary.get("clip_sim")
    numbers = found if isinstance(found, list) else [found]
    numbers = [value for value in numbers if isinstance(value, (int, float))]
    return sum(numbers) / len(numbers) if numbers else None


def image_of(run: Path) -> Path | None:
    """The image that stands for a run, if it has one."""
    return next((run / name for name in IMAGES if (run / name).is_file()), None)


def reduced(path: Path, side: int) -> Image.Image | None:
    """An image whose longer side has a number of pixels; None if it cannot be read."""
    with (
        suppress(OSError, ValueError, SyntaxError, Image.DecompressionBombError),
        Image.open(path, formats=("PNG",)) as image,
    ):
        shown = image.convert("RGB")
        factor = side / max(shown.size)
        size = (max(1, round(shown.width * factor)), max(1, round(shown.height * factor)))
        return shown.resize(size, Image.Resampling.LANCZOS)
    return None


def _thumbnail(run: Path, folder: Path) -> Path | None:
    """The thumbnail of a run, made if it is missing or older than the image."""
    image, made = image_of(run), folder / f"{run.name}.jpg"
    if image is None:
        return None
    with suppress(OSError):
        if made.stat().st_mtime >= image.stat().st_mtime:
            return made
    small = reduced(image, SIDE)
    if small is None:
        return None
    with atomic(made) as draft:
        small.save(draft, quality=QUALITY)
    return made


def _changed(run: Path) -> float:
    """When a run was begun, in seconds since 1970."""
    with suppress(OSError):
        config = run / "config.json"
        return (config if config.is_file() else run).stat().st_mtime
    return 0.0


def _link(target: Path, folder: Path) -> str:
    """The relative link from a page in a directory."""
    return quote(target.relative_to(folder).as_posix())


def _taken(lock: Lock) -> bool:
    """Whether the lock was taken, within the time to wait."""
    end = time.monotonic() + WAIT
    while True:
        try:
            lock.acquire()
        except Busy:
            if time.monotonic() > end:
                return False
            time.sleep(PAUSE)
        else:
            return True
