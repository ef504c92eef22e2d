import { ProblemError, type Api } from "./api";
import { RATER } from "./actions";
import type { Choice, Links, Pair } from "./contract";
import { find, remembered } from "./dom";
import { plural } from "./names";
import { clearError, showError } from "./notice";
import type { Piano } from "./piano";
import { Piece } from "./piece";
import { Player } from "./player";

const SIDES = ["a", "b"] as const;
type Side = (typeof SIDES)[number];
/** The server's names of the writers, as people say them. */
const WRITERS: Record<string, string> = { previous: "previous model" };

function writer(name: string): string {
  return `the ${WRITERS[name] ?? name}`;
}

/** How much of a piece must have been heard before a verdict counts; a whole short piece is enough [s]. */
const ENOUGH_S = 8;

interface Half {
  piece: Piece;
  player: Player;
  /** how far it has been heard [s] */
  heard: number;
}

/** The blind listening test: two pieces, one verdict, then who wrote which. */
export class Listening {
  private pair: Pair | null = null;
  private halves: Record<Side, Half> | null = null;
  private stop = new AbortController();
  private readonly listener = find<HTMLInputElement>("listener");
  private readonly tally = new Map<string, number>();
  private timer = 0;

  constructor(
    private readonly api: Api,
    private readonly piano: Piano,
  ) {
    remembered(this.listener, RATER);
    find("pair-form").addEventListener("submit", (event) => {
      event.preventDefault();
      void this.begin();
    });
    for (const side of SIDES) find(`play-${side}`).addEventListener("click", () => this.toggle(side));
    for (const button of this.verdicts()) {
      button.addEventListener("click", () => void this.choose(button.dataset["choice"] as Choice));
    }
  }

  /** Falls silent, as when the page is left. */
  rest(): void {
    for (const side of SIDES) this.halves?.[side].player.pause();
    window.clearInterval(this.timer);
  }

  private say(text: string): void {
    find("pair-status").textContent = text;
  }

  private verdicts(): HTMLButtonElement[] {
    return [...document.querySelectorAll<HTMLButtonElement>("[data-choice]")];
  }

  private async begin(): Promise<void> {
    if (!this.listener.value.trim()) {
      this.say("Enter your name first, so that we can tell listeners apart.");
      this.listener.focus();
      return;
    }
    this.rest();
    this.stop.abort();
    this.stop = new AbortController();
    clearError();
    find("pair").hidden = true;
    this.say("Both pieces are being written…");
    // Fetched while the pieces are written; what goes wrong is said when Play is pressed.
    this.piano.load().catch(() => {});
    try {
      const pair = await this.api.pair(find<HTMLInputElement>("pair-prompt").value.trim());
      const [a, b] = await Promise.all(SIDES.map((side) => this.fetch(pair[side].links, this.stop.signal)));
      this.pair = pair;
      this.halves = { a: this.half(a!), b: this.half(b!) };
      this.ready();
    } catch (error) {
      this.say("");
      showError(error);
    }
  }

  /** Waits for a whole piece: how long one takes to come must not tell who writes it. */
  private async fetch(links: Links, signal: AbortSignal): Promise<Piece> {
    const piece = new Piece();
    for await (const event of this.api.events(links.events, signal)) piece.apply(event);
    if (piece.problem) throw new ProblemError(piece.problem);
    return piece;
  }

  private half(piece: Piece): Half {
    const player = new Player(this.piano);
    player.take(piece);
    player.onChange = () => this.show();
    return { piece, player, heard: 0 };
  }

  private ready(): void {
    find("pair").hidden = false;
    for (const side of SIDES) find(`facts-${side}`).textContent = "Not heard yet";
    this.say("Both are ready. Listen to A and to B.");
    this.show();
    find("play-a").focus();
  }

  private toggle(side: Side): void {
    const half = this.halves?.[side];
    if (!half) return;
    const other = this.halves![side === "a" ? "b" : "a"];
    other.player.pause();
    if (half.player.state !== "stopped") half.player.pause();
    else half.player.play().catch(showError);
    window.clearInterval(this.timer);
    this.timer = window.setInterval(() => this.show(), 100);
  }

  private enough({ piece, heard }: Half): boolean {
    return heard >= Math.min(ENOUGH_S, piece.clock.seconds(piece.end) * 0.9);
  }

  private show(): void {
    if (!this.halves) return;
    for (const side of SIDES) {
      const half = this.halves[side];
      const going = half.player.state !== "stopped";
      const now = half.piece.clock.seconds(half.player.position);
      if (going) half.heard = Math.max(half.heard, now);
      find<HTMLProgressElement>(`progress-${side}`).value = now / half.piece.clock.seconds(half.piece.end);
      const button = find(`play-${side}`);
      button.classList.toggle("going", going);
      button.setAttribute("aria-label", `${going ? "Pause" : "Play"} ${side.toUpperCase()}`);
      if (this.pair) find(`facts-${side}`).textContent = this.enough(half) ? "✓ Heard" : half.heard > 0 ? "Keep listening…" : "Not heard yet";
    }
    const both = SIDES.every((side) => this.enough(this.halves![side]));
    for (const button of this.verdicts()) button.disabled = !both || !this.pair;
    if (both && this.pair && find("pair-status").textContent?.startsWith("Both are ready")) this.say("Which is better?");
  }

  private async choose(choice: Choice): Promise<void> {
    const pair = this.pair;
    if (!pair) return;
    this.pair = null;
    this.rest();
    try {
      const told = await this.api.choose(pair.pair, this.listener.value.trim(), choice);
      this.reveal(told, choice);
    } catch (error) {
      this.pair = pair;
      showError(error);
    }
    this.show();
  }

  private reveal(told: { a: string; b: string }, choice: Choice): void {
    for (const side of SIDES) find(`facts-${side}`).textContent = `Written by ${writer(told[side])}`;
    const winner = choice === "tie" ? "no difference" : writer(told[choice]);
    this.tally.set(winner, (this.tally.get(winner) ?? 0) + 1);
    this.say(`Saved. A was written by ${writer(told.a)}, B by ${writer(told.b)}. You preferred ${choice === "tie" ? "neither" : winner}.`);
    const counts = [...this.tally].map(([who, count]) => `${who} ${count}`).join(", ");
    const total = [...this.tally.values()].reduce((sum, count) => sum + count, 0);
    find("tally").textContent = `In this visit, ${plural(total, "verdict")}: ${counts}.`;
    find("pair-start").focus();
  }
}
