"""The ideal denoiser of images: its screen leaves out only what cannot matter; labels as texts; nearest data."""

import pytest
import torch

from scoredistill.estimators import MSD, Batch
from scoredistill.priors import Empirical, Guided
from scoredistill.priors.empirical import Screen
from scoredistill.sampling import ddim
from scoredistill.schedule import VE, VP

F64 = torch.float64
SHAPE = (3, 8, 8)
RATIOS = (0.0, 1e-3, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 100.0)


def images(rng, n=120, dtype=F64):
    """Smooth random images in [0, 1] in clusters, so that few coordinates tell much and neighbors are near."""
    centers = torch.nn.functional.interpolate(torch.rand(12, 3, 3, 3, generator=rng, dtype=dtype), (8, 8))
    return (centers.repeat_interleave(n // 12, 0) + 0.1 * torch.rand(n, *SHAPE, generator=rng, dtype=dtype)) / 1.1


@pytest.fixture
def data(rng):
    return images(rng)


@pytest.fixture
def screened(monkeypatch):
    monkeypatch.setattr("scoredistill.priors.empirical.RANK", 8)


def plain(data, x, alpha, sigma):
    """The posterior mean by its definition, from differences."""
    squared = (x[:, None] - alpha[:, None, None, None, None] * data).flatten(2).square().sum(-1)
    logits = -squared / (2 * sigma[:, None] ** 2)
    return (logits.softmax(1) @ data.flatten(1)).reshape_as(x)


def noised(data, rng, ratio, rows=10):
    y = data[torch.randint(len(data), (rows,), generator=rng)]
    return y + ratio * torch.randn(y.shape, generator=rng, dtype=y.dtype)


def used(prior, monkeypatch):
    """The list that will hold how many data each block of samples is weighed against."""
    seen, weigh = [], prior._weights
    monkeypatch.setattr(prior, "_weights", lambda *a: seen.append(len(a[-1])) or weigh(*a))
    return seen


class TestScreen:
    @pytest.mark.parametrize(("dtype", "tolerance"), [(F64, 1e-12), (torch.float32, 2e-4)], ids=str)
    @pytest.mark.parametrize("schedule", [VE(1e-3, 1e3), VP()], ids=repr)
    def test_the_screened_mean_is_the_plain_one_at_every_noise(self, schedule, dtype, tolerance, screened, rng):
        data = images(rng, dtype=dtype)
        prior = Empirical(data, schedule=schedule)
        assert prior._screen is not None
        for ratio in RATIOS[1:]:
            t = schedule.time_of(torch.full((10,), ratio, dtype=F64)).to(dtype)
            alpha, sigma = schedule(t)
            x = alpha[:, None, None, None] * noised(data, rng, ratio)
            expected = plain(data.double(), x.double(), alpha.double(), sigma.double())
            assert (prior.denoise(x, t) - expected).abs().max() < tolerance

    def test_what_is_left_out_weighs_less_than_rounding(self, data, screened, rng):
        prior, eps = Empirical(data, schedule=VE(1e-3, 1e3)), torch.finfo(F64).eps
        left_out = 0
        for ratio in RATIOS[1:]:
            x, sigma = noised(data, rng, ratio).flatten(1), torch.full((10, 1), ratio, dtype=F64)
            near = prior._screen.near(x - data.flatten(1).mean(0), torch.ones(10, 1, dtype=F64), sigma, None)
            weights = (-torch.cdist(x, data.flatten(1)).square() / (2 * sigma**2)).softmax(1)
            assert (weights * ~near).sum(1).max() <= eps
            left_out += int((~near).sum())
        assert left_out > 2000

    def test_rounding_loses_no_datum_where_the_bound_is_an_equality(self, rng):
        """Data in a space that the basis spans, in float32, at their own place and without noise."""
        data = torch.randn(2000, 4, generator=rng) @ torch.randn(4, 64, generator=rng)
        table = torch.cat([data, -0.5 * data.square().sum(1, keepdim=True), torch.ones(2000, 1)], 1)
        near = Screen(table, 8).near(data, torch.ones(2000, 1), torch.zeros(2000, 1), None)
        assert near.diagonal().all()

    def test_little_noise_costs_few_data_and_much_noise_all(self, data, screened, rng, monkeypatch):
        """Four samples, each in a cluster of ten."""
        prior = Empirical(data, schedule=VE(1e-3, 1e3))
        seen = used(prior, monkeypatch)
        for ratio in (1e-3, 0.03, 100.0):
            prior.denoise_at(noised(data, rng, ratio, 4), torch.full((4,), ratio, dtype=F64))
        assert seen[0] <= 40
        assert seen[1] <= 40
        assert seen[2:] == [120]

    def test_samples_of_little_and_of_much_noise_do_not_share_data(self, data, screened, rng, monkeypatch):
        prior, ratio = Empirical(data, schedule=VE(1e-3, 1e3)), torch.tensor([0.01, 50.0, 0.01, 50.0], dtype=F64)
        x = noised(data, rng, ratio[:, None, None, None], 4)
        seen = used(prior, monkeypatch)
        together = prior.denoise_at(x, ratio)
        assert min(seen) <= 20
        assert max(seen) == 120
        alone = torch.cat([prior.denoise_at(x[i : i + 1], ratio[i : i + 1]) for i in range(4)])
        assert (together - alone).abs().max() < 1e-13

    def test_log_density_and_classes_are_those_without_a_screen(self, data, rng, monkeypatch):
        labels, schedule = [0, 1, 2] * 40, VE(1e-3, 1e3)
        without = Empirical(data, labels, schedule)
        monkeypatch.setattr("scoredistill.priors.empirical.RANK", 8)
        screened, cond = Empirical(data, labels, schedule), {"label": torch.tensor([-1, 0, 1, 2, 0, -1, 1, 2, 0, 1])}
        assert (without._screen is None) != (screened._screen is None)
        for ratio in RATIOS[1:]:
            x, t = noised(data, rng, ratio), schedule.time_of(torch.full((10,), ratio, dtype=F64))
            assert torch.allclose(screened.denoise(x, t, cond), without.denoise(x, t, cond), rtol=0, atol=1e-12)
            assert torch.allclose(screened.log_prob(x, t, cond), without.log_prob(x, t, cond), rtol=1e-12)

    def test_without_noise_the_nearest_datum_is_the_answer(self, data, screened):
        assert (Empirical(data).denoise(data, torch.zeros(120, dtype=F64)) - data).abs().max() < 1e-14

    def test_it_is_differentiable_behind_the_screen(self, rng, monkeypatch):
        monkeypatch.setattr("scoredistill.priors.empirical.RANK", 2)
        data = torch.randn(16, 9, generator=rng, dtype=F64)
        prior, ratio = Empirical(data, schedule=VE(1e-3, 1e3)), torch.tensor([0.3, 1.0], dtype=F64)
        assert prior._screen is not None
        x = noised(data, rng, 0.5, 2).requires_grad_()
        assert torch.autograd.gradcheck(lambda x: prior.denoise_at(x, ratio), x)

    def test_small_sets_are_not_screened(self, data):
        assert Empirical(data)._screen is None


class TestTexts:
    NAMES = ("owl", "red apple", "mushroom")

    @pytest.fixture
    def prior(self, data):
        """Forty data of each concept, alternately in two styles."""
        names = [self.NAMES[i // 40] for i in range(120)]
        styles = [("noto", "flat")[i % 2] for i in range(120)]
        return Empirical(data, [{n, s, f"a {s} emoji of {n}"} for n, s in zip(names, styles, strict=True)])

    @pytest.mark.parametrize("rank", [8, 1000])
    @pytest.mark.parametrize(
        ("text", "mask"),
        [
            ("red apple", lambda i: i // 40 == 1),
            ("flat", lambda i: i % 2 == 1),
            ("a noto emoji of owl", lambda i: (i // 40 == 0) & (i % 2 == 0)),
            ("", lambda i: i >= 0),
        ],
    )
    def test_a_text_selects_the_data_that_carry_it(self, data, text, mask, rank, rng, monkeypatch):
        monkeypatch.setattr("scoredistill.priors.empirical.RANK", rank)
        prior = TestTexts.prior.__wrapped__(self, data)
        only, t = Empirical(data[mask(torch.arange(120))]), torch.linspace(0.1, 0.95, 10, dtype=F64)
        x, cond = torch.randn(10, *SHAPE, generator=rng, dtype=F64), prior.encode_text(text)
        assert (prior.denoise(x, t, cond) - only.denoise(x, t)).abs().max() < 1e-11
        assert torch.allclose(prior.log_prob(x, t, cond), only.log_prob(x, t), rtol=1e-11)

    def test_each_sample_has_its_own_text(self, prior, rng):
        x, t = torch.randn(2, *SHAPE, generator=rng, dtype=F64), torch.full((2,), 0.6, dtype=F64)
        both = prior.denoise(x, t, prior.encode_text(["owl", "mushroom"]))
        for i, name in enumerate(("owl", "mushroom")):
            assert (both[i : i + 1] - prior.denoise(x[i : i + 1], t[:1], prior.encode_text(name))).abs().max() < 1e-13
        assert (both[0] - both[1]).abs().max() > 0.01

    def test_guidance_leads_away_from_all_data(self, prior, rng):
        x, t = torch.randn(4, *SHAPE, generator=rng, dtype=F64), torch.full((4,), 0.7, dtype=F64)
        cond = prior.encode_text("owl")
        expected = 3 * prior.eps(x, t, cond) - 2 * prior.eps(x, t)
        assert (Guided(prior, 3.0).eps(x, t, cond) - expected).abs().max() < 1e-12

    def test_one_text_for_each_datum_is_enough(self, data):
        prior = Empirical(data[:4], ["owl", "lemon", "owl", "corn"])
        assert prior.names == ("owl", "lemon", "corn")
        assert prior.encode_text(["corn", "owl", ""])["label"].tolist() == [2, 0, -1]

    def test_unknown_texts_name_the_nearest(self, prior):
        with pytest.raises(ValueError, match="no datum is labeled 'red aple'; the nearest labels are 'red apple'"):
            prior.encode_text(["owl", "red aple"])

    @pytest.mark.parametrize(
        ("labels", "message"),
        [
            (["owl"], "1 labels for 3 data"),
            ([0, 1], "2 labels for 3 data"),
            (["owl", "", "lemon"], "label '' of datum 1"),
            ([{"owl"}, {"lemon"}, {""}], "of datum 2"),
        ],
    )
    def test_labels_that_do_not_fit_are_refused(self, data, labels, message):
        with pytest.raises(ValueError, match=message):
            Empirical(data[:3], labels)

    def test_labels_that_no_datum_has_are_refused(self, data, prior):
        x, t = data[:1], torch.full((1,), 0.5, dtype=F64)
        for each, label in ((prior, 11), (Empirical(data, [0, 2] * 60), 1)):
            with pytest.raises(ValueError, match=f"no datum has label {label}"):
                each.denoise(x, t, {"label": torch.tensor([label])})

    @pytest.mark.parametrize("labels", [None, [0] * 120])
    def test_texts_need_text_labels(self, data, labels):
        with pytest.raises(ValueError, match="no text labels"):
            Empirical(data, labels).encode_text("owl")


class TestNearest:
    @pytest.mark.parametrize("dtype", [torch.float32, F64], ids=str)
    def test_distance_and_index_are_those_of_all_differences(self, dtype, rng, monkeypatch):
        data = images(rng, dtype=dtype)
        x = torch.cat([noised(data, rng, ratio, 5) for ratio in RATIOS])
        distances = (x[:, None] - data).flatten(2).norm(dim=2)
        monkeypatch.setattr("scoredistill.priors.empirical.CHUNK", 120 * 7)
        distance, index = Empirical(data).nearest(x)
        assert torch.equal(index, distances.argmin(1))
        assert torch.allclose(distance, distances.amin(1), rtol=1e-6)

    def test_near_ties_are_told_apart_by_their_differences(self, rng):
        """In float32 the expanded square of pairs this close, and this far from the mean, has lost what differs."""
        place = 10 * torch.randn(60, 192, generator=rng)
        data = torch.stack([place, place + 1e-4 * torch.randn(60, 192, generator=rng)], 1).flatten(0, 1)
        _, index = Empirical(data).nearest(data)
        assert torch.equal(index, torch.arange(120))

    def test_a_datum_is_nearest_to_itself_at_distance_zero(self, data):
        distance, index = Empirical(data.float()).nearest(data.float())
        assert distance.max() == 0
        assert torch.equal(index, torch.arange(120))

    @pytest.mark.parametrize("classes", [40, 2])
    def test_a_class_is_searched_alone(self, data, rng, classes):
        """40 classes have three data each, fewer than are compared by their differences."""
        labels, x = torch.arange(120) % classes, noised(data, rng, 0.2)
        distance, index = Empirical(data, labels).nearest(x, {"label": torch.tensor([1])})
        distances = (x[:, None] - data[1::classes]).flatten(2).norm(dim=2)
        assert torch.equal(index, 1 + classes * distances.argmin(1))
        assert torch.allclose(distance, distances.amin(1), rtol=1e-12)

    def test_samples_and_mean_shift_end_on_data_of_their_text(self, data, screened, rng):
        prior = Empirical(data, ["owl", "corn"] * 60)
        cond = prior.encode_text("corn")
        samples = ddim(prior, torch.randn(6, *SHAPE, generator=rng, dtype=F64), 60, cond)
        distance, index = prior.nearest(samples, cond)
        assert distance.max() < 1e-3
        assert (index % 2 == 1).all()
        x = torch.rand(4, *SHAPE, generator=rng, dtype=F64)
        for ratio in torch.logspace(0.5, -3, 60, dtype=F64):
            level = prior.schedule.time_of(ratio).expand(4)
            x = x - MSD()(prior, Batch(x, cond), level, rng).grad
        assert prior.nearest(x, cond)[0].max() < 1e-3
