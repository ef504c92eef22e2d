import type { Api } from "./api";
import type { PieceRequest } from "./contract";
import { find, make, remembered, save } from "./dom";
import { span, type Span } from "./geometry";
import { showError } from "./notice";
import type { Piano } from "./piano";
import { again, continuation, refilling, variation } from "./requests";
import { keep } from "./shelf";
import type { Stage } from "./stage";
import type { Take } from "./take";
import { wavOf } from "./wav";

/** What a take can be downloaded as. */
const FILES = ["midi", "musicxml", "pdf", "wav"] as const;
type FileKind = (typeof FILES)[number];
const SUFFIXES: Record<FileKind, string> = { midi: ".mid", musicxml: ".musicxml", pdf: ".pdf", wav: ".wav" };

export const RATER = "plagal.rater";

/** What can be done with a take once it is there. */
export class Actions {
  private readonly takes: Take[] = [];
  private readonly first = find<HTMLInputElement>("refill-first");
  private readonly last = find<HTMLInputElement>("refill-last");
  private readonly rater = find<HTMLInputElement>("rater");

  constructor(
    private readonly api: Api,
    private readonly stage: Stage,
    private readonly piano: Piano,
    /** `kept`: the request that the take remembers, where another is sent. */
    private readonly write: (request: PieceRequest, origin: string, kept?: PieceRequest) => void,
    private readonly open: (take: Take) => void,
  ) {
    stage.onSelect = (selection) => this.selected(selection);
    for (const kind of FILES) this.button(`download-${kind}`, (take, button) => void this.download(take, kind, button));
    this.button("again", (take) => this.write(again(take), `take ${take.number}'s request again`, take.request));
    this.button("vary", (take) => this.write(variation(take), `take ${take.number}'s chords, other notes`));
    this.button("continue", (take) => this.continue(take));
    this.button("refill", (take) => this.refill(take));
    // Whoever types a first bar behind the last means it: the other one follows, and nothing swaps under the fingers.
    this.first.addEventListener("change", () => this.type(this.first, this.last));
    this.last.addEventListener("change", () => this.type(this.last, this.first));
    remembered(this.rater, RATER);
    this.rating();
  }

  /** Lists a new take. */
  add(take: Take): void {
    take.number ||= (this.takes.at(-1)?.number ?? 0) + 1;
    this.takes.push(take);
    this.list();
  }

  get newest(): Take | undefined {
    return this.takes.at(-1);
  }

  /** A take is done: it stays after a reload. */
  keep(): void {
    keep(this.takes);
  }

  /** Follows the take on the stage: what is offered, and which of the list is marked. */
  refresh(): void {
    const take = this.stage.take;
    const ready = take?.piece.status === "done";
    find("actions").hidden = this.takes.length === 0;
    find("downloads").hidden = !ready;
    for (const id of ["again", "vary", "continue", "refill"]) find<HTMLButtonElement>(id).disabled = !ready;
    find("rating").querySelector("button")!.disabled = !ready;
    const bars = take?.piece.bars.length ?? 1;
    for (const input of [this.first, this.last]) input.max = String(bars);
    this.selected(this.stage.ruler.selection);
    this.list();
  }

  private button(id: string, act: (take: Take, button: HTMLButtonElement) => void): void {
    const button = find<HTMLButtonElement>(id);
    button.addEventListener("click", () => {
      if (this.stage.take) act(this.stage.take, button);
    });
  }

  private type(typed: HTMLInputElement, other: HTMLInputElement): void {
    if (Number(this.first.value) > Number(this.last.value)) other.value = typed.value;
    this.stage.ruler.choose(this.typed());
  }

  private typed(): Span {
    const bars = this.stage.take?.piece.bars.length ?? 1;
    const number = (input: HTMLInputElement) => Math.min(bars, Math.max(1, Math.round(Number(input.value)) || 1));
    return span(number(this.first), number(this.last));
  }

  private selected(selection: Span | null): void {
    if (selection) {
      this.first.value = String(selection.first);
      this.last.value = String(selection.last);
    }
    const { first, last } = this.typed();
    const ready = this.stage.take?.piece.status === "done";
    find("continue").textContent = ready ? `Continue after bar ${this.from()}` : "Continue from here";
    const bars = first === last ? `bar ${first}` : `bars ${first} to ${last}`;
    find("refill").textContent = ready ? `Refill ${bars}` : "Refill these bars";
  }

  /** "Here": the last selected bar; with none selected, the last of the piece. */
  private from(): number {
    return this.stage.ruler.selection?.last ?? this.stage.take?.piece.bars.length ?? 1;
  }

  private continue(take: Take): void {
    const bar = this.from();
    const more = Number(find<HTMLInputElement>("bars").value) || undefined;
    this.write(continuation(take, bar, more), `continues after bar ${bar} of take ${take.number}`);
  }

  private refill(take: Take): void {
    const bars = this.typed();
    const which = bars.first === bars.last ? `bar ${bars.first}` : `bars ${bars.first} to ${bars.last}`;
    this.write(refilling(take, bars), `take ${take.number} with ${which} written anew`);
  }

  private async download(take: Take, kind: FileKind, button: HTMLButtonElement): Promise<void> {
    button.disabled = true;
    try {
      const address = kind === "wav" ? "" : `${take.created.links[kind]}?transpose=${take.semitones}`;
      save(kind === "wav" ? await wavOf(take.piece, this.piano) : await this.api.file(address), take.fileName(SUFFIXES[kind]));
    } catch (error) {
      showError(error);
    } finally {
      button.disabled = false;
    }
  }

  private rating(): void {
    for (let mark = 1; mark <= 10; mark++) {
      const input = make("input", { type: "radio", name: "rating", value: String(mark), id: `mark-${mark}` });
      find("scale").append(input, make("label", { for: `mark-${mark}` }, String(mark)));
    }
    const form = find<HTMLFormElement>("rating");
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      void this.rate(form);
    });
  }

  private async rate(form: HTMLFormElement): Promise<void> {
    const take = this.stage.take;
    const mark = Number(new FormData(form).get("rating") ?? 0);
    const status = find("rating-status");
    const rater = this.rater.value.trim();
    if (!take || !mark || !rater) {
      status.textContent = mark ? "Enter your name first, so that we can tell listeners apart." : "Choose a rating from 1 to 10 first.";
      (mark ? this.rater : find("mark-1")).focus();
      return;
    }
    try {
      await this.api.rate(rater, take.created.id, mark);
      status.textContent = `Thank you: ${mark} of 10 for take ${take.number}.`;
      form.querySelector<HTMLInputElement>("input:checked")!.checked = false;
    } catch (error) {
      status.textContent = "";
      showError(error);
    }
  }

  private list(): void {
    find("takes-box").hidden = this.takes.length < 2;
    find("takes").replaceChildren(
      ...this.takes.map((take) => {
        const shown = take === this.stage.take;
        const label = take.origin ? `${take.title}: ${take.origin}` : take.title;
        const button = make("button", { type: "button", class: "take", ...(shown && { "aria-current": "true" }) }, label);
        button.addEventListener("click", () => this.open(take));
        return make("li", {}, button);
      }),
    );
  }
}
