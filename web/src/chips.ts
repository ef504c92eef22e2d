import type { Hints, PieceRequest } from "./contract";
import { find, make } from "./dom";
import { engraved, keyName } from "./names";
import type { Take } from "./take";

type Name = "style" | "key" | "tempo" | "metre" | "bars" | "chords" | "feel" | "intro" | "ending" | "modulate" | "sections" | "tune" | "density" | "level";

/** What can be corrected, in the order of the line; how each is said and asked for. */
const PARTS: Record<Name, { label: string; say: (value: string, asked: PieceRequest) => string; control: "list" | "number" | "text" }> = {
  style: { label: "style", say: (value) => value.replaceAll("_", " "), control: "list" },
  key: { label: "key", say: keyName, control: "list" },
  tempo: { label: "tempo", say: (value, { beat }) => `${beat === "dotted quarter" ? "♩." : "♩"} = ${Math.round(Number(value))}`, control: "number" },
  metre: { label: "metre", say: (value) => value, control: "list" },
  bars: { label: "bars", say: (value) => `${value} bars`, control: "number" },
  chords: { label: "chords", say: engraved, control: "text" },
  feel: { label: "feel", say: (value) => value, control: "text" },
  intro: { label: "intro", say: (value) => `intro ${value}`, control: "text" },
  ending: { label: "ending", say: (value) => `ending ${value}`, control: "text" },
  modulate: { label: "modulation", say: (value) => `up by ${value} before the last verse`, control: "number" },
  sections: { label: "sections", say: (value) => value, control: "text" },
  tune: { label: "tune", say: (value) => value.replaceAll("_", " "), control: "text" },
  density: { label: "density", say: (value) => value, control: "list" },
  level: { label: "level", say: (value) => value, control: "list" },
};
const NAMES = Object.keys(PARTS) as Name[];

export interface ChipEvents {
  /** Ask anew. */
  ask(request: PieceRequest, origin: string): void;
  /** Let the person say these words of the prompt in another way. */
  reword(prompt: string, part: string): void;
}

/** What was understood of a request, part by part: each can be changed or left out, and is asked for anew. */
export class Chips {
  private readonly list = find("chips");
  private take: Take | null = null;

  constructor(private readonly on: ChipEvents) {}

  show(take: Take): void {
    if (take === this.take) return;
    this.take = take;
    const asked = take.created.request ?? {};
    const chips = NAMES.filter((name) => asked[name] !== undefined).map((name) => this.part(name, asked));
    if (take.created.heard) chips.unshift(this.heard());
    for (const part of take.created.not_understood ?? []) chips.push(this.lost(part));
    this.list.replaceChildren(...chips);
    this.list.hidden = chips.length === 0;
  }

  private part(name: Name, asked: PieceRequest): HTMLLIElement {
    const { label, say } = PARTS[name];
    const said = say(String(asked[name]), asked);
    const edit = make("button", { type: "button", class: "chip-edit", "data-chip": name, "aria-label": `${label}: ${said}. Change it` }, said);
    const remove = make("button", { type: "button", class: "chip-remove", "aria-label": `Leave out ${label}: ${said}` }, "✕");
    const chip = make("li", { class: "chip" }, edit, remove);
    edit.addEventListener("click", () => this.edit(chip, name, String(asked[name])));
    remove.addEventListener("click", () => this.on.ask(this.without(name), `take ${this.take!.number} without its ${label}`));
    return chip;
  }

  /** The chip becomes a field; Enter or a choice asks anew, Esc or leaving it takes the chip back. */
  private edit(chip: HTMLLIElement, name: Name, value: string): void {
    const { label, control } = PARTS[name];
    const before = [...chip.childNodes];
    let field: HTMLInputElement | HTMLSelectElement;
    if (control === "list") {
      field = make("select", {}, ...[...find<HTMLSelectElement>(name).options].slice(1).map((option) => option.cloneNode(true)));
      // The answer names keys in full, "Db major", the list in short.
      field.value = value.replace(/ major$/, "").replace(/ minor$/, "m");
    } else field = make("input", { type: control, value, ...(control === "number" && { step: "any" }) });
    field.setAttribute("aria-label", label);
    field.setAttribute("id", `chip-${name}`);
    const back = () => {
      chip.replaceChildren(...before);
      chip.querySelector("button")?.focus();
    };
    const ask = () => {
      if (field.value === "" || field.value === value) return back();
      const asked = control === "number" ? Number(field.value) : field.value;
      const { prompt } = this.take!.request;
      this.on.ask({ ...this.known(), ...(prompt && { prompt }), [name]: asked }, `take ${this.take!.number} with ${label} ${field.value}`);
    };
    field.addEventListener("keydown", (event) => {
      if ((event as KeyboardEvent).key === "Escape") back();
      else if ((event as KeyboardEvent).key === "Enter") ask();
    });
    if (control === "list") field.addEventListener("change", ask);
    chip.replaceChildren(field);
    field.focus();
  }

  /** The request without its seed, so that another piece comes; its files with it. */
  private known(): PieceRequest {
    const { created, request } = this.take!;
    const { seed: _, tries: __, prompt: ___, refill: ____, ...asked } = created.request ?? {};
    const { melody, continue: begun, refill } = request;
    const tune = melody ? { melody } : {};
    return { ...asked, ...tune, ...(begun && { continue: begun }), ...(refill && { refill }) };
  }

  /** What was understood but for one part. The prompt goes too: it would say that part again. */
  private without(name: Name): PieceRequest {
    const rest = this.known();
    delete rest[name];
    if (name === "tempo") delete rest.beat;
    if (name === "tune") delete rest.melody;
    // Where nothing is left, music is still asked for.
    return NAMES.some((other) => rest[other] !== undefined) || rest.melody || rest.continue || rest.refill ? rest : { ...rest, prompt: "gospel" };
  }

  private lost(part: string): HTMLLIElement {
    const button = make("button", { type: "button", class: "chip-edit", "aria-label": `Not understood: ${part}. Say it another way` }, "not understood: ", make("s", {}, part));
    button.addEventListener("click", () => this.on.reword(this.take!.request.prompt ?? "", part));
    return make("li", { class: "chip lost" }, button);
  }

  private heard(): HTMLLIElement {
    const { metre, bpm, by } = this.take!.created.heard!;
    const said = `heard as ${metre}, about ${Math.round(bpm)}${by === "click" ? ", to a click" : ""}`;
    const button = make("button", { type: "button", class: "chip-edit", id: "chip-heard", "aria-expanded": "false", "aria-controls": "hints" }, said);
    button.addEventListener("click", () => {
      const form = find<HTMLFormElement>("hints");
      form.hidden = !form.hidden;
      button.setAttribute("aria-expanded", String(!form.hidden));
      find<HTMLInputElement>("hint-bpm").value = String(Math.round(bpm));
      find<HTMLSelectElement>("hint-metre").value = metre;
      find<HTMLInputElement>("hint-downbeat").value = "";
      if (!form.hidden) find("hint-bpm").focus();
      form.onsubmit = (event) => {
        event.preventDefault();
        form.hidden = true;
        this.hearAgain();
      };
    });
    return make("li", { class: "chip heard" }, button);
  }

  private hearAgain(): void {
    const { melody, continue: begun, ...rest } = this.take!.request;
    const hints: Hints = { metre: find<HTMLSelectElement>("hint-metre").value, bpm: Number(find<HTMLInputElement>("hint-bpm").value) };
    const downbeat = find<HTMLInputElement>("hint-downbeat").value;
    if (downbeat !== "") hints.first_downbeat = Number(downbeat);
    const heard = melody && "midi" in melody ? { melody: { ...melody, hints } } : begun && "midi" in begun ? { continue: { ...begun, hints } } : null;
    if (heard) this.on.ask({ ...rest, ...heard }, `take ${this.take!.number}'s playing heard again`);
  }
}
