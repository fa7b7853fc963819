r"""Editors with exact scores whose instruction has several equally good answers.

For a source y, the answers are m_k = A_k(y), and what the instruction asks for is the mixture of them,

    p(x | y, instruction) = 1/K sum_k N(x; m_k, s^2 I),        p(x | y, no instruction) = N(x; y, s^2 I).

With S = alpha^2 s^2 + sigma^2 and responsibilities rho_k(x_t) = softmax_k(-|x_t - alpha m_k|^2 / 2S),

    m = sum_k rho_k m_k,    eps(x_t) = sigma (x_t - alpha m) / S,    E[x | x_t] = m + alpha s^2 (x_t - alpha m) / S.

A window of a panorama, a frame of a film or a view of a scene, edited by itself, ends in any of the answers; that all
end in the same one is what collaboration is for (docs/results/collaboration.md).
"""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from scoredistill.priors.base import Editor, JointPrior
from scoredistill.priors.conditions import Cond, expand_cond
from scoredistill.schedule import VP, Schedule, per_sample

Images = Float[Tensor, "b c h w"]


class ManyAnswers(JointPrior, Editor):
    """An editor of images in [-1, 1] whose instruction has the answers A_k(source).

    Args:
        answers: the functions A_k, source [b, c, h, w] -> edited [b, c, h, w].
        size: (height, width) of the windows that the editor sees.
        spread: s, standard deviation of a pixel around each answer.
        channels: of the images.
        schedule: the noise schedule; `VP()` by default.
        name: for messages.
    """

    max_rows = None
    needs_source = True
    takes_zeros = False

    def __init__(
        self,
        answers: Sequence[Callable[[Tensor], Tensor]],
        size: tuple[int, int],
        spread: float = 0.1,
        channels: int = 3,
        schedule: Schedule | None = None,
        name: str = "many answers",
    ):
        self.answers, self.spread, self.name = tuple(answers), spread, name
        self.latent_shape = (channels, *size)
        self.schedule = VP() if schedule is None else schedule

    @property
    def image_size(self) -> tuple[int, int]:
        return self.latent_shape[1], self.latent_shape[2]

    @property
    def factor(self) -> int:
        return 1

    @property
    def device(self) -> torch.device:
        return torch.device("cpu")

    def edits(self, source: Images) -> Float[Tensor, "k b c h w"]:
        """All answers for sources in [-1, 1]."""
        return torch.stack([answer(source) for answer in self.answers])

    def encode_text(self, prompts: str | Sequence[str]) -> Cond:
        """One row per prompt: 0 for an empty prompt, which asks for nothing, and 1 for any other."""
        prompts = [prompts] if isinstance(prompts, str) else prompts
        return {"text": torch.tensor([float(bool(prompt)) for prompt in prompts])}

    def encode_source(self, images: Images) -> Cond:
        return {"image": self.encode_image(images)}

    def encode_image(self, images: Images) -> Images:
        return 2 * images - 1

    def decode(self, x: Images) -> Images:
        return x / 2 + 0.5

    def null(self, cond: Cond) -> Cond:
        return {**cond, "text": torch.zeros_like(cond["text"])}

    def _predict(self, x_t: Tensor, t: Tensor, cond: Cond | None) -> tuple[Tensor, Tensor]:
        if cond is None or "image" not in cond:
            raise ValueError(f"{self.name} edits images: encode the source image into the condition")
        cond = expand_cond(cond, len(x_t))
        source = cond["image"].to(x_t)
        alpha, sigma = (per_sample(level, x_t) for level in self.schedule(t))
        variance = (alpha * self.spread) ** 2 + sigma**2
        means = torch.cat([source[None], self.edits(source)])
        squared = (x_t - alpha * means).square().sum((2, 3, 4)) / variance.flatten()
        asked = cond["text"].to(x_t) > 0
        open_ = torch.cat([~asked[None], asked.expand(len(self.answers), -1)])
        rho = torch.where(open_, -squared / 2, -torch.inf).softmax(0)
        mean = (rho[..., None, None, None] * means).sum(0)
        away = (x_t - alpha * mean) / variance
        return mean + alpha * self.spread**2 * away, sigma * away
