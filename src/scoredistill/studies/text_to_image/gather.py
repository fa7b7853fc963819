"""Metrics of the text-to-image study: distances to the DDIM samples, similarity to the text, diversity, cost.

A set is one image of each prompt, so a study of three seeds has three sets; a metric is the mean over sets with the
standard deviation over them. MMD, precision, recall, coverage and diversity need several images of a prompt, so they
are taken over all images, prompt by prompt, with the standard deviation over prompts.

    fid         Fréchet distance of a set to all DDIM samples, in the features of CLIP
    mmd         1000 times the unbiased squared MMD of the images and the DDIM samples of the same prompt, with the
                kernel exp(-|f - f'|^2 / (2 BANDWIDTH^2)); 0 on average for equal distributions. Not of sets: a set has
                no two images of a prompt, and the DDIM samples have many, which shifts the zero
    clip_sim    100 cos(image, text)
    precision   fraction of images inside the DDIM samples' balls (`metrics.precision_recall`)
    recall      fraction of DDIM samples inside the images' balls; 0 with one image, whose ball is a point
    coverage    fraction of DDIM samples that have an image inside their own ball: Reliable Fidelity and Diversity
                Metrics for Generative Models (Naeem et al., 2020), https://arxiv.org/abs/2002.09797
    diversity   mean distance of two images of a prompt

A kernel distance of unit features needs a kernel that bends within their distances, see `metrics.image_sets`. Those of
the bundled prior's DDIM samples of a prompt are .14, .30 and .61 at the quantiles .1, .5 and .9, and those of different
prompts 1.3; BANDWIDTH is between them, so that images which are no samples still differ in how far they are. MMD: A
Kernel Two-Sample Test (Gretton et al., 2012), https://jmlr.org/papers/v13/gretton12a.html.
"""

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from scoredistill.files import slug
from scoredistill.metrics import diversity, frechet_distance, mmd, precision_recall
from scoredistill.studies.harness.statistics import summary
from scoredistill.studies.text_to_image.jobs import Setup, evaluator

NEIGHBORS = 3  # k of precision, recall and coverage
BANDWIDTH = 0.5  # of the MMD, in units of CLIP's unit features
IMAGENET = ("efficientnet", "inception")
KINDS = ("clip", *IMAGENET)
COST = ("nfe", "calls", "encoded", "decoded", "seconds", "steps", "guidance", "lr")


class Features:
    """The features of all images of a study, read from its directory for images.

    Args:
        setup: what the study is of.
        images: the directory.
    """

    def __init__(self, setup: Setup, images: Path):
        self.prompts, self.folder = setup.prompts, images
        self.truth = {kind: self.of("reference", kind) for kind in KINDS}
        texts = evaluator(setup.clip).text_features(setup.prompts).cpu()
        self.texts = dict(zip(setup.prompts, texts, strict=True))

    def of(self, stem: str, array: str = "clip") -> list[Tensor]:
        """[n, f] for each prompt, of "reference" or a `Block.stem`; empty where the files of a prompt lack it."""
        files = [self.folder / f"{stem}-{slug(prompt)}.npz" for prompt in self.prompts]
        if not all(file.is_file() for file in files):
            return []
        found = [np.load(file) for file in files]
        if not all(array in file for file in found):
            return []
        return [torch.from_numpy(file[array].astype(np.float64)) for file in found]

    def fids(self, features: Sequence[Tensor], kind: str = "clip") -> list[float]:
        """Fréchet distance of each set."""
        truth = torch.cat(self.truth[kind])
        return [frechet_distance(torch.stack(one), truth) for one in zip(*features, strict=True)]

    def similarities(self, features: Sequence[Tensor]) -> list[Tensor]:
        """100 times the cosine of image and text, [n] for each prompt."""
        return [100 * f @ self.texts[prompt].double() for f, prompt in zip(features, self.prompts, strict=True)]


def evaluate(seen: Features, stem: str, parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """All metrics of a method, by the stem of its files: {"fid": {"mean", "std"}, ..., "nfe", "seconds"}.

    Args:
        parts: what the jobs of its prompts returned.
    """
    features = seen.of(stem)
    truth = seen.truth["clip"]
    found: dict[str, Any] = {"fid": summary(seen.fids(features))}
    found["fid_pooled"] = frechet_distance(torch.cat(features), torch.cat(truth))
    similar = zip(*seen.similarities(features), strict=True)
    found["clip_sim"] = summary([float(torch.stack(one).mean()) for one in similar])
    fractions = [_fractions(own, real) for own, real in zip(features, truth, strict=True)]
    found |= {name: summary([each[name] for each in fractions]) for name in fractions[0]}
    for kind in IMAGENET:
        if (other := seen.of(stem, kind)) and seen.truth[kind]:
            found[f"fid_{kind}"] = summary(seen.fids(other, kind))
    if all("distance" in part for part in parts):
        found["distance"] = summary([d for part in parts for d in part["distance"]])
    found |= {name: statistics.fmean(part[name] for part in parts) for name in COST}
    return {**found, "images": len(features[0])}


def curve(seen: Features, stem: str, part: Mapping[str, Any]) -> dict[str, list[float]]:
    """Fréchet distance and CLIP similarity at each snapshot: {"nfe", "fid", "clip_sim"}."""
    made: dict[str, list[float]] = {"nfe": [], "fid": [], "clip_sim": []}
    for step, nfe in part["at"].items():
        if features := seen.of(stem, f"seen_{step}"):
            made["nfe"].append(nfe)
            made["fid"].append(statistics.fmean(seen.fids(features)))
            made["clip_sim"].append(statistics.fmean(float(each.mean()) for each in seen.similarities(features)))
    return made


def images_of(prompts: Sequence[str], folder: Path, stem: str) -> dict[str, np.ndarray]:
    """prompt -> bytes [n, h, w, 3] of the finished images of "reference" or a `Block.stem`."""
    paths = {prompt: folder / f"{stem}-{slug(prompt)}.npz" for prompt in prompts}
    return {prompt: np.load(path)["pixels"] for prompt, path in paths.items() if path.is_file()}


def crossing(made: Mapping[str, Sequence[float]], level: float) -> float | None:
    """The NFE after which a curve is at or below a Fréchet distance for the first time; None if never."""
    return next((nfe for nfe, fid in zip(made["nfe"], made["fid"], strict=True) if fid <= level), None)


def _fractions(own: Tensor, real: Tensor) -> dict[str, float]:
    """MMD, precision, recall, coverage and diversity of the images of one prompt; a single image has no MMD."""
    radii = torch.cdist(real, real).kthvalue(min(NEIGHBORS, len(real) - 1) + 1).values
    coverage = (torch.cdist(real, own) <= radii[:, None]).any(1).double().mean().item()
    if len(own) < 2:
        precise = float((torch.cdist(own, real) <= radii).any(1).double().mean())
        return {"precision": precise, "recall": 0.0, "coverage": coverage, "diversity": 0.0}
    precision, recall = precision_recall(own, real, min(NEIGHBORS, len(own) - 1, len(real) - 1))
    found = {"precision": precision, "recall": recall, "coverage": coverage, "diversity": diversity(own)}
    return {**found, "mmd": 1000 * mmd(own, real, BANDWIDTH)}
