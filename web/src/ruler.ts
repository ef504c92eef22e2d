import { make } from "./dom";
import { span, type Span } from "./geometry";
import { chordText, plural, spoken } from "./names";
import type { Piece } from "./piece";
import { Settings } from "./settings";

export interface RulerEvents {
  select(selection: Span | null): void;
  /** Play from this bar, counted from 1. */
  play(bar: number): void;
}

/** The row of bars over the roll, with its chords: a listbox, so that bars can be chosen by keyboard and are read out. */
export class Ruler {
  selection: Span | null = null;
  private piece: Piece | null = null;
  private options: HTMLElement[] = [];
  private chordsShown = 0;
  private active = 0;
  private anchor = 0;

  /** What a person's playing of a bar came to; empty where it was not judged. */
  result: (bar: number) => string = () => "";

  constructor(
    private readonly box: HTMLElement,
    private readonly on: RulerEvents,
    private readonly settings = new Settings(),
  ) {
    box.addEventListener("keydown", (event) => this.key(event));
    box.addEventListener("click", (event) => this.click(event));
    box.addEventListener("focus", () => this.activate(Math.max(1, this.active)));
  }

  take(piece: Piece): void {
    this.piece = piece;
    this.options = [];
    this.chordsShown = 0;
    this.active = this.anchor = 0;
    this.box.replaceChildren();
    this.box.removeAttribute("aria-activedescendant");
    this.choose(null);
  }

  /** Brings the row in line with the piece; `pixelsPerTick` is the roll's. */
  update(pixelsPerTick: number): void {
    const piece = this.piece;
    if (!piece) return;
    const grown = piece.bars.length !== this.options.length || piece.chords.length !== this.chordsShown || piece.over;
    for (const bar of piece.bars.slice(this.options.length)) {
      const option = make("div", { role: "option", id: `bar-${bar.bar}`, class: "bar", "aria-selected": "false" });
      this.options.push(option);
      this.box.append(option);
    }
    for (const [index, option] of this.options.entries()) {
      const bar = piece.bars[index]!;
      option.style.left = `${bar.onset * pixelsPerTick}px`;
      option.style.width = `${bar.ticks * pixelsPerTick}px`;
      if (grown && (piece.over || index >= this.options.length - 2)) this.label(option, index, pixelsPerTick);
    }
    this.chordsShown = piece.chords.length;
  }

  /** Writes a bar's label anew, or all: its result or the chords' style has changed. */
  relabel(pixelsPerTick: number, bar?: number): void {
    for (const [index, option] of this.options.entries()) {
      if (bar === undefined || index + 1 === bar) this.label(option, index, pixelsPerTick);
    }
  }

  private label(option: HTMLElement, index: number, pixelsPerTick: number): void {
    const piece = this.piece!;
    const bar = piece.bars[index]!;
    const chords = piece.chordsIn(bar);
    const result = this.result(bar.bar);
    const said = chords.map((chord) => spoken(chord.symbol)).join(", ") || "same chord";
    const name = make("span", { class: "unseen" }, `Bar ${bar.bar}: ${said}; ${plural(piece.notesIn(bar), "note")}${result && `; you: ${result}`}`);
    const shownChords = this.settings.chords === "none" ? [] : chords;
    const names = shownChords.map((chord, at) => {
      const shown = make("span", { class: "chord", "aria-hidden": "true" }, chordText(chord.symbol, piece.key, this.settings.chords));
      const end = chords[at + 1]?.onset ?? bar.onset + bar.ticks;
      shown.style.left = `${(chord.onset - bar.onset) * pixelsPerTick + 5}px`;
      shown.style.maxWidth = `${(end - chord.onset) * pixelsPerTick - 6}px`;
      return shown;
    });
    const number = make("span", { class: "number", "aria-hidden": "true" }, String(bar.bar));
    option.replaceChildren(name, number, ...names);
    if (result) option.append(make("span", { class: "result", "aria-hidden": "true" }, /^\d+ right$/.test(result) ? "✓" : "•"));
  }

  /** Chooses bars, from outside too, such as by a drag over the roll. */
  choose(selection: Span | null): void {
    this.selection = selection;
    for (const [index, option] of this.options.entries()) {
      const chosen = selection !== null && index + 1 >= selection.first && index + 1 <= selection.last;
      option.setAttribute("aria-selected", String(chosen));
    }
    this.on.select(selection);
  }

  private activate(bar: number): void {
    const option = this.options[bar - 1];
    if (!option) return;
    this.options[this.active - 1]?.classList.remove("active");
    this.active = bar;
    option.classList.add("active");
    this.box.setAttribute("aria-activedescendant", option.id);
    option.scrollIntoView({ block: "nearest", inline: "nearest" });
  }

  private click(event: MouseEvent): void {
    const option = (event.target as HTMLElement).closest<HTMLElement>("[role=option]");
    const bar = option ? this.options.indexOf(option) + 1 : 0;
    if (bar === 0) return;
    if (event.shiftKey && this.anchor > 0) this.choose(span(this.anchor, bar));
    else this.toggle(bar);
    this.activate(bar);
  }

  private toggle(bar: number): void {
    const alone = this.selection?.first === bar && this.selection.last === bar;
    this.anchor = bar;
    this.choose(alone ? null : { first: bar, last: bar });
  }

  private key(event: KeyboardEvent): void {
    const count = this.options.length;
    if (count === 0 || event.ctrlKey || event.metaKey || event.altKey) return;
    const steps: Record<string, number> = { ArrowLeft: this.active - 1, ArrowRight: this.active + 1, Home: 1, End: count };
    const target = steps[event.key];
    if (target !== undefined) this.move(Math.min(count, Math.max(1, target)), event.shiftKey);
    else if (event.key === " ") this.toggle(this.active);
    else if (event.key === "Enter") this.on.play(this.active);
    else if (event.key === "Escape") this.choose(null);
    else return;
    event.preventDefault();
  }

  private move(bar: number, extend: boolean): void {
    if (extend) {
      if (!this.selection) this.anchor = this.active;
      this.choose(span(this.anchor, bar));
    }
    this.activate(bar);
  }
}
