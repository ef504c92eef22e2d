import type { Span } from "./geometry";
import type { Piano } from "./piano";
import type { Piece } from "./piece";
import { Sequencer, type Command } from "./sequencer";
import { Settings } from "./settings";

/** Notes are handed to the audio clock this far ahead [s], so that a busy page does not stutter. */
const LOOK_AHEAD = 0.2;
const TICK_MS = 40;
/** The last chord may ring this long before playing counts as over [s]. */
const RING_OUT = 1.5;
/** Time for the first notes to be handed over [s]. */
const HEAD_START = 0.08;

export type PlayerState = "stopped" | "playing" | "waiting";

/** From audio time `at` on, the piece is at `second` and moves at `speed`: a change of speed or a loop begins another. */
interface Stretch {
  at: number;
  second: number;
  speed: number;
}

/** Plays a piece from any tick, while it is still being written too: then it waits at the end of what is there. */
export class Player {
  state: PlayerState = "stopped";
  /** Bars that are played over and over, where the settings say so; the whole piece where none are chosen. */
  span: Span | null = null;
  /** The music goes no further than this tick before it is moved: "wait for me". */
  gate = Infinity;
  /** Called whenever the state changes. */
  onChange: () => void = () => {};
  /** Called where playing begins or turns back [ticks]. */
  onStart: (tick: number) => void = () => {};
  private piece: Piece | null = null;
  private sequencer: Sequencer | null = null;
  private timer = 0;
  private stretches: Stretch[] = [];
  private rest = 0;
  private request = 0;
  /** Up to here the metronome's clicks are handed over [ticks]. */
  private clicked = 0;
  /** Strings that this player has struck: a person's own on the same keys are not damped. */
  private readonly struck = new Set<number>();

  constructor(
    private readonly piano: Piano,
    private readonly settings = new Settings(),
  ) {}

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
    const playing = this.state === "playing";
    const second = playing ? this.secondAt(this.piano.now - this.piano.latency) : this.rest;
    // On a busy page the turn of a loop may be late; what is shown waits for it in the loop's last bar.
    const most = (playing && this.loop()?.to) || this.piece.end + 1;
    return Math.min(Math.max(0, this.piece.clock.tick(second)), most - 1, this.piece.end);
  }

  async play(from = this.position): Promise<void> {
    const piece = this.piece;
    if (!piece) return;
    const request = ++this.request;
    await this.piano.start();
    // Pressed again, or another piece taken, while the recordings were loading.
    if (request !== this.request || piece !== this.piece) return;
    if (this.state !== "stopped") this.halt();
    const loop = this.loop();
    const outside = loop !== null && (from < loop.from || from >= loop.to);
    const start = outside ? loop.from : from >= piece.end && piece.over ? 0 : from;
    this.sequencer = new Sequencer(piece);
    this.begin(start);
    this.rest = piece.clock.seconds(start);
    const at = this.countIn(start, this.piano.now + HEAD_START);
    this.stretches = [{ at, second: this.rest, speed: this.settings.speed }];
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

  /** Another speed from now on. */
  retime(): void {
    if (this.state !== "playing") return;
    const now = this.piano.now;
    this.stretches.push({ at: now, second: this.secondAt(now), speed: this.settings.speed });
  }

  private secondAt(time: number): number {
    const stretch = this.stretches.findLast(({ at }) => at <= time) ?? this.stretches[0];
    return stretch ? stretch.second + Math.max(0, time - stretch.at) * stretch.speed : this.rest;
  }

  /** The audio time of a second of the piece, on the last stretch. */
  private timeOf(second: number): number {
    const stretch = this.stretches.at(-1)!;
    return Math.max(this.piano.now, stretch.at + (second - stretch.second) / stretch.speed);
  }

  private loop(): { from: number; to: number } | null {
    const piece = this.piece!;
    if (!this.settings.loop || !piece.over) return null;
    const first = piece.bars[(this.span?.first ?? 1) - 1];
    const last = piece.bars[(this.span?.last ?? piece.bars.length) - 1];
    return first && last ? { from: first.onset, to: last.onset + last.ticks } : null;
  }

  private begin(tick: number): void {
    this.sequencer!.seek(tick);
    this.clicked = tick;
    this.onStart(tick);
  }

  /** Clicks a bar's beats, where that is wished; answers when the music begins. */
  private countIn(tick: number, at: number): number {
    const piece = this.piece!;
    const bar = piece.barAt(tick);
    if (!this.settings.countIn || !bar) return at;
    const beats = Math.max(1, Math.round(bar.ticks / piece.beat));
    const seconds = (piece.clock.seconds(bar.onset + piece.beat) - piece.clock.seconds(bar.onset)) / this.settings.speed;
    for (let beat = 0; beat < beats; beat++) this.piano.click(at + beat * seconds, beat === 0);
    return at + beats * seconds;
  }

  private halt(): void {
    window.clearInterval(this.timer);
    this.piano.hush();
    this.struck.clear();
  }

  private become(state: PlayerState): void {
    this.state = state;
    this.onChange();
  }

  private schedule(): void {
    const piece = this.piece!;
    const clock = piece.clock;
    // What is written so far, and what the person has allowed.
    const known = Math.min(piece.over ? Infinity : clock.seconds(piece.horizon), clock.seconds(this.gate));
    if (this.state === "waiting") {
      if (known <= this.rest || (!piece.over && known < this.rest + LOOK_AHEAD)) return;
      this.stretches = [{ at: this.piano.now, second: this.rest, speed: this.settings.speed }];
      this.become("playing");
    }
    const second = this.secondAt(this.piano.now);
    if (second >= known) {
      this.rest = known;
      this.become("waiting");
      return;
    }
    for (let turns = 0; turns < 4; turns++) {
      const stretch = this.stretches.at(-1)!;
      const ahead = stretch.second + Math.max(0, this.piano.now + LOOK_AHEAD - stretch.at) * stretch.speed;
      const loop = this.loop();
      const end = loop ? clock.seconds(loop.to) : Infinity;
      const until = Math.min(ahead, known, end);
      this.send(this.sequencer!.advance(clock.tick(until)));
      this.clicks(clock.tick(until));
      if (!loop || until < end) break;
      // Back to the first bar of the loop, on the beat.
      this.send(this.sequencer!.letGo(loop.to));
      const at = this.timeOf(end);
      this.stretches.push({ at, second: clock.seconds(loop.from), speed: this.settings.speed });
      this.begin(loop.from);
    }
    if (piece.over && second > clock.seconds(piece.end) + RING_OUT) this.finish();
  }

  private send(commands: Command[]): void {
    for (const command of commands) {
      const at = this.timeOf(this.piece!.clock.seconds(command.tick));
      if (command.kind === "pedal") this.piano.pedal(command.down, at);
      else if (command.kind === "damp") {
        if (this.struck.delete(command.pitch)) this.piano.damp(command.pitch, at);
      } else if (this.settings.isHeard(command.note)) {
        this.piano.strike(command.pitch, command.velocity, at);
        this.struck.add(command.pitch);
      }
    }
  }

  private clicks(until: number): void {
    const piece = this.piece!;
    if (this.settings.metronome) {
      for (const bar of piece.bars) {
        for (let tick = bar.onset; tick < bar.onset + bar.ticks; tick += piece.beat) {
          if (tick < this.clicked || tick >= until) continue;
          this.piano.click(this.timeOf(piece.clock.seconds(tick)), tick === bar.onset);
        }
      }
    }
    this.clicked = Math.max(this.clicked, until);
  }

  private finish(): void {
    this.halt();
    this.rest = 0;
    this.become("stopped");
  }
}
