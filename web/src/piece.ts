import { TempoMap } from "./clock";
import type { Bar, ChordMark, Note, PedalMark, PieceAnswer, PieceEvent, Problem } from "./contract";

export type Status = "queued" | "writing" | "done" | "failed" | "cancelled";

/** A piece as far as it is known: events are applied as they arrive. */
export class Piece {
  status: Status = "queued";
  ahead = 0;
  key = "";
  metre = "";
  tempo = 0;
  barsAsked = 0;
  clock = new TempoMap(120);
  problem: Problem | null = null;
  /** model or arranger, once it is done; and who judged, where both wrote */
  writer = "";
  judge = "";
  readonly bars: Bar[] = [];
  readonly chords: ChordMark[] = [];
  readonly notes: Note[] = [];
  readonly pedals: PedalMark[] = [];
  /** Everything before this tick is known. */
  horizon = 0;

  /** A piece that is done, from its JSON. */
  static from(answer: PieceAnswer): Piece {
    const piece = new Piece();
    const { key, tempo, metre, bar_lines: lines, end } = answer;
    piece.apply({ type: "start", key: key ?? "", tempo, metre, bars_asked: lines.length });
    for (const [onset, tempo] of answer.tempos) if (onset > 0) piece.clock.add({ onset, tempo });
    lines.forEach((onset, at) => piece.bars.push({ bar: at + 1, onset, ticks: (lines[at + 1] ?? end) - onset }));
    for (const [onset, symbol] of answer.chords) piece.chords.push({ onset, symbol });
    for (const [onset, state] of answer.pedal) piece.pedals.push({ onset, state });
    answer.notes.forEach(([onset, pitch, duration, velocity], at) =>
      piece.notes.push({ onset, pitch, duration, velocity, hand: answer.hands[at] ?? -1 }),
    );
    piece.apply({ type: "done", bars: 0, notes: 0, seconds: 0, end, writer: answer.writer, judge: answer.judge });
    return piece;
  }

  /** Whether it is known which hand plays what. */
  get inHands(): boolean {
    return this.notes.some(({ hand }) => hand === 0 || hand === 1);
  }

  /** A counted beat, as a metronome clicks it: a dotted quarter in 6/8, 9/8 and 12/8 [ticks]. */
  get beat(): number {
    return /^(6|9|12)\/8$/.test(this.metre) ? 36 : 24;
  }

  apply(event: PieceEvent): void {
    switch (event.type) {
      case "queued":
        this.ahead = event.ahead;
        return;
      case "start":
        this.start(event);
        return;
      case "tempo":
        this.clock.add(event);
        return;
      case "done":
        this.horizon = Math.max(event.end, this.end);
        this.status = "done";
        this.writer = event.writer ?? "";
        this.judge = event.judge ?? "";
        return;
      case "problem":
        this.problem = event;
        this.status = "failed";
        return;
      default:
        this.mark(event);
    }
  }

  private start(event: PieceEvent & { type: "start" }): void {
    this.status = "writing";
    this.key = event.key;
    this.metre = event.metre;
    this.tempo = event.tempo;
    this.barsAsked = event.bars_asked ?? 0;
    if (event.tempo > 0) this.clock = new TempoMap(event.tempo);
  }

  private mark(event: PieceEvent & { type: "bar" | "chord" | "note" | "pedal" }): void {
    this.horizon = Math.max(this.horizon, event.onset);
    if (event.type === "bar") this.bars.push({ bar: event.bar, onset: event.onset, ticks: event.ticks });
    else if (event.type === "chord") this.chords.push({ onset: event.onset, symbol: event.symbol });
    else if (event.type === "pedal") this.pedals.push({ onset: event.onset, state: event.state });
    else {
      const { onset, pitch, duration, velocity } = event;
      this.notes.push({ onset, pitch, duration, velocity });
    }
  }

  /** Where the last bar written so far ends [ticks]. */
  get end(): number {
    const last = this.bars.at(-1);
    return Math.max(last ? last.onset + last.ticks : 0, this.status === "done" ? this.horizon : 0);
  }

  /** How long the piece is, or will be when all bars that were asked for are there [ticks]. */
  get expectedEnd(): number {
    const last = this.bars.at(-1);
    const missing = this.status === "done" ? 0 : Math.max(0, this.barsAsked - this.bars.length);
    return this.end + missing * (last?.ticks ?? 0);
  }

  get over(): boolean {
    return this.status === "done" || this.status === "failed" || this.status === "cancelled";
  }

  barAt(tick: number): Bar | undefined {
    return this.bars.findLast((bar) => bar.onset <= tick);
  }

  chordsIn(bar: Bar): ChordMark[] {
    return this.chords.filter((chord) => chord.onset >= bar.onset && chord.onset < bar.onset + bar.ticks);
  }

  notesIn(bar: Bar): number {
    return this.notes.filter((note) => note.onset >= bar.onset && note.onset < bar.onset + bar.ticks).length;
  }

  chordAt(tick: number): string {
    return this.chords.findLast((chord) => chord.onset <= tick)?.symbol ?? "";
  }

  pedalAt(tick: number): PedalState {
    return this.pedals.findLast((pedal) => pedal.onset <= tick)?.state ?? "off";
  }

  /** Notes whose key is down at this tick. */
  heldAt(tick: number): Note[] {
    return this.notes.filter((note) => note.onset <= tick && tick < note.onset + note.duration);
  }
}

type PedalState = PedalMark["state"];
