"""Conversion between the predictions of diffusion networks: eps, x0, v, flow and score."""

from torch import Tensor

PREDICTIONS = ("eps", "x0", "v", "flow", "score")


def check_prediction(kind: str) -> None:
    """Raise ValueError unless `kind` names a prediction."""
    if kind not in PREDICTIONS:
        raise ValueError(f"unknown prediction {kind!r}: use one of {', '.join(PREDICTIONS)}")


def from_prediction(kind: str, out: Tensor, x_t: Tensor, alpha: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
    """Convert a network's output to the pair (x0, eps).

    Args:
        kind: "eps" (noise), "x0" (clean sample), "v" (alpha n - sigma x, Salimans & Ho 2022), "flow" (n - x),
            "score" (-n / sigma).
    """
    if kind == "v":
        # alpha^2 + sigma^2 = 1 for VP; the general form divides by it
        norm = alpha**2 + sigma**2
        return (alpha * x_t - sigma * out) / norm, (sigma * x_t + alpha * out) / norm
    if kind == "flow":
        total = alpha + sigma
        return (x_t - sigma * out) / total, (x_t + alpha * out) / total
    if kind == "x0":
        return out, (x_t - alpha * out) / sigma
    noise = -sigma * out if kind == "score" else out
    return (x_t - sigma * noise) / alpha, noise


def to_prediction(kind: str, x0: Tensor, noise: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    """Convert the pair (x0, noise) to a network's output of the given kind: the inverse of `from_prediction`."""
    check_prediction(kind)
    return {
        "eps": lambda: noise,
        "x0": lambda: x0,
        "v": lambda: alpha * noise - sigma * x0,
        "flow": lambda: noise - x0,
        "score": lambda: -noise / sigma,
    }[kind]()
