import type { Catalogue, Choice, Created, Pair, PieceAnswer, PieceEvent, PieceRequest, Problem } from "./contract";
import { EventReader } from "./sse";

/** An answer that is not the one hoped for, in words for people. */
export class ProblemError extends Error {
  constructor(readonly problem: Problem) {
    super(problem.detail || problem.title);
  }
}

const TOKEN = "plagal.token";
const RETRIES = 5;

function problemFrom(status: number, body: unknown): Problem {
  const said = (typeof body === "object" && body !== null ? body : {}) as Partial<Problem>;
  return {
    title: said.title ?? "The server could not do this",
    status,
    detail: said.detail ?? `It answered with status ${status} and gave no reason.`,
  };
}

export const UNREACHABLE: Problem = {
  title: "No answer",
  status: 0,
  detail: "The server does not answer. Is plagal serve still running?",
};

function pause(milliseconds: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    signal?.addEventListener("abort", () => reject(signal.reason as Error), { once: true });
    setTimeout(resolve, milliseconds);
  });
}

/** The HTTP interface of plagal serve; addresses are relative, for a reverse proxy may show the page under a prefix. `askToken` is called when the server wants a token; null gives up. */
export class Api {
  constructor(private readonly askToken: (wrong: boolean) => Promise<string | null>) {}

  private headers(extra: Record<string, string> = {}): Record<string, string> {
    const token = sessionStorage.getItem(TOKEN);
    return token ? { ...extra, Authorization: `Bearer ${token}` } : extra;
  }

  private async send(path: string, init: RequestInit & { headers?: Record<string, string> } = {}): Promise<Response> {
    for (;;) {
      let response: Response;
      try {
        response = await fetch(path, { ...init, headers: this.headers(init.headers) });
      } catch (error) {
        if (init.signal?.aborted) throw error;
        throw new ProblemError(UNREACHABLE);
      }
      if (response.ok) return response;
      const problem = problemFrom(response.status, await response.json().catch(() => null));
      if (response.status !== 401) throw new ProblemError(problem);
      const token = await this.askToken(sessionStorage.getItem(TOKEN) !== null);
      if (token === null) throw new ProblemError(problem);
      sessionStorage.setItem(TOKEN, token);
    }
  }

  private async post<T>(path: string, body: unknown): Promise<T> {
    const init = { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
    return (await (await this.send(path, init)).json()) as T;
  }

  async catalogue(): Promise<Catalogue> {
    return (await (await this.send("api/styles")).json()) as Catalogue;
  }

  create(request: PieceRequest): Promise<Created> {
    return this.post("api/pieces", request);
  }

  /** Stops the writing of a piece. `leaving`: the page is being closed, so the call must outlive it. */
  async cancel(id: string, leaving = false): Promise<void> {
    await this.send(`api/pieces/${id}`, { method: "DELETE", keepalive: leaving });
  }

  /** A piece that is done, so many semitones higher. */
  async piece(path: string, semitones = 0): Promise<PieceAnswer> {
    return (await (await this.send(`${path}?transpose=${semitones}`)).json()) as PieceAnswer;
  }

  async file(path: string): Promise<Blob> {
    return (await this.send(path)).blob();
  }

  rate(rater: string, piece: string, rating: number): Promise<unknown> {
    return this.post("api/ratings", { rater, piece, rating });
  }

  pair(prompt: string): Promise<Pair> {
    return this.post("api/pairs", prompt ? { prompt } : {});
  }

  choose(pair: string, rater: string, choice: Choice): Promise<{ a: string; b: string }> {
    return this.post(`api/pairs/${pair}/choice`, { rater, choice });
  }

  /** Every event of a piece from its beginning, once each, until it is done; a broken connection is taken up where it broke. */
  async *events(path: string, signal: AbortSignal): AsyncGenerator<PieceEvent> {
    let last = "";
    for (let failures = 0; ; failures++) {
      try {
        for await (const { id, event, data } of this.connection(path, last, signal)) {
          last = id || last;
          failures = 0;
          yield { ...(JSON.parse(data) as object), type: event } as PieceEvent;
          if (event === "done" || event === "problem") return;
        }
      } catch (error) {
        const answered = error instanceof ProblemError && error.problem.status !== 0;
        if (signal.aborted || answered) throw error;
      }
      if (failures >= RETRIES) throw new ProblemError(UNREACHABLE);
      await pause(250 * 2 ** failures, signal);
    }
  }

  private async *connection(path: string, last: string, signal: AbortSignal) {
    // EventSource cannot send the token, so the stream is read by hand.
    const headers: Record<string, string> = last ? { "Last-Event-ID": last } : {};
    const response = await this.send(path, { headers, signal });
    const chunks = response.body!.pipeThrough(new TextDecoderStream()).getReader();
    const reader = new EventReader();
    for (;;) {
      const { done, value } = await chunks.read();
      if (done) return;
      yield* reader.push(value);
    }
  }
}
