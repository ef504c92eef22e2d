"""Which tracks of a band file are the piano, whose hands they are, and what two hands play where none is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import symusic

from plagal.corpus.reading import Discard, Limits, Piece, read_candidate
from plagal.corpus.sources import FolderSource, folder_candidates
from plagal.music.hands import reduced, unplayable
from plagal.music.load import load

MELODY, RIGHT, LEFT, BASS = (76, 74, 72, 71), (60, 64, 67, 65), (48, 43, 45, 41), (36, 31, 33, 29)


def band(folder: Path, *tracks: tuple[str, int, Sequence[int]], drums: bool = False) -> Path:
    """A file of tracks (name, program, pitches in quarters), sixteen bars long."""
    score = symusic.Score(480)
    score.tempos.append(symusic.Tempo(0, 100.0))
    for name, program, pitches in tracks:
        track = symusic.Track(name=name, program=program, is_drum=False)
        for number in range(64):
            track.notes.append(symusic.Note(number * 480, 480, pitches[number % 4] + number // 4 % 3, 80))
        score.tracks.append(track)
    if drums:
        score.tracks.append(symusic.Track("Drums", 0, True, notes=[symusic.Note(0, 480, 36, 80)]))
    path = folder / "band.mid"
    path.write_bytes(score.dumps_midi())
    return path


def first_bar(path: Path) -> set[int]:
    score = load(path)
    return set(score.notes[score.notes[:, 0] < 96, 1].tolist())


@pytest.mark.parametrize(
    ("tracks", "kept"),
    [
        # The piano alone, whatever else plays.
        ((("Strings", 48, MELODY), ("Piano", 0, RIGHT), ("Bass", 33, BASS)), RIGHT),
        # A piano's program without a name.
        ((("", 48, MELODY), ("", 4, RIGHT)), RIGHT),
        # A name, where the program says nothing.
        ((("Keys", 90, RIGHT), ("Guitar", 27, LEFT)), RIGHT),
        # A voice played by a piano sound is a voice where another track is the piano.
        ((("MELODY", 0, MELODY), ("PIANO", 0, RIGHT)), RIGHT),
        # Four voices of a hymn, all on the piano's default program, are the piece.
        ((("Soprano", 0, MELODY), ("Alto", 0, RIGHT), ("Bass", 0, LEFT)), (*MELODY, *RIGHT, *LEFT)),
        # An organ has keys.
        ((("upper", 19, RIGHT), ("Choir", 52, MELODY)), RIGHT),
        # Nothing with keys: everything stays, and is said to.
        ((("Violin", 40, MELODY), ("Cello", 42, LEFT)), (*MELODY, *LEFT)),
    ],
)
def test_of_a_band_the_piano_is_the_piece(tmp_path, tracks, kept) -> None:
    path = band(tmp_path, *tracks, drums=True)
    assert first_bar(path) == set(kept)
    losses = load(path).losses
    left_out = 64 * len(tracks) - losses.get("notes_other_parts", 0)
    assert left_out == 64 * len(kept) // 4
    assert losses.get("no_piano_part", 0) == (tracks[0][1] == 40)
    assert losses["notes_drums"] == 1


@pytest.mark.parametrize(
    "names", [("", ""), ("Right Hand", "Left Hand"), ("Piano RH", "Piano LH"), ("upper 1", "upper 2")]
)
def test_two_hands_on_two_tracks_keep_their_hands(tmp_path, names) -> None:
    score = load(band(tmp_path, (names[0], 0, RIGHT), (names[1], 0, LEFT)))
    assert score.hands is not None
    assert score.hands.tolist() == (score.notes[:, 1] >= 58).astype(int).tolist()


def test_a_name_says_more_about_a_hand_than_its_height(tmp_path) -> None:
    score = load(band(tmp_path, ("Left hand", 0, RIGHT), ("Right hand", 0, LEFT)))
    assert score.hands.tolist() == (score.notes[:, 1] < 58).astype(int).tolist()


def test_three_tracks_are_no_two_hands(tmp_path) -> None:
    assert load(band(tmp_path, ("", 0, MELODY), ("", 0, RIGHT), ("", 0, LEFT))).hands is None


def collected(path: Path, reduce: bool) -> Piece | Discard:
    source = FolderSource(kind="folder", name="band", genre="gospel", licence="CC0", attribution="nobody",
                          path=str(path.parent), reduce=reduce)  # fmt: skip
    (candidate,) = folder_candidates(source, path.parent)
    return read_candidate(candidate, Limits(10, 10_000, 1, 500))


def test_a_file_without_a_piano_is_left_out_with_its_reason_or_reduced_where_asked(tmp_path) -> None:
    path = band(tmp_path, ("Violin", 40, MELODY), ("Viola", 41, RIGHT), ("Cello", 42, LEFT), ("Bass", 43, BASS))
    left_out = collected(path, reduce=False)
    assert isinstance(left_out, Discard)
    assert (left_out.reason, "reduce: true" in left_out.detail) == ("no piano part", True)
    assert isinstance(collected(path, reduce=True), Piece)


def test_a_reduction_keeps_melody_and_bass_and_lies_under_two_hands(tmp_path) -> None:
    wide = tuple((pitch + 12) for pitch in MELODY)
    score = load(band(tmp_path, ("a", 40, wide), ("b", 41, MELODY), ("c", 42, RIGHT), ("d", 42, LEFT), ("e", 43, BASS)))
    two_hands = reduced(score)
    assert unplayable(two_hands.notes) == []
    for onset in np.unique(score.notes[:, 0]):
        before, after = (notes[notes[:, 0] == onset, 1] for notes in (score.notes, two_hands.notes))
        assert (before.min(), before.max()) == (after.min(), after.max())
    assert two_hands.losses["notes_reduced"] == len(score.notes) - len(two_hands.notes) > 0


def test_of_four_voices_the_upper_two_are_the_right_hand_s(tmp_path) -> None:
    tenor = (55, 55, 57, 58)
    score = load(band(tmp_path, ("Tenor", 0, tenor), ("Soprano", 0, MELODY), ("Bass", 0, LEFT), ("Alto", 0, RIGHT)))
    right = {*MELODY, *RIGHT}
    assert score.hands[score.notes[:, 0] < 96].tolist() == [
        int(pitch in right) for pitch in score.notes[:16, 1].tolist()
    ]
