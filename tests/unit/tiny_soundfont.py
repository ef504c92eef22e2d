"""A SoundFont of a few kilobytes, made on the spot."""

from __future__ import annotations

import struct

import numpy as np


def sine_soundfont() -> bytes:
    """The smallest SoundFont that plays: one preset, one instrument, a looped sine."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return name + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)

    def part(kind: bytes, *chunks: bytes) -> bytes:
        return chunk(b"LIST", kind + b"".join(chunks))

    def name(text: str) -> bytes:
        return text.encode().ljust(20, b"\0")

    period, periods = 100, 40  # 441 Hz at 44,100
    sine = (8000 * np.sin(2 * np.pi * np.arange(period * periods) / period)).astype("<i2").tobytes()
    samples = sine + bytes(92)
    sample_end, root_key, loops, sample_id, instrument_id = len(sine) // 2, 69, 54, 53, 41
    header = struct.pack("<IIIIIBbHH", 0, sample_end, period, sample_end - period, 44_100, root_key, 0, 0, 1)
    preset = (b"phdr", struct.pack("<20sHHHIII", name("sine"), 0, 0, 0, 0, 0, 0)
              + struct.pack("<20sHHHIII", name("EOP"), 0, 0, 1, 0, 0, 0))  # fmt: skip
    tables = [
        preset,
        (b"pbag", struct.pack("<HHHH", 0, 0, 1, 0)),
        (b"pmod", bytes(10)),
        (b"pgen", struct.pack("<HHHH", instrument_id, 0, 0, 0)),
        (b"inst", struct.pack("<20sH20sH", name("sine"), 0, name("EOI"), 1)),
        (b"ibag", struct.pack("<HHHH", 0, 0, 2, 0)),
        (b"imod", bytes(10)),
        (b"igen", struct.pack("<HHHHHH", loops, 1, sample_id, 0, 0, 0)),
        (b"shdr", name("sine") + header + name("EOS") + bytes(26)),
    ]
    info = part(b"INFO", chunk(b"ifil", struct.pack("<HH", 2, 1)), chunk(b"isng", b"EMU8000\0"), chunk(b"INAM", b"s\0"))
    body = info + part(b"sdta", chunk(b"smpl", samples)) + part(b"pdta", *(chunk(*table) for table in tables))
    return chunk(b"RIFF", b"sfbk" + body)
