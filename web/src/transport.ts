import { clockTime } from "./clock";
import { find } from "./dom";
import { chordText } from "./names";
import { showError } from "./notice";
import type { Piano } from "./piano";
import type { Piece } from "./piece";
import type { Player } from "./player";
import type { Settings } from "./settings";

const SILENCE_DB = -60;

/** The row of playback controls. */
export class Transport {
  private piece: Piece | null = null;
  private readonly button = find<HTMLButtonElement>("play");
  private readonly back = find<HTMLButtonElement>("rewind");
  private readonly slider = find<HTMLInputElement>("position");
  private sliding = false;

  constructor(
    private readonly player: Player,
    private readonly piano: Piano,
    private readonly changed: () => void,
    private readonly settings: Settings,
  ) {
    window.addEventListener("keydown", (event) => this.space(event));
    this.button.addEventListener("click", () => this.toggle());
    this.back.addEventListener("click", () => this.go(0));
    this.slider.addEventListener("input", () => {
      this.sliding = true;
      this.describe(Number(this.slider.value));
    });
    this.slider.addEventListener("change", () => {
      this.sliding = false;
      if (this.piece) this.go(this.piece.clock.tick(Number(this.slider.value)));
    });
    const volume = find<HTMLInputElement>("volume");
    volume.addEventListener("input", () => (piano.loudness = Number(volume.value)));
    piano.loudness = Number(volume.value);
  }

  take(piece: Piece): void {
    this.piece = piece;
  }

  /** Plays from a tick, or from where the cursor is. */
  async play(from?: number): Promise<void> {
    this.button.setAttribute("aria-busy", "true");
    try {
      await this.player.play(from);
    } catch (error) {
      showError(error);
    } finally {
      this.button.removeAttribute("aria-busy");
      this.changed();
    }
  }

  /** The space bar plays and pauses, wherever it means nothing else. */
  private space(event: KeyboardEvent): void {
    const target = event.target as HTMLElement;
    const taken = target.closest("input, textarea, select, button, summary, a, dialog, [role=listbox]") && target !== this.button;
    if (event.key !== " " || event.repeat || taken || this.button.disabled || find("compose-view").hidden) return;
    event.preventDefault();
    this.toggle();
  }

  private toggle(): void {
    if (this.player.state === "stopped") void this.play();
    else this.player.pause();
  }

  private go(tick: number): void {
    this.player.seek(tick).catch(showError);
    this.changed();
  }

  /** Shows where the music is; called on every frame. */
  draw(tick: number): void {
    const piece = this.piece;
    const ready = piece !== null && piece.notes.length > 0;
    for (const control of [this.button, this.back, this.slider]) control.disabled = !ready;
    const going = this.player.state !== "stopped";
    this.button.classList.toggle("going", going);
    const name = going ? "Pause" : "Play";
    if (this.button.getAttribute("aria-label") !== name) this.button.setAttribute("aria-label", name);
    if (!piece) return;
    const all = piece.clock.seconds(piece.end);
    const now = piece.clock.seconds(tick);
    this.slider.max = all.toFixed(1);
    find("time-all").textContent = clockTime(all);
    if (!this.sliding) {
      this.slider.value = now.toFixed(1);
      this.describe(now);
    }
    find("now-chord").textContent = ready ? chordText(piece.chordAt(tick), piece.key, this.settings.chords) : "";
    find("pedal").dataset["state"] = going ? piece.pedalAt(tick) : "off";
    const level = going ? Math.max(0, 1 - this.piano.level / SILENCE_DB) : 0;
    find("meter").style.setProperty("--level", level.toFixed(3));
  }

  private describe(second: number): void {
    const piece = this.piece!;
    find("time-now").textContent = clockTime(second);
    const bar = piece.barAt(piece.clock.tick(second))?.bar ?? 1;
    const said = `bar ${bar} of ${piece.bars.length}, ${clockTime(second)}`;
    if (this.slider.getAttribute("aria-valuetext") !== said) this.slider.setAttribute("aria-valuetext", said);
  }
}
