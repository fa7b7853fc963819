"""The report of the toy study: the paper's numbers, ours, and the verdict side by side, with images to look at."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scoredistill.reports.page import Page
from scoredistill.studies.toy2d.claims import TABLE1, TABLE2, verdict
from scoredistill.studies.toy2d.methods import TABLE, ZOO
from scoredistill.studies.toy2d.tables import number, spread

FIGURES = ("nll", "precision", "recall")
WIDE = 4  # images in a row


def report(results: Mapping[str, Any], out: Path) -> Path:
    """Write report.html from the results and the images beside them."""
    setting = results["setting"]
    seeds, size = setting["seeds"], setting["scale"]["particles"]
    page = Page("Score distillation in the plane", "Every estimator on distributions whose scores are known exactly")
    page.command(results["command"])
    page.text(
        f"{size} particles, {seeds} seed(s), {results['seconds']:.0f} seconds of work. Densities are exact whatever "
        "denoiser moved the particles. NLL: mean negative log density in nats, lower is likelier. Precision and "
        f"recall: k = 3, against 4,096 true samples. MMD: squared, RBF of bandwidth {results['mmd_bandwidth']}. "
        "NFE: network rows per particle."
    )
    images = out / "images"
    _summary(page, results)
    _table2(page, results, images)
    _efficiency(page, results)
    _landscapes(page, results, images)
    _figures(page, results, images)
    _ranking(page, results, images)
    if results["failed"]:
        page.heading("What broke down").table([{"job": job, "error": said} for job, said in results["failed"].items()])
    page.heading("Setting").key_values({**{k: str(v) for k, v in setting.items()}, "date": results["date"]})
    return page.save(out / "report.html")


def _summary(page: Page, results: Mapping[str, Any]) -> None:
    """The first table: what a reader should take home."""
    rows = []
    for name, kinds in results["table2"].items():
        for kind, methods in kinds.items():
            row = {"set": name, "denoiser": kind}
            for method in ("ddim", "sds", "msd", "collaborative"):
                if method in methods:
                    row[method] = "\u00a0/\u00a0".join(f"{methods[method][key]:.2f}" for key in FIGURES)
            rows.append(row)
    if rows:
        page.heading("In short").table(rows, "NLL / precision / recall. NFE: DDIM 32, SDS 150, both mean shifts 20.")


def _table2(page: Page, results: Mapping[str, Any], images: Path) -> None:
    if not results["table2"]:
        return
    page.heading("Samples (Table 2)")
    shown_methods = {m: TABLE[m].says for kinds in results["table2"].values() for ms in kinds.values() for m in ms}
    page.key_values(shown_methods)
    for name, kinds in results["table2"].items():
        for kind, methods in kinds.items():
            shown = {m: p for m in methods if (p := images / f"{name}-{kind}-{m}.png").is_file()}
            _image_grid(page, f"{name}, {kind}", shown)
            page.table([_row(name, kind, m, ours) for m, ours in methods.items()], f"{name}, {kind} denoiser")


def _row(name: str, kind: str, method: str, ours: Mapping[str, Any]) -> dict[str, object]:
    """One line of Table 2: ours, the paper's, the verdict."""
    printed = TABLE2[name].get(kind, {}).get("msd" if method.startswith("msd") else method)
    row: dict[str, object] = {"method": method, "NLL": spread(ours, "nll")}
    row |= {key: spread(ours, key) for key in ("precision", "recall", "mmd", "modes")}
    row["NFE"] = round(ours["nfe"])
    row["paper: NLL, P, R"] = "\u00a0/\u00a0".join(f"{v:g}" for v in printed) if printed else ""
    row["verdict"] = verdict(method, printed, ours) if printed else ""
    return row


def _image_grid(page: Page, title: str, shown: Mapping[str, Path]) -> None:
    """Images in rows of four, each under its name."""
    names, paths = list(shown), list(shown.values())
    for i in range(0, len(paths), WIDE):
        page.image_grid({"": paths[i : i + WIDE]}, names[i : i + WIDE], title if i + WIDE >= len(paths) else "")


def _efficiency(page: Page, results: Mapping[str, Any]) -> None:
    if not results["table1"]:
        return
    page.heading("Gradients (Table 1, and the bias that it hides)")
    page.text(
        "Log efficiency is ln(|g|^2 / (MSE x rows)). With the paper's definition the MSE is taken about the "
        "estimator's own mean, so a wrong gradient without noise is infinitely efficient; against the true mean shift "
        "it is not. Bias is relative to the true mean shift; that of SDS after the best step size. The paper's SDS "
        "values are ours minus about ln 1000."
    )
    for name, kinds in results["table1"].items():
        for kind, lambdas in kinds.items():
            for lam, methods in lambdas.items():
                rows = []
                for method, found in methods.items():
                    printed = TABLE1[name].get(method) if lam == "0.316" else None
                    rows.append(
                        {
                            "method": method,
                            "rows": found["rows"],
                            "bias": found["bias"],
                            "std": found["std"],
                            "efficiency, own mean": number(found["efficiency_paper"]),
                            "efficiency, true": number(found["efficiency_true"]),
                            "paper": "" if printed is None else printed,
                        }
                    )
                page.table(rows, f"{name}, {kind} denoiser, lambda {lam}")


def _landscapes(page: Page, results: Mapping[str, Any], images: Path) -> None:
    if not results["landscape"]:
        return
    page.heading("Landscapes (Figure 3)")
    page.text(
        "The height whose gradient the method climbs: its field on a grid, integrated by a Poisson equation. Rings are "
        "peaks on the distribution, red crosses peaks off it (within half a spacing of the grid no point has a "
        "density above the level that 1 % of samples fall below)."
    )
    rows = []
    for name, methods in results["landscape"].items():
        shown = {m: p for m in methods if (p := images / f"landscape-{name}-{m}.png").is_file()}
        _image_grid(page, name, shown)
        rows += [
            {"set": name, "method": m, "peaks": f["peaks"], "off": f["off_distribution"]}
            for m, f in methods.items()
            if m != "msd"
        ]
    page.table(rows)


def _figures(page: Page, results: Mapping[str, Any], images: Path) -> None:
    if results["guided"]:
        page.heading("One class of two, guidance 4 (Figure 1)")
        shown = {m: p for m in results["guided"] if (p := images / f"guided-{m}.png").is_file()}
        _image_grid(page, "two-class fractal", shown)
        page.table([{"method": m, **{k: f[k] for k in FIGURES}} for m, f in results["guided"].items()])
    if results["product"]:
        page.heading("The product density (Figure 2, bottom row)")
        page.text(
            "Around the black point x: samples of p(y) N(x; y, s I), by the ancestral sampler (blue) and the product "
            "sampler (green). Red: the exact mean shift's target. Violet: the paper's recipe, which is one point."
        )
        for name in results["setting"]["sets"]:
            shown = {
                f"lambda {lam}": p for lam in (1.0, 0.316, 0.1) if (p := images / f"product-{name}-{lam}.png").is_file()
            }
            if shown:
                _image_grid(page, name, shown)


def _ranking(page: Page, results: Mapping[str, Any], images: Path) -> None:
    if not results["ranking"]:
        return
    page.heading("The whole zoo at equal network rows")
    page.text(
        f"One class of the two-class fractal at guidance 4, about {results['setting']['scale']['rows']} rows per "
        "particle for every method (a mean shift that needs 20 takes smaller steps), learning rates decaying to 0. "
        "Sorted by NLL. Bias and standard deviation of the gradient are relative to the guided mean shift at lambda "
        ".316, after the best step size."
    )
    order = sorted(results["ranking"], key=lambda m: results["ranking"][m]["nll"])
    rows = []
    for method in order:
        found = results["ranking"][method]
        row = {"method": method, "what": ZOO[method].says, **{k: spread(found, k) for k in FIGURES}}
        row |= {"modes": spread(found, "modes"), "NFE": round(found["nfe"])}
        gradient = found.get("gradient", {})
        rows.append(row | {"bias": gradient.get("bias", ""), "std": gradient.get("std", "")})
    page.table(rows)
    shown = {m: p for m in order for p in (images / f"zoo-{m}.gif", images / f"zoo-{m}.png") if p.is_file()}
    _image_grid(page, "best NLL first; seed 0", shown)
