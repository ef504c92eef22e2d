import type { Catalogue, PieceRequest, Writer } from "./contract";
import { base64, find, make } from "./dom";
import { keyName } from "./names";

const IDEAS: Record<string, string> = {
  "Worship in D♭": "slow worship ballad in Db, warm and sparse",
  "Shout in A♭": "fast shouting gospel in Ab",
  "Waltz in F": "gentle gospel waltz in F, 3/4",
  "Late jazz in B♭m": "late-night gospel jazz in Bb minor",
};
const NUMBERS = ["tempo", "bars", "seed"] as const;
const WORDS = ["style", "key", "metre", "density", "level", "chords", "writer"] as const;
const TEMPERATURE = 0.9;

/** The form: what the next piece shall be. */
export class Composer {
  onSubmit: (request: PieceRequest) => void = () => {};
  private readonly form = find<HTMLFormElement>("composer");
  private readonly prompt = find<HTMLTextAreaElement>("prompt");
  private readonly temperature = find<HTMLInputElement>("temperature");

  constructor() {
    this.form.addEventListener("submit", (event) => {
      event.preventDefault();
      void this.request().then((request) => this.onSubmit(request));
    });
    this.prompt.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) this.form.requestSubmit();
    });
    this.temperature.addEventListener("input", () => this.showTemperature());
    for (const [name, prompt] of Object.entries(IDEAS)) find("ideas").append(make("li", {}, this.idea(name, prompt)));
    this.listenToFiles();
    this.listenToDrops();
  }

  /** Fills the lists with what the server offers. */
  offer({ styles, keys, metres, writers, limits }: Catalogue): void {
    for (const option of find<HTMLSelectElement>("writer").options) option.disabled = !writers.includes((option.value || "model") as Writer);
    if (!writers.includes("model")) {
      find<HTMLSelectElement>("writer").value = "arranger";
      find("no-model").hidden = false;
    }
    const lists: [string, [string, string][]][] = [
      ["style", styles.map(({ name, title }) => [name, title])],
      ["key", keys.map((key) => [key, keyName(key)])],
      ["metre", metres.map((metre) => [metre, metre])],
    ];
    for (const [id, options] of lists) {
      const list = find<HTMLSelectElement>(id);
      list.replaceChildren(list.options[0]!, ...options.map(([value, text]) => make("option", { value }, text)));
    }
    if (limits.bars) find<HTMLInputElement>("bars").max = String(limits.bars);
  }

  /** What the form says, without what is left open. */
  async request(): Promise<PieceRequest> {
    const data = new FormData(this.form);
    const text = (name: string) => String(data.get(name) ?? "").trim();
    const request: PieceRequest = {};
    if (text("prompt")) request.prompt = text("prompt");
    for (const name of WORDS) if (text(name)) Object.assign(request, { [name]: text(name) });
    for (const name of NUMBERS) if (text(name)) request[name] = Number(text(name));
    if (Number(text("temperature")) !== TEMPERATURE) request.temperature = Number(text("temperature"));
    const melody = this.file("melody-file");
    if (melody) request.melody = melody.name.toLowerCase().endsWith(".abc") ? { abc: await melody.text() } : { midi: await base64(melody) };
    else if (text("abc")) request.melody = { abc: text("abc") };
    const begun = this.file("continue-file");
    if (begun) request.continue = { midi: await base64(begun) };
    return request;
  }

  /** Puts a prompt back with a part of it marked, so that it can be said in another way. */
  reword(prompt: string, part: string): void {
    this.prompt.value = prompt;
    this.prompt.focus();
    const at = prompt.toLowerCase().indexOf(part.toLowerCase());
    if (at >= 0) this.prompt.setSelectionRange(at, at + part.length);
  }

  set busy(busy: boolean) {
    find("cancel").hidden = !busy;
    this.form.classList.toggle("busy", busy);
  }

  private file(id: string): File | undefined {
    return find<HTMLInputElement>(id).files?.[0];
  }

  private idea(name: string, prompt: string): HTMLButtonElement {
    const button = make("button", { type: "button", class: "idea" }, name);
    button.addEventListener("click", () => {
      this.prompt.value = prompt;
      this.prompt.focus();
    });
    return button;
  }

  private showTemperature(): void {
    find("temperature-value").textContent = Number(this.temperature.value).toFixed(2);
  }

  private listenToFiles(): void {
    for (const button of this.form.querySelectorAll<HTMLButtonElement>("[data-clear]")) {
      const input = find<HTMLInputElement>(button.dataset["clear"]!);
      input.addEventListener("change", () => (button.hidden = !input.files?.length));
      button.addEventListener("click", () => {
        input.value = "";
        button.hidden = true;
        input.focus();
      });
    }
  }

  private put(id: string, files: FileList): void {
    const input = find<HTMLInputElement>(id);
    input.files = files;
    input.dispatchEvent(new Event("change"));
    find<HTMLDetailsElement>("more").open = true;
    input.focus();
  }

  /** A file dropped on the melody's box is a melody, anywhere else on the page a piece to continue. */
  private listenToDrops(): void {
    const veil = find("dropveil");
    const melodyBox = (event: DragEvent) => (event.target as Element | null)?.closest?.("[data-drop=melody]");
    window.addEventListener("dragover", (event) => {
      if (!event.dataTransfer?.types.includes("Files") || find("compose-view").hidden) return;
      event.preventDefault();
      veil.hidden = Boolean(melodyBox(event));
    });
    window.addEventListener("dragleave", (event) => {
      if (event.relatedTarget === null) veil.hidden = true;
    });
    window.addEventListener("drop", (event) => {
      veil.hidden = true;
      const files = event.dataTransfer?.files;
      if (!files?.length || find("compose-view").hidden) return;
      event.preventDefault();
      const isMelody = Boolean(melodyBox(event)) || files[0]!.name.toLowerCase().endsWith(".abc");
      this.put(isMelody ? "melody-file" : "continue-file", files);
    });
  }
}
