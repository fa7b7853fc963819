"""Figures of the bundled models, and of others in their format, on images that no network was trained on."""

from __future__ import annotations

from pathlib import Path

from scoredistill.datasets.emoji import load_emoji
from scoredistill.priors.pipelines import load_prior
from scoredistill.training.evaluation.editor import edit_sheet, evaluate_editor
from scoredistill.training.evaluation.judge import Judge
from scoredistill.training.evaluation.text_to_image import evaluate_text_to_image, sample_sheet

__all__ = ["Judge", "evaluate", "sheet"]


def evaluate(
    prior_folder: Path | str, data_dir: Path | str, clip_folder: Path | str | None = None, seeds: int = 8
) -> dict[str, float]:
    """Measure a prior of `scoredistill.priors.train`; a few minutes on two cores.

    Args:
        prior_folder: a `StableDiffusionPipeline` or `StableDiffusionInstructPix2PixPipeline` folder.
        data_dir: the folder that training used as ``--data`` (fetched if it is empty).
        clip_folder: the judge; by default ``clip`` beside the prior.
        seeds: samples of each of the ten common prompts; for an editor a quarter of the images of each kind.

    Returns:
        Figures by name; shares are in [0, 1], PSNR is in dB.
    """
    emoji, prior = load_emoji(Path(data_dir)), load_prior(prior_folder)
    judge = Judge.load(Path(clip_folder or Path(prior_folder).parent / "clip"), emoji.names)
    if prior.editor:
        return evaluate_editor(prior, judge, emoji, 4 * seeds)
    return evaluate_text_to_image(prior, judge, emoji, seeds)


def sheet(prior_folder: Path | str, data_dir: Path | str, path: Path) -> None:
    """Save a sheet of what the prior makes: ten prompts in three styles, or eight images under eight instructions."""
    prior = load_prior(prior_folder)
    if prior.editor:
        edit_sheet(prior, load_emoji(Path(data_dir)), path)
    else:
        sample_sheet(prior, path)
