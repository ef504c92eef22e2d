"""Archives that nobody should trust, each made here. All but those that are refused whole also hold `fine/good.mid`."""

from __future__ import annotations

import bz2
import gzip
import io
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable
from functools import partial

GOOD = "fine/good.mid"
LEAVING = (
    "../out.mid", "fine/../../out.mid", "/plagal-out.mid", "//plagal-out.mid", "C:\\plagal-out.mid", "C:plagal-out.mid",
    "..\\out.mid", "fine\\..\\..\\out.mid", "\\\\host\\share\\out.mid", "./../out.mid", "fine/..", "..", "file:///plagal-out.mid",
)  # fmt: skip
ODD = ("a" * 60_000 + ".mid", "a/" * 5_000 + "a.mid", "a" * 255 + ".mid", "\x1b[2J.mid", "a\nb.mid", "-rf.mid",
       "$(touch plagal-was-here).mid", "; touch plagal-was-here;.mid", "`id`.mid", ".mid", " .mid", "CON.mid",
       "nul.mid", "\u202edim.mid", "é.mid", "é.mid")  # fmt: skip
TEMPORARY = "/tmp"  # noqa: S108  (where links lead)


def good() -> bytes:
    """A piece long enough for the corpus."""
    from plagal.music.arranger.arrange import arrange
    from plagal.music.midi import to_midi_bytes

    return to_midi_bytes(arrange("amazing_grace", "traditional_gospel", seed=3))


def _zip(members: Iterable[tuple[str | zipfile.ZipInfo, bytes]], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", method, strict_timestamps=False) as archive:
        for name, data in [(GOOD, good()), *members]:
            info = name if isinstance(name, zipfile.ZipInfo) else zipfile.ZipInfo(name)
            info.filename = name.filename if isinstance(name, zipfile.ZipInfo) else name  # as it is: "\\" and NUL too
            archive.writestr(info, data, method)
    return held.getvalue()


def _linked(name: str, mode: int) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.create_system, info.external_attr = 3, (mode | 0o644) << 16
    return info


def _tar(members: Iterable[tuple[tarfile.TarInfo, bytes]], form: int = tarfile.PAX_FORMAT, packed: str = "") -> bytes:
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode="w", format=form) as archive:
        for info, data in [(_entry(GOOD), good()), *members]:
            info.size = len(data) if data or not info.size else info.size
            archive.addfile(info, io.BytesIO(data) if info.isreg() else None)
    return {"": bytes, "gz": partial(gzip.compress, mtime=0), "bz2": bz2.compress}[packed](held.getvalue())


def _entry(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


def _files(names: Iterable[str]) -> list[tuple[tarfile.TarInfo, bytes]]:
    return [(_entry(name), b"MThd") for name in names]


def _zip_with_sizes(stated: int) -> bytes:
    """The last member states another size unpacked than it has."""
    data = bytearray(_zip([("lies.mid", bytes(1_000_000))]))
    place = data.rindex(b"PK\1\2")
    data[place + 24 : place + 28] = struct.pack("<I", stated)
    return bytes(data)


def _nested() -> bytes:
    inner = _zip([("bomb.mid", bytes(20_000_000))])
    for _ in range(4):
        inner = _zip([("inner.zip", inner), ("inner.mid", inner)])
    return inner


def _overlapping(members: int) -> bytes:
    """Every entry of the directory points at the same member of 15 MB: half a MB that unpacks to gigabytes."""
    data = _zip([("a000000.mid", bytes(15_000_000))])
    start = data.rindex(b"PK\1\2", 0, data.rindex(b"PK\5\6"))
    end = data.rindex(b"PK\5\6")
    record = data[start:end]
    directory = b"".join(record.replace(b"a000000", b"a%06d" % number) for number in range(members))
    first = data.index(b"PK\1\2")
    tail = struct.pack("<4sHHHHIIH", b"PK\5\6", 0, 0, members, members, len(directory), first, 0)
    return data[:first] + directory + tail


def _header_of(size: int) -> bytes:
    """A pax header of so many bytes, all alike, behind gzip."""
    info = _entry("pax", tarfile.XHDTYPE)
    info.size = size
    pack = zlib.compressobj(9, zlib.DEFLATED, 31)
    head = pack.compress(info.tobuf(tarfile.USTAR_FORMAT))
    return head + b"".join(pack.compress(bytes(1 << 20)) for _ in range(size >> 20)) + pack.flush()


def _endless_tar(size: int) -> bytes:
    """A member of zeros that nobody wants, behind gzip."""
    info = _entry("zeros.bin")
    info.size = size
    pack = zlib.compressobj(9, zlib.DEFLATED, 31)
    head = pack.compress(info.tobuf(tarfile.USTAR_FORMAT))
    return head + b"".join(pack.compress(bytes(1 << 20)) for _ in range(size >> 20)) + pack.flush()


def _sparse() -> bytes:
    info = _entry("sparse.mid")
    info.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "sparse.mid",
                        "GNU.sparse.realsize": str(1 << 40)}  # fmt: skip
    return _tar([(info, b"1\n1099511627775\n1\n" + bytes(494) + b"x")])


_LINKS = [
    (_linked("link.mid", 0o120000), b"/etc/hostname"), (_linked("up.mid", 0o120000), b"../../.."),
    (_linked("pipe.mid", 0o010000), b""), (_linked("device.mid", 0o020000), b""),
    (_linked("folder.mid", 0o120000), TEMPORARY.encode()), ("folder.mid/plagal-out.mid", b"MThd"),
]  # fmt: skip
_TAR_LINKS = [(_entry(name, kind, link), b"") for name, kind, link in (
    ("link.mid", tarfile.SYMTYPE, "/etc/hostname"), ("hard.mid", tarfile.LNKTYPE, "/etc/hostname"),
    ("good-again.mid", tarfile.LNKTYPE, GOOD), ("folder.mid", tarfile.SYMTYPE, TEMPORARY),
    ("up.mid", tarfile.SYMTYPE, ".."), ("loop.mid", tarfile.SYMTYPE, "loop.mid"))]  # fmt: skip
_TAR_LINKS.append((_entry("folder.mid/plagal-out.mid"), b"MThd"))
_TAR_DEVICES = [(_entry(name, kind), b"") for name, kind in (
    ("null.mid", tarfile.CHRTYPE), ("disk.mid", tarfile.BLKTYPE), ("pipe.mid", tarfile.FIFOTYPE),
    ("strange.mid", b"Z"), ("folder.mid", tarfile.DIRTYPE))]  # fmt: skip
_TWICE = (GOOD, GOOD, "a.mid", "a.mid", "A.mid", "a.mid/b.mid", "b.mid/c.mid", "b.mid", "./a.mid", "fine//good.mid")

HOSTILE: dict[str, Callable[[], bytes]] = {
    "zip: names that leave the folder": lambda: _zip([(name, b"MThd") for name in LEAVING]),
    "tar: names that leave the folder": lambda: _tar(_files(LEAVING)),
    "tar of GNU: names that leave the folder": lambda: _tar(_files(LEAVING), tarfile.GNU_FORMAT, "gz"),
    "zip: links and devices": lambda: _zip(_LINKS),
    "tar: links": lambda: _tar(_TAR_LINKS),
    "tar: links, packed": lambda: _tar(_TAR_LINKS, tarfile.GNU_FORMAT, "bz2"),
    "tar: devices and pipes": lambda: _tar(_TAR_DEVICES),
    "zip: huge and odd names": lambda: _zip([(name, b"MThd") for name in ODD]),
    "tar: huge and odd names": lambda: _tar(_files(ODD)),
    "tar: names that are no text": lambda: _tar(_files(["\udcff\udcfe.mid", "../\udcff.mid"]), tarfile.GNU_FORMAT),
    "zip: names that stand twice": lambda: _zip([(name, b"MThd") for name in _TWICE]),
    "tar: names that stand twice": lambda: _tar(_files(_TWICE)),
    "zip: members of 20 and 200 MB": lambda: _zip([("bomb.mid", bytes(20_000_000)), ("bomb.bin", bytes(200_000_000))]),
    "zip: 2,000 members of 15 MB in one place": lambda: _overlapping(2000),
    "zip: zips in zips in zips": _nested,
    "zip: 70,000 members": lambda: _zip([(f"{n:x}.txt", b"") for n in range(70_000)], zipfile.ZIP_STORED),
    "zip: stated smaller than it is": lambda: _zip_with_sizes(100),
    "zip: stated larger than it is": lambda: _zip_with_sizes(0xFFFFFFF0),
    "tar: 600 MB of zeros behind gzip": lambda: _endless_tar(600 << 20),
    "tar: a header of 600 MB behind gzip": lambda: _header_of(600 << 20),
    "tar: a hole of a terabyte": _sparse,
    "zip: cut short": lambda: _zip([])[:-30],
    "tar: cut short": lambda: _tar([], packed="gz")[:-30],
    "zip: damaged inside": lambda: _damaged(_zip([]), 200),
    "tar: damaged inside": lambda: _damaged(_tar([], packed="gz"), 200),
    "neither": lambda: b"noise" * 500,
}  # fmt: skip
SLOW = ("zip: members of 20 and 200 MB", "zip: 70,000 members", "tar: 600 MB of zeros behind gzip",
        "tar: a header of 600 MB behind gzip", "zip: zips in zips in zips")  # fmt: skip


def _damaged(data: bytes, place: int) -> bytes:
    return data[:place] + bytes(byte ^ 0x55 for byte in data[place : place + 40]) + data[place + 40 :]
