"""Muon: orthogonalized updates of the right parameters."""

import pytest
import torch

from scoredistill.training.autoencoder import build
from scoredistill.training.muon import RMS, Muon, hidden_matrices, orthogonalized
from scoredistill.training.unet import build_unet


def rng():
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize("shape", [(3, 16, 48), (2, 48, 16), (1, 32, 32)])
def test_directions_have_the_singular_vectors_of_the_gradient_and_singular_values_near_one(shape):
    gradient = torch.randn(shape, generator=rng())
    found = orthogonalized(gradient)
    u, _, vh = torch.linalg.svd(gradient, full_matrices=False)
    inside = (u.mT @ found @ vh.mT).diagonal(dim1=-2, dim2=-1)
    assert found.shape == gradient.shape
    assert 0.6 < inside.min() <= inside.max() < 1.3
    assert (found - u @ inside.diag_embed() @ vh).abs().max() < 0.05


def test_a_kernel_is_one_matrix_and_moves_by_the_stated_root_mean_square():
    weight = torch.nn.Parameter(torch.zeros(32, 16, 3, 3))
    weight.grad = torch.randn(weight.shape, generator=rng())
    Muon([weight], lr=0.01, weight_decay=0.0).step()
    direction = orthogonalized(1.95 * weight.grad.flatten(1)[None])[0]
    assert torch.allclose(weight.flatten(1), -0.01 * RMS * 144**0.5 * direction, atol=1e-5)
    assert float(weight.detach().square().mean().sqrt()) == pytest.approx(0.01 * RMS, rel=0.2)


def test_a_kernel_and_a_layer_of_one_flattened_shape_move_apart():
    """They are orthogonalized in one batch."""
    kernel, layer, alone = (torch.nn.Parameter(torch.zeros(s)) for s in ((4, 2, 3, 3), (4, 18), (4, 18)))
    for weight in (kernel, layer, alone):
        weight.grad = torch.randn(weight.shape, generator=torch.Generator().manual_seed(weight.dim()))
    Muon([kernel, layer], lr=0.1).step()
    Muon([alone], lr=0.1).step()
    assert torch.allclose(layer, alone, atol=1e-5)
    assert not torch.allclose(kernel.flatten(1), layer, atol=1e-3)


def test_momentum_is_nesterovs_and_weights_decay():
    weight = torch.nn.Parameter(torch.full((4, 4), 2.0))
    optimizer = Muon([weight], lr=0.1, momentum=0.5, weight_decay=0.3)
    first, second = torch.randn(2, 4, 4, generator=rng())
    expected = torch.full((4, 4), 2.0)
    for gradient, momentum in ((first, first), (second, 0.5 * first + second)):
        weight.grad = gradient.clone()
        optimizer.step()
        direction = orthogonalized((gradient + 0.5 * momentum)[None])[0]
        expected = expected * (1 - 0.1 * 0.3) - 0.1 * RMS * 2 * direction
        assert torch.allclose(weight, expected, atol=1e-5)


def test_it_minimizes_a_quadratic():
    target, weight = torch.randn(8, 8, generator=rng()), torch.nn.Parameter(torch.zeros(8, 8))
    optimizer = Muon([weight], lr=0.2, weight_decay=0.0)
    for step in range(150):
        optimizer.param_groups[0]["lr"] = 0.2 * (1 - step / 150)
        weight.grad = weight.detach() - target
        optimizer.step()
    assert (weight - target).square().mean() < 1e-3 * target.square().mean()


@pytest.mark.parametrize(("network", "outer"), [(build_unet((16, 32)), 2), (build(64, (8, 16, 32)), 6)])
def test_hidden_matrices_leave_out_first_and_last_layers_norms_and_biases(network, outer):
    hidden = {id(weight) for weight in hidden_matrices(network)}
    names = {name for name, weight in network.named_parameters() if id(weight) in hidden}
    layers = [m for m in network.modules() if isinstance(m, (torch.nn.Linear, torch.nn.Conv2d))]
    time = sum("time_embedding" in name and name.endswith("weight") for name, _ in network.named_parameters())
    assert len(names) == len(layers) - outer - time
    assert not [name for name in names if "conv_in" in name or "conv_out" in name or "quant" in name]
    assert all(name.endswith("weight") and "norm" not in name for name in names)


def test_frozen_matrices_are_left_out():
    network = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Linear(4, 4))
    network[0].requires_grad_(False)
    assert [id(weight) for weight in hidden_matrices(network)] == [id(network[1].weight)]
