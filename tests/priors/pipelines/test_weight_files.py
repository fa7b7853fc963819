"""Files of weights: variants are found, single files load with a configuration, pickles are refused."""

import pytest
import torch
from safetensors.torch import save_file

import tiny
from scoredistill import load_prior
from scoredistill.priors.pipelines.weight_files import find_variant

X, T = torch.ones(1, 4, 8, 8), torch.tensor([0.5])


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory):
    return tiny.stable_diffusion(tmp_path_factory.mktemp("tokens"))


@pytest.fixture(scope="module")
def half(tmp_path_factory):
    """A directory with weights in float16 only."""
    folder = tmp_path_factory.mktemp("half")
    made = tiny.stable_diffusion(folder / "tokens").to(torch.float16)
    made.save_pretrained(folder / "model", variant="fp16")
    return folder / "model"


def test_the_only_variant_is_found(half, pipeline):
    prior, exact = load_prior(half), load_prior(pipeline)
    assert prior.network.dtype == torch.float32
    difference = (prior.eps(X, T) - exact.eps(X, T)).abs().max()
    assert 0 < difference < 1e-2
    assert torch.equal(load_prior(half, variant="fp16").eps(X, T), prior.eps(X, T))
    with pytest.raises(ValueError, match=r"no weights of the variant 'bf16', it has fp16: choose"):
        load_prior(half, variant="bf16")


PLAIN, HALF = "diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.fp16.safetensors"
SHARDS = ["model-00001-of-00002.fp16.safetensors", "model.fp16-00002-of-00002.safetensors"]


@pytest.mark.parametrize(
    ("unet", "text", "dtype", "expected"),
    [
        ([PLAIN], ["model.safetensors"], torch.float16, None),
        ([PLAIN, HALF], ["model.safetensors"], torch.float16, None),
        ([HALF], ["model.safetensors"], torch.float32, "fp16"),
        ([HALF], SHARDS, torch.float32, "fp16"),
        (["diffusion_pytorch_model-00001-of-00002.safetensors"], ["model.safetensors"], torch.float32, None),
        (["diffusion_pytorch_model.non_ema.safetensors"], ["model.safetensors"], torch.float32, "non_ema"),
        ([HALF, HALF.replace("fp16", "bf16")], ["model.safetensors"], torch.bfloat16, "bf16"),
        ([HALF, HALF.replace("fp16", "bf16")], ["model.bf16.safetensors"], torch.float16, "bf16"),
    ],
)  # fmt: skip
def test_variants_are_chosen_by_what_the_components_have(tmp_path, unet, text, dtype, expected):
    index = {"_class_name": "X", "unet": ["diffusers", "U"], "text_encoder": ["transformers", "T"], "vae": [None, None]}
    for part, names in (("unet", unet), ("text_encoder", text), ("safety_checker", [HALF])):
        (tmp_path / part).mkdir()
        for name in names:
            (tmp_path / part / name).touch()
    assert find_variant(tmp_path, index, {"variant": None, "torch_dtype": dtype}) == expected


def test_variants_without_one_in_common_and_pickles_are_refused(tmp_path):
    index = {"unet": ["diffusers", "U"], "text_encoder": ["transformers", "T"]}
    for part in index:
        (tmp_path / part).mkdir()
    (tmp_path / "unet" / HALF).touch()
    (tmp_path / "text_encoder" / "model.bf16.safetensors").touch()
    with pytest.raises(ValueError, match=r"no variant of their weights in common \(bf16, fp16\)"):
        find_variant(tmp_path, index, {})
    assert find_variant(tmp_path, index, {"text_encoder": None}) == "fp16"
    (tmp_path / "text_encoder" / "model.bf16.safetensors").unlink()
    (tmp_path / "text_encoder" / "pytorch_model.bin").touch()
    with pytest.raises(ValueError, match=r"pytorch_model.bin is a pickle, which can run any code"):
        find_variant(tmp_path, index, {})


@pytest.fixture(scope="module")
def single(pipeline, tmp_path_factory):
    """A file of all weights, and a directory with their configuration alone."""
    folder = tmp_path_factory.mktemp("single")
    pipeline.save_pretrained(folder / "config")
    for weights in (folder / "config").rglob("*.safetensors"):
        weights.unlink()
    stem, weights = "cond_stage_model.transformer.text_model.", pipeline.text_encoder.state_dict()
    text = {stem + name.removeprefix("text_model."): value for name, value in weights.items()}
    save_file({name: value.contiguous() for name, value in text.items()}, folder / "all.safetensors")
    return folder


def test_a_single_file_is_the_same_prior(single, pipeline):
    """The text encoder is read from the file, in its original format, and the others are given."""
    parts = {"unet": pipeline.unet, "vae": pipeline.vae}
    prior = load_prior(single / "all.safetensors", config=single / "config", parts=parts)
    exact = load_prior(pipeline)
    assert prior.pipeline.text_encoder is not pipeline.text_encoder
    assert torch.equal(prior.eps(X, T, prior.encode_text("an owl")), exact.eps(X, T, exact.encode_text("an owl")))
    assert prior.name == str(single / "all.safetensors")


def test_errors_of_single_files_say_what_to_do(single, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    file = single / "all.safetensors"
    with pytest.raises(ValueError, match=r"is not here and cannot be downloaded: give config= the directory"):
        load_prior(file, local_files_only=True)
    with pytest.raises(ValueError, match=r"has no model_index.json: give config="):
        load_prior(file, config=tmp_path)
    with pytest.raises(ValueError, match="is a single file and has no variants"):
        load_prior(file, variant="fp16")
    with pytest.raises(ValueError, match="config belongs to single files"):
        load_prior("emoji", config=single / "config")
    with pytest.raises(ValueError, match=r"there is no file .*none\.safetensors"):
        load_prior(tmp_path / "none.safetensors")
    for name in ("model.ckpt", "model.bin", "model.pt"):
        (tmp_path / name).touch()
        with pytest.raises(ValueError, match=r"is a pickle, which can run any code .* convert it to \.safetensors"):
            load_prior(tmp_path / name)
    (tmp_path / "broken.safetensors").write_bytes(b"{}")
    with pytest.raises(ValueError, match=r"cannot read .*broken\.safetensors as safetensors"):
        load_prior(tmp_path / "broken.safetensors", config=single / "config")
    save_file({"conv_in.weight": torch.ones(2, 2)}, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match=r"cannot load .*other\.safetensors with the configuration of"):
        load_prior(tmp_path / "other.safetensors", config=single / "config")
