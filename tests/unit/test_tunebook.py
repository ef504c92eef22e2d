"""The tune book: whole, metrically right, and the tunes that it says it holds."""

from __future__ import annotations

import difflib
import os
from itertools import pairwise
from pathlib import Path

import pytest
import symusic

from plagal.music.arranger.reharmonize import strain
from plagal.music.arranger.tunebook import Tune, find_tune, parse_tune, tune_book
from plagal.music.keys import key_name, key_of, parse_key
from plagal.music.score import Key
from plagal.plumbing.errors import AbcError, ChordError

HYMNAL = Path(os.environ.get("PLAGAL_OPENHYMNAL", Path(__file__).parents[3] / "shared" / "corpus" / "openhymnal"))

IN_HYMNAL = {
    "abide_with_me": "Abide_With_Me_Eventide",
    "all_hail_the_power": "All_Hail_The_Power_Of_Jesus_Name_Coronation",
    "amazing_grace": "Amazing_Grace_New_Britain",
    "angels_we_have_heard": "Angels_We_Have_Heard_On_High_Gloria",
    "away_in_a_manger": "Away_In_A_Manger_Mueller",
    "be_thou_my_vision": "Be_Thou_My_Vision_Slane",
    "blessed_assurance": "Blessed_Assurance_Blessed_Assurance_Assurance",
    "blest_be_the_tie": "Blest_Be_The_Tie_That_Binds_Dennis",
    "child_of_the_king": "A_Child_of_The_King_Binghamton",
    "christ_arose": "Christ_Arose_Christ_Arose",
    "come_thou_fount": "Come_Thou_Fount_Nettleton",
    "come_ye_disconsolate": "Come_Ye_Disconsolate_Consolator_Webbe",
    "crown_him": "Crown_Him_With_Many_Crowns_Diademata",
    "did_you_think_to_pray": "Did_You_Think_To_Pray_Stockbridge",
    "duke_street": "I_Know_That_My_Redeemer_Lives_Duke_Street",
    "fairest_lord_jesus": "Beautiful_Savior_Crusaders_Hymn",
    "faith_of_our_fathers": "Faith_Of_Our_Fathers_St_Catherine",
    "god_will_take_care": "God_Will_Take_Care_Of_You_Martin",
    "guide_me": "Guide_Me_O_Thou_Great_Jehovah_Cwm_Rhondda",
    "hallelujah_what_a_savior": "Hallelujah_What_a_Savior_Hallelujah_What_a_Savior",
    "hark_the_herald": "Hark_The_Herald_Angels_Sing_Mendelssohn",
    "he_keeps_me_singing": "He_Keeps_Me_Singing_He_Keeps_Me_Singing_Melody_of_Love",
    "he_leadeth_me": "He_Leadeth_Me_He_Leadeth_Me",
    "holy_holy_holy": "Holy_Holy_Holy_Nicaea",
    "holy_manna": "Yet_Before_We_See_Your_Plans_Holy_Manna",
    "hosanna_loud_hosanna": "Hosanna_Loud_Hosanna_Ellacombe",
    "how_firm_a_foundation": "How_Firm_A_Foundation_Foundation_Protection",
    "i_know_whom": "I_Know_Whom_I_Have_Believed_I_Know_Whom_I_Have_Believed",
    "i_need_thee": "I_Need_Thee_Every_Hour_I_Need_Thee_Every_Hour",
    "immortal_invisible": "Immortal_Invisible_God_Only_Wise_St_Denio",
    "it_is_well": "It_Is_Well_With_My_Soul_It_Is_Well_Ville_Du_Havre",
    "jesus_is_all_the_world": "Jesus_Is_All_The_World_to_Me_Jesus_Is_All_The_World_to_Me",
    "jesus_loves_me": "Jesus_Loves_Me_untitled",
    "joy_to_the_world": "Joy_To_The_World_Antioch",
    "lily_of_the_valley": "The_Lily_of_the_Valley_Salvation_The_Lily_of_the_Valley",
    "moment_by_moment": "Moment_By_Moment_Whittle",
    "more_love_to_thee": "More_Love_To_Thee_More_Love_To_Thee",
    "my_faith_looks_up": "My_Faith_Looks_Up_To_Thee_Olivet",
    "my_saviors_love": "My_Saviors_Love_My_Saviors_Love_I_Stand_Amazed_in_the_Presence",
    "nearer_my_god": "Nearer_My_God_To_Thee_Bethany",
    "no_not_one": "No_Not_One_No_Not_One",
    "o_come_emmanuel": "O_Come_O_Come_Emmanuel_Veni_Emmanuel",
    "o_for_a_thousand_tongues": "O_For_A_Thousand_Tongues_Azmon",
    "o_little_town": "O_Little_Town_Of_Bethlehem_St_Louis",
    "o_sacred_head": "O_Sacred_Head_Now_Wounded_Passion_Chorale_Herzlich_Tut_Mich_Verlangen",
    "old_hundredth": "Awake_My_Soul_And_With_The_Sun_Old_100th",
    "old_rugged_cross": "The_Old_Rugged_Cross_Old_Rugged_Cross",
    "pass_me_not": "Pass_Me_Not_O_Gentle_Savior_Pass_Me_Not_O_Gentle_Savior",
    "praise_to_the_lord": "Praise_To_The_Lord_The_Almighty_Lobe_Den_Herren",
    "rescue_the_perishing": "Rescue_the_Perishing_Rescue_the_Perishing",
    "rock_of_ages": "Rock_of_Ages_Toplady",
    "savior_like_a_shepherd": "Savior_Like_A_Shepherd_Lead_Us_Bradbury",
    "silent_night": "Silent_Night_Stille_Nacht",
    "simple_gifts": "His_Gifts_Simple_Gifts",
    "take_my_life": "Take_My_Life_And_Let_It_Be_Mozart",
    "the_first_noel": "The_First_Noel_The_First_Noel",
    "to_god_be_the_glory": "To_God_Be_the_Glory_To_God_Be_the_Glory",
    "under_his_wings": "Under_His_Wings_Under_His_Wings",
    "were_you_there": "Were_You_There_Were_You_There",
    "what_a_friend": "What_A_Friend_We_Have_In_Jesus_untitled",
    "what_child_is_this": "What_Child_Is_This_Greensleeves",
    "when_i_survey": "When_I_Survey_The_Wondrous_Cross_Hamburg",
    "when_the_roll": "When_the_Roll_is_Called_Up_Yonder_When_the_Roll_is_Called_Up_Yonder",
    "whiter_than_snow": "Whiter_Than_Snow_Whiter_Than_Snow",
}


def intervals(pitches: list[int]) -> list[int]:
    """Steps between successive pitches, repeated notes counted once: the same in every key and rhythm."""
    return [b - a for a, b in pairwise(pitches) if a != b]


def top_voice(path: Path) -> list[int]:
    score = symusic.Score(path)
    highest: dict[int, int] = {}
    for note in next(track for track in score.tracks if len(track.notes)).notes:
        moment = round((note.time - 1) / score.tpq * 12)
        highest[moment] = max(highest.get(moment, 0), note.pitch)
    return [pitch for _, pitch in sorted(highest.items())]


@pytest.mark.skipif(not HYMNAL.is_dir(), reason="Open Hymnal is not here; PLAGAL_OPENHYMNAL names its folder")
@pytest.mark.parametrize("name", IN_HYMNAL)
def test_a_tune_that_the_hymnal_has_is_the_same_melody(name: str) -> None:
    (path,) = HYMNAL.glob(f"*/{IN_HYMNAL[name]}.mid")
    ours = intervals([pitch for _, pitch, _ in find_tune(name).notes])
    theirs = intervals(top_voice(path))
    assert difflib.SequenceMatcher(None, ours, theirs, autojunk=False).ratio() >= 0.95


def test_the_book_holds_sixty_tunes_or_more_under_names_of_their_own() -> None:
    book = tune_book()
    assert len(book) >= 60
    assert len({tune.name for tune in book}) == len({tune.title for tune in book}) == len(book)


@pytest.mark.parametrize("tune", tune_book(), ids=lambda tune: tune.name)
def test_a_tune_is_in_the_public_domain_and_lies_in_a_voice(tune: Tune) -> None:
    assert 1500 < tune.year < 1929
    assert tune.title and tune.composer
    pitches = [pitch for _, pitch, _ in tune.notes]
    assert max(pitches) - min(pitches) <= 19


@pytest.mark.parametrize("tune", tune_book(), ids=lambda tune: tune.name)
def test_a_tune_fills_its_bars_without_overlaps(tune: Tune) -> None:
    for (onset, _, ticks), (following, _, _) in pairwise(tune.notes):
        assert onset + ticks <= following
    end = max(onset + ticks for onset, _, ticks in tune.notes)
    assert 0 <= tune.bars * tune.metre.bar_ticks - end < tune.metre.bar_ticks
    assert tune.chords[0][0] <= (tune.metre.bar_ticks if tune.pickup_ticks else 0)


@pytest.mark.parametrize("tune", tune_book(), ids=lambda tune: tune.name)
def test_a_tune_ends_at_home_and_its_chords_bear_its_melody(tune: Tune) -> None:
    assert tune.chords[-1][1].root in (tune.tonic, (tune.tonic + 9) % 12) or tune.key.minor
    ends = [onset for onset, _ in tune.chords[1:]] + [tune.bars * tune.metre.bar_ticks]
    strained = total = 0.0
    for (start, chord), end in zip(tune.chords, ends, strict=True):
        melody: dict[int, float] = {}
        for onset, pitch, ticks in tune.notes:
            inside = min(end, onset + ticks) - max(start, onset)
            if inside > 0:
                melody[pitch % 12] = melody.get(pitch % 12, 0.0) + inside
        total += sum(melody.values())
        strained += strain(melody, chord) * sum(melody.values())
    assert strained <= 0.15 * total


HEADER = "X:1\nT:Test\nC:Nobody\nH:Published 1900\nM:4/4\nL:1/4\nQ:1/4=90\nK:D\n"


def test_a_pick_up_moves_the_first_bar_line_and_the_chorus_to_whole_bars() -> None:
    tune = parse_tune(HEADER + 'A | "D"d2 d2 | d3 A | [P:chorus] "G"B4 | "D"d3 |')
    assert tune.pickup_ticks == 24
    assert tune.notes[0][0] == 72
    assert tune.sections == ((0, "VERSE"), (288, "CHORUS"))
    assert tune.bars == 5


@pytest.mark.parametrize(
    ("music", "fault"),
    [
        ("D D D | D4 | D4 | D2 |", "bar 4 lasts 2 quarters"),
        ("D D D D | D D D D D | D4 |", "bar 2 lasts 5 quarters"),
        ('"Hm"D4 |', "chord_symbols"),
        ("D4 | {g}D4 |", "grace_notes"),
        ("D15/16 D49/16 |", "whole number of ticks"),
        ("", "music is missing"),
    ],
)
def test_abc_that_is_not_read_whole_is_named_with_its_fault(music: str, fault: str) -> None:
    with pytest.raises(AbcError, match=fault):
        parse_tune(HEADER + music)


def test_an_unknown_tune_is_answered_with_those_near_it() -> None:
    with pytest.raises(AbcError, match="amazing_grace"):
        find_tune("amazin grase")
    assert find_tune("AMAZING GRACE!").name == "amazing_grace"


@pytest.mark.parametrize("tonic", range(12))
@pytest.mark.parametrize("minor", [False, True])
def test_a_key_goes_to_its_name_and_back(tonic: int, minor: bool) -> None:
    key = key_of(tonic, minor)
    assert parse_key(key_name(key)) == key


def test_a_key_that_is_none_is_refused_by_name() -> None:
    assert parse_key("F# minor") == Key(0, 3, True)
    assert parse_key("Bbm") == Key(0, -5, True)
    for wrong in ("H", "C dorian", ""):
        with pytest.raises(ChordError):
            parse_key(wrong)
