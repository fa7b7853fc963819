"""The guidance module of threestudio, against its interface as of its public sources: `register`, `BaseObject`, `C`,
`PromptProcessorOutput`."""

import dataclasses
import importlib.util
import sys
import types
from pathlib import Path

import pytest
import torch

import tiny
import tiny_flow
from scoredistill.estimators import SDS, Batch
from scoredistill.priors import Guided

FILE = Path(__file__).parents[2] / "integrations" / "threestudio_scoredistill.py"


@pytest.fixture
def guidance(monkeypatch):
    """The module, imported beside a stand-in for threestudio, and what it registers."""
    registered = {}

    class BaseObject:
        @dataclasses.dataclass
        class Config:
            pass

        def __init__(self, cfg=None, *args, **kwargs):
            self.cfg = self.Config(**(cfg or {}))
            self.device = torch.device("cpu")
            self.configure(*args, **kwargs)

    def schedule(value, epoch, global_step):
        """Numbers, or [start step, start value, end value, end step]."""
        if isinstance(value, (int, float)):
            return value
        first, start, end, last = value
        return start + (end - start) * max(min(1.0, (global_step - first) / (last - first)), 0.0)

    stands = {
        "threestudio": {"register": lambda name: lambda cls: registered.setdefault(name, cls)},
        "threestudio.utils": {},
        "threestudio.utils.base": {"BaseObject": BaseObject},
        "threestudio.utils.misc": {"C": schedule},
    }
    for name, content in stands.items():
        module = types.ModuleType(name)
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, name, module)
    spec = importlib.util.spec_from_file_location("threestudio_scoredistill", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return registered["scoredistill-guidance"]


@dataclasses.dataclass
class Direction:
    name: str
    condition: object


class Prompts:
    """As `PromptProcessorOutput`: embeddings by view, the conditional ones first."""

    def __init__(self, text, uncond, texts):
        self.text, self.uncond, self.prompts_vd, self.prompt = text, uncond, texts, "an owl"
        self.directions = [
            Direction("side", lambda e, a, d: torch.ones_like(e, dtype=torch.bool)),
            Direction("front", lambda e, a, d: a.abs() < 45),
        ]
        self.direction2idx = {"side": 0, "front": 1}

    def get_text_embeddings(self, elevation, azimuth, camera_distances, view_dependent_prompting=True):
        which = (azimuth.abs() < 45).long() if view_dependent_prompting else torch.zeros_like(azimuth).long()
        return torch.cat([self.text[which], self.uncond[which]])


VIEWS = {
    "elevation": torch.tensor([10.0, 20.0]),
    "azimuth": torch.tensor([0.0, 120.0]),
    "camera_distances": torch.ones(2),
}


def test_the_gradient_is_that_of_the_estimator_with_embeddings_of_the_views(guidance, tmp_path):
    where = tiny.saved(tmp_path)
    made = guidance({"pretrained_model_name_or_path": str(where), "guidance_scale": 4.0, "trainer_max_steps": 100})
    text, uncond = torch.randn(2, 2, 16, 32).unbind(0)
    rgb = torch.rand(2, 24, 24, 3, requires_grad=True)
    out = made(rgb, Prompts(text, uncond, []), **VIEWS)
    images = torch.nn.functional.interpolate(rgb.permute(0, 3, 1, 2), (16, 16), mode="bilinear")
    x = made.prior.encode_image(images)
    views = torch.tensor([1, 0])
    guided = Guided(made.prior, 5.0, uncond={"text": uncond[views]})  # 4 as threestudio counts
    t = torch.full((2,), float(made.times(0, 100)))
    rng = torch.Generator().manual_seed(0)
    wanted = SDS()(guided, Batch(x.detach(), {"text": text[views]}), t, rng).grad
    (pixels,) = torch.autograd.grad(out["loss_sds"], rgb)
    (expected,) = torch.autograd.grad(x, rgb, wanted / 2)
    torch.testing.assert_close(pixels, expected, rtol=1e-3, atol=1e-6)
    torch.testing.assert_close(out["grad_norm"], wanted.norm())
    assert (out["min_step"], out["max_step"]) == (20, 980)


def test_latents_and_the_interval_of_times(guidance, tmp_path):
    name = str(tiny.saved(tmp_path))
    options = {"pretrained_model_name_or_path": name, "min_step_percent": 0.3, "max_step_percent": [0, 0.9, 0.3, 100]}
    made = guidance({**options, "view_dependent_prompting": False})
    prompts = Prompts(torch.randn(2, 16, 32), torch.randn(2, 16, 32), [])
    latents = torch.randn(2, 8, 8, 4, requires_grad=True)
    out = made(latents, prompts, **VIEWS, rgb_as_latents=True)
    (grad,) = torch.autograd.grad(out["loss_sds"], latents)
    torch.testing.assert_close(grad.norm() * 2, out["grad_norm"])
    assert (out["min_step"], out["max_step"]) == (300, 900)
    made.update_step(0, 100)
    assert made(latents, prompts, **VIEWS, rgb_as_latents=True)["max_step"] == 300
    assert made.times(100, 25000) == pytest.approx(0.3)


def test_other_models_take_the_texts_of_the_views(guidance, tmp_path):
    pipeline = tiny_flow.stable_diffusion_3(tmp_path)
    pipeline.save_pretrained(tmp_path / "model")
    made = guidance({"pretrained_model_name_or_path": str(tmp_path / "model"), "method": "msd_mean"})
    seen, encode = [], made.prior.encode_text
    made.prior.encode_text = lambda texts: (seen.append(texts), encode(texts))[1]
    rgb = torch.rand(2, 32, 32, 3, requires_grad=True)
    out = made(rgb, Prompts(None, None, ["an owl, side view", "an owl, front view"]), **VIEWS)
    assert seen[0] == ["an owl, front view", "an owl, side view"]
    assert out["loss_sds"].isfinite()
    out["loss_sds"].backward()
    assert rgb.grad.abs().max() > 0


def test_an_unknown_method_is_refused(guidance):
    with pytest.raises(ValueError, match="unknown method 'nothing'"):
        guidance({"method": "nothing"})
