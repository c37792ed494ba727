"""Boxes of ISO base media files, and the image that an AVIF or HEIC file is about.

The size is that of the primary item as stored, without padding, and before a viewer turns it. The file is
whole when it holds every byte that the primary item needs, wherever its boxes are; a tail is left alone.
Colour profiles and other properties are passed over, not read.
"""

from collections.abc import Iterator
from struct import iter_unpack, unpack, unpack_from
from typing import NamedTuple

from receiver.errors import FetchFailed
from receiver.fetching.formats import MAX_FRAMES, Bytes, Frames, malformed
from receiver.models import Outcome

MAX_TABLE_BYTES = 1 << 17  # of one table of items, references or samples; honest ones have a few hundred
MAX_EXTENTS = 1 << 14  # of all items; one of no bytes would cost a file nothing

_SEQUENCES = frozenset({b"avis", b"hevc", b"hevx", b"msf1"})  # brands whose tracks are shown, too
_FILM = frozenset({b"moov", b"mdat"})
_FILM_BOXES = frozenset({b"moov", b"mdat", b"moof", b"mfra", b"sidx", b"meta", b"uuid", b"free", b"skip"})
_SINGLE = frozenset({b"pitm", b"iloc", b"iprp", b"iref", b"idat"})


class Box(NamedTuple):
    """A box by its type, and where its content lies."""

    name: bytes
    start: int
    end: int


class Extent(NamedTuple):
    """A piece of an item: of the file, or of the description's own ``idat`` box."""

    method: int
    offset: int
    length: int


def boxes(data: Bytes, parent: Box | None = None) -> Iterator[Box]:
    """The boxes in ``parent``, or the outermost ones. One that ends beyond the file is a truncated file."""
    offset, end = (parent.start, parent.end) if parent else (0, data.size)
    while offset < end:
        length, name = unpack(">I4s", data.at(offset, 8))
        body = offset + 8
        if length == 1:
            length, body = int.from_bytes(data.at(body, 8), "big"), body + 8
        elif length == 0:
            length = end - offset
        if offset + length < body:
            raise malformed("a box is shorter than its header")
        if parent and offset + length > end:
            raise malformed("a box is longer than what holds it")
        data.at(offset + length, 0)
        yield Box(name, body, offset + length)
        offset += length


def check_film(data: Bytes) -> None:
    """A film or a recording needs its index and its content; what is no box behind them is a tail."""
    seen, end = set(), 0
    try:
        for box in boxes(data):
            seen.add(box.name)
            end = box.end
    except FetchFailed:
        if not seen >= _FILM or data.some(end + 4, 4) in _FILM_BOXES:
            raise
    if not seen >= _FILM:
        raise FetchFailed(Outcome.TRUNCATED, "the file ends before its index or its content")


def image_frames(data: Bytes) -> Frames:
    """The sizes of an AVIF or HEIC: the primary image's, then those of its parts, thumbnails and frames."""
    outer = _outer_boxes(data)
    meta = outer[b"meta"]
    inner: dict[bytes, Box] = {}
    for box in boxes(data, meta._replace(start=meta.start + 4)):
        if box.name in inner and box.name in _SINGLE:
            raise malformed(f"it has two {_text(box.name)} boxes")
        inner.setdefault(box.name, box)
    table = _Table(data, _needed(inner, b"pitm"))
    primary = table.number(4 if table.version else 2)
    yield from _sizes(data, _needed(inner, b"iprp"), primary)
    # Every extent that the primary image needs must lie within the file.
    extents = _extents(_Table(data, _needed(inner, b"iloc")))
    idat = inner.get(b"idat", Box(b"idat", 0, 0))
    if not any(extent.length for extent in extents.get(primary, ())):
        raise malformed("its image has no data")
    needed = [extent for item in _items_of(data, inner, primary) for extent in extents.get(item, ())]
    for method, offset, length in needed:
        if method == 0:
            data.at(offset + length, 0)
        elif method > 1 or offset + length > idat.end - idat.start:
            raise malformed("a part of its image is nowhere")
    if b"moov" in outer:
        yield from _sequence_frames(data, outer[b"moov"])


def _outer_boxes(data: Bytes) -> dict[bytes, Box]:
    """The description, and where there are moving pictures their index. Nothing behind them matters."""
    found: dict[bytes, Box] = {}
    wanted = {b"ftyp", b"meta"}
    for box in boxes(data):
        found.setdefault(box.name, box)
        if box.name == b"ftyp":
            body = data.some(box.start, min(box.end - box.start, 512))
            brands = {body[place : place + 4] for place in (0, *range(8, len(body), 4))}
            if _SEQUENCES & brands:
                wanted.add(b"moov")
        if wanted <= found.keys():
            return {name: found[name] for name in wanted}
    raise malformed(f"it has no {_text(min(wanted - found.keys()))} box")


def _needed(found: dict[bytes, Box], name: bytes) -> Box:
    if name not in found:
        raise malformed(f"its description has no {_text(name)} box")
    return found[name]


def _text(name: bytes) -> str:
    return name.decode("latin-1")


class _Table:
    """The content of one box, read number by number."""

    def __init__(self, data: Bytes, box: Box) -> None:
        if box.end - box.start > MAX_TABLE_BYTES:
            raise malformed(f"its {_text(box.name)} box is too long")
        self._body = data.at(box.start, box.end - box.start)
        self.offset = 0
        head = self.number(4)
        self.version, self.flags = head >> 24, head & 0xFFFFFF

    def number(self, size: int) -> int:
        end = self.offset + size
        if end > len(self._body):
            raise malformed("a table is longer than its box")
        value = int.from_bytes(self._body[self.offset : end], "big")
        self.offset = end
        return value

    def numbers(self, size: int, count: int) -> list[int]:
        """Of two, four or eight bytes each."""
        body = self._body[self.offset : self.offset + size * count]
        if len(body) < size * count:
            raise malformed("a table is longer than its box")
        self.offset += size * count
        return [value for (value,) in iter_unpack({2: ">H", 4: ">I", 8: ">Q"}[size], body)]

    @property
    def has_more(self) -> bool:
        return self.offset < len(self._body)


def _sizes(data: Bytes, iprp: Box, item: int) -> Frames:
    """The item's own size, then each that is among the properties."""
    sizes: dict[int, tuple[int, int]] = {}
    crops: dict[int, tuple[int, int]] = {}
    associated: set[int] = set()
    table_bytes = 0
    for box in boxes(data, iprp):
        if box.name == b"ipco":
            _read_properties(data, box, sizes, crops)
        elif box.name == b"ipma":
            table_bytes += box.end - box.start
            if table_bytes > MAX_TABLE_BYTES:
                raise malformed("its tables of properties are too long")
            associated |= _associations(_Table(data, box), item)
    claimed = [sizes[number] for number in associated & sizes.keys()]
    if len(set(claimed)) != 1:
        raise malformed("its image has no size in pixels, or several")
    # Coders that work in blocks pad what they store; viewers pass over a crop that does not fit.
    width, height = claimed[0]
    cropped = (crops[number] for number in associated & crops.keys())
    yield next((crop for crop in cropped if 0 < crop[0] <= width and 0 < crop[1] <= height), claimed[0])
    yield from sizes.values()


def _read_properties(
    data: Bytes, ipco: Box, sizes: dict[int, tuple[int, int]], crops: dict[int, tuple[int, int]]
) -> None:
    for number, box in enumerate(boxes(data, ipco), 1):
        if box.name == b"ispe":
            sizes[number] = unpack(">II", data.at(box.start + 4, 8))
        elif box.name == b"clap":
            width, width_parts, height, height_parts = unpack(">IIII", data.at(box.start, 16))
            crops[number] = (width // max(1, width_parts), height // max(1, height_parts))


def _associations(table: _Table, item: int) -> set[int]:
    found: set[int] = set()
    id_bytes, index_bytes = (4 if table.version else 2), (2 if table.flags & 1 else 1)
    essential = 1 << (8 * index_bytes - 1)
    for _ in range(table.number(4)):
        number = table.number(id_bytes)
        count = table.number(1)
        if number == item:
            found |= {table.number(index_bytes) & ~essential for _ in range(count)}
        else:
            table.offset += index_bytes * count
    return found


def _extents(table: _Table) -> dict[int, list[Extent]]:
    sizes = table.number(2)
    offset_bytes, length_bytes, base_bytes, index_bytes = (sizes >> shift & 15 for shift in (12, 8, 4, 0))
    wide = table.version == 2
    found: dict[int, list[Extent]] = {}
    count = 0
    for _ in range(table.number(4 if wide else 2)):
        item = table.number(4 if wide else 2)
        method = table.number(2) & 15 if table.version else 0
        table.number(2)  # the file that it is in: always this one
        base = table.number(base_bytes)
        many = table.number(2)
        count += many
        if count > MAX_EXTENTS:
            raise malformed("its parts are too many")
        for _ in range(many):
            table.number(index_bytes if table.version else 0)
            extent = Extent(method, base + table.number(offset_bytes), table.number(length_bytes))
            found.setdefault(item, []).append(extent)
    return found


def _items_of(data: Bytes, inner: dict[bytes, Box], primary: int) -> set[int]:
    """The primary item, what it is put together from, and what belongs to either: transparency, metadata.

    Thumbnails and further images do not count: nobody misses them.
    """
    needs: dict[int, list[int]] = {}
    if b"iref" in inner:
        table = _Table(data, inner[b"iref"])
        size = 4 if table.version else 2
        while table.has_more:
            end = table.offset + table.number(4)
            name = table.number(4).to_bytes(4, "big")
            source, targets = table.number(size), table.numbers(size, table.number(2))
            if table.offset != end:
                raise malformed("a reference is not of the length it claims")
            if name == b"dimg":
                needs.setdefault(source, []).extend(targets)
            elif name in (b"auxl", b"cdsc"):
                for target in targets:
                    needs.setdefault(target, []).append(source)
    found, waiting = {primary}, [primary]
    while waiting:
        fresh = [item for item in needs.pop(waiting.pop(), ()) if item not in found]
        found.update(fresh)
        waiting += fresh
    return found


def _sequence_frames(data: Bytes, moov: Box) -> Frames:
    """The size of every frame of an image sequence, all of whose samples must lie within the file."""
    frames, size = 0, None
    for track in boxes(data, moov):
        if track.name == b"trak":
            box = track
            for name in (b"mdia", b"minf", b"stbl"):
                box = _needed({inner.name: inner for inner in boxes(data, box)}, name)
            tables = {inner.name: inner for inner in boxes(data, box)}
            entry = data.at(
                _needed(tables, b"stsd").start + 8, 36
            )  # a visual sample, behind version and count
            size = unpack_from(">HH", entry, 32)
            yield size
            table = _Table(data, _needed(tables, b"stsz"))
            length, count = table.number(4), table.number(4)
            if count > MAX_FRAMES:
                raise FetchFailed(Outcome.TOO_MANY_PIXELS, f"more than {MAX_FRAMES} frames")
            _check_samples(data, tables, [length] * count if length else table.numbers(4, count))
            frames = max(frames, count)
    if not frames or size is None:
        raise malformed("it has no frames")
    yield from [size] * (frames - 1)


def _check_samples(data: Bytes, tables: dict[bytes, Box], samples: list[int]) -> None:
    wide = b"co64" in tables
    table = _Table(data, _needed(tables, b"co64" if wide else b"stco"))
    chunks = table.numbers(8 if wide else 4, table.number(4))
    table = _Table(data, _needed(tables, b"stsc"))
    numbers = table.numbers(4, 3 * table.number(4))  # of each run: its first chunk, samples in each, a note
    runs = list(zip(numbers[::3], numbers[1::3], strict=True))
    done = 0
    for number, start in enumerate(chunks, 1):
        while len(runs) > 1 and runs[1][0] <= number:
            runs.pop(0)
        many = runs[0][1] if runs else 0
        data.at(start + sum(samples[done : done + many]), 0)
        done += many
    if done < len(samples):
        raise malformed("some of its frames are nowhere")
