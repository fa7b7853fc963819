r"""Edits with a known set of right answers.

An edit has *variants* (night, sunset, dawn, dusk) and a variant has *parameters* (an angle, a phase). Together they are
an *answer*: one choice for a whole image, of which every crop shows its part. An edit with one variant and no
parameter is *exact*: it has one right answer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from scoredistill.datasets.procedural_edits.view import View

Images = Float[Tensor, "b 3 h w"]
Values = Float[Tensor, "b p"]
Function = Callable[[Images, View], Images]
Prepare = Callable[[Images, View], Callable[[Values], Images]]
Propose = Callable[[Images, Images, View], tuple[Float[Tensor, "k b p"], Float[Tensor, " p"]]]
Move = Callable[[Values, Float[Tensor, "#b 2"]], Values]


def fixed(function: Function) -> Prepare:
    """A variant without parameters, by a function of images and their view."""

    def prepare(images: Images, view: View) -> Callable[[Values], Images]:
        return lambda values: function(images, view)

    return prepare


def unmoved(values: Values, shift: Float[Tensor, "#b 2"]) -> Values:
    """Parameters that do not depend on the origin."""
    return values


@dataclass(frozen=True)
class Parameter:
    """A continuous choice, uniform in [low, high).

    Attributes:
        name: of the parameter.
        low, high: its range.
        periodic: whether `high` is the same answer as `low`.
        points: of the grid on which the search for the nearest answer starts.
    """

    name: str
    low: float
    high: float
    periodic: bool = True
    points: int = 24

    def within(self, value: Tensor) -> Tensor:
        """A value moved into the range: by whole periods, or to its nearest end."""
        if not self.periodic:
            return value.clamp(self.low, self.high)
        return self.low + (value - self.low).remainder(self.high - self.low)

    def grid(self) -> Float[Tensor, " points"]:
        """Values in the middles of `points` equal parts of the range."""
        return self.low + (self.high - self.low) * (torch.arange(self.points) + 0.5) / self.points


@dataclass(frozen=True)
class Variant:
    """One way to carry an edit out.

    Attributes:
        name: unique within an edit.
        prepare: (images, view) -> values [b, p] -> edited images; what does not depend on the values is computed once.
        parameters: what remains to be chosen.
        propose: (images, results, view) -> k starts [k, b, p] of the search for the nearest answer, and the uncertainty
            [p] of the parameters; by default, the grid of all parameters and its spacings.
        move: (values, shift) -> the values of the same answers if the origin is moved by (down, right) units.
    """

    name: str
    prepare: Prepare
    parameters: tuple[Parameter, ...] = ()
    propose: Propose | None = None
    move: Move = unmoved

    def draw(self, n: int, rng: torch.Generator | None) -> Values:
        """n random values of the parameters."""
        low, high = (torch.tensor([getattr(p, end) for p in self.parameters]) for end in ("low", "high"))
        return low + (high - low) * torch.rand(n, len(self.parameters), generator=rng)

    def grid(self) -> Float[Tensor, "k p"]:
        """All combinations of the grid points of the parameters; one empty row if there is none."""
        axes = [parameter.grid() for parameter in self.parameters]
        if not axes:
            return torch.zeros(1, 0)
        return torch.cartesian_prod(*axes).reshape(-1, len(axes))

    def starts(self, images: Images, results: Images, view: View) -> tuple[Float[Tensor, "k b p"], Float[Tensor, " p"]]:
        """Starts of the search for the nearest answer to each result, and the uncertainty of the parameters."""
        if self.propose is not None:
            return self.propose(images, results, view)
        steps = torch.tensor([(p.high - p.low) / p.points for p in self.parameters])
        return self.grid()[:, None].expand(-1, len(images), -1).to(images), steps

    def within(self, values: Float[Tensor, "*k b p"]) -> Float[Tensor, "*k b p"]:
        """Values moved into the ranges of the parameters."""
        columns = [p.within(values[..., i]) for i, p in enumerate(self.parameters)]
        return torch.stack(columns, -1) if columns else values


@dataclass(frozen=True)
class Answers:
    """One answer of an edit for each image.

    Attributes:
        variant: index of the variant, [b].
        values: of its parameters, [b, p]; columns that a variant does not have are 0.
    """

    variant: Int[Tensor, " b"]
    values: Values

    def __len__(self) -> int:
        return len(self.variant)

    def __getitem__(self, rows: Int[Tensor, " n"] | slice) -> Answers:
        return Answers(self.variant[rows], self.values[rows])


@dataclass(frozen=True)
class Edit:
    """One procedural edit.

    Attributes:
        name: short and unique.
        instructions: equivalent instructions on which an editor is trained; the first is the plainest.
        held_out: equivalent instructions on which no editor is trained, to evaluate paraphrases.
        caption: phrase to append to the caption of an edited image.
        variants: the ways to carry it out.
    """

    name: str
    instructions: tuple[str, ...]
    held_out: tuple[str, ...]
    caption: str
    variants: tuple[Variant, ...]

    @property
    def exact(self) -> bool:
        """Whether the ground truth is unique."""
        return len(self.variants) == 1 and not self.variants[0].parameters

    @property
    def width(self) -> int:
        """Columns of the values of its answers."""
        return max(len(variant.parameters) for variant in self.variants)

    def __call__(
        self, images: Images, unit: float = 1.0, rng: torch.Generator | None = None, view: View | None = None
    ) -> Images:
        """Edit images, each by a random answer.

        Args:
            images: in [0, 1].
            unit: pixels that correspond to one pixel of a 64-pixel image (`unit_of`); `view` overrides it.
            rng: for edits that are not exact.
            view: where crops lie in whole images; by default the images are whole.

        Returns:
            The edited images, in [0, 1].
        """
        view = View.whole((images.shape[2], images.shape[3]), unit) if view is None else view
        return self.render(images, self.draw(len(images), rng), view)

    def draw(self, n: int, rng: torch.Generator | None = None) -> Answers:
        """n random answers: a uniform variant, then uniform parameters."""
        if self.exact:
            return Answers(torch.zeros(n, dtype=torch.long), torch.zeros(n, 0))
        chosen, values = torch.randint(len(self.variants), (n,), generator=rng), torch.zeros(n, self.width)
        for index, variant in enumerate(self.variants):
            count = len(variant.parameters)
            rows = chosen == index
            values[rows, :count] = variant.draw(int(rows.sum()), rng)
        return Answers(chosen, values)

    def answers(self) -> Answers:
        """All variants, with all combinations of the grid points of their parameters; they suit every image."""
        chosen, values = [], []
        for index, variant in enumerate(self.variants):
            grid = variant.grid()
            chosen.append(torch.full((len(grid),), index))
            values.append(torch.nn.functional.pad(grid, (0, self.width - grid.shape[1])))
        return Answers(torch.cat(chosen), torch.cat(values))

    def render(self, images: Images, answers: Answers, view: View) -> Images:
        """Edit images, each by its own answer.

        Args:
            images: in [0, 1].
            answers: one per image.
            view: where the images lie.

        Raises:
            ValueError: if there are not as many answers as images.
        """
        if len(answers) != len(images):
            raise ValueError(f"{len(answers)} answers for {len(images)} images: give one per image")
        result = torch.empty_like(images)
        for index, variant in enumerate(self.variants):
            rows = (answers.variant == index).nonzero().flatten()
            if len(rows):
                values = answers.values[rows, : len(variant.parameters)].to(images)
                at = rows.to(images.device)
                result[at] = variant.prepare(images[at], view.rows(rows))(values).clamp(0, 1)
        return result
