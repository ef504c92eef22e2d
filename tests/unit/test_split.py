"""No tune is both learned and tested, in either stage."""

from __future__ import annotations

import random
from collections import defaultdict
from dataclasses import replace

import numpy as np
from corpus_helpers import hymn

from plagal.corpus.duplicates import (
    LEFT_OUT,
    Melodies,
    Tunes,
    heard_melody,
    intervals,
    melody_key,
    melody_text,
    split_after,
    split_alone,
    split_of,
)
from plagal.music.grid import regular
from plagal.music.score import Score


def heard(score: Score) -> Melodies:
    melody = melody_text(intervals(heard_melody(score)))
    return Melodies(tune="", melody=melody, heard=melody, synthetic=False)


def slowed(score: Score) -> Score:
    notes = score.notes.copy()
    notes[:, [0, 2]] *= 2
    return regular(replace(score, notes=notes))


def transposed(score: Score) -> Score:
    notes = score.notes.copy()
    notes[:, 1] += 5
    return replace(score, notes=notes)


def rearranged(score: Score) -> Score:
    """Another accompaniment, an introduction, repeated melody notes and a turn at times: the tune is still heard."""
    rng = random.Random(int(score.notes[0, 1]))
    melody = [row for row in score.notes.tolist() if row[3] == 80]
    rows = [(t * 24, 48 + t % 5, 24, 60) for t in range(8)]
    for onset, pitch, duration, velocity in melody:
        start = onset + 192
        if duration >= 24 and rng.random() < 0.06:
            rows.append((start, pitch, duration - 12, velocity))
            rows.append((start + duration - 12, pitch + 2, 12, velocity))
        elif duration >= 24 and rng.random() < 0.3:
            rows += [(start, pitch, 12, velocity), (start + 12, pitch, duration - 12, velocity)]
        else:
            rows.append((start, pitch, duration, velocity))
    rows += [(192 + t * 12, 36 + 7 * (t % 3), 12, 55) for t in range(12 * 8)]
    return regular(replace(score, notes=np.array(rows, dtype=np.int32)))


COPIES = {"transposed": transposed, "slowed": slowed, "re-arranged": rearranged,
          "all at once": lambda score: rearranged(slowed(transposed(score)))}  # fmt: skip
PERCENTS = (10, 10)


def test_planted_copies_are_all_found_and_share_the_split_of_their_tune():
    originals = [heard(hymn(seed)) for seed in range(80)]
    pieces, tune = list(originals), list(range(80))
    for plant in COPIES.values():
        pieces += [heard(plant(hymn(seed))) for seed in range(80)]
        tune += list(range(80))
    groups = Tunes(pieces)
    splits = split_alone(groups, *PERCENTS)
    found: dict[int, set[str]] = defaultdict(set)
    labels: dict[int, set[int]] = defaultdict(set)
    for number, split, label in zip(tune, splits, groups.label, strict=True):
        found[number].add(split)
        labels[number].add(label)
    assert all(len(found[number]) == 1 for number in range(80))
    assert all(len(labels[number]) == 1 for number in range(80))
    assert len(groups.key) == 80


def test_copies_planted_in_the_other_stage_inherit_the_split():
    earlier = Tunes([heard(hymn(seed)) for seed in range(60)])
    first = split_alone(earlier, 20, 20)
    for plant in COPIES.values():
        later = Tunes([heard(plant(hymn(seed))) for seed in range(60)])
        assert split_after(later, earlier, first, 20, 20) == first


def test_a_tune_of_the_book_has_one_split_in_both_stages_whatever_is_heard():
    def arranged(tune: str, number: int) -> Melodies:
        return Melodies(tune, f"+2 +2 -4 {' '.join(['+1'] * len(tune))}", heard(hymn(number)).heard, synthetic=True)

    names = [f"tune{'x' * length}" for length in range(30)]
    earlier = Tunes([arranged(name, number) for number, name in enumerate(names)])
    later = Tunes([arranged(name, number + 100) for number, name in enumerate(reversed(names))])
    first = split_alone(earlier, 20, 20)
    assert split_after(later, earlier, first, 20, 20) == first[::-1]
    assert set(first) == {"train", "valid", "test"}


def test_arrangements_of_different_tunes_are_not_joined_by_what_their_style_has_in_common():
    same_fill = heard(hymn(9)).heard
    pieces = [Melodies(f"t{n}", heard(hymn(n)).melody, same_fill + f" +{n}", synthetic=True) for n in range(1, 8)]
    assert len(Tunes(pieces).key) == 7


def test_a_users_copy_of_an_arrangement_joins_its_tune():
    arranged = Melodies("amazing_grace", heard(hymn(1)).melody, heard(hymn(2)).heard, synthetic=True)
    groups = Tunes([arranged, heard(transposed(hymn(2)))])
    assert len(groups.key) == 1


def test_a_new_file_moves_only_its_own_group():
    before = [heard(hymn(seed)) for seed in range(100)]
    added = [heard(rearranged(hymn(3))), heard(hymn(500))]
    old = split_alone(Tunes(before), *PERCENTS)
    new = split_alone(Tunes([*added, *before]), *PERCENTS)
    assert [n for n in range(100) if new[2 + n] != old[n]] in ([], [3])


def test_the_split_does_not_depend_on_the_order_of_the_files():
    pieces = [heard(hymn(seed, harmony=copy)) for seed in range(40) for copy in range(2)]
    order = list(range(80))
    random.Random(1).shuffle(order)
    splits = split_alone(Tunes(pieces), *PERCENTS)
    shuffled = split_alone(Tunes([pieces[place] for place in order]), *PERCENTS)
    assert [splits[place] for place in order] == shuffled


def test_stage_one_does_not_look_at_stage_two():
    # Its split takes no argument of stage 2; this holds that its groups keep nothing between calls either.
    pieces = [heard(hymn(seed)) for seed in range(30)]
    first = split_alone(Tunes(pieces), *PERCENTS)
    split_after(Tunes([heard(hymn(99))]), Tunes(pieces), first, *PERCENTS)
    assert split_alone(Tunes(pieces), *PERCENTS) == first


def test_a_medley_of_tunes_in_different_splits_is_left_out():
    one, other = heard(hymn(1)), heard(hymn(2))
    earlier = Tunes([one, other])
    medley = Melodies("", f"{one.melody} {other.melody}", f"{one.melody} {other.melody}", synthetic=False)
    assert split_after(Tunes([medley]), earlier, ["train", "test"], *PERCENTS) == [LEFT_OUT]
    assert split_after(Tunes([medley]), earlier, ["test", "test"], *PERCENTS) == ["test"]


def test_a_hash_deals_about_eighty_ten_ten():
    splits = [split_of(melody_key(f"+{n}"), 10, 10) for n in range(20_000)]
    shares = {name: splits.count(name) / len(splits) for name in ("train", "valid", "test")}
    assert abs(shares["train"] - 0.8) < 0.01
    assert abs(shares["valid"] - 0.1) < 0.01
    assert abs(shares["test"] - 0.1) < 0.01


def test_the_tune_book_has_tunes_in_every_split():
    from plagal.corpus.reading import book_melodies

    splits = [split_of(melody_key(melody), 10, 10) for melody in book_melodies().values()]
    assert splits.count("valid") >= 2
    assert splits.count("test") >= 2
    assert splits.count("train") >= 0.6 * len(splits)
