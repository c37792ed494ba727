"""3D models: which of them a file is, and as far as its format tells whether it is whole.

Those that are text are looked at strictly, so that no error page or message is taken for a model.
"""

import re

import msgspec

from receiver.errors import FetchFailed
from receiver.fetching.formats import Bytes, malformed
from receiver.models import Outcome

HEAD_BYTES = 1 << 16  # of text that is looked at, line by line
MAX_TAIL_BYTES = 1024
FBX_START = b"Kaydara FBX Binary  \0"

_NUMBER = rb"[-+]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?"
_OBJ_LINE = re.compile(
    rb"[ \t]*(?:#[^\n]*|v(?:[ \t]+%(n)s){3,8}|v[tnp](?:[ \t]+%(n)s){1,4}"
    rb"|[flp](?:[ \t]+-?\d+(?:/-?\d*){0,2})+"
    rb"|(?:o|g|s|mg|usemtl|mtllib|usemap|maplib|shadow_obj|trace_obj|lod|bevel|c_interp|d_interp|cstype|deg"
    rb"|bmat|step|curv2?|surf|parm|trim|hole|scrv|sp|end|con|ctech|stech)(?:[ \t][^\n]*)?)?[ \t]*\r?"
    % {b"n": _NUMBER}
)
_OBJ_VERTEX = re.compile(rb"^[ \t]*v[ \t]", re.MULTILINE)
_STL_TEXT = re.compile(
    rb"\s*solid\b[^\n]*\n\s*facet\s+normal(?:\s+%(n)s){3}\s+outer\s" % {b"n": _NUMBER}, re.IGNORECASE
)
_FBX_TEXT = re.compile(rb"\s*; FBX \d+\.\d+\.\d+ project file\b[^\n]*\n")
_USD_NAME = re.compile(rb"\.usd[ac]?$", re.IGNORECASE)
_PLY_LINE = re.compile(
    rb"(?:comment|obj_info)\b.*|format (?P<format>ascii|binary_little_endian|binary_big_endian) 1\.0"
    rb"|element \S+ (?P<count>\d{1,18})|property list (?P<length>\w+) \w+ \S+|property (?P<type>\w+) \S+"
)
_PLY_BYTES = {
    b"char": 1, b"uchar": 1, b"short": 2, b"ushort": 2, b"int": 4, b"uint": 4, b"float": 4, b"double": 8,
    b"int8": 1, b"uint8": 1, b"int16": 2, b"uint16": 2, b"int32": 4, b"uint32": 4, b"float32": 4,
    b"float64": 8,
}  # fmt: skip
_GLTF_ASSET = re.compile(rb'"asset"\s*:\s*\{')
_ZIP_END_BYTES = 22 + 65_535 + MAX_TAIL_BYTES  # of an archive: its last record, with the longest comment


def is_obj(data: Bytes) -> bool:
    """Wavefront: every line is one that the format knows, and one of them is a vertex."""
    text = _text(data)
    return bool(_OBJ_VERTEX.search(text)) and all(_OBJ_LINE.fullmatch(line) for line in text.split(b"\n"))


def check_obj(data: Bytes) -> None:
    """Its last line must be a whole one; that more of them were to come nobody can tell."""
    start = max(0, data.size - HEAD_BYTES)
    last = data.some(start, HEAD_BYTES).rpartition(b"\n")[2]
    if not _OBJ_LINE.fullmatch(last):
        raise _cut()


def is_text_stl(data: Bytes) -> bool:
    return bool(_STL_TEXT.match(_text(data)))


def is_binary_stl(data: Bytes) -> bool:
    """It has no magic number, but the length that its triangles need, and at most a short tail."""
    count = int.from_bytes(data.some(80, 4), "little")
    return count > 0 and 0 <= data.size - 84 - 50 * count <= MAX_TAIL_BYTES


def check_stl(data: Bytes) -> None:
    tail = data.some(max(0, data.size - HEAD_BYTES), HEAD_BYTES)
    if not is_binary_stl(data) and b"endsolid" not in tail.lower():
        raise _cut()


def is_text_fbx(data: Bytes) -> bool:
    text = _text(data)
    return bool(_FBX_TEXT.match(text)) and b"FBXHeaderExtension" in text


def check_fbx(data: Bytes) -> None:
    """Each of the outermost nodes of a binary one tells where it ends; the last of them is empty."""
    if data.some(0, len(FBX_START)) != FBX_START:
        return
    size = 8 if int.from_bytes(data.at(23, 4), "little") >= 7500 else 4
    offset = 27
    while end := int.from_bytes(data.at(offset, size), "little"):
        data.at(end, 0)
        if end <= offset:
            raise malformed("a node ends before it begins")
        offset = end
    data.at(offset, 3 * size + 1)


def is_usdz(data: Bytes) -> bool:
    """An archive whose first file is a stage, as the format wants it."""
    head = data.some(0, 30)
    if len(head) < 30 or not head.startswith(b"PK\3\4"):
        return False
    return bool(_USD_NAME.search(data.some(30, int.from_bytes(head[26:28], "little"))))


def check_usdz(data: Bytes) -> None:
    tail = data.some(max(0, data.size - _ZIP_END_BYTES), _ZIP_END_BYTES)
    place = tail.rfind(b"PK\5\6")
    if place < 0 or place + 22 > len(tail):
        raise _cut()


def check_glb(data: Bytes) -> None:
    data.at(int.from_bytes(data.at(8, 4), "little"), 0)


def is_ply(data: Bytes) -> bool:
    """Every line of its header is one that the format knows."""
    return _ply_header(data) is not None


def check_ply(data: Bytes) -> None:
    """As many bytes as its elements need at the least."""
    header = _ply_header(data) or (0, 0)
    data.at(sum(header), 0)


def _ply_header(data: Bytes) -> tuple[int, int] | None:
    """How long it is, and how many bytes must follow it at the least."""
    head, found, _ = data.some(0, HEAD_BYTES).partition(b"end_header")
    lines = [line.rstrip(b"\r") for line in head.split(b"\n")]
    if not found or lines[0] != b"ply" or lines[-1]:
        return None
    matches = [_PLY_LINE.fullmatch(line) for line in lines[1:-1]]
    formats = [match["format"] for match in matches if match and match["format"]]
    if len(formats) != 1 or None in matches:
        return None
    needed = count = 0
    for match in filter(None, matches):
        if match["count"]:
            count = int(match["count"])
        elif kind := match["length"] or match["type"]:
            # Text has at least a digit and what separates it from the next.
            needed += count * (2 if formats[0] == b"ascii" else _PLY_BYTES.get(kind, 1))
    return len(head) + len(found) + 1, needed


class _Asset(msgspec.Struct):
    version: str


class _Gltf(msgspec.Struct):
    asset: _Asset


def is_gltf(data: Bytes) -> bool:
    """JSON, all of it, with the ``asset`` that every glTF has; or what of that was not cut."""
    head = data.some(0, HEAD_BYTES)
    if not head.lstrip().startswith(b"{"):
        return False
    try:
        check_gltf(data)
    except FetchFailed as exc:
        return exc.outcome is Outcome.TRUNCATED and bool(_GLTF_ASSET.search(head))
    return True


def check_gltf(data: Bytes) -> None:
    try:
        with data.mapped() as text:
            version = msgspec.json.decode(text, type=_Gltf).asset.version
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise _cut() if "truncated" in str(exc) else malformed("it is no JSON of a model") from exc
    if not re.fullmatch(r"[12]\.\d+", version):
        raise malformed("its version is not known")


def _text(data: Bytes) -> bytes:
    """The whole lines that a file begins with; nothing where it is no text."""
    head = data.some(0, HEAD_BYTES)
    if b"\0" in head:
        return b""
    lines = head.rpartition(b"\n")[0]
    return lines.removeprefix(b"\xef\xbb\xbf").replace(b"\\\r\n", b" ").replace(b"\\\n", b" ")


def _cut() -> FetchFailed:
    return FetchFailed(Outcome.TRUNCATED, "the file ends early")
