"""Textures of five meshes by three prompts each, and edits of a textured mesh against edits of its views alone.

    python benchmarks/textures.py textures --out runs/textures
    python benchmarks/textures.py edits --out runs/textures
    python benchmarks/textures.py page --out runs/textures --results docs/results/textures

`textures` runs `texture_mesh` with its defaults on a ball, a torus, a box with round edges, and the duck and the bunny
of pybullet's data; `edits` runs `edit_mesh` on the duck. What is finished is kept and not repeated. `page` writes the
figure and the table of what is finished. Views of the edits are compared where they show the same texels.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from scoredistill.datasets.procedural_edits import EDITS, unit_of
from scoredistill.files import write_json
from scoredistill.media.images import grid, to_pil
from scoredistill.optional import package_folder, require
from scoredistill.priors.pipelines import load_prior
from scoredistill.tasks import edit_mesh, texture_mesh
from scoredistill.tasks.image_editing.run import edited
from scoredistill.tasks.mesh_editing.edit_mesh import seen_from_all_sides
from scoredistill.tasks.mesh_editing.request import MeshEditRequest
from scoredistill.tasks.object_generation.output import evaluated
from scoredistill.tasks.object_generation.run import FOV, RADIUS
from scoredistill.tasks.scene_editing.run import prepared
from scoredistill.tasks.texturing.output import quality, with_filled
from scoredistill.three_d.camera import orbit
from scoredistill.three_d.mesh import read_mesh
from scoredistill.three_d.scenes.textured import Textured

PROMPTS = {
    "ball": ("a basketball", "a tangerine", "a jack-o-lantern"),
    "torus": ("a doughnut", "a cookie", "a ring"),
    "box": ("a wrapped gift", "bread", "a television"),
    "duck": ("a duck", "a baby chick", "a penguin"),
    "bunny": ("a rabbit face", "a teddy bear", "a panda"),
}
VIEWS = 4  # of each mesh in the figure
SIDE = 56  # pixels of each of them
INSTRUCTIONS = {"night": "make it night", "snowy": "make it snowy", "sepia": "make it sepia"}
PER_VIEW = ("per_frame", "uncoupled")  # methods that edit each view by itself


def mesh(name: str, out: Path) -> Path:
    """The file of a mesh; those made by code are written into a directory."""
    if name in ("duck", "bunny"):
        return package_folder("pybullet_data", "scenes", "the meshes") / f"{name}.obj"
    trimesh = require("trimesh", "nerf", "the meshes")
    path = out / "meshes" / f"{name}.glb"
    path.parent.mkdir(parents=True, exist_ok=True)
    if name == "box":  # the points at distance 0.2 of a cube
        made = trimesh.creation.icosphere(3)
        made.vertices = 0.2 * made.vertices + 0.8 * np.sign(made.vertices) * (np.abs(made.vertices) > 1e-9)
    else:
        made = trimesh.creation.icosphere(3) if name == "ball" else trimesh.creation.torus(0.62, 0.36)
    made.export(path)
    return path


def textures(out: Path, method: str) -> None:
    """Texture all meshes, the first prompts of all of them first."""
    prior = load_prior("emoji")
    for index in range(3):
        for name, prompts in PROMPTS.items():
            folder = out / f"{name}-{index}-{method}"
            if (folder / "row.json").is_file():
                continue
            start = time.process_time()
            made = texture_mesh(mesh(name, out), prompts[index], prior, method)
            shown = with_filled(made.scene)
            folder.mkdir(parents=True, exist_ok=True)
            cameras = orbit(VIEWS, 10.0, RADIUS, FOV, (2 * SIDE, 2 * SIDE), start=20.0)
            with torch.no_grad():
                views = shown.render(cameras).rgb.clamp(0, 1)
            grid(to_pil(views), columns=VIEWS, pad=0).save(folder / "views.png")
            made.write(folder / "mesh.glb")
            row = {
                "mesh": name, "prompt": prompts[index], "method": method, "faces": len(made.source.model.mesh.faces),
                "uv": "kept" if made.source.kept else "new", **evaluated(made.images, prompts[index], "emoji"),
                **quality(made.scene), "nfe": made.counts["rows"], "wall_s": round(made.seconds, 1),
                "cpu_s": round(time.process_time() - start, 1),
            }  # fmt: skip
            write_json(folder / "row.json", row)
            print(json.dumps(row), flush=True)


def edits(out: Path) -> None:
    """Edit the duck, and its views by themselves."""
    prior = load_prior("emoji-edit")
    source = read_mesh(mesh("duck", out), 256)
    for name, instruction in INSTRUCTIONS.items():
        path = out / f"edit-{name}" / "row.json"
        if path.is_file():
            continue
        start = time.process_time()
        made = edit_mesh(source, instruction, prior)
        seconds = time.process_time() - start
        before, world = seen_from_all_sides(source, MeshEditRequest(instruction).complete())
        truth = EDITS[name](world.images, unit_of(64))
        assert isinstance(made.scene, Textured)
        with torch.no_grad():
            after = with_filled(made.scene).render(world.cameras).rgb.clamp(0, 1)
        sets = {"mesh": after, "views of the mesh, before the last fit": made.edited.cpu(), "source": world.images}
        for method in PER_VIEW:
            editing, _ = prepared(world, made.request, before, prior, prior)
            every = torch.arange(len(world))
            sweeps = 20 if method == "per_frame" else made.request.sweeps
            one = editing._edit(every, method, sweeps, None, None, 7)
            sets[method] = editing.canvas.some(every).decode(edited(one)).cpu()
        inside = world.mask
        row = {
            "instruction": instruction, "cpu_s": round(seconds, 1), "nfe": made.counts["rows"], **quality(made.scene),
            "inconsistency": {each: round(spread(before, world.cameras, images), 4) for each, images in sets.items()},
            "psnr_to_truth": {each: round(masked_psnr(images, truth, inside), 2) for each, images in sets.items()},
        }  # fmt: skip
        path.parent.mkdir(parents=True, exist_ok=True)
        some = [0, 7, 15, 20]
        shown = torch.cat([images[some] for each, images in sets.items() if not each.startswith("views")])
        grid(to_pil(shown), columns=4, pad=0).save(path.with_name("views.png"))
        write_json(path, row)
        print(json.dumps(row), flush=True)


def masked_psnr(images: Tensor, truth: Tensor, inside: Tensor) -> float:
    """PSNR in dB inside the mesh."""
    error = ((images - truth).square() * inside).sum() / (3 * inside.sum())
    return float(-10 * error.log10())


@torch.no_grad()
def spread(scene: Textured, cameras, images: Tensor) -> float:
    """Standard deviation of the colors that views give to the same texel, a root mean square over the texels.

    A view counts for a texel that it sees at a cosine above 0.5, and texels that two views or more see count.
    """
    total, squares, count = (torch.zeros(len(scene.atlas.face), k) for k in (3, 3, 1))
    fine = cameras.resized((128, 128))
    for k in range(len(cameras)):
        scene.seen.zero_()
        scene._note(fine[k], scene._fragments(fine[k]))
        point = scene.atlas.point
        away = torch.nn.functional.normalize(cameras.eyes[k] - point, dim=-1)
        facing = (away * scene.facing[scene.atlas.face]).sum(-1).abs() > 0.5
        seen = (scene.seen & facing).float()[:, None]
        place = cameras[k].project(point)[0][0] / torch.tensor([cameras.size[1], cameras.size[0]]) * 2 - 1
        color = torch.nn.functional.grid_sample(images[k : k + 1], place[None, None], align_corners=False)[0, :, 0].T
        total, squares, count = total + seen * color, squares + seen * color.square(), count + seen
    several = count[:, 0] > 1
    mean = total[several] / count[several]
    variance = (squares[several] - count[several] * mean.square()) / (count[several] - 1)
    return float(variance.clamp(min=0).mean().sqrt())


def opened(path: Path) -> Image.Image:
    """A PNG file as an RGB image."""
    with Image.open(path, formats=("PNG",)) as image:
        return image.convert("RGB")


def page(out: Path, results: Path) -> None:
    """Write the figures and the rows of what is finished."""
    results.mkdir(parents=True, exist_ok=True)
    rows = [json.loads(path.read_text()) for path in sorted(out.glob("*-*/row.json"))]
    made = [row for row in rows if "mesh" in row]
    for method in sorted({row["method"] for row in made}):
        images, names = [], []
        for name, prompts in PROMPTS.items():
            for index, prompt in enumerate(prompts):
                path = out / f"{name}-{index}-{method}" / "views.png"
                if path.is_file():
                    images.append(opened(path).resize((VIEWS * SIDE, SIDE), Image.Resampling.LANCZOS))
                    names.append(prompt)
        sheet = grid(images, columns=3, labels=names)
        sheet.quantize(192, dither=Image.Dither.NONE).save(results / f"{method}.png", optimize=True)
    for path in sorted(out.glob("edit-*/views.png")):
        opened(path).quantize(128).save(results / f"{path.parent.name}.png", optimize=True)
    write_json(results / "results.json", {"rows": rows})
    for row in rows:
        print(json.dumps(row))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("textures", "edits", "page"))
    parser.add_argument("--out", type=Path, required=True, help="directory of finished runs")
    parser.add_argument("--results", type=Path, default=Path("docs/results/textures"), help="directory of the page")
    parser.add_argument("--method", default="sds", help="method of textures")
    given = parser.parse_args()
    if given.what == "textures":
        textures(given.out, given.method)
    elif given.what == "edits":
        edits(given.out)
    else:
        page(given.out, given.results)


if __name__ == "__main__":
    main()
