"""Command line of training: `python -m scoredistill.training STAGE... --preset cpu --data DIR --work DIR --out DIR`."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from transformers import CLIPModel, CLIPTokenizer

from scoredistill.datasets.emoji import Emoji, common_names, load_emoji
from scoredistill.optional import MissingExtra
from scoredistill.training import vocabulary
from scoredistill.training.autoencoder import train_autoencoder
from scoredistill.training.clip import text_encoder_of, train_clip
from scoredistill.training.editor import train_editor
from scoredistill.training.export import export_autoencoder, export_clip, export_pipeline
from scoredistill.training.loop import CHECKPOINT, Plan
from scoredistill.training.presets import PRESETS, Preset
from scoredistill.training.unet import Latents, TextToImage, encode, exported, train_unet

PARTS = {"autoencoder": "emoji/vae", "clip": "clip", "unet": "emoji/unet", "editor": "emoji-edit/unet"}
"""Stage -> its network in an exported folder."""
STAGES = ("data", "autoencoder", "clip", "unet", "editor", "export")


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m scoredistill.training", description="Train the bundled networks on emoji."
    )
    add = parser.add_argument
    add("stages", nargs="+", choices=(*STAGES, "all"), help="stages to run, in this order")
    add("--preset", choices=sorted(PRESETS), default="cpu", help="training plans (default: cpu)")
    add("--data", type=Path, required=True, help="folder of the npm packages and the rasterized emoji")
    add("--work", type=Path, required=True, help="folder of checkpoints and sample grids")
    add("--out", type=Path, help="export: folder for emoji/, emoji-edit/ and clip/")
    add("--start", type=Path, help="folder of exported networks to start from (default: random weights)")
    add("--minutes", type=float, help="training time per stage in minutes (default: that of the preset)")
    add("--cpu-minutes", type=float, help="training time per stage in CPU minutes of all threads, instead of minutes")
    add("--rate", type=float, default=1.0, help="factor of the learning rates, below 1 for --start (default: 1)")
    add("--parts", type=int, help="threads among which the images of a step are divided (default: that of the preset)")
    add("--threads", type=int, help="CPU threads (default: chosen by torch)")
    add("--decoder-only", action="store_true", help="autoencoder: keep the encoder, and with it all latents")
    add("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="torch device (default: cuda or cpu)")
    options = parser.parse_args(arguments)
    if options.out is None and {"export", "all"} & set(options.stages):
        parser.error("the stage export needs --out: name the folder to export to")
    if options.decoder_only and options.start is None:
        parser.error("--decoder-only keeps a trained encoder: name its folder by --start")
    return options


class Training:
    """The training stages on one data set. Each stage resumes from its checkpoint and does nothing if it is complete.

    A stage that needs an earlier network takes its last checkpoint, complete or not, or that of `start`.

    Args:
        emoji: the data set.
        preset: plans of all stages.
        work: folder of checkpoints, one subfolder per stage.
        device: to train on.
        start: a folder written by `export`, from whose networks training starts. Optimizers and averages begin anew,
            with a warm-up. It may lack networks; those are trained from random weights, as all are by default.
        decoder_only: train the decoder of the autoencoder only, so that the latents of other networks stay valid.

    Raises:
        SystemExit: if `start` has no network, or an autoencoder of images of another size.
    """

    def __init__(
        self,
        emoji: Emoji,
        preset: Preset,
        work: Path,
        device: str,
        start: Path | None = None,
        decoder_only: bool = False,
    ) -> None:
        self.decoder_only = decoder_only
        self.emoji, self.preset, self.work, self.device, self.start = emoji, preset, work, device, start
        if start is not None and not any(self.known(part) for part in PARTS.values()):
            raise SystemExit(f"{start} has none of the networks {', '.join(PARTS.values())}: name a folder of `export`")
        if (vae := self.known(PARTS["autoencoder"])) is not None:
            side, wanted = AutoencoderKL.load_config(vae)["sample_size"], emoji.rgba.shape[1]
            if side != wanted:
                raise SystemExit(
                    f"the autoencoder of {start} is of images of {side} pixels, and the preset trains on {wanted}: "
                    "start from other networks, or without --start"
                )

    def known(self, part: str) -> Path | None:
        """The folder of a network of `start`, if it has it."""
        return self.start / part if self.start is not None and (self.start / part).is_dir() else None

    def trained(self, stage: str) -> bool:
        """Whether there is a network of a stage."""
        return self.known(PARTS[stage]) is not None or (self.work / stage / CHECKPOINT).exists()

    def last(self, stage: str) -> Plan:
        """A plan of no further training, which loads the checkpoint of a stage.

        Raises:
            SystemExit: if the stage has no checkpoint.
        """
        if not self.trained(stage):
            raise SystemExit(f"there is no checkpoint of the stage {stage} in {self.work}: run that stage first")
        return dataclasses.replace(getattr(self.preset, stage), minutes=0.0)

    def autoencoder(self, plan: Plan) -> AutoencoderKL:
        """Train the autoencoder."""
        known = self.known(PARTS["autoencoder"])
        start = known and AutoencoderKL.from_pretrained(known, torch_dtype=torch.float32)
        folder, preset = self.work / "autoencoder", self.preset
        return train_autoencoder(
            self.emoji, plan, folder, self.device, start, preset.weights, self.decoder_only, preset.crop
        )

    def clip(self, plan: Plan) -> tuple[CLIPModel, CLIPTokenizer]:
        """Train the CLIP and its tokenizer."""
        start, folder = None, self.known(PARTS["clip"])
        if folder is not None:
            start = CLIPModel.from_pretrained(folder, attn_implementation="eager", dtype=torch.float32), folder
        return train_clip(self.emoji, plan, self.work / "clip", self.device, start)

    def unet(self, plan: Plan) -> TextToImage:
        """Train the text-to-image model."""
        autoencoder = self.autoencoder(self.last("autoencoder"))
        clip, tokenizer = self.clip(self.last("clip"))
        often = common_names() if self.preset.common else None
        emoji = self.emoji.only(often) if often else self.emoji
        folder, encoder, recipe = self.work / "unet", text_encoder_of(clip), self.preset.recipe
        known = self.known(PARTS["unet"])
        start = None if known is None else exported(known.parent)

        def data() -> Latents:
            return encode(
                emoji, autoencoder, self.preset.images, self.device, often=often, aligned=recipe.alignment > 0
            )

        return train_unet(emoji, autoencoder, encoder, tokenizer, plan, folder, data, self.device, start, recipe)

    def editor(self, plan: Plan) -> TextToImage:
        """Train the instruction editor."""
        autoencoder = self.autoencoder(self.last("autoencoder"))
        _, tokenizer = self.clip(self.last("clip"))
        known = self.known(PARTS["editor"])
        start = self.unet(self.last("unet")) if known is None else exported(known.parent)
        return train_editor(
            self.emoji, autoencoder, tokenizer, plan, self.work / "editor", self.preset.pairs, start, self.device,
            self.preset.recipe.objective,
        )  # fmt: skip

    def export(self, out: Path) -> None:
        """Export the networks that have been trained, or that training started from, to a folder."""
        autoencoder = self.autoencoder(self.last("autoencoder"))
        if not self.trained("clip"):
            return export_autoencoder(out / "emoji" / "vae", autoencoder)
        clip, tokenizer = self.clip(self.last("clip"))
        words = self.work / "clip" / "tokenizer"
        export_clip(out / "clip", clip, words)
        if not self.trained("unet"):
            return export_autoencoder(out / "emoji" / "vae", autoencoder)
        trained, objective = self.unet(self.last("unet")), self.preset.recipe.objective
        export_pipeline(out / "emoji", trained, autoencoder, tokenizer, words, objective=objective)
        vocabulary.of_captions(self.emoji, common_names() if self.preset.common else None).write(out / "emoji")
        vocabulary.measure(out / "emoji", out / "clip")
        if (self.work / "editor" / CHECKPOINT).exists():
            editor = self.editor(self.last("editor"))
            export_pipeline(out / "emoji-edit", editor, autoencoder, tokenizer, words, True, objective)
            vocabulary.of_instructions(self.emoji).write(out / "emoji-edit")


def adjusted(plan: Plan, options: argparse.Namespace) -> Plan:
    """The plan with the overrides of the command line; `--parts` keeps the number of images per step."""
    if options.minutes is not None:
        plan = dataclasses.replace(plan, minutes=options.minutes)
    elif options.cpu_minutes is not None:
        plan = dataclasses.replace(plan, minutes=None, cpu_minutes=options.cpu_minutes)
    plan = dataclasses.replace(plan, lr=options.rate * plan.lr)
    if options.parts is not None:
        plan = dataclasses.replace(plan, parts=options.parts, batch=plan.batch * plan.parts // options.parts)
    return plan


def main(arguments: list[str] | None = None) -> None:
    """Run the stages named on the command line.

    Raises:
        SystemExit: if an optional package or an earlier stage is missing, the arguments are invalid, or a checkpoint
            does not fit them.
    """
    options = parse(arguments)
    if options.threads:
        torch.set_num_threads(options.threads)
    try:
        _run(options)
    except (MissingExtra, ValueError) as error:
        raise SystemExit(str(error)) from error


def _run(options: argparse.Namespace) -> None:
    preset = PRESETS[options.preset]
    training = Training(
        load_emoji(options.data, preset.size), preset, options.work, options.device, options.start, options.decoder_only
    )
    run: dict[str, Callable[[Plan], object]] = {stage: getattr(training, stage) for stage in STAGES[1:5]}
    for stage in STAGES if "all" in options.stages else options.stages:
        if stage == "export":
            training.export(options.out)
        elif stage != "data":
            run[stage](adjusted(getattr(preset, stage), options))
