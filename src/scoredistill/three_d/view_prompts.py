"""View-dependent prompts, so that a prior tells the front of an object from its back.

Reference: DreamFusion (Poole et al. 2022), section 3.2, https://arxiv.org/abs/2209.14988. The views of a batch differ,
so there is one prompt per sample: prior.encode_text(view_prompts("a corgi", azimuth, elevation)).
"""

from collections.abc import Sequence

OVERHEAD = 60.0  # degrees of elevation from which on a view counts as overhead


def view_prompts(
    prompt: str, azimuth: Sequence[float], elevation: Sequence[float] | None = None, overhead: float = OVERHEAD
) -> list[str]:
    """Append "front view", "side view", "back view" or "overhead view" to a prompt, for each camera.

    Args:
        prompt: description of the object.
        azimuth: in degrees, modulo 360; 0 is the front of the object, 90 a side, 180 the back.
        elevation: in degrees above the horizon, in [-90, 90]; 0 by default.
        overhead: elevation from which on a view is "overhead", whatever its azimuth.

    Raises:
        ValueError: if the numbers of azimuths and elevations differ.
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
