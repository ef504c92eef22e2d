"""An app's backend whose rule-based generator is replaced by the fine-tuned model: the drop-in.

    uvicorn --app-dir examples fastapi_backend:app
    curl -X POST localhost:8000/generate -H 'Content-Type: application/json' -d '{"prompt": "worship in Db"}' -o a.mid

Before, `generate` called the arranger's `generate_melody`. It still does where the model has no time or is not there,
and says so in a header, so that the app never goes without music.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, HTTPException, Request, Response
from pydantic import BaseModel

from plagal.asking.request import generate_melody
from plagal.music.midi import to_midi_bytes
from plagal.plumbing.errors import BusyError, InputError, ModelError
from plagal.serving import FinetunedQwenService


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """One model for the whole app, loaded before the first request is taken."""
    service = FinetunedQwenService(os.environ.get("PLAGAL_MODEL", "models/fused"), queue_limit=16)
    try:
        await service.start()
    except ModelError:
        pass  # `generate` answers with the arranger until there is a model
    app.state.service = service
    yield
    await service.close()


app = FastAPI(lifespan=lifespan)


class Wanted(BaseModel):
    prompt: str
    bars: int = 8
    seed: int = 0


async def _left(request: Request) -> None:
    """Returns when the client has gone."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


@app.post("/generate", response_class=Response)
async def generate(wanted: Wanted, request: Request) -> Response:
    """A piece as a MIDI file. A client that goes away takes its piece off the queue."""
    service: FinetunedQwenService = request.app.state.service
    writer = "model"
    writing = asyncio.ensure_future(service.generate_midi(wanted.prompt, bars=wanted.bars, seed=wanted.seed))
    # Nothing cancels a route whose client has gone (only streaming answers are): it has to look for itself.
    leaving = asyncio.ensure_future(_left(request))
    try:
        await asyncio.wait({writing, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not writing.done():
            return Response(status_code=499)  # nobody reads it
        midi = writing.result()
    except InputError as error:
        raise HTTPException(422, str(error)) from None
    except (BusyError, ModelError):
        writer = "arranger"
        score = await asyncio.to_thread(generate_melody, wanted.prompt, bars=wanted.bars, seed=wanted.seed)
        midi = to_midi_bytes(score)
    finally:
        writing.cancel()
        leaving.cancel()
    return Response(midi, media_type="audio/midi", headers={"X-Written-By": writer})
