"""Text to image with your own loop: mean-shift distillation of a coordinate network.

    python examples/1_text_to_image.py [OPTIMIZER_STEPS_PER_GRADIENT]    # 15 by default; about ten seconds

Equals `scoredistill image "a cactus"`. Each of 24 gradients is a mean shift towards a draw that is refined by one
guided network call and decoded to pixels; in between, the network follows the gradient for some cheap optimizer steps.
"""

import sys

import torch

from scoredistill import distill, load_prior
from scoredistill.estimators import Decoded, TrackedMSD
from scoredistill.generators import CoordinateMLP
from scoredistill.media.images import to_pil
from scoredistill.metrics import clip_similarity
from scoredistill.priors import Counted, Guided
from scoredistill.times import Bandwidth

follow = int(sys.argv[1]) if len(sys.argv) > 1 else 15

prior = Counted(load_prior("emoji"))
image = CoordinateMLP(1, prior.prior.image_size, rng=torch.Generator().manual_seed(0))
run = distill(
    image,
    Guided(prior, 5.0),
    Decoded(TrackedMSD(spread=0.5)),
    prior.prior.encode_text("a cactus"),
    steps=24,
    times=Bandwidth(prior.schedule, start=60.0, end=0.05, shape="time"),
    optimizer=torch.optim.Adam(image.parameters(), lr=0.01),
    follow=follow,
    rng=torch.Generator().manual_seed(1),
)
for step in run:
    print(f"step {step.index}: t = {step.t:.3f}, gradient norm {step.grad_norm:.3f}, {prior.rows} network evaluations")

to_pil(step.images())[0].save("cactus.png")
print(f"CLIP score {clip_similarity(step.images(), 'a cactus').item():.1f}: cactus.png")
