"""Compare SDS, SDI and MSD on one prompt: images, CLIP scores and cost, side by side.

    python examples/2_compare_methods.py [FRACTION_OF_THE_STEPS]    # 1 by default; about two minutes

Every method runs with its own recipe (guidance, time schedule, learning rate, number of steps), as with
`scoredistill image --method`.
"""

import sys

from scoredistill import tasks
from scoredistill.media.images import grid, to_tensor
from scoredistill.metrics import clip_similarity
from scoredistill.tasks.image_generation.recipes import RECIPES

fraction = float(sys.argv[1]) if len(sys.argv) > 1 else 1.0
prompt = "a hamburger"

images, labels = [], []
for method in ("sds", "sdi", "msd"):
    recipe = RECIPES[method]
    steps = max(1, round(fraction * recipe.steps["mlp"]))
    follow = max(1, round(fraction * recipe.follow))
    result = tasks.text_to_image(prompt, method=method, steps=steps, follow=follow, seed=0)
    score = clip_similarity(to_tensor(result.images[0]), prompt).item()
    print(
        f"{method:>4}: CLIP score {score:4.1f}, {result.counts['rows']:4d} network evaluations, {result.seconds:.1f} s"
    )
    images.append(result.images[0])
    labels.append(method)

sample = tasks.text_to_image(prompt, method="ddim", seed=0)
grid([*images, sample.images[0]], columns=4, labels=[*labels, "ddim"]).save("methods.png")
print("methods.png")
