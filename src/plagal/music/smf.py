"""MIDI bytes as symusic reads them without losing anything: what it would drop in silence is written so that it stays.

Most files pass as they are, but for one thing: each track that strikes keys gets a release of all keys at its end, as
keys still down there are left out otherwise. Files that need more are walked through and written anew:
- RIFF's wrapping is taken off;
- running status goes on after system exclusive messages, though the standard ends it there: that is what was meant;
- All Sound Off and All Notes Off (controllers 120 and 123) release the keys of their channel;
- a pedal in a track or channel that strikes no key goes to the first that does;
- channel 10 within an MPE zone is a voice, not drums;
- a metre whose denominator no metre has is left out and counted [metres_unwritable].
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import chain

from plagal.plumbing.errors import MidiError

_END_OF_TRACK = b"\xff\x2f\x00"
_RELEASES = b"\x00".join(bytes([pitch, 0]) for pitch in range(128))
_EXCLUSIVE = re.compile(rb"[\0-\x7f][\xf0\xf7]([\0-\x7f])")
_ABSURD_METRE = re.compile(rb"\xff\x58..[\x08-\xff]", re.DOTALL)
_SUSTAIN, _ALL_SOUND_OFF, _ALL_NOTES_OFF = 64, 120, 123
_RPN_LOW, _RPN_HIGH, _DATA_ENTRY, _MPE_CONFIGURATION = 100, 101, 6, 6
_DRUM_CHANNEL = 9
_NAME_WITHIN = 4096
"""Bytes of the first track in which its name is looked for: it stands at tick 0, among texts."""
_LARGEST_EXPONENT = 7
"""Of a metre's denominator: 128ths."""

Event = tuple[int, bytes]
"""Ticks from the start, and a whole message with its status."""


def sound_bytes(data: bytes) -> tuple[bytes, Counter[str]]:
    """The same music in bytes that symusic reads whole, and what had to be left out. Raises MidiError for what is no
    MIDI that counts in beats."""
    if data[:4] == b"RIFF" and data[8:12] == b"RMID":
        place = data.find(b"data", 12)
        data = data[place + 8 : place + 8 + int.from_bytes(data[place + 4 : place + 8], "little")]
    if data[:4] != b"MThd":
        raise MidiError(f"begins with {data[:4]!r}, not with b'MThd': no MIDI file")
    if len(data) > 13 and data[12] & 0x80:
        raise MidiError("counts its time in SMPTE frames, not in beats: export it with ticks per quarter note")
    if data[8:10] == b"\0\2":
        raise MidiError("is of type 2, a collection of independent pieces: save each as a file of type 0 or 1")
    losses: Counter[str] = Counter()
    tracks, rest = _tracks(data)
    if _needs_a_walk(data) or any(map(_controls_alone, tracks)):
        walked = _walk(tracks, losses)
        return (_file(data, walked), losses) if walked else (data, losses)
    closed = [_closed(track) for track in tracks]
    if rest or closed == tracks:  # a damaged end is symusic's to judge
        return data, losses
    return _file(data, closed), losses


def _needs_a_walk(data: bytes) -> bool:
    """Whether there is a release of all keys, an absurd denominator, an MPE zone, or a system exclusive message that
    running status goes on after. What looks so by chance, elsewhere in the bytes, only costs the walk."""
    mpe = b"\x65\0" in data and b"\x64\x06" in data
    released = _controls(data, _channels(data, 0xB0), _ALL_SOUND_OFF, _ALL_NOTES_OFF)
    if mpe or released or _ABSURD_METRE.search(data):
        return True
    if b"\xf0" not in data and b"\xf7" not in data:
        return False
    for match in _EXCLUSIVE.finditer(data):
        after = data[match.end() + match[1][0] :][:5].lstrip(bytes(range(0x80, 0x100)))
        before = data[max(0, match.start() - 7) : match.start()]
        by_chance = b"\xff\x51\x03" in before[-4:] or b"MTrk" in before
        if not by_chance and len(after) > 1 and after[1] < 0x80:
            return True
    return False


def sequence_name(data: bytes) -> str:
    """The name in the first track, empty where it has none: readers that drop tracks without notes lose it."""
    tracks, _ = _tracks(data)
    place = tracks[0].find(b"\xff\x03", 0, _NAME_WITHIN) if tracks else -1
    if place < 0:
        return ""
    length, begin = _number(tracks[0] + bytes(4), place + 2)
    name = tracks[0][begin : begin + length]
    try:
        return name.decode("utf-8")
    except UnicodeDecodeError:
        return name.decode("latin-1")


def _tracks(data: bytes) -> tuple[list[bytes], bool]:
    """The bodies of all track chunks, and whether anything else stands between or after them."""
    place = 8 + int.from_bytes(data[4:8], "big")
    tracks, rest = [], False
    while place + 8 <= len(data):
        kind, length = data[place : place + 4], int.from_bytes(data[place + 4 : place + 8], "big")
        if kind == b"MTrk":
            tracks.append(data[place + 8 : place + 8 + length])
        rest |= kind != b"MTrk" or place + 8 + length > len(data)
        place += 8 + length
    return tracks, rest or place != len(data)


def _file(data: bytes, tracks: list[bytes]) -> bytes:
    header = b"MThd" + bytes([0, 0, 0, 6, 0, 1]) + len(tracks).to_bytes(2, "big") + data[12:14]
    return header + b"".join(b"MTrk" + len(track).to_bytes(4, "big") + track for track in tracks)


_ALL_BUT = {kind: bytes(byte for byte in range(256) if byte & 0xF0 != kind) for kind in (0x90, 0xB0)}


def _channels(track: bytes, kind: int) -> list[int]:
    """Those that may have messages of a kind: its status bytes, which may stand elsewhere by chance."""
    return sorted({byte & 15 for byte in track.translate(None, _ALL_BUT[kind])})


def _controls(track: bytes, channels: Iterable[int], *controllers: int) -> bool:
    return any(bytes([0xB0 | channel, number]) in track for channel in channels for number in controllers)


def _controls_alone(track: bytes) -> bool:
    controls = _channels(track, 0xB0)
    return bool(controls) and _controls(track, set(controls) - set(_channels(track, 0x90)), _SUSTAIN)


def _closed(track: bytes) -> bytes:
    """The track with all keys released where it ends."""
    if not track.endswith(_END_OF_TRACK):
        return track
    channels = _channels(track, 0x90)
    # The first release takes the time that stood before the end.
    releases = b"\x00".join(bytes([0x80 | channel]) + _RELEASES for channel in channels)
    return track[:-3] + releases + b"\x00" + _END_OF_TRACK if channels else track


def _walk(tracks: list[bytes], losses: Counter[str]) -> list[bytes] | None:
    """The tracks written anew, one for each channel of each; None where one breaks off, which is symusic's to judge."""
    parts: dict[tuple[int, int], list[Event]] = {}
    ends: dict[int, int] = {}
    for number, track in enumerate(tracks):
        try:
            for time, message in _events(track):
                ends[number] = time
                if message[0] == 0xFF:
                    if message[1] == 0x58 and (message[4] if len(message) > 4 else 0) > _LARGEST_EXPONENT:
                        losses["metres_unwritable"] += 1
                    elif message[1] != 0x2F:
                        parts.setdefault((number, -1), []).append((time, message))
                elif message[0] < 0xF0:
                    parts.setdefault((number, message[0] & 15), []).append((time, message))
        except IndexError:
            return None
    voices = _mpe_voices(chain.from_iterable(parts.values()))
    striking = [place for place, events in parts.items() if place[1] >= 0 and any(map(_strikes, events))]
    for place, events in parts.items():
        if striking and place[1] >= 0 and place not in striking:
            status = bytes([0xB0 | striking[0][1]])
            for time, message in events:
                if message[0] >> 4 == 0xB and message[1] == _SUSTAIN:
                    parts[striking[0]].append((time, status + message[1:]))
    written = []
    for (number, channel), events in sorted(parts.items(), key=lambda part: part[0]):
        moved = 0 if channel == _DRUM_CHANNEL and channel in voices else channel
        names = [event for event in parts.get((number, -1), []) if channel >= 0 and event[1][1] == 0x03]
        in_time = sorted([*names, *events], key=lambda event: event[0])  # a name may stand late in its track
        written.append(_written(in_time, moved, ends[number]))
    return written


def _strikes(event: Event) -> bool:
    return event[1][0] >> 4 == 9 and event[1][2] > 0


def _events(track: bytes) -> Iterator[Event]:
    """All messages of a track. Raises IndexError where it breaks off."""
    place = time = status = 0
    while place < len(track):
        delta, place = _number(track, place)
        time += delta
        first = track[place]
        if first in (0xF0, 0xF7):  # the standard lets running status end here; files that go on mean the old one
            length, place = _number(track, place + 1)
            place += length
        elif first == 0xFF:
            kind = track[place + 1]
            length, begin = _number(track, place + 2)
            place = begin + length
            if place > len(track):
                raise IndexError
            yield time, bytes([0xFF, kind]) + _size(length) + track[begin:place]
            if kind == 0x2F:
                return
        else:
            if first >= 0x80:
                status, place = first, place + 1
            size = 1 if status >> 4 in (0xC, 0xD) else 2
            message = track[place : place + size]
            if status < 0x80 or status >= 0xF0 or len(message) < size or max(message) > 127:
                raise IndexError
            place += size
            yield time, bytes([status]) + message


def _number(data: bytes, place: int) -> tuple[int, int]:
    """A number of variable length, and where it ends."""
    value = 0
    for place in range(place, place + 4):  # noqa: B020
        value = value << 7 | data[place] & 0x7F
        if data[place] < 0x80:
            return value, place + 1
    raise IndexError


def _size(value: int) -> bytes:
    parts = [value & 0x7F]
    while value := value >> 7:
        parts.append(value & 0x7F | 0x80)
    return bytes(reversed(parts))


def _mpe_voices(events: Iterator[Event]) -> set[int]:
    """The channels that MPE's configuration makes voices: the lower zone's master is channel 1, the upper's 16."""
    voices: set[int] = set()
    parameter: dict[int, tuple[int, int]] = {}
    for _, message in events:
        if message[0] in (0xB0, 0xBF):
            channel = message[0] & 15
            high, low = parameter.get(channel, (127, 127))
            if message[1] == _RPN_HIGH:
                parameter[channel] = (message[2], low)
            elif message[1] == _RPN_LOW:
                parameter[channel] = (high, message[2])
            elif message[1] == _DATA_ENTRY and (high, low) == (0, _MPE_CONFIGURATION):
                zone = range(1, 1 + message[2]) if channel == 0 else range(15 - message[2], 15)
                voices = (voices - set(range(1, 15))) | set(zone) if message[2] else voices - set(zone)
    return voices


def _written(events: list[Event], channel: int, end: int) -> bytes:
    """One track on one channel, every key that is down released where all are, or at the end."""
    out: list[Event] = []
    down = Counter[int]()

    def release(time: int) -> None:
        out.extend((time, bytes([0x80 | channel, pitch, 0])) for pitch in down.elements())
        down.clear()

    for time, message in events:
        kind = message[0] >> 4
        if kind == 0xB and message[1] in (_ALL_SOUND_OFF, _ALL_NOTES_OFF):
            release(time)
            continue
        if _strikes((time, message)):
            down[message[1]] += 1
        elif kind in (8, 9) and down[message[1]]:
            down[message[1]] -= 1
        out.append((time, message if message[0] == 0xFF else bytes([kind << 4 | channel]) + message[1:]))
    last = max(end, events[-1][0])
    release(last)
    times = [0, *(time for time, _ in out)]
    spans = [
        (after - before, message) for before, (after, message) in zip(times, [*out, (last, _END_OF_TRACK)], strict=True)
    ]
    return b"".join(_size(ticks) + message for ticks, message in spans)
