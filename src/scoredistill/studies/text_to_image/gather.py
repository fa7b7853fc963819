"""From the parts of a study to its results: distances to the DDIM samples, similarity to the text, diversity, cost.

A set is one image of each prompt, so a study of three seeds has three; a figure is the mean over sets and its
standard deviation. Precision, recall, coverage and diversity need several images of a prompt, so there they are
taken over all of them, prompt by prompt, and the standard deviation is that over prompts.

    fid         Fréchet distance of a set to all DDIM samples, in the judge's features
    kid         kernel distance of the same, times 1000
    clip_sim    100 cos(image, text)
    precision   share of images inside the DDIM samples' balls (`metrics.precision_recall`)
    recall      share of DDIM samples inside the images' balls; 0 with one image, whose ball is a point
    coverage    share of DDIM samples that have an image inside their own ball: Naeem et al. 2020,
                https://arxiv.org/abs/2002.09797
    diversity   mean distance of two images of a prompt
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from scoredistill.metrics import diversity, frechet_distance, kernel_distance, precision_recall
from scoredistill.studies.harness.jobs import spread
from scoredistill.studies.harness.setting import slug
from scoredistill.studies.text_to_image.jobs import World, judge

NEIGHBORS = 3  # k of precision, recall and coverage
IMAGENET = ("efficientnet", "inception")
KINDS = ("clip", *IMAGENET)


class Seen:
    """The features of all images of a study, read from the folder of its images.

    Args:
        world: what the study is of.
        images: the folder.
    """

    def __init__(self, world: World, images: Path):
        self.world, self.folder = world, images
        self.truth = {kind: self._of("reference", kind) for kind in KINDS}
        texts = judge(world.judge).text_features(world.prompts).cpu()
        self.texts = dict(zip(world.prompts, texts, strict=True))

    def _of(self, stem: str, array: str) -> list[Tensor]:
        """An array of all prompts' files of a stem, prompt by prompt; empty where it is not in all of them."""
        files = [self.folder / f"{stem}-{slug(prompt)}.npz" for prompt in self.world.prompts]
        if not all(file.is_file() for file in files):
            return []
        found = [np.load(file) for file in files]
        if not all(array in file for file in found):
            return []
        return [torch.from_numpy(file[array].astype(np.float64)) for file in found]

    def features(self, stem: str, array: str = "clip") -> list[Tensor]:
        """[n, f] per prompt, of a block's method (`Block.stem`)."""
        return self._of(stem, array)

    def images(self, stem: str) -> dict[str, np.ndarray]:
        """Bytes [n, h, w, 3] of each prompt's images, see `images_of`."""
        return images_of(self.world, self.folder, stem)

    def fids(self, features: Sequence[Tensor], kind: str = "clip") -> list[float]:
        """Fréchet distance of each set."""
        truth = torch.cat(self.truth[kind])
        return [frechet_distance(torch.stack(one), truth) for one in zip(*features, strict=True)]


def figures(seen: Seen, stem: str, parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """All figures of a method, by the stem of its files: {"fid": {"mean", "std"}, ..., "nfe", "seconds"}.

    Args:
        parts: what the jobs of its prompts returned.
    """
    features = seen.features(stem)
    truth, prompts = seen.truth["clip"], seen.world.prompts
    found: dict[str, Any] = {"fid": _mean(seen.fids(features))}
    sets, every = list(zip(*features, strict=True)), torch.cat(truth)
    found["fid_pooled"] = frechet_distance(torch.cat(features), every)
    found["kid"] = _mean([1000 * kernel_distance(torch.stack(one), every) for one in sets])
    similar = [100 * own @ seen.texts[prompt].double() for own, prompt in zip(features, prompts, strict=True)]
    found["clip_sim"] = _mean([float(torch.stack(one).mean()) for one in zip(*similar, strict=True)])
    shares = [_shares(own, real) for own, real in zip(features, truth, strict=True)]
    found |= {name: _mean([share[name] for share in shares]) for name in shares[0]}
    for kind in IMAGENET:
        if (other := seen.features(stem, kind)) and seen.truth[kind]:
            found[f"fid_{kind}"] = _mean(seen.fids(other, kind))
    if all("distance" in part for part in parts):
        found["distance"] = _mean([d for part in parts for d in part["distance"]])
    for name in ("nfe", "calls", "encoded", "decoded", "seconds", "steps", "guidance", "lr"):
        found[name] = statistics.fmean(part[name] for part in parts)
    return {**found, "images": len(features[0])}


def curve(seen: Seen, stem: str, part: Mapping[str, Any]) -> dict[str, list[float]]:
    """Fréchet distance and CLIP similarity at each snapshot: {"nfe", "fid", "clip_sim"}."""
    made: dict[str, list[float]] = {"nfe": [], "fid": [], "clip_sim": []}
    for step, rows in part["at"].items():
        if features := seen.features(stem, f"seen_{step}"):
            texts = [seen.texts[prompt].double() for prompt in seen.world.prompts]
            similar = [float((100 * f @ text).mean()) for f, text in zip(features, texts, strict=True)]
            made["nfe"].append(rows)
            made["fid"].append(statistics.fmean(seen.fids(features)))
            made["clip_sim"].append(statistics.fmean(similar))
    return made


def images_of(world: World, folder: Path, stem: str) -> dict[str, np.ndarray]:
    """Bytes [n, h, w, 3] of each prompt's finished images, of "reference" or a `Block.stem`."""
    paths = {prompt: folder / f"{stem}-{slug(prompt)}.npz" for prompt in world.prompts}
    return {prompt: np.load(path)["pixels"] for prompt, path in paths.items() if path.is_file()}


def crossing(made: Mapping[str, Sequence[float]], level: float) -> float | None:
    """The network rows after which a curve is at or below a Fréchet distance for the first time; None if never."""
    return next((rows for rows, fid in zip(made["nfe"], made["fid"], strict=True) if fid <= level), None)


def _shares(own: Tensor, real: Tensor) -> dict[str, float]:
    radii = torch.cdist(real, real).kthvalue(min(NEIGHBORS, len(real) - 1) + 1).values
    coverage = (torch.cdist(real, own) <= radii[:, None]).any(1).double().mean().item()
    if len(own) < 2:
        precise = float((torch.cdist(own, real) <= radii).any(1).double().mean())
        return {"precision": precise, "recall": 0.0, "coverage": coverage, "diversity": 0.0}
    precision, recall = precision_recall(own, real, min(NEIGHBORS, len(own) - 1, len(real) - 1))
    return {"precision": precision, "recall": recall, "coverage": coverage, "diversity": diversity(own)}


def _mean(values: Sequence[float]) -> dict[str, float]:
    return {"mean": statistics.fmean(values), "std": spread(values)}
