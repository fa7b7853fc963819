r"""Guidance as wrappers of priors. All rows of a guided evaluation go through the network in one call.

    classifier-free guidance     e_0 + s (e_c - e_0)            s = 1 is the conditional model (diffusers' convention)
    image and text guidance      e(0,0) + s_I [e(img,0) - e(0,0)] + s_T [e(img,y) - e(img,0)]
    perpendicular negatives      e_0 + s [d + sum_i w_i (d_i - <d_i, d> / <d, d> d)],   d = e_c - e_0,  d_i = e_i - e_0

Other conventions: threestudio writes e_c + s' (e_c - e_0), so its scale 100 is 101 here; the mean-shift paper's
(1 + w) e_c - w e_0 has s = 1 + w.

References: Classifier-free diffusion guidance (Ho & Salimans 2022), https://arxiv.org/abs/2207.12598; Applying guidance
in a limited interval (Kynkaanniemi et al. 2024), https://arxiv.org/abs/2404.07724; InstructPix2Pix (Brooks et al.
2022), https://arxiv.org/abs/2211.09800; Perp-Neg (Armandpour et al. 2023), https://arxiv.org/abs/2304.04968.
"""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from scoredistill.priors.base import Editor, Prior, PriorWrapper, Terms
from scoredistill.priors.conditions import Cond, cat_conds, check_cond, expand_cond, replaced
from scoredistill.schedule import per_sample


class LinearGuidance(PriorWrapper):
    """Abstract base of guidance as a weighted sum of predictions; subclasses define `guide`."""

    def guide(self, t: Float[Tensor, " b"], cond: Cond | None) -> Terms:
        """Return the conditions and their coefficients, which sum to 1."""
        raise NotImplementedError

    def terms(self, t: Float[Tensor, " b"], cond: Cond | None) -> Terms:
        check_cond(cond)
        return [(a * b, inner) for a, outer in self.guide(t, cond) for b, inner in self.prior.terms(t, outer)]

    @property
    def unguided(self) -> Prior:
        return self.prior.unguided

    def eps(
        self, x_t: Float[Tensor, " b *d"], t: Float[Tensor, " b"], cond: Cond | None = None
    ) -> Float[Tensor, " b *d"]:
        return _weigh(self.unguided.eps, x_t, t, self.terms(t, cond))

    def denoise(
        self, x_t: Float[Tensor, " b *d"], t: Float[Tensor, " b"], cond: Cond | None = None
    ) -> Float[Tensor, " b *d"]:
        return _weigh(self.unguided.denoise, x_t, t, self.terms(t, cond))


class Guided(LinearGuidance):
    """Classifier-free guidance: e_0 + s (e_c - e_0), two rows per sample in one call.

    Args:
        prior: the prior to guide.
        scale: s; 1 is the conditional model (one row), 0 the unconditional one (one row).
        interval: guide only for t in [lo, hi], and use the conditional model elsewhere.
        uncond: the unconditional or a negative condition; by default the prior's own (`Prior.null`). It replaces the
            entries of the condition that it names; the others (a source image, sizes) stay.

    Raises:
        ValueError: for an invalid interval. When evaluated: without a condition.
    """

    def __init__(
        self, prior: Prior, scale: float, interval: tuple[float, float] | None = None, uncond: Cond | None = None
    ):
        super().__init__(prior)
        if interval is not None and not 0 <= interval[0] <= interval[1] <= 1:
            raise ValueError(f"interval must be (lo, hi) with 0 <= lo <= hi <= 1, not {interval}")
        self.scale, self.interval, self.uncond = float(scale), interval, uncond

    def facts(self) -> dict[str, object]:
        interval = {} if self.interval is None else {"interval": self.interval}
        negative = {} if self.uncond is None else {"uncond": sorted(self.uncond)}
        return {**super().facts(), "scale": self.scale, **interval, **negative}

    def guide(self, t: Float[Tensor, " b"], cond: Cond | None) -> Terms:
        if cond is None:
            raise ValueError("a guided prior needs a condition: pass cond=, or use the prior without Guided")
        if self.scale == 1:
            return [(1.0, cond)]
        scale: Tensor | float = self.scale
        if self.interval is not None:
            inside = (t >= self.interval[0]) & (t <= self.interval[1])
            if not bool(inside.any()):  # synchronizes, but saves half of the rows outside of the interval
                return [(1.0, cond)]
            scale = torch.where(inside, self.scale, 1.0)
        uncond = self.prior.null(cond) if self.uncond is None else replaced(cond, self.uncond)
        if self.scale == 0 and self.interval is None:
            return [(1.0, uncond)]
        return [(1 - scale, uncond), (scale, cond)]


class ImageGuided(LinearGuidance):
    """Guidance by an image and an instruction, as in InstructPix2Pix: three rows per sample in one call.

    A condition without text besides the image, as `null` returns, needs only two rows.

    Args:
        prior: a prior whose condition has an image beside the text; `Prior.null` must leave the image unchanged.
        text_scale: s_T.
        image_scale: s_I.
        image: name of the image in the condition; zeros stand for no image.
        uncond: the condition of no instruction or a negative one; by default the prior's own (`Prior.null`).

    Raises:
        ValueError: if the prior does not take zeros for no image and `image_scale` is not 1, which needs none. When
            evaluated: if the condition has no image.
    """

    def __init__(
        self, prior: Prior, text_scale: float, image_scale: float, image: str = "image", uncond: Cond | None = None
    ):
        super().__init__(prior)
        model = prior
        while isinstance(model, PriorWrapper):
            model = model.prior
        if isinstance(model, Editor) and not model.takes_zeros and image_scale != 1:
            raise ValueError(
                f"{model.name} does not take zeros for 'no image': guide it with Guided, not ImageGuided, or with "
                "image_scale=1"
            )
        self.text_scale, self.image_scale, self.image = float(text_scale), float(image_scale), image
        self.uncond = uncond

    def facts(self) -> dict[str, object]:
        return {**super().facts(), "text_scale": self.text_scale, "image_scale": self.image_scale}

    def guide(self, t: Float[Tensor, " b"], cond: Cond | None) -> Terms:
        if cond is None or self.image not in cond:
            raise ValueError(f"image guidance needs a condition with {self.image!r}: encode the source image into it")
        text = cond if isinstance(cond, _Textless) else self._without_text(cond)
        nothing = {**text, self.image: torch.zeros_like(text[self.image])}
        s_t, s_i = (0.0 if text is cond else self.text_scale), self.image_scale
        terms: Terms = [(1 - s_i, nothing), (s_i - s_t, text), (s_t, cond)]
        return [(a, c) for a, c in terms if a != 0] or [(0.0, cond)]

    def null(self, cond: Cond) -> Cond:
        return _Textless(self._without_text(cond))

    def _without_text(self, cond: Cond) -> Cond:
        return self.prior.null(cond) if self.uncond is None else replaced(cond, self.uncond)


class _Textless(dict[str, Tensor]):
    """A condition that is known to hold no text."""


class NonlinearGuidance(PriorWrapper):
    """Abstract base of guidance that is no weighted sum of predictions, so that no method can take it apart."""


class PerpNeg(NonlinearGuidance):
    """Classifier-free guidance away from negative conditions, but never against the positive one (Perp-Neg).

    Only the component of each negative direction that is perpendicular to the positive direction is used. k negatives
    take 2 + k rows per sample in one call.

    Args:
        prior: the prior to guide.
        scale: s.
        negatives: (condition, weight) of each negative; negative weights guide away from it. A condition has 1 or b
            rows and replaces the entries that it names, as in `Guided`; or it is a function of the positive condition,
            for negatives that depend on the sample.

    Raises:
        ValueError: when evaluated without a condition.
    """

    def __init__(self, prior: Prior, scale: float, negatives: Sequence[tuple[Cond | Callable[[Cond], Cond], float]]):
        super().__init__(prior)
        self.scale, self.negatives = float(scale), tuple(negatives)

    def facts(self) -> dict[str, object]:
        return {**super().facts(), "scale": self.scale, "negatives": len(self.negatives)}

    def eps(
        self, x_t: Float[Tensor, " b *d"], t: Float[Tensor, " b"], cond: Cond | None = None
    ) -> Float[Tensor, " b *d"]:
        if cond is None:
            raise ValueError("a guided prior needs a condition: pass cond=, or use the prior without PerpNeg")
        others = [c(cond) if callable(c) else c for c, _ in self.negatives]
        conds = [self.prior.null(cond), cond, *(replaced(cond, c) for c in others)]
        base, positive, *led = _rows(self.prior.eps, x_t, t, conds)
        d = positive - base
        flat, total = d.flatten(1), d
        norm = flat.square().sum(1).clamp(min=torch.finfo(flat.dtype).tiny)
        for e, (_, weight) in zip(led, self.negatives, strict=True):
            other = e - base
            along = (other.flatten(1) * flat).sum(1) / norm
            total = total + weight * (other - per_sample(along, d) * d)
        return base + self.scale * total


def plain(prior: Prior) -> Prior:
    """Return the prior behind linear guidance, for methods that apply guidance by themselves.

    Raises:
        ValueError: for guidance that is not linear and cannot be removed.
    """
    network = prior.unguided
    if isinstance(network, NonlinearGuidance):
        raise ValueError(
            f"this method guides by itself: pass the prior without {type(network).__name__}, or use a method without "
            "a scale"
        )
    return network


def _rows(predict: Callable[..., Tensor], x_t: Tensor, t: Tensor, conds: Sequence[Cond | None]) -> Sequence[Tensor]:
    """Predictions of the same samples under several conditions, in one call."""
    if len(conds) == 1:
        return [predict(x_t, t, conds[0])]
    n = len(conds)
    rows = cat_conds(*(expand_cond(c, len(x_t)) for c in conds if c is not None))
    return predict(x_t.repeat(n, *[1] * (x_t.ndim - 1)), t.repeat(n), rows).chunk(n)


def _weigh(predict: Callable[..., Tensor], x_t: Tensor, t: Tensor, terms: Terms) -> Tensor:
    rows = _rows(predict, x_t, t, [c for _, c in terms])
    if len(rows) == 1:
        return rows[0]
    return sum((_times(a, row) for (a, _), row in zip(terms, rows, strict=True)), torch.zeros_like(rows[0]))


def _times(coefficient: Tensor | float, row: Tensor) -> Tensor:
    return coefficient * row if isinstance(coefficient, float) else per_sample(coefficient, row) * row
