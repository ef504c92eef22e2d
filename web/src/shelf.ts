import type { PieceRequest } from "./contract";
import type { Kept, Take } from "./take";

/** Where a tab keeps its takes until it is closed. */
const SHELF = "plagal.takes";
/** Browsers give a tab 5 MB; a take of 64 bars has 60 KB. */
const MOST_TAKES = 40;

/** A request without the files in it, which are too big to keep. */
function lean(request: PieceRequest): PieceRequest {
  const { melody, continue: begun, ...rest } = request;
  return {
    ...rest,
    ...(melody && "abc" in melody && { melody }),
    ...(begun && "piece" in begun && { continue: begun }),
  };
}

/** Keeps the takes that are done for after a reload, the newest first to stay. */
export function keep(takes: readonly Take[]): void {
  const kept: Kept[] = takes.flatMap(({ created, request, origin, number, answer }) =>
    answer ? [{ created, request: lean(request), origin, number, answer }] : [],
  );
  for (let most = MOST_TAKES; most > 0; most = Math.floor(most / 2)) {
    try {
      sessionStorage.setItem(SHELF, JSON.stringify(kept.slice(-most)));
      return;
    } catch {
      // Full, or switched off: half as many.
    }
  }
}

/** The takes that this tab had before it was loaded anew. */
export function kept(): Kept[] {
  try {
    return JSON.parse(sessionStorage.getItem(SHELF) ?? "[]") as Kept[];
  } catch {
    return [];
  }
}
