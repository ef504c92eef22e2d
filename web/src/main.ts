import { Actions } from "./actions";
import { Api, ProblemError } from "./api";
import { Chips } from "./chips";
import { Composer } from "./composer";
import type { PieceRequest } from "./contract";
import { find } from "./dom";
import { Listening } from "./listen";
import { askToken, clearError, setUpNotices, showError } from "./notice";
import { Piano } from "./piano";
import { Piece } from "./piece";
import { Practice } from "./practice";
import { Settings } from "./settings";
import { kept } from "./shelf";
import { Stage } from "./stage";
import { Take } from "./take";

const api = new Api(askToken);
const piano = new Piano();
const settings = new Settings();
const stage = new Stage(piano, settings);
const practice = new Practice(stage, piano, settings);
const composer = new Composer();
const listening = new Listening(api, piano);
const actions = new Actions(api, stage, piano, (request, origin, remembered) => void write(request, origin, remembered), open);
const chips = new Chips({
  ask: (request, origin) => void write(request, origin),
  reword: (prompt, part) => composer.reword(prompt, part),
});
let writing: { take: Take; stop: AbortController } | null = null;

async function write(request: PieceRequest, origin = "", remembered = request): Promise<void> {
  await cancel();
  clearError();
  // The recordings come while the piece is being written; what goes wrong is said when Play is pressed.
  piano.load().catch(() => {});
  const stop = new AbortController();
  let take: Take | null = null;
  composer.busy = true;
  try {
    const created = await api.create(request);
    take = new Take(created, remembered, origin);
    writing = { take, stop };
    actions.add(take);
    open(take);
    composer.busy = true;
    stage.reveal();
    await stage.follow(take, api, stop.signal);
    if (take.piece.problem) showError(new ProblemError(take.piece.problem));
    if (take.piece.status === "done") take.finish(await api.piece(created.links.self));
  } catch (error) {
    if (take && !take.piece.over) take.piece.status = stop.signal.aborted ? "cancelled" : "failed";
    showError(error);
  }
  if (take && writing?.take !== take) return;
  writing = null;
  composer.busy = false;
  stage.settle();
  if (take?.answer && take === stage.take) {
    practice.show(take);
    void stage.engrave();
  }
  actions.keep();
  actions.refresh();
}

function open(take: Take): void {
  stage.show(take);
  chips.show(take);
  practice.show(take);
  actions.refresh();
}

/** The same piece in another key, spelled by it. */
async function transpose(take: Take, semitones: number): Promise<void> {
  try {
    take.piece = Piece.from(await api.piece(take.created.links.self, semitones));
    take.semitones = semitones;
  } catch (error) {
    showError(error);
  }
  if (take === stage.take) open(take);
}

/** Stops what is being written, here and at the server. */
async function cancel(): Promise<void> {
  if (!writing) return;
  const { take, stop } = writing;
  writing = null;
  composer.busy = false;
  take.piece.status = "cancelled";
  stop.abort(new DOMException("stopped by the person", "AbortError"));
  stage.update();
  actions.refresh();
  await api.cancel(take.created.id).catch(() => {});
}

/** The two pages live in one document, told apart by the address after "#". */
function route(moved: boolean): void {
  const listen = location.hash === "#/listen";
  find("listen-view").hidden = !listen;
  find("compose-view").hidden = listen;
  document.title = listen ? "Plagal · blind listening" : "Plagal · gospel piano from a prompt";
  for (const link of document.querySelectorAll<HTMLAnchorElement>("[data-view]")) {
    const here = (link.dataset["view"] === "listen") === listen;
    if (here) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  if (listen) stage.player.pause();
  else listening.rest();
  if (moved) find(listen ? "listen-heading" : "prompt").focus();
}

setUpNotices();
composer.onSubmit = (request) => void write(request);
practice.onTranspose = (take, semitones) => void transpose(take, semitones);
stage.engraved = async ({ created, semitones }) => {
  const numbers = settings.chords === "numbers" ? "&numbers=true" : "";
  return (await api.file(`${created.links.musicxml}?transpose=${semitones}${numbers}`)).text();
};
find("cancel").addEventListener("click", () => void cancel());
window.addEventListener("hashchange", () => route(true));
window.addEventListener("pagehide", () => {
  if (writing) void api.cancel(writing.take.created.id, true).catch(() => {});
});
route(false);
for (const take of kept().map((one) => Take.from(one))) actions.add(take);
actions.refresh();
const newest = actions.newest;
if (newest) open(newest);
api.catalogue().then((catalogue) => composer.offer(catalogue), showError);
