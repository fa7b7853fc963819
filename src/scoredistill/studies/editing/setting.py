"""What the editing study measures: images, clips, instructions and methods."""

from dataclasses import dataclass, replace

from scoredistill.datasets import packaged_media as data
from scoredistill.datasets.procedural_edits import EDITS
from scoredistill.studies.editing.claims import REFERENCES
from scoredistill.studies.editing.jobs import Case, Setup
from scoredistill.studies.harness.setting import PriorSetting, check_methods, check_names, check_seeds, seeds_of
from scoredistill.tasks.image_editing.recipes import EDIT_RECIPES
from scoredistill.tasks.video_editing.recipes import VIDEO_RECIPES

INSTRUCTIONS = ("make it night", "make it snowy", "turn it into a pencil sketch", "make it green")
QUICK_IMAGES, QUICK_INSTRUCTIONS, QUICK_CLIPS = ("venice", "cat"), INSTRUCTIONS[:2], ("bikes",)
METHODS = ("csd", "csd_full", "csd_paper", "uncoupled", "random_noise", "crops", "windows")
VIDEO_METHODS = ("csd", "common_noise", "uncoupled", "random_noise", "windows", "per_frame")
QUICK_METHODS, QUICK_VIDEO_METHODS = ("csd", "uncoupled", "crops", "windows"), ("csd", "uncoupled", "per_frame")


@dataclass(frozen=True)
class Setting(PriorSetting):
    """What to measure.

    Args:
        prior: name or directory of the editor.
        images: names of packaged images; all by default.
        clips: names of packaged clips; all by default.
        instructions: first instructions of exact procedural edits; `INSTRUCTIONS` by default.
        seeds: runs in the main tables.
        methods: of `EDIT_RECIPES`, or FILE.py:NAME; all by default, and then with trade-off and sweeps.
        quick: measure a smaller version of everything.
    """

    prior: str = "emoji-edit"
    images: tuple[str, ...] = ()
    clips: tuple[str, ...] = ()
    instructions: tuple[str, ...] = ()
    seeds: int = 1

    def filled(self) -> "Setting":
        """The same setting with every default filled in, unchecked."""
        quick = self.quick
        return replace(
            self,
            images=self.images or (QUICK_IMAGES if quick else tuple(data.IMAGES)),
            clips=self.clips or (QUICK_CLIPS if quick else tuple(data.CLIPS)),
            instructions=self.instructions or (QUICK_INSTRUCTIONS if quick else INSTRUCTIONS),
        )

    def check(self) -> None:
        """Refuse what does not exist.

        Raises:
            ValueError: for what does not exist.
            MissingExtra: if the package of an image or a clip is not installed.
        """
        check_names("image", self.images, data.IMAGES)
        check_names("clip", self.clips, data.CLIPS)
        check_names("instruction", self.instructions, [e.instructions[0] for e in EDITS.values() if e.exact])
        check_methods(self.methods, EDIT_RECIPES)
        check_seeds(self.seeds, self.seed)
        for name in self.images:
            data.path_of(*data.IMAGES[name])
        for name in self.clips:
            data.path_of(*data.CLIPS[name][:2])

    @property
    def setup(self) -> Setup:
        """What all jobs share."""
        sweeps = 4 if self.quick else 6
        return Setup(self.prior, 128, 64 if self.quick else 96, 8, sweeps, sweeps, self.load)

    def chosen(self, video: bool) -> tuple[str, ...]:
        """The methods to compare on images, or on videos."""
        usual = VIDEO_METHODS if video else METHODS
        if self.quick and not self.methods:
            return QUICK_VIDEO_METHODS if video else QUICK_METHODS
        known = {*(VIDEO_RECIPES if video else EDIT_RECIPES), *self.own}
        return tuple(m for m in self.methods if m in known) or usual

    def subjects(self, video: bool) -> tuple[str, ...]:
        """The names of the images, or of the clips."""
        return self.clips if video else self.images


Key = tuple[str, str, int]  # subject, instruction, seed


def main_cases(setting: Setting, video: bool) -> dict[str, dict[Key, Case]]:
    """method -> (subject, instruction, seed) -> case; the references have no seed, 0."""
    return {
        method: {
            (subject, text, seed): Case(method, subject, text, seed=seed, video=video)
            for subject in setting.subjects(video)
            for text in setting.instructions
            for seed in ([0] if method in REFERENCES else seeds_of(setting, setting.seeds))
        }
        for method in (*REFERENCES, *setting.chosen(video))
    }
