"""The plan's sub-words, from whole words."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from make_subwords import encode

from plagal.evaluation.likelihood import SpellingTrie, spellings
from plagal.tokens.vocabulary import END_MARK, MUSIC_WORDS


def test_every_music_word_has_a_spelling_of_its_own() -> None:
    table = spellings()
    assert set(table) == {*MUSIC_WORDS, END_MARK}
    assert len(set(table.values())) == len(table)


@pytest.mark.parametrize(
    ("word", "subwords"),
    [("NOTE_ON_60", 5), ("DUR_QUARTER", 5), ("DUR_TRIPLET_SIXTEENTH", 10), ("VEL_MF", 4), ("BEAT_1.75", 7)],
)
def test_words_cost_as_many_subwords_as_were_counted_with_the_tokenizer(word: str, subwords: int) -> None:
    assert len(spellings()[word]) == subwords


def test_encoding_merges_the_pair_of_lowest_rank_first() -> None:
    ranks = {bytes([byte]): byte for byte in range(256)} | {b"bc": 256, b"ab": 257, b"abc": 258}
    assert encode("abc", ranks) == [258]
    assert encode("ab", ranks) == [257]
    assert encode("a b", ranks) == [97, 32, 98]


WORDS = ["left", "right", "up", "upper"]
TABLE = {"left": (1, 10), "right": (1, 11), "up": (2,), "upper": (2, 3)}


def test_the_likeliest_branch_is_foretold_not_the_likeliest_word() -> None:
    trie = SpellingTrie(WORDS, TABLE)
    # "up" is the likeliest word, but the branch of left and right together outweighs it.
    probabilities = np.array([[0.30, 0.29, 0.41, 0.0]])
    assert trie.hits(probabilities, np.array([0])) == trie.depth[0] == 2
    assert trie.hits(probabilities, np.array([2])) == 0.0


def test_equally_likely_branches_count_as_a_guess() -> None:
    trie = SpellingTrie(WORDS, TABLE)
    assert trie.hits(np.array([[0.25, 0.25, 0.25, 0.25]]), np.array([0])) == pytest.approx(0.5 + 0.5)


def test_after_a_word_that_begins_another_going_on_is_weighed_against_the_next_word() -> None:
    trie = SpellingTrie(WORDS, TABLE)
    targets = np.array([2, 0])
    next_word = [0.6, 0.0, 0.4, 0.0]
    # "up" stands; stopping and then 1 weighs 0.5 * 0.6, going on to "upper" 0.4 (or 0.2).
    missed = trie.hits(np.array([[0.1, 0.0, 0.5, 0.4], next_word]), targets)
    found = trie.hits(np.array([[0.3, 0.0, 0.5, 0.2], next_word]), targets)
    assert (missed, found) == (2.0, 3.0)


def reference_hits(
    table: dict[str, tuple[int, ...]], words: list[str], probabilities: np.ndarray, target: int
) -> float:
    """Greedy sub-words of one word by brute force, where no word begins another."""
    spelled, hits = table[words[target]], 0
    for place, piece in enumerate(spelled):
        branch: dict[int, float] = {}
        for word, weight in zip(words, probabilities, strict=True):
            if table[word][:place] == spelled[:place]:
                branch[table[word][place]] = branch.get(table[word][place], 0.0) + weight
        hits += max(branch, key=lambda one: branch[one]) == piece
    return hits


@given(st.integers(0, 10_000))
def test_hits_agree_with_walking_the_branches_by_hand(seed: int) -> None:
    drawing = np.random.default_rng(seed)
    spelled = {tuple(drawing.integers(0, 3, 3).tolist()) for _ in range(12)}
    table = {f"w{index}": pieces for index, pieces in enumerate(sorted(spelled))}
    words = list(table)
    probabilities = drawing.dirichlet(np.ones(len(words)), 5)
    targets = drawing.integers(0, len(words), 5)
    expected = sum(
        reference_hits(table, words, row, target) for row, target in zip(probabilities, targets, strict=True)
    )
    assert SpellingTrie(words, table).hits(probabilities, targets) == pytest.approx(expected)
