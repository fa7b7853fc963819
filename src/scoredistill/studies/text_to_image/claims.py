"""Published numbers for text-to-image with Stable Diffusion, and the claims of the study.

The numbers are those of Score Distillation via Mean Shift (2025), https://arxiv.org/abs/2502.15989, Table 3. Their FID
is in the features of Inception, ours in those of CLIP, so only the order can be compared. A claim holds or fails by the
means alone; the standard deviations stand beside them.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain, pairwise
from typing import Any

from scoredistill.studies.harness.claims import FAILS, HOLDS, MISSING, Claim
from scoredistill.studies.harness.statistics import digits

# method -> {"fid", "clip_sim"}; DDIM samples are the ground truth, so they have no FID
TABLE3: Mapping[str, Mapping[str, float]] = {
    "ddim": {"clip_sim": 44.1},
    "sds": {"fid": 198.90, "clip_sim": 27.7},
    "sdi": {"fid": 166.16, "clip_sim": 31.0},
    "msd": {"fid": 114.12, "clip_sim": 32.6},
}
FASTER = {"mlp": 3, "latents": 8}  # kind of image -> by which factor mean shift is claimed to need less NFE than SDS
SEVERAL = 4  # images of a prompt from which on recall is meaningful
PRICE = 0.05  # loss of precision that collaboration may cost
OVER_SETS = ("fid", "fid_efficientnet", "fid_inception", "clip_sim")  # one value per set

Block = Mapping[str, Any]
Decision = tuple[str, bool | None]  # our numbers as text, and whether the claim holds
Decide = Callable[[Block, Sequence[str]], Decision]


def claims(results: Mapping[str, Any]) -> list[Claim]:
    """What is claimed, our numbers, and the verdict, for each block that has at least two of the claim's methods."""
    blocks = results.get("blocks", {})
    network = {name: b for name, b in blocks.items() if not b["setting"]["ideal"]}
    equal = {name: b for name, b in blocks.items() if b["setting"]["rows"] is not None}
    own = {name: b for name, b in blocks.items() if name not in equal}
    kinds = {image: {n: b for n, b in own.items() if b["setting"]["image"] == image} for image in FASTER}
    several = {name: b for name, b in blocks.items() if b["setting"]["images"] >= SEVERAL}
    falling = ("sds", "sdi", "msd")
    faster = {
        image: f"msd on {image} reaches SDS's final FID in 1/{factor} of its NFE" for image, factor in FASTER.items()
    }
    varied = f"collaborative has at least twice the recall of msd_mean and at most {PRICE:g} less precision"
    return [
        *_in_blocks("FID: sds > sdi > msd", network, falling, _falls("fid")),
        *_in_blocks("CLIP-SIM: msd > sdi > sds", network, falling[::-1], _falls("clip_sim")),
        *_in_blocks("FID at equal NFE: msd < msd_paper", equal, ("msd_paper", "msd"), _falls("fid")),
        *chain.from_iterable(_in_blocks(faster[image], b, ("msd", "sds"), _sooner) for image, b in kinds.items()),
        *_in_blocks(varied, several, ("collaborative", "msd_mean"), _more_varied),
    ]


def plus_minus(found: Mapping[str, Any], name: str) -> str:
    """Mean and standard deviation of a metric with three digits; the mean alone where there is one set of images."""
    mean, std = found[name]["mean"], found[name]["std"]
    if name in OVER_SETS and found["images"] < 2:
        return digits(mean)
    return f"{digits(mean, max(abs(mean), std))} ± {digits(std, max(abs(mean), std))}"


def _in_blocks(claim: str, blocks: Mapping[str, Block], methods: Sequence[str], decide: Decide) -> Iterable[Claim]:
    """The verdict on a claim in each block, or that it was not measured."""
    relevant = {name: b for name, b in blocks.items() if sum(method in b["methods"] for method in methods) > 1}
    if not relevant:
        yield {"claim": claim, "ours": MISSING, "verdict": MISSING}
    for name, block in relevant.items():
        missing = [method for method in methods if method not in block["methods"]]
        ours, holds = (f"no {', '.join(missing)}", None) if missing else decide(block, methods)
        yield {"claim": f"{claim} ({name})", "ours": ours, "verdict": {True: HOLDS, False: FAILS, None: MISSING}[holds]}


def _falls(metric: str) -> Decide:
    """Decides whether a metric falls from each method to the next."""

    def decide(block: Block, methods: Sequence[str]) -> Decision:
        found = [block["methods"][method] for method in methods]
        pairs = list(pairwise(found))
        ours = ", ".join(f"{m} {plus_minus(f, metric)}" for m, f in zip(methods, found, strict=True))
        names = [f"{a} and {b}" for a, b in pairwise(methods)]
        close = [name for name, pair in zip(names, pairs, strict=True) if _overlap(*pair, metric)]
        remark = f" (standard deviations of {', '.join(close)} overlap)" if close else ""
        return ours + remark, all(a[metric]["mean"] > b[metric]["mean"] for a, b in pairs)

    return decide


def _overlap(a: Mapping[str, Any], b: Mapping[str, Any], metric: str) -> bool:
    """Whether two means differ by no more than the sum of their standard deviations; not known of one set."""
    reach = a[metric]["std"] + b[metric]["std"]
    return min(a["images"], b["images"]) > 1 and abs(a[metric]["mean"] - b[metric]["mean"]) <= reach


def _sooner(block: Block, methods: Sequence[str]) -> Decision:
    """Decides whether msd reaches SDS's final FID after a small enough fraction of SDS's NFE."""
    msd, sds = (block["methods"][method] for method in methods)
    reached = block.get("rows_to_sds", {})
    if "msd" not in reached:
        return "no curve of msd", None
    fids = f"; final FID sds {plus_minus(sds, 'fid')}, msd {plus_minus(msd, 'fid')}"
    if reached["msd"] is None:
        return f"never, with {sds['nfe']:.0f} NFE of sds{fids}", False
    ours = f"{reached['msd']:.0f} of {sds['nfe']:.0f} NFE ({reached['msd'] / sds['nfe']:.3f}){fids}"
    return ours, reached["msd"] * FASTER[block["setting"]["image"]] <= sds["nfe"]


def _more_varied(block: Block, methods: Sequence[str]) -> Decision:
    """Decides whether the first method's recall is at least twice the second's, for little loss of precision."""
    found = [block["methods"][method] for method in methods]
    (recall, other), (precision, before) = ([f[name]["mean"] for f in found] for name in ("recall", "precision"))
    named = list(zip(methods, found, strict=True))
    ours = [f"{name} {m} {plus_minus(f, name)}" for name in ("recall", "precision") for m, f in named]
    return ", ".join(ours), recall > 0 and recall >= 2 * other and precision >= before - PRICE - 1e-9
