"""docs/reliability.md from the results."""

import json


def write_page(results, page):
    return json.loads(results.read_text())["trials"]
