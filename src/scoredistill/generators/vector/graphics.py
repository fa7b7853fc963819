"""Vector drawings as a generator: the control points, colors, opacities and widths of paths are optimized."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from scoredistill.generators.image import ImageParameters
from scoredistill.generators.vector.compositing import composite, shares
from scoredistill.generators.vector.coverage import coverage
from scoredistill.generators.vector.outlines import Strokes, chords, fill_edges, stroke_edges
from scoredistill.media.svg import Color, Contour, Drawing, Path

SMOOTH = 0.9  # cosine of the angle between two curves above which their join is smooth
THINNEST = 0.3  # width of a stroke in pixels below which it does not become thinner


@dataclass
class _Topology:
    """What does not change: which control points make which curves of which layers, while it is collected.

    A layer is the fill or the stroke of a path. Layers are numbered image by image, each with the same number of slots.
    """

    points: list[np.ndarray] = field(default_factory=list)
    count: int = 0
    curves: dict[str, list[tuple[int, ...]]] = field(default_factory=lambda: {"fill": [], "stroke": []})
    layers: dict[str, list[int]] = field(default_factory=lambda: {"fill": [], "stroke": []})
    chains: list[tuple[int, int, int, int]] = field(default_factory=list)  # following, first, last, butt
    knots: list[tuple[int, int, int]] = field(default_factory=list)  # smooth joins: the point, those before and after

    def contour(self, contour: Contour, fill: int | None, stroke: int | None, butt: bool) -> None:
        """Add a contour to the layer of a fill, of a stroke, or of both."""
        points = contour.points[:-1] if contour.closed else contour.points
        n, m = len(contour.points) // 3, len(points)
        at = lambda k: self.count + k % m
        curves = [tuple(at(3 * i + k) for k in range(4)) for i in range(n)]
        if fill is not None:
            closing = [] if contour.closed else [(at(m - 1), at(m - 1), at(0), at(0))]
            self.curves["fill"] += curves + closing
            self.layers["fill"] += [fill] * (n + len(closing))
        if stroke is not None:
            here, ends = len(self.curves["stroke"]), not contour.closed
            self.curves["stroke"] += curves
            self.layers["stroke"] += [stroke] * n
            for i in range(n):
                last = ends and i + 1 == n
                following = here + (i if last else (i + 1) % n)
                self.chains.append((following, int(ends and i == 0), int(last), int(butt)))
        inner = range(0 if contour.closed else 3, 3 * n, 3)
        self.knots += [(at(k), at(k - 1), at(k + 1)) for k in inner if _is_smooth(*points[[k - 1, k, (k + 1) % m]])]
        self.points.append(points)
        self.count += m


class VectorGraphics(ImageParameters):
    """Drawings as images: paths of cubic curves with fill and stroke, each over those before it, on white.

    Positions are optimized as fractions of the longer side of the image. A point that two curves share is one
    parameter, and so is a color that `colors` gives to several paths.

    Args:
        drawings: where to start, one per image; their numbers of paths may differ.
        size: (height, width) of the rendered images in pixels; drawings are scaled to fit and centered.
        colors: a palette that all paths of all images share; by default every path has a color of its own.
        opaque: keep the opacity of paths.
        rigid: keep the width of strokes.

    Raises:
        ValueError: if a drawing has no paths.
    """

    def __init__(
        self,
        drawings: Sequence[Drawing],
        size: tuple[int, int],
        colors: Sequence[Color] | None = None,
        opaque: bool = False,
        rigid: bool = False,
    ):
        super().__init__(len(drawings))
        self.size, self.drawn = size, tuple(drawings)
        self.slots = max(_layer_count(drawing) for drawing in drawings)
        if not all(map(_layer_count, drawings)):
            raise ValueError("a drawing has no paths: start from one that shows something")
        topology = _Topology()
        inks: list[Color] = []
        self._ranges: dict[str, list[tuple[int, int]]] = {"fill": [], "stroke": []}
        opacities, widths = torch.zeros(self.n * self.slots), torch.zeros(self.n * self.slots)
        painted = torch.zeros(self.n * self.slots, dtype=torch.long)
        for image, drawing in enumerate(drawings):
            before = {kind: len(curves) for kind, curves in topology.curves.items()}
            layer = image * self.slots
            for path in drawing.paths:
                fill, stroke = (None if paint is None else layer for paint in (path.fill, path.stroke))
                stroke = stroke if stroke is None or fill is None else layer + 1
                for contour in path.contours:
                    topology.contour(self._placed(contour, drawing), fill, stroke, path.butt)
                for which, paint, opacity in (
                    (fill, path.fill, path.fill_opacity),
                    (stroke, path.stroke, path.stroke_opacity),
                ):
                    if which is not None and paint is not None:
                        painted[which], opacities[which] = len(inks), opacity
                        inks.append(paint)
                        layer += 1
                if stroke is not None:
                    widths[stroke] = path.width * self._scale(drawing) / max(size)
            for kind, curves in topology.curves.items():
                self._ranges[kind].append((before[kind], len(curves)))
        self._register(topology, inks, painted, opacities, widths, colors)
        self.opacity.requires_grad_(not opaque)
        self.width.requires_grad_(not rigid)

    def _register(
        self, topology: _Topology, inks: list[Color], painted: Tensor, opacities: Tensor, widths: Tensor,
        colors: Sequence[Color] | None,
    ) -> None:  # fmt: skip
        used = torch.tensor(inks, dtype=torch.float32)
        if colors is not None:
            nearest = torch.cdist(used, torch.tensor(list(colors), dtype=torch.float32)).argmin(1)
            painted, used = nearest[painted], torch.tensor(list(colors), dtype=torch.float32)
        self.points = nn.Parameter(torch.from_numpy(np.concatenate(topology.points)).float())
        self.color = nn.Parameter(used)
        self.opacity = nn.Parameter(opacities)
        self.width = nn.Parameter(widths)
        buffers = {
            "painted": painted,
            "fill_curves": torch.tensor(topology.curves["fill"], dtype=torch.long).reshape(-1, 4),
            "fill_layer": torch.tensor(topology.layers["fill"], dtype=torch.long),
            "stroke_curves": torch.tensor(topology.curves["stroke"], dtype=torch.long).reshape(-1, 4),
            "stroke_layer": torch.tensor(topology.layers["stroke"], dtype=torch.long),
            "chains": torch.tensor(topology.chains, dtype=torch.long).reshape(-1, 4),
            "knots": torch.tensor(topology.knots, dtype=torch.long).reshape(-1, 3),
            "even_odd": _even_odd(self.drawn, self.slots),
        }
        for name, value in buffers.items():
            self.register_buffer(name, value)

    painted: Tensor
    fill_curves: Tensor
    fill_layer: Tensor
    stroke_curves: Tensor
    stroke_layer: Tensor
    chains: Tensor
    knots: Tensor
    even_odd: Tensor

    def _shape(self) -> tuple[int, ...]:
        return 3, *self.size

    def _scale(self, drawing: Drawing) -> float:
        """Pixels per unit of a drawing."""
        return min(self.size[1] / drawing.size[0], self.size[0] / drawing.size[1])

    def _corner(self, drawing: Drawing) -> np.ndarray:
        """The place of a drawing's corner in pixels."""
        return (np.array(self.size[::-1]) - np.array(drawing.size) * self._scale(drawing)) / 2

    def _placed(self, contour: Contour, drawing: Drawing) -> Contour:
        """A contour in fractions of the longer side of the image."""
        pixels = contour.points * self._scale(drawing) + self._corner(drawing)
        return Contour(pixels / max(self.size), contour.closed)

    def forward(self, views: Int[Tensor, " v"]) -> Float[Tensor, "v 3 h w"]:
        return composite(*self._layers(views, self.size))

    @torch.no_grad()
    def render(self, size: tuple[int, int]) -> Float[Tensor, "n 3 h w"]:
        """All images in another size, one by one to save memory."""
        return torch.cat([composite(*self._layers(torch.tensor([i]), size)) for i in range(self.n)]).clamp(0, 1)

    def _layers(self, views: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
        """Coverage [v, k, h, w], opacity [v, k] and color [v, k, 3] of the layers of images."""
        edges, owners = [], []
        points, side = self.points * max(size), max(size)
        n = chords(side)
        order = torch.full((self.n,), -1, dtype=torch.long)
        order[views.cpu()] = torch.arange(len(views))
        shift = ((order - torch.arange(self.n)) * self.slots).to(points.device)
        for kind, curves, layer in (
            ("fill", self.fill_curves, self.fill_layer),
            ("stroke", self.stroke_curves, self.stroke_layer),
        ):
            chosen = self._chosen(kind, views)
            if len(chosen) == 0:
                continue
            layers = layer[chosen]
            if kind == "fill":
                made = fill_edges(points[curves[chosen]], n)
            else:
                half = self.width[layers].mul(side).clamp(min=THINNEST) / 2
                made = stroke_edges(points[curves[chosen]], half, self._joins(chosen), n)
            edges.append(made.flatten(0, 1))
            owners.append((layers + shift[layers // self.slots]).repeat_interleave(made.shape[1]))
        which = (
            views[:, None].to(points.device) * self.slots + torch.arange(self.slots, device=points.device)
        ).flatten()
        rule = self.even_odd[which] if self._folded else None
        covered = coverage(torch.cat(edges), torch.cat(owners), len(which), size, rule)
        shape = (len(views), self.slots)
        color = _clamped(self.color)[self.painted[which]]
        opacity = _clamped(self.opacity)[which]
        return covered.unflatten(0, shape), opacity.unflatten(0, shape), color.unflatten(0, shape)

    @torch.no_grad()
    def smooth(self, amount: float) -> None:
        """Move points where two curves meet towards the middle of their neighbors; corners of the start stay corners.

        Args:
            amount: fraction of the way, in [0, 1].
        """
        knot, before, after = self.knots.unbind(1)
        middle = (self.points[before] + self.points[after]) / 2
        self.points[knot] = torch.lerp(self.points[knot], middle, amount)

    @property
    def _folded(self) -> bool:
        return any(path.even_odd for drawing in self.drawn for path in drawing.paths)

    def _chosen(self, kind: str, views: Tensor) -> Tensor:
        """The curves of images."""
        parts = [torch.arange(*self._ranges[kind][i]) for i in views.tolist()]
        return torch.cat(parts).to(self.points.device)

    def _joins(self, chosen: Tensor) -> Strokes:
        """How chosen curves of strokes are joined; all curves of a contour are chosen together."""
        place = torch.zeros(len(self.chains), dtype=torch.long, device=chosen.device)
        place[chosen] = torch.arange(len(chosen), device=chosen.device)
        following, first, last, butt = self.chains[chosen].unbind(1)
        return Strokes(place[following], first > 0, last > 0, butt > 0)

    @torch.no_grad()
    def drawings(self, least: float = 0.0) -> list[Drawing]:
        """The drawings as they are now, in the units of those that the generator started from.

        Args:
            least: leave out layers that are seen in less than this fraction of the canvas, as those behind others.
        """
        seen = self.seen()
        return [self._drawing(i, [bool(share >= least) for share in seen[i].tolist()]) for i in range(self.n)]

    @torch.no_grad()
    def seen(self) -> Float[Tensor, "n k"]:
        """The fraction of the canvas that each layer is seen in, weighted by what the layers before it let through."""
        covered, opacity, _ = self._layers(torch.arange(self.n), self.size)
        return shares(covered, opacity).mean((2, 3))

    @torch.no_grad()
    def alpha(self) -> Float[Tensor, "n 1 h w"]:
        """How much of the background the paths hide, in [0, 1]."""
        covered, opacity, _ = self._layers(torch.arange(self.n), self.size)
        return shares(covered, opacity).sum(1, keepdim=True).clamp(max=1)

    def _drawing(self, image: int, seen: list[bool]) -> Drawing:
        drawing = self.drawn[image]
        points = self.points.detach().double().cpu().numpy() * max(self.size)
        points = (points - self._corner(drawing)) / self._scale(drawing)
        at = sum(_points_of(contour) for before in self.drawn[:image] for p in before.paths for contour in p.contours)
        color = self.color.detach().clamp(0, 1)[self.painted].tolist()
        opacity = self.opacity.detach().clamp(0, 1).tolist()
        width = (self.width * max(self.size)).clamp(min=THINNEST).div(self._scale(drawing)).tolist()
        layer, paths = image * self.slots, []
        for path in drawing.paths:
            contours = []
            for contour in path.contours:
                m = _points_of(contour)
                own = points[at : at + m]
                contours.append(Contour(np.concatenate([own, own[:1]]) if contour.closed else own, contour.closed))
                at += m
            paints: list[tuple[Color | None, float, float]] = []
            for given in (path.fill, path.stroke):
                if given is None or not seen[layer - image * self.slots]:
                    paints.append((None, 1.0, 1.0))
                else:
                    red, green, blue = color[layer]
                    paints.append(((red, green, blue), opacity[layer], width[layer]))
                layer += given is not None
            (fill, fill_opacity, _), (stroke, stroke_opacity, wide) = paints
            if fill is not None or stroke is not None:
                paths.append(
                    Path(tuple(contours), fill, stroke, wide, fill_opacity, stroke_opacity, path.even_odd, path.butt)
                )
        return Drawing(drawing.size, tuple(paths))


def _is_smooth(before: np.ndarray, knot: np.ndarray, after: np.ndarray) -> bool:
    """Whether two curves join without a corner."""
    first, second = knot - before, after - knot
    return bool(first @ second > SMOOTH * np.linalg.norm(first) * np.linalg.norm(second))


def _layer_count(drawing: Drawing) -> int:
    return sum((path.fill is not None) + (path.stroke is not None) for path in drawing.paths)


def _points_of(contour: Contour) -> int:
    """Number of parameters of a contour: a closed one has its first point once."""
    return len(contour.points) - contour.closed


def _even_odd(drawings: Sequence[Drawing], slots: int) -> Tensor:
    """Which layers are filled by the even-odd rule."""
    rules = torch.zeros(len(drawings) * slots, dtype=torch.bool)
    for image, drawing in enumerate(drawings):
        layer = image * slots
        for path in drawing.paths:
            rules[layer] = path.fill is not None and path.even_odd
            layer += (path.fill is not None) + (path.stroke is not None)
    return rules


def _clamped(values: Tensor) -> Tensor:
    """Values in [0, 1], whose gradients are those of the values themselves, so that they may return from outside."""
    return values + (values.clamp(0, 1) - values).detach()
