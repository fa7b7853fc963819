"""Models from strangers: nothing in the folder of a model is executed, and one sentence says why it is refused.

Each hostile folder would create a file next to it if its code ran.
"""

import json
import pickle
import shutil
from pathlib import Path

import pytest
import torch

import scoredistill
import tiny
from scoredistill import load_prior
from scoredistill.priors.pipelines.trusted import check_folder, check_index


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved")
    tiny.stable_diffusion(folder / "tokens").save_pretrained(folder / "model")
    return folder / "model"


@pytest.fixture
def model(saved, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))  # as for `python -m` started above the folder of the model
    monkeypatch.chdir(tmp_path)
    return shutil.copytree(saved, tmp_path / "model")


def code(path: Path, ran: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"open({str(ran)!r}, 'w').close()\nclass Evil:\n    pass\n")


def edit_index(model, **entries):
    path = model / "model_index.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **entries}))


def edit_config(path, **entries):
    path.write_text(json.dumps({**json.loads(path.read_text()), **entries}))


def refused(model, says, ran):
    with pytest.raises(ValueError, match=says) as caught:
        load_prior(model, device="cpu")
    assert "\n" not in str(caught.value)
    assert not ran.exists()


@pytest.mark.parametrize(
    ("entry", "file"),
    [
        (["evil", "Evil"], "model/unet/evil.py"),  # a module in the folder of the component
        (["../evil", "Evil"], "model/evil.py"),  # above it
        (["../../evil", "Evil"], "evil.py"),
        (["evil", "Evil"], "evil.py"),  # importable, as any module of the working directory
        (["model.unet.evil", "Evil"], "model/unet/evil.py"),
        (["diffusers.evil", "Evil"], "model/unet/diffusers.evil.py"),
        (["os", "system"], None),
        (["subprocess", "Popen"], None),
        (["torch", "load"], None),
        (["diffusers", "utils"], None),
        (["transformers", "utils"], None),
        (["diffusers", "DiffusionPipeline"], None),  # its own index would be read unchecked
        (["diffusers", "StableDiffusionPipeline"], None),
        (["diffusers", "AutoModel"], None),
        (["transformers", "AutoModel"], None),
        (["transformers", "FlashPackAutoModel"], None),
        (["diffusers", "FlashPackDiffusionPipeline"], None),
        (["transformers", "Trainer"], None),
        (["transformers", "pipeline"], None),
        (["pipeline_utils", "DiffusionPipeline"], None),
        (["pipeline_utils", "os"], None),
        (["stable_diffusion", "StableDiffusionPipeline"], None),
        (["stable_diffusion.safety_checker", "StableDiffusionSafetyChecker"], None),
        (["diffusers"], None),
        (["diffusers", "UNet2DConditionModel", "more"], None),
        (["diffusers", 5], None),
        (["diffusers", None], None),
        ([["diffusers"], "UNet2DConditionModel"], None),
        ([], None),
    ],
)  # fmt: skip
def test_a_component_is_a_class_of_diffusers_or_transformers(model, tmp_path, entry, file):
    ran = tmp_path / "ran"
    if file is not None:
        code(tmp_path / file, ran)
    edit_index(model, unet=entry)
    refused(model, "model_index.json gives 'unet' as", ran)


def test_a_component_that_nothing_needs_is_checked_too(model, tmp_path):
    code(model / "watermarker" / "evil.py", tmp_path / "ran")
    edit_index(model, watermarker=["evil", "Evil"])
    refused(model, "watermarker", tmp_path / "ran")


def test_the_name_of_a_component_stays_in_the_folder(model, tmp_path):
    code(tmp_path / "diffusers.py", tmp_path / "ran")
    edit_index(model, **{"..": ["diffusers", "UNet2DConditionModel"]})
    refused(model, "model_index.json gives", tmp_path / "ran")


@pytest.mark.parametrize("name", ["diffusers", "transformers"])
def test_a_file_does_not_replace_a_library(model, tmp_path, name):
    part = {"diffusers": "unet", "transformers": "text_encoder"}[name]
    code(model / part / f"{name}.py", tmp_path / "ran")
    refused(model, f"{part} brings its own code", tmp_path / "ran")


@pytest.mark.parametrize("kind", [["evil", "Evil"], None, 5, {"a": 1}, "DiffusionPipeline", "Evil"])
def test_the_pipeline_is_named(model, tmp_path, kind):
    code(model / "evil.py", tmp_path / "ran")
    code(model / "pipeline.py", tmp_path / "ran")
    edit_index(model, _class_name=kind)
    refused(model, "names no pipeline class|is not supported", tmp_path / "ran")


@pytest.mark.parametrize("text", ["", "[]", "5", "null", "{", "{}", "[" * 100_000, '{"_class_name": []}', "\udcff"])
def test_an_index_that_is_none(model, tmp_path, text):
    (model / "model_index.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    refused(model, "cannot load", tmp_path / "ran")


@pytest.mark.parametrize(
    ("file", "entries"),
    [
        ("text_encoder/config.json", {"auto_map": {"AutoModel": "evil.Evil"}}),
        ("text_encoder/config.json", {"text_config": {"auto_map": {"AutoConfig": "evil.Evil"}}}),
        ("text_encoder/config.json", {"parts": [{"auto_map": {"AutoConfig": "evil.Evil"}}]}),
        ("text_encoder/config.json", {"attn_implementation": "someone/kernels"}),
        ("text_encoder/config.json", {"_attn_implementation": "someone/kernels:evil"}),
        ("text_encoder/config.json", {"experts_implementation": "someone/kernels"}),
        ("tokenizer/tokenizer_config.json", {"auto_map": {"AutoTokenizer": ["evil.Evil", None]}}),
        ("unet/config.json", {"auto_map": {"AutoModel": "evil.Evil"}}),
        ("scheduler/scheduler_config.json", {"auto_map": {"AutoModel": "evil.Evil"}}),
    ],
)
def test_configurations_name_no_code(model, tmp_path, file, entries):
    code((model / file).parent / "evil.py", tmp_path / "ran")
    edit_config(model / file, **entries)
    refused(model, "asks for code outside", tmp_path / "ran")


@pytest.mark.parametrize("text", ["{", "[" * 100_000])
def test_a_broken_configuration(model, tmp_path, text):
    (model / "unet" / "config.json").write_text(text)
    refused(model, "unet/config.json cannot be read as JSON", tmp_path / "ran")


class Evil:
    def __init__(self, ran):
        self.ran = ran

    def __reduce__(self):
        return open, (str(self.ran), "w")


@pytest.mark.parametrize(
    ("part", "name"),
    [("unet", "diffusion_pytorch_model"), ("vae", "diffusion_pytorch_model"), ("text_encoder", "pytorch_model")],
)
def test_pickled_weights_are_not_read(model, tmp_path, part, name):
    (weights,) = (model / part).glob("*.safetensors")
    weights.unlink()
    for file in (f"{name}.bin", f"{name}.pt", f"{name}.ckpt"):
        with (model / part / file).open("wb") as stream:
            pickle.dump({"weight": Evil(tmp_path / "ran")}, stream)
        torch.save({"weight": torch.zeros(1)}, model / part / f"plain-{file}")
    refused(model, "safetensors", tmp_path / "ran")


def test_an_honest_model_passes(model):
    check_folder(model)
    edit_config(model / "text_encoder" / "config.json", attn_implementation="eager", auto_map=None)
    edit_index(model, safety_checker=["stable_diffusion", "StableDiffusionSafetyChecker"])
    edit_index(
        model, feature_extractor=["transformers", "CLIPFeatureExtractor"]
    )  # as published; now CLIPImageProcessor
    (model / "handler.py").write_text("raise SystemExit")  # an endpoint's, which nothing here reads
    check_folder(model)


@pytest.mark.parametrize("name", ["emoji", "emoji-edit"])
def test_the_bundled_models_pass(name):
    check_folder(Path(scoredistill.__file__).parent / "priors" / "bundled" / name)


def test_published_models_pass():
    components = {
        "unet": ["diffusers", "UNet2DConditionModel"],
        "transformer": ["diffusers", "FluxTransformer2DModel"],
        "vae": ["diffusers", "AutoencoderKL"],
        "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"],
        "text_encoder": ["transformers", "CLIPTextModelWithProjection"],
        "text_encoder_2": ["transformers", "T5EncoderModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "tokenizer_2": ["transformers", "T5TokenizerFast"],
        "image_encoder": ["transformers", "CLIPVisionModelWithProjection"],
        "safety_checker": ["deepfloyd_if", "IFSafetyChecker"],
        "watermarker": ["deepfloyd_if", "IFWatermarker"],
        "scheduler_2": ["diffusers", "DDPMScheduler"],
        "requires_safety_checker": False,
        "tokenizer_3": [None, None],
    }
    assert check_index({"_class_name": "X", **components})["vae"] == ["diffusers", "AutoencoderKL"]
