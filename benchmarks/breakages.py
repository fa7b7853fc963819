"""Does each oracle bite? Break one formula at a time in a copy of the tree, run its tests, and expect them to fail.

    python benchmarks/breakages.py --out docs/results/breakages.json

Each breakage is (file, what stands there, what is put in its place, the test file that must notice).
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from datetime import date
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BREAKAGES = [
    ("schedule.py", "return log_alpha.exp(), ", "return (1.001 * log_alpha).exp(), ", "test_schedule.py"),
    ("schedule.py", "torch.lerp(table[below], table[below + 1], position - below)", "table[below]", "test_schedule.py"),
    ("schedule.py", "r / (1 + r))", "r / (1 + 1.01 * r))", "test_schedule.py"),
    ("priors/base.py", "alpha * x_t - sigma * out) / norm", "alpha * x_t + sigma * out) / norm", "test_priors.py"),
    ("priors/mixture.py", "variance = alpha**2 * self.spread", "variance = alpha * self.spread", "test_priors.py"),
    ("priors/mixture.py", "+ variance.log().sum(-1)", "", "test_priors.py"),
    ("priors/empirical.py", "- 0.5 * alpha**2 * self._norms", "- 0.5 * alpha * self._norms", "test_priors.py"),
    ("priors/guidance.py", "* (with_cond - without)", "* (with_cond - without) * 1.001", "test_priors.py"),
    ("priors/guidance.py", "torch.cat([x_t, x_t])", "torch.cat([x_t, x_t + 1e-3])", "test_pipelines.py"),
    ("priors/pipelines.py", "step = torch.where(", "step = 1 + torch.where(", "test_pipelines.py"),
    ("priors/pipelines.py", "encoded.latent_dist.mode()", "encoded.latent_dist.sample()", "test_pipelines.py"),
    ("sampling.py", "x = alpha_next * x0 + sigma_next * noise", "x = alpha_next * x0 + sigma * noise", "test_sampling.py"),
    ("sampling.py", "variance = (eta * sigma_next) ** 2 *", "variance = eta * sigma_next**2 *", "test_pipelines.py"),
    ("sampling.py", "v_next * (v - v_next) / v).sqrt()", "v - v_next).sqrt()", "test_sampling.py"),
    ("estimators/residual.py", "prior.eps(x_t, t, batch.cond) - noise", "prior.eps(x_t, t, batch.cond) + noise", "test_estimators.py"),
    ("estimators/residual.py", "weight_at(self.weight", 'weight_at("uniform"', "test_estimators.py"),
    ("estimators/mean_shift.py", "Estimate(x - y,", "Estimate(0.999 * (x - y),", "test_estimators.py"),
    ("estimators/mean_shift.py", "torch.cat([noise, -noise], 1)", "torch.cat([noise, noise], 1)", "test_estimators.py"),
    ("estimators/stein.py", "total - self._gamma * away", "total + self._gamma * away", "test_estimators.py"),
    ("estimators/stein.py", "kernel @ estimate.grad", "kernel.T @ estimate.grad", "test_estimators.py"),
    ("estimators/stein.py", "kernel.sum(1) if", "kernel.sum(0) if", "test_estimators.py"),
    ("kernels.py", ".clamp(min=FLOOR)", "", "test_estimators.py"),
    ("kernels.py", "(2 * self._width(squared) ** 2)", "(self._width(squared) ** 2)", "test_estimators.py"),
    ("kernels.py", "math.log(n + 1)", "math.log(n + 2)", "test_estimators.py"),
    ("kernels.py", "(flat[i] - flat)", "(flat - flat[i])", "test_estimators.py"),
    ("priors/base.py", "(x_t - sigma * out) / total", "(x_t + sigma * out) / total", "test_priors.py"),
    ("priors/guidance.py", "torch.where(inside, scale, 1.0)", "torch.where(inside, scale, 0.0)", "test_priors.py"),
    ("sampling.py", "(s * v / (s + v)).sqrt()", "s * v / (s + v)", "test_estimators.py"),
    ("estimators/mean_shift.py", "- self.beta * away", "+ self.beta * away", "test_estimators.py"),
    ("generators/base.py", "encode_image(self.generator(views))", "encode_image(self.generator(views).detach())", "test_loop.py"),
    ("estimators/decoded.py", "grad=batch.x - after", "grad=z.mean() + batch.x - after", "test_loop.py"),
    ("loop.py", "grad = x.detach() - target", "grad = estimate.grad", "test_loop.py"),
    ("loop.py", "g.set_state(saved)", "pass", "test_loop.py"),
    ("loop.py", "x.backward(grad)", "x.backward(-grad)", "test_loop.py"),
    ("clock.py", "(1 - fraction) * math.log(self.start)", "fraction * math.log(self.start)", "test_loop.py"),
]  # fmt: skip


def fails(tree: Path, test: str) -> tuple[bool, str]:
    """Whether the test file fails in the copied tree, and the first test that does."""
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", str(tree / "tests" / test)],
        capture_output=True, text=True, cwd=tree, env={**os.environ, "PYTHONPATH": str(tree / "src")},
    )  # fmt: skip
    failed = [line.split(" ")[1].split("/")[-1] for line in run.stdout.splitlines() if line.startswith("FAILED")]
    return run.returncode == 1, failed[0] if failed else ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "docs/results/breakages.json")
    out = parser.parse_args().out
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder)
        for part in ("src", "tests"):
            shutil.copytree(ROOT / part, tree / part, ignore=shutil.ignore_patterns("*.safetensors", "__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", tree)
        for name, right, _, _ in BREAKAGES:
            if (count := (tree / "src/scoredistill" / name).read_text().count(right)) != 1:
                raise SystemExit(f"{name}: {right!r} stands there {count} times, not once")
        for name, right, wrong, test in BREAKAGES:
            path = tree / "src/scoredistill" / name
            source = path.read_text()
            path.write_text(source.replace(right, wrong))
            caught, by = fails(tree, test)
            path.write_text(source)
            rows.append({"file": name, "right": right, "broken": wrong, "caught": caught, "by": by})
            print(f"{'caught' if caught else 'MISSED'}  {name}: {right}  ->  {wrong}  ({by})", flush=True)
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, cwd=ROOT
    ).stdout.strip()
    command = "python benchmarks/breakages.py"
    report = {"command": command, "commit": commit, "date": str(date.today()), "breakages": rows}
    out.write_text(json.dumps(report, indent=2) + "\n")
    if not all(row["caught"] for row in rows):
        raise SystemExit("some breakages were not noticed")


if __name__ == "__main__":
    main()
