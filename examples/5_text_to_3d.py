"""Text-to-3D: a radiance field, optimized by score distillation from random views, shown on a turntable.

    python examples/5_text_to_3d.py [STEPS]    # 12 gradients by default; about a minute

`scoredistill object` adds meshes, videos, depth maps, reports and resumption to this loop.
"""

import sys

import torch

from scoredistill import distill, load_prior
from scoredistill.estimators import MSD, Decoded
from scoredistill.media.images import save_gif, to_pil
from scoredistill.metrics import clip_similarity
from scoredistill.priors import Guided
from scoredistill.three_d import Field, NeRF
from scoredistill.three_d.camera import RandomViews, orbit
from scoredistill.three_d.encodings import DenseGrid
from scoredistill.times import Bandwidth

steps = int(sys.argv[1]) if len(sys.argv) > 1 else 12
prompt = "a red apple"

prior = load_prior("emoji")
field = Field(DenseGrid((8, 16, 32)), hidden=32, layers=1, rng=torch.Generator().manual_seed(0))
cameras = RandomViews(elevation=(-5.0, 25.0), radius=(2.9, 3.1), fov=(40.0, 40.0))
apple = NeRF(field, samples=32, size=(32, 32), image=prior.image_size, cameras=cameras)

run = distill(
    apple,
    Guided(prior, 7.5),
    Decoded(MSD(sampler="product", steps=12, levels="prior")),
    prior.encode_text(prompt),
    steps=steps,
    particles=4,
    times=Bandwidth(prior.schedule, start=12.0, end=1.0),
    optimizer=torch.optim.Adam(apple.parameters(), lr=0.05),
    follow=12,
    rng=torch.Generator().manual_seed(1),
)
for step in run:
    print(f"step {step.index}: gradient norm {step.grad_norm:.3f}")

with torch.no_grad():
    frames = torch.cat([apple.render(view).rgb for view in (orbit(12)[k : k + 4] for k in range(0, 12, 4))])
save_gif(to_pil(frames), "apple.gif", seconds=3.0)
print(f"CLIP score from {len(frames)} sides {clip_similarity(frames, prompt).mean():.1f}: apple.gif")
