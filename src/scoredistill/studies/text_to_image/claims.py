"""What the mean-shift paper prints for Stable Diffusion (https://arxiv.org/abs/2502.15989, Table 3), and all claims.

Its FID is in Inception's features, ours in the judge's, so only the order can be compared. A claim holds or not by the
means alone; the standard deviations stand beside them.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain, pairwise
from typing import Any

from scoredistill.studies.harness.statistics import digits

# method -> {"fid", "clip_sim"}; DDIM samples are the truth, so they have no FID
TABLE3: Mapping[str, Mapping[str, float]] = {
    "ddim": {"clip_sim": 44.1},
    "sds": {"fid": 198.90, "clip_sim": 27.7},
    "sdi": {"fid": 166.16, "clip_sim": 31.0},
    "msd": {"fid": 114.12, "clip_sim": 32.6},
}
FASTER = {"mlp": 3, "latents": 8}  # kind of image -> how many times fewer rows than SDS mean shift is said to need
SEVERAL = 4  # images of a prompt from which on recall means something
PRICE = 0.05  # precision that collaboration may cost
OVER_SETS = (
    "fid",
    "fid_efficientnet",
    "fid_inception",
    "kid",
    "clip_sim",
)  # one value per set; of one set there is no deviation

Block = Mapping[str, Any]
Verdict = tuple[str, bool | None]


def claims(results: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What is claimed, and whether our numbers agree.

    Returns:
        {"claim", "ours" (numbers as text), "holds"} per claim and block that has at least two of its methods; "holds"
        is None where something was not measured.
    """
    blocks = results.get("blocks", {})
    network = {name: b for name, b in blocks.items() if not b["setting"]["ideal"]}
    equal = {name: b for name, b in blocks.items() if b["setting"]["rows"] is not None}
    own = {name: b for name, b in blocks.items() if name not in equal}
    kinds = {image: {n: b for n, b in own.items() if b["setting"]["image"] == image} for image in FASTER}
    several = {name: b for name, b in blocks.items() if b["setting"]["images"] >= SEVERAL}
    falling, few = ("sds", "sdi", "msd"), f"precision within {PRICE:g} below"
    return [
        *_asked("FID: sds > sdi > msd", network, falling, _order("fid")),
        *_asked("CLIP-SIM: msd > sdi > sds", network, falling[::-1], _order("clip_sim")),
        *_asked("FID at equal rows: msd < msd_paper", equal, ("msd_paper", "msd"), _order("fid")),
        *chain.from_iterable(
            _asked(
                f"msd on {image} reaches SDS's final FID in 1/{FASTER[image]} of its rows", b, ("msd", "sds"), _sooner
            )
            for image, b in kinds.items()
        ),
        *_asked(
            f"collaborative has at least twice the recall of msd_mean, {few}",
            several,
            ("collaborative", "msd_mean"),
            _spread_out,
        ),
    ]


def plus_minus(found: Mapping[str, Any], name: str) -> str:
    """Mean and standard deviation of a figure as text, with three digits; a mean alone where there is one set."""
    mean, std = found[name]["mean"], found[name]["std"]
    if name in OVER_SETS and found["images"] < 2:
        return digits(mean)
    return f"{digits(mean, max(abs(mean), std))} ± {digits(std, max(abs(mean), std))}"


def _asked(
    claim: str, blocks: Mapping[str, Block], methods: Sequence[str], judge: Callable[[Block, Sequence[str]], Verdict]
) -> Iterable[dict[str, Any]]:
    """A claim's verdict in each block, or that there is none."""
    asked = {name: b for name, b in blocks.items() if sum(method in b["methods"] for method in methods) > 1}
    if not asked:
        yield {"claim": claim, "ours": "not measured", "holds": None}
    for name, block in asked.items():
        missing = [method for method in methods if method not in block["methods"]]
        ours, holds = (f"no {', '.join(missing)}", None) if missing else judge(block, methods)
        yield {"claim": f"{claim} ({name})", "ours": ours, "holds": holds}


def _order(figure: str) -> Callable[[Block, Sequence[str]], Verdict]:
    """Judges whether a figure falls from each method to the next."""

    def judge(block: Block, methods: Sequence[str]) -> Verdict:
        found = [block["methods"][method] for method in methods]
        pairs = list(pairwise(found))
        ours = ", ".join(f"{m} {plus_minus(f, figure)}" for m, f in zip(methods, found, strict=True))
        names = [f"{a} and {b}" for a, b in pairwise(methods)]
        close = [name for name, pair in zip(names, pairs, strict=True) if _overlap(*pair, figure)]
        remark = f" (bars of {', '.join(close)} overlap)" if close else ""
        return ours + remark, all(a[figure]["mean"] > b[figure]["mean"] for a, b in pairs)

    return judge


def _overlap(a: Mapping[str, Any], b: Mapping[str, Any], figure: str) -> bool:
    """Whether two figures are no further apart than their standard deviations together; not known of one set."""
    reach = a[figure]["std"] + b[figure]["std"]
    return min(a["images"], b["images"]) > 1 and abs(a[figure]["mean"] - b[figure]["mean"]) <= reach


def _sooner(block: Block, methods: Sequence[str]) -> Verdict:
    """Whether msd is at SDS's final FID after a small enough part of SDS's rows."""
    msd, sds = (block["methods"][method] for method in methods)
    reached = block.get("rows_to_sds", {})
    if "msd" not in reached:
        return "no curve of msd", None
    fids = f"; final FID sds {plus_minus(sds, 'fid')}, msd {plus_minus(msd, 'fid')}"
    if reached["msd"] is None:
        return f"never, of {sds['nfe']:.0f} rows of sds{fids}", False
    ours = f"{reached['msd']:.0f} of {sds['nfe']:.0f} rows ({reached['msd'] / sds['nfe']:.3f}){fids}"
    return ours, reached["msd"] * FASTER[block["setting"]["image"]] <= sds["nfe"]


def _spread_out(block: Block, methods: Sequence[str]) -> Verdict:
    """Whether the first method's recall is at least twice the second's, for little precision."""
    found = [block["methods"][method] for method in methods]
    (recall, other), (precision, before) = ([f[name]["mean"] for f in found] for name in ("recall", "precision"))
    named = list(zip(methods, found, strict=True))
    ours = [f"{name} {m} {plus_minus(f, name)}" for name in ("recall", "precision") for m, f in named]
    return ", ".join(ours), recall > 0 and recall >= 2 * other and precision >= before - PRICE - 1e-9
