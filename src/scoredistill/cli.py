"""The command line. Each command is a function; what it says in its docstring is its --help.

Wrong input ends with one sentence and exit code 2, before any work; an interrupted run can be resumed.
"""

import json
import os
import re
import sys
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any, Literal

import tyro
from tyro.conf import Positional

from scoredistill import __version__


def image(
    prompt: Positional[str],
    out: Path | None = None,
    method: str = "msd",
    prior: str = "emoji",
    image: str = "mlp",
    steps: int | None = None,
    particles: int | None = None,
    guidance: float | None = None,
    lr: float | None = None,
    through: str | None = None,
    follow: int | None = None,
    negative_prompt: str = "",
    seed: int = 0,
    resume: bool = False,
    dtype: str | None = None,
    device: str | None = None,
) -> None:
    """Make pictures of a prompt by distillation: PNGs, a film of it, metrics and a report.

    Args:
        prompt: What the picture shows, for example "a hamburger".
        out: Folder for all that is written, runs/PROMPT-METHOD by default; preview.png in it shows the run as it goes.
        method: msd (mean shift), sds (score distillation sampling), csd (collaborative), or ddim (ordinary sampling).
        prior: "emoji" (bundled), a folder with a diffusers pipeline, or a hub name.
        image: What is optimised: mlp (a coordinate network), latents or pixels.
        steps: Optimisation steps; the method's own number by default.
        particles: Pictures at once; 1 by default, 4 for csd.
        guidance: Classifier-free guidance scale, 1 is none.
        lr: Learning rate of Adam; 0 for plain gradient steps of length 1.
        through: How gradients on latents come back to pictures: encoder (chain rule) or decoder.
        follow: Optimiser steps per gradient; more lets slow images keep up with few network calls.
        negative_prompt: What the picture should not show.
        seed: Of all randomness; the same seed gives the same picture.
        resume: Go on with the interrupted run in --out.
        dtype: Of the networks: float32 (default), float16 or bfloat16.
        device: For example cpu, cuda or cuda:1; a GPU if there is one by default.
    """
    from scoredistill.tasks import text_to_image

    out = out or Path("runs") / f"{re.sub(r'[^a-z0-9]+', '_', prompt.lower())[:60].strip('_') or 'image'}-{method}"
    settings: dict[str, Any] = {"image": image, "steps": steps, "particles": particles, "guidance": guidance, "lr": lr}
    settings |= {
        "negative_prompt": negative_prompt,
        "seed": seed,
        "through": through,
        "follow": follow,
        "dtype": dtype,
        "device": device,
    }
    result = text_to_image(prompt, prior, method, out=out, resume=resume, progress=True, **settings)
    rows, seconds = result.counts["rows"], result.seconds
    print(f"{len(result.images)} picture(s), {rows} network rows, {seconds:.1f} s: {out / 'report.html'}")


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
    seed: int = 0,
    resume: bool = False,
    dtype: str | None = None,
    device: str | None = None,
) -> None:
    """Edit a photograph of any size, a 360-degree panorama or a film by an instruction, consistently.

    The bundled editor knows "make it night | sunset | snowy | sepia | black and white | red ...", "turn it into a
    pencil sketch", "invert the colors" and the like; it changes looks, not things.

    Args:
        source: A picture, a film (.mp4, .gif, ...) or a folder with the frames of one.
        instruction: What to do, for example "make it night".
        out: Folder for all that is written, runs/SOURCE-INSTRUCTION by default; preview.png in it shows the edit.
        method: csd (collaborative), csd_full, csd_paper, uncoupled, common_noise, random_noise, crops, windows,
            per_frame.
        prior: "emoji-edit" (bundled), or a folder or hub name of an InstructPix2Pix pipeline.
        region: A part with an instruction of its own, such as "0-0.5: make it night" (left half), "0.1,0,0.9,0.4: make
            it red" (a box: left, top, right, bottom) or "mask.png: make it snowy"; several may follow each other.
        wrap: The left border meets the right one: a 360-degree panorama.
        size: Shorter side in pixels at which the model works (the result has the source's size); 0 for its own.
        text_scale: How strongly the instruction counts: for the bundled editor 1 is the edit, 1.5 a stronger one.
        image_scale: How strongly the source counts.
        sweeps: Over the whole picture; more is finer and slower.
        stride: Between windows, in windows: .5 overlaps by half, 1 not at all.
        particles: Windows per step at most, which are coupled; 0 for all.
        kernel: Bandwidth scale of the coupling: wider is more consistent.
        lr: Length of the gradient steps.
        scales: Sizes of windows in multiples of the model's picture; larger ones see more and change coarser.
        feather: Width of the blend between regions, in parts of the shorter side.
        detail: How much of the source's own detail comes back, 0 to 1.
        group: Frames of a film that are edited together.
        overlap: Frames that successive groups share; 4 by default.
        flow: Rounds of sharing gradients with neighbouring frames along the optical flow; 0 for none.
        file: Name of the film: .mp4, .webm, .gif, or without a suffix a folder of frames.
        seed: Of all randomness.
        resume: Go on with the interrupted run in --out.
        dtype: Of the networks: float32 (default), float16 or bfloat16.
        device: For example cpu, cuda or cuda:1; a GPU if there is one by default.
    """
    from scoredistill.tasks import edit_image, edit_video
    from scoredistill.tasks.editing.media import is_film

    name = re.sub(r"[^a-z0-9]+", "_", f"{source.stem} {instruction or ' '.join(region)}".lower())[:60].strip("_")
    out = out or Path("runs") / (name or "edit")
    settings: dict[str, Any] = {
        "regions": region, "wrap": wrap, "size": size, "text_scale": text_scale, "image_scale": image_scale,
        "sweeps": sweeps, "stride": stride, "particles": particles, "kernel": kernel, "lr": lr, "scales": scales,
        "feather": feather, "detail": detail, "group": group, "overlap": overlap, "flow": flow, "seed": seed,
        "dtype": dtype, "device": device,
    }  # fmt: skip
    if is_film(source):
        film = edit_video(
            source, instruction, prior, method, out=out, file=file, resume=resume, progress=True, **settings
        )
        what, rows, seconds = f"{len(film.source)} frames", film.counts["rows"], film.seconds
    else:
        made = edit_image(source, instruction, prior, method, out=out, resume=resume, progress=True, **settings)
        what, rows, seconds = f"{made.image.width}x{made.image.height} pixels", made.counts["rows"], made.seconds
    print(f"{what}, {rows} network rows, {seconds:.1f} s: {out / 'report.html'}")


def demo(out: Path = Path("runs/demo"), seed: int = 0) -> None:
    """Two prompts by every method, with DDIM samples beside them, on one page; a few minutes on two cores.

    Args:
        out: Folder for the page and the single runs.
        seed: Of all randomness.
    """
    from scoredistill.tasks.demo import demo as run

    print(f"Open {run(out, seed)}")


def toy(
    out: Path = Path("runs/toy"),
    set: tuple[str, ...] = (),
    method: tuple[str, ...] = (),
    denoiser: tuple[str, ...] = (),
    seeds: int = 4,
    quick: bool = False,
    workers: int = 2,
) -> None:
    """Which estimator, and why: all methods on distributions in the plane whose scores are known exactly.

    The same command goes on with an interrupted study. Writes results.json, report.html and pictures.

    Args:
        out: Folder for all that is written.
        set: Of fractal, spiral, pinwheel; all by default.
        method: For example ddim sds msd collaborative; all by default, and then with landscapes, gradients and ranking.
        denoiser: exact (closed form), ideal (of samples), learned (a small network, trained when first needed).
        seeds: Repetitions of everything that is random; 1 with --quick.
        quick: A small version of the whole, under three minutes.
        workers: Processes, of one thread each.
    """
    from scoredistill.tasks.toy.study import Setting, study

    given = {"sets": set, "methods": method, "denoisers": denoiser}
    setting = Setting(**{k: v for k, v in given.items() if v}, seeds=1 if quick else seeds, quick=quick)
    print(f"Open {study(setting, out, workers)}")


def bench(
    what: Positional[Literal["images", "edits"]],
    out: Path | None = None,
    prior: str | None = None,
    prompts: Path | None = None,
    methods: tuple[str, ...] = (),
    blocks: tuple[str, ...] = (),
    seeds: int | None = None,
    clip: str | None = None,
    inception: bool = False,
    quick: bool = False,
    workers: int = 2,
) -> None:
    """Compare all methods, with error bars, at their own settings and at equal cost, where the truth is known.

    The same command goes on with an interrupted study. Writes results.json, report.html, tables.md and pictures;
    preview.png shows what is there so far.

    Args:
        what: images: text to 2-D, the study of the mean-shift paper (truth: DDIM samples). edits: pictures and films
            edited by CSD-Edit and its alternatives (truth: the procedural edit); needs scoredistill[bench].
        out: Folder for all that is written, runs/bench-WHAT by default.
        prior: "emoji" or "emoji-edit" (bundled), a folder with a diffusers pipeline, or a hub name.
        prompts: File with one prompt a line; ten that the bundled prior knows by default. Only for images.
        methods: For example ddim sds msd, or csd windows; all by default, and then with all that belongs to no method.
        blocks: Settings of images: mlp, latents, mlp_equal, latents_equal, ideal, ablation; all by default.
        seeds: Pictures of each prompt, 3 by default; or runs of each edit, 1 by default. 1 with --quick.
        clip: The CLIP that judges: a folder or hub name; the bundled one by default.
        inception: Also the FID of the literature; needs torch-fidelity, which fetches the weights of Inception.
        quick: Four prompts, ddim, sds and msd; or two pictures, two instructions and one clip. Some minutes.
        workers: Processes, of one thread each.
    """
    out = out or Path("runs") / f"bench-{what}"
    if what == "edits":
        from scoredistill.tasks.edits.study import Setting as Edits
        from scoredistill.tasks.edits.study import study as edits

        if prompts is not None or blocks or clip or inception:
            raise ValueError("--prompts, --blocks, --clip and --inception belong to bench images: leave them out")
        asked = Edits(prior or "emoji-edit", methods=methods, seeds=seeds or 1, quick=quick)
        print(f"Open {edits(asked, out, workers)}")
        return
    from scoredistill.tasks.images.study import Setting, read_prompts, study

    texts = () if prompts is None else read_prompts(prompts)
    n = 1 if quick else 3 if seeds is None else seeds
    setting = Setting(prior or "emoji", texts, methods, n, blocks, clip, inception, quick)
    print(f"Open {study(setting, out, workers)}")


def prior(
    action: Positional[Literal["list", "show", "evaluate", "train"]],
    name: Positional[str] = "emoji",
    data: Path = Path("runs/emoji-data"),
    out: Path | None = None,
    sheet: Path | None = None,
    seeds: int = 8,
) -> None:
    """Know the diffusion models: list the bundled ones, show or evaluate one, or train them anew.

    Args:
        action: list, show, evaluate (figures as JSON), or train (see: scoredistill prior train --help).
        name: The model: a bundled name, or a folder; to show, also clip.
        data: Folder of the emoji data, fetched when it is empty.
        out: File for the figures; they are printed as well.
        sheet: Picture file for what the model makes of the common prompts, or of held-out pictures.
        seeds: Samples of each prompt.
    """
    from scoredistill.priors import pipelines

    if action == "list":
        for bundled in pipelines.BUNDLED:
            print(f"{bundled}\t{pipelines.bundled_folder(bundled)}")
    elif action == "show":
        print(_card(pipelines.bundled_folder(name) if name == "clip" else Path(pipelines.prior_folder(name))))
    elif action == "evaluate":
        folder = pipelines.prior_folder(name)
        if seeds < 1:
            raise ValueError(f"seeds must be at least 1, not {seeds}")
        for option, given in (("out", out), ("sheet", sheet)):
            if given is not None and given.is_dir():
                raise ValueError(f"{given} is a folder: give a file for --{option}")
        from scoredistill.priors.evaluate import evaluate
        from scoredistill.priors.evaluate import sheet as draw

        if sheet is not None:
            sheet.parent.mkdir(parents=True, exist_ok=True)
            draw(folder, data, sheet)
        figures = evaluate(folder, data, pipelines.bundled_folder("clip"), seeds)
        made = {"command": f"scoredistill prior evaluate {name}", "seeds": seeds, "date": str(date.today())}
        text = json.dumps({**made, "version": __version__, "figures": figures}, indent=2)
        if out is not None:
            out.parent.mkdir(parents=True, exist_ok=True)
            out.write_text(text + "\n")
        print(text)


def _card(folder: Path) -> str:
    card = folder / "README.md"
    if not card.is_file():
        raise ValueError(f"{folder} has no model card (README.md)")
    return card.read_text()


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of `scoredistill`."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")  # its advice on torchvision is not for our users
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if arguments == ["--version"]:
        print(f"scoredistill {__version__}")
        return
    try:
        _dispatch(arguments)
    except KeyboardInterrupt:
        on, resumed = "the same command goes on", "the same command with --resume goes on"
        again = {"image": resumed, "edit": resumed, "toy": on, "bench": on}.get(arguments[0])
        hint = f"; what is finished is kept, and {again}" if again else ""
        _stop(f"interrupted{hint}", 130)
    except BrokenPipeError:
        sys.exit(1)
    except (ValueError, FloatingPointError, OSError) as error:
        if os.environ.get("SCOREDISTILL_TRACEBACK"):
            raise
        _stop(" ".join(str(error).split()), 2 if isinstance(error, ValueError) else 1)
    except RuntimeError as error:
        if type(error).__name__ != "OutOfMemoryError":
            raise
        _stop(
            "the device is out of memory: use fewer --particles, --image latents, or to edit a smaller --size",
            1,
        )


def _dispatch(arguments: list[str]) -> None:
    if arguments[:2] == ["prior", "train"]:
        from scoredistill.priors.train.__main__ import main as train

        train(arguments[2:])
        return
    commands: dict[str, Any] = {"image": image, "edit": edit, "demo": demo, "toy": toy, "bench": bench, "prior": prior}
    tyro.extras.subcommand_cli_from_dict(
        commands,
        prog="scoredistill",
        description="Score distillation: a diffusion model, used as a critic, shapes anything that can be rendered.",
        args=arguments or ["--help"],
    )


def _stop(sentence: str, code: int) -> None:
    print(f"scoredistill: {sentence}", file=sys.stderr)
    sys.exit(code)
