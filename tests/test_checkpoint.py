"""Checkpoints that are none, or of another version."""

import json

import pytest
import torch
from safetensors.torch import save_file

from scoredistill.checkpoint import load_state, save_state


def test_states_come_back(tmp_path):
    state = {"next": 3, "rng": [torch.arange(3)], "nested": {"a": {1: torch.ones(2)}, "b": None}}
    save_state(state, tmp_path / "a.safetensors")
    found = load_state(tmp_path / "a.safetensors")
    assert found["next"] == 3
    assert torch.equal(found["nested"]["a"][1], torch.ones(2))


@pytest.mark.parametrize(
    "outline",
    [
        "", "{", "[]", "5", "null", '"x"', "{}", '{"a": 1}', '{"__dict__": 5}', '{"__dict__": [["a"]]}',
        '{"__dict__": [["a", {"__tensor__": "9"}]]}', '{"__dict__": [[[], 1]]}', "[" * 100_000, None,
    ],
)  # fmt: skip
def test_what_is_no_checkpoint_is_said_to_be_none(tmp_path, outline):
    path = tmp_path / "a.safetensors"
    save_file({"0": torch.ones(1)}, path, None if outline is None else {"state": outline})
    with pytest.raises(ValueError, match="is not a checkpoint of scoredistill") as caught:
        load_state(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("data", [b"", b"\0" * 100, b"\xff" * 8 + b"{}", json.dumps({}).encode()])
def test_other_files(tmp_path, data):
    path = tmp_path / "a.safetensors"
    path.write_bytes(data)
    with pytest.raises(ValueError, match="is not a checkpoint of scoredistill"):
        load_state(path)
