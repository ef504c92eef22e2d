import { TICKS_PER_QUARTER, type Note } from "./contract";
import type { Piece } from "./piece";

export type Command =
  | { kind: "strike"; tick: number; pitch: number; velocity: number; note: Note }
  | { kind: "damp"; tick: number; pitch: number }
  /** The pedal's own noise. */
  | { kind: "pedal"; tick: number; down: boolean };

interface Release {
  tick: number;
  note: Note;
}

/** Under a half-pressed pedal the dampers brush the strings: a note rings on for this long after its key is up [ticks]. */
const HALF_PEDAL_RING = TICKS_PER_QUARTER;

/**
 * Plays a piece that may still be growing: says, from tick to tick, which strings are struck and which are damped.
 * Keys that go up while the pedal is down ring until it is lifted; a key struck again damps its own string first.
 */
export class Sequencer {
  private nextNote = 0;
  private nextPedal = 0;
  private pedal: "on" | "off" | "half" = "off";
  private releases: Release[] = [];
  private readonly held = new Map<number, Note>();
  private readonly ringing = new Map<number, Note>();

  constructor(private readonly piece: Piece) {}

  /** Goes to a tick without a sound; notes that began before it are not struck again. */
  seek(tick: number): void {
    this.releases = [];
    this.held.clear();
    this.ringing.clear();
    this.nextNote = countBefore(this.piece.notes, tick);
    this.nextPedal = countBefore(this.piece.pedals, tick);
    this.pedal = this.piece.pedals[this.nextPedal - 1]?.state ?? "off";
  }

  /** Every key and string is let go, as where a loop turns back. */
  letGo(tick: number): Command[] {
    const pitches = new Set([...this.held.keys(), ...this.ringing.keys()]);
    return [...pitches].map((pitch) => ({ kind: "damp", tick, pitch }));
  }

  /** What happens from where it stands up to, and not at, `until` [ticks]. */
  advance(until: number): Command[] {
    const commands: Command[] = [];
    for (;;) {
      const note = this.piece.notes[this.nextNote];
      const pedal = this.piece.pedals[this.nextPedal];
      const release = this.releases[0];
      const next = Math.min(note?.onset ?? Infinity, pedal?.onset ?? Infinity, release?.tick ?? Infinity);
      if (next >= until) break;
      // At one tick keys go up first, then the pedal moves, then keys go down.
      if (release?.tick === next) this.keyUp(this.releases.shift()!, commands);
      else if (pedal?.onset === next) this.movePedal(next, commands);
      else this.strike(this.piece.notes[this.nextNote++]!, commands);
    }
    return commands;
  }

  private strike(note: Note, commands: Command[]): void {
    const { onset: tick, pitch, velocity } = note;
    if (this.held.has(pitch) || this.ringing.delete(pitch)) commands.push({ kind: "damp", tick, pitch });
    commands.push({ kind: "strike", tick, pitch, velocity, note });
    this.held.set(pitch, note);
    this.insert({ tick: tick + note.duration, note });
  }

  private keyUp({ tick, note }: Release, commands: Command[]): void {
    const pitch = note.pitch;
    if (this.ringing.get(pitch) === note) {
      this.ringing.delete(pitch);
      commands.push({ kind: "damp", tick, pitch });
      return;
    }
    if (this.held.get(pitch) !== note) return;
    this.held.delete(pitch);
    if (this.pedal === "off") commands.push({ kind: "damp", tick, pitch });
    else {
      this.ringing.set(pitch, note);
      if (this.pedal === "half") this.insert({ tick: tick + HALF_PEDAL_RING, note });
    }
  }

  private movePedal(tick: number, commands: Command[]): void {
    const pedal = this.piece.pedals[this.nextPedal++]!;
    // A sign for "down" while it is down means: lift and press again.
    const lifts = pedal.state === "off" || (pedal.state === "on" && this.pedal === "on");
    if (lifts) {
      for (const pitch of this.ringing.keys()) commands.push({ kind: "damp", tick, pitch });
      this.ringing.clear();
    }
    if ((pedal.state === "off") !== (this.pedal === "off")) commands.push({ kind: "pedal", tick, down: pedal.state !== "off" });
    this.pedal = pedal.state;
  }

  private insert(release: Release): void {
    const at = this.releases.findIndex((other) => other.tick > release.tick);
    this.releases.splice(at < 0 ? this.releases.length : at, 0, release);
  }
}

function countBefore(marks: readonly { onset: number }[], tick: number): number {
  const index = marks.findIndex((mark) => mark.onset >= tick);
  return index < 0 ? marks.length : index;
}
