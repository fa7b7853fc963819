"""A textured mesh as one HTML file that any browser shows without a network: drag to turn, scroll to zoom.

The page holds the vertices, the triangles and the texture itself, and draws them with WebGL 2. It loads nothing, which
its content security policy also says.
"""

import base64
import io
from html import escape
from pathlib import Path

import numpy as np

from scoredistill.files import write_text
from scoredistill.media.images import to_pil
from scoredistill.three_d.mesh.texture import TexturedMesh

PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:">
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>html,body{{margin:0;height:100%;background:#fff;font:14px sans-serif;color:#444}}
canvas{{width:100%;height:100%;display:block;touch-action:none;cursor:grab}}
p{{position:fixed;left:0;right:0;bottom:0;text-align:center;pointer-events:none}}</style></head>
<body><canvas id="view"></canvas><p id="said">{title}: drag to turn, scroll to zoom</p>
<script>
const DATA = {{place: "{place}", uv: "{uv}", face: "{face}", texture: "{texture}"}};
const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer;
const place = new Float32Array(bytes(DATA.place)), uv = new Float32Array(bytes(DATA.uv));
const face = new Uint32Array(bytes(DATA.face));
const canvas = document.getElementById("view"), gl = canvas.getContext("webgl2", {{antialias: true}});
const said = (text) => {{ document.getElementById("said").textContent = text; }};
if (!gl) said("This browser has no WebGL 2: open mesh.glb in another program");
const shader = (kind, text) => {{
  const made = gl.createShader(kind); gl.shaderSource(made, text); gl.compileShader(made); return made;
}};
let azimuth = 0.5, elevation = 0.25, distance = 3.0, turning = true;
function start(image) {{
  const program = gl.createProgram();
  gl.attachShader(program, shader(gl.VERTEX_SHADER, `#version 300 es
    in vec3 place; in vec2 uv; uniform mat3 turn; uniform vec3 lens; out vec2 at;
    void main() {{
      vec3 p = turn * place; float z = lens.z - p.z; at = uv;
      gl_Position = vec4(p.x * lens.x, p.y * lens.y, z * 1.02 - 0.1, z);
    }}`));
  gl.attachShader(program, shader(gl.FRAGMENT_SHADER, `#version 300 es
    precision highp float; in vec2 at; uniform sampler2D texels; out vec4 color;
    void main() {{ color = vec4(texture(texels, at).rgb, 1.0); }}`));
  gl.linkProgram(program); gl.useProgram(program);
  [["place", place, 3], ["uv", uv, 2]].forEach(([name, values, size]) => {{
    gl.bindBuffer(gl.ARRAY_BUFFER, gl.createBuffer());
    gl.bufferData(gl.ARRAY_BUFFER, values, gl.STATIC_DRAW);
    const where = gl.getAttribLocation(program, name);
    gl.enableVertexAttribArray(where); gl.vertexAttribPointer(where, size, gl.FLOAT, false, 0, 0);
  }});
  gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, gl.createBuffer());
  gl.bufferData(gl.ELEMENT_ARRAY_BUFFER, face, gl.STATIC_DRAW);
  gl.bindTexture(gl.TEXTURE_2D, gl.createTexture());
  gl.pixelStorei(gl.UNPACK_FLIP_Y_WEBGL, true);
  gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGB, gl.RGB, gl.UNSIGNED_BYTE, image);
  for (const [name, value] of [["MIN_FILTER", "LINEAR"], ["MAG_FILTER", "LINEAR"], ["WRAP_S", "CLAMP_TO_EDGE"],
    ["WRAP_T", "CLAMP_TO_EDGE"]]) gl.texParameteri(gl.TEXTURE_2D, gl["TEXTURE_" + name], gl[value]);
  gl.enable(gl.DEPTH_TEST); gl.clearColor(1, 1, 1, 1);
  const turn = gl.getUniformLocation(program, "turn"), lens = gl.getUniformLocation(program, "lens");
  const draw = () => {{
    const ratio = window.devicePixelRatio || 1;
    canvas.width = canvas.clientWidth * ratio; canvas.height = canvas.clientHeight * ratio;
    gl.viewport(0, 0, canvas.width, canvas.height);
    gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
    const c = Math.cos(azimuth), s = Math.sin(azimuth), e = Math.cos(elevation), f = Math.sin(elevation);
    // rows: right, up and towards the eye, for a mesh with z up and its front towards -y; given by columns
    gl.uniformMatrix3fv(turn, false, [c, -s * f, s * e, s, c * f, -c * e, 0, e, f]);
    const focal = 2.75, wide = canvas.width / canvas.height;
    gl.uniform3f(lens, focal / Math.max(1, wide), focal * Math.min(1, wide), distance);
    gl.drawElements(gl.TRIANGLES, face.length, gl.UNSIGNED_INT, 0);
    if (turning) azimuth += 0.01;
    requestAnimationFrame(draw);
  }};
  draw();
}}
canvas.addEventListener("pointerdown", (event) => {{ turning = false; canvas.setPointerCapture(event.pointerId); }});
canvas.addEventListener("pointermove", (event) => {{
  if (!event.buttons) return;
  azimuth -= event.movementX * 0.01;
  elevation = Math.max(-1.5, Math.min(1.5, elevation + event.movementY * 0.01));
}});
canvas.addEventListener("wheel", (event) => {{
  event.preventDefault(); distance = Math.max(1.3, Math.min(20, distance * Math.exp(event.deltaY * 0.001)));
}}, {{passive: false}});
const image = new Image();
image.onload = () => {{ if (gl) start(image); }};
image.src = "data:image/png;base64," + DATA.texture;
</script></body></html>
"""


def write_viewer(model: TexturedMesh, path: str | Path, title: str = "mesh") -> Path:
    """Write an HTML file that shows a textured mesh, as its texture looks without lights.

    Args:
        model: the mesh in the unit ball, in our axes, and its texture.
        path: of the file.
        title: of the page.

    Returns:
        The path.
    """
    file = io.BytesIO()
    to_pil(model.texture[None])[0].save(file, format="PNG")
    path = Path(path)
    content = {
        "place": _text(model.mesh.vertices.numpy().astype("<f4")), "uv": _text(model.uv.numpy().astype("<f4")),
        "face": _text(model.mesh.faces.numpy().astype("<u4")),
        "texture": base64.b64encode(file.getvalue()).decode(), "title": escape(title),
    }  # fmt: skip
    write_text(path, PAGE.format(**content))
    return path


def _text(values: np.ndarray) -> str:
    """Numbers as base64."""
    return base64.b64encode(np.ascontiguousarray(values).tobytes()).decode()
