"""What is read off from probes is exact, and everything else is refused."""

import pytest
import torch

from scoredistill.priors.pipelines.placements import Times, Unsupported, digits_of, placement, probes, times_of


def read(arrange, count, dtype=torch.float32):
    sources = probes(count, digits_of(count))
    return placement([arrange(source.to(dtype)) for source in sources], sources, "it")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("count", [5, 128, 20_000])
def test_a_permutation_with_scale_and_constants_is_read_off(dtype, count):
    order = torch.randperm(count, generator=torch.Generator().manual_seed(1))
    constants = torch.full((3,), 0.5, dtype=dtype)
    found = read(lambda x: torch.cat([constants, -x[order]]), count, dtype)
    assert torch.equal(found.index[3:], order)
    assert not found.plain
    assert found.scale.tolist() == [0.0] * 3 + [-1.0] * count
    source = torch.randn(count)
    filled = found.fill(torch.cat([constants, torch.zeros(count)]), source)
    torch.testing.assert_close(filled, torch.cat([constants.float(), -source[order]]), rtol=1e-6, atol=1e-6)


def test_the_sample_itself_is_plain():
    found = read(lambda x: x, 64)
    assert found.plain
    assert torch.equal(found.fill(torch.zeros(1, 8, 8), torch.arange(64.0)).flatten(), torch.arange(64.0))


def test_what_does_not_depend_on_the_sample_is_no_placement():
    assert read(lambda x: torch.ones(7), 64) is None


@pytest.mark.parametrize(
    "arrange", [lambda x: x + x.roll(1), lambda x: x**2, lambda x: x - x.mean()], ids=["sum", "square", "centered"]
)
def test_mixtures_of_elements_are_refused(arrange):
    with pytest.raises(Unsupported, match="it is no rearrangement of the sample"):
        read(arrange, 300)


def test_an_arrangement_of_an_arrangement():
    first, second = (torch.randperm(50, generator=torch.Generator().manual_seed(s)) for s in (0, 1))
    found = read(lambda x: x[first], 50)
    inverse = torch.empty_like(second)
    inverse[second] = torch.arange(50)
    y = torch.randn(50)  # y = x[second], so x = y[inverse]
    torch.testing.assert_close(found.moved(inverse[found.index]).fill(torch.zeros(50), y), y[inverse][first])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("a", "b"), [(1.0, 0.0), (1e-3, 0.0), (-1e-3, 1.0), (0.25, 3.0)])
def test_affine_times(a, b, dtype):
    times = [999.0, 871.0, 640.0, 12.0]
    found = times_of([torch.full((2,), a * t + b).to(dtype) for t in times], times)
    usual = b != 3.0  # maps tried before a fit, which rounding spoils
    if usual or dtype is torch.float32:
        assert (found.a, found.b) == pytest.approx((a, b), rel=1e-5)
    else:
        assert found is None or (found.a, found.b) == pytest.approx((a, b), rel=0.2)


def test_a_time_per_token_is_filled_in_where_it_changes():
    times = [999.0, 500.0, 1.0]
    found = times_of([torch.tensor([[0.0, t, 5.0, t]]) for t in times], times)
    filled = found.fill(torch.zeros(1, 4), torch.tensor(250.0), torch.device("cpu"))
    assert filled.tolist() == [[0.0, 250.0, 5.0, 250.0]]
    one = Times(1.0, 0.0).fill(torch.tensor(7), torch.tensor([2.5]), torch.device("cpu"))
    assert one.tolist() == [2.5]  # whole numbers become float32


def test_other_arguments_are_no_times():
    times = [999.0, 500.0, 1.0]
    assert times_of([torch.tensor([t**2]) for t in times], times) is None
    assert times_of([torch.tensor([2.0])] * 3, times) is None
    assert times_of([torch.tensor([t, 2 * t]) for t in times], times) is None
