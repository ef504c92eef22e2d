"""The arranger: deterministic, playable, true to its tune, its style's devices and its own chord names."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from plagal.asking import request as asking
from plagal.asking.request import generate_melody, read_request
from plagal.music.arranger.arrange import STYLES, arrange, played_chords
from plagal.music.arranger.form import Form, LeadSheet, Section, Span, layout
from plagal.music.arranger.reharmonize import DEVICES, apply_devices
from plagal.music.arranger.styles import load_style
from plagal.music.arranger.tunebook import find_tune, tune_book
from plagal.music.arranger.voicing import WIDEST_ROLL, essential
from plagal.music.chords import QUALITIES
from plagal.music.hands import LARGEST_SPAN, ROLL_TICKS, unplayable
from plagal.music.keys import key_name, key_tonic, parse_key
from plagal.music.midi import read_midi, write_midi
from plagal.music.score import DURATION, HIGHEST_PITCH, LOWEST_PITCH, ONSET, PITCH, VELOCITY, Score
from plagal.plumbing.errors import AbcError, ChordError, ParamsError

GOSPEL = (*STYLES[:4], "shout", "quartet")
DRAWN = [
    (tune.name, style, seed)
    for seed, (tune, style) in enumerate((tune, style) for tune in tune_book() for style in STYLES)
    if (seed * 7919) % 100 < 60
]
"""Three hundred and more of (tune, style, seed), every tune and style among them."""


@pytest.fixture(scope="module")
def arranged() -> list[Score]:
    return [arrange(tune, style, seed=seed) for tune, style, seed in DRAWN]


def test_hundreds_of_arrangements_lie_under_two_hands(arranged: list[Score]) -> None:
    assert len(arranged) > 250
    assert {
        (*drawn, *unplayable(score.notes, score.pedals))
        for drawn, score in zip(DRAWN, arranged, strict=True)
        if unplayable(score.notes, score.pedals)
    } == set()


def test_chords_wider_than_a_tenth_are_rolled_from_the_bass_up_under_the_pedal(arranged: list[Score]) -> None:
    rolling = {style for (_, style, _), score in zip(DRAWN, arranged, strict=True) if unplayable(score.notes)}
    assert rolling == {"traditional_gospel", "contemporary_gospel", "worship", "neo_soul"}
    for score in arranged:
        onsets = score.notes[:, ONSET]
        down = {pedal.onset for pedal in score.pedals if pedal.state == "on"}
        for start in np.intersect1d([onset for onset, _ in played_chords(score)], onsets - ROLL_TICKS):
            roll = [int(score.notes[onsets == start + step * ROLL_TICKS, PITCH].min()) for step in range(4)]
            assert roll == sorted(set(roll)) and LARGEST_SPAN < roll[-1] - roll[0] <= WIDEST_ROLL
            assert start in down


def test_every_note_is_a_piano_key_inside_the_piece_and_struck_once(arranged: list[Score]) -> None:
    for score in arranged:
        notes = score.notes
        assert notes[:, PITCH].min() >= LOWEST_PITCH and notes[:, PITCH].max() <= HIGHEST_PITCH
        assert notes[:, DURATION].min() >= 1 and notes[:, VELOCITY].min() >= 1 and notes[:, VELOCITY].max() <= 127
        assert notes[:, ONSET].min() >= 0
        order = np.lexsort((notes[:, PITCH], notes[:, ONSET]))
        assert (order == np.arange(len(notes))).all()
        by_key = notes[np.lexsort((notes[:, ONSET], notes[:, PITCH]))]
        same = by_key[1:, PITCH] == by_key[:-1, PITCH]
        assert (by_key[1:, ONSET][same] >= (by_key[:-1, ONSET] + by_key[:-1, DURATION])[same]).all()


def test_notes_and_markers_fill_whole_bars_and_the_last_chord_ends_the_last_bar(arranged: list[Score]) -> None:
    for score in arranged:
        bar = score.metres[0].bar_ticks
        end = int((score.notes[:, ONSET] + score.notes[:, DURATION]).max())
        assert end % bar == 0
        assert all(marker.onset % bar == 0 for marker in score.markers if marker.kind == "section")
        assert all(marker.onset < end for marker in score.markers)


def test_the_chord_markers_tell_what_is_played(arranged: list[Score]) -> None:
    """Most of the sounding time belongs to the chord named, and what the name needs sounds in nearly every chord."""
    complete = chords = 0
    for (tune, style, seed), score in zip(DRAWN, arranged, strict=True):
        named = played_chords(score)
        end = int((score.notes[:, ONSET] + score.notes[:, DURATION]).max())
        inside = outside = 0
        for (start, chord), until in zip(named, [*(onset for onset, _ in named[1:]), end], strict=True):
            notes = score.notes
            sounding = np.minimum(until, notes[:, ONSET] + notes[:, DURATION]) - np.maximum(start, notes[:, ONSET])
            present = {int(pitch) % 12 for pitch in notes[sounding > 0, PITCH]}
            belongs = np.isin(notes[:, PITCH] % 12, list(chord.pitch_classes))
            inside += int(sounding[(sounding > 0) & belongs].sum())
            outside += int(sounding[(sounding > 0) & ~belongs].sum())
            complete += {(chord.root + step) % 12 for step in essential(chord.quality)} <= present
            chords += 1
            assert chord.bass == int(notes[(notes[:, ONSET] == start), PITCH].min()) % 12
        # Blue notes, licks and what is pushed ahead of its chord lie outside the chord, and a shout is full of them.
        assert inside >= (0.8 if style == "shout" else 0.9) * (inside + outside), (tune, style, seed)
    assert complete >= 0.95 * chords


def test_the_inner_voices_move_little_from_chord_to_chord(arranged: list[Score]) -> None:
    """Between a chord's keys and the next one's, the mean way to the nearest key stays within two semitones."""
    ways = []
    for score in arranged[::5]:
        groups = [score.notes[score.notes[:, ONSET] == onset, PITCH] for onset, _ in played_chords(score)]
        middles = [sorted(int(key) for key in group if 52 <= key <= 72) for group in groups]
        for before, after in pairwise(middles):
            if before and after:
                ways.append(np.mean([min(abs(key - old) for old in before) for key in after]))
    assert np.mean(ways) < 2.2


def test_outer_voices_seldom_march_in_fifths_or_octaves(arranged: list[Score]) -> None:
    parallel = moves = 0
    for score in arranged:
        outer = []
        for onset, _ in played_chords(score):
            struck = score.notes[:, ONSET] == onset
            keys = score.notes[struck, PITCH]
            if score.hands is not None and set(score.hands[struck].tolist()) == {0, 1}:  # a bass in octaves has no top
                outer.append((int(keys.min()), int(keys.max())))
        for (low, high), (next_low, next_high) in pairwise(outer):
            moved = low != next_low and high != next_high and (next_low - low) * (next_high - high) > 0
            parallel += moved and (high - low) % 12 in (0, 7) and (next_high - next_low) % 12 == (high - low) % 12
            moves += 1
    assert parallel < 0.08 * moves


def test_the_same_call_gives_the_same_score_and_another_seed_another_one() -> None:
    once, again = (arrange("amazing_grace", "gospel_jazz", seed=5) for _ in range(2))
    assert (once.notes == again.notes).all() and once.markers == again.markers and once.pedals == again.pedals
    other = arrange("amazing_grace", "gospel_jazz", seed=6)
    assert once.notes.shape != other.notes.shape or (once.notes != other.notes).any()


def test_another_process_with_other_hashes_arranges_and_hears_the_same() -> None:
    script = (
        "from plagal.music.arranger.arrange import arrange; from plagal.music.harmony import hear_chords\n"
        "import hashlib\n"
        "score = arrange(None, 'contemporary_gospel', seed=11)\n"
        "told = repr((score.notes.tolist(), score.markers, score.pedals, score.tempos, hear_chords(score)))\n"
        "print(hashlib.sha256(told.encode()).hexdigest())"
    )
    answers = {
        subprocess.run(
            [sys.executable, "-c", script], env=os.environ | {"PYTHONHASHSEED": number}, capture_output=True, check=True
        ).stdout
        for number in ("1", "2")
    }
    assert len(answers) == 1


def test_arranging_leaves_the_global_random_numbers_alone() -> None:
    random.seed(1)
    state = random.getstate()
    arrange("amazing_grace", "worship", seed=1)
    assert random.getstate() == state


@pytest.mark.parametrize("style", STYLES)
def test_the_tune_is_heard_on_top_in_order(style: str) -> None:
    """With `bars`, at least nine melody notes in ten sound where the tune has them, or are pushed half a beat ahead."""
    tune = find_tune("what_a_friend")
    score = arrange(tune, style, key="F", seed=2, bars=tune.bars)
    feel = next(
        f
        for f in ("straight", "swing", "compound")
        if layout(tune.metre, f).metre.numerator == score.metres[0].numerator
    )
    found = 0
    struck = {(int(row[ONSET]), int(row[PITCH]) % 12) for row in score.notes}
    for feel in ("straight", "swing", "compound"):
        place = layout(tune.metre, feel).place
        early = 12 if load_style(style).push else 0
        found = max(
            found,
            sum({(place(onset), pitch % 12), (place(onset - early), pitch % 12)} & struck != set()
                for onset, pitch, _ in tune.notes),
        )  # fmt: skip
    assert found >= 0.9 * len(tune.notes)


def test_one_bar_can_be_asked_for_of_every_tune() -> None:
    for tune in tune_book():
        assert played_chords(arrange(tune, "worship", seed=1, bars=1)), tune.name


@pytest.mark.parametrize("bars", [1, 4, 8, 23])
def test_bars_asked_for_are_bars_given(bars: int) -> None:
    score = arrange("blessed_assurance", "traditional_gospel", seed=3, bars=bars)
    end = int((score.notes[:, ONSET] + score.notes[:, DURATION]).max())
    assert end == bars * score.metres[0].bar_ticks


def test_key_and_tempo_asked_for_are_given_and_a_minor_tune_stays_minor() -> None:
    score = arrange("go_down_moses", "blues", key="Eb", tempo=77.0, seed=1)
    assert key_tonic(score.keys[0]) == 3 and score.keys[0].minor
    assert score.tempos[0].quarters_per_minute == 77.0
    assert arrange("amazing_grace", "worship", key="F# minor", seed=1).keys[0].minor is False


def test_what_is_unknown_is_named() -> None:
    with pytest.raises(AbcError, match="amazing_grace"):
        arrange("amazing grase", "worship")
    with pytest.raises(ParamsError, match="traditional_gospel"):
        arrange("amazing_grace", "techno")
    with pytest.raises(ChordError, match="H flat"):
        arrange("amazing_grace", "worship", key="H flat")


def test_the_seed_picks_tunes_where_none_is_named() -> None:
    titles = {arrange(None, "worship", seed=seed, bars=2).title for seed in range(40)}
    assert len(titles) > 15


def test_an_arrangement_comes_back_from_midi_as_it_was(tmp_path: Path) -> None:
    score = arrange("he_leadeth_me", "traditional_gospel", seed=8)
    write_midi(score, tmp_path / "a.mid")
    back = read_midi(tmp_path / "a.mid")
    assert (back.notes == score.notes).all()
    assert played_chords(back) == played_chords(score)
    assert back.metres == score.metres and back.keys == score.keys
    assert back.hands is not None and (back.hands == score.hands).all()


@pytest.mark.parametrize("style", ["worship", "shout", "blues"])
@pytest.mark.parametrize(("key", "name"), [("G", "G major"), ("Gm", "G minor")])
def test_a_tune_that_the_seed_picks_is_in_the_mode_asked_for(style: str, key: str, name: str) -> None:
    assert {key_name(arrange(None, style, key, seed=seed, bars=4).keys[0]) for seed in range(70)} == {name}


def test_a_named_tune_keeps_its_mode_and_that_is_said() -> None:
    request = read_request({"prompt": "amazing grace in G minor", "writer": "arranger"})
    assert key_name(asking.arranged(request).keys[0]) == "G major"
    assert request.not_understood == ("G minor (the melody stays in major)",)
    for prompt in ("amazing grace in G", "wade in the water in E minor"):
        assert not read_request({"prompt": prompt, "writer": "arranger"}).not_understood


@pytest.mark.parametrize(
    ("prompt", "style"),
    [("Play some contemporary gospel", "contemporary_gospel"), ("gospel jazz", "gospel_jazz"), ("neo-soul", "neo_soul"),
     ("worship in D", "worship"), ("hymn", "hymnal"), ("Jazz-Gospel", "gospel_jazz"), ("COGIC", "shout")],
)  # fmt: skip
def test_the_apps_generator_answers_prompts_and_styles(prompt: str, style: str) -> None:
    score = generate_melody(prompt, key="D", seed=4, bars=4)
    assert (score.notes == arrange(None, style, "D", None, 4, 4).notes).all()


# Devices: each of those that the styles name is found where it applies.


def lead_of(*chords: tuple[str, int], tonic: str = "C") -> LeadSheet:
    from plagal.music.chords import parse_chord

    plan = layout(find_tune("what_a_friend").metre, "straight")
    lead = LeadSheet(plan.metre, plan.beat, plan.swing)
    onset = 0
    for symbol, beats in chords:
        lead.spans.append(Span(onset, onset + beats * 24, parse_chord(symbol)))
        onset += beats * 24
    lead.sections.append(Section("VERSE", 0, -(-onset // 96), key_tonic(parse_key(tonic)), False, 2))
    return lead


def reharmonized(device: str, *chords: tuple[str, int]) -> list[str]:
    style = load_style("traditional_gospel")
    object.__setattr__(only := type(style)(**vars(style)), "devices", {device: 1.0})
    return [span.chord.symbol for span in apply_devices(lead_of(*chords), only, random.Random(1))]


@pytest.mark.parametrize(
    ("device", "before", "after"),
    [
        ("two_five", [("G7", 4), ("C", 4)], ["Dmin7", "Gdom7", "Cmaj"]),
        ("secondary_dominant", [("C", 2), ("Dm", 2)], ["Cmaj", "Adom7", "Dmin"]),
        ("seven_three_six", [("C", 4), ("Am", 4)], ["Cmaj", "Bhalfdim7", "E7b9b13", "Amin"]),
        ("seven_three_six", [("C", 4), ("F", 4)], ["Cmaj", "Bhalfdim7", "E7b9b13", "Amin7", "Fmaj"]),
        ("passing_diminished", [("C", 4), ("Dm", 4)], ["Cmaj", "Dbdim7", "Dmin"]),
        ("passing_diminished", [("F", 4), ("C", 4)], ["Fmaj", "Gbdim7", "Cmaj"]),
        ("tritone_substitution", [("G7", 4), ("C", 4)], ["Gdom7", "Dbdom9", "Cmaj"]),
        ("walk_up", [("C", 4), ("F", 4)], ["Cmaj", "Dmin7", "Cmaj/E", "Fmaj"]),
        ("walk_down", [("C", 4), ("Am", 4)], ["Cmaj", "Gmaj/B", "Amin"]),
        ("suspension", [("G7", 4), ("C", 4)], ["G9sus", "Gdom7", "Cmaj"]),
        ("minor_plagal", [("F", 4), ("C", 4)], ["Fmaj", "Fmin6", "Cmaj"]),
        ("backdoor", [("F", 4), ("C", 4)], ["Fmaj", "Bbdom9", "Cmaj"]),
        ("five_one_four", [("C", 4), ("F", 4)], ["Cmaj", "Gmin7", "Cdom7", "Fmaj"]),
        ("plagal_rock", [("C", 4), ("C", 4)], ["Cmaj", "Fmaj/C", "Cmaj", "Cmaj"]),
    ],
)
def test_a_device_writes_the_progression_that_it_is_named_for(
    device: str, before: list[tuple[str, int]], after: list[str]
) -> None:
    assert reharmonized(device, *before) == after


def test_a_turnaround_leads_from_the_tonic_round_to_the_dominant() -> None:
    chords = reharmonized("turnaround", ("C", 4), ("C", 4))
    assert len(chords) >= 5 and chords[2:4][0].startswith("Dmin7") and chords[3].startswith("G")


@pytest.mark.parametrize("device", DEVICES)
def test_every_device_serves_some_gospel_style(device: str) -> None:
    assert any(device in load_style(style).devices for style in GOSPEL)


def test_gospel_uses_its_colours_and_every_named_quality_is_one(arranged: list[Score]) -> None:
    used = Counter(
        chord.quality
        for (_, style, _), score in zip(DRAWN, arranged, strict=True)
        for _, chord in played_chords(score)
        if style in GOSPEL
    )
    assert set(used) <= set(QUALITIES)
    assert {
        "maj9",
        "min9",
        "dom9",
        "dom13",
        "min11",
        "9sus",
        "13sus",
        "dim7",
        "halfdim7",
        "7b9",
        "7#9",
        "6",
        "69",
    } <= set(used)


def test_forms_have_introductions_modulations_vamps_and_slow_endings(arranged: list[Score]) -> None:
    sections = {marker.text for score in arranged for marker in score.markers if marker.kind == "section"}
    assert sections == {"INTRO", "VERSE", "CHORUS", "BRIDGE", "OUTRO"}
    raised = [score for score in arranged if len(score.keys) > 1]
    assert raised
    for score in raised:
        assert key_tonic(score.keys[1]) == (key_tonic(score.keys[0]) + 1) % 12
    slow = [score for score in arranged if len(score.tempos) > 1]
    assert all(a.quarters_per_minute > b.quarters_per_minute for score in slow for a, b in pairwise(score.tempos))
    assert len(slow) > len(arranged) // 2


def test_feels_are_straight_swung_and_compound(arranged: list[Score]) -> None:
    assert {score.metres[0].denominator for score in arranged} == {4, 8}
    swung = [
        score for score in arranged if ((score.notes[:, ONSET] % 24 == 16) & (score.metres[0].denominator == 4)).any()
    ]
    assert len(swung) > 20


def test_louder_sections_are_louder_and_pedals_alternate(arranged: list[Score]) -> None:
    for score in arranged:
        states = [pedal.state for pedal in score.pedals]
        assert states == ["on", "off"] * (len(states) // 2)
        onsets = set(score.notes[:, ONSET].tolist())
        assert all(pedal.onset in onsets for pedal in score.pedals[:-1])
    assert len({int(level) for score in arranged for level in score.notes[:, VELOCITY]}) >= 5


def test_form_repeats_the_pick_up_inside_the_bar_before() -> None:
    tune, style = find_tune("amazing_grace"), load_style("traditional_gospel")
    form = Form(tune, style, layout(tune.metre, "straight"), parse_key("G"), random.Random(1))
    form.exactly(40)
    onsets = [onset for onset, _, _ in form.lead.melody]
    assert onsets == sorted(onsets)
    assert form.lead.end == 40 * 72


# Hands.


def test_in_a_shout_the_bass_keeps_the_beat_and_the_right_hand_answers_behind_it(arranged: list[Score]) -> None:
    for style, least_behind, most_behind in (("shout", 0.6, 1.0), ("worship", 0.0, 0.2)):
        behind = chords = kept = beats = 0
        for (_, drawn, _), score in zip(DRAWN, arranged, strict=True):
            if drawn != style or score.hands is None:
                continue
            for onset in np.unique(score.notes[:, ONSET]):
                struck = score.notes[:, ONSET] == onset
                if int(score.hands[struck].sum()) >= 3:
                    chords += 1
                    behind += score.metres[0].denominator == 4 and onset % 24 != 0
            left = set(score.notes[score.hands == 0, ONSET].tolist())
            kept += sum(beat in left for beat in range(0, max(left), 24))
            beats += len(range(0, max(left), 24))
        assert least_behind <= behind / chords <= most_behind, style
        assert style != "shout" or kept >= 0.85 * beats


def test_shouts_go_at_many_tempos_and_none_like_a_hymn(arranged: list[Score]) -> None:
    shouts = [score for (_, style, _), score in zip(DRAWN, arranged, strict=True) if style == "shout"]
    tempos = {score.tempos[0].quarters_per_minute for score in shouts}
    assert len(tempos) >= 8 and min(tempos) >= 138


@pytest.mark.parametrize("bars", [8, 12, 16, 24])
def test_a_blues_without_a_tune_goes_by_its_own_bars(bars: int) -> None:
    """One where it begins and ends, four where the second line does, the fifth in the third."""
    for seed in range(6):
        score = arrange(None, "blues", key="G", bars=bars, seed=seed)
        bar, named = score.metres[0].bar_ticks, played_chords(score)
        at_bar = [[chord for onset, chord in named if onset <= number * bar][-1] for number in range(bars)]
        degree = [None, *((chord.root - 7) % 12 for chord in at_bar)]
        assert degree[1] == degree[bars] == 0
        assert [degree[3], degree[2]] == [5, 7] if bars == 8 else [degree[5], degree[7]] == [5, 0]
        assert degree[6 if bars == 8 else 9] in (2, 7)
