"""The text-to-image study: the jobs, and how their results are gathered."""

from dataclasses import asdict
from functools import partial
from typing import Any

from PIL import Image

from scoredistill.files import slug
from scoredistill.media.images import grid, save_image
from scoredistill.metrics import inception
from scoredistill.studies.harness.jobs import Job, StudyDirectory
from scoredistill.studies.harness.setting import check_text_prior, identity, seeded
from scoredistill.studies.harness.study import Study
from scoredistill.studies.text_to_image import jobs, probes
from scoredistill.studies.text_to_image.blocks import BLOCKS
from scoredistill.studies.text_to_image.gather import Features, crossing, curve, evaluate, images_of
from scoredistill.studies.text_to_image.report import report
from scoredistill.studies.text_to_image.setting import Setting, read_prompts
from scoredistill.studies.text_to_image.tables import tables
from scoredistill.tasks import checks

__all__ = ["Setting", "read_prompts", "study"]

PROBED = 3  # prompts
ROUNDING = 1e-3  # relative error of a Fréchet distance, because images are kept as bytes


def references(setting: Setting) -> list[Job]:
    """The jobs before all others: DDIM samples of each prompt."""
    setup = setting.setup
    return [
        Job(f"reference-{slug(p)}", partial(jobs.reference, setup, p), float(setup.references), required=True)
        for p in setting.prompts
    ]


def plan(setting: Setting) -> list[Job]:
    """All jobs after the references: the probes, then block by block, the most expensive methods of a block first."""
    setup, made = setting.setup, []
    for prompt in setting.prompts[:PROBED] if setting.whole else ():
        for probe, cost in ((probes.bandwidths, 50.0), (probes.gradients, 200.0)):
            name = _probe(probe.__name__, prompt, setting)
            made.append(Job(name, partial(probe, setup, prompt, seed=setting.seed), cost))
    for block, method in sorted(
        setting.table(), key=lambda pair: (setting.blocks.index(pair[0].name), -pair[0].cost(pair[1]))
    ):
        n, owner = setting.images(block), block.base if method in block.shared and block.base else block.name
        for prompt in setting.prompts:
            drawn = partial(jobs.drawn, setup, owner, method, prompt, n, seed=setting.seed)
            name = f"{block.stem(method, n, setting.seed)}-{slug(prompt)}"
            made.append(Job(name, drawn, n * block.cost(method)))
    once = {job.name: job for job in made}  # blocks may share runs
    return list(once.values())


def _probe(kind: str, prompt: str, setting: Setting) -> str:
    """The name of a probe's job."""
    return seeded(f"{kind}-{slug(prompt)}", setting.seed)


def check(setting: Setting) -> None:
    """Refuse what cannot be measured here.

    Raises:
        ValueError: if the prior edits images.
        MissingExtra: if Inception is requested and torch-fidelity is missing, or the package of a method.
    """
    checks.students(setting.methods)
    if setting.inception:
        inception()
    check_text_prior(setting.prior, setting.load)


def key(setting: Setting) -> dict[str, Any]:
    """What all jobs depend on."""
    return {"setup": identity(setting.setup)}


def gather(setting: Setting, directory: StudyDirectory) -> dict[str, Any]:
    """All results as one dictionary; the methods of the first block are also at its top."""
    read, seen = directory.results(), Features(setting.setup, directory.images)
    blocks: dict[str, Any] = {}
    for block, method in setting.table():
        n = setting.images(block)
        stem = block.stem(method, n, setting.seed)
        found = [read.get(f"{stem}-{slug(prompt)}") for prompt in setting.prompts]
        whole = [part for part in found if part is not None]
        if len(whole) < len(found):
            continue  # "failed" says why
        shown = {"description": block.description, "image": block.image, "rows": block.rows, "images": n}
        empty = {"setting": {**shown, "ideal": block.ideal}, "methods": {}, "curves": {}, "files": {}}
        here = blocks.setdefault(block.name, empty)
        here["methods"][method], here["files"][method] = evaluate(seen, stem, whole), stem
        here["curves"][method] = curve(seen, stem, whole[0])
    for here in blocks.values():
        if "sds" in here["methods"]:
            level = (1 + ROUNDING) * here["methods"]["sds"]["fid"]["mean"]
            here["rows_to_sds"] = {m: crossing(c, level) for m, c in here["curves"].items() if c["nfe"]}
    top: dict[str, Any] = next(iter(blocks.values()), {"methods": {}})
    return {
        "setting": asdict(setting) | {"references": setting.setup.references},
        "methods": top["methods"],
        "blocks": blocks,
        **{
            kind: {slug(p): read[name] for p in setting.prompts if (name := _probe(kind, p, setting)) in read}
            for kind in ("gradients", "bandwidths")
        },
    }


def preview(setting: Setting, directory: StudyDirectory) -> None:
    """Write preview.png: the finished images of the first block as an image grid."""
    block = BLOCKS[setting.blocks[0]]
    stems = {
        method: block.stem(method, setting.images(block), setting.seed) for b, method in setting.table() if b is block
    }
    made = {method: images_of(setting.prompts, directory.images, stem) for method, stem in stems.items()}
    found = [(method, pixels[0]) for method, images in made.items() for pixels in images.values()]
    if found:
        images, labels = [Image.fromarray(pixels) for _, pixels in found], [method for method, _ in found]
        save_image(grid(images, columns=len(setting.prompts), labels=labels), directory.out / "preview.png")


study = Study(
    check=check, key=key, first=references, plan=plan, gather=gather, tables=tables, report=report, preview=preview
)
