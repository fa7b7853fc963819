"""What the text-to-image study measures: prompts, methods and blocks."""

from dataclasses import dataclass, replace
from pathlib import Path

from scoredistill.studies.harness.setting import (
    PriorSetting,
    check_methods,
    check_names,
    check_prompts,
    check_seeds,
)
from scoredistill.studies.text_to_image.blocks import (
    BLOCKS,
    METHODS,
    ON_REQUEST,
    PROMPTS,
    QUICK_METHODS,
    QUICK_PROMPTS,
    Block,
)
from scoredistill.studies.text_to_image.jobs import Setup

REFERENCES, QUICK_REFERENCES = 32, 12
USUAL = tuple(name for name in METHODS if name not in ON_REQUEST)


@dataclass(frozen=True)
class Setting(PriorSetting):
    """What to measure.

    Args:
        prior: for `load_prior`.
        prompts: what the images show; the published ones that the bundled prior knows by default.
        seeds: images of each prompt by each method.
        blocks: names of `BLOCKS`.
        clip: directory or hub name of the CLIP model that evaluates the images; the bundled one by default.
        inception: compute FIDs in Inception's features too (`metrics.inception`).
        methods: of `METHODS`, or FILE.py:NAME; all but `ON_REQUEST` by default, and then with the ablations, gradients
            and bandwidths.
        quick: measure few prompts and methods in one block.
    """

    prior: str = "emoji"
    prompts: tuple[str, ...] = ()
    seeds: int = 3
    blocks: tuple[str, ...] = ()
    clip: str | None = None
    inception: bool = False

    def filled(self) -> "Setting":
        """The same setting with every default filled in, unchecked."""
        return replace(
            self,
            prompts=self.prompts or (QUICK_PROMPTS if self.quick else PROMPTS),
            methods=self.methods or (QUICK_METHODS if self.quick else USUAL),
            blocks=self.blocks or self._usual_blocks(),
        )

    def check(self) -> None:
        """Refuse what does not exist, and fewer than two prompts.

        Raises:
            ValueError: for what does not exist, or a single prompt.
        """
        check_methods(self.methods, METHODS)
        check_names("block", self.blocks, BLOCKS)
        check_seeds(self.seeds)
        check_seeds(max(self.images(BLOCKS[name]) for name in self.blocks), self.seed)
        check_prompts(self.prompts)
        if len(self.prompts) < 2:
            raise ValueError("one prompt makes no set of images: give at least two")

    def _usual_blocks(self) -> tuple[str, ...]:
        """The first if `quick`; where methods are chosen, those that compare methods; all otherwise."""
        if self.quick:
            return tuple(BLOCKS)[:1]
        return tuple(name for name, block in BLOCKS.items() if not self.methods or block.compares_methods)

    @property
    def setup(self) -> Setup:
        """What all jobs share."""
        references = QUICK_REFERENCES if self.quick else REFERENCES
        return Setup(self.prior, self.clip, self.prompts, references, self.inception, self.load)

    @property
    def whole(self) -> bool:
        """Whether everything is measured: then also the probes, which belong to no method."""
        return not self.quick and set(self.methods) >= set(USUAL) and set(self.blocks) >= set(BLOCKS)

    def images(self, block: Block) -> int:
        """Images of each prompt in a block."""
        return self.seeds if block.images is None else block.images

    def table(self) -> list[tuple[Block, str]]:
        """All pairs of block and method."""
        pairs = [(BLOCKS[name], method) for name in self.blocks for method in BLOCKS[name].methods]
        chosen = [(b, m) for b, m in pairs if m not in b.without and (m in self.methods or m not in METHODS)]
        blocks = [BLOCKS[name] for name in self.blocks if BLOCKS[name].compares_methods]
        return chosen + [(block, method) for block in blocks for method in self.own]


def read_prompts(file: Path) -> tuple[str, ...]:
    """The lines of a text file that are not empty.

    Raises:
        ValueError: if it is no text file, or has no such line.
    """
    try:
        prompts = tuple(line.strip() for line in file.read_text(encoding="utf-8").splitlines() if line.strip())
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"cannot read prompts from {file}: give a text file with one prompt a line") from error
    if not prompts:
        raise ValueError(f"{file} holds no prompt: write one a line")
    return prompts
