import type { PieceEvent } from "../src/contract";
import { Piece } from "../src/piece";

export const START: PieceEvent = { type: "start", key: "Db", tempo: 60, metre: "4/4", bars_asked: 4 };

export const note = (onset: number, pitch: number, duration = 24, velocity = 80): PieceEvent => ({
  type: "note", onset, pitch, duration, velocity,
});

export const bar = (number: number): PieceEvent => ({ type: "bar", bar: number, onset: (number - 1) * 96, ticks: 96 });

export const pedal = (onset: number, state: "on" | "off" | "half"): PieceEvent => ({ type: "pedal", onset, state });

export const chord = (onset: number, symbol: string): PieceEvent => ({ type: "chord", onset, symbol });

export const done = (end: number): PieceEvent => ({ type: "done", bars: 0, notes: 0, seconds: 0, end, writer: "model", judge: null });

export function pieceOf(...events: PieceEvent[]): Piece {
  const piece = new Piece();
  for (const event of [START, ...events]) piece.apply(event);
  return piece;
}
