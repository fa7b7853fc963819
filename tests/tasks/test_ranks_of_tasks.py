"""Tasks on 1, 2 and 4 ranks: the same results and counts, and files of rank 0 alone.

A random editor and a random text-to-image model; all tasks of a number of ranks run in one set of processes.
"""

import json
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import ranked
import tiny
from scoredistill import load_prior
from scoredistill.media.video import Video
from scoredistill.priors import Counted
from scoredistill.ranks import Ranks
from scoredistill.tasks import edit_image, edit_scene, text_to_3d, text_to_image, text_to_svg
from scoredistill.tasks.object_generation import run as objects
from scoredistill.tasks.video_editing.request import VideoRequest
from scoredistill.tasks.video_editing.run import VideoEdit
from scoredistill.three_d.camera import around, orbit
from scoredistill.three_d.capture import Capture
from scoredistill.three_d.encodings import DenseGrid
from scoredistill.three_d.scenes.nerf import Field, NeRF
from scoredistill.three_d.scenes.splats import Splats

pytestmark = ranked.forks

TOLERANCE = 1e-5  # of the largest value, or of 1


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    return load_prior(tiny.stable_diffusion(tmp_path_factory.mktemp("tiny")))


# Networks and scenes are compared by what they render. Their parameters differ more: Adam enlarges the rounding errors
# of gradients that are nearly 0.


def noise(height, width, seed=1):
    rng = torch.Generator().manual_seed(seed)
    return Image.fromarray((torch.rand(height, width, 3, generator=rng) * 255).byte().numpy())


def image(method, **settings):
    """Images of a run, before they are rounded, and its counts."""

    def run(text, editor, folder):
        kept = {}
        result = text_to_image("a", text, method, callback=lambda step: kept.update(images=step.images()), **settings)
        return kept or {"samples": result.samples}, result.counts

    return run


def edit(method, **settings):
    """Latents of an edited image."""

    def run(text, editor, folder):
        result = edit_image(noise(24, 32), "make it night", editor, method, size=16, sweeps=2, **settings)
        return {"latents": result.latents}, result.counts

    return run


def video(text, editor, folder):
    """The latents of the groups of an edited video."""
    frames = Video.of([noise(16, 16, seed) for seed in range(3)])
    asked = VideoRequest("make it night", sweeps=1, flow=1, group=2, overlap=1, size=16)
    with TemporaryDirectory() as kept:
        work = VideoEdit(frames, asked.complete(16), editor, Counted(editor), Path(kept))
        work.edit(progress=False)
        found = {path.stem: load_file(path)["latents"] for path in Path(kept).iterdir()}
    return {**found, "update": torch.tensor(work.update())}, work.counts()


def scene(method):
    """An edited scene and its views."""

    def run(text, editor, folder):
        cameras = around(torch.arange(3) * 120.0, torch.linspace(5, 40, 3), 3.0, 40.0, (16, 16))
        rng = torch.Generator().manual_seed(3)
        fitted = NeRF(Field(DenseGrid((4,), 2, std=1.0, rng=rng), layers=0, blob=(40.0, 0.5), density=50.0, rng=rng), 8)
        with torch.no_grad():
            images = fitted.render(cameras).rgb.clamp(0, 1)
        capture = Capture(images, cameras, ("0.png", "1.png", "2.png"), ())
        quick = {"fit_steps": 3, "edit_steps": 2, "rays": 31, "samples": 4, "sweeps": 1, "rounds": 1}
        result = edit_scene(capture, "make it night", editor, method, **quick)
        return {"views": result.edited, "loss": torch.tensor([row["loss"] for row in result.history])}, result.counts

    return run


def thing(method, **settings):
    """Views of an object; of splats, which start round, so that the gradient of rotations is 0, other parameters."""

    def run(text, editor, folder):
        quick = {"steps": 2, "views": 3, "size": 16, "follow": 2, "elevation": (0.0, 40.0), **settings}
        result = text_to_3d("a", text, method, **quick)
        if isinstance(result.scene, Splats):
            return {name: getattr(result.scene, name).detach() for name in ("means", "colors")}, result.counts
        with torch.no_grad():
            views = result.scene.render(orbit(3, 10.0, size=(16, 16))).rgb
        return {"views": views}, result.counts

    return run


def drawing(text, editor, folder):
    """Icons as they are rendered at the end."""
    kept = {}
    keep = lambda step: kept.update(images=step.generator(step.views).detach())
    result = text_to_svg(["a", "b"], text, "csd", paths=3, init="noise", colors=0, steps=2, follow=1, callback=keep)
    return kept, result.counts


def written(text, editor, folder):
    """Files of a run with an output directory, which only rank 0 writes."""
    here = folder / f"{Ranks.here().size}"
    result = text_to_image("a", text, "sds", steps=2, particles=3, image="latents", out=here, progress=True)
    ranks = Ranks.here()
    ranks.first(lambda: None)
    return {"latents": result.samples}, result.counts


CASES = {
    "msd of networks": image("msd_draws", particles=3, image="mlp", follow=2, steps=1),
    "msd of latents": image("msd", particles=3, image="latents", steps=3),
    "csd of latents": image("csd", particles=3, image="latents", steps=2),
    "csd of pixels": image("csd", particles=3, image="pixels", steps=2, through="encoder"),
    "collaborative": image("collaborative", particles=3, image="latents", steps=2),
    "ddim": image("ddim", particles=3, steps=2),
    "edit, csd": edit("csd", particles=3),
    "edit, csd_affine": edit("csd_affine"),
    "edit, windows": edit("windows"),
    "video": video,
    "scene, csd": scene("csd"),
    "scene, one_view": scene("one_view"),
    "object, sds": thing("sds", orientation=1.0, sparsity=1.0, shading="mixed", background="random"),
    "object, csd": thing("csd"),
    "object, splats": thing("msd", shape="splats", steps=1, follow=1),
    "drawing": drawing,
    "written": written,
}


FEW = ("csd of latents", "edit, csd", "scene, csd", "object, csd", "written")
PAIRS = [(2, name) for name in CASES] + [(4, name) for name in FEW]


def every(names, text, editor, folder):
    objects.RAYS, objects.SPLATS = 6, 60
    return {name: CASES[name](text, editor, folder) for name in names}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def alone(text, prior, folder):
    with pytest.MonkeyPatch.context() as patch:
        for name in ("RAYS", "SPLATS"):
            patch.setattr(objects, name, 1)  # is set, and set back after the test
        return every(CASES, text, prior, folder)


@pytest.fixture(scope="module")
def several(text, prior, folder):
    """Number of ranks -> what each of them finds."""
    return {n: ranked.run(n, every, names, text, prior, folder) for n, names in ((2, list(CASES)), (4, FEW))}


@pytest.mark.parametrize(("n", "name"), PAIRS)
def test_results_and_counts_do_not_depend_on_the_number_of_ranks(alone, several, n, name):
    values, counts = alone[name]
    for found in several[n]:
        made, counted = found[name]
        assert counted == counts
        assert set(made) == set(values)
        for key, value in values.items():
            assert (made[key] - value).abs().max() <= TOLERANCE * max(1.0, float(value.abs().max())), key


@pytest.mark.parametrize("n", [2, 4])
def test_only_rank_0_writes(alone, several, folder, n):
    runs = [sorted(path.name for path in (folder / f"{k}").iterdir()) for k in (1, n)]
    assert runs[0] == runs[1]
    rows = [(folder / f"{k}" / "metrics.jsonl").read_text().splitlines() for k in (1, n)]
    assert [len(each) for each in rows] == [2, 2]
    assert json.loads(rows[1][1])["grad_norm"] == pytest.approx(json.loads(rows[0][1])["grad_norm"], rel=1e-4)
