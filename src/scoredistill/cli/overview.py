"""What `scoredistill --help` prints: all commands, by what they are for. Quick, since it imports no command."""

from scoredistill.cli.columns import first_sentence, rows
from scoredistill.cli.command_names import summaries

GROUPS = {
    "Generate and edit": ("image", "object", "svg", "texture", "edit"),
    "Look at results": ("ui", "show", "demo"),
    "Compare methods": ("toy", "bench"),
    "Models and data": ("prior", "scene"),
    "This installation": ("doctor", "completion"),
}
OTHERS = "More"
CODES = "Exit codes: 0 done; 1 failed during the work; 2 wrong input, before any work; 130 interrupted."
NAMES = 12  # width of the column of names


def overview() -> str:
    """The text."""
    known = summaries()
    listed = {name for names in GROUPS.values() for name in names}
    groups = {**GROUPS, OTHERS: tuple(name for name in known if name not in listed)}
    lines = [
        "usage: scoredistill COMMAND [OPTIONS]",
        "",
        "Score distillation: a pre-trained diffusion model optimizes anything that renders to images.",
    ]
    for title, names in groups.items():
        pairs = [(name, first_sentence(known[name])) for name in names if name in known]
        lines += ["", f"{title}:", *rows(pairs, NAMES)] if pairs else []
    lines += ["", 'Start with: scoredistill image "a hamburger"', "Options: scoredistill COMMAND --help", CODES]
    return "\n".join(lines)
