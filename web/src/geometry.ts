import type { Piece } from "./piece";

export interface PitchRange {
  low: number;
  high: number;
}

/** Room for a chord's name, and how wide bars may grow for it [px]. */
const CHORD_NAME = 52;
const MOST_BAR = 240;
const LOWEST = 21;
const HIGHEST = 108;

/** The pitches to show: two octaves around middle C at least, and three keys of air around the notes. */
export function pitchRange(piece: Piece): PitchRange {
  let low = 48;
  let high = 72;
  for (const { pitch } of piece.notes) {
    low = Math.min(low, pitch - 3);
    high = Math.max(high, pitch + 3);
  }
  return { low: Math.max(LOWEST, low), high: Math.min(HIGHEST, high) };
}

/**
 * Pixels to a tick: the whole piece fits where bars stay readable (`least` pixels a bar, and room for each chord's
 * name); else the roll scrolls. Bars never grow beyond a third of the view.
 */
export function scale(piece: Piece, width: number, least: number): number {
  const ticks = piece.bars.at(-1)?.ticks ?? 96;
  const fit = width / Math.max(piece.expectedEnd, ticks);
  const closest = Math.min(...piece.chords.slice(1).map((chord, at) => chord.onset - piece.chords[at]!.onset).filter((gap) => gap > 0));
  const readable = Math.max(least / ticks, Math.min(CHORD_NAME / closest, MOST_BAR / ticks));
  return Math.max(readable, Math.min(fit, width / 3 / ticks));
}

export interface Span {
  first: number;
  last: number;
}

/** The bars between two, whichever comes first. */
export function span(one: number, other: number): Span {
  return { first: Math.min(one, other), last: Math.max(one, other) };
}

const BLACK = new Set([1, 3, 6, 8, 10]);

export function isBlack(pitch: number): boolean {
  return BLACK.has(pitch % 12);
}
