"""Train the tracker's net on made performances, and ship its weights.

    nice -n 15 python tools/train_tracker.py --minutes 60 --further --folder MIDI --not HELD_OUT

The shipped net began as that of version 0.1 (48 channels, seven layers, 2,080 batches), widened once by hand, with
weights that at first change nothing, to 64 channels, an eighth layer and outputs for the bar's length; then 6,400
batches with this program, half an hour of one core: 1,200 at `--rate 1.5e-3`, 200 at 1.1e-3, the rest at 2e-3 falling
to its end. After 1,400 the downbeats of made pieces had an F of .81, after all .85; those of transcribed ones (.85,
.84) and the metre (.75, .72) are no better. The widening is no part of this program: the same net cannot be made again
from nothing. Whoever trains on begins with these by --further. At last, and alone with --fit, it performs 300 pieces
to weigh what speaks for each metre, and 160 arrangements of validation tunes, an eighth of them with their onsets at
random, to weigh how sure a reading is.

Material: the arranger's settings of the tune book's training tunes, music21's chorales, and any folders of MIDI given
with --folder; nothing of a tune that is tested on (`--not FOLDER` names more of those, by ear). It stops after its
minutes and goes on from where it was when called again: `.cache/tracker/` holds the state. Only weights and a note
of what they were made of go into the package.
"""

from __future__ import annotations

import argparse
import json
import pickle
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import mir_eval.beat
import numpy as np

import plagal.model  # noqa: F401  # puts a fast BLAS in place before MLX is imported
from plagal.corpus.duplicates import Melodies, Tunes, heard_melody, intervals, melody_key, melody_text, split_of
from plagal.corpus.reading import book_melodies
from plagal.music.arranger.arrange import STYLES, arrange
from plagal.music.arranger.tunebook import tune_book
from plagal.music.midi import read_midi
from plagal.music.performance.hear import BAR_LENGTHS, METRES, Hints, beats_in, in_metre, sureness, witnesses
from plagal.music.performance.hear import Path as Reading
from plagal.music.performance.net import FRAMES_PER_SECOND, INPUTS, OUTPUTS, WEIGHTS, Shape, features, run
from plagal.music.performance.performer import Performance, draw_manner, perform
from plagal.music.performance.played import Played, Pulse
from plagal.music.score import Score
from plagal.plumbing.errors import PlagalError
from plagal.plumbing.files import atomic_path
from plagal.plumbing.params import load_params

CACHE = Path(".cache/tracker")
WINDOW = 40 * FRAMES_PER_SECOND
"""Frames of one training example: 40 s hold ten bars of a slow hymn."""
BATCH = 8
PERFORMED_ALREADY = (
    "Wohltemperierte",
    "Sonat",
    "Ballade",
    "Etude",
    "Et_de",
    "Scherzo",
    "Prae",
    "Prelud",
    "Fuga",
    "Fugue",
)
"""Files of concert pieces with these in their names stay out: the annotated performances that judge are of such."""


def tunes_of(part: str) -> list[str]:
    split = load_params().convert.split
    keys = {name: melody_key(melody) for name, melody in book_melodies().items()}
    return sorted(name for name, key in keys.items() if split_of(key, split.valid_percent, split.test_percent) == part)


def gather(folders: list[Path], judges: list[Path], seeds: int) -> list[Score]:
    """Scores to perform, none of a tune that is tested on."""
    tunes = tunes_of("train")
    scores = [arrange(tune, style, seed=seed) for tune in tunes for style in STYLES for seed in range(seeds)]
    print(f"{len(scores)} arrangements of {len(tunes)} of {len(tune_book())} tunes", flush=True)
    found = [*_chorales()]
    for folder in folders:
        for file in sorted(folder.rglob("*.mid")):
            if folder.name == "classical_piano" and any(word in file.name for word in PERFORMED_ALREADY):
                continue
            try:
                found.append(read_midi(file))
            except PlagalError as error:
                print(error, file=sys.stderr)
    kept = [score for score in found if 60 <= len(score.notes) <= 8000]
    tested = [score for folder in judges for file in sorted(folder.rglob("*.mid")) if (score := _maybe(file))]
    held_out = [melody for name, melody in book_melodies().items() if name not in tunes]
    heard = [melody_text(intervals(heard_melody(score))) for score in [*tested, *kept]]
    labels = Tunes([Melodies("", text, text, False) for text in [*held_out, *heard]]).label
    border = len(held_out) + len(tested)
    taken = set(labels[:border])
    fresh = [score for score, label in zip(kept, labels[border:], strict=True) if label not in taken]
    print(f"{len(fresh)} other pieces; {len(kept) - len(fresh)} left out: their tunes are tested on", flush=True)
    return scores + fresh


def _maybe(file: Path) -> Score | None:
    try:
        return read_midi(file)
    except PlagalError:
        return None


def _chorales() -> list[Score]:
    from music21 import corpus

    from plagal.music.notation import load_notation

    scores = []
    for path in corpus.getComposer("bach"):
        try:
            scores.append(load_notation(path))
        except PlagalError:
            continue
    return scores


def played(score: Score, seed: int) -> Performance:
    """A performance as the net learns from them; a third has a transcriber's errors."""
    draw = np.random.default_rng([seed, 7])
    transcribed = bool(draw.uniform() < 0.35)
    manner = draw_manner(np.random.default_rng([seed, 8]), transcribed)
    if draw.uniform() < 0.35:
        # Concert players bend time further than the performer's own draw: so they are heard in a third of the pieces.
        more = draw.uniform(1.0, 2.2, 3)
        manner = replace(
            manner,
            drift=manner.drift * more[0],
            phrase_end=manner.phrase_end * more[1],
            last_slowing=manner.last_slowing * more[2],
        )
    return perform(score, seed, manner)


def performed(score: Score, seed: int) -> np.ndarray:
    """A performance as features, targets and the targets' weights: (frames, INPUTS + 2 * OUTPUTS)."""
    performance = played(score, seed)
    inputs = features(performance.played)
    pulse = performance.pulse
    frames = len(inputs)
    targets = np.zeros((frames, OUTPUTS), np.float32)
    weights = np.ones((frames, OUTPUTS), np.float32)
    at = np.rint(pulse.seconds * FRAMES_PER_SECOND).astype(int)
    for column, chosen in ((0, at), (1, at[pulse.in_bar == 0])):
        for place in (chosen - 1, chosen + 1):
            # 20 ms early or late is neither right nor wrong. (Half a beat there, as others have it, learned slower.)
            weights[place[(place >= 0) & (place < frames)], column] = 0.0
        targets[chosen[(chosen >= 0) & (chosen < frames)], column] = 1.0
    beat = np.clip(np.searchsorted(at, np.arange(frames), side="right") - 1, 0, len(at) - 1)
    targets[:, 2] = pulse.compound[beat]
    targets[:, 3:] = pulse.length[beat][:, None] == np.array(BAR_LENGTHS)
    outside = (np.arange(frames) < at[0] - 3) | (np.arange(frames) > at[-1] + 3)
    weights[outside, :] *= 0.1
    weights[:, 2] *= 0.4
    weights[:, 3:] *= 0.2
    return np.concatenate([inputs, targets, weights], axis=1).astype(np.float32)


class Stage:
    """Performances to learn from: two new ones a batch, each heard in some windows before it goes."""

    def __init__(self, scores: list[Score], room: int = 48) -> None:
        self.scores, self.room = scores, room
        self.pool: list[np.ndarray] = []

    def batch(self, step: int) -> np.ndarray:
        draw = np.random.default_rng([3, step])
        for k in range(2 if len(self.pool) >= self.room else 8):
            self.pool.append(performed(self.scores[int(draw.integers(len(self.scores)))], step * 8 + k))
        self.pool = self.pool[-self.room :]
        windows = []
        for _ in range(BATCH):
            whole = self.pool[int(draw.integers(len(self.pool)))]
            begin = int(draw.integers(0, max(1, len(whole) - WINDOW // 2)))
            cut = whole[begin : begin + WINDOW]
            windows.append(np.pad(cut, ((0, WINDOW - len(cut)), (0, 0))))
        return np.stack(windows)


def train(scores: list[Score], minutes: float, shape: Shape, rate: float, start: bool) -> None:
    import mlx.core as mx
    import mlx.optimizers as optim
    from mlx.utils import tree_flatten, tree_unflatten

    names = shape.parameters()
    draw = np.random.default_rng(1)
    weights = {}
    for name, size in names.items():
        if name.endswith(("bias", "out.weight")):
            # Layers begin as nothing added: with random ones the first steps' loss was a hundred times what it is now.
            weights[name] = mx.zeros(size)
        else:
            weights[name] = mx.array(draw.normal(0, (1.0 / size[0]) ** 0.5, size).astype(np.float32))
    state_file = CACHE / "state.safetensors"
    optimizer = optim.AdamW(learning_rate=rate, weight_decay=0.01)
    optimizer.init(weights)
    # Steps of earlier runs count on: what they were taught does not come again.
    step, taught, spent, average = 0, 0, 0.0, dict(weights)
    if state_file.exists():
        stored = mx.load(str(state_file))
        weights = {name: stored[f"weights.{name}"] for name in names}
        average = {name: stored[f"average.{name}"] for name in names}
        moments = [(name[10:], value) for name, value in stored.items() if name.startswith("optimizer.")]
        optimizer.state = tree_unflatten(moments)
        step, taught = int(stored["step"].item()), int(stored["taught"].item())
        spent = float(stored["spent"].item())
        print(f"going on from step {step}")
    elif start:
        # The shipped net, taught further: other targets, or more material.
        shipped, about = mx.load(str(WEIGHTS), return_metadata=True)
        weights = {name: shipped[name] for name in names}
        average = dict(weights)
        taught = int(about["steps"])

    def elu(values: Any) -> Any:
        # MLX's own takes the exponential of large values, too: inf in the branch not taken is nan in its gradient.
        return mx.where(values > 0, values, mx.exp(mx.minimum(values, 0)) - 1)

    def forward(p: dict[str, Any], x: Any) -> Any:
        # The same net as `net.activations`, in the array library that can differentiate it.
        hidden = elu(x @ p["in.weight"] + p["in.bias"])
        length = x.shape[1]
        for layer, gap in enumerate(shape.gaps):
            reach = gap * (shape.kernel // 2)
            padded = mx.pad(hidden, ((0, 0), (reach, reach), (0, 0)))
            taps = [padded[:, k * gap : k * gap + length] for k in range(shape.kernel)]
            inner = elu(mx.concatenate(taps, axis=-1) @ p[f"{layer}.taps.weight"] + p[f"{layer}.taps.bias"])
            hidden = hidden + inner @ p[f"{layer}.out.weight"] + p[f"{layer}.out.bias"]
        return elu(hidden) @ p["head.weight"] + p["head.bias"]

    def loss_of(p: dict[str, Any], x: Any, y: Any, w: Any) -> Any:
        logits = forward(p, x)
        raw = mx.logaddexp(mx.zeros_like(logits), logits) - y * logits
        return mx.mean(raw * w, axis=(0, 1)).sum()

    step_of = mx.compile(mx.value_and_grad(loss_of))
    began, losses, stage = time.time() - spent, [], Stage(scores)
    while (spent := time.time() - began) < minutes * 60:
        # The rate falls with the minutes, not the steps: it ends low however slow the machine is.
        warm, through = min(1.0, (step + 1) / 100), spent / (minutes * 60)
        optimizer.learning_rate = rate * warm * (0.03 + 0.97 * (1 + np.cos(np.pi * through)) / 2)
        batch = stage.batch(taught + step)
        rows = batch.shape[1] // shape.pack
        parts = np.split(batch, [INPUTS, INPUTS + OUTPUTS], axis=2)
        x, y, w = (mx.array(np.ascontiguousarray(part.reshape(BATCH, rows, -1))) for part in parts)
        loss, grads = step_of(weights, x, y, w)
        grads, _ = optim.clip_grad_norm(grads, 1.0)
        weights = optimizer.apply_gradients(grads, weights)
        keep = min(0.995, 1 - 1 / (1 + step / 10))
        average = {name: keep * average[name] + (1 - keep) * value for name, value in weights.items()}
        mx.eval(weights, average, optimizer.state, loss)
        losses.append(loss.item())
        step += 1
        if step % 50 == 0:
            print(f"step {step} loss {np.mean(losses[-50:], axis=0).round(4)} {spent:.0f} s", flush=True)
        if step % 200 == 0:
            save(state_file, weights, average, optimizer, step, taught, spent, tree_flatten)
            publish(CACHE / "weights.safetensors", average, shape, taught + step)
    publish(CACHE / "weights.safetensors", average, shape, taught + step)


def save(
    file: Path, weights: Any, average: Any, optimizer: Any, step: int, taught: int, spent: float, flatten: Any
) -> None:
    import mlx.core as mx

    arrays = {f"weights.{name}": value for name, value in weights.items()}
    arrays |= {f"average.{name}": value for name, value in average.items()}
    arrays |= {f"optimizer.{name}": value for name, value in flatten(optimizer.state)}
    with atomic_path(file) as temporary:
        whole = temporary.with_suffix(".safetensors")
        mx.save_safetensors(
            str(whole), arrays | {"step": mx.array(step), "taught": mx.array(taught), "spent": mx.array(spent)}
        )
        whole.rename(temporary)


METRE_PIECES, SURE_PIECES = 300, 160


def fit(scores: list[Score]) -> None:
    """Weigh what speaks for each metre on new performances of `scores`, and how sure a reading is on performances of
    the validation tunes; write both beside the trained net as the package's weights."""
    from safetensors import safe_open

    file = CACHE / "weights.safetensors"
    with safe_open(str(file), framework="numpy") as opened:
        about = opened.metadata()
        arrays = {name: opened.get_tensor(name) for name in Shape().parameters()}
    names, draw = list(METRES), np.random.default_rng(11)
    seen, metres = [], []
    # The first of `scores` are the arrangements: they are what is played most.
    arranged = len(tunes_of("train")) * len(STYLES)
    for number in range(METRE_PIECES):
        chosen = int(draw.integers(arranged)) if draw.uniform() < 0.5 else int(draw.integers(len(scores)))
        performance = played(scores[chosen], 7_000_000 + number)
        if performance.pulse.metre in names:
            path, pulse, heard = first_reading(performance.played, arrays)
            seen.append(witnesses(performance.played, pulse, path, heard))
            metres.append(names.index(performance.pulse.metre))
    metre = logistic(np.array(seen), np.eye(len(names))[metres])
    fitted = {"metre.weight": metre.astype(np.float32)}
    settings = [(tune, style) for tune in tunes_of("valid") for style in STYLES]
    columns, right = [], []
    for number in range(SURE_PIECES):
        tune, style = settings[number % len(settings)]
        score = arrange(tune, style, seed=700 + number)
        performance = played(score, 8_000_000 + number)
        notes = performance.played
        if number % 8 == 7:
            # What has no beat at all must not be believed: the same keys at random moments.
            onsets = np.sort(np.random.default_rng(number).uniform(0.0, notes.seconds, len(notes.notes)))
            notes = Played(np.column_stack([onsets, notes.notes[:, 1:]]))
        path, pulse, heard = first_reading(notes, arrays)
        logits = witnesses(notes, pulse, path, heard) @ metre
        chances = np.exp(logits - logits.max())
        path, _, of_length = in_metre(path, heard, chances / chances.sum(), Hints())
        columns.append(sureness(path, heard, of_length).mean(axis=0))
        found = mir_eval.beat.trim_beats(pulse.seconds[path.in_bar == 0])
        right.append(mir_eval.beat.f_measure(mir_eval.beat.trim_beats(performance.pulse.downbeats), found) > 0.8)
    both = logistic(np.array(columns), np.stack([np.array(right), ~np.array(right)], axis=1))
    fitted["sure.weight"] = (both[:, 0] - both[:, 1]).astype(np.float32)
    said = 1 / (1 + np.exp(-np.array(columns) @ fitted["sure.weight"]))
    for low, high in ((0, 0.5), (0.5, 0.8), (0.8, 0.9), (0.9, 1.01)):
        here = np.array(right)[(said >= low) & (said < high)]
        print(f"said {low} to {high}: {here.sum()} of {len(here)} right", flush=True)
    publish(WEIGHTS, arrays | fitted, Shape(), int(about["steps"]))


def first_reading(notes: Played, arrays: dict[str, np.ndarray]) -> tuple[Reading, Pulse, np.ndarray]:
    heard = run(Shape(), arrays, features(notes))
    path, pulse = beats_in(notes, heard, Hints())
    return path, pulse, heard


def logistic(seen: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Weights (inputs, classes) of a regression from `seen`, its first column 1, by Adam with a little decay."""
    middle, spread = seen.mean(axis=0), seen.std(axis=0) + 1e-6
    middle[0], spread[0] = 0.0, 1.0
    inputs = (seen - middle) / spread
    weights = np.zeros((seen.shape[1], truth.shape[1]))
    first, second = np.zeros_like(weights), np.zeros_like(weights)
    for step in range(1, 1501):
        logits = inputs @ weights
        chances = np.exp(logits - logits.max(axis=1, keepdims=True))
        chances /= chances.sum(axis=1, keepdims=True)
        slope = inputs.T @ (chances - truth) / len(seen) + 0.01 * weights
        first, second = 0.9 * first + 0.1 * slope, 0.999 * second + 0.001 * slope**2
        weights -= 0.02 * first / (1 - 0.9**step) / (np.sqrt(second / (1 - 0.999**step)) + 1e-8)
    weights /= spread[:, None]
    weights[0] -= middle @ weights
    return weights


def publish(file: Path, average: Any, shape: Shape, step: int) -> None:
    from safetensors.numpy import save as to_bytes

    arrays = {name: np.array(value).astype(np.float32) for name, value in average.items()}
    about = {"shape": json.dumps(asdict(shape)), "steps": str(step)}
    with atomic_path(file) as temporary:
        temporary.write_bytes(to_bytes(arrays, about))


def main() -> None:
    wishes = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    wishes.add_argument("--minutes", type=float, default=25.0)
    wishes.add_argument("--rate", type=float, default=2.5e-3)
    wishes.add_argument("--further", action="store_true", help="begin with the shipped weights, not with none")
    wishes.add_argument("--fit", action="store_true", help="only weigh anew what the trained net hears")
    wishes.add_argument("--seeds", type=int, default=2, help="arrangements of each tune in each style")
    wishes.add_argument("--folder", type=Path, action="append", default=[], help="MIDI to perform, too")
    wishes.add_argument("--not", dest="judges", type=Path, action="append", default=[], help="tunes to leave out")
    options = wishes.parse_args()
    CACHE.mkdir(parents=True, exist_ok=True)
    gathered = CACHE / "scores.pickle"
    if not gathered.exists():
        scores = gather(options.folder, options.judges, options.seeds)
        with atomic_path(gathered) as temporary:
            temporary.write_bytes(pickle.dumps(scores))
    scores = pickle.loads(gathered.read_bytes())  # noqa: S301 - our own cache, written above
    if not options.fit:
        train(scores, options.minutes, Shape(), options.rate, options.further)
    fit(scores)


if __name__ == "__main__":
    main()
