"""Prompts that say from where a thing is seen, so that a prior tells its front from its back.

Reference: Poole et al. 2022 (DreamFusion), section 3.2, https://arxiv.org/abs/2209.14988. The views of a batch
differ, so they are a list of prompts, one per sample: prior.encode_text(view_prompts("a corgi", azimuth, elevation)).
"""

from collections.abc import Sequence

OVERHEAD = 60.0


def view_prompts(
    prompt: str, azimuth: Sequence[float], elevation: Sequence[float] | None = None, overhead: float = OVERHEAD
) -> list[str]:
    """The prompt with "front view", "side view", "back view" or "overhead view", for each camera.

    Args:
        prompt: what is seen.
        azimuth: degrees; 0 is the front, 90 the thing's side, 180 its back. Any turn counts modulo 360.
        elevation: degrees above the horizon, in [-90, 90]; 0 by default.
        overhead: elevations from here on are an overhead view, whatever the azimuth.

    Raises:
        ValueError: if there is not one elevation for each azimuth.
    """
    elevation = [0.0] * len(azimuth) if elevation is None else elevation
    if len(azimuth) != len(elevation):
        raise ValueError(f"{len(azimuth)} azimuths and {len(elevation)} elevations: give one of each per view")
    return [f"{prompt}, {_view(a, e, overhead)} view" for a, e in zip(azimuth, elevation, strict=True)]


def _view(azimuth: float, elevation: float, overhead: float) -> str:
    if elevation >= overhead:
        return "overhead"
    away = abs((azimuth + 180) % 360 - 180)
    return "front" if away < 45 else "side" if away <= 135 else "back"
