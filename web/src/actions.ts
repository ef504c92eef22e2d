import type { Api } from "./api";
import type { PieceRequest } from "./contract";
import { find, make, remembered, save } from "./dom";
import { span, type Span } from "./geometry";
import { showError } from "./notice";
import { again, continuation, refilling, variation } from "./requests";
import type { Stage } from "./stage";
import type { Take } from "./take";

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
    private readonly write: (request: PieceRequest, origin: string) => void,
    private readonly open: (take: Take) => void,
  ) {
    stage.onSelect = (selection) => this.selected(selection);
    this.button("download", (take) => void this.download(take));
    this.button("again", (take) => this.write(again(take), `take ${take.number}'s request again`));
    this.button("vary", (take) => this.write(variation(take), `take ${take.number}'s chords, other notes`));
    this.button("continue", (take) => this.continue(take));
    this.button("refill", (take) => this.refill(take));
    for (const input of [this.first, this.last]) input.addEventListener("change", () => this.stage.ruler.choose(this.typed()));
    remembered(this.rater, RATER);
    this.rating();
  }

  /** Lists a new take. */
  add(take: Take): void {
    take.number = this.takes.push(take);
    this.list();
  }

  /** Follows the take on the stage: what is offered, and which of the list is marked. */
  refresh(): void {
    const take = this.stage.take;
    const ready = take?.piece.status === "done";
    find("actions").hidden = this.takes.length === 0;
    find("download").hidden = !ready;
    for (const id of ["again", "vary", "continue", "refill"]) find<HTMLButtonElement>(id).disabled = !ready;
    find("rating").querySelector("button")!.disabled = !ready;
    const bars = take?.piece.bars.length ?? 1;
    for (const input of [this.first, this.last]) input.max = String(bars);
    this.selected(this.stage.ruler.selection);
    this.list();
  }

  private button(id: string, act: (take: Take) => void): void {
    find(id).addEventListener("click", () => {
      if (this.stage.take) act(this.stage.take);
    });
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
    this.write(continuation(take, bar, more), `goes on after bar ${bar} of take ${take.number}`);
  }

  private refill(take: Take): void {
    const bars = this.typed();
    const which = bars.first === bars.last ? `bar ${bars.first}` : `bars ${bars.first} to ${bars.last}`;
    this.write(refilling(take, bars), `take ${take.number} with ${which} written anew`);
  }

  private async download(take: Take): Promise<void> {
    try {
      save(await this.api.midi(take.created.links.midi), take.fileName);
    } catch (error) {
      showError(error);
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
      status.textContent = mark ? "Say who you are, so that ratings can be told apart." : "Choose a mark from 1 to 10 first.";
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
