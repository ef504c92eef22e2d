"""Random music for hypothesis: scores of every shape, on the grid and regular or not, and random words."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from plagal.music.chords import QUALITIES, ROOT_NAMES
from plagal.music.grid import TEMPOS
from plagal.music.score import Key, Marker, Metre, Pedal, Score, Tempo
from plagal.tokens.vocabulary import SECTIONS, VELOCITY_LEVELS, WORDS

onsets = st.integers(0, 1500)
levels = st.sampled_from(list(VELOCITY_LEVELS.values()))
note_rows = st.tuples(onsets, st.integers(15, 115), st.integers(0, 900), levels)
metres = st.builds(Metre, onsets, st.integers(0, 40), st.sampled_from([1, 2, 4, 8, 16, 32, 64, 3]))
tempos = st.builds(Tempo, onsets, st.sampled_from(TEMPOS))
keys = st.builds(Key, onsets, st.integers(-7, 7), st.booleans())
pedals = st.builds(Pedal, onsets, st.sampled_from(["on", "off", "half"]))
chord_symbols = st.builds(
    lambda root, quality, bass: root + quality + bass,
    st.sampled_from(ROOT_NAMES),
    st.sampled_from(list(QUALITIES)),
    st.sampled_from(["", *(f"/{name}" for name in ROOT_NAMES)]),
)
markers = st.one_of(
    st.builds(Marker, onsets, st.just("chord"), st.one_of(chord_symbols, st.just("H7"))),
    st.builds(Marker, onsets, st.just("section"), st.sampled_from([*SECTIONS, "SOLO"])),
    st.builds(Marker, onsets, st.just("repeat"), st.sampled_from(["START", "END"])),
    st.builds(Marker, onsets, st.just("articulation"), st.just("TRILL")),
)


def _few(strategy: st.SearchStrategy, most: int = 6) -> st.SearchStrategy:
    return st.lists(strategy, max_size=most).map(tuple)


scores = st.builds(
    Score,
    st.lists(note_rows, max_size=40).map(lambda rows: np.array(rows, dtype=np.int32).reshape(-1, 4)),
    _few(metres),
    _few(tempos),
    _few(keys),
    _few(pedals),
    _few(markers),
)
"""As users may build them: notes in any order, unisons, overlaps, out of range; metres in mid-bar; markers anywhere."""

word_lists = st.lists(st.one_of(st.sampled_from(WORDS), st.sampled_from(WORDS), st.text(max_size=6)), max_size=60)
common_words = st.sampled_from(
    ["SONG_START", "SONG_END", "BAR_START", "TIMESIG_3_4", "TIMESIG_7_8", "TEMPO_66", "KEY_Db", "BEAT_0", "BEAT_1",
     "BEAT_2.333", "BEAT_3.5", "BEAT_11", "CHORD_Dbmaj9", "BASS_F", "NOTE_ON_60", "NOTE_ON_64", "NOTE_ON_108",
     "NOTE_OFF_60", "NOTE_OFF_64", "DUR_QUARTER", "DUR_WHOLE_TIED", "DUR_HOLD", "DUR_SUSTAIN", "VEL_MF", "VEL_CRESC",
     "VEL_SILENT", "PEDAL_ON", "PEDAL_OFF", "TRILL", "ARPEGGIO", "GRACE_BEFORE", "REPEAT_START", "REPEAT_END",
     "SECTION_VERSE", "PAD"]
)  # fmt: skip
likely_word_lists = st.lists(common_words, max_size=80)
"""From few words, so that they often make sense together."""
