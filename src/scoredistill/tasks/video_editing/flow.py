r"""Gradients shared along the optical flow: what moves keeps its color.

One round replaces the gradient of every frame by a mean with its neighbors', brought along the flow,

    g_f  <-  ( g_f + 1/2 v_- W_- g_{f-1} + 1/2 v_+ W_+ g_{f+1} ) / ( 1 + 1/2 v_- + 1/2 v_+ ),

where W samples the neighbor where the flow leads and v is 1 where the pixel is seen there and 0 where it is not. k
rounds reach k frames, as a Gaussian of standard deviation about sqrt(k / 2) frames. Where nothing moves it is a mean
over time; gradients that are the same in all frames stay as they are.
"""

from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from scoredistill.media.motion import optical_flow, visible, warp
from scoredistill.tasks.image_editing.canvas import Canvas
from scoredistill.tasks.image_editing.request import EditRequest
from scoredistill.tasks.image_editing.run import Exchange

Along = tuple[Float[Tensor, "2 H W"], Float[Tensor, "H W"]]  # flow and where it can be followed


class FlowExchange:
    """Shares gradients of a group's canvas along the flow of its frames.

    Args:
        images: the source at the working size, [f, 3, h, w].
        size: (height, width) of the canvas, with padding.
        factor: pixels of a latent.
        rounds: see the module.
    """

    def __init__(self, images: Float[Tensor, "f 3 h w"], size: tuple[int, int], factor: int, rounds: int = 1):
        self.rounds = rounds
        self.onward: list[Along] = []
        self.back: list[Along] = []
        for first, second in pairwise(images):
            forward, backward = optical_flow(first, second), optical_flow(second, first)
            self.onward.append(_reduced(forward, visible(forward, backward), size, factor))
            self.back.append(_reduced(backward, visible(backward, forward), size, factor))

    def __call__(self, grad: Float[Tensor, "f c H W"]) -> Float[Tensor, "f c H W"]:
        for _ in range(self.rounds):
            total, weight = grad.clone(), torch.ones_like(grad[:, :1])
            for k, (to_next, to_last) in enumerate(zip(self.onward, self.back, strict=True)):
                onward, seen, back, was = (value.to(grad) for value in (*to_next, *to_last))
                total[k] += 0.5 * seen * warp(grad[k + 1], onward)
                weight[k] += 0.5 * seen
                total[k + 1] += 0.5 * was * warp(grad[k], back)
                weight[k + 1] += 0.5 * was
            grad = total / weight
        return grad


def _reduced(flow: Tensor, seen: Tensor, size: tuple[int, int], factor: int) -> Along:
    """Flow and visibility in latents; what was padded is not followed."""
    pad = size[1] * factor - flow.shape[2], size[0] * factor - flow.shape[1]
    flow = functional.pad(flow[None], (0, pad[0], 0, pad[1]), mode="replicate")
    shown = functional.pad(seen[None, None].to(flow), (0, pad[0], 0, pad[1]))
    small = functional.avg_pool2d(flow, factor)[0] / factor
    return small, (functional.avg_pool2d(shown, factor)[0, 0] > 0.5).to(flow)


def exchange_of(request: EditRequest, canvas: Canvas, images: Float[Tensor, "f 3 h w"]) -> Exchange | None:
    """The exchange along the flow of these frames that a request asks for, if it does."""
    if not request.flow or len(images) < 2:
        return None
    return FlowExchange(images, (canvas.source.shape[-2], canvas.source.shape[-1]), canvas.factor, request.flow)
