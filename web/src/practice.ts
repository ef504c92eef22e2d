import { Coach } from "./coach";
import { find, make } from "./dom";
import type { KeyState } from "./keys";
import { connectMidi, hasMidi } from "./midi";
import { plural } from "./names";
import { showError } from "./notice";
import type { Piano } from "./piano";
import type { ChordStyle, HandChoice, Settings } from "./settings";
import type { Stage } from "./stage";
import type { Take } from "./take";

const MOST_SEMITONES = 6;

/** The controls of practice, and what a person's own keyboard does. */
export class Practice {
  /** Called where the take is to be shown in another key. */
  onTranspose: (take: Take, semitones: number) => void = () => {};
  private coach: Coach | null = null;
  private take: Take | null = null;
  /** Keys that the person holds, and whether they are right. */
  private readonly held = new Map<number, KeyState>();
  private connected = false;

  constructor(
    private readonly stage: Stage,
    private readonly piano: Piano,
    private readonly settings: Settings,
  ) {
    const { player } = stage;
    this.range("speed", (value) => {
      settings.set({ speed: value / 100 });
      player.retime();
      find("speed-value").textContent = `${value} %`;
    });
    for (const [id, name] of [["loop", "loop"], ["count-in", "countIn"], ["metronome", "metronome"], ["mine", "mineSilent"]] as const) {
      this.box(id, (on) => settings.set({ [name]: on }));
    }
    this.box("wait", (on) => {
      settings.set({ wait: on });
      this.listen();
    });
    this.choice("chord-style", (value) => settings.set({ chords: value as ChordStyle }));
    this.choice("other-hand", (value) => settings.set({ otherHeard: value === "played" }));
    for (const radio of document.querySelectorAll<HTMLInputElement>("input[name=hand]")) {
      radio.addEventListener("change", () => {
        settings.set({ hand: radio.value as HandChoice });
        find<HTMLSelectElement>("other-hand").disabled = radio.value === "both";
        this.listen();
      });
    }
    const transpose = find<HTMLSelectElement>("transpose");
    for (let step = MOST_SEMITONES; step >= -MOST_SEMITONES; step--) {
      const text = step === 0 ? "as written" : `${step > 0 ? "up" : "down"} ${plural(Math.abs(step), "half step")}`;
      transpose.append(make("option", { value: String(step), ...(step === 0 && { selected: "" }) }, text));
    }
    transpose.addEventListener("change", () => {
      if (this.take) this.onTranspose(this.take, Number(transpose.value));
    });
    find("midi-connect").addEventListener("click", () => void this.connect());
    if (!hasMidi()) {
      find<HTMLButtonElement>("midi-connect").disabled = true;
      find("midi-status").textContent = "This browser cannot use MIDI keyboards; use Chrome, Edge or Firefox.";
    }
    player.onStart = (tick) => {
      this.coach?.restart(tick);
      this.moveGate();
    };
    stage.onFrame = (tick, playing) => this.frame(tick, playing);
    stage.pressed = () => this.shown();
    stage.ruler.result = (bar) => this.coach?.result(bar) ?? "";
  }

  /** Another take, or the same in another key. */
  show(take: Take): void {
    this.take = take;
    find("practice").hidden = take.piece.status !== "done";
    find<HTMLSelectElement>("transpose").value = String(take.semitones);
    for (const radio of document.querySelectorAll<HTMLInputElement>("input[name=hand]")) radio.disabled = !take.piece.inHands && radio.value !== "both";
    this.listen();
  }

  /** What is to be played from here on is judged anew. */
  private listen(): void {
    const take = this.take;
    this.coach = take && this.connected ? new Coach(take.piece, (note) => this.settings.isMine(note)) : null;
    if (this.coach) this.coach.onResult = (bar) => this.tell(bar);
    find("results").replaceChildren();
    this.coach?.restart(this.stage.player.position);
    this.moveGate();
    this.stage.ruler.relabel(this.stage.pixelsPerTick);
  }

  private moveGate(): void {
    const next = this.settings.wait ? this.coach?.next[0] : undefined;
    this.stage.player.gate = next ? next.onset : Infinity;
  }

  private async connect(): Promise<void> {
    try {
      await this.piano.start();
      await connectMidi({
        down: (pitch, velocity) => this.down(pitch, velocity),
        up: (pitch) => this.up(pitch),
        devices: (names) => {
          this.connected = names.length > 0;
          find("midi-status").textContent = this.connected ? `Connected: ${names.join(", ")}.` : "No keyboard found. Plug one in, and it appears here.";
          for (const id of ["wait", "mine", "sound-keys"]) find<HTMLInputElement>(id).disabled = !this.connected;
          this.listen();
        },
      });
    } catch (error) {
      showError(error);
    }
  }

  private down(pitch: number, velocity: number): void {
    const { player } = this.stage;
    if (find<HTMLInputElement>("sound-keys").checked) this.piano.strike(pitch, velocity, this.piano.now);
    let wrong = false;
    if (this.coach && player.state !== "stopped") {
      const verdict = this.settings.wait ? this.coach.press(pitch) : this.coach.strike(pitch, player.position, this.settings.speed);
      wrong = verdict === "wrong";
      this.moveGate();
    }
    this.held.set(pitch, wrong ? "wrong" : "held");
    this.stage.want();
  }

  private up(pitch: number): void {
    this.held.delete(pitch);
    if (find<HTMLInputElement>("sound-keys").checked) this.piano.damp(pitch, this.piano.now);
    this.stage.want();
  }

  /** The person's keys, and those that the music waits for. */
  private shown(): Map<number, KeyState> {
    const keys = new Map<number, KeyState>();
    if (this.settings.wait && this.stage.player.state === "waiting") for (const { pitch } of this.coach?.next ?? []) keys.set(pitch, "wanted");
    for (const [pitch, state] of this.held) keys.set(pitch, state);
    return keys;
  }

  private frame(tick: number, playing: boolean): void {
    if (playing && !this.settings.wait) this.coach?.pass(tick, this.settings.speed);
  }

  /** Writes a bar's result, in the row of bars and in the list. */
  private tell(bar: number): void {
    const result = this.coach?.result(bar) ?? "";
    this.stage.ruler.relabel(this.stage.pixelsPerTick, bar);
    const list = find("results");
    const id = `result-${bar}`;
    let row = document.getElementById(id);
    if (!result) return row?.remove();
    if (!row) {
      row = make("li", { id });
      const after = [...list.children].find((other) => Number(other.id.slice("result-".length)) > bar);
      list.insertBefore(row, after ?? null);
    }
    row.className = this.coach!.perfect(bar) ? "perfect" : "";
    row.textContent = `Bar ${bar}: ${result}`;
  }

  private range(id: string, act: (value: number) => void): void {
    const input = find<HTMLInputElement>(id);
    input.addEventListener("input", () => act(Number(input.value)));
  }

  private box(id: string, act: (on: boolean) => void): void {
    const input = find<HTMLInputElement>(id);
    input.addEventListener("change", () => act(input.checked));
  }

  private choice(id: string, act: (value: string) => void): void {
    const input = find<HTMLSelectElement>(id);
    input.addEventListener("change", () => act(input.value));
  }
}
