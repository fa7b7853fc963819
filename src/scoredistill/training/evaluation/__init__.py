"""Evaluation of the bundled models, and of others in their format, on held-out images."""

from __future__ import annotations

from pathlib import Path

from scoredistill.datasets.emoji import load_emoji
from scoredistill.priors.base import Editor, Prior
from scoredistill.priors.pipelines import PipelinePrior, bundled_folder, load_prior
from scoredistill.training.evaluation.editor import edit_grid, evaluate_editor
from scoredistill.training.evaluation.evaluator import Evaluator
from scoredistill.training.evaluation.text_to_image import evaluate_text_to_image, sample_grid

__all__ = ["Evaluator", "evaluate", "sheet"]


def evaluate(
    prior_folder: Path | str | Prior,
    data_dir: Path | str,
    clip_folder: Path | str | None = None,
    seeds: int = 8,
) -> dict[str, float]:
    """Evaluate a prior trained by `scoredistill.training`, in a few minutes on two cores.

    Args:
        prior_folder: of a `StableDiffusionPipeline` or `StableDiffusionInstructPix2PixPipeline`, or a loaded prior.
        data_dir: the `--data` folder of training; the data are downloaded if it is empty.
        clip_folder: of the evaluator; by default clip/ beside the prior's folder, or the bundled one.
        seeds: samples per common prompt; for an editor, a quarter of the number of images of each kind.

    Returns:
        Figures by name; fractions are in [0, 1], PSNR is in dB.
    """
    prior = _with_adapter(prior_folder)
    beside = bundled_folder("clip") if isinstance(prior_folder, Prior) else Path(prior_folder).parent / "clip"
    emoji = load_emoji(Path(data_dir), prior.image_size[0])
    evaluator = Evaluator.load(Path(clip_folder or beside), emoji.names)
    if isinstance(prior, Editor):
        return evaluate_editor(prior, evaluator, emoji, 4 * seeds)
    return evaluate_text_to_image(prior, evaluator, emoji, seeds)


def sheet(prior_folder: Path | str | Prior, data_dir: Path | str, path: Path) -> None:
    """Save an image grid of samples: ten prompts in three styles, or eight images edited by eight instructions."""
    prior = _with_adapter(prior_folder)
    if isinstance(prior, Editor):
        edit_grid(prior, load_emoji(Path(data_dir), prior.image_size[0]), path)
    else:
        sample_grid(prior, path)


def _with_adapter(source: Path | str | Prior) -> PipelinePrior:
    prior = source if isinstance(source, Prior) else load_prior(source)
    if not isinstance(prior, PipelinePrior):
        raise ValueError("only models of the kinds of the bundled ones can be evaluated: give one with an adapter")
    return prior
