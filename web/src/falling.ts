import { palette, prepare } from "./canvas";
import { keyBoxes, type PitchRange } from "./geometry";
import type { Piece } from "./piece";
import { LEFT, type Settings } from "./settings";

/** So far ahead notes are seen before they reach the keys [s]. */
const AHEAD_S = 3.5;

/** Notes that fall on the keyboard under them, and reach it when they are to be struck. */
export class Falling {
  constructor(private readonly canvas: HTMLCanvasElement) {}

  draw(piece: Piece, tick: number, range: PitchRange, settings: Settings): void {
    const { brush, width, height } = prepare(this.canvas);
    const colour = palette(["roll", "line", "bar-line", "note", "note-edge", "left", "left-edge", "playing", "playing-edge"]);
    const boxes = keyBoxes(range, width);
    const now = piece.clock.seconds(tick);
    const y = (onset: number) => height - ((piece.clock.seconds(onset) - now) / (AHEAD_S * settings.speed)) * height;
    brush.fillStyle = colour.roll;
    brush.fillRect(0, 0, width, height);
    brush.fillStyle = colour.line;
    for (const [pitch, { x }] of boxes) if (pitch % 12 === 0 || pitch % 12 === 5) brush.fillRect(x, 0, 1, height);
    brush.fillStyle = colour["bar-line"];
    for (const bar of piece.bars) brush.fillRect(0, y(bar.onset) - 1, width, 1);
    for (const note of piece.notes) {
      const bottom = y(note.onset);
      const top = y(note.onset + note.duration);
      const box = boxes.get(note.pitch);
      if (!box || bottom < 0 || top > height) continue;
      const lit = note.onset <= tick && tick < note.onset + note.duration;
      const left = note.hand === LEFT;
      brush.globalAlpha = settings.isMine(note) ? 1 : 0.3;
      brush.fillStyle = lit ? colour.playing : left ? colour.left : colour.note;
      brush.strokeStyle = lit ? colour["playing-edge"] : left ? colour["left-edge"] : colour["note-edge"];
      brush.lineWidth = 1;
      brush.beginPath();
      // The left hand's have square corners: hands are never told by colour alone.
      brush.roundRect(box.x + 0.5, top + 1, Math.max(3, box.wide - 1), Math.max(3, bottom - top - 2), left ? 0 : 4);
      brush.fill();
      brush.stroke();
    }
    brush.globalAlpha = 1;
  }
}
