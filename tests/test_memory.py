"""Memory and speed on big models: micro-batches, the networks' own work and little beside it, layouts, precision."""

import copy
import sys

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

import tiny
import tiny_unets
from scoredistill import load_prior
from scoredistill.estimators import CSD, MSD, SDS, Batch, CSDEdit
from scoredistill.generators import Encoded, Latents, Pixels
from scoredistill.loop import distill
from scoredistill.priors import Counted, Guided, ImageGuided
from scoredistill.sampling import ddim

PARTICLES = 4
PROMPTS = ["a red hamburger", "an owl", "a cat", "a dog"]


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory):
    return tiny.stable_diffusion(tmp_path_factory.mktemp("tokens"))


@pytest.fixture(scope="module")
def editor(tmp_path_factory):
    return tiny_unets.instruct_pix2pix(tmp_path_factory.mktemp("tokens"))


@pytest.fixture
def seen():
    """Rows of each call of the network; hooks are removed at the end."""
    rows, hooks = [], []

    def watch(network):
        hooks.append(network.register_forward_hook(lambda _, args, __: rows.append(len(args[0]))))
        return rows

    yield watch
    for hook in hooks:
        hook.remove()


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def generators():
    return [torch.Generator().manual_seed(i) for i in range(PARTICLES)]


def edit_cond(prior):
    """One instruction, and a source image of its own for each particle."""
    return prior.encode_text("make it red") | prior.encode_source(noise(PARTICLES, 3, 16, 16, seed=4).sigmoid())


def estimated(estimator, prior, rng):
    x, t = noise(PARTICLES, 4, 8, 8, seed=1), torch.full((PARTICLES,), 0.6)
    if isinstance(prior, ImageGuided):
        batch = Batch(x, edit_cond(prior.prior), source=noise(PARTICLES, 4, 8, 8, seed=2))
    else:
        batch = Batch(x, prior.prior.encode_text(PROMPTS))
    return estimator(prior, batch, t, rng).grad


def sampled(prior, rng):
    return ddim(prior, noise(PARTICLES, 4, 8, 8), 4, prior.prior.encode_text(PROMPTS), eta=0.5, rng=rng)


def predicted(prior, rng):
    x, t = noise(PARTICLES, 4, 8, 8), torch.linspace(0.1, 0.9, PARTICLES)
    cond = edit_cond(prior.prior) if isinstance(prior, ImageGuided) else prior.prior.encode_text("an owl")
    return prior.eps(x, t, cond)


def text(prior):
    return Guided(prior, 7.5)


def image(prior):
    return ImageGuided(prior, 7.5, 1.5)


WORK = {
    "SDS": (text, lambda prior, rng: estimated(SDS(), prior, rng), 8),
    "MSD": (text, lambda prior, rng: estimated(MSD(), prior, rng), 8),
    "MSD, drawn": (text, lambda prior, rng: estimated(MSD(sampler="ancestral", steps=2), prior, rng), 16),
    "CSD": (text, lambda prior, rng: estimated(CSD(), prior, rng), 8),
    "CSD-Edit": (image, lambda prior, rng: estimated(CSDEdit(), prior, rng), 20),
    "Guided": (text, predicted, 8),
    "ImageGuided": (image, predicted, 12),
    "DDIM": (text, sampled, 32),
}


@pytest.mark.parametrize("single", [True, False], ids=["one generator", "one per particle"])
@pytest.mark.parametrize("name", WORK)
def test_micro_batches_change_no_result(pipeline, editor, seen, name, single):
    """In networks of double precision, so that no processor's order of summation matters."""
    guide, work, rows = WORK[name]
    prior = load_prior(copy.deepcopy(editor if guide is image else pipeline), dtype=torch.float64)
    calls = seen(prior.network)
    results = []
    for limit in (None, 1, 3):
        prior.max_rows = limit
        calls.clear()
        results.append(work(guide(prior), torch.Generator().manual_seed(0) if single else generators()))
        assert sum(calls) == rows
        assert max(calls) <= (limit or rows)
    largest = results[0].abs().max()
    assert largest > 0.1
    for other in results[1:]:
        assert (other - results[0]).abs().max() < 1e-5 * max(1, largest)


def test_a_condition_per_sample_is_split_with_its_rows(pipeline):
    prior, x, t = load_prior(pipeline), noise(1, 4, 8, 8).expand(4, -1, -1, -1), torch.full((4,), 0.5)
    cond = prior.encode_text(PROMPTS)
    prior.max_rows = 3
    together = prior.eps(x, t, cond)
    for i in range(4):
        alone = prior.eps(x[:1], t[:1], {"text": cond["text"][i : i + 1]})
        assert (together[i] - alone[0]).abs().max() < 1e-5
    assert (together[0] - together[3]).abs().max() > 1e-3


def flops(work):
    with FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops()


def unet_flops(prior, rows):
    """Of one bare call."""
    x, text = torch.zeros(rows, prior.network.config.in_channels, 8, 8), prior.encode_text("a")["text"]
    with torch.no_grad():
        return flops(lambda: prior.network(x, torch.full((rows,), 500.0), text.expand(rows, -1, -1)))


@pytest.mark.parametrize(
    ("estimator", "particles", "rows"), [(SDS(), 1, 2), (SDS(), 3, 6), (MSD(), 3, 6), (CSD(), 4, 8)]
)
def test_a_step_on_latents_costs_its_network_rows(pipeline, estimator, particles, rows):
    prior = load_prior(pipeline)
    run = distill(Latents(particles, (4, 8, 8)), Guided(prior, 7.5), estimator, prior.encode_text("an owl"), steps=2)
    next(run)
    assert flops(lambda: next(run)) == pytest.approx(unet_flops(prior, rows), rel=0.01)


def test_an_edit_of_8_particles_costs_40_network_rows(editor):
    prior, images = load_prior(editor), noise(8, 3, 16, 16).sigmoid()
    start = prior.encode_image(images)
    cond = prior.encode_text("make it red") | prior.encode_source(images)
    run = distill(Latents.of(start), ImageGuided(prior, 7.5, 1.5), CSDEdit(), cond, source=start, steps=2)
    next(run)
    assert flops(lambda: next(run)) == pytest.approx(unet_flops(prior, 40), rel=0.01)


def test_a_step_on_images_costs_its_network_rows_and_the_encoder_there_and_back(pipeline):
    prior, images = load_prior(pipeline), noise(2, 3, 16, 16).sigmoid()
    encoder = flops(lambda: prior.codec.vae.encode(images.clone().requires_grad_()).latent_dist.mode().sum().backward())
    assert encoder > 0.05 * unet_flops(prior, 4)
    run = distill(Encoded(Pixels(2, (16, 16)), prior), Guided(prior, 7.5), SDS(), prior.encode_text("an owl"), steps=2)
    next(run)
    assert flops(lambda: next(run)) == pytest.approx(unet_flops(prior, 4) + encoder, rel=0.01)


def test_the_loop_encodes_no_text_decodes_nothing_and_asks_for_the_source_once(editor):
    prior, images = load_prior(editor), noise(2, 3, 16, 16).sigmoid()
    counted, called = Counted(prior), []
    parts = {
        "text": prior.pipeline.text_encoder,
        "encoder": prior.codec.vae.encoder,
        "decoder": prior.codec.vae.decoder,
    }
    hooks = [part.register_forward_hook(lambda *_, name=name: called.append(name)) for name, part in parts.items()]
    cond = prior.encode_text("make it red") | prior.encode_source(images)
    start = counted.encode_image(images)
    guided = ImageGuided(counted, 7.5, 1.5)
    before = list(called)
    for _ in distill(Latents.of(start), guided, CSDEdit(), cond, source=start, steps=3):
        pass
    guided.null(cond)
    for hook in hooks:
        hook.remove()
    assert before == ["text", "encoder", "encoder"]
    assert called == [*before, "text"]  # that of no instruction, once for all steps
    assert counted.counts() == {"rows": 30, "calls": 3, "encoded": 2, "decoded": 0}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_networks_move_float32_particles(tmp_path, dtype):
    prior = load_prior(tiny.stable_diffusion(tmp_path), dtype=dtype)
    generator = Encoded(Pixels(2, (16, 16)), prior)
    taken = []
    prior.network.register_forward_hook(lambda _, args, __: taken.append(args[0].dtype))
    *_, last = distill(generator, Guided(prior, 7.5), SDS(), prior.encode_text("an owl"), steps=2)
    (values,) = generator.parameters()
    assert set(taken) == {dtype}
    assert {last.estimate.grad.dtype, values.dtype, values.grad.dtype, last.images().dtype} == {torch.float32}
    assert values.grad.isfinite().all()


def test_channels_last_changes_the_layout_and_no_result(tmp_path):
    prior = load_prior(tiny.stable_diffusion(tmp_path))
    before = estimated(SDS(), Guided(prior, 7.5), torch.Generator().manual_seed(0))
    assert prior.network.conv_in.weight.is_contiguous()
    prior = load_prior(prior.pipeline, channels_last=True)
    for convolution in (m for m in prior.network.modules() if isinstance(m, torch.nn.Conv2d)):
        assert convolution.weight.is_contiguous(memory_format=torch.channels_last)
    after = estimated(SDS(), Guided(prior, 7.5), torch.Generator().manual_seed(0))
    assert (after - before).abs().max() < 1e-4


def test_a_compiled_network_predicts_the_same_and_text_stays_cached(tmp_path, monkeypatch):
    """With torch's own tracer and no code generator, which needs a C++ compiler."""
    prior = load_prior(tiny.stable_diffusion(tmp_path))
    before = predicted(Guided(prior, 7.5), None)
    graphs = []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    compile_ = torch.nn.Module.compile
    monkeypatch.setenv("CXX", sys.executable)  # any program: it is looked for, not called
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self: compile_(self, backend=backend))
    compiled = load_prior(prior.pipeline, compile=True)
    for _ in range(2):
        assert (predicted(Guided(compiled, 7.5), None) - before).abs().max() < 1e-5
        made = len(graphs)
    assert made == len(graphs) >= 1


def test_compiling_without_a_compiler_is_refused_before_work(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(ValueError, match=r"needs a C\+\+ compiler: install g\+\+"):
        load_prior(tiny.stable_diffusion(tmp_path), compile=True)


def test_unknown_options_are_refused_before_work():
    with pytest.raises(ValueError, match="max_rows must be at least 1, not 0"):
        load_prior("emoji", max_rows=0)
    with pytest.raises(ValueError, match="unknown offload 'disk': use model or sequential"):
        load_prior("emoji", offload="disk")
