"""Encodings against exact references: affine functions, rows of the table, hashes by hand, and each other."""

import math
import sys
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from scoredistill.three_d.encodings import DenseGrid, HashGrid, TriPlane
from scoredistill.three_d.encodings.backends import drjit_usable
from scoredistill.three_d.encodings.hash_layout import Layout

needs_drjit = pytest.mark.skipif(not drjit_usable("cpu"), reason="Dr.Jit or LLVM is not there")
SMALL = {"levels": 3, "table": 64, "coarsest": 3, "finest": 9}  # one dense level, two hashed ones

MADE = {
    "dense": lambda rng=None: DenseGrid((3, 5, 8), 2, rng=rng),
    "planes": lambda rng=None: TriPlane((4, 6, 9), 2, rng=rng),
    "hash": lambda rng=None: HashGrid(**SMALL, backend="torch", bound=1.0, rng=rng),
}


def cube(n, rng, dtype=torch.float32):
    return 2 * torch.rand(n, 3, generator=rng, dtype=dtype) - 1


def vertices(r):
    """All vertices of a grid over the cube, x fastest."""
    line = torch.linspace(-1, 1, r, dtype=torch.float64)
    z, y, x = torch.meshgrid(line, line, line, indexing="ij")
    return torch.stack([x, y, z], -1).reshape(-1, 3)


AFFINE = torch.tensor([[0.3, -1.2], [0.7, 0.1], [-0.4, 2.0]], dtype=torch.float64)


def test_a_dense_grid_reproduces_an_affine_function(rng):
    encoding = DenseGrid((5,), 2).double()
    with torch.no_grad():
        encoding.values[0].copy_((vertices(5) @ AFFINE + 1).reshape(5, 5, 5, 2))
    points = cube(50, rng, torch.float64)
    torch.testing.assert_close(encoding(points), points @ AFFINE + 1, rtol=0, atol=1e-12)


def test_dense_levels_of_a_hash_grid_reproduce_an_affine_function(rng):
    encoding = HashGrid(1, 2, 128, 5, 5, "torch").double()
    assert encoding.values.shape == (126, 2)  # 5^3, rounded up to pairs
    with torch.no_grad():
        encoding.values[:125].copy_(vertices(5) @ AFFINE + 1)
    points = cube(50, rng, torch.float64)
    torch.testing.assert_close(encoding(points), points @ AFFINE + 1, rtol=0, atol=1e-6)  # u stops 2^-24 before 1


def test_features_at_vertices_are_the_entries(rng):
    dense = DenseGrid((4,), 3, rng=rng).double()
    torch.testing.assert_close(dense(vertices(4)), dense.values[0].reshape(-1, 3), rtol=0, atol=1e-12)
    planes = TriPlane((4,), 3, rng=rng).double()
    xy, yz, zx = planes.values[0]  # [features, row, column]: P_xy has x along columns
    i, j, k = 1, 3, 2
    point = -1 + 2 * torch.tensor([[i, j, k]], dtype=torch.float64) / 3
    torch.testing.assert_close(planes(point)[0], xy[:, j, i] * yz[:, k, j] * zx[:, i, k], rtol=0, atol=1e-12)


def test_hashes_by_hand(rng):
    # 7 xor (2654435761 * 5) xor (805459861 * 3), written out
    products = 13272178805, 2416379583
    row = (7 ^ (products[0] % 2**32) ^ (products[1] % 2**32)) % 100
    layout = Layout(2, 2, 100, 4, 16)
    assert products == (2654435761 * 5, 805459861 * 3)
    assert layout.index(*torch.tensor([7, 5, 3]), 1) == row == 25
    powers = Layout(2, 2, 64, 4, 16)
    assert powers.index(*torch.tensor([7, 5, 3]), 1) == (7 ^ (products[0] % 2**32) ^ (products[1] % 2**32)) % 64 == 13
    assert layout.index(*torch.tensor([3, 2, 1]), 0) == 3 + 4 * 2 + 16 * 1
    assert [layout.start(level) for level in range(3)] == [0, 64, 164]
    encoding = HashGrid(2, 2, 100, 4, 16, "torch", bound=1.0, rng=rng).double()
    point = -1 + 2 * torch.tensor([[7.0, 5.0, 3.0]], dtype=torch.float64) / 15
    torch.testing.assert_close(encoding(point)[0, 2:], encoding.values[64 + 25], rtol=0, atol=1e-9)


def test_resolutions_grow_from_the_coarsest_to_the_finest():
    assert [Layout().resolution(level) for level in range(8)] == [16, 22, 29, 40, 53, 71, 96, 128]
    assert [Layout(4, finest=128).resolution(level) for level in range(4)] == [16, 32, 64, 128]
    assert Layout(1, coarsest=9, finest=9).resolution(0) == 9
    for levels in range(2, 17):  # powers of rounded roots must not end one vertex later
        layout = Layout(levels, finest=128)
        assert (layout.resolution(0), layout.resolution(levels - 1)) == (16, 128)


@pytest.mark.parametrize("name", MADE)
def test_gradients_by_points_and_values(name, rng):
    encoding = MADE[name](rng).double()
    points = 0.9 * cube(4, rng, torch.float64)
    parameters = list(encoding.parameters())

    def call(points, *values):
        names = [n for n, _ in encoding.named_parameters()]
        return torch.func.functional_call(encoding, dict(zip(names, values, strict=True)), (points,))

    inputs = (points.requires_grad_(), *parameters)
    assert torch.autograd.gradcheck(call, inputs)
    if name == "hash":
        assert torch.autograd.gradgradcheck(call, inputs, atol=1e-4)


@pytest.mark.parametrize("name", MADE)
def test_levels_fade_in(name, rng):
    encoding = MADE[name](rng)
    points = cube(20, rng)
    whole = encoding(points).unflatten(1, (3, 2))
    assert encoding.features == 6
    assert whole.abs().amax((0, 2)).min() > 0.01
    shown = {0.0: (1, 0, 0), 0.25: (1, 0.5, 0), 0.5: (1, 1, 0), 0.75: (1, 1, 0.5), 1.0: (1, 1, 1)}
    for detail, factors in shown.items():
        encoding.detail = detail
        expected = whole * torch.tensor(factors)[:, None]
        torch.testing.assert_close(encoding(points).unflatten(1, (3, 2)), expected)
    with pytest.raises(ValueError, match="detail"):
        encoding.detail = 1.5


@pytest.mark.parametrize("name", MADE)
def test_outside_the_cube_the_nearest_point_counts(name, rng):
    encoding = MADE[name](rng)
    points = 2 * cube(50, rng)
    torch.testing.assert_close(encoding(points), encoding(points.clamp(-1, 1)))


@needs_drjit
@pytest.mark.parametrize("detail", [1.0, 0.5, 0.25])
def test_drjit_equals_torch(detail, rng):
    import drjit

    drjit.set_thread_count(1)
    reference = HashGrid(**SMALL, backend="torch", bound=1.0, rng=rng)
    compiled = HashGrid(**SMALL, backend="drjit")
    compiled.load_state_dict(reference.state_dict())
    corners = vertices(2).float()
    points, seen = torch.cat([1.2 * cube(300, rng), corners]), torch.randn(308, 6, generator=rng)
    found = []
    for encoding in (reference, compiled):
        encoding.detail = detail
        at = points.clone().requires_grad_()
        features = encoding(at)
        (seen * features).sum().backward()
        found.append((features.detach(), encoding.values.grad, at.grad))
    assert compiled.backend == "drjit"
    assert isinstance(compiled.values, nn.Parameter)
    for ours, theirs in zip(*found, strict=True):
        assert ours.abs().max() > 0.5
        torch.testing.assert_close(theirs, ours, rtol=1e-5, atol=1e-5)


@needs_drjit
def test_drjit_ends_on_the_same_finest_level(rng):
    """Six levels from 16 to 128: without care a rounded root makes the last one 129."""
    reference, compiled = (HashGrid(6, backend=b, bound=1.0, rng=rng) for b in ("torch", "drjit"))
    compiled.load_state_dict(reference.state_dict())
    points = cube(40, rng)
    torch.testing.assert_close(compiled(points), reference(points), rtol=1e-5, atol=1e-5)


@needs_drjit
def test_drjit_has_first_derivatives_only_and_leaves_other_types_to_torch(rng):
    encoding = HashGrid(**SMALL, backend="drjit", bound=1.0, rng=rng)
    points = cube(5, rng).requires_grad_()
    (slope,) = torch.autograd.grad(encoding(points).sum(), points, create_graph=True)
    with pytest.raises(RuntimeError):
        slope.square().sum().backward()
    double = HashGrid(**SMALL, backend="drjit", bound=1.0, rng=rng).double()
    assert double(points.detach().double()).dtype == torch.float64
    assert encoding(points[:0]).shape == (0, 6)


def test_missing_backends_are_refused(monkeypatch):
    with pytest.raises(ValueError, match="backend"):
        HashGrid(backend="numpy")
    monkeypatch.setitem(sys.modules, "tinycudann", None)
    with pytest.raises((RuntimeError, ValueError)):
        HashGrid(backend="tinycudann")
    monkeypatch.setattr("scoredistill.three_d.encodings.hash_grid.drjit_usable", lambda device: False)
    assert HashGrid(backend="auto").backend == "torch"
    with pytest.raises(RuntimeError, match="drjit"):
        HashGrid(backend="drjit")


def test_tinycudann_gets_the_sizes_and_unit_points(monkeypatch, rng):
    """A stand-in with the interface of tinycudann.Encoding; the library itself needs CUDA."""

    class Encoding(nn.Module):
        def __init__(self, n_input_dims, encoding_config, dtype):
            super().__init__()
            self.config, self.inputs, self.dtype = encoding_config, n_input_dims, dtype

        def forward(self, unit):
            assert unit.min() >= 0
            assert unit.max() < 1
            return unit.sum(1, keepdim=True).expand(-1, 6)

    module = SimpleNamespace(Encoding=Encoding, __spec__=SimpleNamespace())
    monkeypatch.setitem(sys.modules, "tinycudann", module)
    encoding = HashGrid(**SMALL, backend="tinycudann")
    assert encoding.foreign.config == {
        "otype": "HashGrid",
        "n_levels": 3,
        "n_features_per_level": 2,
        "log2_hashmap_size": 6,
        "base_resolution": 3,
        "per_level_scale": pytest.approx(math.sqrt(3)),
    }
    assert (encoding.foreign.inputs, encoding.foreign.dtype) == (3, torch.float32)
    points = cube(10, rng)
    encoding.detail = 0.25
    expected = ((points + 1) / 2).sum(1, keepdim=True) * torch.tensor([1, 1, 0.5, 0.5, 0, 0])
    torch.testing.assert_close(encoding(points), expected)


def field(points):
    """A smooth color field in [0, 1]."""
    x, y, z = points.unbind(1)
    waves = torch.stack([(3 * x + y).sin(), (2 * y - 3 * z).sin() * x.cos(), (2 * x * z + 2 * y).cos()], 1)
    return 0.5 + 0.45 * waves


@pytest.mark.parametrize(
    ("make", "least"),
    [
        (lambda rng: DenseGrid((6, 12), 4, rng=rng), 42),
        (lambda rng: TriPlane((12, 24), 8, rng=rng), 30),
        (lambda rng: HashGrid(4, 2, 2**11, 6, 24, "torch", 0.01, rng=rng), 39),
    ],
    ids=["dense", "planes", "hash"],
)
def test_all_learn_one_smooth_field(make, least, rng):
    """PSNR in dB at points that were not seen; without the encoding a linear map of the point reaches about 12."""
    encoding = make(rng)
    head = nn.Linear(encoding.features, 3)
    nn.init.normal_(head.weight, std=0.3, generator=rng)
    nn.init.constant_(head.bias, 0.5)
    optimizer = torch.optim.Adam([*encoding.parameters(), *head.parameters()], lr=0.02)
    for _ in range(300):
        points = cube(1024, rng)
        loss = (head(encoding(points)) - field(points)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    points = cube(4096, rng)
    error = (head(encoding(points)) - field(points)).square().mean()
    assert -10 * float(error.detach().log10()) > least
