import type { Piano } from "./piano";
import type { Piece } from "./piece";
import { Sequencer } from "./sequencer";

/** Notes are handed to the audio clock this far ahead [s], so that a busy page does not stutter. */
const LOOK_AHEAD = 0.2;
const TICK_MS = 40;
/** The last chord may ring this long before playing counts as over [s]. */
const RING_OUT = 1.5;

export type PlayerState = "stopped" | "playing" | "waiting";

/** Plays a piece from any tick, while it is still being written too: then it waits at the end of what is there. */
export class Player {
  state: PlayerState = "stopped";
  /** Called whenever the state changes. */
  onChange: () => void = () => {};
  private piece: Piece | null = null;
  private sequencer: Sequencer | null = null;
  private timer = 0;
  /** The audio time at which second 0 of the piece would have been heard [s]. */
  private zero = 0;
  private rest = 0;
  private request = 0;

  constructor(private readonly piano: Piano) {}

  /** Takes another piece, silent and at its beginning. */
  take(piece: Piece): void {
    this.pause();
    this.piece = piece;
    this.rest = 0;
    this.onChange();
  }

  /** Where the music is [ticks]. */
  get position(): number {
    if (!this.piece) return 0;
    const second = this.state === "playing" ? this.piano.now - this.piano.latency - this.zero : this.rest;
    return Math.min(Math.max(0, this.piece.clock.tick(second)), this.piece.end);
  }

  async play(from = this.position): Promise<void> {
    const piece = this.piece;
    if (!piece) return;
    const request = ++this.request;
    await this.piano.start();
    // Pressed again, or another piece taken, while the recordings were loading.
    if (request !== this.request || piece !== this.piece) return;
    if (this.state !== "stopped") this.halt();
    const start = from >= piece.end && piece.over ? 0 : from;
    this.sequencer = new Sequencer(piece);
    this.sequencer.seek(start);
    this.rest = piece.clock.seconds(start);
    this.zero = this.piano.now + 0.08 - this.rest;
    this.timer = window.setInterval(() => this.schedule(), TICK_MS);
    this.become("playing");
    this.schedule();
  }

  pause(): void {
    this.request++;
    if (this.state === "stopped" || !this.piece) return;
    this.rest = this.piece.clock.seconds(this.position);
    this.halt();
    this.become("stopped");
  }

  async seek(tick: number): Promise<void> {
    if (!this.piece) return;
    if (this.state === "stopped") {
      this.rest = this.piece.clock.seconds(tick);
      this.onChange();
    } else await this.play(tick);
  }

  private halt(): void {
    window.clearInterval(this.timer);
    this.piano.hush();
  }

  private become(state: PlayerState): void {
    this.state = state;
    this.onChange();
  }

  private schedule(): void {
    const piece = this.piece!;
    const clock = piece.clock;
    const known = piece.over ? Infinity : clock.seconds(piece.horizon);
    if (this.state === "waiting") {
      if (known < this.rest + LOOK_AHEAD) return;
      this.zero = this.piano.now - this.rest;
      this.become("playing");
    }
    const second = this.piano.now - this.zero;
    if (second > known) {
      this.rest = known;
      this.become("waiting");
      return;
    }
    const until = clock.tick(Math.min(second + LOOK_AHEAD, known));
    for (const command of this.sequencer!.advance(until)) {
      const at = Math.max(this.zero + clock.seconds(command.tick), this.piano.now);
      if (command.kind === "strike") this.piano.strike(command.pitch, command.velocity, at);
      else this.piano.damp(command.pitch, at);
    }
    if (piece.over && second > clock.seconds(piece.end) + RING_OUT) this.finish();
  }

  private finish(): void {
    this.halt();
    this.rest = 0;
    this.become("stopped");
  }
}
