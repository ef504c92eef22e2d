/** What plagal serve and this page say to each other. Times are ticks, 24 to a quarter note. */

export const TICKS_PER_QUARTER = 24;

export interface Note {
  onset: number;
  pitch: number;
  duration: number;
  velocity: number;
}

export interface ChordMark {
  onset: number;
  symbol: string;
}

export type PedalState = "on" | "off" | "half";

export interface PedalMark {
  onset: number;
  state: PedalState;
}

export interface TempoMark {
  onset: number;
  /** quarter notes a minute */
  tempo: number;
}

export interface Bar {
  /** counted from 1 */
  bar: number;
  onset: number;
  ticks: number;
}

export interface Problem {
  title: string;
  status: number;
  detail: string;
}

export interface Links {
  self: string;
  events: string;
  midi: string;
  words: string;
}

export interface Created {
  id: string;
  seed: number;
  /** what was made of the prompt, and what was not, in one line; nothing for blind pieces */
  understood?: string;
  links: Links;
}

export interface Limits {
  bars: number;
  prompt: number;
  midi_bytes: number;
}

export interface Catalogue {
  styles: { name: string; title: string }[];
  keys: string[];
  metres: string[];
  limits: Partial<Limits>;
}

export interface PieceRequest {
  prompt?: string;
  style?: string;
  key?: string;
  tempo?: number;
  metre?: string;
  bars?: number;
  seed?: number;
  density?: string;
  chords?: string;
  melody?: { midi: string } | { abc: string };
  continue?: { midi: string } | { piece: string; from_bar: number };
  refill?: { piece: string; first_bar: number; last_bar: number };
  vary?: { piece: string };
  temperature?: number;
  top_p?: number;
}

export type PieceEvent =
  | { type: "queued"; ahead: number }
  | { type: "start"; key: string; tempo: number; metre: string; bars_asked: number | null }
  | ({ type: "bar" } & Bar)
  | ({ type: "chord" } & ChordMark)
  | ({ type: "note" } & Note)
  | ({ type: "pedal" } & PedalMark)
  | ({ type: "tempo" } & TempoMark)
  | { type: "done"; bars: number; notes: number; seconds: number; end: number }
  | ({ type: "problem" } & Problem);

export interface Pair {
  pair: string;
  a: { links: Links };
  b: { links: Links };
}

export type Choice = "a" | "b" | "tie";
