import { Actions } from "./actions";
import { Api, ProblemError } from "./api";
import { Composer } from "./composer";
import type { PieceRequest } from "./contract";
import { find } from "./dom";
import { Listening } from "./listen";
import { askToken, clearError, setUpNotices, showError } from "./notice";
import { Piano } from "./piano";
import { Stage } from "./stage";
import { Take } from "./take";

const api = new Api(askToken);
const piano = new Piano();
const stage = new Stage(piano);
const composer = new Composer();
const listening = new Listening(api, piano);
const actions = new Actions(api, stage, (request, origin) => void write(request, origin), open);
let writing: { take: Take; stop: AbortController } | null = null;

async function write(request: PieceRequest, origin = ""): Promise<void> {
  await cancel();
  clearError();
  // The recordings come while the piece is being written; what goes wrong is said when Play is pressed.
  piano.load().catch(() => {});
  const stop = new AbortController();
  let take: Take | null = null;
  try {
    const created = await api.create(request);
    take = new Take(created, request, origin);
    writing = { take, stop };
    actions.add(take);
    open(take);
    composer.busy = true;
    stage.reveal();
    await stage.follow(take, api, stop.signal);
    if (take.piece.problem) showError(new ProblemError(take.piece.problem));
  } catch (error) {
    if (take && !take.piece.over) take.piece.status = stop.signal.aborted ? "cancelled" : "failed";
    showError(error);
  }
  if (writing?.take !== take) return;
  writing = null;
  composer.busy = false;
  stage.settle();
  actions.refresh();
}

function open(take: Take): void {
  stage.show(take);
  actions.refresh();
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
find("cancel").addEventListener("click", () => void cancel());
window.addEventListener("hashchange", () => route(true));
window.addEventListener("pagehide", () => {
  if (writing) void api.cancel(writing.take.created.id, true).catch(() => {});
});
route(false);
actions.refresh();
api.catalogue().then((catalogue) => composer.offer(catalogue), showError);
