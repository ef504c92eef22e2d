import { calm, palette, prepare } from "./canvas";
import type { Note } from "./contract";
import { isBlack, pitchRange, scale, type PitchRange, type Span } from "./geometry";
import { Piece } from "./piece";
import { LEFT, Settings } from "./settings";

const COLOURS = [
  "roll", "roll-black", "line", "bar-line", "note", "note-edge", "left", "left-edge", "playing", "playing-edge", "cursor", "selected", "selected-edge", "quiet", "accent",
] as const;
type Colours = Record<(typeof COLOURS)[number], string>;

const PEDAL_LANE = 16;
const APPEAR_MS = 350;
/** Bars are at least this wide [px]. */
const LEAST_BAR = 84;

interface View {
  brush: CanvasRenderingContext2D;
  width: number;
  height: number;
  left: number;
  range: PitchRange;
  row: number;
  colour: Colours;
}

export interface RollElements {
  scroller: HTMLElement;
  content: HTMLElement;
  canvas: HTMLCanvasElement;
  gutter: HTMLCanvasElement;
}

/** Draws the part of a piece that is in view. The canvas stays as wide as the view; what scrolls is the space behind it. */
export class Roll {
  pixelsPerTick = 1;
  selection: Span | null = null;
  private piece = new Piece();
  private arrived = new WeakMap<Note, number>();
  private seen = 0;
  private colours: Colours | null = null;
  /** Whether notes are still fading in, so that another frame is wanted. */
  moving = false;

  constructor(
    private readonly parts: RollElements,
    private readonly settings = new Settings(),
  ) {}

  take(piece: Piece): void {
    this.piece = piece;
    this.selection = null;
    this.seen = piece.over ? piece.notes.length : 0;
    this.arrived = new WeakMap();
    this.parts.scroller.scrollLeft = 0;
    this.measure();
  }

  /** Marks when notes came, so that they can fade in. */
  private greet(): void {
    const now = performance.now();
    for (; this.seen < this.piece.notes.length; this.seen++) this.arrived.set(this.piece.notes[this.seen]!, now);
  }

  recolour(): void {
    this.colours = null;
  }

  /** Fits the width to what is known of the piece. */
  measure(): void {
    this.greet();
    const width = this.parts.scroller.clientWidth;
    this.pixelsPerTick = scale(this.piece, width, LEAST_BAR);
    const whole = Math.max(width, Math.ceil(this.piece.expectedEnd * this.pixelsPerTick));
    this.parts.content.style.width = `${whole}px`;
    this.parts.canvas.style.width = `${width}px`;
  }

  x(tick: number): number {
    return tick * this.pixelsPerTick;
  }

  /** The tick under a point of the window. */
  tickAt(clientX: number): number {
    return (clientX - this.parts.content.getBoundingClientRect().left) / this.pixelsPerTick;
  }

  /** Scrolls only as far as needed to keep a tick in view. */
  follow(tick: number): void {
    const { scroller } = this.parts;
    const x = this.x(tick);
    const { scrollLeft: left, clientWidth: width } = scroller;
    if (x < left || x > left + width - 40) scroller.scrollLeft = Math.max(0, x - width * 0.25);
  }

  draw(cursor: number, sounding: boolean): void {
    const piece = this.piece;
    this.colours ??= palette(COLOURS);
    const { brush, width, height } = prepare(this.parts.canvas);
    const range = pitchRange(piece);
    const row = (height - PEDAL_LANE) / (range.high - range.low + 1);
    const view: View = { brush, width, height, left: this.parts.scroller.scrollLeft, range, row, colour: this.colours };
    this.ground(view);
    this.barLines(view, piece);
    this.selected(view, piece);
    this.pedal(view, piece);
    this.notes(view, piece, sounding ? cursor : null);
    if (piece.notes.length > 0) this.cursor(view, cursor);
    this.octaves(view);
  }

  private y(view: View, pitch: number): number {
    return (view.range.high - pitch) * view.row;
  }

  private ground(view: View): void {
    const { brush, colour, range, row, width } = view;
    brush.fillStyle = colour.roll;
    brush.fillRect(0, 0, width, view.height);
    for (let pitch = range.low; pitch <= range.high; pitch++) {
      if (isBlack(pitch)) {
        brush.fillStyle = colour["roll-black"];
        brush.fillRect(0, this.y(view, pitch), width, row);
      } else if (pitch % 12 === 0) {
        brush.fillStyle = colour.line;
        brush.fillRect(0, this.y(view, pitch) + row - 0.5, width, 1);
      }
    }
  }

  private barLines(view: View, piece: Piece): void {
    const { brush, colour, height, width, left } = view;
    for (const bar of piece.bars) {
      const x = this.x(bar.onset) - left;
      if (x > width || x + this.x(bar.ticks) < 0) continue;
      brush.fillStyle = colour.line;
      for (let tick = 24; tick < bar.ticks; tick += 24) brush.fillRect(Math.round(x + this.x(tick)), 0, 1, height - PEDAL_LANE);
      brush.fillStyle = colour["bar-line"];
      brush.fillRect(Math.round(x), 0, 1, height);
    }
    brush.fillStyle = colour["bar-line"];
    brush.fillRect(0, height - PEDAL_LANE, width, 1);
  }

  private selected(view: View, piece: Piece): void {
    if (!this.selection) return;
    const first = piece.bars[this.selection.first - 1];
    const last = piece.bars[this.selection.last - 1];
    if (!first || !last) return;
    const { brush, colour, height, left } = view;
    const x = this.x(first.onset) - left;
    const wide = this.x(last.onset + last.ticks - first.onset);
    brush.fillStyle = colour.selected;
    brush.fillRect(x, 0, wide, height);
    brush.strokeStyle = colour["selected-edge"];
    brush.lineWidth = 2;
    brush.setLineDash([5, 4]);
    brush.strokeRect(x + 1, 1, wide - 2, height - 2);
    brush.setLineDash([]);
  }

  private pedal(view: View, piece: Piece): void {
    const { brush, colour, height, left } = view;
    const y = height - PEDAL_LANE / 2;
    for (const [index, { onset, state }] of piece.pedals.entries()) {
      if (state === "off") continue;
      const from = this.x(onset) - left;
      const to = this.x(piece.pedals[index + 1]?.onset ?? piece.horizon) - left;
      brush.strokeStyle = colour.quiet;
      brush.lineWidth = 1.5;
      brush.setLineDash(state === "half" ? [3, 3] : []);
      brush.beginPath();
      brush.moveTo(from + 1, y + 4);
      brush.lineTo(from + 3, y - 3);
      brush.lineTo(Math.max(from + 4, to - 3), y - 3);
      brush.lineTo(Math.max(from + 4, to - 1), y + 4);
      brush.stroke();
    }
    brush.setLineDash([]);
  }

  private notes(view: View, piece: Piece, cursor: number | null): void {
    const now = performance.now();
    this.moving = false;
    for (const note of piece.notes) {
      const x = this.x(note.onset) - view.left;
      const wide = Math.max(3, this.x(note.duration) - 1.5);
      if (x > view.width || x + wide < 0) continue;
      const age = now - (this.arrived.get(note) ?? -Infinity);
      const grown = calm.matches ? 1 : Math.min(1, age / APPEAR_MS);
      if (grown < 1) this.moving = true;
      const lit = cursor !== null && note.onset <= cursor && cursor < note.onset + note.duration;
      this.note(view, note, x, wide, grown, lit);
    }
  }

  private note(view: View, note: Note, x: number, wide: number, grown: number, lit: boolean): void {
    const { brush, colour, row } = view;
    const tall = Math.max(3, Math.min(row - 1, 13)) * (0.4 + 0.6 * grown);
    const y = this.y(view, note.pitch) + (row - tall) / 2;
    const left = note.hand === LEFT;
    const mine = this.settings.isMine(note);
    brush.globalAlpha = (lit ? 1 : grown * (0.5 + 0.5 * Math.min(1, note.velocity / 110))) * (mine ? 1 : 0.25);
    brush.fillStyle = lit ? colour.playing : grown < 1 ? colour.accent : left ? colour.left : colour.note;
    brush.beginPath();
    // The left hand's have square corners: hands are never told by colour alone.
    brush.roundRect(x + 0.75, y, wide, tall, left ? 0 : Math.min(3, tall / 2));
    brush.fill();
    brush.globalAlpha = mine ? 1 : 0.5;
    brush.lineWidth = lit ? 2 : 1;
    brush.strokeStyle = lit ? colour["playing-edge"] : left ? colour["left-edge"] : colour["note-edge"];
    if (lit || tall > 5) brush.stroke();
    brush.globalAlpha = 1;
  }

  private cursor(view: View, tick: number): void {
    const { brush, colour, height, left } = view;
    const x = this.x(tick) - left;
    brush.fillStyle = colour.cursor;
    brush.fillRect(x - 1, 0, 2, height);
    brush.beginPath();
    brush.moveTo(x - 6, 0);
    brush.lineTo(x + 6, 0);
    brush.lineTo(x, 8);
    brush.fill();
  }

  /** Names the Cs beside the roll, and the pedal's lane. */
  private octaves(view: View): void {
    const { brush, width, height } = prepare(this.parts.gutter);
    brush.fillStyle = view.colour.quiet;
    brush.textAlign = "right";
    brush.textBaseline = "middle";
    brush.font = "11px system-ui, sans-serif";
    for (let pitch = 24; pitch <= 108; pitch += 12) {
      if (pitch < view.range.low || pitch > view.range.high) continue;
      brush.fillText(`C${pitch / 12 - 1}`, width - 6, this.y(view, pitch) + view.row / 2);
    }
    brush.font = "italic 11px Georgia, serif";
    brush.fillText("Ped.", width - 6, height - PEDAL_LANE / 2);
  }
}
