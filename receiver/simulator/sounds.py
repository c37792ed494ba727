"""Sounds made from a task id: always the same for the same id. Every player takes them."""

import hashlib
import io
import math
import struct
import wave

SECONDS = 3
RATE = 8_000  # samples a second of a WAV


def mp3(name: str) -> bytes:
    """Silence, titled with ``name``: frames without data, which any decoder plays as nothing."""
    header = b"\xff\xfb\x10\xc0"  # MPEG-1 layer III, 32 kbit/s, 44.1 kHz, mono
    frame = header.ljust(144 * 32_000 // 44_100, b"\0")
    # The title is an ID3v2.3 tag, whose size is written in groups of seven bits.
    text = b"\0" + name.encode("latin-1", "replace")
    title = b"TIT2" + struct.pack(">IH", len(text), 0) + text
    size = bytes(len(title) >> shift & 0x7F for shift in (21, 14, 7, 0))
    return b"ID3\x03\0\0" + size + title + frame * math.ceil(SECONDS * 44_100 / 1_152)


def wav(name: str) -> bytes:
    """A tone whose height comes from ``name``."""
    step = math.tau * (220 + hashlib.sha256(name.encode()).digest()[0] * 2) / RATE
    samples = (round(8_000 * math.sin(step * n)) for n in range(SECONDS * RATE))
    content = io.BytesIO()
    with wave.open(content, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(b"".join(struct.pack("<h", sample) for sample in samples))
    return content.getvalue()


def midi(name: str) -> bytes:
    """Eight notes from ``name``, as a Standard MIDI File of one track."""
    notes = (60 + byte % 12 for byte in hashlib.sha256(name.encode()).digest()[:8])
    events = b"".join(bytes((0, 0x90, note, 96, 48, 0x80, note, 0)) for note in notes) + b"\0\xff\x2f\0"
    return struct.pack(">4sIHHH4sI", b"MThd", 6, 0, 1, 96, b"MTrk", len(events)) + events
