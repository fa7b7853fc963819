"""Parts that the reports of all runs share."""

from collections.abc import Mapping, Sequence

from scoredistill import __version__
from scoredistill.reports.page import Page
from scoredistill.tasks.run_config import values_of

LEAST = 4  # steps of a chart
WORDS = {
    "clip_sim": "CLIP similarity to the prompt",
    "clip_sim_worst_view": "CLIP similarity of the worst view",
    "view_consistency": "consistency of neighboring views, percent",
    "rows": "network evaluations (NFE)",
    "calls": "network calls",
    "encoded": "images encoded",
    "decoded": "images decoded",
    "missing": "not written",
}  # names of the values of result.json
TITLES = {"t": "Diffusion time", "bandwidth": "Bandwidth", "kernel": "Mean of the kernel"}


def add_curves(page: Page, history: Sequence[Mapping[str, float]], of: str) -> None:
    """Add a chart of each metric over the steps to a report; of fewer than `LEAST` steps none.

    Args:
        page: the report.
        history: metrics of each step.
        of: what the gradient acts on, for the title of its chart.
    """
    if len(history) < LEAST:
        return
    norms = [row["grad_norm"] for row in history]
    page.curves({"gradient": norms}, f"Gradient on the {of}", "step", "RMS", log_y=True)
    for name in sorted(set(history[0]) - {"grad_norm"}):
        values = [row[name] for row in history]
        page.curves({name: values}, TITLES.get(name, name), "step", name, log_y=name == "bandwidth")


def add_settings(page: Page, settings: object) -> Page:
    """Add a table of all settings to a report."""
    return page.heading("Settings").key_values({**values_of(settings), "version": __version__})


def in_words(summary: Mapping[str, object]) -> dict[str, object]:
    """The values of result.json by what they are called in a report; without those that are empty."""
    return {WORDS.get(name, name.replace("_", " ")): value for name, value in summary.items() if value not in ("", [])}


def cost_table(counts: Mapping[str, int]) -> dict[str, object]:
    """The cost of a run in network evaluations and calls, for its report."""
    return {"network evaluations (NFE)": counts["rows"], "network calls": counts["calls"]}
