import { palette, prepare } from "./canvas";
import { keyBoxes, type PitchRange } from "./geometry";

/** What a key shows: it sounds; a person holds it, rightly or not; it is waited for. */
export type KeyState = "sounding" | "held" | "wrong" | "wanted";

/** The piano's keys; those that are down are coloured and marked with a dot, wrong ones with a cross, wanted ones with a ring. */
export class Keys {
  private shown: string | null = null;

  constructor(private readonly canvas: HTMLCanvasElement) {}

  redraw(): void {
    this.shown = null;
  }

  draw(states: ReadonlyMap<number, KeyState>, range: PitchRange): void {
    const now = `${range.low}-${range.high} ${[...states].sort().join()}`;
    if (now === this.shown) return;
    this.shown = now;
    this.canvas.dataset["down"] = [...states].map(([pitch, state]) => `${pitch}:${state}`).sort().join(" ");
    const { brush, width, height } = prepare(this.canvas);
    const colour = palette(["ivory", "ebony", "line", "playing", "playing-ink", "held", "held-ink", "bad", "accent"]);
    const boxes = [...keyBoxes(range, width)].sort(([, one], [, other]) => Number(one.black) - Number(other.black));
    for (const [pitch, { x, wide, black }] of boxes) {
      const state = states.get(pitch);
      const tall = black ? height * 0.62 : height;
      brush.fillStyle = black ? colour.ebony : colour.ivory;
      brush.fillRect(x, 0, wide, tall);
      if (!black) {
        brush.fillStyle = colour.line;
        brush.fillRect(x, 0, 0.75, height);
      }
      if (!state) continue;
      const ink = state === "sounding" ? colour["playing-ink"] : state === "wanted" ? colour.accent : colour["held-ink"];
      if (state !== "wanted") {
        brush.fillStyle = state === "sounding" ? colour.playing : state === "wrong" ? colour.bad : colour.held;
        brush.fillRect(x + (black ? 1 : 0.75), 0, wide - (black ? 2 : 0.75), tall - (black ? 1 : 0));
      }
      this.sign(brush, state, x + wide / 2, tall - Math.min(wide, 14) * 0.7, Math.max(1.5, Math.min(wide, 16) * 0.24), ink);
    }
  }

  private sign(brush: CanvasRenderingContext2D, state: KeyState, x: number, y: number, radius: number, ink: string): void {
    brush.fillStyle = brush.strokeStyle = ink;
    brush.lineWidth = 2;
    brush.beginPath();
    if (state === "wrong") {
      brush.moveTo(x - radius, y - radius);
      brush.lineTo(x + radius, y + radius);
      brush.moveTo(x - radius, y + radius);
      brush.lineTo(x + radius, y - radius);
      brush.stroke();
      return;
    }
    brush.arc(x, y, state === "wanted" ? radius + 1 : radius, 0, 2 * Math.PI);
    if (state === "wanted") brush.stroke();
    else brush.fill();
  }
}
