r"""Gradients shared along the optical flow, so that moving content is edited consistently.

One round replaces the gradient of every frame by a mean with those of its neighbors, warped along the flow,

    g_f  <-  ( g_f + 1/2 v_- W_- g_{f-1} + 1/2 v_+ W_+ g_{f+1} ) / ( 1 + 1/2 v_- + 1/2 v_+ ),

where W samples the neighbor where the flow points to, and v is 1 where the pixel is visible there and 0 elsewhere. k
rounds reach k frames, approximately as a Gaussian of standard deviation sqrt(k / 2) frames. Without motion this is a
mean over time; gradients that are the same in all frames are unchanged.
"""

from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from scoredistill.media.motion import optical_flow, visible, warp
from scoredistill.tasks.image_editing.canvas import Canvas
from scoredistill.tasks.image_editing.run import Exchange

Along = tuple[Float[Tensor, "2 H W"], Float[Tensor, "H W"]]  # flow, and 1 where it can be followed


class FlowExchange:
    """Shares gradients of the canvas of a group of frames along their optical flow.

    Args:
        images: the source at the working size, [f, 3, h, w].
        size: (height, width) of the canvas in latents, with padding.
        factor: pixels along one side of a latent.
        rounds: number of rounds, see the module's description.
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
    """Flow and visibility in units of latents; padding is not followed."""
    pad = size[1] * factor - flow.shape[2], size[0] * factor - flow.shape[1]
    flow = functional.pad(flow[None], (0, pad[0], 0, pad[1]), mode="replicate")
    shown = functional.pad(seen[None, None].to(flow), (0, pad[0], 0, pad[1]))
    small = functional.avg_pool2d(flow, factor)[0] / factor
    return small, (functional.avg_pool2d(shown, factor)[0, 0] > 0.5).to(flow)


def exchange_of(rounds: int, canvas: Canvas, images: Float[Tensor, "f 3 h w"]) -> Exchange | None:
    """The exchange along the flow of frames; None for no rounds or a single frame.

    Args:
        rounds: number of rounds.
        canvas: the canvas of the frames.
        images: the frames at the working size.
    """
    if not rounds or len(images) < 2:
        return None
    return FlowExchange(images, (canvas.source.shape[-2], canvas.source.shape[-1]), canvas.factor, rounds)
