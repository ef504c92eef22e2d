import type { Api } from "./api";
import { calm } from "./canvas";
import { find } from "./dom";
import { Falling } from "./falling";
import { keyRange, span, type Span } from "./geometry";
import { Keys, type KeyState } from "./keys";
import { keyName, plural } from "./names";
import { showError } from "./notice";
import type { Piano } from "./piano";
import { Player } from "./player";
import { Roll } from "./roll";
import { Ruler } from "./ruler";
import type { Settings } from "./settings";
import { Sheet } from "./sheet";
import type { Take } from "./take";
import { Transport } from "./transport";

const DRAG_PX = 6;
const VIEWS = ["roll", "sheet", "both", "falling"] as const;
type View = (typeof VIEWS)[number];

/** Shows a take while it is written and played: roll, bars, keyboard, transport. */
export class Stage {
  take: Take | null = null;
  onSelect: (selection: Span | null) => void = () => {};
  /** Called on every frame [ticks]. */
  onFrame: (tick: number, playing: boolean) => void = () => {};
  /** Keys that are down or waited for, besides those that sound. */
  pressed: () => Map<number, KeyState> = () => new Map();
  /** The engraved music of a take, as MusicXML. */
  engraved: (take: Take) => Promise<string> = () => Promise.reject(new Error("There is no sheet of this piece."));
  readonly player: Player;
  readonly transport: Transport;
  readonly ruler: Ruler;
  private readonly roll: Roll;
  private readonly keys = new Keys(find<HTMLCanvasElement>("keys"));
  private readonly falling = new Falling(find<HTMLCanvasElement>("falling"));
  private readonly sheet = new Sheet(find("sheet"));
  private readonly scroller = find("scroller");
  private view: View = "roll";
  private wanted = false;
  private stale = false;

  constructor(
    piano: Piano,
    private readonly settings: Settings,
  ) {
    this.player = new Player(piano, settings);
    this.player.onChange = () => this.want();
    this.transport = new Transport(this.player, piano, () => this.want(), settings);
    this.roll = new Roll({
      scroller: this.scroller,
      content: find("roll-content"),
      canvas: find<HTMLCanvasElement>("roll-canvas"),
      gutter: find<HTMLCanvasElement>("gutter"),
    }, settings);
    this.ruler = new Ruler(find("ruler"), {
      select: (selection) => this.selected(selection),
      play: (bar) => void this.transport.play(this.take?.piece.bars[bar - 1]?.onset ?? 0),
    }, settings);
    settings.onChange = () => this.applied();
    for (const view of VIEWS) find<HTMLInputElement>(`view-${view}`).addEventListener("change", () => this.look(view));
    this.scroller.addEventListener("scroll", () => this.want());
    new ResizeObserver(() => this.resized()).observe(find("roll"));
    window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.recolour());
    this.listenToDrags(find<HTMLCanvasElement>("roll-canvas"));
    this.want();
  }

  show(take: Take): void {
    this.take = take;
    this.player.take(take.piece);
    this.transport.take(take.piece);
    this.roll.take(take.piece);
    this.ruler.take(take.piece);
    find("roll-empty").hidden = true;
    this.update();
    void this.engrave();
  }

  get pixelsPerTick(): number {
    return this.roll.pixelsPerTick;
  }

  /** Roll, sheet, both, or falling notes. */
  private look(view: View): void {
    this.view = view;
    find("views").dataset["view"] = view;
    this.resized();
    this.roll.follow(this.player.position);
    void this.engrave();
  }

  /** Brings the sheet up to the take on the stage, where a sheet is looked at. */
  async engrave(): Promise<void> {
    const take = this.take;
    if (!take || take.piece.status !== "done" || (this.view !== "sheet" && this.view !== "both")) return;
    try {
      const xml = await this.engraved(take);
      if (take === this.take) await this.sheet.show(xml, take.piece.bars);
      this.want();
    } catch (error) {
      showError(error);
    }
  }

  /** The settings have changed: what is drawn follows them. */
  private applied(): void {
    this.ruler.relabel(this.pixelsPerTick);
    find("sheet").dataset["chords"] = this.settings.chords;
    void this.engrave();
    this.want();
  }

  /** Back to the cursor, once there is nothing more to follow. */
  settle(): void {
    this.update();
    if (this.player.state === "stopped") this.roll.follow(this.player.position);
  }

  /** Brings the music into view where the form fills the screen, as on a phone. */
  reveal(): void {
    const stage = find("stage");
    const { top } = stage.getBoundingClientRect();
    if (top < 0 || top > window.innerHeight * 0.5) stage.scrollIntoView({ behavior: calm.matches ? "auto" : "smooth" });
  }

  /** Applies a take's events as they come, until it is done. */
  async follow(take: Take, api: Api, signal: AbortSignal): Promise<void> {
    for await (const event of api.events(take.created.links.events, signal)) {
      take.piece.apply(event);
      // Events come faster than frames; each frame shows all that have come.
      this.stale = true;
      this.want();
    }
  }

  /** Brings everything in line with what is known of the piece. */
  update(): void {
    this.stale = false;
    const take = this.take;
    if (!take) return;
    this.roll.measure();
    this.ruler.update(this.roll.pixelsPerTick);
    find("ruler").hidden = take.piece.bars.length === 0;
    this.describe(take);
    if (!take.piece.over && this.player.state === "stopped") this.roll.follow(take.piece.horizon);
    this.want();
  }

  private describe(take: Take): void {
    const { piece } = take;
    find("piece-title").textContent = take.title;
    find("piece-facts").textContent = take.facts;
    find("roll").dataset["notes"] = String(piece.notes.length);
    find("roll").dataset["status"] = piece.status;
    find("roll").dataset["piece"] = take.created.id;
    const progress = find<HTMLProgressElement>("progress");
    progress.hidden = piece.over;
    if (piece.barsAsked > 0) progress.value = piece.bars.length / piece.barsAsked;
    else progress.removeAttribute("value");
    const status = this.status(take);
    // A live region is read out whenever it is written, even with the same words.
    if (find("status").textContent !== status) find("status").textContent = status;
  }

  private status({ piece, origin }: Take): string {
    const size = piece.barsAsked ? plural(piece.barsAsked, "bar") : "music";
    switch (piece.status) {
      case "queued":
        return piece.ahead > 0 ? `Waiting: ${plural(piece.ahead, "piece")} ahead.` : "Waiting to begin…";
      case "writing":
        return `Writing ${size}${piece.key ? ` in ${keyName(piece.key)}` : ""}…`;
      case "done":
        return `Done: ${plural(piece.bars.length, "bar")}, ${plural(piece.notes.length, "note")}${origin ? `; ${origin}` : ""}.`;
      case "cancelled":
        return `Stopped after ${plural(piece.bars.length, "bar")}.`;
      case "failed":
        return "This piece could not be finished.";
    }
  }

  /** Asks for one frame. */
  want(): void {
    if (this.wanted) return;
    this.wanted = true;
    requestAnimationFrame(() => this.frame());
  }

  private frame(): void {
    this.wanted = false;
    if (this.stale) this.update();
    const tick = this.player.position;
    const going = this.player.state !== "stopped";
    if (going) this.roll.follow(tick);
    this.roll.draw(tick, going);
    this.onFrame(tick, this.player.state === "playing");
    const piece = this.take?.piece ?? null;
    const states = new Map<number, KeyState>();
    if (going && piece) for (const note of piece.heldAt(tick)) if (this.settings.isHeard(note)) states.set(note.pitch, "sounding");
    for (const [pitch, state] of this.pressed()) states.set(pitch, state);
    const range = keyRange(piece, find("keys").clientWidth);
    this.keys.draw(states, range);
    if (this.view === "falling" && piece) this.falling.draw(piece, tick, range, this.settings);
    else if (this.view !== "roll") this.sheet.follow(tick, going);
    this.transport.draw(tick);
    if (going || this.roll.moving) this.want();
  }

  private resized(): void {
    this.keys.redraw();
    void this.engrave();
    this.roll.measure();
    this.update();
    this.want();
  }

  private recolour(): void {
    this.roll.recolour();
    this.resized();
  }

  private selected(selection: Span | null): void {
    this.roll.selection = selection;
    this.player.span = selection;
    const bars = selection === null ? "the whole piece" : selection.first === selection.last ? `bar ${selection.first}` : `bars ${selection.first} to ${selection.last}`;
    find("loop-label").textContent = `Loop ${bars}`;
    this.onSelect(selection);
    this.want();
  }

  /** A drag over the roll chooses bars, a click moves the cursor. Fingers scroll instead; they choose in the row of bars. */
  private listenToDrags(canvas: HTMLCanvasElement): void {
    let from: { x: number; bar: number } | null = null;
    let dragged = false;
    const barAt = (event: PointerEvent) => this.take?.piece.barAt(Math.max(0, this.roll.tickAt(event.clientX)))?.bar ?? 0;
    canvas.addEventListener("pointerdown", (event) => {
      if (event.button !== 0 || barAt(event) === 0) return;
      from = { x: event.clientX, bar: barAt(event) };
      dragged = false;
      if (event.pointerType === "mouse") canvas.setPointerCapture(event.pointerId);
    });
    canvas.addEventListener("pointermove", (event) => {
      if (!from || event.pointerType !== "mouse") return;
      dragged ||= Math.abs(event.clientX - from.x) > DRAG_PX;
      if (dragged) this.ruler.choose(span(from.bar, barAt(event)));
    });
    canvas.addEventListener("pointerup", (event) => {
      if (from && !dragged) this.player.seek(this.roll.tickAt(event.clientX)).catch(() => {});
      from = null;
    });
    canvas.addEventListener("pointercancel", () => (from = null));
  }
}
