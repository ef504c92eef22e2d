import type { Note } from "./contract";
import type { Piece } from "./piece";

export type Verdict = "right" | "early" | "late" | "wrong" | "missed";

/** So far beside its moment a note is still right, and so far it is still that note, early or late [s]. */
const RIGHT_S = 0.12;
const NEAR_S = 0.5;

/** Listens to a person playing along: which notes of theirs are right, and what a bar came to. */
export class Coach {
  private readonly results = new Map<number, Partial<Record<Verdict, number>>>();
  private readonly done = new Set<Note>();
  private expected: Note[] = [];
  /** Called when a bar's result has changed. */
  onResult: (bar: number) => void = () => {};

  constructor(
    private readonly piece: Piece,
    private readonly isMine: (note: Note) => boolean,
  ) {
    this.restart(0);
  }

  /** Playing begins here, or a loop turned back: what comes is judged anew. */
  restart(tick: number): void {
    this.expected = this.piece.notes.filter((note) => note.onset >= tick && this.isMine(note));
    for (const note of this.expected) this.done.delete(note);
    for (const { bar, onset } of this.piece.bars) if (onset >= tick && this.results.delete(bar)) this.onResult(bar);
  }

  /** The next notes to be struck together. */
  get next(): Note[] {
    const first = this.expected.find((note) => !this.done.has(note));
    return first ? this.expected.filter((note) => note.onset === first.onset && !this.done.has(note)) : [];
  }

  /** A key goes down while the music waits for it: there is no early and no late. */
  press(pitch: number): Verdict {
    const wanted = this.next;
    const note = wanted.find((other) => other.pitch === pitch);
    if (!note) return this.count(wanted[0]?.onset ?? this.piece.end - 1, "wrong");
    this.done.add(note);
    return this.count(note.onset, "right");
  }

  /** A key goes down while the music goes on. `tick`: where it is; `speed`: share of the written tempo. */
  strike(pitch: number, tick: number, speed: number): Verdict {
    const { clock } = this.piece;
    const off = (note: Note) => (clock.seconds(tick) - clock.seconds(note.onset)) / speed;
    const near = this.expected.filter((note) => note.pitch === pitch && !this.done.has(note) && Math.abs(off(note)) <= NEAR_S);
    const note = near.sort((one, other) => Math.abs(off(one)) - Math.abs(off(other)))[0];
    if (!note) return this.count(tick, "wrong");
    this.done.add(note);
    const seconds = off(note);
    return this.count(note.onset, Math.abs(seconds) <= RIGHT_S ? "right" : seconds < 0 ? "early" : "late");
  }

  /** The music has come to this tick: what should have been struck well before it was missed. */
  pass(tick: number, speed: number): void {
    const { clock } = this.piece;
    const limit = clock.seconds(tick) - NEAR_S * speed;
    for (const note of this.expected) {
      if (clock.seconds(note.onset) > limit) break;
      if (this.done.has(note)) continue;
      this.done.add(note);
      this.count(note.onset, "missed");
    }
  }

  /** "7 right, 1 late, 2 wrong"; empty where nothing was judged in this bar. */
  result(bar: number): string {
    const counts = this.results.get(bar) ?? {};
    const order: Verdict[] = ["right", "early", "late", "wrong", "missed"];
    return order.flatMap((verdict) => (counts[verdict] ? [`${counts[verdict]} ${verdict}`] : [])).join(", ");
  }

  /** Whether every note of a bar was right, and none too many. */
  perfect(bar: number): boolean {
    const counts = this.results.get(bar);
    return counts !== undefined && !counts.early && !counts.late && !counts.wrong && !counts.missed;
  }

  private count(tick: number, verdict: Verdict): Verdict {
    const bar = this.piece.barAt(tick)?.bar ?? 1;
    const counts = this.results.get(bar) ?? {};
    counts[verdict] = (counts[verdict] ?? 0) + 1;
    this.results.set(bar, counts);
    this.onResult(bar);
    return verdict;
  }
}
