"""The command `edit`."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import OmitArgPrefixes, Positional, arg

from scoredistill.cli.live_view import Watch
from scoredistill.cli.options import CommandRun, LiveView, cost, ending, given, values
from scoredistill.media.video.reading import is_video
from scoredistill.recipe import named
from scoredistill.tasks.image_editing.request import CanvasOptions, EditOptions
from scoredistill.tasks.output_paths import reserved
from scoredistill.tasks.scene_editing.request import RoundOptions, SceneOptions
from scoredistill.tasks.texturing.request import MeshOptions
from scoredistill.tasks.video_editing.request import VideoFile, VideoOptions
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
    live: OmitArgPrefixes[LiveView],
    scene: OmitArgPrefixes[SceneOptions],
    mesh: OmitArgPrefixes[MeshOptions],
    run: OmitArgPrefixes[CommandRun],
) -> None:
    """Edit an image of any size, a 360-degree panorama, a video, a 3-D scene or a mesh consistently by an instruction.

    Args:
        edit: What to edit, and how; "auto" is the default of the method or of the prior. The bundled editor knows "make
            it night | sunset | snowy | sepia | black and white | red ...", "turn it into a pencil sketch", "invert the
            colors" and the like; it changes the appearance, not the content.
        canvas: Options of images and videos.
        video: Options of videos.
        live: Live view of scenes and meshes in a browser.
        scene: Options of scenes; views, use, rounds, edit_steps and rays also of meshes.
        mesh: Options of meshes.
        run: How the run is carried out.
    """
    edit = replace(edit, method=named(edit.method))
    scene_given = is_capture(edit.source)
    if scene_given:
        edit = replace(edit, source=capture_folder(edit.source))
    if edit.source.suffix.lower() == ".svg":
        _edit_drawing(edit, canvas, video, live, scene, mesh, run)
        return
    about = f"{edit.source.stem} {edit.instruction or ' '.join(canvas.regions)}"
    mesh_given = not scene_given and is_mesh(edit.source)
    video_given = not scene_given and not mesh_given and is_video(edit.source)
    shared = RoundOptions(**{field.name: getattr(scene, field.name) for field in fields(RoundOptions)})
    options: tuple[Any, ...] = (canvas, video) if video_given else (canvas,)
    if scene_given or mesh_given:
        options = (scene,) if scene_given else (shared, mesh)
    asked = {name: value for name, value in values(edit, *options).items() if name not in ("source", "file")}
    with reserved(run.out, about, "edit", resume=run.resume, request=asked) as out:
        if scene_given:
            _refuse("a scene", canvas, video, mesh)
            _edit_scene(edit, live, scene, run, out)
        elif mesh_given:
            _refuse("a mesh", canvas, video, scene, but=[field.name for field in fields(shared)])
            _edit_mesh(edit, live, shared, mesh, run, out)
        elif video_given:
            _refuse("a video", live, scene, mesh)
            _edit_video(edit, canvas, video, run, out)
        else:
            _refuse("an image", video, live, scene, mesh)
            _edit_image(edit, canvas, run, out)


def _edit_drawing(
    edit: EditCommand,
    canvas: CanvasOptions,
    video: VideoCommand,
    live: LiveView,
    scene: SceneOptions,
    mesh: MeshOptions,
    run: CommandRun,
) -> None:
    from scoredistill.tasks import edit_svg

    _refuse("an SVG file", canvas, video, live, scene, mesh)
    about = f"{edit.source.stem} {edit.instruction}"
    asked = {name: value for name, value in values(edit).items() if name != "source"}
    with reserved(run.out, about, "edit", resume=run.resume, request=asked) as out:
        made = edit_svg(edit.source, **{**asked, **values(run), "out": out})
        ending(f"{len(made.drawing.paths)} paths, {cost(made.counts, made.seconds)}", out, made.verdict)


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
        raise ValueError(f"{kind} has no {', '.join(names)}: leave out {'it' if len(names) == 1 else 'them'}")


def _edit_image(edit: EditCommand, canvas: CanvasOptions, run: CommandRun, out: Path) -> None:
    from scoredistill.tasks import edit_image

    asked = values(edit, canvas, run)
    made = edit_image(asked.pop("source"), **{**asked, "out": out})
    what = f"{made.image.width}x{made.image.height} pixels"
    ending(f"{what}, {cost(made.counts, made.seconds)}", out, made.verdict)


def _edit_video(edit: EditCommand, canvas: CanvasOptions, video: VideoCommand, run: CommandRun, out: Path) -> None:
    from scoredistill.tasks import edit_video

    asked = values(edit, canvas, video, run)
    made = edit_video(asked.pop("source"), **{**asked, "out": out})
    ending(f"{len(made.source)} frames, {cost(made.counts, made.seconds)}", out, made.verdict)


def _edit_scene(edit: EditCommand, live: LiveView, scene: SceneOptions, run: CommandRun, out: Path) -> None:
    from scoredistill.tasks import edit_scene

    asked = values(edit, scene, run)
    with Watch(live.page, edit.instruction) as watch:
        made = edit_scene(asked.pop("source"), **{**asked, "out": out, "callback": watch})
        height, width = made.capture.cameras.size
        what = f"{len(made.views)} views of {width}x{height} pixels"
        ending(f"{what}, {cost(made.counts, made.seconds)}", out, made.verdict)
        watch.stay(made.scene)


def _edit_mesh(
    edit: EditCommand, live: LiveView, rounds: RoundOptions, mesh: MeshOptions, run: CommandRun, out: Path
) -> None:
    from scoredistill.tasks import edit_mesh

    asked = values(edit, rounds, mesh, run)
    with Watch(live.port if live.view else None, edit.instruction) as watch:
        made = edit_mesh(asked.pop("source"), **{**asked, "out": out, "callback": watch})
        ending(f"{len(made.views)} views, {cost(made.counts, made.seconds)}", out, made.verdict)
        watch.stay(made.scene)
