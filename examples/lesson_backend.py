"""A lesson's backend: an exercise as sheet music, MIDI and sound, and a check of what the learner played.

    uvicorn --app-dir examples lesson_backend:app
    curl -X POST 'localhost:8000/exercises?tune=amazing_grace&bars=8'            {"id": "..."}
    curl localhost:8000/exercises/ID.pdf -o exercise.pdf                         .musicxml, .mid and .wav as well
    curl -X POST localhost:8000/exercises/ID/takes --data-binary @take.mid       what was right, bar by bar

Exercises are arranged by rules, so it runs without a model; `await service.generate_score(prompt)` of
`FinetunedQwenService` gives the same kind of score from one.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable

from fastapi import FastAPI, HTTPException, Request, Response

import plagal
from plagal.lesson import compare
from plagal.music.midi import read_midi, to_midi_bytes
from plagal.music.score import Score
from plagal.plumbing.errors import InputError
from plagal.serving.sound import wav_bytes
from plagal.sheet import to_musicxml, to_pdf

app = FastAPI()
exercises: dict[str, Score] = {}
FORMS: dict[str, tuple[str, Callable[[Score], bytes]]] = {
    "pdf": ("application/pdf", to_pdf),
    "musicxml": ("application/vnd.recordare.musicxml+xml", lambda score: to_musicxml(score).encode()),
    "mid": ("audio/midi", to_midi_bytes),
    "wav": ("audio/wav", wav_bytes),
}


@app.post("/exercises")
def new_exercise(tune: str | None = None, style: str = "hymnal", key: str = "C", bars: int = 8) -> dict[str, str]:
    try:
        score = plagal.arrange(tune, style, key=key, bars=bars, seed=secrets.randbelow(1000))
    except InputError as error:
        raise HTTPException(422, str(error)) from None
    name = secrets.token_urlsafe(9)
    exercises[name] = score
    return {"id": name}


@app.get("/exercises/{name}.{form}")
def exercise(name: str, form: str) -> Response:
    if name not in exercises or form not in FORMS:
        raise HTTPException(404, f"no exercise {name}.{form}")
    kind, made = FORMS[form]
    return Response(made(exercises[name]), media_type=kind)


@app.post("/exercises/{name}/takes")
async def take(name: str, request: Request) -> dict[str, object]:
    if name not in exercises:
        raise HTTPException(404, f"no exercise {name}")
    try:
        found = compare(exercises[name], read_midi(await request.body()))
    except InputError as error:
        raise HTTPException(422, str(error)) from None
    return {"tempo": round(found.quarters_per_minute), "extra": len(found.extra), "bars": found.by_bar()}
