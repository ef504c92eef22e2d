"""How well written music is read, compared with independent readers of the same files.

    python benchmarks/reading.py [--json] [--tunes N] [--list]

`abc_same`: ABC tunes of music21's corpus (all collections, or N of them spread evenly) read by us and played by
abc2midi (Debian's package `abcmidi`; without it there is no row): the share in which notes, bar lines and upbeat are
the same.
- Notes: the same pitches, each within a grid tick of where abc2midi strikes it, tied ones struck once. Grace notes,
  ornaments, staccato, fermatas, guitar chords and the swing of hornpipes are switched off over there.
- Bar lines: abc2midi is made to say where it passes each, by a controller before every bar line of the text. Ours
  must be among these, but for music of two bars and more without a bar line, and all of these among ours, but for
  the ones in mid-bar (a repeat sign, a double bar) between two bar lines that are a whole bar apart. The upbeat is
  what comes before the first.
The peer is lytk's reader, translated to MusicXML and played by our own walk through repeats, judged in the same way.
`abc_seconds`: CPU seconds that a tune takes to read.

`midi_same`: the Open Hymnal's MIDI files: the share in which keys and onsets are those that mido finds, and bar lines
and upbeat those of most of its voices. abc2midi, which wrote them, puts metre and upbeat both at tick 0, but strikes
the first note of each bar loudest, voice by voice (`shared/midi_bars.py`). The peer is the file at its word.
`midi_upbeats` and `midi_no_upbeat_kept`: of the files with an upbeat by that stress, and of those without, the share
in which we hear the same first bar. `..._flat`: the same files, all notes made equally loud, as LilyPond writes them;
`..._notated`: chorales, whose upbeats their notation tells, written that way; `midi_written_upbeats_kept`: the same
with the upbeat as a bar of its own, MuseScore's way.

--list prints each piece that differs, with how; the page names them all, the tunes by their reasons.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from tqdm import tqdm

from plagal.corpus.sources import music21_folder
from plagal.music.barlines import with_heard_bars
from plagal.music.grid import bar_lines, regular
from plagal.music.load import load
from plagal.music.midi import read_midi
from plagal.music.notation import read_text, score_from_abc, split_tunes
from plagal.music.notation.musicxml import score_from_musicxml
from plagal.music.score import DURATION, HIGHEST_PITCH, LOWEST_PITCH, ONSET, PITCH, TICKS_PER_QUARTER, Score
from plagal.plumbing.errors import AbcError, PlagalError
from shared.midi_bars import agrees, flat, lines_of, notated, same_notes, stressed, upbeat_of, with_own_upbeat
from shared.places import hymns
from shared.rows import Row, finish, parser, row

EVERY_CHORALE = 3
BAR_CONTROLLER = 20
SILENT = "C,,,,"
"""Stands for rests: abc2midi writes a controller after a rest at the rest's beginning."""
_SIGNS = re.compile(
    r"""(?P<kept>"[^"]*"|\[[A-Za-z]:[^\]]*\]|\{[^}]*\})
    | (?P<ornament>![^!\s]*!|[~HLMOPST]|\.(?=[\[("{!~.HLMPTuv^_=A-Ga-gz]))
    | (?P<rest>[zx])
    | (?P<bar>(?:\[(?=\|)|:(?=[|:])|\|)[|:\]]*)""",
    re.VERBOSE,
)

_JUMP = re.compile(r'"[^"|]*(?<![a-z])(D\.? ?[CS](?![a-z])|Fine|Coda)[^"|]*"|![^!|]*D\.[CS][^!|]*!', re.IGNORECASE)
"""abc2midi plays no da capo: its words are taken away for both."""

_TIE_OVER = re.compile(r"-(?=\s*:?\|)")

REASONS = (
    ("unread|abc2midi plays nothing", r"^(?!.*^K:)", "no K: field, or no bar that abc2midi recognises"),
    ("notes", r"\[V:|^V:", "two voices, of which abc2midi repeats only one"),
    ("notes", r"\n\s*\n\s*\S", "a blank line, which ends a tune in the standard but not in abc2midi"),
    ("notes", r"\|:\|", "the sign |:|, which ends a repeat for us but not for abc2midi"),
    (
        "notes",
        r":\|\s*\[?2[^:]*:\||\[?2[^:]*::",
        "a second ending that a repeat sign closes: abc2midi plays it a third time",
    ),
    ("onsets", r"\([579]", "tuplets of five, seven and nine, which abc2midi takes for compound in 3/4"),
    ("bar lines", r"^M:\s*[45]/1", "bars of more than twelve quarters, which words split"),
)
"""What explains a difference of the first kind in a tune that holds the second; the first that fits counts."""

Played = tuple[list[tuple[int, int, int]], set[int]]
"""Notes as (pitch, onset, duration) and bar lines, in our ticks."""


_UNTITLED = "ryansMammoth"
"""Some titles of this collection, and so its files' names, are racist: its files are named by their place."""


def tunes(count: int) -> list[tuple[str, str]]:
    """(name, text) of the tunes of music21's collections, `count` of them spread evenly; 0: all."""
    found = []
    place_in: Counter[Path] = Counter()
    for file in sorted(music21_folder().glob("*/*.abc")):
        place_in[file.parent] += 1
        texts = split_tunes(read_text(file))
        named = file.name if file.parent.name != _UNTITLED else f"file {place_in[file.parent]}"
        name = f"{file.parent.name}/{named}"
        found += [(f"{name}#{number}", _JUMP.sub("", text)) for number, text in enumerate(texts, 1)]
    return found[:: max(1, len(found) // count)] if count else found


def begun(text: str) -> str:
    """The tune with a "|:" where the standard has a repeat begin that has no sign of its own (ABC 2.1, 4.8: at the
    latest double bar). abc2midi goes back further; music in several voices is left as it is."""
    if re.search(r"^V:|\[V:", text, re.MULTILINE):
        return text
    head, key, body = text.partition("\nK:")
    place, opened, in_ending, added = -1, False, False, []
    for sign in _SIGNS.finditer(body):
        bar = (sign["bar"] or "").replace("[", "").replace("]", "|")
        ends = ":|" in bar or bar.startswith("::")
        if ends and place >= 0 and not opened and not in_ending:
            added.append(place)
        if ends or "||" in bar:
            place, opened = sign.end(), opened and not (ends or in_ending)
            in_ending = ends and bool(re.match(r"\s*\[?[2-9]", body[place:]))
        if bar.endswith(":") and bar != ":":
            opened = True
    for place in reversed(added):
        body = f"{body[:place]} |:{body[place:]}"
    return head + key + body


def marked(text: str) -> str:
    """The tune as abc2midi gets it: with a controller before each bar line, without what changes rhythms."""
    lines = []
    for written in begun(text).splitlines():
        line = written
        if line.startswith("X:"):
            line = "X:1"
        elif re.match(r"[A-Za-z]:(?![|:])|%", line):
            if line.startswith("R:"):
                continue
        else:
            line = _SIGNS.sub(plainly, re.sub(r"\s%.*", "", line))
        if line.strip():
            lines.append(line)
    return "\n".join(lines) + "\n\n"


def plainly(sign: re.Match[str]) -> str:
    if sign["bar"]:
        return f"[I:MIDI=control {BAR_CONTROLLER} 1]{sign['bar']}"
    return sign["kept"] or (SILENT if sign["rest"] else "")


def played(text: str, folder: Path) -> Played | None:
    """What abc2midi plays of a tune, alone in its file: from tune to tune it keeps more than it should. None where it
    writes nothing."""
    import mido

    (folder / "tune.abc").write_text(marked(text), encoding="utf-8")
    path = folder / "tune.mid"
    path.unlink(missing_ok=True)
    options = ["-o", "tune.mid", "-quiet", "-silent", "-NFER", "-NGRA", "-NGUI"]
    subprocess.run(["abc2midi", "tune.abc", *options], cwd=folder, capture_output=True, check=False, timeout=60)
    if not path.exists():
        return None
    midi = mido.MidiFile(path, clip=True)
    notes, lines = [], set()
    for track in midi.tracks:
        now, down = 0, {}
        for message in track:
            now += message.time
            if message.type == "control_change" and message.control == BAR_CONTROLLER:
                lines.add(grid(now, midi.ticks_per_beat))
            elif message.type == "note_on" and message.velocity:
                down[message.note] = now - 1  # abc2midi strikes a tick late, so that repeated notes part
            elif message.type in ("note_on", "note_off") and message.note in down:
                begin = grid(down.pop(message.note), midi.ticks_per_beat)
                if LOWEST_PITCH <= message.note <= HIGHEST_PITCH:
                    notes.append((message.note, begin, grid(now, midi.ticks_per_beat) - begin))
    return sorted(notes), lines


def grid(time: int, per_quarter: int) -> int:
    return (2 * TICKS_PER_QUARTER * max(time, 0) + per_quarter) // (2 * per_quarter)


def difference(score: Score, peer: Played | None) -> str:
    """How the two differ, in a few words; empty where they agree."""
    theirs, lines = peer or ([], set())
    theirs = sorted({(pitch, onset): (pitch, onset, length) for pitch, onset, length in theirs}.values())
    ours = sorted((int(note[PITCH]), int(note[ONSET]), int(note[DURATION])) for note in score.notes)
    if not theirs:
        return "abc2midi plays nothing"
    shift = min(onset for _, onset, _ in ours) - min(onset for _, onset, _ in theirs)
    if [pitch for pitch, *_ in ours] != [pitch for pitch, *_ in theirs]:
        return f"notes: {len(ours)} of ours, {len(theirs)} of theirs"
    moved = sum(abs(mine[1] - shift - other[1]) > 1 for mine, other in zip(ours, theirs, strict=True))
    if moved:
        return f"onsets: {moved} of {len(ours)}"
    longer = sum(abs(mine[2] - other[2]) > 1 for mine, other in zip(ours, theirs, strict=True))
    if longer:
        return f"lengths: {longer} of {len(ours)}"
    end = max(onset for _, onset, _ in ours)
    starts, lengths = bar_lines(score.metres, end)
    mine = {int(start) for start in starts if shift < start <= end}
    other = {line + shift for line in lines if 0 < line <= end - shift}
    full, longest = set(lengths.tolist()), int(lengths.max())
    ordered = sorted({0, shift, *other, end + longest})
    for line in mine - other:
        place = bisect_left(ordered, line)
        if ordered[place] - ordered[place - 1] < 2 * min(full):
            return "bar lines: one of ours is not written"
    for before, line, after in zip(ordered, ordered[1:], ordered[2:], strict=False):
        if line in other - mine and not (after - before in full or line - before in full):
            return "bar lines: one of theirs is not ours"
    return ""


def compared(count: int, show: bool, notes: list[str]) -> Iterator[Row]:
    """Rows of ABC; the tunes that differ are put in `notes` by their reasons."""
    chosen = tunes(count)
    readers = {"ours": score_from_abc, "lytk": by_lytk}
    by_reason: dict[str, list[str]] = {}
    named = []
    same, seconds = Counter[str](), Counter[str]()
    with tempfile.TemporaryDirectory() as folder:
        for name, text in tqdm(chosen, unit="tune", disable=None, leave=False):
            # After a tied note abc2midi writes the controller where the note began: bar lines are tried again without.
            untied = _TIE_OVER.sub("", text)
            peer = played(text, Path(folder))
            peer_untied = None if untied == text else played(untied, Path(folder))
            for reader, read in readers.items():
                begun = time.process_time()
                try:
                    score = read(text, name)
                    seconds[reader] += time.process_time() - begun
                    why = difference(score, peer)
                    if why.startswith("bar lines") and peer_untied:
                        why = difference(read(untied, name), peer_untied)
                except PlagalError as error:
                    why = f"unread: {error}"
                same[reader] += not why
                if why and reader == "ours":
                    padded = 0.0 if why.startswith("unread") else score.losses.get("bars_padded", 0)
                    by_reason.setdefault(reason(why, text, padded), []).append(name)
                    named.append(f"{name}: {why}")
    if show:
        print("\n".join(named))
    notes += [f"- {len(names)} tunes, {why}: {', '.join(names)}" for why, names in sorted(by_reason.items())]
    count = len(chosen)
    yield row("abc_same", same["ours"] / count, same["lytk"] / count, f"share of {count} tunes as abc2midi plays them",
              against="lytk", at_least=0.99, judge="ours")  # fmt: skip
    yield row("abc_seconds", seconds["ours"] / count, seconds["lytk"] / count, "CPU s a tune", against="lytk")


def heard_bars(notes: list[str]) -> Iterator[Row]:
    """Rows of MIDI; each hymn that differs is put in `notes`."""
    same, at_their_word = 0, 0
    kept: dict[str, list[bool]] = {"midi_upbeats": [], "midi_no_upbeat_kept": []}
    kept_flat: dict[str, list[bool]] = {name: [] for name in kept}
    files = hymns()
    for path in tqdm(files, unit="file", disable=None, leave=False):
        true, plain, score = stressed(path), read_midi(path), load(path)
        lines = lines_of(score)
        found = Counter(min((line for line in loud if line > 1), default=0) for loud, _ in true.voices)
        first = found.most_common(1)[0][0]
        upbeat = first if first < true.stated_bar else 0
        name = "midi_upbeats" if upbeat else "midi_no_upbeat_kept"
        kept[name].append(upbeat_of(score, true.stated_bar) == upbeat)
        kept_flat[name].append(upbeat_of(regular(with_heard_bars(flat(plain))), true.stated_bar) == upbeat)
        right = [agrees(lines, loud, soft, true.stated_bar) for loud, soft in true.voices]
        wrong = [] if same_notes(score, true.notes) else ["notes differ"]
        if 2 * sum(right) <= len(right):
            shown = f"which show {len(true.voices[0][0])} where we have {len(lines)}"
            wrong.append(f"bar lines of {sum(right)} of {len(right)} voices, {shown}")
        if not kept[name][-1]:
            wrong.append(f"an upbeat of {upbeat_of(score, true.stated_bar)} ticks instead of {upbeat}")
        same += not wrong
        at_their_word += 2 * sum(agrees(lines_of(plain), *voice, true.stated_bar) for voice in true.voices) > len(right)
        if wrong:
            notes.append(f"- `{path.stem}`: {'; '.join(wrong)}")
    yield row("midi_same", same / len(files), at_their_word / len(files), f"share of {len(files)} hymns",
              against="the file at its word", at_least=0.99, judge="ours")  # fmt: skip
    for name, right in kept.items():
        word = 0.0 if name == "midi_upbeats" else 1.0
        yield row(name, sum(right) / len(right), word, f"share of {len(right)} hymns", against="the file at its word",
                  at_least=0.99, judge="ours")  # fmt: skip
    for name, right in kept_flat.items():
        yield row(f"{name}_flat", sum(right) / len(right), unit=f"share of {len(right)} hymns")


def notated_bars() -> Iterator[Row]:
    kept: dict[str, list[bool]] = {"midi_upbeats": [], "midi_no_upbeat_kept": [], "midi_written_upbeats_kept": []}
    for _, score, upbeat in notated(EVERY_CHORALE):
        heard = upbeat_of(regular(with_heard_bars(score)), score.metres[0].bar_ticks)
        kept["midi_upbeats" if upbeat else "midi_no_upbeat_kept"].append(heard == upbeat)
        if upbeat:
            written = regular(with_heard_bars(with_own_upbeat(score, upbeat)))
            kept["midi_written_upbeats_kept"].append(upbeat_of(written, score.metres[0].bar_ticks) == upbeat)
    for name, right in kept.items():
        what = name if "written" in name else f"{name}_notated"
        yield row(what, sum(right) / len(right), unit=f"share of {len(right)} chorales",
                  at_least=1.0 if "written" in name else None)  # fmt: skip


def reason(why: str, text: str, padded: float) -> str:
    if padded and why.startswith("onsets"):
        return "a bar that is not a whole number of 32nds, which a rest fills up"
    for kind, sign, because in REASONS:
        if re.match(kind, why) and re.search(sign, text, re.MULTILINE | re.DOTALL):
            return because
    return f"no common reason: {why.partition(':')[0]}"


def by_lytk(text: str, name: str) -> Score:
    import lytk

    try:
        data = str(lytk.to_musicxml(lytk.from_abc_string(text))).encode()
    except (lytk.LytkError, ValueError) as error:
        raise AbcError(f"{name}: {error}") from None
    return score_from_musicxml(data, name)


def main() -> None:
    wishes = parser(__doc__)
    wishes.add_argument("--tunes", type=int, default=0, help="ABC tunes to compare; all where not given")
    wishes.add_argument("--list", action="store_true", help="name each tune that differs")
    options = wishes.parse_args()

    differing: list[str] = []

    def measure() -> Iterator[Row]:
        if shutil.which("abc2midi"):
            yield from compared(options.tunes, options.list, differing)
        else:
            print("abc_same: abc2midi is not installed (Debian: apt-get install abcmidi)")

        yield from heard_bars(differing) if hymns() else ()
        yield from notated_bars()

    finish("reading", measure(), options.json, notes=lambda: differing)


if __name__ == "__main__":
    main()
