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
    what: Positional[Literal["images"]],
    out: Path | None = None,
    prior: str = "emoji",
    prompts: Path | None = None,
    methods: tuple[str, ...] = (),
    blocks: tuple[str, ...] = (),
    seeds: int = 3,
    clip: str | None = None,
    inception: bool = False,
    quick: bool = False,
    workers: int = 2,
) -> None:
    """Compare all methods, with error bars, at their own settings and at equal cost; truth: DDIM samples.

    The same command goes on with an interrupted study. Writes results.json, report.html, tables.md and pictures;
    preview.png shows what is there so far.

    Args:
        what: images: text to 2-D, the study of the mean-shift paper.
        out: Folder for all that is written, runs/bench-images by default.
        prior: "emoji" (bundled), a folder with a diffusers pipeline, or a hub name.
        prompts: File with one prompt a line; ten that the bundled prior knows by default.
        methods: For example ddim sds msd; all by default, and then with gradients and bandwidths.
        blocks: Settings: mlp, latents, mlp_equal, latents_equal, ideal, ablation; all by default.
        seeds: Pictures of each prompt; 1 with --quick.
        clip: The CLIP that judges: a folder or hub name; the bundled one by default.
        inception: Also the FID of the literature; needs torch-fidelity, which fetches the weights of Inception.
        quick: Four prompts, ddim, sds and msd, under five minutes.
        workers: Processes, of one thread each.
    """
    from scoredistill.tasks.images.study import Setting, read_prompts, study

    texts = () if prompts is None else read_prompts(prompts)
    setting = Setting(prior, texts, methods, 1 if quick else seeds, blocks, clip, inception, quick)
    print(f"Open {study(setting, out or Path('runs') / f'bench-{what}', workers)}")


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
        on = "the same command goes on"
        again = {"image": "the same command with --resume goes on", "toy": on, "bench": on}.get(arguments[0])
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
        _stop("the device is out of memory: use fewer --particles, or --image latents", 1)


def _dispatch(arguments: list[str]) -> None:
    if arguments[:2] == ["prior", "train"]:
        from scoredistill.priors.train.__main__ import main as train

        train(arguments[2:])
        return
    commands: dict[str, Any] = {"image": image, "demo": demo, "toy": toy, "bench": bench, "prior": prior}
    tyro.extras.subcommand_cli_from_dict(
        commands,
        prog="scoredistill",
        description="Score distillation: a diffusion model, used as a critic, shapes anything that can be rendered.",
        args=arguments or ["--help"],
    )


def _stop(sentence: str, code: int) -> None:
    print(f"scoredistill: {sentence}", file=sys.stderr)
    sys.exit(code)
