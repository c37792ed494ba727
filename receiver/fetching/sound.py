"""Recordings: which of them the first bytes announce where no magic number does."""

from receiver.fetching.formats import Bytes, check_riff

_LAYER_3 = 1


def is_mp3(head: bytes) -> bool:
    """The header of an MPEG layer III frame, of version 1, 2 or 2.5, with a checksum or without."""
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return False
    version, layer, bitrate, rate = head[1] >> 3 & 3, head[1] >> 1 & 3, head[2] >> 4, head[2] >> 2 & 3
    return version != 1 and layer == _LAYER_3 and bitrate != 15 and rate != 3


def is_aac(data: Bytes, start: int) -> bool:
    """An ADTS frame, and behind it another one or the end."""
    length = _adts_length(data.some(start, 7))
    return bool(length) and (start + length >= data.size or bool(_adts_length(data.some(start + length, 7))))


def _adts_length(head: bytes) -> int:
    """Of the frame that begins so; 0 where none does."""
    if len(head) < 7 or head[0] != 0xFF or head[1] & 0xF6 != 0xF0 or head[2] >> 2 & 15 > 12:
        return 0
    length = (head[3] & 3) << 11 | head[4] << 3 | head[5] >> 5
    return length if length > 7 else 0


def end_of_id3(head: bytes) -> int:
    """Where the tag ends that a recording begins with; 0 where it begins with none."""
    if head[:3] != b"ID3" or len(head) < 10 or not 2 <= head[3] <= 4:
        return 0
    a, b, c, d = head[6:10]
    return 10 + (a << 21 | b << 14 | c << 7 | d) + (10 if head[5] & 0x10 else 0)


def check_wav(data: Bytes) -> None:
    """It goes on as long as its header says, unless that was written before anybody knew."""
    if data.at(0, 4) == b"RIFF":
        if data.at(4, 4) not in (b"\0\0\0\0", b"\xff\xff\xff\xff"):
            check_riff(data)
    elif data.at(12, 4) == b"ds64":
        data.at(8 + int.from_bytes(data.at(20, 8), "little"), 0)
