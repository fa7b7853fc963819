"""Modular pipelines are priors, also from a folder, which runs no code of its own."""

import copy
import json
from contextlib import ExitStack, contextmanager

import diffusers
import pytest
import torch

import tiny_modular
import tiny_recorded
from scoredistill import distill, load_prior
from scoredistill.estimators import MSD, SDS
from scoredistill.generators import Latents
from scoredistill.priors import Counted, Guided, GuidedBy
from scoredistill.priors.pipelines.modular import arguments_of, loops_of
from scoredistill.priors.pipelines.recorded import recorded
from scoredistill.priors.pipelines.stand_ins import changed, guiders

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


CFG = diffusers.ClassifierFreeGuidance(guidance_scale=4.0)
SKIPPED = {"skip_layer_guidance_start": 0.0, "skip_layer_guidance_stop": 1.0}
PERTURBED = {"perturbed_guidance_start": 0.0, "perturbed_guidance_stop": 1.0}


def first_layer(stack):
    return diffusers.LayerSkipConfig(indices=[0], fqn=stack)


GUIDERS = {
    "CFG": ("XL", CFG),
    "CFG in some steps": ("XL", diffusers.ClassifierFreeGuidance(guidance_scale=4.0, start=0.3, stop=0.7)),
    "APG": ("XL", diffusers.AdaptiveProjectedGuidance(guidance_scale=4.0, adaptive_projected_guidance_rescale=0.1)),
    "CFG-Zero*": ("Z-Image", diffusers.ClassifierFreeZeroStarGuidance(guidance_scale=4.0)),
    "APG of a flow": ("Wan 2.2", diffusers.AdaptiveProjectedGuidance(guidance_scale=4.0, eta=0.5)),
    "SLG": (
        "Wan 2.2",
        diffusers.SkipLayerGuidance(4.0, skip_layer_config=first_layer("blocks"), **SKIPPED),
    ),
    "PAG": (
        "Z-Image",
        diffusers.PerturbedAttentionGuidance(4.0, perturbed_guidance_config=first_layer("layers"), **PERTURBED),
    ),
    "CFG, then norms of the block": ("Qwen-Image", CFG),
}


def own_steps(pipeline, prior, guider, steps):
    """Samples, times and guided (x0, eps) of the pipeline's own steps."""
    shape = prior._at(torch.Size(prior.latent_shape))
    call = {**prior.calls.of(prior.calls.trial), **shape.size, "num_inference_steps": steps}
    with changed_guiders(pipeline, guider):
        done = prior.recorder.run(call, steps, guided=True)
    for index, step in enumerate(done):
        t = prior.clock.level(step, index)
        x = prior.clock.standard(shape.arranged(step.sample, 1), t).double()
        yield x, t, prior.levels.understood(shape.arranged(step.model_output, 1).double(), x, t)


@contextmanager
def changed_guiders(pipeline, guider):
    with ExitStack() as stack:
        for name in guiders(pipeline):
            stack.enter_context(changed(pipeline, name, copy.deepcopy(guider)))
        yield


@pytest.mark.parametrize("name", GUIDERS)
def test_the_guided_prediction_equals_the_pipelines_own_step(name, made):
    kind, guider = GUIDERS[name]
    pipeline, prior = made(kind)
    guided, cond = GuidedBy(prior, guider, steps=4), prior.encode_text(prior.calls.trial.prompt)
    differences = []
    for x, t, (x0, eps) in own_steps(pipeline, prior, guider, 4):
        assert relative(guided.eps(x, t, cond), eps) < 1e-5
        assert relative(guided.denoise(x, t, cond), x0) < 1e-5
        differences.append(relative(prior.denoise(x, t, cond), x0))
    acts = [False, True, False, False] if name.endswith("some steps") else [True] * 4
    assert [difference > 1e-4 for difference in differences] == acts


@pytest.mark.parametrize("name", ["CFG", "APG", "CFG-Zero*", "APG of a flow", "SLG", "PAG"])
def test_a_guider_acts_alike_on_rows_and_in_the_loop(name, made):
    kind, guider = GUIDERS[name]
    _, prior = made(kind)
    x, cond = torch.randn(2, *prior.latent_shape), prior.encode_text(["an owl", "a red hamburger on a table"])
    apart = Counted(prior)  # hides the pipeline's blocks
    loop, rows = GuidedBy(prior, guider, steps=4), GuidedBy(apart, guider, steps=4)
    for t in (TIMES, torch.tensor([0.4, 0.4])):
        assert relative(loop.eps(x, t, cond), rows.eps(x, t, cond)) < 1e-5
    against = prior.encode_text("a boat")
    loop, rows = (GuidedBy(each, guider, steps=4, uncond=against) for each in (prior, apart))
    assert relative(loop.eps(x, TIMES, cond), rows.eps(x, TIMES, cond)) < 1e-5


def test_the_pipelines_guider_is_the_default_and_is_left_alone(made):
    pipeline, prior = made("XL")
    guided, cond = GuidedBy(prior), prior.encode_text("an owl")
    x, t = torch.randn(2, *prior.latent_shape), torch.tensor([0.5, 0.5])
    assert pipeline.guider.guidance_scale == 7.5
    assert relative(guided.eps(x, t, cond), Guided(prior, 7.5).eps(x, t, cond)) < 1e-5
    assert pipeline.guider._step is None or pipeline.guider is not guided.guider
    for change in (SDS(), MSD()):
        *_, last = distill(Latents(2, prior.latent_shape), guided, change, cond, steps=1, times=[0.6])
        assert last.estimate.grad.isfinite().all()
    with pytest.raises(ValueError, match="not its unconditional counterpart"):
        guided.eps(x, t, prior.null(cond))


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
