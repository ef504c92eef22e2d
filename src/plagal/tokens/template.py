"""The one template of training text: what stands around a prompt and a piece, in training, asking and scoring alike.

The marks are those of Qwen2.5's own chat template, which the plan's training text uses:
`<|im_start|>user\\nPROMPT<|im_end|>\\n<|im_start|>assistant\\nWORDS<|im_end|>`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from plagal.plumbing.errors import RecordError

USER_MARK = "<|im_start|>"
END_MARK = "<|im_end|>"
PAD_MARK = "<|endoftext|>"
FIRST_WORD = "SONG_START"

TRAINING_TEMPLATE = f"{USER_MARK}user\n{{prompt}}{END_MARK}\n{USER_MARK}assistant\n{{words}}{END_MARK}"
"""For str.format: `prompt`, `words`."""
CHAT_TEMPLATE = (
    "{% for message in messages %}{% if not loop.first %}{{ '\\n' }}{% endif %}"
    f"{{{{ '{USER_MARK}' + message['role'] + '\\n' + message['content'] + '{END_MARK}' }}}}{{% endfor %}}"
    f"{{% if add_generation_prompt %}}{{{{ '\\n{USER_MARK}assistant\\n' }}}}{{% endif %}}"
)
"""The same text, mark for mark, as a tokenizer's chat template (Jinja), for stock servers."""

_PIECE = re.compile(rf"{FIRST_WORD}(?: [^\s<]+)*")


def prompt_text(prompt: str) -> str:
    """What stands before a piece that answers `prompt`."""
    return TRAINING_TEMPLATE.partition("{words}")[0].format(prompt=prompt)


@dataclass(frozen=True)
class Text:
    """One training or test text, cut where the music begins."""

    prompt: str
    """Everything before SONG_START."""
    words: tuple[str, ...]
    after: str
    """From the end mark on."""


def split_text(text: str) -> Text:
    """Cut `text` into prompt, words and what follows. Raises RecordError where it holds no piece."""
    start = text.rfind(FIRST_WORD)
    match = _PIECE.match(text, start) if start >= 0 else None
    if match is None:
        raise RecordError(f"text {text[:40]!r} holds no piece: {FIRST_WORD} is missing; run the stage convert again")
    return Text(text[:start], tuple(match.group().split(" ")), text[match.end() :])
