"""The page that shows a mesh in a browser: what it holds, and that it loads nothing."""

import base64
import io
import re

import numpy as np
import torch
from PIL import Image

from scoredistill.three_d.mesh import Mesh, TexturedMesh, write_viewer


def test_the_page_holds_the_mesh_and_loads_nothing(tmp_path):
    vertices = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 0, 1]])
    mesh = Mesh(vertices, torch.zeros(3, 3), torch.zeros(3, 3), torch.tensor([[0, 1, 2]]))
    uv = torch.tensor([[0.0, 0], [1, 0], [0, 1]])
    texture = torch.rand(3, 8, 16, generator=torch.Generator().manual_seed(0))
    page = write_viewer(TexturedMesh(mesh, uv, texture), tmp_path / "a.html", "<script>alert(1)</script>").read_text()
    held = dict(re.findall(r'(place|uv|face|texture): "([^"]*)"', page))
    decoded = {name: base64.b64decode(text) for name, text in held.items()}
    np.testing.assert_array_equal(np.frombuffer(decoded["place"], "<f4"), vertices.flatten().numpy())
    np.testing.assert_array_equal(np.frombuffer(decoded["uv"], "<f4"), uv.flatten().numpy())
    assert np.frombuffer(decoded["face"], "<u4").tolist() == [0, 1, 2]
    image = np.asarray(Image.open(io.BytesIO(decoded["texture"]))).transpose(2, 0, 1) / 255
    assert np.abs(image - texture.numpy()).max() < 1 / 255
    assert "<script>alert" not in page
    assert page.count("<script>") == 1
    assert "default-src 'none'" in page
    assert "http://" not in page
    assert "https://" not in page
