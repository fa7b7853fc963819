"""Training of the bundled networks on a few synthetic emoji: tokens, batches, every stage, export."""

import itertools
from dataclasses import replace
from functools import cache, partial

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from scoredistill.datasets import photographs
from scoredistill.datasets.emoji import Emoji, common_names
from scoredistill.datasets.procedural_edits import EDITS
from scoredistill.priors.pipelines.noise_levels import is_flow
from scoredistill.training import autoencoder, captions, clip, compose, editor, perceptual, unet, vocabulary
from scoredistill.training.command import Training, adjusted, parse
from scoredistill.training.loop import Plan, Run
from scoredistill.training.objective import Objective
from scoredistill.training.presets import CPU
from scoredistill.training.tokenizer import MAX_LENGTH, train_tokenizer

NAMES = ("red disc", "green disc", "blue disc", "red bar", "green bar", "blue bar", "white bar", "black disc")
PHOTOS = np.full((4, 64, 64, 3), 128, np.uint8)
COLORS = {
    "red": (230, 40, 40),
    "green": (40, 190, 60),
    "blue": (40, 60, 220),
    "white": (250, 250, 250),
    "black": (9, 9, 9),
}


def shape(name: str, size: int) -> np.ndarray:
    """A disc or a bar of one color on a transparent background, uint8 [64, 64, 4]."""
    y, x = np.mgrid[:64, :64] - 31.5
    color, kind = name.split()
    inside = x**2 + y**2 < size**2 if kind == "disc" else (abs(x) < size / 3) & (abs(y) < size)
    return np.dstack([np.full((64, 64, 3), COLORS[color], np.uint8), 255 * inside.astype(np.uint8)])


@pytest.fixture(scope="module")
def emoji() -> Emoji:
    """Eight concepts in four styles, which differ in size."""
    pairs = [(concept, style) for style in range(4) for concept in range(len(NAMES))]
    rgba = np.stack([shape(NAMES[concept], 16 + 4 * style) for concept, style in pairs])
    concept, style = np.array(pairs).T
    return Emoji(rgba, concept, style, NAMES, (("round",),) * len(NAMES), ("tiny", "small", "large", "huge"))


@pytest.fixture(scope="module")
def tokenizer(emoji, tmp_path_factory):
    return train_tokenizer(clip.all_captions(emoji, 100), tmp_path_factory.mktemp("tokenizer"), merges=60)


# --- tokens and batches ---


def test_every_caption_fits_the_text_encoder(emoji, tokenizer):
    ids = clip.tokens(tokenizer, clip.all_captions(emoji, 100))
    assert ids.shape[1] <= MAX_LENGTH
    assert (ids[:, 0] == tokenizer.bos_token_id).all()
    assert (ids == tokenizer.eos_token_id).any(dim=1).all()


def test_unknown_letters_are_spelt_in_bytes(tokenizer):
    text = "zebra für 7"
    assert tokenizer.unk_token_id not in tokenizer(text, add_special_tokens=False).input_ids
    assert tokenizer.decode(tokenizer(text).input_ids, skip_special_tokens=True) == text


def test_the_common_concepts_include_the_prompts_of_the_sample_grid():
    assert {prompt.split(" ", 1)[1] for prompt in unet.PROMPTS} <= set(common_names())


def test_images_stay_in_range_and_follow_the_generator(emoji):
    photos = np.zeros((4, 64, 64, 3), np.uint8)
    first, second, other = (
        autoencoder.images(emoji, photos, 8, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)
    )
    assert first.shape == (8, 3, 64, 64)
    assert 0 <= first.min() < first.max() <= 1
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


def test_scaled_latents_have_standard_deviation_one():
    network = autoencoder.build(64, (8, 16, 16))
    images = torch.rand(8, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    factor = autoencoder.set_scaling_factor(network, images)
    assert network.config.scaling_factor == factor
    with torch.no_grad():
        assert float(factor * network.encode(2 * images - 1).latent_dist.mode().std()) == pytest.approx(1, abs=1e-4)


def test_crops_are_parts_of_their_images_anywhere():
    image = torch.arange(16.0).expand(500, 1, 16, 16) + 100 * torch.arange(16.0)[:, None]
    image = (image + 10_000 * torch.arange(500.0)[:, None, None, None]).expand(-1, 3, -1, -1)
    crops = autoencoder.cropped(image, 5, torch.Generator().manual_seed(0))
    corner = crops[:, :1, :1, :1] - 10_000 * torch.arange(500.0)[:, None, None, None]
    assert torch.equal(crops - crops[:, :1, :1, :1], (image[:, :, :5, :5] - image[:, :1, :1, :1]))
    assert set((corner % 100).flatten().tolist()) == set((corner // 100).flatten().tolist()) == set(range(12))


def test_pairs_of_the_same_concept_are_no_negatives():
    features = torch.eye(3)
    same = clip.contrastive_loss(features, features[[0, 0, 2]], torch.tensor(5.0), torch.tensor([7, 7, 1]))
    different = clip.contrastive_loss(features, features[[0, 0, 2]], torch.tensor(5.0), torch.tensor([7, 8, 1]))
    perfect = clip.contrastive_loss(features, features, torch.tensor(50.0), torch.tensor([0, 1, 2]))
    assert same < different
    assert perfect < 1e-6


def test_augmented_batches_match_images_captions_concepts_and_edits(emoji):
    images, texts, kinds, concepts = clip.batch(emoji, PHOTOS, 64, torch.Generator().manual_seed(0))
    assert images.shape == (64, 3, 64, 64)
    assert 0 <= images.min() < images.max() <= 1
    assert len(texts) == len(kinds) == 64
    assert len(concepts) == 56
    for text, concept in zip(texts, concepts.tolist(), strict=False):
        assert concept < 0 or NAMES[concept].split()[1] in text or "round" in text
    assert all("photo" in text for text in texts[56:])
    endings = [next((e.name for e in EDITS.values() if text.endswith(e.caption)), None) for text in texts]
    assert 8 <= sum(end is not None for end in endings) <= 24
    for row, other in itertools.combinations(range(64), 2):
        if kinds[row] == kinds[other]:
            assert endings[row] == endings[other]
            assert other >= 56 or concepts[row] == concepts[other] >= 0
    alone = [row for row in range(28) if endings[row] is None]  # single emoji
    assert all((kinds[a] == kinds[b]) == (concepts[a] == concepts[b]) for a, b in itertools.combinations(alone, 2))


def test_single_emoji_anywhere_are_not_held_out(emoji):
    only = emoji.select(emoji.concept == NAMES.index("blue disc"))
    images, _, concepts = clip.anywhere(only, 40, torch.Generator().manual_seed(0))
    assert images.shape == (40, 3, 64, 64)
    assert set(concepts.tolist()) == {NAMES.index("blue disc")}
    blue = (images[:, 2] - images[:, 0] > 0.6).float().sum((1, 2))  # the held-out disc is the largest
    assert blue[blue < 4000].max() < 3.2 * 24**2 * 1.1**2


def test_larger_images_are_averaged_over_areas():
    image = torch.arange(128.0).expand(1, 3, 128, 128) / 128
    assert torch.allclose(clip.shrunk(image)[0, 0, 0], (2 * torch.arange(64.0) + 0.5) / 128)
    assert torch.equal(clip.shrunk(image[..., :64, :64]), image[..., :64, :64])
    assert clip.shrunk(image[..., :32, :32]).shape == (1, 3, 64, 64)


def test_the_bank_holds_the_features_of_all_names_and_is_renewed_now_and_then(emoji, tokenizer):
    towers = clip.Towers(clip.build(tokenizer), len(NAMES))
    first = towers.names(tokenizer, NAMES).clone()
    assert torch.allclose(first, clip.name_features(towers.model, tokenizer, NAMES), atol=1e-6)
    towers.model.text_projection.weight.data.neg_()
    for _ in range(clip.BANK_STEPS - 1):
        assert torch.equal(towers.names(tokenizer, NAMES), first)
    assert torch.allclose(towers.names(tokenizer, NAMES), -first, atol=1e-6)


def test_all_patches_give_the_features_of_the_whole_image(emoji, tokenizer):
    model, images = clip.build(tokenizer).eval(), torch.rand(2, 3, 64, 64)
    whole = clip.image_features(model, images)
    assert torch.allclose(clip.masked_image_features(model, images, 1.0, torch.Generator()), whole, atol=1e-5)
    assert not torch.allclose(clip.masked_image_features(model, images, 0.5, torch.Generator()), whole, atol=1e-3)


# --- the loop and the stages ---


def autoencoder_stage(emoji, tokenizer):
    photos = np.zeros((4, 64, 64, 3), np.uint8)
    network = autoencoder.Encoding(autoencoder.build(64, (8, 16)))
    return network, lambda net, rng: autoencoder.loss_of(net, autoencoder.images(emoji, photos, 4, rng), rng)


def clip_stage(emoji, tokenizer):
    images = compose.over(compose.premultiplied(emoji.rgba[:8]), torch.ones(1, 3, 1, 1))
    ids, concept = clip.tokens(tokenizer, list(NAMES)), torch.arange(8)

    def loss(model, rng):
        drawn = clip.masked_image_features(model, images, 1.0, rng)
        return clip.contrastive_loss(drawn, clip.text_features(model, ids), model.logit_scale.exp(), concept)

    return clip.build(tokenizer), loss


def unet_stage(emoji, tokenizer):
    described = [captions.Description((captions.item_of(emoji, row),)) for row in range(8)]
    rng = torch.Generator().manual_seed(0)
    latent = torch.randn(8, 8, 16, 16, generator=rng)
    data = unet.Latents(latent, described, torch.randn(8, perceptual.MEANING_CHANNELS, 2, 2, generator=rng))
    network = unet.TextToImage(unet.build_unet((16, 32)), clip.text_encoder_of(clip.build(tokenizer)), aligned=True)
    return network, unet.training_loss(data, tokenizer, 8, unet.Recipe(alignment=0.5))


@pytest.fixture
def narrow(monkeypatch):
    """Text and image encoders narrower than the bundled ones, of the same form."""
    monkeypatch.setattr(clip, "WIDTH", 48)
    monkeypatch.setattr(unet, "WIDTH", 48)


@pytest.mark.parametrize("stage", [autoencoder_stage, clip_stage, unet_stage])
def test_training_lowers_the_loss_and_a_stopped_run_continues_as_if_it_had_not_stopped(
    stage, emoji, tokenizer, tmp_path, narrow
):
    plan = Plan(batch=4, lr=3e-3, steps=8, warmup=1, parts=2)

    def start(folder):
        network, loss = stage(emoji, tokenizer)
        return Run(network, plan, tmp_path / folder), loss

    run, loss = start("whole")

    def error() -> float:
        with torch.no_grad():
            return float(loss(run.network, torch.Generator().manual_seed(0)))

    before = error()
    losses = [run.update(loss) for _ in range(8)]
    assert error() < 0.97 * before
    run, loss = start("halves")
    for _ in range(4):
        run.update(loss)
    run.save()
    run, loss = start("halves")
    assert run.step == 4
    again = [run.update(loss) for _ in range(4)]
    assert again == pytest.approx(losses[4:], rel=1e-4)


def weights(folder):
    """The tensors of an exported network."""
    return load_file(next(folder.glob("*.safetensors")))


def test_all_stages_lead_to_folders_that_diffusers_and_transformers_load(emoji, tmp_path, monkeypatch, narrow):
    """With narrower networks than the bundled ones, of the same form, and sample grids of two sampling steps."""
    pytest.importorskip("skimage")
    pytest.importorskip("sklearn")
    from diffusers import AutoencoderKL, StableDiffusionInstructPix2PixPipeline, StableDiffusionPipeline
    from transformers import CLIPModel, CLIPProcessor

    monkeypatch.setitem(autoencoder.SHAPES, 64, ((8, 16, 32), 4))
    monkeypatch.setattr(unet, "build_unet", partial(unet.build_unet, (16, 32, 48)))
    monkeypatch.setattr(unet, "LEVELS", 2)
    monkeypatch.setattr(autoencoder, "PHOTOGRAPHS", 8)
    monkeypatch.setattr(unet, "PROMPTS", ("a red disc",))
    monkeypatch.setattr(vocabulary, "STEPS", 2)
    sampled = Objective.sample
    monkeypatch.setattr(Objective, "sample", lambda self, predict, noise, steps: sampled(self, predict, noise, 2))
    monkeypatch.setattr(photographs, "crops", cache(photographs.crops))
    brief = Plan(batch=4, lr=1e-3, steps=2, warmup=1)
    monkeypatch.setattr(clip, "CROPS", 8)
    monkeypatch.setattr(clip, "CAPTIONS", 30)
    monkeypatch.setattr(editor, "CROPS", 8)
    monkeypatch.setattr(editor, "INSTRUCTIONS", ("make it green",))
    stages = dict.fromkeys(("autoencoder", "clip", "unet", "editor"), brief)
    preset = replace(CPU, **stages, common=False, crop=32, images=16, pairs=8)
    training = Training(emoji, preset, tmp_path / "work", "cpu")
    with pytest.raises(SystemExit, match="no checkpoint of the stage autoencoder"):
        training.unet(brief)
    training.autoencoder(brief)
    training.clip(brief)
    trained = training.unet(brief)
    training.editor(brief)
    training.export(tmp_path / "out")

    pipeline = StableDiffusionPipeline.from_pretrained(tmp_path / "out" / "emoji", local_files_only=True)
    assert is_flow(pipeline.scheduler)  # as the preset trains
    assert pipeline("a red disc", num_inference_steps=2, output_type="np").images.shape == (1, 64, 64, 3)
    assert torch.allclose(pipeline.unet.conv_in.weight, trained.unet.conv_in.weight, atol=1e-3)
    latent = pipeline.vae.encode(2 * autoencoder.images(emoji, PHOTOS, 8, torch.Generator()) - 1).latent_dist.mode()
    factor = pipeline.vae.config.scaling_factor
    assert 0.3 < float(latent.detach().std() * factor) < 3
    model = CLIPModel.from_pretrained(tmp_path / "out" / "clip")
    processor = CLIPProcessor.from_pretrained(tmp_path / "out" / "clip")
    assert model.dtype == torch.float32
    batch = processor(
        text=["a red disc"], images=[pipeline.numpy_to_pil(np.zeros((1, 64, 64, 3)))[0]], return_tensors="pt"
    )
    assert model(**batch).logits_per_image.shape == (1, 1)
    assert (tmp_path / "work" / "unet" / "samples.png").stat().st_size > 1000

    edit = StableDiffusionInstructPix2PixPipeline.from_pretrained(
        tmp_path / "out" / "emoji-edit", local_files_only=True
    )
    source = edit.numpy_to_pil(np.full((1, 64, 64, 3), 0.5))[0]
    assert edit("make it green", source, num_inference_steps=2, output_type="np").images.shape == (1, 64, 64, 3)

    again = Training(emoji, preset, tmp_path / "later", "cpu", start=tmp_path / "out")
    again.editor(brief)  # which loads the networks of all earlier stages
    again.export(tmp_path / "anew")
    assert not [path for path in (tmp_path / "anew").rglob("*.json") if str(tmp_path) in path.read_text()]
    assert AutoencoderKL.load_config(tmp_path / "anew" / "emoji" / "vae")["scaling_factor"] == factor
    for part in ("emoji/vae", "emoji/unet", "emoji/text_encoder", "clip", "emoji-edit/unet"):
        (before, after) = (weights(tmp_path / folder / part) for folder in ("out", "anew"))
        assert before.keys() == after.keys()
        unchanged = all(torch.equal(after[name], value) for name, value in before.items())
        assert unchanged == (part != "emoji-edit/unet"), part


def test_a_decoder_alone_keeps_the_latents(emoji, tmp_path, monkeypatch):
    pytest.importorskip("skimage")
    pytest.importorskip("sklearn")
    monkeypatch.setattr(autoencoder, "PHOTOGRAPHS", 8)
    start = autoencoder.build(64, (8, 16, 32))
    start.register_to_config(scaling_factor=0.7)
    before = {name: value.clone() for name, value in start.state_dict().items()}
    plan = Plan(batch=4, lr=1e-3, steps=2, warmup=1)
    for _ in range(2):  # the second time from the checkpoint
        trained = autoencoder.train_autoencoder(emoji, plan, tmp_path, start=start, decoder_only=True)
        assert trained.config.scaling_factor == 0.7
        kept = {name for name, value in trained.state_dict().items() if torch.equal(value, before[name])}
        assert {name for name in kept if "decoder" not in name} >= {n for n in before if n.startswith("encoder")}
        assert not torch.equal(trained.decoder.conv_out.weight, before["decoder.conv_out.weight"])
    with pytest.raises(ValueError, match="choice of parameters"):
        autoencoder.train_autoencoder(emoji, plan, tmp_path, start=start)


def test_a_start_must_have_networks_of_the_size_of_the_images(emoji, tmp_path):
    with pytest.raises(SystemExit, match="none of the networks"):
        Training(emoji, CPU, tmp_path, "cpu", start=tmp_path)
    autoencoder.build(128, (8, 16, 32)).save_pretrained(tmp_path / "emoji" / "vae")
    with pytest.raises(SystemExit, match="of images of 128 pixels, and the preset trains on 64"):
        Training(emoji, CPU, tmp_path, "cpu", start=tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [(["all"], "export needs --out"), (["autoencoder", "--decoder-only"], "name its folder by --start")],
)
def test_options_that_lack_a_folder_are_refused(options, message, capsys):
    with pytest.raises(SystemExit):
        parse([*options, "--data", "d", "--work", "w"])
    assert message in capsys.readouterr().err


def test_options_override_the_plan():
    options = parse(["unet", "--data", "d", "--work", "w", "--cpu-minutes", "5", "--rate", "0.5", "--parts", "1"])
    plan = adjusted(CPU.unet, options)
    assert (plan.minutes, plan.cpu_minutes, plan.lr) == (None, 5.0, CPU.unet.lr / 2)
    assert plan.batch * plan.parts == CPU.unet.batch * CPU.unet.parts
