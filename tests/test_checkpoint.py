"""Checkpoints that are none, or of another version."""

import json

import pytest
import torch
from safetensors.torch import save_file

from scoredistill.checkpoint import load_state, read_tensors, save_state, write_tensors


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


def test_no_flipped_bit_passes(tmp_path):
    """A bit of each byte in turn: of the numbers, which alone would give another result, and of all texts."""
    path = tmp_path / "a.safetensors"
    tensors = {"a": torch.tensor([1.0, 2.0]), "b": torch.tensor(3, dtype=torch.uint8), "c": torch.ones(0)}
    write_tensors(tensors, path, {"rows": "12", "calls": "3"})
    intact = path.read_bytes()
    found, metadata = read_tensors(path)
    assert metadata == {"rows": "12", "calls": "3"}
    assert all(torch.equal(found[name], value) for name, value in tensors.items())
    passed = []
    for at in range(len(intact)):
        damaged = bytearray(intact)
        damaged[at] ^= 1 << 5 * at % 8
        path.write_bytes(damaged)
        try:
            now, texts = read_tensors(path)
        except ValueError:
            continue
        if texts != metadata or any(not torch.equal(now[name], found[name]) for name in tensors):
            passed.append(at)
    names = [range(intact.index(name), intact.index(name) + len(name)) for name in (b"texts", b"crc32")]
    assert all(any(at in name for name in names) for at in passed)  # a file without checksum is of an earlier version


def test_types_and_shapes_are_checked(tmp_path):
    """The bytes of a tensor are another tensor by another type or shape, which the header alone says."""
    path = tmp_path / "a.safetensors"
    write_tensors({"a": torch.arange(4.0).reshape(2, 2)}, path, {})
    intact = path.read_bytes()
    for old, new in ((b'"F32"', b'"I32"'), (b"[2,2]", b"[4,1]")):
        assert old in intact
        path.write_bytes(intact.replace(old, new))
        with pytest.raises(ValueError, match="its checksum is another"):
            read_tensors(path)


def test_the_same_state_has_the_same_bytes(tmp_path):
    """In any process: the writer orders several entries of its header by chance."""
    texts = {str(k): "x" for k in range(9)}
    for name in ("a", "b"):
        write_tensors({"b": torch.ones(2), "a": torch.zeros(1)}, tmp_path / name, texts)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_checkpoints_of_earlier_versions_have_no_checksum(tmp_path):
    save_file({"0": torch.ones(1)}, tmp_path / "a", {"state": '{"__dict__": [["x", {"__tensor__": "0"}]]}'})
    assert load_state(tmp_path / "a")["x"] == 1
