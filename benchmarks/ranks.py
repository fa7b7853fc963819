"""One job on several processes: results on 1, 2 and 4 ranks, resuming on fewer, lost ranks, and throughput.

    python benchmarks/ranks.py --out docs/results/ranks.json

Every job runs by the launchers that users have, `torchrun` and `accelerate launch`, with gloo and one thread per
process, on the bundled models. Differences are the largest between a result and that of a single process, relative to
its largest value (or to 1).
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

from scoredistill import load_prior
from scoredistill.checkpoint import load_state
from scoredistill.ranks import Ranks, join, leave
from scoredistill.tasks import edit_image, edit_scene, edit_video, text_to_3d, text_to_image
from scoredistill.three_d.camera import around, orbit
from scoredistill.three_d.capture import Capture
from scoredistill.three_d.encodings import DenseGrid
from scoredistill.three_d.scenes.nerf import Field, NeRF

ROOT = Path(__file__).resolve().parents[1]
PROMPT, INSTRUCTION = "a hamburger", "make it night"
EDITOR = ("edit of an image, csd", "edit of a video, csd", "edit of a scene, csd")
RESUMED = ("images, csd, latents", "object, csd")
LONG = 400  # steps of a run whose ranks get a signal
STEPS = 6  # of a run that is resumed: the first two on 4 ranks, the next two on 2, the last two alone


def photograph(seed: int, height: int, width: int) -> Image.Image:
    """A smooth image."""
    rng = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 3, 4, 6, generator=rng)
    image = torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic").clamp(0, 1)[0]
    return Image.fromarray((image.permute(1, 2, 0) * 255).byte().numpy())


def images(
    prior: Any, method: str, image: str, callback: Callable[[Any], None] = lambda step: None, **settings: Any
) -> dict[str, Tensor]:
    kept: dict[str, Tensor] = {}

    def keep(step: Any) -> None:
        kept["images"] = step.images().contiguous()
        callback(step)

    text_to_image(PROMPT, prior, method, particles=4, image=image, callback=keep, **settings)
    return kept


def edited(editor: Any, **settings: Any) -> dict[str, Tensor]:
    source = photograph(0, 64, 128)
    return {"latents": edit_image(source, INSTRUCTION, editor, size=64, sweeps=2, particles=4, **settings).latents}


def video(editor: Any, **settings: Any) -> dict[str, Tensor]:
    frames = [photograph(seed, 64, 64) for seed in range(4)]
    made = edit_video(frames, INSTRUCTION, editor, size=64, sweeps=2, flow=0, **settings)
    levels = [torch.frombuffer(bytearray(frame.tobytes()), dtype=torch.uint8) for frame in made.frames]
    return {"frames": torch.stack(levels).float() / 255, "update": torch.tensor([made.update])}


def scene(editor: Any, **settings: Any) -> dict[str, Tensor]:
    cameras = around(torch.arange(4) * 90.0, torch.linspace(5, 40, 4), 3.0, 40.0, (64, 64))
    rng = torch.Generator().manual_seed(0)
    ball = NeRF(Field(DenseGrid((4,), 2, std=1.0, rng=rng), layers=0, blob=(40.0, 0.5), density=50.0, rng=rng), 24)
    with torch.no_grad():
        seen = ball.render(cameras).rgb.clamp(0, 1)
    capture = Capture(seen, cameras, tuple(f"{k}.png" for k in range(4)), ())
    quick = {"fit_steps": 8, "edit_steps": 8, "rays": 512, "samples": 16, "sweeps": 1, "rounds": 2}
    made = edit_scene(capture, INSTRUCTION, editor, **quick, **settings)
    with torch.no_grad():
        return {"views": made.edited, "renders": made.scene.render(cameras).rgb}


def thing(prior: Any, method: str, **settings: Any) -> dict[str, Tensor]:
    made = text_to_3d(PROMPT, prior, method, **{"views": 4, "size": 32, "follow": 1, **settings})
    with torch.no_grad():
        return {"renders": made.scene.render(orbit(4, 10.0, size=(32, 32))).rgb}


JOBS: dict[str, Callable[..., dict[str, Tensor]]] = {
    "images, msd, networks": lambda prior, **more: images(prior, "msd", "mlp", **{"steps": 1, "follow": 20, **more}),
    "images, csd, latents": lambda prior, **more: images(prior, "csd", "latents", **{"steps": STEPS, **more}),
    "images, ddim": lambda prior, **more: {
        "samples": text_to_image(PROMPT, prior, "ddim", particles=3, steps=4, **more).samples
    },
    "edit of an image, csd": edited,
    "edit of a video, csd": video,
    "edit of a scene, csd": scene,
    "object, csd": lambda prior, **more: thing(prior, "csd", **{"steps": STEPS, **more}),
    "object, msd": lambda prior, **more: thing(prior, "msd", **{"steps": 1, **more}),
}


class Ended(Exception):
    """Stands for the end of all processes after a step."""


def work(names: Sequence[str], folder: Path, out: Path | None, stop: int | None, resume: bool) -> None:
    """Run jobs, in the process group of the environment if there is one, and save their results on rank 0."""
    torch.set_num_threads(1)
    several = int(os.environ.get("WORLD_SIZE", "1")) > 1
    if several:
        join()
    priors: dict[str, Any] = {}
    for name in names:
        kind = "emoji-edit" if name in EDITOR else "emoji"
        prior = priors.setdefault(kind, load_prior(kind))
        more = {} if out is None else {"out": out / name.replace(", ", "-"), "resume": resume}
        if stop is not None:
            import scoredistill.tasks.run_directory as directory

            directory.CHECKPOINT_SECONDS = -1.0  # after every step

            def end(step: Any, *_: Any) -> None:
                if step.index == stop:
                    raise Ended

            more["callback"] = end
        start, used = time.perf_counter(), time.process_time()
        try:
            found = JOBS[name](prior, **more)
        except Ended:
            continue
        found["seconds"] = torch.tensor([time.perf_counter() - start])
        ranks, cpu = Ranks.here(), torch.tensor([time.process_time() - used])
        found["cpu"] = ranks.gather(cpu, ranks.share(ranks.size)).max()[None]
        if ranks.leads:
            save_file({key: value.contiguous() for key, value in found.items()}, folder / f"{name}.safetensors")
    if several:
        leave()


def launched(ranks: int, program: Sequence[str], launcher: str = "torchrun", **variables: str) -> subprocess.Popen[str]:
    """A program on a number of ranks; on one, without a launcher."""
    prefix = [sys.executable]
    if launcher == "accelerate":
        prefix += ["-m", "accelerate.commands.launch", "--multi_gpu", f"--num_processes={ranks}", "--num_machines=1"]
        prefix += ["--mixed_precision=no", "--dynamo_backend=no"]
    elif ranks > 1:
        prefix += [
            "-m",
            "torch.distributed.run",
            f"--nproc-per-node={ranks}",
            f"--master-port={29500 + os.getpid() % 999}",
        ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **variables}
    return subprocess.Popen(
        [*prefix, *program], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def jobs(
    ranks: int,
    names: Sequence[str],
    folder: Path,
    out: Path | None = None,
    stop: int | None = None,
    resume: bool = False,
) -> None:
    """Run jobs on a number of ranks.

    Raises:
        RuntimeError: with what they wrote, if they fail.
    """
    folder.mkdir(parents=True, exist_ok=True)
    program = [__file__, "--work", str(folder), "--names", *names]
    program += [] if out is None else ["--directory", str(out)]
    program += [] if stop is None else ["--stop", str(stop)]
    process = launched(ranks, [*program, *(["--resume"] if resume else [])])
    _, said = process.communicate()
    if process.returncode:
        raise RuntimeError(said[-3000:])


def differences(one: Path, other: Path) -> dict[str, float]:
    """Job -> the largest relative difference of its results in two directories."""
    found = {}
    for path in sorted(one.glob("*.safetensors")):
        a, b = load_file(path), load_file(other / path.name)
        pairs = [(a[key], b[key]) for key in a if key not in ("seconds", "cpu")]
        found[path.stem] = max(float((x - y).abs().max() / max(1.0, float(x.abs().max()))) for x, y in pairs)
    return found


def seconds(folder: Path, kind: str = "seconds") -> dict[str, float]:
    """Job -> wall time of its run, or with kind "cpu" the CPU time of the rank that took most."""
    return {path.stem: round(float(load_file(path)[kind]), 2) for path in sorted(folder.glob("*.safetensors"))}


def resumed(folder: Path) -> dict[str, float]:
    """Job -> difference between a run on 4, then 2, then 1 rank, and one on a single process."""
    jobs(1, RESUMED, folder / "whole")
    for ranks, stop, resume in ((4, STEPS // 3 - 1, False), (2, 2 * STEPS // 3 - 1, True), (1, None, True)):
        jobs(ranks, RESUMED, folder / "parts", folder / "runs", stop, resume)
    return differences(folder / "whole", folder / "parts")


COMMAND = ["-m", "scoredistill", "image", PROMPT, "--method", "csd", "--image", "latents", "--particles", "4"]


def of_rank(agent: int, rank: int) -> int:
    """The process of a rank, among those that a launcher started."""
    found = subprocess.run(["pgrep", "-P", str(agent)], capture_output=True, text=True).stdout.split()
    for each in found:
        if f"\0RANK={rank}\0".encode() in b"\0" + Path(f"/proc/{each}/environ").read_bytes():
            return int(each)
    raise RuntimeError(f"no process of rank {rank} runs")


def lost(folder: Path, number: int, rank: int, timeout: str) -> dict[str, Any]:
    """What is left of a command one of whose ranks gets a signal after the first checkpoint."""
    out = folder / f"signal-{number}-{rank}"
    steps = ["--steps", str(LONG), "--out", str(out), "--no-progress"]
    process = launched(2, [*COMMAND, *steps], SCOREDISTILL_TIMEOUT=timeout)
    while not (out / "checkpoint.safetensors").is_file():
        time.sleep(0.2)
        if process.poll() is not None:
            raise RuntimeError(process.communicate()[1][-3000:])
    victim = of_rank(process.pid, rank)
    start = time.perf_counter()
    os.kill(victim, number)
    _, said = process.communicate()
    ended = time.perf_counter() - start
    before = len((out / "metrics.jsonl").read_text().splitlines())
    next_step = load_state(out / "checkpoint.safetensors")["next"]
    return {
        "says": [line for line in said.splitlines() if line.startswith("scoredistill: ")],
        "exit code": process.returncode,
        "seconds until it ended": round(ended, 1),
        "steps before": before,
        "steps in the checkpoint": next_step,
    }


def by_accelerate(folder: Path) -> dict[str, Any]:
    """The command started by `accelerate launch`, and by itself."""
    rows = {}
    for launcher, ranks in (("accelerate", 2), ("none", 1)):
        out = folder / f"by-{launcher}"
        process = launched(ranks, [*COMMAND, "--steps", "4", "--out", str(out)], launcher)
        _, said = process.communicate()
        if process.returncode:
            raise RuntimeError(said[-3000:])
        rows[launcher] = [json.loads(line)["grad_norm"] for line in (out / "metrics.jsonl").read_text().splitlines()]
    pairs = zip(rows["accelerate"], rows["none"], strict=True)
    return {"difference of gradient norms": max(abs(a / b - 1) for a, b in pairs)}


def equal(folder: Path) -> dict[str, Any]:
    """Differences and times of all jobs on 1, 2 and 4 ranks."""
    for ranks in (1, 2, 4):
        jobs(ranks, list(JOBS), folder / str(ranks))
    return {
        "difference from one process": {str(n): differences(folder / "1", folder / str(n)) for n in (2, 4)},
        "seconds": {str(n): seconds(folder / str(n)) for n in (1, 2, 4)},
        "CPU seconds of a rank": {str(n): seconds(folder / str(n), "cpu") for n in (1, 2, 4)},
    }


STAGES: dict[str, Callable[[Path], dict[str, Any]]] = {
    "equal": equal,
    "resumed": lambda folder: {"resumed": resumed(folder)},
    "accelerate": lambda folder: {"accelerate": by_accelerate(folder)},
    "lost": lambda folder: {
        "lost": {
            "killed, rank 1": lost(folder, signal.SIGKILL, 1, "600"),
            "killed, rank 0": lost(folder, signal.SIGKILL, 0, "600"),
            "stopped, rank 1, with SCOREDISTILL_TIMEOUT=20": lost(folder, signal.SIGSTOP, 1, "20"),
        }
    },
}


def table(report: dict[str, Any]) -> str:
    """The results as a page."""
    equal, times, cpu = (report[name] for name in ("difference from one process", "seconds", "CPU seconds of a rank"))
    lines = [
        "# One job on several processes",
        "",
        f"`{report['command']}`, {report['date']}, commit {report['commit']}; {report['machine']}. What is divided and "
        "how to start it: [many machines](../many_machines.md).",
        "",
        "| job | difference on 2 ranks | on 4 | CPU time of a rank on 2 | on 4 | seconds on 1 | on 2 | times faster |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for name in equal["2"]:
        one, two = times["1"][name], times["2"][name]
        cells = [f"{equal[n][name]:.0e}" for n in ("2", "4")]
        cells += [f"{100 * cpu[n][name] / cpu['1'][name]:.0f} %" for n in ("2", "4")]
        cells += [f"{one:.1f}", f"{two:.1f}", f"{one / two:.2f}"]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    lines += [
        "",
        "Differences are the largest from a single process, relative to the largest value. Frames of videos are "
        "rounded to 8 bits: 4e-03 is one level. The CPU time is that of the rank that takes most, relative to a single "
        "process: 50 and 25 % where everything is divided and nothing exchanged. " + report["note"],
    ]
    if "resumed" in report:
        lines += ["", "| resumed on 4, then 2, then 1 rank | difference |", "|---|---:|"]
        lines += [f"| {name} | {value:.0e} |" for name, value in report["resumed"].items()]
    if "lost" in report:
        lines += ["", "| what happens to a rank | the command says | ends after | steps before | in the checkpoint |"]
        lines += ["|---|---|---:|---:|---:|"]
        for what, found in report["lost"].items():
            counts = f"{found['steps before']} | {found['steps in the checkpoint']}"
            lines.append(f"| {what} | {' '.join(found['says'])} | {found['seconds until it ended']} s | {counts} |")
    if "accelerate" in report:
        apart = report["accelerate"]["difference of gradient norms"]
        lines += ["", f"Started by `accelerate launch`, norms of gradients differ by {apart:.0e}."]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "docs/results/ranks.json")
    for name in ("--work", "--directory"):
        parser.add_argument(name, type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--stages", nargs="*", choices=tuple(STAGES), default=tuple(STAGES), help="all by default")
    parser.add_argument("--names", nargs="*", default=[], help=argparse.SUPPRESS)
    parser.add_argument("--stop", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--resume", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.work is not None:
        work(asked.names, asked.work, asked.directory, asked.stop, asked.resume)
        return
    report = json.loads(asked.out.read_text()) if asked.out.is_file() else {}
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, cwd=ROOT)
    report |= {
        "command": "python benchmarks/ranks.py",
        "commit": commit.stdout.strip(),
        "date": str(date.today()),
        "machine": "two hyperthreads of one core, gloo, one thread per process",
        "note": "Wall times say little here: two hyperthreads of one core do little more than one thread, and "
        "other programs ran, of whose time more processes win more.",
    }
    for name in asked.stages:
        with tempfile.TemporaryDirectory() as scratch:
            report |= STAGES[name](Path(scratch))
        asked.out.write_text(json.dumps(report, indent=2) + "\n")
        print(name, "is done", flush=True)
    asked.out.with_suffix(".md").write_text(table(report))
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
