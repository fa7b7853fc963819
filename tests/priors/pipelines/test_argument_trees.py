"""Nested arguments: join is the inverse of split, and refuses what it does not understand."""

import pytest
import torch

from scoredistill.priors.pipelines.argument_trees import Layout, join, leaves, named, replaced, split


def call(rows, start=0):
    """Arguments of a call with some samples: rows, two rows a sample, a list with one entry a sample, shared values."""
    numbers = torch.arange(start, start + rows).float()
    return {
        "x": numbers[:, None].repeat(1, 3),
        "pairs": numbers.repeat_interleave(2)[:, None],
        "texts": [torch.full((2, 4), float(n)) for n in numbers],
        "nested": {"ids": torch.arange(5), "count": rows, "scale": 1.5},
        "both": (numbers.clone(), None),
    }


LAYOUT = Layout(call(1), call(2))


def equal(first, second):
    first, second = leaves(first), leaves(second)
    assert first.keys() == second.keys()
    for path, leaf in first.items():
        same = torch.equal(leaf, second[path]) if isinstance(leaf, torch.Tensor) else leaf == second[path]
        assert same, path
    return True


@pytest.mark.parametrize("rows", [1, 2, 5])
def test_join_of_single_calls_is_the_call_with_all(rows):
    assert equal(join([call(1, row) for row in range(rows)], LAYOUT), call(rows))


@pytest.mark.parametrize("rows", [1, 2, 5])
def test_split_is_the_inverse_of_join(rows):
    for row, part in enumerate(split({k: v for k, v in call(rows).items() if k != "nested"}, LAYOUT, rows)):
        assert equal(part, {k: v for k, v in call(1, row).items() if k != "nested"})


def test_forced_paths_have_one_row_per_sample_whatever_the_layout_says():
    layout = Layout({"t": torch.zeros(())}, {"t": torch.zeros(())})
    rows = [{"t": torch.tensor([1.0])}, {"t": torch.tensor([2.0])}]
    assert join(rows, layout, frozenset({("t",)}))["t"].tolist() == [1.0, 2.0]


def test_unknown_dependence_on_the_number_of_samples_is_refused_by_name():
    layout = Layout({"a": {"b": torch.zeros(1, 4)}}, {"a": {"b": torch.zeros(3, 5)}})
    with pytest.raises(ValueError, match=r"a\.b depends on the number of samples"):
        join([{"a": {"b": torch.zeros(1, 4)}}] * 2, layout)
    with pytest.raises(ValueError, match="depends on the number of samples"):
        join([{"a": "one"}] * 2, Layout({"a": "one"}, {"a": "two"}))


def test_replaced_changes_one_leaf_and_keeps_types():
    tree = {"a": (1, [2, 3])}
    assert replaced(tree, {("a", 1, 0): 7}) == {"a": (1, [7, 3])}
    assert tree == {"a": (1, [2, 3])}
    assert named(("a", 1, 0)) == "a.1.0"
