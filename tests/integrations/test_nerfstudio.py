"""The pipeline of nerfstudio, against its interface as of its public sources: `VanillaPipeline`, data managers with
`cached_train` (FullImageDatamanager) or `image_batch` (Instruct-NeRF2NeRF), and `get_outputs_for_camera`."""

import dataclasses
import importlib.util
import sys
import types
from pathlib import Path

import pytest
import torch

FILE = Path(__file__).parents[2] / "integrations" / "nerfstudio_csd_edit.py"


class Cameras:
    def __init__(self, numbers):
        self.numbers = numbers

    def __getitem__(self, which):
        return Cameras(self.numbers[which])

    def to(self, device):
        return self


class Model(torch.nn.Module):
    """Renders a gray that differs from view to view."""

    def __init__(self):
        super().__init__()
        self.rendered = []

    def get_outputs_for_camera(self, camera):
        assert not self.training
        (number,) = camera.numbers
        self.rendered.append(number)
        return {"rgb": torch.full((48, 48, 3), 0.3 + 0.1 * number)}


@pytest.fixture
def module(monkeypatch):
    """The file, imported beside a stand-in for nerfstudio."""

    @dataclasses.dataclass
    class VanillaPipelineConfig:
        _target: type = dataclasses.field(default_factory=lambda: VanillaPipeline)
        datamanager: object = None
        model: object = None

    class VanillaPipeline(torch.nn.Module):
        def __init__(self, config, device, test_mode="val", world_size=1, local_rank=0):
            super().__init__()
            self.config, self.device, self._model, self.trained = config, device, Model(), []
            self.datamanager = config.datamanager

        @property
        def model(self):
            return self._model

        def get_train_loss_dict(self, step):
            self.trained.append(step)
            return {}, {"loss": torch.zeros(())}, {}

    @dataclasses.dataclass
    class MethodSpecification:
        config: object
        description: str

    trainer = types.SimpleNamespace(method_name="splatfacto", pipeline=VanillaPipelineConfig(None, "data", "splats"))
    contents = {
        "nerfstudio": {},
        "nerfstudio.pipelines": {},
        "nerfstudio.pipelines.base_pipeline": {
            "VanillaPipeline": VanillaPipeline, "VanillaPipelineConfig": VanillaPipelineConfig,
        },
        "nerfstudio.configs": {},
        "nerfstudio.configs.method_configs": {"method_configs": {"splatfacto": trainer}},
        "nerfstudio.plugins": {},
        "nerfstudio.plugins.types": {"MethodSpecification": MethodSpecification},
    }  # fmt: skip
    for name, content in contents.items():
        stand = types.ModuleType(name)
        vars(stand).update(content)
        monkeypatch.setitem(sys.modules, name, stand)
    spec = importlib.util.spec_from_file_location("nerfstudio_csd_edit", FILE)
    made = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "nerfstudio_csd_edit", made)
    spec.loader.exec_module(made)
    return made


def full_images(count=3):
    """A data manager as `FullImageDatamanager`, with images of bytes, one of them with an alpha channel."""
    images = [torch.randint(0, 256, (48, 48, 3 + (i == 1)), dtype=torch.uint8) for i in range(count)]
    cached = [{"image": image, "image_idx": i} for i, image in enumerate(images)]
    dataset = types.SimpleNamespace(cameras=Cameras(list(range(count))))
    return types.SimpleNamespace(cached_train=cached, train_dataset=dataset)


def in2n(count=3):
    """A data manager as that of Instruct-NeRF2NeRF, whose batch is in another order than the cameras."""
    batch = {"image": torch.rand(count, 48, 48, 3), "image_idx": torch.arange(count).flip(0)}
    dataset = types.SimpleNamespace(cameras=Cameras(list(range(count))))
    return types.SimpleNamespace(image_batch=batch, train_dataset=dataset)


OPTIONS = {"instruction": "make it night", "prior": "emoji-edit", "guidance_scale": 1.5, "image_guidance_scale": 1.0}
QUICK = {"sweeps": 1, "edit_count": 2, "edit_rate": 10}


def test_views_are_edited_together_and_put_into_the_dataset(module):
    manager = full_images()
    before = [each["image"].clone() for each in manager.cached_train]
    config = module.CSDEditPipelineConfig(datamanager=manager, **OPTIONS, **QUICK)
    pipeline = config._target(config, "cpu")
    edited = []
    together = pipeline.edited
    results = []
    pipeline.edited = lambda *args: (edited.append(len(args[0])), results.append(together(*args)))[1] or results[-1]
    pipeline.get_train_loss_dict(0)
    pipeline.get_train_loss_dict(1)
    assert pipeline.trained == [0, 1]
    assert edited == [2]  # one edit, of two views
    views = pipeline.model.rendered
    assert len(set(views)) == 2
    assert pipeline.training
    for view, old in enumerate(before):
        new = manager.cached_train[view]["image"]
        assert new.shape == old.shape
        assert new.dtype == old.dtype
        assert torch.equal(new, old) == (view not in views)
        assert torch.equal(new[..., 3:], old[..., 3:])
    for view, result in zip(views, results[0], strict=True):
        assert (manager.cached_train[view]["image"][..., :3].float() - 255 * result).abs().max() <= 0.51
    for step in (10, 20, 30):
        pipeline.get_train_loss_dict(step)
    assert all(
        torch.equal(pipeline.originals[view], old) for view, old in enumerate(before) if view in pipeline.originals
    )
    assert not [name for name, _ in pipeline.named_parameters()]  # the editor is not saved with the scene


def test_the_images_of_instruct_nerf2nerf_are_edited_for_their_cameras(module):
    manager = in2n()
    before = manager.image_batch["image"].clone()
    config = module.CSDEditPipelineConfig(datamanager=manager, **OPTIONS, **QUICK)
    pipeline = module.CSDEditPipeline(config, "cpu")
    views = pipeline.update(0)
    assert pipeline.model.rendered == [2 - view for view in views]
    changed = [view for view in range(3) if not torch.equal(before[view], manager.image_batch["image"][view])]
    assert sorted(views) == changed


def test_an_edit_starts_at_the_render_and_follows_the_source(module):
    config = module.CSDEditPipelineConfig(datamanager=full_images(), **OPTIONS, sweeps=1, first_time=0.5)
    pipeline = module.CSDEditPipeline(config, "cpu")
    source = [torch.rand(64, 64, 3) for _ in range(2)]
    dark, light = (pipeline.edited([torch.full((64, 64, 3), value)] * 2, source, 0) for value in (0.2, 0.8))
    assert light[0].mean() - dark[0].mean() > 0.1
    other = pipeline.edited([torch.full((64, 64, 3), 0.2)] * 2, [1 - each for each in source], 0)
    assert (other[0] - dark[0]).abs().max() > 1e-2
    assert torch.equal(pipeline.edited([torch.full((64, 64, 3), 0.2)] * 2, source, 0)[0], dark[0])


def test_sizes_keep_proportions(module):
    assert module.fitted((480, 640), (512, 512), 8) == (448, 576)
    assert module.fitted((64, 64), (64, 64), 4) == (64, 64)
    assert module.fitted((10, 1000), (512, 512), 8) == (64, 5120)


def test_the_method_is_splatfacto_with_another_pipeline(module):
    method = module.csd_edit
    assert method.config.method_name == "csd-edit"
    assert isinstance(method.config.pipeline, module.CSDEditPipelineConfig)
    assert (method.config.pipeline.datamanager, method.config.pipeline.model) == ("data", "splats")
    with pytest.raises(AttributeError, match="nothing"):
        _ = module.nothing


def test_refusals_are_sentences(module):
    with pytest.raises(ValueError, match="the instruction is empty"):
        module.CSDEditPipeline(module.CSDEditPipelineConfig(), "cpu")
    with pytest.raises(ValueError, match="unknown method 'nothing'"):
        module.CSDEditPipeline(module.CSDEditPipelineConfig(**{**OPTIONS, "method": "nothing"}), "cpu")
    with pytest.raises(ValueError, match="per_frame samples instead of optimizing"):
        module.CSDEditPipeline(module.CSDEditPipelineConfig(**{**OPTIONS, "method": "per_frame"}), "cpu")
    with pytest.raises(ValueError, match="emoji follows no instructions"):
        module.CSDEditPipeline(module.CSDEditPipelineConfig(**{**OPTIONS, "prior": "emoji"}), "cpu")
    manager = types.SimpleNamespace(train_dataset=None)
    pipeline = module.CSDEditPipeline(module.CSDEditPipelineConfig(datamanager=manager, **OPTIONS), "cpu")
    with pytest.raises(ValueError, match="does not cache its images"):
        pipeline.update(0)
