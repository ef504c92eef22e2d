/** Reads a text/event-stream by the rules of the HTML standard, section "Server-sent events", in chunks cut anywhere. */

export interface ServerEvent {
  id: string;
  event: string;
  data: string;
}

export class EventReader {
  private rest = "";
  private id = "";
  private event = "";
  private data: string[] = [];

  /** The events that this chunk completes. */
  push(chunk: string): ServerEvent[] {
    const events: ServerEvent[] = [];
    this.rest += chunk;
    // A carriage return at the very end may be half of CR LF: it waits for the next chunk.
    const lines = this.rest.split(/\r\n|\n|\r(?!$)/);
    this.rest = lines.pop() ?? "";
    for (const line of lines) {
      const event = this.line(line);
      if (event) events.push(event);
    }
    return events;
  }

  private line(line: string): ServerEvent | null {
    if (line === "") return this.finish();
    if (line.startsWith(":")) return null;
    const colon = line.indexOf(":");
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
    if (field === "data") this.data.push(value);
    else if (field === "event") this.event = value;
    else if (field === "id") this.id = value;
    return null;
  }

  private finish(): ServerEvent | null {
    const event = { id: this.id, event: this.event || "message", data: this.data.join("\n") };
    const empty = this.data.length === 0;
    this.event = "";
    this.data = [];
    return empty ? null : event;
  }
}
