import type { Piano } from "./piano";
import type { Piece } from "./piece";
import { Sequencer } from "./sequencer";

/** The last chord rings on [s]. */
const TAIL = 3;

/** A whole piece as a WAV file, 16 bits, as this page's piano plays it at the written tempo. */
export async function wavOf(piece: Piece, piano: Piano): Promise<Blob> {
  const sound = await piano.render(piece.clock.seconds(piece.end) + TAIL, (offline) => {
    for (const command of new Sequencer(piece).advance(piece.end + 1)) {
      const at = piece.clock.seconds(command.tick);
      if (command.kind === "strike") offline.strike(command.pitch, command.velocity, at);
      else if (command.kind === "damp") offline.damp(command.pitch, at);
      else offline.pedal(command.down, at);
    }
  });
  return encode(sound);
}

/** RIFF, one chunk of format and one of samples, little endian. */
function encode(sound: AudioBuffer): Blob {
  const { numberOfChannels: channels, length, sampleRate } = sound;
  const size = length * channels * 2;
  const view = new DataView(new ArrayBuffer(44 + size));
  const text = (at: number, letters: string) => [...letters].forEach((letter, place) => view.setUint8(at + place, letter.charCodeAt(0)));
  text(0, "RIFF");
  view.setUint32(4, 36 + size, true);
  text(8, "WAVEfmt ");
  view.setUint32(16, 16, true);
  view.setUint16(20, 1, true);
  view.setUint16(22, channels, true);
  view.setUint32(24, sampleRate, true);
  view.setUint32(28, sampleRate * channels * 2, true);
  view.setUint16(32, channels * 2, true);
  view.setUint16(34, 16, true);
  text(36, "data");
  view.setUint32(40, size, true);
  const data = Array.from({ length: channels }, (_, channel) => sound.getChannelData(channel));
  for (let frame = 0, at = 44; frame < length; frame++) {
    for (const samples of data) {
      view.setInt16(at, Math.round(Math.max(-1, Math.min(1, samples[frame]!)) * 32767), true);
      at += 2;
    }
  }
  return new Blob([view.buffer], { type: "audio/wav" });
}
