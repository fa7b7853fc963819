r"""Muon: steepest descent of the matrices of hidden layers in the spectral norm; AdamW for all other parameters.

For a matrix W [m, n] (the kernel of a convolution is flattened to [out, in k k]) with gradient G,

    M <- mu M + G,    W <- (1 - lr w) W - lr 0.2 sqrt(max(m, n)) U V^T,    U S V^T = G + mu M,

where w is the weight decay. A Newton-Schulz iteration computes U V^T approximately, with singular values between about
0.7 and 1.2. The factor gives the update a root mean square of about 0.2, as AdamW's, so both share a learning rate.

References: Muon: an optimizer for hidden layers in neural networks (Jordan et al. 2024),
https://kellerjordan.github.io/posts/muon/; the factor: Muon is scalable for LLM training (Liu et al. 2025),
https://arxiv.org/abs/2502.16982.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of the quintic polynomial of the iteration, which maps singular values from (0, 1] to near 1 in few steps."""
ITERATIONS = 5
RMS = 0.2
OUTER = re.compile(r"(^|\.)(conv_in|conv_out|quant_conv|post_quant_conv|\w*embeddings?|\w*projection|head)(\.|$)")
"""Names of first and last layers and of embeddings, which AdamW trains."""


def hidden_matrices(network: nn.Module) -> list[Tensor]:
    """The trainable weights of hidden linear layers and convolutions: what Muon trains."""
    layers = [(name, layer) for name, layer in network.named_modules() if isinstance(layer, (nn.Linear, nn.Conv2d))]
    return [layer.weight for name, layer in layers if layer.weight.requires_grad and not OUTER.search(name)]


def orthogonalized(matrices: Float[Tensor, "b m n"]) -> Float[Tensor, "b m n"]:
    """U V^T of each matrix, approximately, computed in bfloat16."""
    x = matrices.bfloat16()
    if wide := x.shape[-2] > x.shape[-1]:
        x = x.mT
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    a, b, c = COEFFICIENTS
    for _ in range(ITERATIONS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x.mT if wide else x).to(matrices.dtype)


class Muon(torch.optim.Optimizer):
    """Muon for matrices and the kernels of convolutions. Matrices of one shape are processed as one batch.

    Args:
        params: parameters or groups, of at least two dimensions.
        lr: learning rate, comparable to that of AdamW.
        momentum: mu.
        weight_decay: w.
    """

    def __init__(self, params: Iterable[Any], lr: float, momentum: float = 0.95, weight_decay: float = 0.01) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Make one step."""
        for group in self.param_groups:
            alike: dict[tuple[int, int], list[Tensor]] = {}
            for weight in group["params"]:
                if weight.grad is not None:
                    alike.setdefault((len(weight), weight[0].numel()), []).append(weight)
            for shape, weights in alike.items():
                moments = self.moments(weights, group["momentum"])
                directions = orthogonalized(torch.stack([moment.reshape(shape) for moment in moments]))
                torch._foreach_mul_(weights, 1 - group["lr"] * group["weight_decay"])
                shaped = [direction.view_as(weight) for direction, weight in zip(directions, weights, strict=True)]
                torch._foreach_add_(weights, shaped, alpha=-group["lr"] * RMS * max(shape) ** 0.5)

    def moments(self, weights: Sequence[Tensor], mu: float) -> Sequence[Tensor]:
        """Update the momenta M of weights, and return G + mu M."""
        gradients = [weight.grad for weight in weights if weight.grad is not None]
        for weight in weights:
            if "momentum" not in self.state[weight]:
                self.state[weight]["momentum"] = torch.zeros_like(weight)
        momenta = [self.state[weight]["momentum"] for weight in weights]
        torch._foreach_mul_(momenta, mu)
        torch._foreach_add_(momenta, gradients)
        return torch._foreach_add(gradients, momenta, alpha=mu)
