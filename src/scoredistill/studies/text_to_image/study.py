"""The study: what is asked for, the jobs that answer it, and the results that come of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image

from scoredistill import __version__
from scoredistill.media.images import grid
from scoredistill.metrics import inception
from scoredistill.studies.harness.jobs import Job, Parts, write_json
from scoredistill.studies.harness.setting import loaded, slug
from scoredistill.studies.text_to_image import jobs, probes
from scoredistill.studies.text_to_image.blocks import BLOCKS, METHODS, PROMPTS, QUICK_METHODS, QUICK_PROMPTS, Block
from scoredistill.studies.text_to_image.gather import Seen, crossing, curve, figures, images_of
from scoredistill.studies.text_to_image.report import report
from scoredistill.studies.text_to_image.tables import markdown
from scoredistill.tasks.run_directory import command_line

REFERENCES, QUICK_REFERENCES = 32, 12
ROUNDING = 1e-3  # of a Fréchet distance, by images being kept as bytes


@dataclass(frozen=True)
class Setting:
    """What to measure.

    Args:
        prior: for `load_prior`.
        prompts: what the images show; those of the paper that the bundled prior knows, by default.
        methods: of `METHODS`; all by default, and then with the ablations, gradients and bandwidths.
        seeds: images of each prompt by each method.
        blocks: names of `BLOCKS`.
        clip: folder or hub name of the CLIP that judges; the bundled one by default.
        inception: compute FIDs in Inception's features too (`metrics.inception`).
        quick: few prompts, seeds and methods, one block.
    """

    prior: str = "emoji"
    prompts: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()
    seeds: int = 3
    blocks: tuple[str, ...] = ()
    clip: str | None = None
    inception: bool = False
    quick: bool = False

    def complete(self) -> Setting:
        """The same with every default filled in.

        Raises:
            ValueError: for what does not exist, in one sentence.
        """
        full = replace(
            self,
            prompts=self.prompts or (QUICK_PROMPTS if self.quick else PROMPTS),
            methods=self.methods or (QUICK_METHODS if self.quick else tuple(METHODS)),
            blocks=self.blocks or self._usual_blocks(),
        )
        for what, given, known in (("method", full.methods, METHODS), ("block", full.blocks, BLOCKS)):
            if unknown := [name for name in given if name not in known]:
                raise ValueError(f"unknown {what} {', '.join(unknown)}: use any of {', '.join(known)}")
        if full.seeds < 1:
            raise ValueError(f"seeds must be at least 1, not {full.seeds}")
        names = [slug(prompt) for prompt in full.prompts]
        if not all(names):
            raise ValueError("a prompt is empty: say what its images show")
        if len(set(names)) < len(names):
            raise ValueError("two prompts are the same: give each once")
        if len(names) < 2:
            raise ValueError("one prompt is no set of images: give at least two")
        return full

    def _usual_blocks(self) -> tuple[str, ...]:
        """The first if quick; where methods are chosen, those that compare methods; all otherwise."""
        if self.quick:
            return tuple(BLOCKS)[:1]
        return tuple(
            name for name, block in BLOCKS.items() if not self.methods or set(block.methods) & set(METHODS) - {"msd"}
        )

    @property
    def world(self) -> jobs.World:
        """What all jobs share."""
        references = QUICK_REFERENCES if self.quick else REFERENCES
        return jobs.World(self.prior, self.clip, self.prompts, references, self.inception)

    @property
    def whole(self) -> bool:
        """Whether all is asked for: then what belongs to no method is measured too."""
        return not self.quick and set(self.methods) >= set(METHODS) and set(self.blocks) >= set(BLOCKS)

    def images(self, block: Block) -> int:
        """Images of each prompt in a block."""
        return self.seeds if block.images is None else block.images

    def table(self) -> list[tuple[Block, str]]:
        """All pairs of block and method."""
        pairs = [(BLOCKS[name], method) for name in self.blocks for method in BLOCKS[name].methods]
        return [(b, m) for b, m in pairs if m not in b.without and (m in self.methods or m not in METHODS)]


def read_prompts(file: Path) -> tuple[str, ...]:
    """The lines of a text file that are not empty.

    Raises:
        ValueError: if it is no such file.
    """
    try:
        prompts = tuple(line.strip() for line in file.read_text(encoding="utf-8").splitlines() if line.strip())
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"cannot read prompts from {file}: give a text file with one prompt a line") from error
    if not prompts:
        raise ValueError(f"{file} holds no prompt: write one a line")
    return prompts


def plan(setting: Setting) -> list[Job]:
    """All jobs but the references: the probes, then block by block, the dearest of a block first."""
    world, made = setting.world, []

    def add(name: str, cost: float, function: Callable[..., dict[str, Any]], *arguments: Any) -> None:
        made.append(Job(name, partial(function, world, *arguments), cost))

    if setting.whole:
        for prompt in setting.prompts[:3]:
            add(f"bandwidths-{slug(prompt)}", 50.0, probes.bandwidths, prompt)
            add(f"gradients-{slug(prompt)}", 200.0, probes.gradients, prompt)
    for block, method in sorted(
        setting.table(), key=lambda pair: (setting.blocks.index(pair[0].name), -pair[0].cost(pair[1]))
    ):
        n, owner = setting.images(block), block.base if method in block.shared and block.base else block.name
        for prompt in setting.prompts:
            name = f"{block.stem(method, n)}-{slug(prompt)}"
            add(name, n * block.cost(method), jobs.drawn, owner, method, prompt, n)
    once = {job.name: job for job in made}  # blocks may share runs
    return list(once.values())


def study(setting: Setting, out: Path, workers: int = 2, progress: bool = True) -> Path:
    """Run the study and write results.json, tables.md, report.html and the images.

    Args:
        out: folder; what is finished there already, with the same prior, prompts and judge, is kept.
        workers: processes; each computes with one thread.

    Returns:
        The report.

    Raises:
        ValueError: for impossible settings, or if `out` cannot be used, before any work.
    """
    if workers < 1:
        raise ValueError(f"workers must be at least 1, not {workers}")
    setting = setting.complete()
    world = setting.world
    if setting.inception:
        inception()
    if loaded(setting.prior).needs_source:
        raise ValueError(f"{setting.prior} edits images: to make them from text use a model such as emoji")
    parts = Parts(out, {"world": asdict(world)})
    first = [
        Job(f"reference-{slug(p)}", partial(jobs.reference, world, p), float(world.references)) for p in setting.prompts
    ]
    if failed := parts.measure(first, workers, progress):
        raise ValueError(f"the references failed: {next(iter(failed.values()))}")
    failed = parts.measure(plan(setting), workers, progress, after=lambda name: _preview(setting, parts))
    results = gather(setting, parts, failed)
    write_json(out / "results.json", results)
    (out / "tables.md").write_text(markdown(results))
    return report(results, Seen(world, parts.images), out)


def gather(setting: Setting, parts: Parts, failed: dict[str, str]) -> dict[str, Any]:
    """All results as one dictionary; that of the first block is also at its top."""
    read, seen = parts.read(), Seen(setting.world, parts.images)
    blocks: dict[str, Any] = {}
    for block, method in setting.table():
        n = setting.images(block)
        stem = block.stem(method, n)
        found = [read.get(f"{stem}-{slug(prompt)}") for prompt in setting.prompts]
        whole = [part for part in found if part is not None]
        if len(whole) < len(found):
            continue  # of those that are not there, "failed" tells why
        says = {"says": block.says, "image": block.image, "rows": block.rows, "images": n, "ideal": block.ideal}
        here = blocks.setdefault(block.name, {"setting": says, "methods": {}, "curves": {}, "files": {}})
        here["methods"][method], here["files"][method] = figures(seen, stem, whole), stem
        here["curves"][method] = curve(seen, stem, whole[0])
    for found in blocks.values():
        if "sds" in found["methods"]:
            level = (1 + ROUNDING) * found["methods"]["sds"]["fid"]["mean"]
            found["rows_to_sds"] = {m: crossing(c, level) for m, c in found["curves"].items() if c["nfe"]}
    top: dict[str, Any] = next(iter(blocks.values()), {"methods": {}})
    return {
        "setting": asdict(setting) | {"references": setting.world.references},
        "methods": top["methods"],
        "command": command_line(),
        "date": str(date.today()),
        "version": __version__,
        "seconds": round(parts.seconds, 1),
        "failed": failed,
        "blocks": blocks,
        **{
            kind: {name.removeprefix(f"{kind}-"): part for name, part in read.items() if name.startswith(f"{kind}-")}
            for kind in ("gradients", "bandwidths")
        },
    }


def _preview(setting: Setting, parts: Parts) -> None:
    """What is finished of the first block, as an image grid: preview.png."""
    block = BLOCKS[setting.blocks[0]]
    stems = {method: block.stem(method, setting.images(block)) for b, method in setting.table() if b is block}
    image_grid = {method: images_of(setting.world, parts.images, stem) for method, stem in stems.items()}
    found = [(m, p, pixels[0]) for m, made in image_grid.items() for p, pixels in made.items()]
    if found:
        images = [Image.fromarray(pixels) for _, _, pixels in found]
        grid(images, columns=len(setting.prompts), labels=[m for m, _, _ in found]).save(parts.out / "preview.png")
