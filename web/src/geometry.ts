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

export interface KeyBox {
  x: number;
  wide: number;
  black: boolean;
}

const NARROW_PX = 640;

/** The keys to show: all 88 where there is room; on a narrow screen those of the piece, from a C to a B. */
export function keyRange(piece: Piece | null, width: number): PitchRange {
  if (width >= NARROW_PX || !piece) return { low: LOWEST, high: HIGHEST };
  const { low, high } = pitchRange(piece);
  return { low: Math.max(LOWEST, low - (low % 12)), high: Math.min(HIGHEST, high + 11 - (high % 12)) };
}

/** Where each key of a range lies in a keyboard so wide. */
export function keyBoxes({ low, high }: PitchRange, width: number): Map<number, KeyBox> {
  const pitches = Array.from({ length: high - low + 1 }, (_, step) => low + step);
  const wide = width / pitches.filter((pitch) => !isBlack(pitch)).length;
  const boxes = new Map<number, KeyBox>();
  let white = 0;
  for (const pitch of pitches) {
    if (isBlack(pitch)) boxes.set(pitch, { x: (white - 0.32) * wide, wide: wide * 0.64, black: true });
    else boxes.set(pitch, { x: white++ * wide, wide, black: false });
  }
  return boxes;
}
