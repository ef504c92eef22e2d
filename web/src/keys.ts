import { palette, prepare } from "./canvas";
import { isBlack } from "./geometry";

const FIRST = 21;
const LAST = 108;
const WHITE_KEYS = 52;

/** The 88 keys; those that are down are coloured and marked with a dot. */
export class Keys {
  private shown: string | null = null;

  constructor(private readonly canvas: HTMLCanvasElement) {}

  redraw(): void {
    this.shown = null;
  }

  draw(down: ReadonlySet<number>): void {
    const now = [...down].sort().join();
    if (now === this.shown) return;
    this.shown = now;
    const { brush, width, height } = prepare(this.canvas);
    const colour = palette(["ivory", "ebony", "line", "playing", "playing-ink"]);
    const wide = width / WHITE_KEYS;
    let white = 0;
    const blacks: [number, number][] = [];
    for (let pitch = FIRST; pitch <= LAST; pitch++) {
      if (isBlack(pitch)) {
        blacks.push([pitch, white * wide]);
        continue;
      }
      brush.fillStyle = down.has(pitch) ? colour.playing : colour.ivory;
      brush.fillRect(white * wide, 0, wide, height);
      brush.fillStyle = colour.line;
      brush.fillRect(white * wide, 0, 0.75, height);
      if (down.has(pitch)) this.dot(brush, (white + 0.5) * wide, height - wide * 0.6, wide * 0.22, colour["playing-ink"]);
      white++;
    }
    for (const [pitch, x] of blacks) {
      brush.fillStyle = colour.ebony;
      brush.fillRect(x - wide * 0.32, 0, wide * 0.64, height * 0.62);
      if (!down.has(pitch)) continue;
      brush.fillStyle = colour.playing;
      brush.fillRect(x - wide * 0.22, 1, wide * 0.44, height * 0.58);
      this.dot(brush, x, height * 0.62 - wide * 0.5, wide * 0.16, colour["playing-ink"]);
    }
  }

  private dot(brush: CanvasRenderingContext2D, x: number, y: number, radius: number, colour: string): void {
    brush.fillStyle = colour;
    brush.beginPath();
    brush.arc(x, y, Math.max(1, radius), 0, 2 * Math.PI);
    brush.fill();
  }
}
