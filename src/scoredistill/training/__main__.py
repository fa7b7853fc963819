"""Command line: ``python -m scoredistill.priors.train STAGE... --preset cpu --data DIR --work DIR --out DIR``."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from transformers import CLIPModel, CLIPTokenizer

from scoredistill.datasets.emoji import Emoji, common_names, load_emoji
from scoredistill.training.autoencoder import train_autoencoder
from scoredistill.training.clip import text_encoder_of, train_clip
from scoredistill.training.editor import train_editor
from scoredistill.training.export import export_clip, export_pipeline
from scoredistill.training.loop import Plan
from scoredistill.training.presets import PRESETS, Preset
from scoredistill.training.unet import TextToImage, exported, train_unet

STAGES = ("data", "autoencoder", "clip", "unet", "editor", "export")


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m scoredistill.priors.train", description="Train the bundled prior.")
    parser.add_argument("stages", nargs="+", choices=(*STAGES, "all"), help="what to do, in order")
    parser.add_argument("--preset", choices=sorted(PRESETS), default="cpu")
    parser.add_argument("--data", type=Path, required=True, help="folder of the npm packages and the rasterized cache")
    parser.add_argument("--work", type=Path, required=True, help="folder of checkpoints and sample sheets")
    parser.add_argument("--out", type=Path, help="export: folder that receives emoji/, emoji-edit/ and clip/")
    parser.add_argument("--start", type=Path, help="begin with the networks exported to this folder, not at random")
    parser.add_argument("--minutes", type=float, help="training time of each stage, instead of the preset's")
    parser.add_argument("--parts", type=int, help="threads that share the images of a step, instead of the preset's")
    parser.add_argument("--threads", type=int, help="processor threads; default: torch's choice")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args(arguments)
    if options.out is None and {"export", "all"} & set(options.stages):
        parser.error("export needs --out")
    return options


class Training:
    """The stages over one data set; each continues from its checkpoint and does nothing if it is finished.

    A stage that needs an earlier network takes its last checkpoint, finished or not, or the one of `start`, a folder
    that `export` wrote.
    """

    def __init__(self, emoji: Emoji, preset: Preset, work: Path, device: str, start: Path | None = None) -> None:
        self.emoji, self.preset, self.work, self.device, self.start = emoji, preset, work, device, start

    def last(self, stage: str) -> Plan:
        """The plan that takes the stage's checkpoint as it is.

        Raises:
            SystemExit: the stage was never run.
        """
        if self.start is None and not (self.work / stage / "checkpoint.pt").exists():
            raise SystemExit(f"There is no {stage} in {self.work}: run the stage {stage} first.")
        return dataclasses.replace(getattr(self.preset, stage), minutes=0.0)

    def autoencoder(self, plan: Plan) -> AutoencoderKL:
        start = self.start and AutoencoderKL.from_pretrained(self.start / "emoji" / "vae", torch_dtype=torch.float32)
        return train_autoencoder(self.emoji, plan, self.work / "autoencoder", self.device, start)

    def clip(self, plan: Plan) -> tuple[CLIPModel, CLIPTokenizer]:
        start = None
        if self.start is not None:
            folder = self.start / "clip"
            start = CLIPModel.from_pretrained(folder, attn_implementation="eager", dtype=torch.float32), folder
        return train_clip(self.emoji, plan, self.work / "clip", self.device, start)

    def unet(self, plan: Plan) -> TextToImage:
        autoencoder = self.autoencoder(self.last("autoencoder"))
        clip, tokenizer = self.clip(self.last("clip"))
        often = common_names() if self.preset.common else {}
        emoji = self.emoji.only(often) if self.preset.common else self.emoji
        folder, variants, encoder = self.work / "unet", self.preset.variants, text_encoder_of(clip)
        start = None if self.start is None else exported(self.start / "emoji")
        return train_unet(emoji, autoencoder, encoder, tokenizer, plan, folder, variants, often, self.device, start)

    def editor(self, plan: Plan) -> TextToImage:
        autoencoder = self.autoencoder(self.last("autoencoder"))
        _, tokenizer = self.clip(self.last("clip"))
        known = None if self.start is None else self.start / "emoji-edit"
        start = exported(known) if known is not None and known.exists() else self.unet(self.last("unet"))
        return train_editor(
            self.emoji, autoencoder, tokenizer, plan, self.work / "editor", self.preset.pairs, start, self.device
        )

    def export(self, out: Path) -> None:
        """Write what has been trained so far; the editor only if it has been."""
        clip, tokenizer = self.clip(self.last("clip"))
        words = self.work / "clip" / "tokenizer"
        export_clip(out / "clip", clip, words)
        autoencoder = self.autoencoder(self.last("autoencoder"))
        export_pipeline(out / "emoji", self.unet(self.last("unet")), autoencoder, tokenizer, words)
        if (self.work / "editor" / "checkpoint.pt").exists():
            editor = self.editor(self.last("editor"))
            export_pipeline(out / "emoji-edit", editor, autoencoder, tokenizer, words, editor=True)


def adjusted(plan: Plan, options: argparse.Namespace) -> Plan:
    """The plan with what the command line says otherwise; a step has as many images as before."""
    if options.minutes is not None:
        plan = dataclasses.replace(plan, minutes=options.minutes)
    if options.parts is not None:
        plan = dataclasses.replace(plan, parts=options.parts, batch=plan.batch * plan.parts // options.parts)
    return plan


def main(arguments: list[str] | None = None) -> None:
    """Run the stages."""
    options = parse(arguments)
    if options.threads:
        torch.set_num_threads(options.threads)
    preset = PRESETS[options.preset]
    training = Training(load_emoji(options.data), preset, options.work, options.device, options.start)
    run: dict[str, Callable[[Plan], object]] = {stage: getattr(training, stage) for stage in STAGES[1:5]}
    for stage in STAGES if "all" in options.stages else options.stages:
        if stage == "export":
            training.export(options.out)
        elif stage != "data":
            run[stage](adjusted(getattr(preset, stage), options))


if __name__ == "__main__":
    main()
