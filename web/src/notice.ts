import { ProblemError } from "./api";
import { find } from "./dom";

/** The standard names of statuses, such as "Unprocessable Entity", tell people nothing. */
function heading(status: number): string {
  if (status === 0) return "No answer.";
  if (status === 401) return "A token is needed.";
  if (status === 404) return "Not found.";
  if (status === 413) return "Too large.";
  if (status === 429 || status === 503) return "Busy.";
  return status < 500 ? "That is not possible." : "The server failed.";
}

/** What went wrong, at the top of the page and read out by screen readers. */
export function showError(error: unknown): void {
  if (error instanceof DOMException && error.name === "AbortError") return;
  const problem = error instanceof ProblemError ? error.problem : null;
  find("alert-title").textContent = problem ? heading(problem.status) : "Something went wrong.";
  find("alert-detail").textContent = problem ? problem.detail : error instanceof Error ? error.message : String(error);
  find("alert").hidden = false;
}

export function clearError(): void {
  find("alert").hidden = true;
}

/** Asks for the server's token; null where the person has none. */
export function askToken(wrong: boolean): Promise<string | null> {
  const dialog = find<HTMLDialogElement>("token-dialog");
  const input = find<HTMLInputElement>("token");
  find("token-title").textContent = wrong ? "That token is not the server's" : "This server asks for a token";
  input.value = "";
  dialog.returnValue = "cancel";
  if (!dialog.open) dialog.showModal();
  return new Promise((resolve) => {
    const closed = () => resolve(dialog.returnValue === "ok" && input.value ? input.value : null);
    dialog.addEventListener("close", closed, { once: true });
  });
}

export function setUpNotices(): void {
  find("alert-close").addEventListener("click", clearError);
}
