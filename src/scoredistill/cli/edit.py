"""The command `edit`."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import OmitArgPrefixes, Positional, arg

from scoredistill.cli.live_view import Watch
from scoredistill.cli.options import CommandPlan, CommandRun, LiveView, cost, ending, given, values
from scoredistill.cli.plan import EDIT_FILES, planned
from scoredistill.cli.runs import Job, carried_out, variants
from scoredistill.media.video.reading import is_video
from scoredistill.recipe import named
from scoredistill.tasks.image_editing.request import CanvasOptions, EditOptions, EditRequest
from scoredistill.tasks.mesh_editing.request import MeshEditRequest
from scoredistill.tasks.presets import at_preset
from scoredistill.tasks.scene_editing.request import RoundOptions, SceneOptions, SceneRequest
from scoredistill.tasks.texturing.request import MeshOptions
from scoredistill.tasks.vector_graphics.request import VectorEditRequest
from scoredistill.tasks.video_editing.request import VideoFile, VideoOptions, VideoRequest
from scoredistill.three_d.capture import capture_folder, is_capture
from scoredistill.three_d.mesh import is_mesh

FLAGS = {"regions": "region"}  # flags that are not called as their fields


@dataclass(frozen=True, kw_only=True)
class EditCommand(EditOptions):
    """The request as the command line takes it, for any kind of source.

    Attributes:
        source: An image, an SVG file, a video (.mp4, .gif, ...), a directory with the frames of one, the directory of a
            scene (photographs with transforms.json or a COLMAP model), or a mesh (.glb, .gltf, .obj, .ply, .stl, .off).
        instruction: What to change, for example "make it night"; may be empty if there are regions.
        method: csd (collaborative), csd_affine (for instructions with many answers), csd_full, csd_paper, uncoupled,
            common_noise, random_noise, crops, windows (MultiDiffusion; for new random-phase texture, which the methods
            before cannot make) or per_frame; for scenes and meshes csd, uncoupled, common_noise, random_noise or
            one_view. Or a method of your own as FILE.py:NAME.
        prior: emoji-edit (bundled), or a directory or hub name of an instruction editor.
    """

    source: Positional[Path]
    instruction: Positional[str] = ""
    method: str = "csd"
    prior: str = "emoji-edit"


@dataclass(frozen=True, kw_only=True)
class CanvasCommand(CanvasOptions):
    """Options of images and videos."""

    regions: Annotated[tuple[str, ...], arg(name=FLAGS["regions"])] = ()


@dataclass(frozen=True, kw_only=True)
class VideoCommand(VideoOptions, VideoFile):
    """Options of videos."""


def edit(
    edit: OmitArgPrefixes[EditCommand],
    canvas: OmitArgPrefixes[CanvasCommand],
    video: OmitArgPrefixes[VideoCommand],
    plan: OmitArgPrefixes[CommandPlan],
    live: OmitArgPrefixes[LiveView],
    scene: OmitArgPrefixes[SceneOptions],
    mesh: OmitArgPrefixes[MeshOptions],
    run: OmitArgPrefixes[CommandRun],
) -> dict[str, Any]:
    """Edit an image of any size, a 360-degree panorama, a video, a 3-D scene or a mesh consistently by an instruction.

    Args:
        edit: What to edit, and how; "auto" is the default of the method or of the prior. The bundled editor knows "make
            it night | sunset | snowy | sepia | black and white | red ...", "turn it into a pencil sketch", "invert the
            colors" and the like; it changes the appearance, not the content.
        canvas: Options of images and videos.
        video: Options of videos.
        plan: Which runs are made.
        live: Live view of scenes and meshes in a browser.
        scene: Options of scenes; views, use, rounds, edit_steps and rays also of meshes.
        mesh: Options of meshes.
        run: How the run is carried out.
    """
    edit = replace(edit, method=named(edit.method))
    if is_capture(edit.source):
        kind, edit = "scene", replace(edit, source=capture_folder(edit.source))
    elif edit.source.suffix.lower() == ".svg":
        kind = "drawing"
    else:
        kind = "mesh" if is_mesh(edit.source) else "video" if is_video(edit.source) else "image"
    shared = RoundOptions(**{field.name: getattr(scene, field.name) for field in fields(RoundOptions)})
    every: dict[str, tuple[Any, ...]] = {
        "scene": (scene,), "video": (canvas, video), "image": (canvas,), "mesh": (shared, mesh), "drawing": (),
    }  # fmt: skip
    options = every[kind]
    seen = (live,) if kind in ("scene", "mesh") else ()
    foreign = [each for each in (canvas, video, live, scene, mesh) if not any(each is own for own in (*options, *seen))]
    names = {"image": "an image", "drawing": "an SVG file"}
    _refuse(
        names.get(kind, f"a {kind}"), *foreign, but=[field.name for field in fields(shared)] if kind == "mesh" else ()
    )
    asked = [_at_preset(each, plan.preset, kind, *options) for each in variants(edit, "instruction", plan)]
    jobs = [_job(each, canvas.regions, *options) for each in asked]
    if plan.dry_run:
        _check_source(edit.source)
        return planned([replace(job, request=_request(job.request, kind, *options)) for job in jobs], run, EDIT_FILES)
    if live.view and len(jobs) > 1:
        raise ValueError("--view shows one scene: leave it out, or give one instruction and one seed")

    def make(request: EditCommand, run: CommandRun, out: Path) -> dict[str, Any]:
        if kind == "scene":
            return _edit_scene(request, live, scene, run, out)
        if kind == "mesh":
            return _edit_mesh(request, live, shared, mesh, run, out)
        if kind == "drawing":
            return _edit_drawing(request, run, out)
        if kind == "video":
            return _edit_video(request, canvas, video, run, out)
        return _edit_image(request, canvas, run, out)

    return carried_out(jobs, run, make)


def _job(edit: EditCommand, regions: tuple[str, ...], *options: Any) -> Job:
    """The run of an instruction."""
    asked = {name: value for name, value in values(edit, *options).items() if name not in ("source", "file")}
    return Job(edit, f"{edit.source.stem} {edit.instruction or ' '.join(regions)}", "edit", options=asked)


def _request(edit: EditCommand, kind: str, *options: Any) -> Any:
    """The request of the task of a kind of source."""
    kinds = {"scene": SceneRequest, "mesh": MeshEditRequest, "video": VideoRequest, "drawing": VectorEditRequest}
    made = kinds.get(kind, EditRequest)
    known = {field.name for field in fields(made)}
    return made(**{name: value for name, value in values(edit, *options).items() if name in known})


def _at_preset(edit: EditCommand, preset: str, kind: str, *options: Any) -> EditCommand:
    """The edit with the number of sweeps of a preset."""
    if preset == CommandPlan.preset:
        return edit
    return replace(edit, sweeps=at_preset(_request(edit, kind, *options), preset, "sweeps").sweeps)


def _check_source(source: Path) -> None:
    """Refuse a source that does not exist.

    Raises:
        ValueError: in one sentence.
    """
    if not source.exists():
        raise ValueError(f"there is no file {source}: check its name and folder")


def _edit_drawing(edit: EditCommand, run: CommandRun, out: Path) -> dict[str, Any]:
    from scoredistill.tasks import edit_svg

    asked = values(edit, run)
    made = edit_svg(asked.pop("source"), **{**asked, "out": out})
    what = f"{len(made.drawing.paths)} paths, {cost(made.counts, made.seconds)}"
    return ending(what, out, made.verdict, sorted(out.glob("edited*.svg")))


def _refuse(kind: str, *foreign: Any, but: Sequence[str] = ()) -> None:
    """Refuse options of other kinds of source.

    Args:
        kind: of the source, for the message.
        *foreign: dataclasses of the options.
        but: names of options that the source has.

    Raises:
        ValueError: naming them.
    """
    found = [name for name in given(foreign) if name not in but]
    if names := [f"--{FLAGS.get(name, name).replace('_', '-')}" for name in found]:
        raise ValueError(
            f"{kind} has no {', '.join(names)}: leave out {'that option' if len(names) == 1 else 'those options'}"
        )


def _edit_image(edit: EditCommand, canvas: CanvasOptions, run: CommandRun, out: Path) -> dict[str, Any]:
    from scoredistill.tasks import edit_image

    asked = values(edit, canvas, run)
    made = edit_image(asked.pop("source"), **{**asked, "out": out})
    what = f"{made.image.width}x{made.image.height} pixels"
    results = [*sorted(out.glob("edited.[!p]*")), out / "edited.png"]
    return ending(f"{what}, {cost(made.counts, made.seconds)}", out, made.verdict, results)


def _edit_video(
    edit: EditCommand, canvas: CanvasOptions, video: VideoCommand, run: CommandRun, out: Path
) -> dict[str, Any]:
    from scoredistill.tasks import edit_video

    asked = values(edit, canvas, video, run)
    made = edit_video(asked.pop("source"), **{**asked, "out": out})
    results = [] if made.path is None else [made.path]
    return ending(f"{len(made.source)} frames, {cost(made.counts, made.seconds)}", out, made.verdict, results)


def _edit_scene(edit: EditCommand, live: LiveView, scene: SceneOptions, run: CommandRun, out: Path) -> dict[str, Any]:
    from scoredistill.tasks import edit_scene

    asked = values(edit, scene, run)
    with Watch(live.page, edit.instruction) as watch:
        made = edit_scene(asked.pop("source"), **{**asked, "out": out, "callback": watch})
        height, width = made.capture.cameras.size
        what = f"{len(made.views)} views of {width}x{height} pixels"
        answer = ending(f"{what}, {cost(made.counts, made.seconds)}", out, made.verdict)
        watch.stay(made.scene)
        return answer


def _edit_mesh(
    edit: EditCommand, live: LiveView, rounds: RoundOptions, mesh: MeshOptions, run: CommandRun, out: Path
) -> dict[str, Any]:
    from scoredistill.tasks import edit_mesh

    asked = values(edit, rounds, mesh, run)
    with Watch(live.port if live.view else None, edit.instruction) as watch:
        made = edit_mesh(asked.pop("source"), **{**asked, "out": out, "callback": watch})
        answer = ending(f"{len(made.views)} views, {cost(made.counts, made.seconds)}", out, made.verdict)
        watch.stay(made.scene)
        return answer
