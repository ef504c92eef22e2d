"""The plan's text token service: vocabulary ids to words and back, losslessly.

>>> text_token_service.remi_to_text_tokens([0, 30, 210, 240])
['SONG_START', 'NOTE_ON_21', 'DUR_WHOLE', 'VEL_SILENT']
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from plagal.plumbing.errors import InputError
from plagal.tokens.vocabulary import ID_OF, MUSIC_WORDS, SPECIAL_WORDS, WORD_OF, WORDS, definition


class TextTokenService:
    """Between ids, words and strings. It checks that words exist, not that they are music (that is `grammar`)."""

    def remi_to_text_tokens(self, ids: Iterable[int]) -> list[str]:
        """Words of vocabulary ids. Raises InputError at the first id that has no word."""
        ids = list(ids)
        try:
            return [WORD_OF[number] for number in ids]
        except (KeyError, TypeError):
            place, number = next((p, n) for p, n in enumerate(ids) if not isinstance(n, int) or n not in WORD_OF)
            raise InputError(f"token {place} is {number!r}, an id with no word; `plagal vocab` lists the ids") from None

    def text_to_remi_tokens(self, words: Iterable[str]) -> list[int]:
        """Vocabulary ids of words. Raises InputError at the first word that is not in the vocabulary."""
        words = list(words)
        try:
            return [ID_OF[word] for word in words]
        except (KeyError, TypeError):
            place, word = next((p, w) for p, w in enumerate(words) if not isinstance(w, str) or w not in ID_OF)
            raise InputError(f"word {place} is {word!r}, not in the vocabulary; `plagal vocab` lists it") from None

    def tokens_to_string(self, ids: Iterable[int]) -> str:
        """One line: the words of the ids, joined by single spaces. Raises InputError."""
        return " ".join(self.remi_to_text_tokens(ids))

    def string_to_tokens(self, text: str) -> list[int]:
        """Ids of the words in a text, split at white space. Raises InputError."""
        return self.text_to_remi_tokens(text.split())

    def validate_round_trip(self, ids: Iterable[int]) -> bool:
        """Whether the ids come back from their words and from their string; False where one has no word."""
        ids = list(ids)
        try:
            words = self.remi_to_text_tokens(ids)
            return self.text_to_remi_tokens(words) == ids == self.string_to_tokens(" ".join(words))
        except InputError:
            return False

    def get_vocab_info(self) -> dict[str, Any]:
        """Sizes, the highest id, how many words of each kind, and every word with its id and definition."""
        kinds: dict[str, int] = {}
        for word in MUSIC_WORDS:
            kind = word.partition("_")[0] if not word.startswith("NOTE_") else "_".join(word.split("_")[:2])
            kinds[kind] = kinds.get(kind, 0) + 1
        return {
            "vocab_size": len(WORDS),
            "music_words": len(MUSIC_WORDS),
            "special_words": {word: ID_OF[word] for word in SPECIAL_WORDS},
            "highest_id": max(WORD_OF),
            "kinds": kinds,
            "words": [{"id": ID_OF[word], "word": word, "meaning": definition(word)} for word in WORDS],
        }


text_token_service = TextTokenService()
