"""The tables of the toy study as Markdown: to be read where a report cannot be opened."""

from collections.abc import Mapping, Sequence
from typing import Any

from scoredistill.studies.toy2d.claims import TABLE1, TABLE2, verdict


def markdown(results: Mapping[str, Any]) -> str:
    """Tables 1 and 2 with the paper's numbers and verdicts, biases, landscapes and the ranking."""
    setting = results["setting"]
    parts = [
        "# Tables of the toy study",
        f"`{results['command']}`, {results['date']}, version {results['version']}, {setting['seeds']} seeds, "
        f"{setting['scale']['particles']} particles. NLL in nats, precision and recall with k = 3, "
        f"MMD squared with an RBF of bandwidth {results['mmd_bandwidth']}; ± is the standard deviation over seeds.",
    ]
    for name, kinds in results["table2"].items():
        for kind, methods in kinds.items():
            rows = [_samples(name, kind, method, found) for method, found in methods.items()]
            head = ["method", "NLL", "precision", "recall", "MMD", "NFE", "paper: NLL / P / R", "verdict"]
            parts += [f"## Table 2: {name}, {kind} denoiser", _table(head, rows)]
    for name, kinds in results["table1"].items():
        for kind, lambdas in kinds.items():
            if "0.316" in lambdas:
                rows = [_gradient(name, method, found) for method, found in lambdas["0.316"].items()]
                head = ["method", "rows", "bias", "std", "efficiency, own mean", "efficiency, true", "paper"]
                parts += [f"## Table 1: {name}, {kind} denoiser, lambda .316", _table(head, rows)]
    if results["bias"]:
        lambdas = sorted({lam for kinds in results["bias"].values() for lam in kinds.get("exact", {})}, reverse=True)
        rows = [
            [name, method, *[f"{kinds['exact'][lam][method]:.3f}" for lam in lambdas]]
            for name, kinds in results["bias"].items()
            if "exact" in kinds
            for method in kinds["exact"][lambdas[0]]
        ]
        parts += ["## Relative bias by lambda, exact denoiser", _table(["set", "method", *lambdas], rows)]
    if results["landscape"]:
        rows = [
            [name, method, str(found["peaks"]), str(found["off_distribution"])]
            for name, methods in results["landscape"].items()
            for method, found in methods.items()
            if method != "msd"  # the same as msd_0.1
        ]
        parts += ["## Landscapes", _table(["set", "method", "peaks", "off the distribution"], rows)]
    if results["ranking"]:
        order = sorted(results["ranking"].items(), key=lambda item: item[1]["nll"])
        rows = [
            [
                m,
                *[spread(f, key) for key in ("nll", "precision", "recall", "modes")],
                f"{f['nfe']:.0f}",
                _gradient_of(f),
            ]
            for m, f in order
        ]
        head = ["method", "NLL", "precision", "recall", "modes", "NFE", "gradient: bias / std"]
        parts += ["## The zoo at equal rows, one class of two, guidance 4", _table(head, rows)]
    return "\n\n".join(parts) + "\n"


def _samples(name: str, kind: str, method: str, found: Mapping[str, Any]) -> list[str]:
    printed = TABLE2[name].get(kind, {}).get("msd" if method.startswith("msd") else method)
    paper = " / ".join(f"{value:g}" for value in printed) if printed else ""
    numbers = [spread(found, key) for key in ("nll", "precision", "recall", "mmd")]
    return [method, *numbers, f"{found['nfe']:.0f}", paper, verdict(method, printed, found) if printed else ""]


def _gradient(name: str, method: str, found: Mapping[str, Any]) -> list[str]:
    efficiencies = [number(found[key]) for key in ("efficiency_paper", "efficiency_true")]
    printed = TABLE1[name].get(method)
    numbers = [f"{found['rows']:.0f}", f"{found['bias']:.3f}", f"{found['std']:.3f}"]
    return [method, *numbers, *efficiencies, "" if printed is None else f"{printed:g}"]


def _gradient_of(found: Mapping[str, Any]) -> str:
    gradient = found.get("gradient")
    return f"{gradient['bias']:.2f} / {gradient['std']:.2f}" if gradient else ""


def spread(found: Mapping[str, Any], key: str) -> str:
    """Mean and standard deviation over seeds, as text."""
    digits = {"nll": 2, "mmd": 4}.get(key, 3)
    value = f"{found[key]:.{digits}f}"
    return f"{value} ± {found['std'][key]:.{digits}f}" if found["seeds"] > 1 else value


def number(value: float) -> str:
    """Two decimals, or infinity."""
    return f"{value:.2f}" if abs(value) < 1e6 else ("∞" if value > 0 else "-∞")


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
