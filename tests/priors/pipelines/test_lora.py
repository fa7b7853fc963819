"""LoRA students: equal to the teacher at first, they learn by low-rank updates, and the teacher notices nothing."""

import copy
import sys

import pytest
import torch
from peft import LoraConfig

import tiny
from scoredistill import distill, load_prior
from scoredistill.checkpoint import load_state, save_state
from scoredistill.estimators import ESD, VSD, Batch
from scoredistill.generators import Latents
from scoredistill.optional import MissingExtra
from scoredistill.priors import Guided
from scoredistill.priors.pipelines.lora import ADAPTED, LoraStudent
from scoredistill.priors.students import student_of
from scoredistill.schedule import perturb

T = torch.tensor([0.3, 0.7])


@pytest.fixture(scope="module")
def prior(tmp_path_factory):
    return load_prior(tiny.stable_diffusion(tmp_path_factory.mktemp("tokens")))


@pytest.fixture
def x(rng):
    return torch.randn(2, 4, 8, 8, generator=rng)


@pytest.fixture
def text(prior):
    return prior.encode_text(["a red hamburger", "an owl"])


def shaken(student, rng, size=0.05):
    """The student with random parameters, as if trained."""
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.add_(size * torch.randn(parameter.shape, generator=rng))
    return student


def steps(estimator, prior, batch, n, rng, t=T):
    for _ in range(n):
        estimate = estimator(prior, batch, t, rng)
    return estimate


@torch.no_grad()
def loss_of(student, x, cond, rng):
    """Denoising score matching on x, from 16 draws."""
    losses = []
    for _ in range(16):
        t, noise = torch.rand(len(x), generator=rng), torch.randn(x.shape, generator=rng)
        losses.append((student.eps(perturb(student.schedule, x, t, noise), t, cond) - noise).square().mean())
    return torch.stack(losses).mean()


@pytest.mark.parametrize("prediction", ["eps", "v"])
def test_the_update_of_a_weight_is_b_times_a(tmp_path, x, rng, prediction):
    """Equal to the teacher at first; after training, to a network with the weights W + B A."""
    prior = load_prior(tiny.stable_diffusion(tmp_path, prediction))
    student, cond = LoraStudent(prior, rank=3), prior.encode_text("an owl")
    for ask in ("eps", "denoise"):
        assert torch.equal(getattr(student, ask)(x, T, cond), getattr(prior, ask)(x, T, cond))
    shaken(student, rng)
    updated = copy.deepcopy(prior.network)
    pairs = list(student.parameters())
    layers = [layer for name, layer in updated.named_modules() if name.endswith(tuple(ADAPTED))]
    assert len(layers) * 2 == len(pairs) == 64
    for layer, a, b in zip(layers, pairs[::2], pairs[1::2], strict=True):
        assert a.shape == (3, layer.in_features)
        layer.weight += b.detach() @ a.detach()
    expected = prior.predict(updated, x, T, cond)[1]
    seen = student.eps(x, T, cond)
    assert (seen - expected).abs().max() < 1e-5
    assert (seen - prior.eps(x, T, cond)).abs().max() > 1e-2


def test_first_weights_are_seeded_and_leave_the_global_generator_alone(prior):
    before = torch.get_rng_state()
    values = lambda student: [p.detach() for p in student.parameters()]
    first, again = values(LoraStudent(prior)), values(LoraStudent(prior))
    other = values(LoraStudent(prior, rng=torch.Generator().manual_seed(1)))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    for a, b, c in zip(first[::2], first[1::2], other[::2], strict=True):
        bound = a.shape[1] ** -0.5
        assert 0.8 * bound < a.max() <= bound
        assert a.std() == pytest.approx(bound / 3**0.5, rel=0.15)
        assert b.abs().max() == 0
        assert not torch.equal(a, c)


def test_only_the_updates_need_memory(prior):
    student = LoraStudent(prior, rank=2, view_dim=3)
    storages = lambda tensors: {p.untyped_storage().data_ptr(): p.untyped_storage().nbytes() for p in tensors}
    teachers = storages([*prior.network.parameters(), *prior.network.buffers()])
    everything = storages([*student.unet.parameters(), *student.unet.buffers()])
    new = sum(size for place, size in everything.items() if place not in teachers)
    assert set(teachers) < set(everything)
    assert new == 4 * sum(p.numel() for p in student.parameters())
    assert new < 0.05 * sum(teachers.values())


def test_learning_lowers_the_loss_and_leaves_the_teacher_alone(prior, x, text):
    """The random teacher's loss is above that of the answer 0, which is 1 (.016 is its standard deviation here)."""
    before, names = prior.eps(x, T, text), [name for name, _ in prior.network.named_parameters()]
    estimator, run = VSD(lr=5e-2), lambda: torch.Generator().manual_seed(1)
    first = estimator(prior, Batch(x, text), T, run())
    student = estimator.student
    assert isinstance(student, LoraStudent)
    assert loss_of(prior, x, text, run()) > 1.07
    steps(estimator, prior, Batch(x, text), 30, run())
    assert loss_of(student, x, text, run()) < 1.03
    assert (estimator(prior, Batch(x, text), T, run()).grad - first.grad).abs().max() > 0.1
    assert torch.equal(prior.eps(x, T, text), before)
    assert [name for name, _ in prior.network.named_parameters()] == names
    assert not any(p.requires_grad for p in prior.network.parameters())


@pytest.mark.parametrize("state", ["active", "weighed", "fused", "disabled"])
def test_adapters_of_the_pipeline_stay_as_they_are(tmp_path, x, rng, state):
    pipeline = tiny.stable_diffusion(tmp_path)
    plain = load_prior(pipeline).eps(x, T)
    torch.manual_seed(2)
    style = LoraConfig(r=8, target_modules=["to_q", "to_v", "conv1"], init_lora_weights=False)
    pipeline.unet.add_adapter(style, "style")
    prior = load_prior(pipeline)
    if state == "weighed":
        pipeline.unet.set_adapters(["style"], 0.5)
    if state == "fused":
        pipeline.unet.fuse_lora()
    if state == "disabled":
        pipeline.unet.disable_adapters()
    prior.network.requires_grad_(False)
    before = prior.eps(x, T)
    assert torch.equal(before, plain) == (state == "disabled")
    student = LoraStudent(prior)
    assert torch.equal(student.eps(x, T), before)
    assert len(list(student.parameters())) == 64
    estimator = VSD(student)
    steps(estimator, prior, Batch(x), 4, rng)
    assert all(p.grad.abs().max() > 0 for p in student.parameters())
    assert (student.eps(x, T) - before).abs().max() > 1e-3
    assert torch.equal(prior.eps(x, T), before)
    assert not any(p.requires_grad for p in prior.network.parameters())


def test_only_the_student_sees_the_view(prior, x, text):
    """Predictions follow the view once it is learnt; a view of zeros is none; the teacher is asked without it."""
    seen = []
    view = torch.tensor([[1.0, 0.0, 2.0], [-1.0, 0.5, 0.0]])
    student = LoraStudent(prior, view_dim=3)
    hook = prior.network.register_forward_pre_hook(
        lambda *given: seen.append(given[2].get("timestep_cond")), with_kwargs=True
    )
    estimator, run = VSD(student), torch.Generator().manual_seed(0)
    assert torch.equal(student.eps(x, T, {**text, "view": view}), prior.eps(x, T, text))
    steps(estimator, prior, Batch(x, {**text, "view": view}), 20, run)
    hook.remove()
    assert len(seen) == 21
    assert seen == [None] * 21
    ask = lambda v: student.eps(x, T, {**text, "view": v})
    assert (ask(view) - ask(-view)).abs().max() > 1e-3
    assert torch.equal(ask(torch.zeros(1, 3)), student.eps(x, T, text))
    assert (ask(view[:1]) - ask(view))[0].abs().max() < 1e-6
    assert student.eps(x, T, {"view": view}).shape == x.shape  # the empty prompt


def test_half_of_the_student_without_its_view(prior, x, text, rng):
    """ESD: e_p - (1 - eta) e_q(view) - eta e_q(no view), from the three predictions themselves."""
    student = shaken(LoraStudent(prior, view_dim=2), rng)
    cond = {**text, "view": torch.randn(2, 2, generator=rng)}
    run = lambda: torch.Generator().manual_seed(5)
    grad = ESD(student, 0.5, updates=0, weight="uniform")(prior, Batch(x, cond), T, run()).grad
    x_t = perturb(prior.schedule, x, T, torch.randn(x.shape, generator=run()))
    expected = prior.eps(x_t, T, text) - 0.5 * student.eps(x_t, T, cond) - 0.5 * student.eps(x_t, T, text)
    assert (grad - expected).abs().max() < 1e-6
    assert (student.eps(x_t, T, cond) - student.eps(x_t, T, text)).abs().max() > 1e-3
    learnt = steps(ESD(student, 0.5), prior, Batch(x, cond), 3, rng)
    assert learnt.grad.isfinite().all()


@pytest.mark.parametrize("view_dim", [0, 2])
def test_the_estimators_state_resumes_bit_exactly(prior, x, text, view_dim):
    cond = {**text, "view": torch.ones(2, 2)} if view_dim else text
    make = lambda: VSD(LoraStudent(prior, view_dim=view_dim) if view_dim else None)
    rng, whole, batch = torch.Generator().manual_seed(3), make(), Batch(x, cond)
    steps(whole, prior, batch, 3, rng)
    state, noise = copy.deepcopy(whole.state_dict()), rng.get_state()
    expected = steps(whole, prior, batch, 3, rng).grad
    second = make()
    second.load_state_dict(state)
    rng.set_state(noise)
    assert torch.equal(steps(second, prior, batch, 3, rng).grad, expected)


def test_a_distillation_resumes_bit_exactly(prior, tmp_path):
    cond = prior.encode_text("an owl")

    def run(generator, rng, **options):
        return distill(generator, Guided(prior, 3.0), VSD(), cond, steps=6, rng=rng, **options)

    particles = lambda seed: Latents(2, prior.latent_shape, rng=torch.Generator().manual_seed(seed))
    whole = particles(0)
    for step in run(whole, torch.Generator().manual_seed(4)):
        if step.index == 2:
            save_state(step.state_dict(), tmp_path / "state.safetensors")
    second = particles(9)
    resumed = list(run(second, torch.Generator(), state=load_state(tmp_path / "state.safetensors")))
    assert [s.index for s in resumed] == [3, 4, 5]
    assert torch.equal(second.values, whole.values)


@pytest.mark.parametrize(("dtype", "error"), [("bfloat16", 0.1), ("float16", 0.01)])
def test_half_precision_networks_have_float32_students(tmp_path, x, dtype, error):
    """Gradients as of a mean over 8192 particles, which float16 would round to 0, are those of float32."""
    grads = []
    for kind in ("float32", dtype):
        prior = load_prior(tiny.stable_diffusion(tmp_path / kind), dtype=kind)
        student, cond = LoraStudent(prior, view_dim=2), prior.encode_text("an owl")
        assert torch.equal(student.eps(x, T, cond), prior.eps(x, T, cond))
        shaken(student, torch.Generator().manual_seed(0), 0.01)
        (student.eps(x, T, {**cond, "view": torch.ones(1, 2)}).square().mean() / 4096).backward()
        assert all(p.dtype == p.grad.dtype == torch.float32 for p in student.parameters())
        grads.append(torch.cat([p.grad.flatten() for p in student.parameters()]))
    assert (grads[1] - grads[0]).norm() < error * grads[0].norm()
    estimator = VSD(student)
    assert steps(estimator, prior, Batch(x, cond), 3, torch.Generator().manual_seed(0)).grad.isfinite().all()


def test_errors_name_what_is_wrong(prior, x, text, monkeypatch):
    with pytest.raises(ValueError, match="rank must be at least 1"):
        LoraStudent(prior, rank=0)
    with pytest.raises(ValueError, match=r"made for \[b, 0\]: give the estimator student=LoraStudent"):
        VSD()(prior, Batch(x, {**text, "view": torch.zeros(2, 3)}), T)
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(MissingExtra, match=r"pip install 'scoredistill\[lora\]'"):
        student_of(prior, x)
