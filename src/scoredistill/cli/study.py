"""The commands `toy` and `bench`, which run studies."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tyro.conf import OmitArgPrefixes, Positional

from scoredistill.cli.options import CommandPrior, opened, refuse
from scoredistill.tasks.output_paths import RUNS
from scoredistill.tasks.request import loading


@dataclass(frozen=True, kw_only=True)
class Machines:
    """Several machines, see docs/many_machines.md.

    Attributes:
        shard: Measure one share of the study, such as 2/3. Shards write into one output directory, on any machines, and
            the same command without --shard then writes the report.
        executor: Measure by submitit, in as many tasks as workers: slurm (an array of jobs), local (processes) or debug
            (this process). The command waits for them and writes the report. Needs scoredistill[cluster].
        executor_options: Parameters of submitit's executor as NAME=VALUE, for example timeout_min=60
            slurm_partition=gpu gpus_per_node=1.
    """

    shard: str | None = None
    executor: str | None = None
    executor_options: tuple[str, ...] = ()

    def given(self) -> dict[str, Any]:
        """The arguments of a study that they stand for.

        Raises:
            ValueError: for what does not exist.
        """
        from scoredistill.studies.harness.cluster import Cluster
        from scoredistill.studies.harness.shards import Shard

        if self.executor is None and self.executor_options:
            raise ValueError("--executor-options belong to --executor: give it too")
        where = {} if self.executor is None else {"cluster": Cluster(self.executor, self.executor_options)}
        return where if self.shard is None else {**where, "shard": Shard.parse(self.shard)}

    def ending(self, found: Path) -> str:
        """What a command says at its end of the path that a study returned."""
        if self.shard is None:
            return f"Open {found}"
        return f"Shard {self.shard} is in {found}; after all shards, the same command without --shard writes the report"

    def opened(self, found: Path) -> dict[str, Any]:
        """Print the last lines of a command that a study returned a path to. Returns what --json prints."""
        if self.shard is None:
            return opened(found)
        print(self.ending(found))
        return {"out": str(found), "shard": self.shard}


ALONE = Machines()


def toy(
    out: Path | None = None,
    set: tuple[str, ...] = (),
    method: tuple[str, ...] = (),
    denoiser: tuple[str, ...] = (),
    seeds: int | None = None,
    seed: int = 0,
    quick: bool = False,
    workers: int = 2,
    machines: OmitArgPrefixes[Machines] = ALONE,
    progress: bool = True,
) -> dict[str, Any]:
    """Compare the estimators on distributions in the plane whose scores are known exactly.

    Args:
        out: Output directory of results.json, report.html and images; runs/toy by default, or with a number behind if a
            study with other settings lies there. The same command continues an interrupted study.
        set: Distributions: fractal, spiral, pinwheel; all by default.
        method: Methods, for example ddim sds msd collaborative my_file.py:Mine; by default all, and landscapes,
            gradients and the ranking as well.
        denoiser: Denoisers: exact (closed form), ideal (of samples), learned (a small network, trained when first
            needed).
        seeds: Number of repetitions with different random seeds; 4 by default, 1 with --quick.
        seed: First random seed; repetitions have the seeds that follow. Another one than 0 repeats the study with seeds
            on which no setting was chosen.
        quick: A small version of the whole study, under three minutes.
        workers: Number of processes, of one thread each.
        machines: Several machines.
        progress: Show a progress bar.
    """
    from scoredistill.studies.toy2d.study import Setting, study

    given = {"sets": set, "methods": method, "denoisers": denoiser}
    n = (1 if quick else 4) if seeds is None else seeds
    setting = Setting(**{k: v for k, v in given.items() if v}, seeds=n, seed=seed, quick=quick)
    page = study(setting, out or study.place(setting, RUNS / "toy"), workers, progress, **machines.given())
    return machines.opened(page)


def bench(
    what: Positional[Literal["images", "edits", "objects", "scenes", "collaboration"]],
    out: Path | None = None,
    prior: str | None = None,
    prompts: Path | None = None,
    methods: tuple[str, ...] = (),
    blocks: tuple[str, ...] = (),
    seeds: int | None = None,
    seed: int = 0,
    clip: str | None = None,
    inception: bool = False,
    quick: bool = False,
    workers: int = 2,
    machines: OmitArgPrefixes[Machines] = ALONE,
    progress: bool = True,
    *,
    load: OmitArgPrefixes[CommandPrior],
) -> dict[str, Any]:
    """Compare all methods with error bars, at their own settings and at equal cost, against a known ground truth.

    Args:
        what: The study. images: text to 2-D, as in the mean-shift paper (ground truth: DDIM samples). edits: images and
            videos edited by CSD-Edit and its alternatives (ground truth: the procedural edit); needs
            scoredistill[bench]. objects: text to 3-D. scenes: scenes edited by instruction (ground truth: the
            procedural edit of true views); needs scoredistill[scenes]. collaboration: when windows and frames agree on
            one of many right answers, with editors whose scores are exact (ground truth: the answers).
        out: Output directory of results.json, report.html, tables.md and images, with the results so far in
            preview.png; runs/bench-WHAT by default, or with a number behind if a study with other settings lies there.
            The same command continues an interrupted study.
        prior: emoji or emoji-edit (bundled), a directory with a diffusers pipeline, or a hub name.
        prompts: File with one prompt per line, for images and objects; by default some that the bundled prior knows.
        methods: For example ddim sds msd, or csd windows my_file.py:Mine; by default all but sdi_published (objects:
            sds sdi msd csd), and everything that belongs to no method as well.
        blocks: Settings of images: mlp, latents, mlp_equal, latents_equal, ideal, ablation; all by default.
        seeds: Number of images (in blocks that have no number of their own) or objects per prompt, 3 by default; or
            of runs per edit, 1 by default; or of runs of each method, 24 by default (collaboration; 8 with --quick). 1
            with --quick.
        seed: First random seed; repetitions have the seeds that follow. Another one than 0 repeats the study with seeds
            on which no setting was chosen.
        clip: CLIP model of the evaluation: a directory or hub name; the bundled one by default.
        inception: Compute the FID of the literature as well; needs torch-fidelity, which downloads Inception's weights.
        quick: Four prompts with ddim, sds and msd; or two images, two instructions and one clip; or two objects with
            sds and msd; or one scene with csd and one_view. Some minutes.
        workers: Number of processes, of one thread each.
        progress: Show a progress bar.
        load: How the prior is loaded, in every process.
        machines: Several machines.
    """
    if what != "images" and (blocks or clip or inception):
        raise ValueError("--blocks, --clip and --inception belong to bench images: leave them out")
    if what == "collaboration":
        refuse("bench collaboration, whose editors are its own,", prior=prior, **loading(load))
    if what in ("edits", "scenes", "collaboration") and prompts is not None:
        raise ValueError("--prompts belongs to bench images and bench objects: leave it out")
    asked = {"methods": methods, "seed": seed, "quick": quick}
    if what != "collaboration":
        asked |= {"prior": prior or ("emoji-edit" if what in ("edits", "scenes") else "emoji"), "load": load}
    if what == "images":
        asked |= {"blocks": blocks, "clip": clip, "inception": inception}
    study, setting = STUDIES[what](seeds, prompts, asked)
    page = study(setting, out or study.place(setting, RUNS / f"bench-{what}"), workers, progress, **machines.given())
    return machines.opened(page)


Chosen = tuple[Any, Any]  # a study and its setting; studies are imported late, because they import all tasks


def _images(seeds: int | None, prompts: Path | None, asked: dict[str, Any]) -> Chosen:
    from scoredistill.studies.text_to_image.blocks import BLOCKS
    from scoredistill.studies.text_to_image.study import Setting, read_prompts, study

    texts, blocks = () if prompts is None else read_prompts(prompts), asked["blocks"]
    if seeds is not None and blocks and all(name in BLOCKS and BLOCKS[name].images for name in blocks):
        raise ValueError(f"{', '.join(blocks)} has a number of images of its own: leave out --seeds")
    n = (1 if asked["quick"] else 3) if seeds is None else seeds
    return study, Setting(prompts=texts, seeds=n, **asked)


def _edits(seeds: int | None, prompts: Path | None, asked: dict[str, Any]) -> Chosen:
    from scoredistill.studies.editing.study import Setting, study

    return study, Setting(seeds=1 if seeds is None else seeds, **asked)


def _scenes(seeds: int | None, prompts: Path | None, asked: dict[str, Any]) -> Chosen:
    from scoredistill.studies.scene_editing.study import Setting, study

    return study, Setting(seeds=1 if seeds is None else seeds, **asked)


def _objects(seeds: int | None, prompts: Path | None, asked: dict[str, Any]) -> Chosen:
    from scoredistill.studies.text_to_3d.study import Setting, study
    from scoredistill.studies.text_to_image.study import read_prompts

    return study, Setting(prompts=() if prompts is None else read_prompts(prompts), seeds=seeds, **asked)


def _collaboration(seeds: int | None, prompts: Path | None, asked: dict[str, Any]) -> Chosen:
    from scoredistill.studies.collaboration.study import Setting, study

    return study, Setting(runs=seeds, **asked)


STUDIES = {
    "images": _images, "edits": _edits, "objects": _objects, "scenes": _scenes, "collaboration": _collaboration,
}  # fmt: skip
