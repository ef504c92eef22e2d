import type { VerovioToolkit } from "verovio/esm";
import { TICKS_PER_QUARTER, type Bar } from "./contract";
import { make } from "./dom";

/** Staves of 100 % are 8 mm high; a page on a screen has room for less [%]. */
const SCALE = 38;
const NARROW_SCALE = 30;
const NARROW_PX = 520;

/** What Verovio would print against the score's word: names under numbers, degrees beside a name that says them. */
const UNPRINTED = /<harmony print-object="no">[\s\S]*?<\/harmony>|<degree[\s\S]*?<\/degree>/g;

/** An upbeat shall not fill a line alone: where the bar behind it has no room, all is engraved smaller. */
const SMALLER = [1, 0.85, 0.7] as const;
const UPBEAT = /<measure number="0" implicit|<time print-object="no">/;

/** The engraved piece. Verovio (7 MB) is fetched when a sheet is first asked for. */
export class Sheet {
  private toolkit: Promise<VerovioToolkit> | null = null;
  private shown = "";
  private width = 0;
  private moments: { tick: number; on: string[]; off: string[] }[] = [];
  private next = 0;
  private last = 0;

  constructor(private readonly box: HTMLElement) {}

  /** Engraves MusicXML; the same again where only the width has changed. */
  async show(xml: string, bars: readonly Bar[]): Promise<void> {
    const width = this.box.clientWidth;
    if (width === 0 || (xml === this.shown && width === this.width)) return;
    this.box.setAttribute("aria-busy", "true");
    try {
      this.toolkit ??= engraver();
      const toolkit = await this.toolkit;
      let pages: HTMLElement[] = [];
      for (const smaller of SMALLER) {
        const scale = Math.round((width < NARROW_PX ? NARROW_SCALE : SCALE) * smaller);
        toolkit.setOptions({
          scale, pageWidth: (width - 24) * (100 / scale), pageHeight: 60_000, adjustPageHeight: true, header: "none", footer: "none",
          // Narrow bars would print one chord's name over the next.
          spacingLinear: width < NARROW_PX ? 0.5 : 0.3,
          pageMarginLeft: 20, pageMarginRight: 20, pageMarginTop: 30, pageMarginBottom: 30,
        });
        if (!toolkit.loadData(xml.replace(UNPRINTED, ""))) throw new Error("This piece could not be engraved.");
        pages = Array.from({ length: toolkit.getPageCount() }, (_, page) => {
          const frame = make("div", { class: "engraved", "aria-hidden": "true" });
          frame.innerHTML = toolkit.renderToSVG(page + 1);
          return frame;
        });
        const first = pages[0]?.querySelector("g.system")?.querySelectorAll("g.measure").length;
        if (!UPBEAT.test(xml) || first !== 1 || bars.length < 2) break;
      }
      this.box.replaceChildren(...pages);
      const timemap = toolkit.renderToTimemap({ includeMeasures: true });
      // Measure by measure, for an upbeat is written short, and stands at the end of its bar.
      const starts = timemap.filter(({ measureOn }) => measureOn).map(({ qstamp }) => qstamp);
      const upbeat = ((starts[1] ?? Infinity) - (starts[0] ?? 0)) * TICKS_PER_QUARTER;
      let measure = -1;
      this.moments = timemap.map(({ qstamp, on, off, measureOn }) => {
        if (measureOn) measure++;
        const { onset, ticks } = bars[Math.max(0, measure)] ?? { onset: 0, ticks: 0 };
        const from = measure <= 0 ? onset + Math.max(0, ticks - upbeat) : onset;
        const inside = (qstamp - (starts[Math.max(0, measure)] ?? 0)) * TICKS_PER_QUARTER;
        return { tick: Math.round(from + inside), on: on ?? [], off: off ?? [] };
      });
      this.next = this.last = 0;
      this.shown = xml;
      this.width = width;
      this.box.dataset["notes"] = String(this.box.querySelectorAll("g.note").length);
    } catch (error) {
      this.toolkit = null;
      throw error;
    } finally {
      this.box.removeAttribute("aria-busy");
    }
  }

  /** Lights what sounds, and keeps it in view. */
  follow(tick: number, sounding: boolean): void {
    if (this.moments.length === 0) return;
    if (!sounding || tick < this.last) {
      for (const element of this.box.querySelectorAll(".sounding")) element.classList.remove("sounding");
      this.next = 0;
    }
    this.last = tick;
    if (!sounding) return;
    // From where it stood: notes that have ended meanwhile are let go again at once.
    const lit = new Set<string>();
    let lately: string | undefined;
    for (; this.next < this.moments.length && this.moments[this.next]!.tick <= tick; this.next++) {
      const { on, off } = this.moments[this.next]!;
      for (const id of off) if (!lit.delete(id)) this.light(id, false);
      for (const id of on) lit.add(id);
      lately = on[0] ?? lately;
    }
    for (const id of lit) this.light(id, true);
    if (lately) this.reveal(lately);
  }

  private light(id: string, on: boolean): void {
    document.getElementById(id)?.classList.toggle("sounding", on);
  }

  private reveal(id: string): void {
    const system = document.getElementById(id)?.closest("g.system") ?? document.getElementById(id);
    if (!system) return;
    const view = this.box.getBoundingClientRect();
    const { top, bottom } = system.getBoundingClientRect();
    if (top < view.top || bottom > view.bottom) this.box.scrollTop += top - view.top - 12;
  }
}

async function engraver(): Promise<VerovioToolkit> {
  const [{ default: createModule }, { VerovioToolkit }] = await Promise.all([import("verovio/wasm"), import("verovio/esm")]);
  return new VerovioToolkit(await createModule());
}
