"""3D models are known by their bytes, and no message or page is taken for one."""

import json
import struct
import time
import zipfile
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from io import BytesIO
from pathlib import Path

import pytest

from receiver.errors import FetchFailed
from receiver.fetching import media
from receiver.fetching.media import MediaInfo
from receiver.models import Outcome
from tests.support import inspecting

MODELS = frozenset({media.MODEL})

FACET = (
    "facet normal 0 0 1\n outer loop\n  vertex 0 0 0\n  vertex 1 0 0\n  vertex 0 1e-3 0\n endloop\nendfacet\n"
)
TEXT_STL = f"solid a thing of ours\n{FACET * 20}endsolid a thing of ours\n".encode()
TRIANGLE = struct.pack("<12fH", 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0)
STL = b"made by a tool of ours".ljust(80, b"\0") + struct.pack("<I", 3) + TRIANGLE * 3
SOLID_STL = b"solid is what some write".ljust(80, b" ") + STL[80:]

OBJ = b"""# a comment: <html>
mtllib thing.mtl
o thing
v -0.5 1.0e-3 .25
v 0.5 0 1 0.1 0.2 0.3
vt 0.5 1
vn 0 0 1
vp 0.1

usemtl red metal
s off
f 1/1/1 2//1 -1 \\
 3
l 1 2
"""

PLY_HEADER = """ply
format {} 1.0
comment <html> of a tool
obj_info so many
element vertex 2
property float x
property double y
property uchar red
element face 2
property list uchar int vertex_indices
end_header
"""
PLY = PLY_HEADER.format("binary_little_endian").encode() + b"\0" * (2 * 13 + 2 * 13)
TEXT_PLY = PLY_HEADER.format("ascii").encode() + b"0 0 255\n1 1 0\n3 0 1 1\n3 0 0 1\n"
WINDOWS_PLY = TEXT_PLY.replace(b"\n", b"\r\n")

GLTF = json.dumps(
    {"scene": 0, "buffers": [{"uri": "data:,"}], "asset": {"generator": "us", "version": "2.0"}}
)

inspect = partial(inspecting.inspect, kinds=MODELS, max_pixels=1)
outcome_of = partial(inspecting.outcome_of, kinds=MODELS, max_pixels=1)


def fbx(version: int) -> bytes:
    """Two nodes of a name and nothing else, the empty one, and what comes behind that."""
    size, form = (8, "<QQQ") if version >= 7500 else (4, "<III")
    head, data = 3 * size + 1, b"Kaydara FBX Binary  \0\x1a\0" + struct.pack("<I", version)
    for name in (b"FBXHeaderExtension", b"Objects"):
        end = len(data) + head + len(name)
        data += struct.pack(form, end, 0, 0) + bytes([len(name)]) + name
    return data + b"\0" * head


TEXT_FBX = b"; FBX 7.4.0 project file\n; ----\n\nFBXHeaderExtension:  {\n\tFBXHeaderVersion: 1003\n}\n"
GLB = b"glTF" + struct.pack("<II", 2, 100) + b"x" * 88


def archive(*names: str) -> bytes:
    file = BytesIO()
    with zipfile.ZipFile(file, "w") as packed:
        for name in names:
            packed.writestr(zipfile.ZipInfo(name), b"x" * 100)
    return file.getvalue()


@pytest.mark.parametrize(
    ("data", "extension", "media_type"),
    [
        (TEXT_STL, "stl", "model/stl"),
        (TEXT_STL.replace(b"\n", b"\r\n").upper(), "stl", "model/stl"),
        (STL, "stl", "model/stl"),
        (SOLID_STL, "stl", "model/stl"),
        (STL + b"\n", "stl", "model/stl"),
        (OBJ, "obj", "model/obj"),
        (OBJ.replace(b"\n", b"\r\n"), "obj", "model/obj"),
        (b"\xef\xbb\xbf" + OBJ.rstrip(), "obj", "model/obj"),
        (b"v 1 2 3\n" * 100_000, "obj", "model/obj"),
        (PLY, "ply", "model/x-ply"),
        (TEXT_PLY, "ply", "model/x-ply"),
        (WINDOWS_PLY, "ply", "model/x-ply"),
        (GLTF.encode(), "gltf", "model/gltf+json"),
        (json.dumps(json.loads(GLTF), indent=2).encode(), "gltf", "model/gltf+json"),
        (GLTF.replace("data:,", "data:," + "A" * 500_000).encode(), "gltf", "model/gltf+json"),
        (fbx(7400), "fbx", "model/x-fbx"),
        (fbx(7700), "fbx", "model/x-fbx"),
        (TEXT_FBX, "fbx", "model/x-fbx"),
        (archive("scene.usdc", "0/texture.png"), "usdz", "model/vnd.usdz+zip"),
        (archive("model/A.USDA"), "usdz", "model/vnd.usdz+zip"),
        (archive("a.usd") + b"\0", "usdz", "model/vnd.usdz+zip"),
        (GLB, "glb", "model/gltf-binary"),
    ],
)
def test_a_model_is_known_by_its_bytes(tmp_path: Path, data: bytes, extension: str, media_type: str) -> None:
    assert inspect(tmp_path, data) == MediaInfo(media_type=media_type, extension=extension)
    assert outcome_of(tmp_path, data, kinds=media.KINDS - MODELS) is Outcome.NOT_AN_IMAGE


@pytest.mark.parametrize(
    "data",
    [
        b"<!doctype html>\n<title>v 1 2 3</title>",
        b"# <html>\n<script>alert(1)</script>\nv 1 2 3\n",
        b"v 1 2 3\n<script>alert(1)</script>\n",
        b"v 1 2 3\n" * 1000 + b"<html>\n" + b"v 1 2 3\n" * 1000,
        b"# a comment is no model\n",
        b"o no such thing\ng\n",
        b"f 1 2 3\n",
        b"failed to load v 1 2 3\n",
        b"v one two three\n",
        b"v 1 2\n",
        b"v 1 2 3\0\n",
        b'{"error": "not found"}',
        b'{"asset": "expired"}',
        b'{"asset": {"id": 7}}',
        b'{"asset": {"version": "three"}}',
        b'{"error": {"asset": {"version": "2.0"}}}',
        b'{"asset": {"version": "2.0"}, broken}',
        b'{"asset": {"version": "2.0"}} <script>',
        b'["asset", {"version": "2.0"}]',
        b'{"error": ',
        b'{"a":' * 100_000,
        b"solid advice is what we give\nfacet by facet\n",
        b"solid x\n<script>\nfacet normal 0 0 1\n",
        b"solid x\nendsolid x\n",
        b"ply me with questions\nend_header\n",
        b"ply\nend_header\n",
        b"ply\nformat ascii 1.0\n<script>\nend_header\n",
        b"ply\nformat ascii 1.0\nformat ascii 1.0\nend_header\n",
        b"ply\nformat ascii 1.0\nelement vertex 1\n",
        b"; FBX is a format\n",
        b"; FBX 7.4.0 project file\n<html>\n",
        b"Kaydara FBX is a format",
        archive("index.html", "scene.usdc"),
        archive("scene.usdc.html"),
        archive("word/document.xml"),
        b"PK\3\4",
        b"PK\5\6" + b"\0" * 18,
        STL[:-1],
        b"\0" * 84,
        b"\0" * 500,
        b"x",
    ],
)
def test_what_is_no_model_is_not_taken_for_one(tmp_path: Path, data: bytes) -> None:
    assert outcome_of(tmp_path, data) is Outcome.NOT_AN_IMAGE


@pytest.mark.parametrize(
    "data",
    [
        TEXT_STL[: len(TEXT_STL) // 2],
        OBJ[: OBJ.index(b"\nv 0.5") + 4],
        PLY[:-27],
        TEXT_PLY[: TEXT_PLY.index(b"end_header") + 16],
        GLTF.encode()[:-1],
        fbx(7400)[:-1],
        fbx(7700)[:-30],
        archive("scene.usdc")[:-1],
        archive("scene.usdc")[:100],
        GLB[:-1],
    ],
)
def test_a_model_that_is_cut_short_is_found_out(tmp_path: Path, data: bytes) -> None:
    assert outcome_of(tmp_path, data) is Outcome.TRUNCATED


@pytest.mark.parametrize(
    "make",
    [
        lambda: b"v " + b"1" * 20_000_000,
        lambda: b"f " + b"1/" * 10_000_000,
        lambda: b"v 1 2 3\n" + b"# \\\n" * 5_000_000,
        lambda: b"solid x\n" + b" " * 20_000_000,
        lambda: b"ply\n" + b"comment\n" * 2_500_000,
        lambda: b"{" + b'"a":{' * 4_000_000,
        lambda: b"[" * 20_000_000,
        lambda: fbx(7400)[:27] + b"".join(struct.pack("<I", 31 + 4 * n) for n in range(5_000_000)),
    ],
    ids=range(8),
)
def test_twenty_megabytes_of_malice_take_little_time(tmp_path: Path, make: Callable[[], bytes]) -> None:
    path = tmp_path / "file"
    path.write_bytes(make())
    began = time.process_time()
    with suppress(FetchFailed):  # the third is even one that could be
        media.inspect(path, allowed_kinds=MODELS, max_pixels=1)
    assert time.process_time() - began < 2
