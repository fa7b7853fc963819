"""Commands that compare: `toy` and `bench`."""

from pathlib import Path
from typing import Literal

from tyro.conf import Positional


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

    The same command goes on with an interrupted study. Writes results.json, report.html and images.

    Args:
        out: Folder for all that is written.
        set: Of fractal, spiral, pinwheel; all by default.
        method: For example ddim sds msd collaborative; all by default, and then with landscapes, gradients and ranking.
        denoiser: exact (closed form), ideal (of samples), learned (a small network, trained when first needed).
        seeds: Repetitions of everything that is random; 1 with --quick.
        quick: A small version of the whole, under three minutes.
        workers: Processes, of one thread each.
    """
    from scoredistill.studies.toy2d.study import Setting, study

    given = {"sets": set, "methods": method, "denoisers": denoiser}
    setting = Setting(**{k: v for k, v in given.items() if v}, seeds=1 if quick else seeds, quick=quick)
    print(f"Open {study(setting, out, workers)}")


def bench(
    what: Positional[Literal["images", "edits", "objects", "scenes"]],
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

    The same command goes on with an interrupted study. Writes results.json, report.html, tables.md and images;
    preview.png shows what is there so far.

    Args:
        what: images: text to 2-D, the study of the mean-shift paper (truth: DDIM samples). edits: images and videos
            edited by CSD-Edit and its alternatives (truth: the procedural edit); needs scoredistill[bench]. objects:
            text to 3-D. scenes: posed scenes edited by instruction (truth: the procedural edit of true views); needs
            scoredistill[scenes].
        out: Folder for all that is written, runs/bench-WHAT by default.
        prior: "emoji" or "emoji-edit" (bundled), a folder with a diffusers pipeline, or a hub name.
        prompts: File with one prompt a line; some that the bundled prior knows by default. For images
            and objects.
        methods: For example ddim sds msd, or csd windows; all (objects: sds sdi msd csd) by default, and then with all
            that belongs to no method.
        blocks: Settings of images: mlp, latents, mlp_equal, latents_equal, ideal, ablation; all by default.
        seeds: Images or things of each prompt, 3 by default; or runs of each edit, 1 by default. 1 with --quick.
        clip: The CLIP that judges: a folder or hub name; the bundled one by default.
        inception: Also the FID of the literature; needs torch-fidelity, which fetches the weights of Inception.
        quick: Four prompts, ddim, sds and msd; or two images, two instructions and one clip; or two things by sds and
            msd; or one scene by csd and one_view. Some minutes.
        workers: Processes, of one thread each.
    """
    out = out or Path("runs") / f"bench-{what}"
    if what != "images" and (blocks or clip or inception):
        raise ValueError("--blocks, --clip and --inception belong to bench images: leave them out")
    if what in ("edits", "scenes") and prompts is not None:
        raise ValueError("--prompts belongs to bench images and bench objects: leave it out")
    if what == "edits":
        from scoredistill.studies.editing.study import Setting as Edits
        from scoredistill.studies.editing.study import study as edits

        page = edits(Edits(prior or "emoji-edit", methods=methods, seeds=seeds or 1, quick=quick), out, workers)
    elif what == "scenes":
        from scoredistill.studies.scene_editing.study import Setting as Scenes
        from scoredistill.studies.scene_editing.study import study as scenes

        n = 1 if seeds is None else seeds
        page = scenes(Scenes(prior or "emoji-edit", methods=methods, seeds=n, quick=quick), out, workers)
    elif what == "objects":
        from scoredistill.studies.text_to_3d.study import Setting as Objects
        from scoredistill.studies.text_to_3d.study import study as objects
        from scoredistill.studies.text_to_image.study import read_prompts

        texts = () if prompts is None else read_prompts(prompts)
        page = objects(Objects(prior or "emoji", texts, methods, seeds, quick), out, workers)
    else:
        from scoredistill.studies.text_to_image.study import Setting, read_prompts, study

        texts = () if prompts is None else read_prompts(prompts)
        n = 1 if quick else 3 if seeds is None else seeds
        page = study(Setting(prior or "emoji", texts, methods, n, blocks, clip, inception, quick), out, workers)
    print(f"Open {page}")
