/** What plagal serve and this page say to each other. Times are ticks, 24 to a quarter note. */

export const TICKS_PER_QUARTER = 24;

export interface Note {
  onset: number;
  pitch: number;
  duration: number;
  velocity: number;
  /** 0 left, 1 right, -1 not known; known once the piece is done */
  hand?: number;
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
  musicxml: string;
  pdf: string;
}

/** What a playing that came with a request was heard as. */
export interface Heard {
  metre: string;
  /** beats a minute: dotted quarters in 12/8 */
  bpm: number;
  by: "ear" | "click";
  confidence: number;
}

export interface Hints {
  bpm?: number;
  metre?: string;
  /** second of a downbeat */
  first_downbeat?: number;
}

export interface Created {
  id: string;
  seed: number;
  /** what was made of the prompt, as a request to send again; nothing for blind pieces */
  request?: PieceRequest;
  not_understood?: string[];
  heard?: Heard | null;
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
  writers: Writer[];
  limits: Partial<Limits>;
}

export type Writer = "model" | "arranger" | "best";

export interface PieceRequest {
  prompt?: string;
  style?: string;
  key?: string;
  tempo?: number;
  metre?: string;
  bars?: number;
  seed?: number;
  density?: string;
  level?: string;
  chords?: string;
  beat?: string;
  tune?: string;
  feel?: string;
  intro?: string;
  ending?: string;
  modulate?: number;
  sections?: string;
  tries?: number;
  writer?: Writer;
  melody?: { midi: string; hints?: Hints } | { abc: string };
  continue?: { midi: string; hints?: Hints } | { piece: string; from_bar: number };
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
  | { type: "done"; bars: number; notes: number; seconds: number; end: number; writer: string | null; judge: string | null }
  | ({ type: "problem" } & Problem);

/** A piece that is done, as JSON. */
export interface PieceAnswer {
  id: string;
  status: string;
  key: string | null;
  tempo: number;
  metre: string;
  /** onset, pitch, duration, velocity */
  notes: [number, number, number, number][];
  /** of each note: 0 left, 1 right, -1 not known */
  hands: number[];
  chords: [number, string][];
  pedal: [number, PedalState][];
  tempos: [number, number][];
  bar_lines: number[];
  end: number;
  writer: string | null;
  judge: string | null;
}

export interface Pair {
  pair: string;
  a: { links: Links };
  b: { links: Links };
}

export type Choice = "a" | "b" | "tie";
