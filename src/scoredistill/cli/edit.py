"""Commands that make and edit: `image`, `edit` and `demo`."""

import inspect
import re
from pathlib import Path
from typing import Any

from tyro.conf import Positional


def edit(
    source: Positional[Path],
    instruction: Positional[str] = "",
    out: Path | None = None,
    method: str = "csd",
    prior: str = "emoji-edit",
    region: tuple[str, ...] = (),
    wrap: bool = False,
    size: int | None = None,
    text_scale: float | None = None,
    image_scale: float | None = None,
    sweeps: int | None = None,
    stride: float | None = None,
    particles: int | None = None,
    kernel: float | None = None,
    lr: float | None = None,
    scales: tuple[int, ...] = (1,),
    feather: float = 0.1,
    detail: float = 1.0,
    group: int = 24,
    overlap: int | None = None,
    flow: int | None = None,
    file: str = "edited.mp4",
    views: int | None = None,
    use: int | None = None,
    rounds: int | None = None,
    fit_steps: int | None = None,
    edit_steps: int | None = None,
    view: bool = False,
    port: int = 8080,
    seed: int = 0,
    resume: bool = False,
    dtype: str | None = None,
    device: str | None = None,
) -> None:
    """Edit a photograph of any size, a 360-degree panorama, a video or a 3-D scene by an instruction, consistently.

    The bundled editor knows "make it night | sunset | snowy | sepia | black and white | red ...", "turn it into a
    pencil sketch", "invert the colors" and the like; it changes looks, not things.

    Args:
        source: An image, a video (.mp4, .gif, ...), a folder with the frames of one, or the folder of a scene:
            photographs with transforms.json or COLMAP's text files.
        instruction: What to do, for example "make it night".
        out: Folder for all that is written, runs/SOURCE-INSTRUCTION by default; preview.png in it shows the edit.
        method: csd (collaborative), csd_full, csd_paper, uncoupled, common_noise, random_noise, crops, windows,
            per_frame; scenes: csd, uncoupled, common_noise, random_noise, one_view.
        prior: "emoji-edit" (bundled), or a folder or hub name of an InstructPix2Pix pipeline.
        region: A part with an instruction of its own, such as "0-0.5: make it night" (left half), "0.1,0,0.9,0.4: make
            it red" (a box: left, top, right, bottom) or "mask.png: make it snowy"; several may follow each other.
        wrap: The left border meets the right one: a 360-degree panorama.
        size: Shorter side in pixels at which the model works (the result has the source's size); 0 for its own.
        text_scale: How strongly the instruction counts: for the bundled editor 1 is the edit, 1.5 a stronger one.
        image_scale: How strongly the source counts.
        sweeps: Over the whole image; more is finer and slower.
        stride: Between windows, in windows: .5 overlaps by half, 1 not at all.
        particles: Windows per step at most, which are coupled; 0 for all.
        kernel: Bandwidth scale of the coupling: wider is more consistent.
        lr: Length of the gradient steps.
        scales: Sizes of windows in multiples of the model's image; larger ones see more and change coarser.
        feather: Width of the blend between regions, in parts of the shorter side.
        detail: How much of the source's own detail comes back, 0 to 1.
        group: Frames of a video that are edited together.
        overlap: Frames that successive groups share; 4 by default.
        flow: Rounds of sharing gradients with neighboring frames along the optical flow; 0 for none.
        file: Name of the video: .mp4, .webm, .gif, or without a suffix a folder of frames.
        views: Of a scene: views edited together.
        use: Of a scene: how many of its views are edited and fitted to; all by default.
        rounds: Of a scene: how often every view is edited.
        fit_steps: Of a scene: steps of the fit to its photographs.
        edit_steps: Of a scene: steps of the fit to the edited views.
        view: Of a scene: watch and turn it in a browser while it is edited, and afterwards until Ctrl-C.
        port: Of that page.
        seed: Of all randomness.
        resume: Go on with the interrupted run in --out.
        dtype: Of the networks: float32 (default), float16 or bfloat16.
        device: For example cpu, cuda or cuda:1; a GPU if there is one by default.
    """
    _edit(**locals())


SCENE_ONLY = ("views", "use", "rounds", "fit_steps", "edit_steps")
FLAT_ONLY = ("stride", "particles", "lr", "scales", "feather", "detail", "group", "overlap", "flow")
SHARED = ("size", "text_scale", "image_scale", "sweeps", "kernel", "seed", "dtype", "device")


def _edit(source: Path, instruction: str, out: Path | None, **options: Any) -> None:
    """Edit by what the source is; options of other kinds of source are refused, not ignored."""
    from scoredistill.three_d.capture import is_capture

    region = options["region"]
    name = re.sub(r"[^a-z0-9]+", "_", f"{source.stem} {instruction or ' '.join(region)}".lower())[:60].strip("_")
    out = out or Path("runs") / (name or "edit")
    scene = source.is_dir() and is_capture(source)
    usual = {p.name: p.default for p in inspect.signature(edit).parameters.values()}
    others = ("region", "wrap", "file", *FLAT_ONLY) if scene else ("view", "port", *SCENE_ONLY)
    if given := [f"--{o.replace('_', '-')}" for o in others if options[o] != usual[o]]:
        what = "a scene has no" if scene else "only scenes (folders with transforms.json or COLMAP's files) have"
        raise ValueError(f"{what} {', '.join(given)}: leave it out")
    (_edit_scene if scene else _edit_flat)(source, instruction, out, **options)


def _edit_flat(source: Path, instruction: str, out: Path, **options: Any) -> None:
    """An image or a video."""
    from scoredistill.media.video.reading import is_video
    from scoredistill.tasks import edit_image, edit_video

    settings = {name: options[name] for name in ("wrap", "prior", "method", "resume", *SHARED, *FLAT_ONLY)}
    settings |= {"regions": options["region"], "out": out, "progress": True}
    if is_video(source):
        video = edit_video(source, instruction, file=options["file"], **settings)
        what, rows, seconds = f"{len(video.source)} frames", video.counts["rows"], video.seconds
    else:
        made = edit_image(source, instruction, **settings)
        what, rows, seconds = f"{made.image.width}x{made.image.height} pixels", made.counts["rows"], made.seconds
    print(f"{what}, {rows} network rows, {seconds:.1f} s: {out / 'report.html'}")


def _edit_scene(source: Path, instruction: str, out: Path, **options: Any) -> None:
    """A scene, watched if that is asked for."""
    from scoredistill.cli.live_view import Watch
    from scoredistill.tasks import edit_scene

    names = ("prior", "method", "resume", *SHARED, *SCENE_ONLY)
    settings = {name: options[name] for name in names if options[name] is not None}
    with Watch(options["port"] if options["view"] else None, instruction) as watch:
        made = edit_scene(source, instruction, out=out, progress=True, callback=watch, **settings)
        rows, seconds = made.counts["rows"], made.seconds
        print(f"{len(made.views)} views, {rows} network rows, {seconds:.1f} s: {out / 'report.html'}")
        watch.stay(made.scene)
