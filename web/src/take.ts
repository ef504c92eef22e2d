import type { Created, PieceRequest } from "./contract";
import { keyName } from "./names";
import { Piece } from "./piece";

/** One piece of this visit: what was asked, and what came. */
export class Take {
  readonly piece = new Piece();
  number = 0;

  constructor(
    readonly created: Created,
    readonly request: PieceRequest,
    /** What it grew out of, for people: "bars 3 to 4 of take 1 anew". */
    readonly origin: string,
  ) {}

  get title(): string {
    const { key } = this.piece;
    return key ? `Take ${this.number} in ${keyName(key)}` : `Take ${this.number}`;
  }

  /** Metre, tempo and seed in one line. */
  get facts(): string {
    const { metre, tempo } = this.piece;
    // A tempo counts the metre's beats: dotted quarters in 6/8, 9/8 and 12/8.
    const [note, quarters] = /^(6|9|12)\/8$/.test(metre) ? ["♩.", 1.5] : ["♩", 1];
    return [metre, tempo ? `${note} = ${Math.round(tempo / quarters)}` : "", `seed ${this.created.seed}`].filter(Boolean).join(" · ");
  }

  /** A name for the downloaded file. */
  get fileName(): string {
    const key = this.piece.key.replace("#", "s").replace(/\s+/g, "-");
    return ["plagal", key, this.created.id].filter(Boolean).join("-") + ".mid";
  }
}
