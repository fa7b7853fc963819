"""CSD-Edit (https://arxiv.org/abs/2307.04787): its step as the released code takes it, written anew; its known defects;
coupling within groups and of low frequencies; memory.
"""

import math

import pytest
import torch
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import tiny_unets
from scoredistill import load_prior
from scoredistill.estimators import Batch, CSDEdit, Estimate, Estimator, LowPass, Stein
from scoredistill.generators import Windows
from scoredistill.kernels import RBF, InverseMultiquadric
from scoredistill.loop import distill
from scoredistill.priors import Counted, ImageGuided, Prior
from scoredistill.schedule import VP

F64 = torch.float64
TEXT_SCALE, IMAGE_SCALE, TICK, N = 7.5, 1.5, 400, 5
INSTRUCTION = "make it red"


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=seeded(seed), dtype=F64)


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory):
    """A tiny random InstructPix2Pix in float64, so that rows do not depend on their batch."""
    return tiny_unets.instruct_pix2pix(tmp_path_factory.mktemp("tokens")).to(torch.float64)


class Released:
    """The step of the released code in plain torch, on a pipeline's own networks: one patch after the other."""

    def __init__(self, pipeline, tick=TICK):
        self.pipeline, self.tick = pipeline, tick
        level = pipeline.scheduler.alphas_cumprod[tick].double()
        self.alpha, self.sigma = level.sqrt(), (1 - level).sqrt()

    @torch.no_grad()
    def text(self, prompt):
        tokens = self.pipeline.tokenizer(prompt, padding="max_length", max_length=16, return_tensors="pt")
        return self.pipeline.text_encoder(tokens.input_ids)[0]

    @torch.no_grad()
    def guided(self, latent, image, prompt):
        """e(0, 0) + s_I (e(img, 0) - e(0, 0)) + s_T (e(img, y) - e(img, 0)) for one latent [1, 4, h, w]."""
        e = lambda image, prompt: (
            self.pipeline.unet(torch.cat([latent, image], 1), self.tick, encoder_hidden_states=self.text(prompt)).sample
        )
        nothing, seen, both = e(torch.zeros_like(image), ""), e(image, ""), e(image, prompt)
        return nothing + IMAGE_SCALE * (seen - nothing) + TEXT_SCALE * (both - seen)

    def directions(self, x, source, image, noise):
        """d_j, and the noised targets X_j."""
        targets, sources = self.alpha * x + self.sigma * noise, self.alpha * source + self.sigma * noise
        d = [
            self.guided(targets[j : j + 1], image[j : j + 1], INSTRUCTION)
            - self.guided(sources[j : j + 1], image[j : j + 1], "")
            for j in range(len(x))
        ]
        return torch.cat(d), targets

    def gradient(self, x, source, image, noise):
        """sigma^2 / N (sum_j K_ij d_j + dK_i), dK_i = sum_j -2 gamma K_ij (X_i - X_j)."""
        d, targets = self.directions(x, source, image, noise)
        n = len(x)
        squared = (targets[:, None] - targets[None]).square().flatten(2).sum(-1)
        gamma = math.log(n + 1) / torch.median(squared)  # of all n^2 entries, the lower of two
        kernel = torch.exp(-gamma * squared)
        made = []
        for i in range(n):
            total = torch.zeros_like(d[0])
            for j in range(n):
                total += kernel[i, j] * d[j] - 2 * gamma * kernel[i, j] * (targets[i] - targets[j])
            made.append(self.sigma**2 / n * total)
        return torch.stack(made)


def images(count=N, width=16):
    return torch.rand(count, 3, 16, width, generator=seeded(4), dtype=F64)


def difference(ours, theirs):
    return float((ours - theirs).abs().max() / max(1, theirs.abs().max()))


class TestAgainstTheReleasedCode:
    def setting(self, pipeline):
        prior = load_prior(pipeline)
        source = prior.encode_image(images())
        cond = prior.encode_text(INSTRUCTION) | prior.encode_source(images())
        return prior, source + 0.3 * normal(N, 4, 8, 8, seed=1), source, cond

    def test_one_step(self, pipeline):
        prior, x, source, cond = self.setting(pipeline)
        with torch.no_grad():
            image = pipeline.vae.encode(2 * images() - 1).latent_dist.mode()
        expected = Released(pipeline).gradient(x, image * 0.5, image, normal(N, 4, 8, 8, seed=2))
        counted = Counted(prior)
        guided, t = ImageGuided(counted, TEXT_SCALE, IMAGE_SCALE), torch.full((N,), TICK / 999, dtype=F64)
        found = CSDEdit(normalize="paper")(guided, Batch(x, cond, source), t, seeded(2)).grad
        assert difference(found, expected) < 1e-6
        assert expected.abs().max() > 0.1
        assert (counted.rows, counted.calls) == (5 * N, 1)
        for other in (CSDEdit(), CSDEdit(RBF(), "paper"), CSDEdit(normalize="paper", weight="uniform")):
            assert difference(other(guided, Batch(x, cond, source), t, seeded(2)).grad, expected) > 1e-4

    def test_the_repulsion_is_in_it(self, pipeline):
        """Of the same size as the rest in eight by eight latents, so that the test above would see its sign."""
        prior, x, source, cond = self.setting(pipeline)
        guided, t = ImageGuided(prior, TEXT_SCALE, IMAGE_SCALE), torch.full((N,), TICK / 999, dtype=F64)
        released = Released(pipeline)
        _, targets = released.directions(x, source, cond["image"], normal(N, 4, 8, 8, seed=2))
        _, away = RBF("paper").repulsion(targets)
        push = released.sigma**2 / N * away
        whole = CSDEdit(normalize="paper")(guided, Batch(x, cond, source), t, seeded(2)).grad
        assert push.norm() > 0.01 * whole.norm()
        without = Stein(
            CSDEdit(coupled=False, weight="uniform"), RBF("paper"), "paper", 0.0, noised=True, weight="sigma2"
        )
        rest = without(guided, Batch(x, cond, source), t, seeded(2)).grad
        assert (whole - (rest - push)).abs().max() < 1e-9

    def test_through_windows(self, pipeline):
        """canvas - lr (sum of the gradients of windows / their number), at every pixel of the canvas."""
        prior = load_prior(pipeline)
        seen = images(1, 32)
        source, image = prior.encode_image(seen), prior.encode_source(seen)["image"]
        start = source + 0.3 * normal(1, 4, 8, 16, seed=1)
        windows = Windows(start, (8, 8), (8, 2), profile="flat", jitter=False)
        text = prior.encode_text(INSTRUCTION)
        (step,) = distill(
            windows, ImageGuided(prior, TEXT_SCALE, IMAGE_SCALE), CSDEdit(normalize="paper"),
            lambda views: {"text": text["text"], "image": windows.crops(image, views)}, steps=1, times=[TICK / 999],
            optimizer=lambda parameters: torch.optim.SGD(parameters, lr=2.0), rng=seeded(2),
            source=lambda views: windows.crops(source, views),
        )  # fmt: skip
        lefts = step.views[:, 2].tolist()
        assert sorted(lefts) == [0, 2, 4, 6, 8]
        cut = lambda canvas: torch.cat([canvas[..., left : left + 8] for left in lefts])
        grads = Released(pipeline).gradient(cut(start), cut(source), cut(image), normal(N, 4, 8, 8, seed=2))
        total, count = torch.zeros_like(start), torch.zeros(16)
        for left, grad in zip(lefts, grads, strict=True):
            total[0, :, :, left : left + 8] += grad
            count[left : left + 8] += 1
        assert count.tolist() == [1, 1, 2, 2, 3, 3, 4, 4, 4, 4, 3, 3, 2, 2, 1, 1]
        assert difference(windows.canvas.detach(), start - 2 * total / count) < 1e-6
        assert (windows.canvas - start).abs().max() > 0.1

    @pytest.mark.parametrize(
        ("text_scale", "image_scale", "rows"),
        [(7.5, 1.5, 5), (7.5, 1.0, 3), (1.0, 1.0, 2), (1.5, 1.5, 4), (7.5, 0.0, 4), (0.0, 1.0, 2), (0.0, 0.0, 2)],
    )
    def test_terms_that_vanish_cost_nothing(self, pipeline, text_scale, image_scale, rows):
        prior, x, source, cond = self.setting(pipeline)
        counted = Counted(prior)
        guided, t = ImageGuided(counted, text_scale, image_scale), torch.full((N,), 0.5, dtype=F64)
        for normalize in ("row", "paper"):
            counted.rows = counted.calls = 0
            CSDEdit(normalize=normalize)(guided, Batch(x, cond, source), t, seeded())
            assert (counted.rows, counted.calls) == (rows * N, 1)

    def test_no_instruction_changes_nothing(self, pipeline):
        prior, _, source, cond = self.setting(pipeline)
        guided, t = ImageGuided(prior, TEXT_SCALE, IMAGE_SCALE), torch.full((N,), 0.5, dtype=F64)
        silent = CSDEdit()(guided, Batch(source, guided.null(cond), source), t, seeded()).grad
        assert silent.abs().max() == 0
        empty = CSDEdit()(guided, Batch(source, cond | prior.encode_text(""), source), t, seeded()).grad
        assert empty.abs().max() < 1e-12
        assert CSDEdit()(guided, Batch(source, cond, source), t, seeded()).grad.abs().max() > 1e-3


class Editor(Prior):
    """A closed-form editor of images: around the image and the words, and not linear, so that noise matters."""

    schedule = VP()

    def eps(self, x_t, t, cond=None):
        alpha, sigma = (c[:, None, None, None] for c in self.schedule(t))
        mean = 0.7 * cond["image"] + cond["text"]
        return sigma * (x_t - alpha * mean) / (alpha**2 * 0.3 + sigma**2) + torch.sin(x_t) * mean

    def null(self, cond):
        return {**cond, "text": torch.zeros_like(cond["text"])}


MODES = pytest.mark.parametrize("normalize", ["row", "paper"])


def setting(n, same=False):
    """Guided editor, batch and times; `same`: all particles and all images are equal."""
    x, image = normal(n, 3, 4, 4, seed=5), normal(n, 3, 4, 4, seed=6)
    if same:
        x, image = x[:1].repeat(n, 1, 1, 1), image[:1].repeat(n, 1, 1, 1)
    cond = {"image": image, "text": torch.full((1, 3, 1, 1), 0.2, dtype=F64)}
    guided = ImageGuided(Editor(), TEXT_SCALE, IMAGE_SCALE)
    return guided, Batch(x, cond, x + 0.1), torch.full((n,), 0.4, dtype=F64)


def alone(guided, batch, t, rng):
    return CSDEdit(coupled=False)(guided, batch, t, rng).grad


class TestKnownDefects:
    """Where the released code divides nothing by nothing, and what is found there instead."""

    @MODES
    @pytest.mark.parametrize("dtype", [F64, torch.float32])
    def test_one_particle_is_alone(self, normalize, dtype):
        guided, batch, t = setting(1)
        batch = Batch(batch.x.to(dtype), {k: v.to(dtype) for k, v in batch.cond.items()}, batch.source.to(dtype))
        found = CSDEdit(normalize=normalize)(guided, batch, t.to(dtype), seeded()).grad
        assert torch.equal(found, alone(guided, batch, t.to(dtype), seeded()))
        assert found.abs().max() > 0.01

    def test_two_particles_of_the_paper_share_nothing(self):
        """The lower median of two zeros and two distances is zero: K = 1, and half of each particle's own."""
        guided, batch, t = setting(2)
        found = CSDEdit(normalize="paper")(guided, batch, t, seeded()).grad
        assert (found - alone(guided, batch, t, seeded()) / 2).abs().max() < 1e-12

    def test_two_particles_of_rows_share_a_quarter(self):
        """With u = log(N + 1) at the median K_12 = 1 / 3, whatever their distance, and rows sum to 4 / 3."""
        guided, batch, t = setting(2)
        found, d = CSDEdit()(guided, batch, t, seeded()).grad, alone(guided, batch, t, seeded())
        assert (found - (0.75 * d + 0.25 * d.flip(0))).abs().max() < 1e-12

    @MODES
    @pytest.mark.parametrize("n", [2, 5])
    @pytest.mark.parametrize("dtype", [F64, torch.float32])
    def test_a_static_clip_with_one_noise(self, normalize, n, dtype):
        """All distances are zero: K = 1 everywhere, no repulsion, and everybody's gradient is the one they all have."""
        guided, batch, t = setting(n, same=True)
        batch = Batch(batch.x.to(dtype), {k: v.to(dtype) for k, v in batch.cond.items()}, batch.source.to(dtype))
        noises = [seeded(3) for _ in range(n)]
        found = CSDEdit(normalize=normalize)(guided, batch, t.to(dtype), noises).grad
        expected = alone(guided, batch, t.to(dtype), [seeded(3) for _ in range(n)])
        assert (expected - expected[:1]).abs().max() == 0
        assert (found - expected).abs().max() < (1e-12 if dtype == F64 else 1e-5)

    def test_a_static_clip_with_noises_of_their_own(self):
        guided, batch, t = setting(5, same=True)
        rows, d = CSDEdit()(guided, batch, t, seeded()).grad, alone(guided, batch, t, seeded())
        assert (rows - d.mean(0)).abs().max() < 1e-12  # clean particles are equal: K = 1
        assert CSDEdit(normalize="paper")(guided, batch, t, seeded()).grad.isfinite().all()


class TestGroups:
    @MODES
    @pytest.mark.parametrize("group", [[0, 0, 0, 1, 1, 1, 1], [4, 9, 4, 9, 9, 4, 4], [2, 1, 2, 0, 2, 1, 2]])
    @pytest.mark.parametrize("share", [None, LowPass(2)])
    def test_groups_are_what_they_are_alone(self, normalize, group, share):
        n, group = len(group), torch.tensor(group)
        guided, batch, t = setting(n)
        estimator = CSDEdit(normalize=normalize)
        estimator = Stein(estimator.base, estimator.kernel, normalize, share=share, noised=estimator.noised)
        together = Batch(batch.x, batch.cond, batch.source, group=group)
        found = estimator(guided, together, t, [seeded(i) for i in range(n)]).grad
        for name in group.unique():
            here = (group == name).nonzero()[:, 0]
            cond = {"image": batch.cond["image"][here], "text": batch.cond["text"]}
            part = Batch(batch.x[here], cond, batch.source[here])
            expected = estimator(guided, part, t[here], [seeded(int(i)) for i in here]).grad
            assert (found[here] - expected).abs().max() < 1e-12
        mixed = estimator(guided, batch, t, [seeded(i) for i in range(n)]).grad
        assert (found - mixed).abs().max() > 1e-3

    def test_one_network_call_for_all_groups(self):
        _, batch, t = setting(6)
        counted = Counted(Editor())
        together = Batch(batch.x, batch.cond, batch.source, group=torch.tensor([0, 0, 1, 1, 2, 2]))
        CSDEdit()(ImageGuided(counted, TEXT_SCALE, IMAGE_SCALE), together, t, seeded())
        assert (counted.rows, counted.calls) == (5 * 6, 1)

    def test_the_loop_groups_views(self):
        """Two frames that share nothing: the second moves as if the first were another."""

        def run(first, groups):
            canvas = torch.cat([first, normal(1, 3, 4, 8, seed=8)])
            windows = Windows(canvas, (4, 4), (4, 2), jitter=False)
            cond = lambda views: {
                "image": 0.5 * windows.crops(canvas, views),
                "text": torch.ones(1, 3, 1, 1, dtype=F64),
            }
            source = lambda views: windows.crops(canvas, views)
            guided = ImageGuided(Editor(), TEXT_SCALE, IMAGE_SCALE)
            sgd = lambda parameters: torch.optim.SGD(parameters, lr=0.1)
            steps = distill(
                windows, guided, CSDEdit(), cond, steps=2, source=source, groups=groups, optimizer=sgd, rng=seeded()
            )
            return list(steps)[-1].generator.canvas.detach()[1]

        one, other = normal(1, 3, 4, 8, seed=1), normal(1, 3, 4, 8, seed=2)
        frames = lambda views: views[:, 0]
        assert (run(one, frames) - run(other, frames)).abs().max() < 1e-12
        assert (run(one, None) - run(other, None)).abs().max() > 1e-4


class Given(Estimator):
    """An estimator that says what it is told."""

    def __init__(self, grad):
        self.grad = grad

    def __call__(self, prior, batch, t, rng=None):
        return Estimate(self.grad)


class TestLowPass:
    @pytest.mark.parametrize(("cells", "size"), [(1, (4, 6)), (2, (4, 6)), (3, (6, 9)), (4, (4, 4))])
    def test_it_is_an_orthogonal_projection_on_means_of_cells(self, cells, size):
        d, e, low = normal(3, 2, *size, seed=1), normal(3, 2, *size, seed=2), LowPass(cells)
        assert (low(low(d)) - low(d)).abs().max() < 1e-14
        assert abs((low(d) * e).sum() - (d * low(e)).sum()) < 1e-12
        h, w = size[0] // cells, size[1] // cells
        for i in range(size[0]):
            for j in range(size[1]):
                cell = d[:, :, i // h * h : i // h * h + h, j // w * w : j // w * w + w]
                assert (low(d)[:, :, i, j] - cell.mean((2, 3))).abs().max() < 1e-14

    @pytest.mark.parametrize("cells", [1, 2])
    @pytest.mark.parametrize("kernel", [RBF(), RBF(8.0), InverseMultiquadric(3.0)], ids=repr)
    def test_only_the_means_are_coupled(self, cells, kernel):
        x, d = normal(6, 2, 4, 8, seed=1), normal(6, 2, 4, 8, seed=2)
        low, batch, t = LowPass(cells), Batch(x), torch.full((6,), 0.5, dtype=F64)
        found = Stein(Given(d), kernel, share=low)(Editor(), batch, t).grad
        whole = Stein(Given(d), kernel)(Editor(), batch, t).grad
        assert (low(found) - low(whole)).abs().max() < 1e-12
        assert ((found - low(found)) - (d - low(d))).abs().max() < 1e-12
        weights = kernel(x) / kernel(x).sum(1, keepdim=True)
        expected = d + torch.einsum("ij,jchw->ichw", weights - torch.eye(6, dtype=F64), low(d))
        assert (found - expected).abs().max() < 1e-12
        assert (found - whole).abs().max() > 0.1

    def test_a_wide_kernel_makes_all_means_equal_and_keeps_detail(self):
        guided, batch, t = setting(6)
        found = CSDEdit(RBF(1e9), share=LowPass())(guided, batch, t, seeded()).grad
        d = alone(guided, batch, t, seeded())
        means = functional.adaptive_avg_pool2d(found, 1)
        assert (means - d.mean((0, 2, 3), keepdim=True)).abs().max() < 1e-9
        detail = lambda g: g - g.mean((2, 3), keepdim=True)
        assert (detail(found) - detail(d)).abs().max() < 1e-9

    def test_everything_and_nothing(self):
        x, d, t = normal(4, 1, 2, 2, seed=1), normal(4, 1, 2, 2, seed=2), torch.full((4,), 0.5, dtype=F64)
        run = lambda **options: Stein(Given(d), RBF(2.0), **options)(Editor(), Batch(x), t).grad
        assert (run(share=lambda g: g) - run()).abs().max() < 1e-14
        assert (run(share=torch.zeros_like) - d).abs().max() == 0

    def test_cells_must_divide_the_window(self):
        with pytest.raises(ValueError, match="3 cells do not divide windows of 4 x 6"):
            LowPass(3)(torch.zeros(1, 1, 4, 6))


def test_the_kernel_of_noised_particles_needs_them():
    x, t = normal(3, 1, 2, 2), torch.full((3,), 0.5, dtype=F64)
    with pytest.raises(ValueError, match="noised=True needs a base that returns its noised particles"):
        Stein(Given(x), noised=True)(Editor(), Batch(x), t)


def test_the_bandwidth_of_the_paper():
    """Squared distances 0 (3x), 1 (2x), 4 (2x), 9 (2x): the fifth of nine is 1, so h^2 = 1 / (2 log 4)."""
    x = torch.tensor([[0.0], [1.0], [3.0]], dtype=F64)
    kernel = RBF("paper")(x)
    assert kernel[0, 1] == pytest.approx(1 / 4, abs=1e-12)
    assert kernel[1, 2] == pytest.approx(4.0**-4, abs=1e-12)
    assert kernel[0, 2] == pytest.approx(4.0**-9, abs=1e-12)
    even = torch.tensor([[0.0], [1.0], [3.0], [7.0]], dtype=F64)  # 0 (4x), 1 (2x), 4 (2x), ...: the eighth is 4
    assert RBF("paper")(even)[1, 2] == pytest.approx(1 / 5, abs=1e-12)


class Largest(TorchDispatchMode):
    """Size of the largest tensor that any operation makes, in float32 numbers."""

    def __init__(self):
        super().__init__()
        self.entries = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        sizes = [leaf.untyped_storage().nbytes() // 4 for leaf in tree_leaves(made) if isinstance(leaf, torch.Tensor)]
        self.entries = max(self.entries, *sizes, 0)
        return made


@pytest.mark.parametrize("repulsion", [0.0, 1.0])
@pytest.mark.parametrize("features", [None, lambda x: 2 * x], ids=["particles", "features"])
@pytest.mark.parametrize("n", [128, 256, 512])
def test_memory_of_the_coupling_is_that_of_the_kernel_and_the_particles(n, repulsion, features):
    """Twice n^2 + n d float32 numbers (the indices of pairs are int64); [n, n, d] would be 85 times that at n = 512."""
    d = 256
    x = torch.randn(n, d, generator=seeded())
    stein = Stein(Given(torch.ones(n, d)), RBF(features=features), repulsion=repulsion, share=lambda g: g * 1)
    with Largest() as largest:
        stein(Editor(), Batch(x, group=torch.arange(n) // (n - 1)), torch.full((n,), 0.5))
        stein(Editor(), Batch(x), torch.full((n,), 0.5))
    assert n * d <= largest.entries <= 2 * (n * n + n * d)
