r"""The ideal denoiser of a finite data set, which a perfectly trained network would compute.

    E[x | x_t] = sum_i w_i y_i,    w = softmax_i( -|x_t - alpha y_i|^2 / (2 sigma^2) )
    log p_t(x_t) = log (1/n) sum_i N(x_t; alpha y_i, sigma^2 I)

Data may have any shape (points, images, latents). The modes are the data themselves, so that mode alignment can be
measured in any dimension. Reference: Elucidating the design space of diffusion-based generative models (Karras et al.
2022), appendix B.3, https://arxiv.org/abs/2206.00364.

Large sets of large data (images) are screened first. On an orthonormal basis V of few columns, y = V c + y' and
x_t = V p + x', and the Cauchy-Schwarz inequality bounds every logit from above. Data with negligible weight are left
out:

    <x_t, y> <= <p, c> + |x'| |y'|,    left out: w_i < (eps / n) max_j w_j

Here eps is the rounding error of the data's type: all that is left out has a total weight of at most eps, and moves the
mean by at most eps times the diameter of the data. Once the weights are known, data of equally small weight are left
out of the weighted sum too.
"""

import difflib
import math
from collections.abc import Collection, Iterator, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from scoredistill.priors.base import Prior
from scoredistill.priors.conditions import Cond, expand_cond
from scoredistill.schedule import VP, Schedule, per_sample

CHUNK = 2**19  # pairs of sample and datum held at once: 4 MiB in float64, which fits a processor's cache
FLOOR = -60.0  # smallest logit: far below rounding, and `exp` is ten times as fast where it does not underflow
RANK = 256  # columns of the screen's basis; smaller sets than four times this are not screened
CANDIDATES = 4  # data whose distances are measured, not expanded, to find the nearest
Data = Tensor | slice  # which data: their indices, or all


class Empirical(Prior):
    """Ideal denoiser of `data`, exact up to rounding, in memory bounded by chunks of samples.

    Images are given in [0, 1]: `encode_image` and `decode` are the identity.

    Args:
        data: the data, [n, *d].
        labels: integer class of each datum, [n]; or one or several texts for each, such as {"owl", "noto", "a noto
            emoji of owl"}, which data may share. Then cond = {"label": Long[b]} selects the data of a class, or those
            with a text (see `encode_text`); -1 selects all.
        schedule: the noise schedule; `VP()` by default.

    Attributes:
        names: the texts, in order of appearance; the label of names[i] is i. Empty with integer classes.

    Labels are checked where they are on the CPU; elsewhere, that of no datum gives values that are not numbers.

    Raises:
        ValueError: without data, or if there is not one label, or set of labels, for each datum.
    """

    def __init__(
        self,
        data: Float[Tensor, " n *d"],
        labels: Shaped[Tensor, " n"] | Sequence[int] | Sequence[str] | Sequence[Collection[str]] | None = None,
        schedule: Schedule | None = None,
    ):
        if len(data) == 0:
            raise ValueError("data must hold at least one sample")
        if labels is not None and len(labels) != len(data):
            raise ValueError(f"{len(labels)} labels for {len(data)} data: pass one label, or set of labels, for each")
        self.data = data
        self.schedule = VP() if schedule is None else schedule
        self.labels: Tensor | None = None
        self.names: tuple[str, ...] = ()
        if labels is not None and not isinstance(labels, Tensor) and isinstance(labels[0], Collection):
            members = _members(labels)
            self.names, self._carriers = tuple(members), [torch.tensor(m) for m in members.values()]
        elif labels is not None:
            self.labels = torch.as_tensor(labels, device=data.device)
        flat = data.flatten(1)
        self._center = flat.mean(0)  # distances of centered data cancel fewer digits
        flat = flat - self._center
        # a row (y, -|y|^2 / 2, 1) makes the logits one product, and the weighted sum of data and of ones another
        self._table = torch.cat([flat, -0.5 * flat.square().sum(-1, keepdim=True), torch.ones_like(flat[:, :1])], 1)
        large = min(flat.shape) >= 4 * RANK and data.dtype in (torch.float32, torch.float64)
        # elsewhere than on the CPU, leaving data out would wait for the device, which evaluates all of them fast
        self._screen = Screen(self._table, RANK) if large and data.device.type == "cpu" else None
        self._member: Tensor | None = None

    def facts(self) -> dict[str, object]:
        classes = ("label",) if self.names or self.labels is not None else ()
        shape = {"data": len(self.data), "sample": tuple(self.data.shape[1:]), "conditions": classes}
        return {**shape, **super().facts(), "dtype": self.data.dtype, "device": self.data.device}

    def eps(
        self, x_t: Float[Tensor, " b *d"], t: Float[Tensor, " b"], cond: Cond | None = None
    ) -> Float[Tensor, " b *d"]:
        alpha, sigma = (per_sample(c, x_t) for c in self.schedule(t))
        return (x_t - alpha * self.denoise(x_t, t, cond)) / sigma

    def denoise(
        self, x_t: Float[Tensor, " b *d"], t: Float[Tensor, " b"], cond: Cond | None = None
    ) -> Float[Tensor, " b *d"]:
        label = self._label(x_t, cond)
        out = torch.empty_like(x_t)
        for rows, data in self._blocks(x_t, t, label):
            table = self._table[data]
            total = self._total(self._weights(x_t[rows], t[rows], _at(label, rows), data, table), table)
            out[rows] = (total[:, :-2] / total[:, -1:] + self._center).reshape(-1, *x_t.shape[1:])
        return out

    def log_prob(
        self, x: Float[Tensor, " b *d"], t: Float[Tensor, " b"], cond: Cond | None = None
    ) -> Float[Tensor, " b"]:
        """log p_t(x_t) of the noised data (of one class, if `cond` names it). Natural logarithm.

        At sigma_t = 0 the data are points without a density, and the result is infinite or not a number.
        """
        label = self._label(x, cond)
        out = x.new_empty(len(x))
        for rows, data in self._blocks(x, t, label):
            own = _at(label, rows)
            weights = self._weights(x[rows], t[rows], own, data, self._table[data])
            alpha, sigma = (per_sample(c, x[rows]) for c in self.schedule(t[rows]))
            best = weights.argmax(-1) if isinstance(data, slice) else data[weights.argmax(-1)]
            away = (x[rows] - alpha * self.data[best]).flatten(1) / sigma.reshape(-1, 1)
            log_norm = 0.5 * away.shape[1] * (2 * math.pi * sigma.flatten().square()).log()
            out[rows] = weights.sum(-1).log() - 0.5 * away.square().sum(-1) - log_norm - self._log_count(own)
        return out

    @torch.no_grad()
    def nearest(
        self, x: Float[Tensor, " b *d"], cond: Cond | None = None
    ) -> tuple[Float[Tensor, " b"], Int[Tensor, " b"]]:
        """Find the datum (of one class, if `cond` names it) that is nearest to each clean sample.

        Returns:
            Euclidean distance over all coordinates, and index into `data`.
        """
        label = self._label(x, cond)
        distance, index = x.new_empty(len(x)), torch.empty(len(x), dtype=torch.long, device=x.device)
        for rows in self._parts(len(x)):
            scores = self._scores(x[rows], x.new_ones(len(x[rows]), 1), _at(label, rows), slice(None), self._table)
            # the expanded square cancels digits: the few best are compared by their differences
            values, best = scores.topk(min(CANDIDATES, len(self.data)))
            away = torch.stack([(x[rows] - self.data[column]).flatten(1).norm(dim=1) for column in best.T], 1)
            distance[rows], at = away.masked_fill(values == -torch.inf, torch.inf).min(1)
            index[rows] = best.gather(1, at[:, None]).flatten()
        return distance, index

    def encode_text(self, prompts: str | Sequence[str]) -> Cond:
        """Return the condition that selects the data with each text; the empty text selects all.

        Raises:
            ValueError: if no datum has a text, or labels are not texts.
        """
        if not self.names:
            raise ValueError(
                "this data set has no text labels: give a text, or a set of texts, for each datum as labels="
            )
        prompts = [prompts] if isinstance(prompts, str) else prompts
        known = {"": -1} | {name: i for i, name in enumerate(self.names)}
        for prompt in prompts:
            if prompt not in known:
                near = difflib.get_close_matches(prompt, self.names, cutoff=0.0)
                raise ValueError(f"no datum is labeled {prompt!r}; the nearest labels are {', '.join(map(repr, near))}")
        return {"label": torch.tensor([known[prompt] for prompt in prompts], device=self.data.device)}

    def null(self, cond: Cond) -> Cond:
        return {"label": torch.full_like(cond["label"], -1)}

    def _parts(self, samples: int) -> list[slice]:
        rows = max(1, CHUNK // len(self.data))
        return [slice(i, i + rows) for i in range(0, samples, rows)]

    def _blocks(self, x_t: Tensor, t: Tensor, label: Tensor | None) -> Iterator[tuple[Data, Data]]:
        """Yield chunks of samples with the data relevant to them; samples with few and with many such data apart."""
        every = torch.arange(len(x_t), device=x_t.device)
        for part in self._parts(len(x_t)):
            if self._screen is None:
                yield part, slice(None)
                continue
            x, alpha, sigma = self._centered(x_t[part], t[part])
            if label is None and not bool(self._screen.useful(alpha, sigma).any()):
                yield part, slice(None)
                continue
            inside = None if label is None else self._inside(label[part])
            near = self._screen.near(x.detach(), alpha, sigma, inside)
            few = near.sum(-1) <= len(self.data) // 8
            for group in (few, ~few):
                if bool(group.any()):
                    data = near[group].any(0).nonzero().flatten()
                    # copying rows costs as much as multiplying by them
                    yield every[part][group], data if len(data) <= len(self.data) // 2 else slice(None)

    def _label(self, x_t: Tensor, cond: Cond | None) -> Tensor | None:
        if cond is None:
            return None
        if self.labels is None and not self.names:
            raise ValueError("this data set has no classes: construct it with labels=")
        label = cond["label"]
        if label.device.type != "cpu":
            return expand_cond(cond, len(x_t))["label"]
        known = torch.arange(len(self.names), device=label.device) if self.labels is None else self.labels.unique()
        unknown = label[(label >= 0) & ~torch.isin(label, known)]
        if len(unknown):
            raise ValueError(f"no datum has label {int(unknown[0])}: pass labels of the data, or -1 for all")
        return expand_cond(cond, len(x_t))["label"]

    def _inside(self, label: Tensor) -> Tensor:
        """Whether a datum belongs to a sample's class, [rows, n]."""
        if self.labels is not None:
            return (label[:, None] < 0) | (self.labels == label[:, None])
        inside = (label < 0)[:, None].repeat(1, len(self.data))
        if label.device.type != "cpu":
            return inside | self._membership()[label.clamp(min=0)]
        for row, i in enumerate(label.tolist()):
            if i >= 0:
                inside[row, self._carriers[i]] = True
        return inside

    def _membership(self) -> Bool[Tensor, "texts n"]:
        """Whether each text belongs to each datum; made once."""
        if self._member is None:
            table = torch.zeros(len(self.names), len(self.data), dtype=torch.bool)
            for row, members in enumerate(self._carriers):
                table[row, members] = True
            self._member = table.to(self.data.device)
        return self._member

    def _log_count(self, label: Tensor | None) -> Tensor:
        """Logarithm of how many data a sample's class has, [] or [rows]."""
        if label is None:
            return self._center.new_tensor(len(self.data)).log()
        return self._inside(label).sum(-1).to(self._center.dtype).log()

    def _centered(self, x_t: Tensor, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """x_t - alpha (mean of the data) [rows, d], alpha and sigma [rows, 1]."""
        alpha, sigma = (c.to(x_t.dtype)[:, None] for c in self.schedule(t))
        return x_t.flatten(1) - alpha * self._center, alpha, sigma

    def _scores(self, x_t: Tensor, alpha: Tensor, label: Tensor | None, data: Data, table: Tensor) -> Tensor:
        """-|x_t - alpha y|^2 / 2 up to a constant per sample, [rows, data]; minus infinity outside its class."""
        x = x_t.flatten(1) - alpha * self._center
        scores = torch.cat([alpha * x, alpha**2, torch.zeros_like(alpha)], 1) @ table.T
        return scores if label is None else scores.masked_fill_(~self._inside(label)[:, data], -torch.inf)

    def _weights(self, x_t: Tensor, t: Tensor, label: Tensor | None, data: Data, table: Tensor) -> Tensor:
        """exp of -|x_t - alpha y|^2 / (2 sigma^2) less its maximum, [rows, data]; sigma = 0 picks the nearest datum."""
        alpha, sigma = (c.to(x_t.dtype)[:, None] for c in self.schedule(t))
        scores = self._scores(x_t, alpha, label, data, table)
        scores = scores - scores.amax(-1, keepdim=True)
        return scores.div_(sigma.square().clamp(min=torch.finfo(x_t.dtype).tiny)).clamp_(min=FLOOR).exp_()

    def _total(self, weights: Tensor, table: Tensor) -> Tensor:
        """The weighted sum of the table's rows."""
        if self._screen is not None:
            used = (weights.amax(0) > torch.finfo(weights.dtype).eps / len(self.data)).nonzero().flatten()
            if len(used) <= len(table) // 2:
                return weights[:, used] @ table[used]
        return weights @ table


class Screen:
    """Bounds of the data's weights from few coordinates, to find the data relevant to a noised sample; see the module.

    Args:
        table: centered data y with two more columns, -|y|^2 / 2 and one that is not used, [n, d + 2].
        rank: coordinates kept: near the principal ones, by one subspace iteration (Halko et al. 2011,
            https://arxiv.org/abs/0909.4061); the bound holds on any orthonormal basis.
    """

    def __init__(self, table: Float[Tensor, "n columns"], rank: int):
        self.flat, half = table[:, :-2], table[:, -2:-1]
        sketch = torch.randn(len(table), rank, generator=torch.Generator().manual_seed(0), dtype=table.dtype)
        self.basis = torch.linalg.qr(self.flat.T @ sketch.to(table.device)).Q
        self.basis = torch.linalg.qr(self.flat.T @ (self.flat @ self.basis)).Q
        rest = [torch.linalg.vector_norm(y - y @ self.basis @ self.basis.T, dim=1) for y in self.flat.split(rank)]
        self.rest = torch.cat(rest)
        self.table = torch.cat([self.flat @ self.basis, self.rest[:, None], half], 1)
        self.largest = (-2 * half).max().sqrt()
        self.range = math.log(len(table) / torch.finfo(table.dtype).eps)  # of the logits that matter

    def useful(self, alpha: Float[Tensor, "b 1"], sigma: Float[Tensor, "b 1"]) -> Bool[Tensor, "b 1"]:
        """Whether any datum can be left out: whether logits may differ enough, |y - y'| <= 2 max |y|."""
        return 2 * (alpha * self.largest) ** 2 > sigma.square() * self.range

    @torch.no_grad()
    def near(
        self,
        x: Float[Tensor, "b d"],
        alpha: Float[Tensor, "b 1"],
        sigma: Float[Tensor, "b 1"],
        inside: Bool[Tensor, "b n"] | None,
    ) -> Bool[Tensor, "b n"]:
        """Mark data whose weight may exceed eps / n of the largest weight inside a sample's class."""
        rounding = torch.finfo(x.dtype).eps * math.sqrt(x.shape[1])  # of a product of so many terms
        p, square = x @ self.basis, x.square().sum(-1, keepdim=True)
        rest = ((square - p.square().sum(-1, keepdim=True)).clamp(min=0) + rounding * square).sqrt()
        upper = torch.cat([alpha * p, alpha * rest, alpha**2], 1) @ self.table.T
        if inside is not None:
            upper.masked_fill_(~inside, -torch.inf)
        guess = (upper - alpha * rest * self.rest).argmax(-1)
        best = alpha * (x * self.flat[guess]).sum(-1, keepdim=True) + alpha**2 * self.table[guess, -1:]
        slack = rounding * alpha * self.largest * (square.sqrt() + alpha * self.largest)
        return upper >= best - sigma.square() * self.range - slack


def _members(labels: Sequence[Any]) -> dict[str, list[int]]:
    """Indices of the data with each text, in order of appearance; texts of one datum in alphabetical order."""
    members: dict[str, list[int]] = {}
    for i, own in enumerate(labels):
        texts = {own} if isinstance(own, str) else own
        if not isinstance(texts, Collection) or not all(isinstance(text, str) and text for text in texts):
            raise ValueError(f"label {own!r} of datum {i}: give integers, or texts that are not empty, or sets of them")
        for text in sorted(set(texts)):
            members.setdefault(text, []).append(i)
    return members


def _at(label: Tensor | None, rows: Data) -> Tensor | None:
    return None if label is None else label[rows]
