"""The loop, its time schedules, generators and checkpoints."""

import inspect

import pytest
import torch

from oracles import gaussian
from scoredistill import distill
from scoredistill.checkpoint import load_state, save_state
from scoredistill.estimators import CSD, MSD, SDS, Batch, Decoded, Estimate, Estimator, FixedNoise, Stein
from scoredistill.generators import CoordinateMLP, Encoded, Latents, Pixels
from scoredistill.loop import Gradients
from scoredistill.loss import DistillationLoss
from scoredistill.priors import Counted, Empirical, GaussianMixture, Guided, Prior
from scoredistill.priors.base import PriorWrapper
from scoredistill.sampling import ddim, ddim_invert
from scoredistill.schedule import VP
from scoredistill.times import Bandwidth, Linear, Uniform

F64 = torch.float64


def points(n, seed=0):
    return Latents(n, (2,), rng=torch.Generator().manual_seed(seed)).double()


def sgd(lr):
    return lambda parameters: torch.optim.SGD(parameters, lr)


def test_msd_with_unit_steps_is_the_fixed_point_and_finds_modes(mixture):
    """x <- D(x; r) along an annealed bandwidth ends at a mode: its own density is higher than that of any sample."""
    generator = points(64)
    for step in distill(
        generator, mixture, MSD(), steps=60, times=Bandwidth(mixture.schedule, 2.0, 0.02), optimizer=sgd(1.0)
    ):
        pass
    assert step.index == 59
    x = generator.values.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(mixture.log_prob(x).sum(), x)
    assert gradient.abs().max() < 0.15
    assert mixture.log_prob(x).min() > mixture.log_prob(mixture.sample(2000, torch.Generator().manual_seed(0))).median()


def test_sds_on_a_gaussian_settles_at_its_mean():
    mean = torch.tensor([0.7, -0.4], dtype=F64)
    generator = points(200)
    for step in distill(generator, gaussian(mean, 0.2), SDS(), steps=400, optimizer=sgd(0.2)):
        pass
    assert (generator.values.mean(0) - mean).abs().max() < 0.05
    assert step.grad_norm.isfinite()


@pytest.mark.parametrize("estimator", [SDS(), MSD(), CSD()], ids=["sds", "msd", "csd"])
def test_resuming_is_bit_exact(mixture, estimator, tmp_path):
    def run(generator, rng, **options):
        return distill(generator, mixture, estimator, steps=12, rng=rng, **options)

    whole = points(5)
    for _ in run(whole, torch.Generator().manual_seed(4)):
        pass
    first = points(5)
    for step in run(first, torch.Generator().manual_seed(4)):
        if step.index == 6:
            save_state(step.state_dict(), tmp_path / "state.safetensors")
            break
    second, other_seed = points(5, seed=9), torch.Generator().manual_seed(4)
    resumed = list(run(second, other_seed, state=load_state(tmp_path / "state.safetensors")))
    assert [s.index for s in resumed] == [7, 8, 9, 10, 11]
    assert torch.equal(second.values, whole.values)


def test_a_kept_state_does_not_move_and_knows_its_times(mixture, tmp_path):
    """Resuming from a state kept in memory, with a generator of another seed, sees the same times and noise."""
    whole, kept = points(5), None
    times = []
    for step in distill(whole, mixture, SDS(), steps=8, rng=torch.Generator().manual_seed(4)):
        times.append(step.t)
        if step.index == 3:
            kept = step.state_dict()
    second = points(5, seed=9)
    resumed = [s.t for s in distill(second, mixture, SDS(), steps=8, state=kept)]
    assert resumed == times[4:]
    assert torch.equal(second.values, whole.values)


def test_particles_with_their_own_generators_do_not_depend_on_the_split(mixture):
    def run(rows):
        generator = points(4)
        generator.n, generator.values = len(rows), torch.nn.Parameter(generator.values[rows].detach())
        rng = [torch.Generator().manual_seed(100 + i) for i in rows]
        for _ in distill(generator, mixture, SDS(), steps=20, rng=rng):
            pass
        return generator.values.detach()

    whole = run([0, 1, 2, 3])
    assert (torch.cat([run([0, 1]), run([2, 3])]) - whole).abs().max() < 1e-12


def test_conditions_may_depend_on_the_view(mixture):
    generator = points(6)
    labels = torch.tensor([0, 1, 0, 1, 0, 1])
    seen = []

    def cond(views):
        seen.append(views.tolist())
        return {"label": labels[views]}

    for _ in distill(
        generator, Guided(mixture, 1.0), MSD(0.3), cond, steps=60, particles=3, optimizer=sgd(0.5), times=[0.5] * 60
    ):
        pass
    assert all(len(v) == 3 for v in seen)
    assert {i for v in seen for i in v} == set(range(6))
    own = mixture.log_prob(generator.values, cond={"label": labels})
    other = mixture.log_prob(generator.values, cond={"label": 1 - labels})
    assert (own > other).double().mean() > 0.8


def test_costs_of_a_step_are_counts():
    """From pixels one encoder pass and no decode; an image is decoded only when it is looked at."""
    prior = Counted(ImageLatents())
    cond = {"label": torch.zeros(1, dtype=torch.long)}
    for step in distill(Encoded(Pixels(2, (8, 8)), prior), Guided(prior, 7.5), SDS(), cond, steps=3):
        pass
    assert prior.counts() == {"rows": 12, "calls": 3, "encoded": 6, "decoded": 0}
    assert step.images().shape == (2, 3, 8, 8)
    assert prior.decoded == 0  # an encoded generator has its images at hand
    prior = Counted(ImageLatents())
    for step in distill(Latents(2, (3, 4, 4)), Guided(prior, 7.5), SDS(), cond, steps=3):
        pass
    assert prior.counts() == {"rows": 12, "calls": 3, "encoded": 0, "decoded": 0}
    assert step.images().shape == (2, 3, 8, 8)
    assert prior.decoded == 2


class ImageLatents(Empirical):
    """Four labeled images of 8x8 in a latent space of 4x4: average pooling as the codec."""

    def __init__(self):
        data = torch.rand(4, 3, 4, 4, generator=torch.Generator().manual_seed(0))
        super().__init__(data, torch.tensor([0, 1, 0, 1]))

    def encode_image(self, images):
        return torch.nn.functional.avg_pool2d(images, 2)

    def decode(self, x):
        return torch.nn.functional.interpolate(x, scale_factor=2.0)


def test_through_the_decoder_the_gradient_is_a_difference_of_images():
    """With a linear codec D(E(x)): grad = x - D(E(x) - g), no backward pass, and modes are decoded data."""
    prior, rng = Counted(ImageLatents()), torch.Generator().manual_seed(0)
    x, t = torch.rand(3, 3, 8, 8, generator=rng), torch.full((3,), 0.4)
    cond = {"label": torch.ones(1, dtype=torch.long)}
    estimate = Decoded(MSD())(prior, Batch(x, cond), t)
    assert prior.counts() == {"rows": 3, "calls": 1, "encoded": 3, "decoded": 3}
    z = prior.encode_image(x)
    g = MSD()(prior, Batch(z, cond), t).grad
    assert (estimate.grad - (x - prior.decode(z - g))).abs().max() < 1e-6
    generator = Pixels(2, (8, 8), rng=rng)
    times = Bandwidth(prior.schedule, 3.0, 0.05)
    for step in distill(generator, prior, Decoded(MSD()), cond, steps=40, times=times, optimizer=sgd(1.0)):
        pass
    images = prior.decode(prior.prior.data[1::2])
    distance = torch.cdist(generator.values.flatten(1), images.flatten(1)).min(1).values
    assert distance.max() < 0.01
    assert torch.equal(step.images(), generator.values.clamp(0, 1))


def test_following_a_gradient_heads_for_its_point_without_new_calls(mixture):
    """Plain steps of rate a towards x - g: after k of them what is left is (1 - a)^k g."""
    generator, prior = points(4), Counted(mixture)
    start = generator.values.detach().clone()
    (step,) = distill(generator, prior, MSD(0.5), steps=1, optimizer=sgd(0.3), follow=5)
    left = generator.values.detach() - (start - step.estimate.grad)
    assert (left - 0.7**5 * step.estimate.grad).abs().max() < 1e-12
    assert prior.calls == 1
    with pytest.raises(ValueError, match="follow must be"):
        distill(generator, prior, MSD(), steps=1, follow=0)


@pytest.mark.parametrize("kind", ["mlp", "pixels", "latents"])
def test_every_image_generator_reaches_an_image(kind):
    """Modes of the ideal denoiser are the data: each generator must end at one of the class's two images."""
    prior = ImageLatents()
    rng = torch.Generator().manual_seed(0)
    generator = {
        "mlp": lambda: Encoded(CoordinateMLP(2, (8, 8), rng=rng), prior),
        "pixels": lambda: Encoded(Pixels(2, (8, 8), rng=rng), prior),
        "latents": lambda: Latents(2, (3, 4, 4), rng=rng),
    }[kind]()
    cond = {"label": torch.ones(1, dtype=torch.long)}
    times = Bandwidth(prior.schedule, 3.0, 0.05)
    optimizer = lambda parameters: torch.optim.Adam(parameters, lr=0.03)
    for step in distill(generator, prior, MSD(), cond, steps=300, times=times, optimizer=optimizer):
        pass
    x = generator(step.views)
    distance = torch.cdist(x.flatten(1), prior.data[1::2].flatten(1)).min(1).values / x[0].numel() ** 0.5
    assert distance.max() < 0.05
    images = step.images()
    assert 0 <= images.min() <= images.max() <= 1


def test_images_are_independent_and_seeded():
    make = lambda seed: CoordinateMLP(3, (6, 5), rng=torch.Generator().manual_seed(seed))
    a = make(0)
    assert torch.equal(a(a.views()), make(0)(a.views()))
    assert not torch.equal(a(a.views()), make(1)(a.views()))
    assert a(torch.tensor([2])).shape == (1, 3, 6, 5)
    assert torch.allclose(a(torch.tensor([2]))[0], a(a.views())[2], atol=1e-6)
    a(a.views())[0].sum().backward()
    assert all(p.grad[1:].abs().max() == 0 < p.grad[0].abs().max() for p in a.parameters())


def test_encoded_does_not_own_the_networks_of_the_prior():
    class Network(torch.nn.Linear):
        pass

    prior = Prior.from_callable(Network(2, 2), VP())
    assert len(list(Encoded(Pixels(1, (4, 4)), prior).parameters())) == 1


class TestTimess:
    def test_uniform_covers_its_range_and_depends_on_the_index_alone(self):
        times = torch.tensor([Uniform(0.2, 0.6)(i, 2000) for i in range(2000)])
        assert 0.2 <= times.min() < 0.205 < 0.595 < times.max() <= 0.6
        assert abs(times.mean() - 0.4) < 4 * 0.4 / 12**0.5 / 2000**0.5
        assert Uniform(seed=3)(17, 20) == Uniform(seed=3)(17, 400) != Uniform(seed=4)(17, 20)

    def test_linear_ends_where_it_says(self):
        times = [Linear(0.9, 0.1)(i, 5) for i in range(5)]
        assert times == pytest.approx([0.9, 0.7, 0.5, 0.3, 0.1])
        assert Linear(0.9, 0.1)(0, 1) == 0.9

    def test_bandwidths_are_geometric(self):
        times = Bandwidth(VP(), 4.0, 0.25)
        ratios = VP().ratio(torch.tensor([times(i, 5) for i in range(5)], dtype=F64))
        assert ratios.tolist() == pytest.approx([4, 2, 1, 0.5, 0.25])

    @pytest.mark.parametrize(
        "make", [lambda: Uniform(-0.1, 1.0), lambda: Linear(2.0, 0.0), lambda: Bandwidth(VP(), 0.1, 0.2)]
    )
    def test_impossible_times_are_refused(self, make):
        with pytest.raises(ValueError, match=r"times must|bandwidths must"):
            make()


def test_bad_arguments_are_refused_before_any_work(mixture):
    for options, message in (
        ({"steps": 0}, "steps must be at least 1"),
        ({"steps": 3, "times": [0.5]}, "1 times for 3 steps"),
        ({"steps": 1, "times": [1.5]}, "times must lie in"),
    ):
        with pytest.raises(ValueError, match=message):
            distill(points(2), mixture, SDS(), **options)
    with pytest.raises(ValueError, match="from 1 to all 2 images, not 7"):
        next(distill(points(2), mixture, SDS(), particles=7))


def test_checkpoints_round_trip_and_refuse_other_files(tmp_path):
    state = {"a": [1, 2.5, None, "x"], "b": {0: torch.arange(3), "deep": [{"c": torch.zeros(2, 2)}]}, "n": 3}
    path = tmp_path / "c.safetensors"
    save_state(state, path)
    back = load_state(path)
    assert back["a"] == state["a"]
    assert back["n"] == 3
    assert torch.equal(back["b"][0], state["b"][0])
    assert back["b"]["deep"][0]["c"].shape == (2, 2)
    assert [p.name for p in tmp_path.iterdir()] == ["c.safetensors"]
    path.write_bytes(b"no")
    with pytest.raises(ValueError, match="not a checkpoint"):
        load_state(path)


@pytest.mark.parametrize("wrap", ["plain", "coupled"])
def test_an_estimator_s_memory_is_resumed(wrap, tmp_path):
    """Noise that is kept from step to step goes into the checkpoint, also from inside a coupling."""
    prior = GaussianMixture(torch.tensor([[-1.0, 0.0], [1.0, 0.5]]), torch.tensor([0.1, 0.2]))

    def made():
        kept = FixedNoise(0.2)
        return kept if wrap == "plain" else Stein(kept)

    def run(estimator, latents, state=None):
        rng = torch.Generator().manual_seed(3)
        return distill(latents, prior, estimator, steps=6, times=Linear(0.9, 0.1), rng=rng, state=state)

    start = torch.randn(4, 2, generator=torch.Generator().manual_seed(1))
    whole, half, rest = (Latents.of(start) for _ in range(3))
    for _ in run(made(), whole):
        pass
    for step in run(made(), half):
        if step.index == 2:
            save_state(step.state_dict(), tmp_path / "half")
            break
    for _ in run(made(), rest, load_state(tmp_path / "half")):
        pass
    assert torch.equal(rest.values, whole.values)
    assert not torch.equal(half.values, whole.values)


# Numerical health


class Breaks(Estimator):
    """SGD towards 0 whose gradient is not finite for one particle in some steps; draws noise in each."""

    def __init__(self, *steps, value=float("nan"), particle=2):
        self.steps, self.value, self.particle, self.index = steps, value, particle, -1

    def __call__(self, prior, batch, t, rng=None):
        self.index += 1
        grad = batch.x * torch.rand((), generator=rng, dtype=F64)
        if self.index in self.steps:
            grad[self.particle, 1] = self.value
        return Estimate(grad, info={"size": grad.abs().mean()})


def broken(mixture, *steps, **options):
    generator = points(4)
    estimator = Breaks(*steps, **{k: options.pop(k) for k in ("value", "particle") if k in options})
    return generator, distill(generator, mixture, estimator, times=[0.25] * 20, optimizer=sgd(1.0), **options)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize(("first", "seen"), [(3, 15), (15, 15), (16, 19), (19, 19)])
def test_a_gradient_that_is_not_finite_is_named(mixture, value, first, seen):
    """The first bad step is named, although looks are 16 steps apart, and at the last step."""
    _, steps = broken(mixture, first, 19, steps=20, value=value)
    taken = []
    with pytest.raises(FloatingPointError, match=rf"step {first} is not finite \(particle 2, t = 0.25\)"):
        taken.extend(step.index for step in steps)
    assert taken == list(range(seen))


def test_looks_are_rare(mixture, monkeypatch):
    looks, look = [], Gradients.are_finite
    monkeypatch.setattr(Gradients, "are_finite", lambda self: looks.append(1) or look(self))
    list(broken(mixture, steps=20)[1])
    assert len(looks) == 2


def test_with_a_look_in_every_step_the_state_before_is_kept(mixture):
    """The state of the last good step, taken after the error, continues as if the bad step had not been tried."""
    _, steps = broken(mixture, 5, steps=20, check=1)
    taken = []
    with pytest.raises(FloatingPointError, match="step 5 is not finite"):
        taken.extend(steps)
    state = taken[-1].state_dict()
    whole, clean = broken(mixture, steps=20)
    list(clean)
    other = points(4)
    list(distill(other, mixture, Breaks(), times=[0.25] * 20, steps=20, optimizer=sgd(1.0), state=state))
    assert state["next"] == 5
    assert torch.equal(other.values, whole.values)


def test_skipped_steps_change_nothing_and_are_told(mixture):
    generator, steps = broken(mixture, 4, 5, steps=20, on_nan="skip")
    look = lambda step: (
        generator.values.detach().clone(),
        float(step.grad_norm),
        float(step.estimate.info["size"]),
    )
    with pytest.warns(UserWarning, match=r"step [45] is not finite .*: the step is skipped"):
        seen = [look(step) for step in steps]
    assert torch.equal(seen[3][0], seen[5][0])
    assert not torch.equal(seen[5][0], seen[6][0])
    assert seen[4][1:] == seen[5][1:] == (0.0, 0.0)
    assert len(seen) == 20


def test_ten_skipped_steps_in_a_row_end_the_run(mixture):
    _, steps = broken(mixture, *range(5, 20), steps=20, on_nan="skip")
    taken = []
    says = r"step 14 .* neither were the 9 before it"
    with pytest.warns(UserWarning, match="is skipped"), pytest.raises(FloatingPointError, match=says):
        taken.extend(step.index for step in steps)
    assert taken == list(range(14))


def test_gradients_on_the_parameters_are_skipped_too(mixture):
    """A generator whose derivative is infinite at its start."""

    class Root(Latents):
        def forward(self, views):
            return super().forward(views).abs().sqrt()

    generator = Root(1, (2,)).double()
    with torch.no_grad():
        generator.values.zero_()
    with pytest.warns(UserWarning, match="on the parameters is not finite"):
        list(distill(generator, mixture, SDS(), steps=2, optimizer=sgd(1.0), on_nan="skip"))
    assert torch.equal(generator.values, torch.zeros(1, 2, dtype=F64))


def test_the_state_of_another_run_is_refused(mixture):
    state = {"next": 1, "generator": {"other": torch.zeros(1)}, "optimizer": {}, "rng": []}
    with pytest.raises(ValueError, match="the state does not fit this run"):
        distill(points(4), mixture, SDS(), steps=2, state=state)


class TestWrongUse:
    """What is often given by mistake is refused in one sentence, before any step."""

    @pytest.mark.parametrize(
        ("change", "says"),
        [
            ({"estimator": SDS}, r"estimator is the function SDS: call it, such as SDS\(...\)"),
            ({"estimator": Stein}, r"estimator is the class Stein: give an instance, such as Stein\(...\)"),
            ({"estimator": "sds"}, "estimator is the text 'sds': give an object"),
            ({"generator": Pixels}, "generator is the class Pixels"),
            ({"generator": torch.nn.Linear(2, 2)}, r"generator is a network \(Linear\)"),
            ({"prior": GaussianMixture}, "prior is the class GaussianMixture"),
            ({"prior": "emoji"}, r"prior is the text 'emoji': give an object, such as load_prior\(name\)"),
            ({"prior": torch.nn.Linear(2, 2)}, "wrap it by Prior.from_callable"),
            ({"cond": "an owl"}, r"cond is a text, and must be a condition: give prior.encode_text\('an owl'\)"),
            ({"cond": ["an owl", "a cat"]}, "cond is a text"),
            ({"source_cond": "an owl"}, "source_cond is a text"),
            ({"cond": torch.zeros(1, 3)}, "cond is a tensor without a name"),
            ({"cond": 5}, "cond is of the type int"),
            ({"prior": None}, "prior is None: give an object"),
            ({"generator": None}, "generator is None: give an object"),
            ({"times": [500.0, 250.0]}, r"times must lie in \[0, 1\]"),
        ],
    )
    def test_is_refused_at_once(self, mixture, change, says):
        with pytest.raises(ValueError, match=says):
            inspect.unwrap(distill)(
                **{"generator": points(3), "prior": mixture, "estimator": SDS(), "steps": 2, **change}
            )

    @pytest.mark.parametrize("prior", ["emoji", GaussianMixture, torch.nn.Linear(2, 2), None])
    def test_what_is_no_prior_is_refused_everywhere(self, prior):
        for use in (
            lambda: inspect.unwrap(PriorWrapper.__init__)(PriorWrapper.__new__(Counted), prior),
            lambda: inspect.unwrap(DistillationLoss.__init__)(DistillationLoss.__new__(DistillationLoss), prior, SDS()),
            lambda: inspect.unwrap(ddim)(prior, torch.zeros(1, 2), 3),
            lambda: inspect.unwrap(ddim_invert)(prior, torch.zeros(1, 2), 3),
        ):
            with pytest.raises(ValueError, match=r"^prior is "):
                use()

    @pytest.mark.parametrize("cond", ["an owl", ["an owl"], torch.zeros(1, 3)])
    def test_what_is_no_condition_is_refused_everywhere(self, mixture, cond):
        x, t = torch.zeros(1, 2), torch.full((1,), 0.5)
        for use in (
            lambda: inspect.unwrap(Guided.terms)(Guided(mixture, 2.0), t, cond),
            lambda: inspect.unwrap(ddim)(mixture, x, 3, cond),
            lambda: inspect.unwrap(ddim_invert)(mixture, x, 3, cond),
        ):
            with pytest.raises(ValueError, match=r"^cond is a t"):
                use()

    @pytest.mark.parametrize("t", [500.0, 1.01, -0.1, float("nan"), float("inf")])
    def test_times_outside_the_unit_interval(self, mixture, t):
        with pytest.raises(ValueError, match=r"times must be in \[0, 1\], not "):
            next(distill(points(3), mixture, SDS(), times=lambda index, steps: t))
        if 0 <= t <= 1.02:  # schedules allow for one step of a sampler beyond
            return
        for call in (mixture.eps, mixture.denoise, mixture.score):
            with pytest.raises(ValueError, match=r"times must be in \[0, 1\], not "):
                call(torch.zeros(2, 2, dtype=F64), torch.tensor([0.5, t], dtype=F64))
        with pytest.raises(ValueError, match=r"times must be in \[0, 1\], not "):
            VP()(torch.tensor(t))

    def test_times_at_the_ends_and_rounded_ones_are_fine(self):
        assert VP()(torch.tensor([0.0, 1.0, 1 + 1e-6, -1e-6]))[0].isfinite().all()
        assert VP()(torch.tensor([500.0], device="meta"))[0].shape == (1,)  # other devices are not waited for

    def test_pixels_for_a_prior_of_latents(self):
        class Latent(Prior):
            schedule, latent_shape = VP(), (4, 8, 8)

            def eps(self, x_t, t, cond=None):
                raise AssertionError("a network call")

        pixels = Pixels(2, (16, 16))
        for prior in (Latent(), Guided(Latent(), 7.5, uncond={}), Counted(Latent())):
            with pytest.raises(ValueError, match=r"samples \[3, 16, 16\].*\[4, 8, 8\]: encode its images, by Encoded"):
                next(distill(pixels, prior, SDS()))
