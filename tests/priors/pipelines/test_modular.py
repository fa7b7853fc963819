"""Modular pipelines are priors, also from a folder, which runs no code of its own."""

import json

import diffusers
import pytest
import torch

import tiny_modular
import tiny_recorded
from scoredistill import distill, load_prior
from scoredistill.estimators import MSD, SDS
from scoredistill.generators import Latents
from scoredistill.priors import Guided
from scoredistill.priors.pipelines.modular import arguments_of, loops_of
from scoredistill.priors.pipelines.recorded import recorded

pytestmark = pytest.mark.usefixtures("hushed")

SOME = ["XL", "FLUX.1", "Z-Image", "Wan 2.2", "LTX"]
TIMES = torch.tensor([0.31, 0.72])


def relative(first, second):
    return float((first - second).norm() / second.norm())


@pytest.fixture(scope="module")
def made():
    """A function that makes a modular pipeline and its prior, once."""
    known = {}

    def prior(kind):
        if kind not in known:
            pipeline, call = tiny_modular.make(tiny_modular.KINDS[kind])
            known[kind] = pipeline, recorded(pipeline, call=call)
        return known[kind]

    return prior


@pytest.mark.parametrize("kind", SOME)
def test_predictions_equal_those_of_the_pipeline_that_is_not_modular(kind, made):
    _, prior = made(kind)
    source = tiny_modular.OTHERS[tiny_modular.KINDS[kind].source]
    other = recorded(tiny_recorded.make(source), call=source.call)
    assert prior.latent_shape == other.latent_shape
    x, prompts = torch.randn(2, *prior.latent_shape), ["an owl", "a red hamburger on a table"]
    ours, theirs = (each.encode_text(prompts) for each in (prior, other))
    assert relative(prior.eps(x, TIMES, ours), other.eps(x, TIMES, theirs)) < 1e-5
    null = prior.eps(x, TIMES, prior.null(ours))
    assert relative(null, other.eps(x, TIMES, other.null(theirs))) < 1e-5
    torch.testing.assert_close(prior.decode(x[:1]), other.decode(x[:1]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", SOME)
def test_the_pipeline_is_as_before(kind, made):
    pipeline, prior = made(kind)
    network = pipeline.unet if kind == "XL" else pipeline.transformer
    assert "forward" not in vars(network)
    assert "step" not in vars(pipeline.scheduler)
    assert pipeline.scheduler is not prior.clock.scheduler
    assert len(loops_of(pipeline)) >= 1
    assert "_progress_bar_config" not in vars(loops_of(pipeline)[0])
    if kind != "FLUX.1":  # it has none
        assert type(pipeline.guider).__module__.startswith("diffusers.")
        assert "prompt" in arguments_of(pipeline)


def test_distillation_through_a_modular_pipeline(made):
    _, prior = made("Z-Image")
    cond = prior.encode_text("an owl")
    for estimator in (SDS(), MSD()):
        rng = torch.Generator().manual_seed(0)
        latents = Latents(2, prior.latent_shape, rng=rng)
        before = latents.values.detach().clone()
        *_, last = distill(latents, Guided(prior, 3.0), estimator, cond, steps=2, times=[0.6, 0.4])
        assert last.estimate.grad.isfinite().all()
        assert relative(latents.values.detach(), before) > 1e-4


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    pipeline, _ = tiny_modular.make(tiny_modular.KINDS["XL"])
    where = tmp_path_factory.mktemp("saved") / "model"
    pipeline.save_pretrained(str(where), overwrite_modular_index=True)
    return where


def test_a_folder_without_a_model_index_is_loaded(folder, made):
    assert not (folder / "model_index.json").exists()
    prior = load_prior(folder, device="cpu")
    x, cond = torch.randn(2, *prior.latent_shape), prior.encode_text("an owl")
    _, other = made("XL")
    assert relative(prior.eps(x, TIMES, cond), other.eps(x, TIMES, other.encode_text("an owl"))) < 1e-6
    moved = folder.rename(folder.parent / "moved")  # its index still names the old place
    try:
        half = load_prior(moved, device="cpu", dtype="bfloat16", parts={"text_encoder": prior.pipeline.text_encoder})
    finally:
        moved.rename(folder)
    assert half.dtype == torch.bfloat16
    assert half.pipeline.text_encoder is not None


def test_options_of_other_pipelines_are_refused(folder):
    with pytest.raises(ValueError, match="it has no component nothing"):
        load_prior(folder, device="cpu", parts={"nothing": torch.nn.Linear(1, 1)})
    pipeline, _ = tiny_modular.make(tiny_modular.KINDS["XL"])
    empty = diffusers.StableDiffusionXLAutoBlocks().init_pipeline()
    with pytest.raises(ValueError, match=r"StableDiffusionXLModularPipeline cannot be made a prior .* no network"):
        load_prior(empty)
    with pytest.raises(ValueError, match=r"ComponentsManager|there is none here"):
        load_prior(pipeline, offload="model")


def edited(folder, tmp_path, change):
    """A copy of the index alone, changed."""
    index = json.loads((folder / "modular_model_index.json").read_text())
    change(index)
    (tmp_path / "modular_model_index.json").write_text(json.dumps(index))
    return tmp_path


def part(name, value):
    """A change of the place and class of a component."""
    return lambda index: index["unet"][2].update({name: value})


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (part("type_hint", ["evil", "Evil"]), "gives 'unet' as"),
        (part("type_hint", ["diffusers", "AutoModel"]), "gives 'unet' as"),
        (part("type_hint", ["os", "system"]), "gives 'unet' as"),
        (part("type_hint", [None, None]), "gives 'unet' as"),
        (part("type_hint", "diffusers"), "gives 'unet' as"),
        (part("subfolder", "../unet"), "outside of the model"),
        (part("subfolder", "/unet"), "outside of the model"),
        (part("pretrained_model_name_or_path", "gone"), "copy the whole directory"),
        (lambda index: index.update(unet=["evil", "Evil", {}]), "gives 'unet' as"),
        (lambda index: index.update(other=["evil", "Evil", index["unet"][2]]), "gives 'other' as"),
        (lambda index: index.update(_class_name="DiffusionPipeline"), "no ModularPipeline of diffusers"),
        (lambda index: index.update(_class_name="Evil"), "no ModularPipeline of diffusers"),
        (lambda index: index.update(_blocks_class_name="SequentialPipelineBlocks"), "no ModularPipelineBlocks"),
        (lambda index: index.update(_blocks_class_name="UNet2DConditionModel"), "no ModularPipelineBlocks"),
    ],
)
def test_an_index_names_classes_of_diffusers_alone(folder, tmp_path, monkeypatch, change, says):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "evil.py").write_text("open('ran', 'w').close()\nclass Evil: pass\n")
    with pytest.raises(ValueError, match=says) as caught:
        load_prior(edited(folder, tmp_path, change), device="cpu")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "ran").exists()


def test_blocks_and_configurations_with_code_are_refused(folder, tmp_path):
    copied = edited(folder, tmp_path, lambda index: None)
    (copied / "modular_config.json").write_text(json.dumps({"auto_map": {"ModularPipelineBlocks": "block.Evil"}}))
    with pytest.raises(ValueError, match="brings its own blocks"):
        load_prior(copied, device="cpu")
    (copied / "modular_config.json").unlink()
    (copied / "scheduler").mkdir()
    (copied / "scheduler" / "scheduler_config.json").write_text(json.dumps({"auto_map": {"AutoModel": "evil.Evil"}}))
    with pytest.raises(ValueError, match=r"scheduler/scheduler_config\.json asks for code"):
        load_prior(copied, device="cpu")
