"""Tables of the two-dimensional study, for the report and for tables.md."""

from collections.abc import Mapping
from typing import Any

from scoredistill.studies.harness.tables import Results, Row, Section, Tables, seeds_note
from scoredistill.studies.toy2d.claims import TABLE1, TABLE2, verdict
from scoredistill.studies.toy2d.methods import ZOO

LAMBDA = "0.316"  # the one of the publication's Table 1
DECIMALS = {"nll": 2, "mmd": 4}
ALIAS = "msd"  # in the landscapes the same as msd_0.1


def sections(results: Results) -> list[Section]:
    """Tables 1 and 2 with the published numbers, biases, landscapes and the ranking."""
    gradients = [section for (_, _, lam), section in gradient_sections(results).items() if lam == LAMBDA]
    others = [bias_section(results), landscape_section(results), ranking_section(results)]
    return [*sample_sections(results).values(), *gradients, *others]


def extent(results: Results) -> str:
    """How much was measured, and what the metrics are."""
    setting = results["setting"]
    return (
        f"{setting['seeds']} seeds{seeds_note(setting)}, {setting['scale']['particles']} particles. Densities are "
        "exact whatever denoiser moved the particles. NLL: mean negative log density in nats, lower is likelier. "
        "Precision and recall: k = 3, "
        f"against 4,096 true samples. MMD: squared, RBF kernel of bandwidth {results['mmd_bandwidth']}. NFE: network "
        "evaluations per particle. ± is the standard deviation over seeds."
    )


def in_short(results: Results) -> Section:
    """NLL, precision and recall of the most important methods."""
    rows: list[Row] = []
    for name, kinds in results["table2"].items():
        for kind, methods in kinds.items():
            row: Row = {"set": name, "denoiser": kind}
            for method in ("ddim", "sds", "msd", "collaborative"):
                if found := methods.get(method):
                    row[method] = " / ".join(f"{found[key]:.2f}" for key in ("nll", "precision", "recall"))
            rows.append(row)
    return Section("In short", "NLL / precision / recall. NFE: DDIM 32, SDS 150, both mean shifts 20.", rows)


def sample_sections(results: Results) -> dict[tuple[str, str], Section]:
    """Table 2, by set and denoiser."""
    return {
        (name, kind): Section(
            f"Table 2: {name}, {kind} denoiser", "", [_sample_row(name, kind, m, found) for m, found in methods.items()]
        )
        for name, kinds in results["table2"].items()
        for kind, methods in kinds.items()
    }


def _sample_row(name: str, kind: str, method: str, found: Mapping[str, Any]) -> Row:
    published = TABLE2[name].get(kind, {}).get("msd" if method.startswith("msd") else method)
    metrics = {"NLL": "nll", "precision": "precision", "recall": "recall", "MMD": "mmd", "modes": "modes"}
    return {
        "method": method,
        **{title: over_seeds(found, key) for title, key in metrics.items()},
        "NFE": f"{found['nfe']:.0f}",
        "published: NLL / P / R": " / ".join(f"{value:g}" for value in published) if published else "",
        "verdict": verdict(method, published, found) if published else "",
    }


def gradient_sections(results: Results) -> dict[tuple[str, str, str], Section]:
    """Table 1, by set, denoiser and lambda."""
    return {
        (name, kind, lam): Section(
            f"Table 1: {name}, {kind} denoiser, lambda {lam}",
            "",
            [_gradient_row(name, lam, method, found) for method, found in methods.items()],
        )
        for name, kinds in results["table1"].items()
        for kind, lambdas in kinds.items()
        for lam, methods in lambdas.items()
    }


def _gradient_row(name: str, lam: str, method: str, found: Mapping[str, Any]) -> Row:
    published = TABLE1[name].get(method) if lam == LAMBDA else None
    return {
        "method": method,
        "batch rows": f"{found['rows']:.0f}",
        "bias": f"{found['bias']:.3f}",
        "std": f"{found['std']:.3f}",
        "efficiency, own mean": number(found["efficiency_paper"]),
        "efficiency, true": number(found["efficiency_true"]),
        "published": "" if published is None else f"{published:g}",
    }


def bias_section(results: Results) -> Section:
    """The bias of every estimator on the exact denoiser, by lambda."""
    exact = {name: kinds["exact"] for name, kinds in results["bias"].items() if "exact" in kinds}
    rows: list[Row] = []
    for name, lambdas in exact.items():
        largest_first = sorted(lambdas, reverse=True)
        for method in lambdas[largest_first[0]]:
            cells: Row = {lam: f"{lambdas[lam][method]:.3f}" for lam in largest_first}
            rows.append({"set": name, "method": method, **cells})
    return Section("Relative bias by lambda, exact denoiser", "", rows)


def landscape_section(results: Results) -> Section:
    """How many peaks a landscape has, and how many of them are off the distribution."""
    rows: list[Row] = [
        {"set": name, "method": m, "peaks": found["peaks"], "off the distribution": found["off_distribution"]}
        for name, methods in results["landscape"].items()
        for m, found in methods.items()
        if m != ALIAS
    ]
    return Section("Landscapes", "", rows)


def ranking_section(results: Results) -> Section:
    """All methods at an equal number of network evaluations, the best NLL first."""
    rows: list[Row] = []
    for method in ranked(results):
        found = results["ranking"][method]
        gradient = found.get("gradient")
        rows.append(
            {
                "method": method,
                **{key: over_seeds(found, name) for key, name in (("NLL", "nll"), ("precision", "precision"))},
                **{key: over_seeds(found, key) for key in ("recall", "modes")},
                "NFE": f"{found['nfe']:.0f}",
                "gradient: bias / std": f"{gradient['bias']:.2f} / {gradient['std']:.2f}" if gradient else "",
                "description": description(results, method),
            }
        )
    return Section("All methods at equal NFE, one class of two, guidance 4", "", rows)


def ranked(results: Results) -> list[str]:
    """The methods of the ranking, the best NLL first."""
    return sorted(results["ranking"], key=lambda method: results["ranking"][method]["nll"])


def description(results: Results, method: str) -> str:
    """What a method is; results of older versions hold no descriptions."""
    return str(results.get("descriptions", {}).get(method) or ZOO[method].description)


def over_seeds(found: Mapping[str, Any], key: str) -> str:
    """Mean and standard deviation over seeds as text."""
    decimals = DECIMALS.get(key, 3)
    value = f"{found[key]:.{decimals}f}"
    return f"{value} ± {found['std'][key]:.{decimals}f}" if found["seeds"] > 1 else value


def number(value: float) -> str:
    """A number with two decimals, or infinity."""
    return f"{value:.2f}" if abs(value) < 1e6 else ("∞" if value > 0 else "-∞")


tables = Tables("Tables of the two-dimensional study", extent, sections)
