import type { Created, PieceAnswer, PieceRequest } from "./contract";
import { keyName } from "./names";
import { Piece } from "./piece";

/** What is kept of a take for after a reload. */
export interface Kept {
  created: Created;
  request: PieceRequest;
  origin: string;
  number: number;
  answer: PieceAnswer;
}

/** One piece of this visit: what was asked, and what came. */
export class Take {
  piece = new Piece();
  number = 0;
  /** The piece as the server has it, once it is done. */
  answer: PieceAnswer | null = null;
  /** How much higher than written it is shown. */
  semitones = 0;

  constructor(
    readonly created: Created,
    readonly request: PieceRequest,
    /** What it grew out of, for people: "bars 3 to 4 of take 1 anew". */
    readonly origin: string,
  ) {}

  static from({ created, request, origin, number, answer }: Kept): Take {
    const take = new Take(created, request, origin);
    take.number = number;
    take.finish(answer);
    take.piece = Piece.from(answer);
    return take;
  }

  /** It is done: now it is known which hand plays what. */
  finish(answer: PieceAnswer): void {
    this.answer = answer;
    this.piece.notes.forEach((note, at) => (note.hand = answer.hands[at] ?? -1));
  }

  get title(): string {
    const { key } = this.piece;
    return key ? `Take ${this.number} in ${keyName(key)}` : `Take ${this.number}`;
  }

  /** Metre, tempo, seed and writer in one line. */
  get facts(): string {
    const { metre, tempo, beat, writer, judge } = this.piece;
    // A tempo counts the metre's beats: dotted quarters in 6/8, 9/8 and 12/8.
    const note = beat === 36 ? "♩." : "♩";
    const by = judge || (writer && `by the ${writer}`);
    return [metre, tempo ? `${note} = ${Math.round((tempo * 24) / beat)}` : "", `seed ${this.created.seed}`, by].filter(Boolean).join(" · ");
  }

  /** A name for a downloaded file. */
  fileName(suffix: string): string {
    const key = this.piece.key.replace("#", "s").replace(/\s+/g, "-");
    return ["plagal", key, this.created.id].filter(Boolean).join("-") + suffix;
  }
}
