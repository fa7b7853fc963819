"""Tables of the study of collaboration, for the report and for tables.md."""

from scoredistill.studies.collaboration.claims import METRICS, claims
from scoredistill.studies.harness.claims import RULE
from scoredistill.studies.harness.statistics import plus_minus
from scoredistill.studies.harness.tables import Results, Row, Section, Tables, metric_rows, quick_note, seeds_note

CAPTION = "Mean over runs, each with its own source and noise; ± is the standard error. {rows} network rows in a run."


def extent(results: Results) -> str:
    """How much was measured."""
    setting = results["setting"]
    return f"Measured in {setting['runs']} runs of each method{seeds_note(setting)}.{quick_note(setting)}"


def overview(results: Results, metric: str) -> list[Row]:
    """One line per method, a column per kind of answers and arrangement."""
    titles = results["titles"]
    return [
        {
            "method": titles[method],
            **{
                part: plus_minus(found["methods"].get(method, {}).get(metric))
                for part, found in results["parts"].items()
            },
        }
        for method in results["setting"]["methods"]
    ]


def sections(results: Results) -> list[Section]:
    """All tables: claims, an overview of the main metrics, and every metric of every part."""
    made = [
        Section("Claims", RULE, claims(results)),
        Section("One answer", f"{METRICS['one'].description}.".capitalize(), overview(results, "one")),
        Section("Strength", f"{METRICS['strength'].description}.".capitalize(), overview(results, "strength")),
    ]
    for part, found in results["parts"].items():
        titled = {results["titles"][method]: cells for method, cells in found["methods"].items()}
        rows = sorted({f"{found['rows'][method]}" for method in found["rows"]})
        caption = CAPTION.format(rows=" or ".join(rows))
        made.append(Section(part[:1].upper() + part[1:], caption, metric_rows(titled, METRICS, METRICS)))
    return made


tables = Tables("Tables of the study of collaboration", extent, sections)
