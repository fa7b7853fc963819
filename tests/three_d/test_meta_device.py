"""Scenes, ideal denoisers and nested priors read no value in the loop: all on PyTorch's `meta` device.

See tests/test_meta_device.py for the idea and for everything else. Where the CPU leaves work out and other devices do
not, both give the same numbers.
"""

from dataclasses import replace

import pytest
import torch

from scoredistill import distill
from scoredistill.estimators import Batch, Decoded
from scoredistill.estimators.methods import DDS, MSD, SDS, CSDEdit
from scoredistill.generators import Encoded
from scoredistill.priors import Empirical, Guided, PerpNeg, Prior
from scoredistill.priors.windowed import Windowed
from scoredistill.schedule import Flow, per_sample
from scoredistill.three_d import Field, NeRF, Splats
from scoredistill.three_d.camera import around, orbit
from scoredistill.three_d.encodings import DenseGrid, HashGrid, TriPlane
from scoredistill.three_d.fitting import PosedImages, fit
from scoredistill.three_d.scenes.base import Look, Penalties
from scoredistill.three_d.splatting import composite, rasterizer
from scoredistill.window_grid import Layout

META = torch.device("meta")
ALL_LOOKS = {
    "background": None,
    "shading": {"albedo": 1.0, "lambertian": 1.0, "textureless": 1.0, "normal": 1.0},
    "penalties": Penalties(0.1, 0.1, 0.1, 0.1),
}


class Conditional(Prior):
    """A latent prior of one channel that predicts noise like its input and has a null condition."""

    def __init__(self):
        self.schedule = Flow()

    def eps(self, x_t, t, cond=None):
        return torch.zeros_like(x_t) + per_sample(t, x_t)

    def null(self, cond):
        return {name: torch.zeros_like(value) for name, value in cond.items()}

    def encode_image(self, images):
        return images[:, :1, ::2, ::2]

    def decode(self, latents):
        return latents.repeat(1, 3, 1, 1).repeat_interleave(2, 2).repeat_interleave(2, 3)


def nerf(encoding, **options):
    return NeRF(Field(encoding, hidden=4, layers=1), samples=4, size=(4, 4), image=(8, 8), seed=0, **options)


SCENES = {
    "nerf": lambda: nerf(DenseGrid((2, 3), 2)),
    "nerf, all looks, in chunks": lambda: nerf(DenseGrid((2, 3), 2), chunk=64, **ALL_LOOKS),
    "nerf, hash grid": lambda: nerf(HashGrid(2, 2, 2**6, 2, 4, backend="torch"), background="random"),
    "nerf, planes": lambda: nerf(TriPlane((2, 3), 2)),
    "splats": lambda: Splats(9, size=(4, 4), image=(8, 8)),
    "splats, all looks": lambda: Splats(9, degree=1, size=(4, 4), image=(8, 8), **ALL_LOOKS),
}


@pytest.mark.parametrize("name", SCENES)
def test_loops_over_scenes_read_nothing(name):
    scene, prior = SCENES[name]().to(META), Conditional()
    generator = Encoded(scene, prior) if name in ("nerf", "splats") else scene
    for step in distill(generator, prior, SDS(), steps=2, particles=2):
        assert step.grad_norm.device == META
    assert scene.device == META


def test_fits_read_nothing():
    views = PosedImages(torch.zeros(3, 3, 4, 4), orbit(3, size=(4, 4)), torch.zeros(3, 1, 4, 4), torch.ones(3, 1, 4, 4))
    for name in ("nerf", "splats"):
        for step in fit(SCENES[name]().to(META), views.to(META), steps=2, rays=8):
            assert step.loss.device == META


def test_counters_stay_on_the_host_and_in_the_state():
    scene = SCENES["nerf"]()
    list(distill(scene, Conditional(), SDS(), steps=3, particles=1))
    state = scene.state_dict()
    assert (int(state["count"]), int(state["occupancy.count"])) == (3, 1)
    moved = scene.to(META)
    assert int(moved.count) == 3
    assert moved.occupancy.count.device.type == "cpu"
    assert moved.occupancy.memory.device == META
    again = SCENES["nerf"]()
    again.load_state_dict(state)
    assert int(again.count) == 3


@pytest.mark.parametrize("normals", [False, True])
def test_samples_that_are_left_out_count_for_nothing(normals):
    """Values and gradients with and without leaving samples out."""
    torch.manual_seed(1)  # of the field's layers
    cameras, found = orbit(2, 20.0, size=(5, 6)), []
    scene = nerf(DenseGrid((2, 3), 2, rng=torch.Generator().manual_seed(0)), **ALL_LOOKS)
    scene.occupancy.update(lambda points: torch.where(points[:, 0] > 0, 50.0, 0.0))
    for scene.compact in (True, False):
        with torch.no_grad():
            still = scene.render(cameras, Look(shading=torch.tensor([1.0, 3.0])), normals)
        scene.count.fill_(1)  # no update of the grid, and the same positions
        scene.zero_grad()
        scene.trace(*(v.reshape(-1, 3) for v in cameras.rays()))["rgb"].sum().backward()
        found.append((still.rgb, still.depth, [p.grad.clone() for p in scene.field.parameters()]))
    torch.testing.assert_close(found[1], found[0])
    assert found[0][2][0].abs().max() > 1e-4


def test_gaussians_that_are_left_out_count_for_nothing(monkeypatch):
    """Some behind the camera, some too faint; values and gradients with and without leaving them out."""
    camera, found = around(torch.tensor([10.0]), size=(6, 5)), []
    splats = Splats(12, radius=0.4, rng=torch.Generator().manual_seed(0))
    with torch.no_grad():
        splats.means[:4, 1] -= 4  # behind
        splats.opacities[4:6] = -40
        splats.scales -= 1
    for dense in (False, True):
        if dense:
            front = lambda g: (g.means - camera.eyes) @ camera.forward[0]
            some = splats.gaussians()
            order = front(some).detach().argsort()
            kept = replace(some, **{n: getattr(some, n)[order] for n in some.__dataclass_fields__})
            hidden = rasterizer._hidden(kept, front(kept) > 0.2, camera)
            every = lambda seen, width, chunk: iter([(slice(0, len(seen)), torch.arange(seen.shape[1]))])
            monkeypatch.setattr(composite, "_strips", every)
            monkeypatch.setattr(splats, "gaussians", lambda hidden=hidden: hidden)
        splats.zero_grad()
        rendering = splats.render(camera)
        rendering.rgb.square().sum().backward()
        found.append((rendering.rgb, rendering.depth, [p.grad for p in splats.parameters()]))
    torch.testing.assert_close(found[1][:2], found[0][:2], atol=1e-6, rtol=1e-5)
    for a, b in zip(found[1][2], found[0][2], strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-4)


def empirical(monkeypatch, device, labels=None):
    monkeypatch.setattr("scoredistill.priors.empirical.RANK", 2)  # so that few data are screened
    data = torch.randn(16, 1, 3, 3, generator=torch.Generator().manual_seed(0)).to(device)
    return Empirical(data, labels if labels is None or isinstance(labels, list) else labels.to(device), Flow())


LABELS = {
    "none": None, "classes": torch.arange(16) % 3, "texts": [{"even" if i % 2 else "odd", str(i)} for i in range(16)],
}  # fmt: skip


@pytest.mark.parametrize("name", LABELS)
def test_ideal_denoisers_of_many_data_read_nothing(monkeypatch, name):
    prior = empirical(monkeypatch, META, LABELS[name])
    x, t = torch.empty(2, 1, 3, 3, device=META), torch.full((2,), 0.1, device=META)
    cond = None if name == "none" else {"label": torch.zeros(1, dtype=torch.long, device=META)}
    if name == "texts":
        cond = prior.encode_text(["odd"])
    used = prior if cond is None else Guided(prior, 7.5)
    for method in (DDS(), MSD()):
        grad = method(used, Batch(x, cond, torch.empty_like(x), cond), t, torch.Generator().manual_seed(0)).grad
        assert (grad.device, grad.shape) == (META, x.shape)


@pytest.mark.parametrize("name", LABELS)
def test_without_the_screen_ideal_denoisers_are_the_same(monkeypatch, name):
    prior = empirical(monkeypatch, "cpu", LABELS[name])
    assert prior._screen is not None
    x, t = torch.randn(3, 1, 3, 3, generator=torch.Generator().manual_seed(1)), torch.full((3,), 0.05)
    cond = None if name == "none" else {"label": torch.tensor([0, 1, -1])}
    screened, prior._screen = prior.eps(x, t, cond), None
    torch.testing.assert_close(prior.eps(x, t, cond), screened)
    if name == "texts":
        row = prior._membership()
        assert row.shape == (18, 16)
        assert [row[i].sum().item() for i in range(18)] == [len(c) for c in prior._carriers]
        assert row[prior.names.index("odd")].tolist() == [i % 2 == 0 for i in range(16)]


@pytest.mark.parametrize(
    "method", [SDS(), Decoded(SDS()), CSDEdit(), Decoded(MSD())], ids=["SDS", "Decoded SDS", "CSDEdit", "Decoded MSD"]
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_nested_priors_read_nothing(method, dtype):
    """Perp-Neg inside and around windows, with a negative that depends on the condition."""
    text = {"text": torch.empty(1, 3, device=META, dtype=dtype)}
    negatives = [({"text": text["text"]}, -1.0), (lambda cond: {"text": cond["text"] + 1}, 0.5)]
    images = isinstance(method, Decoded)
    x = torch.empty(2, *((3, 16, 16) if images else (1, 8, 8)), device=META, dtype=dtype)
    layout, t = Layout((8, 8), (4, 4), (2, 2)), torch.full((2,), 0.5, device=META)
    for prior in (
        Windowed(PerpNeg(Conditional(), 7.5, negatives), layout),
        PerpNeg(Windowed(Conditional(), layout), 7.5, negatives),
        Windowed(Guided(Conditional(), 7.5), layout, (1, 2)),
    ):
        grad = method(prior, Batch(x, text, torch.empty_like(x), text), t, torch.Generator().manual_seed(0)).grad
        assert (grad.device, grad.dtype, grad.shape) == (META, dtype, x.shape)
