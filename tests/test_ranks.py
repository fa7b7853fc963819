"""Ranks of a job: what is exchanged, and that results do not depend on their number."""

import pytest
import torch

import ranked
from scoredistill import distill, estimators
from scoredistill.estimators import methods
from scoredistill.generators import CoordinateMLP, Latents
from scoredistill.priors import Counted, Guided, Prior
from scoredistill.priors.guidance import PerpNeg, plain
from scoredistill.priors.shared import shared
from scoredistill.ranks import Lost, Ranks, Share, alone, timeout
from scoredistill.three_d.camera import around
from scoredistill.three_d.fitting import PosedImages, fit, scene_of

pytestmark = ranked.forks


def exchanged(n):
    """Rows of n gathered, sums of gradients, and what rank 0 says."""
    ranks = Ranks.here()
    share = ranks.share(n)
    rows = torch.arange(3 * n, dtype=torch.float64).reshape(n, 3)
    whole = ranks.gather(share.of(rows).bfloat16(), share)
    both, one, none = (torch.zeros(2, requires_grad=True) for _ in range(3))
    both.grad = torch.full((2,), 1.0 + ranks.rank)
    one.grad = torch.ones(2) if ranks.rank == 1 else None
    ranks.add_gradients([both, one, none])
    return share, whole, both.grad, one.grad, none.grad, ranks.first(lambda: 10 + ranks.rank)


@pytest.mark.parametrize("n", [1, 2, 5])
def test_rows_are_divided_and_gathered_and_gradients_added(n):
    found = ranked.run(2, exchanged, n)
    middle = n // 2
    spare = n == 1
    assert found[0][0] == (Share(0, 1, 1, True) if spare else Share(0, middle, n))
    assert found[1][0] == Share(middle, n, n)
    assert [f[0].weight for f in found] == [middle / n, 1 - middle / n]
    for _, whole, both, one, none, said in found:
        assert torch.equal(whole, torch.arange(3.0 * n).reshape(n, 3).bfloat16())
        assert both.tolist() == [3.0, 3.0]
        assert one.tolist() == [1.0, 1.0]
        assert none is None
        assert said == 10


LABEL, OTHER = {"label": torch.tensor([0])}, {"label": torch.tensor([1])}
GIVEN = {"SDSBridge": (LABEL,)}  # arguments without a default
LEARNING = ("ESD", "VSD")  # with a float32 network, which rounds the samples


def samples(mixture, estimator, n=5, steps=3, state=None, stop=None, one_each=False):
    """The samples of some steps, the counts and the state after the step `stop`."""
    counted, rng = Counted(mixture), torch.Generator().manual_seed(1)
    start = torch.randn(n, 2, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    generator = Latents.of(start)
    last = None
    for step in distill(
        generator, Guided(counted, 3.0), estimator, LABEL, steps=steps, source=start + 0.3, source_cond=OTHER, rng=
        [torch.Generator().manual_seed(i) for i in range(n)] if one_each else rng, state=state, times=[0.7, 0.5, 0.3],
        groups=lambda views: views % 2,
    ):  # fmt: skip
        last = step
        if step.index == stop:
            break
    return generator.values.detach(), counted.counts(), last.state_dict()


def every_estimator(mixture):
    torch.manual_seed(0)  # of students
    return {
        name: samples(mixture, getattr(methods, name)(*GIVEN.get(name, ())), one_each=name == "SDS")[:2]
        for name in methods.__all__
    }


def test_every_estimator_equals_one_process(mixture):
    alone = every_estimator(mixture)
    for found in ranked.run(3, every_estimator, mixture):  # of 5 particles
        for name, (values, counts) in alone.items():
            assert found[name][1] == counts, name
            tolerance = 1e-6 if name in LEARNING else 1e-12
            assert (found[name][0] - values).abs().max() < tolerance, name


def interrupted(mixture, state, stop):
    return samples(mixture, estimators.Stein(methods.FixedNoise(0.5)), state=state, stop=stop)


def test_a_run_continues_on_another_number_of_ranks(mixture):
    whole = interrupted(mixture, None, None)[0]
    state = ranked.run(4, interrupted, mixture, None, 0)[3][2]
    state = ranked.run(2, interrupted, mixture, state, 1)[1][2]
    values, _, last = interrupted(mixture, state, None)
    assert (values - whole).abs().max() < 1e-12
    assert last["next"] == 3


class Smallest(Prior):
    """A prior that notes the sizes of its batches."""

    def __init__(self, prior):
        self.prior, self.schedule, self.seen = prior, prior.schedule, []

    def eps(self, x_t, t, cond=None):
        self.seen.append(len(x_t))
        return self.prior.eps(x_t, t, cond)

    def null(self, cond):
        return self.prior.null(cond)


def rows(mixture):
    noted = Smallest(mixture)
    samples(noted, methods.SDS(), n=3, steps=3)
    return noted.seen


def test_each_rank_evaluates_its_share_of_the_rows(mixture):
    assert rows(mixture) == [6, 6, 6]  # with guidance
    assert ranked.run(2, rows, mixture) == [[3, 3, 3]] * 2
    assert ranked.run(4, rows, mixture) == [[1] * 3, [2] * 3, [1] * 3, [2] * 3]


def unlike(mixture):
    """What rank 1 alone does otherwise: its first parameters, or the number of steps."""
    ranks = Ranks.here()
    generator = Latents.of(torch.full((3, 2), 1.0 + ranks.rank, dtype=torch.float64))
    rng = torch.Generator().manual_seed(0)
    torch.rand(ranks.rank, generator=rng)
    list(distill(generator, mixture, methods.SDS(), steps=2, rng=rng))
    own = Latents.of(torch.full((3, 2), 1.0 + ranks.rank, dtype=torch.float64))
    list(distill(own, mixture, methods.SDS(), steps=1 + ranks.rank, ranks=Ranks()))  # each for itself
    with alone():
        assert Ranks.here() == Ranks()
        list(distill(own, mixture, methods.SDS(), steps=1 + ranks.rank))
    assert Ranks.here() == ranks
    with pytest.raises(ValueError, match="rank 1 has another steps") as refused:
        list(distill(generator, mixture, methods.SDS(), steps=2 + ranks.rank))
    return generator.values.detach(), own.values.detach(), str(refused.value)


def test_ranks_start_alike_or_are_refused(mixture):
    one, other = ranked.run(2, unlike, mixture)
    assert torch.equal(one[0], other[0])
    assert not torch.equal(one[1], other[1])
    assert one[2] == other[2]
    assert "rank 1 has another steps (3) than rank 0 (2)" in one[2]


def raised():
    def wrong():
        raise FloatingPointError("the disk is green")

    with pytest.raises(FloatingPointError, match="the disk is green"):
        Ranks.here().first(wrong)
    return True


def test_an_error_of_rank_0_is_that_of_all():
    assert ranked.run(2, raised) == [True, True]


def lost():
    ranks = Ranks.here()
    if ranks.rank == 1:
        return ""
    with pytest.raises(Lost, match="another rank has ended") as error:
        ranks.add(torch.zeros(1))
    return str(error.value)


def test_a_rank_that_ends_is_one_sentence():
    assert (
        ranked.run(2, lost)[0] == "another rank has ended, or has not answered for 600 seconds (SCOREDISTILL_TIMEOUT)"
    )


@pytest.mark.parametrize("said", ["soon", "0", "-1", "nan", "inf"])
def test_the_time_to_answer_is_a_number_of_seconds(monkeypatch, said):
    monkeypatch.setenv("SCOREDISTILL_TIMEOUT", said)
    with pytest.raises(ValueError, match="must be a number of seconds above 0"):
        timeout()


def fitted(masked):
    """The parameters of a radiance field after some steps of a fit, and its losses."""
    rng = torch.Generator().manual_seed(0)
    cameras = around(torch.tensor([0.0, 90.0]), torch.tensor([10.0, 20.0]), 3.0, 40.0, (8, 8))
    mask = (torch.rand(2, 1, 8, 8, generator=rng) > 0.5).float() if masked else None
    views = PosedImages(torch.rand(2, 3, 8, 8, generator=rng), cameras, torch.rand(2, 1, 8, 8, generator=rng), mask)
    scene = scene_of(views, samples=4)
    losses = [float(step.loss) for step in fit(scene, views, steps=3, rays=9)]
    with torch.no_grad():
        return scene.render(cameras).rgb, losses


@pytest.mark.parametrize("masked", [False, True])
def test_a_fit_divides_its_rays(masked):
    views, losses = fitted(masked)
    for made, found in ranked.run(2, fitted, masked):
        assert (made - views).abs().max() < 1e-5
        assert found == pytest.approx(losses, rel=1e-5)


def networks(mixture):
    """Sizes of the batches that a network renders, and its parameters."""
    generator = CoordinateMLP(3, (4, 4), 8, 1, 4, rng=torch.Generator().manual_seed(0))
    rendered, part = [], generator.part
    generator.part = lambda views, share: rendered.append(len(share)) or part(views, share)
    prior = Prior.from_callable(lambda x, t, cond: 0.5 * x, mixture.schedule)
    adam = torch.optim.SGD(generator.parameters(), 0.1)
    list(distill(generator, prior, methods.CSD(), steps=2, optimizer=adam, follow=2))
    return rendered, [p.detach() for p in generator.parameters()]


@pytest.mark.parametrize(("size", "shares"), [(2, (1, 2)), (4, (1, 1, 1, 1))])  # with 4, the first for nothing
def test_expensive_generators_are_rendered_in_parts(mixture, size, shares):
    _, alone = networks(mixture)
    found = ranked.run(size, networks, mixture)
    assert [rendered for rendered, _ in found] == [[n] * 4 for n in shares]  # two steps, each with two inner ones
    for _, made in found:
        for p, q in zip(made, alone, strict=True):
            assert (p - q).abs().max() < 1e-6


def test_wrappers_stay_what_they_are(mixture):
    ranks = Ranks(0, 2)
    guided = Guided(Counted(mixture), 3.0)
    made = shared(guided, ranks)
    assert isinstance(made, Guided)
    assert made.prior is not guided.prior
    assert made.prior.prior is guided.prior  # which counts for both
    assert shared(guided, Ranks()) is guided
    with pytest.raises(ValueError, match="without PerpNeg"):
        plain(shared(PerpNeg(mixture, 3.0, []), ranks))
