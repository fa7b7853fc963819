"""Layouts keep the promises of their module for shapes of all proportions."""

import random

import pytest

from scoredistill.training import layouts
from scoredistill.training.layouts import GAP, MARGIN, Placement, Shape

SHAPES = [Shape(0.9, 0.9), Shape(0.3, 0.95, 0.8), Shape(0.95, 0.25, 0.6), Shape(0.5, 0.4), Shape(1.0, 1.0, 0.3)]
TINY = 1e-6


def box(placement: Placement, shape: Shape) -> tuple[float, float, float, float]:
    """Left, top, right, bottom."""
    half_x, half_y = placement.scale * shape.width / 2, placement.scale * shape.height / 2
    return placement.x - half_x, placement.y - half_y, placement.x + half_x, placement.y + half_y


def inside(corners: tuple[float, float, float, float]) -> bool:
    return min(corners[:2]) >= MARGIN - TINY and max(corners[2:]) <= 1 - MARGIN + TINY


def overlap(one, other) -> float:
    """Area of the intersection of two boxes."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    return max(width, 0) * max(height, 0)


def pairs(relation: str):
    """Boxes and shapes of two items in a relation, many times."""
    rng = random.Random(0)
    for first in SHAPES:
        for second in SHAPES:
            for _ in range(20):
                placed = layouts.RELATIONS[relation](first, second, rng)
                boxes = [box(p, shape) for p, shape in zip(placed, (first, second), strict=True)]
                assert all(map(inside, boxes))
                yield *boxes, second


@pytest.mark.parametrize("shape", SHAPES)
def test_a_single_emoji_is_large_and_near_the_center_unless_it_is_small(shape):
    rng = random.Random(0)
    for _ in range(200):
        (placement,) = layouts.single(shape, rng, small=0.0)
        left, top, right, bottom = box(placement, shape)
        assert inside((left, top, right, bottom))
        assert max(right - left, bottom - top) > 0.8 * min(0.96, 1.08 * max(shape.width, shape.height))
        assert abs(placement.x - 0.5) < 0.12
        assert abs(placement.y - 0.5) < 0.12
        (placement,) = layouts.single(shape, rng, small=1.0)
        left, top, right, bottom = box(placement, shape)
        assert inside((left, top, right, bottom))
        assert max(right - left, bottom - top) < 0.86


@pytest.mark.parametrize("count", layouts.ROWS)
def test_counted_emoji_stay_inside_and_apart_and_have_similar_sizes(count):
    rng = random.Random(0)
    for shape in SHAPES:
        for _ in range(60):
            placed = layouts.repeated(shape, count, rng)
            boxes = [box(placement, shape) for placement in placed]
            assert len(boxes) == count
            assert all(map(inside, boxes))
            assert all(overlap(a, b) == 0 for i, a in enumerate(boxes) for b in boxes[:i])
            scales = [placement.scale for placement in placed]
            assert min(scales) > 0.9 * max(scales)


def test_counts_come_in_several_arrangements():
    rng = random.Random(0)
    rows = {sum(p.y < 0.5 for p in layouts.repeated(SHAPES[0], 3, rng)) for _ in range(60)}
    assert len(rows) >= 2
    with pytest.raises(ValueError, match="from 1 to 6 emoji of one kind, not 7"):
        layouts.repeated(SHAPES[0], 7, rng)


@pytest.mark.parametrize("relation", ["beside", "left"])
def test_the_first_is_left_of_the_second(relation):
    for first, second, _ in pairs(relation):
        assert first[2] + GAP <= second[0] + TINY


def test_the_first_is_above_the_second():
    for first, second, _ in pairs("above"):
        assert first[3] + GAP <= second[1] + TINY


def test_the_first_stands_on_the_top_of_the_second():
    for first, second, shape in pairs("on"):
        surface = second[3] - shape.top * (second[3] - second[1])
        assert 0 <= first[3] - surface <= 0.035
        center = (first[0] + first[2]) / 2
        assert second[0] < center < second[2]


def test_the_one_in_front_is_lower_and_hides_only_a_part():
    for first, second, _ in pairs("in front"):
        behind = (second[2] - second[0]) * (second[3] - second[1])
        assert first[3] > second[3]
        assert 0 < overlap(first, second) < 0.6 * behind
