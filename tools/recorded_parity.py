"""The parity table of recorded priors, over tiny random pipelines of many classes of diffusers.

    python tools/recorded_parity.py --out docs/results/recorded_parity.json

For each pipeline: the largest relative error of the recorded predictions, at the steps of the pipeline's own sampler,
with a prompt that was not learned from, against what the pipeline gave its scheduler; the same against the adapter
written by hand, at other times and samples, where there is one; the rows that the network evaluates for a guided
prediction of two samples, against twice two; the seconds to make the prior and to record a prompt, against those of a
step of the bare pipeline. For what is refused, the reason.
"""

import argparse
import json
import logging
import subprocess
import sys
import time
from datetime import date
from pathlib import Path

import diffusers
import torch
import transformers

from scoredistill import load_prior
from scoredistill.priors import Guided
from scoredistill.priors.base import Editor
from scoredistill.priors.pipelines.load import KINDS as ADAPTERS
from scoredistill.priors.pipelines.recorded import recorded

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

import tiny_modular  # noqa: E402
import tiny_recorded  # noqa: E402
import tiny_videos  # noqa: E402

PROMPT, OTHER = "an owl in the snow", "a boat"
STEPS = 6
MODULAR = {f"{name}, modular": kind for name, kind in tiny_modular.KINDS.items()}
KINDS = tiny_recorded.KINDS | tiny_videos.KINDS | MODULAR
EXPLANATION = """\
- *error*: largest relative error of the prediction, at the steps of the pipeline's own sampler, for a prompt that was
  not learned from, against what the pipeline gave its scheduler.
- *adapter*: the same of the noise, and of the unconditional noise, at other times and samples, against the adapter.
- *rows*: that the network evaluates for a guided prediction of two samples; an adapter evaluates 4. In brackets, the
  calls, if several: of rows whose arguments differ in shape.
- *load*, *record*: time to make the prior, and to record a prompt, in steps of the bare pipeline.
"""


def relative(ours, theirs):
    return float((ours - theirs).norm() / theirs.norm())


def timed(call):
    start = time.perf_counter()
    value = call()
    return value, time.perf_counter() - start


def measure(kind):
    """The figures of one pipeline.

    Raises:
        Exception: the reason why it is refused.
    """
    pipeline, given = made(kind)
    prior, loading = timed(lambda: recorded(pipeline, call=given))
    prompts = ["3", "4"] if prior.calls.classes else [PROMPT, OTHER]
    cond = prior.encode_text(prompts)
    if prior.needs_source or issubclass(ADAPTERS.get(class_of(kind), object), Editor):
        cond |= prior.encode_source(torch.rand(2, 3, *prior._side()))
    requests = prior._requested(cond, 2)
    shape = prior._at(torch.Size(prior.latent_shape), requests[0].source)
    call = {**prior.calls.of(requests[0]), **shape.size, "num_inference_steps": STEPS}
    steps, running = timed(lambda: prior.recorder.run(call, STEPS))
    times, error = [prior.clock.level(step, index) for index, step in enumerate(steps)], 0.0
    for step, t in zip(steps, times, strict=True):
        x = prior.clock.standard(shape.arranged(step.sample, 1), t)
        with torch.no_grad():
            ours = prior._outputs(prior.network, x, t, requests[:1])
        error = max(error, relative(ours, shape.arranged(step.model_output, 1)))
    _, recording = timed(lambda: prior._record(shape, requests[1]))
    rows, calls = guided_rows(prior, cond)
    figures = {
        "shape": list(prior.latent_shape), "error": error, "adapter": None, "rows": rows, "calls": calls,
        "seconds": {"load": loading, "record": recording, "step": running / STEPS},
    }  # fmt: skip
    if class_of(kind) in ADAPTERS:
        figures["adapter"] = against_adapter(prior, pipeline, cond, prompts)
    return figures


def made(kind):
    """The pipeline of a kind, and the arguments of a small call."""
    if isinstance(kind, tiny_modular.Modular):
        return tiny_modular.make(kind)
    return tiny_recorded.make(kind), kind.call


def class_of(kind):
    """The name of the class of a pipeline, or of the blocks of a modular one."""
    return kind.blocks if isinstance(kind, tiny_modular.Modular) else kind.pipeline


def guided_rows(prior, cond):
    """Rows and calls of the network for a guided prediction of two samples, which was recorded before."""
    x, t = torch.randn(2, *prior.latent_shape), torch.full((2,), 0.4)
    guided, seen = Guided(prior, 3.0), []
    guided.eps(x, t, cond)
    networks = getattr(prior.network, "networks", [prior.network])
    path = next(iter(prior._at(torch.Size(x.shape[1:]), prior._requested(cond, 2)[0].source).template.sample))
    one = next(iter(prior._shapes.values())).recordings

    def count(_network, args, kwargs):
        value = kwargs[path[0]]
        seen.append(len(value))

    per_row = len(next(iter(one.values())).arguments[path[0]])
    hooks = [network.register_forward_pre_hook(count, with_kwargs=True) for network in networks]
    guided.eps(x, t, cond)
    for hook in hooks:
        hook.remove()
    return sum(seen) // max(1, per_row), len(seen)


def against_adapter(prior, pipeline, cond, prompts):
    """The largest relative error of the noise and of its unconditional part against the adapter's."""
    adapter = load_prior(pipeline)
    theirs = adapter.encode_text(prompts)
    if isinstance(adapter, Editor):
        sources = torch.cat([prior.calls.sources[number] for number in cond["image"].tolist()])
        theirs |= adapter.encode_source(sources)
    x, t = torch.randn(2, *prior.latent_shape), torch.tensor([0.31, 0.72])
    pairs = [(cond, theirs), (prior.null(cond), adapter.null(theirs))]
    return max(relative(prior.eps(x, t, ours), adapter.eps(x, t, their)) for ours, their in pairs)


def table(record):
    """The record as Markdown."""
    versions = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
    kinds, refused = record["kinds"], record["refused"]
    exact = sum(each["error"] < 1e-4 for each in kinds.values())
    classes = len({class_of(KINDS[name]) for name, each in kinds.items() if each["error"] < 1e-4})
    head = f"`{record['command']}`, {record['date']}, commit {record['commit']}, {versions}; tiny random networks."
    lines = [
        f"{head}\n",
        f"{exact} of {len(kinds) + len(refused)} pipelines, of {classes} classes, have a relative error below 1e-4.\n",
        EXPLANATION,
        "| pipeline | class | sample | error | adapter | rows | load | record |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, each in kinds.items():
        step = each["seconds"]["step"]
        cells = [
            name,
            f"`{class_of(KINDS[name])}`",
            "x".join(map(str, each["shape"])),
            f"{each['error']:.1e}",
            "" if each["adapter"] is None else f"{each['adapter']:.1e}",
            f"{each['rows']}" + (f" ({each['calls']})" if each["calls"] > 1 else ""),
            f"{each['seconds']['load'] / step:.0f}",
            f"{each['seconds']['record'] / step:.1f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", "## Refused", "", "| pipeline | class | reason |", "|---|---|---|"]
    lines += [f"| {name} | `{class_of(KINDS[name])}` | {reason} |" for name, reason in refused.items()]
    return "\n".join(["# Recorded priors against the pipelines", "", *lines, ""])


def main():
    """Measure, write JSON and Markdown beside each other."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "results" / "recorded_parity.json")
    parser.add_argument("kinds", nargs="*", help="pipelines to measure again; all by default")
    args = parser.parse_args()
    torch.set_num_threads(1)
    logging.disable(logging.WARNING)
    before = json.loads(args.out.read_text()) if args.kinds else {"kinds": {}, "refused": {}}
    measured, refused = before["kinds"], before["refused"]
    for name, kind in KINDS.items():
        if args.kinds and name not in args.kinds:
            continue
        measured.pop(name, None), refused.pop(name, None)
        try:
            measured[name] = measure(kind)
            print(f"{measured[name]['error']:.1e}  {name} {measured[name]}", flush=True)
        except Exception as error:
            refused[name] = str(error).strip().splitlines()[0]
            print(f"refused  {name}: {refused[name]}", flush=True)
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout
    record = {
        "command": "python tools/recorded_parity.py", "date": str(date.today()), "commit": commit.strip(),
        "versions": {each.__name__: each.__version__ for each in (torch, diffusers, transformers)},
        "kinds": {name: measured[name] for name in KINDS if name in measured}, "refused": refused,
    }  # fmt: skip
    args.out.write_text(json.dumps(record, indent=1) + "\n")
    args.out.with_suffix(".md").write_text(table(record))


if __name__ == "__main__":
    main()
