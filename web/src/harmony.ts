import type { Piece } from "./piece";

/** A piece's chords as a request writes them, "Dbmaj9 | Gb13 | Ab13sus Ab7"; empty where it has none. */
export function progression(piece: Piece): string {
  let last = piece.chords[0]?.symbol;
  if (!last) return "";
  const bars = piece.bars.map((bar) => {
    const chords = piece.chordsIn(bar).map((chord) => chord.symbol);
    // A bar without a chord of its own goes on with the one before.
    const symbols = chords.length > 0 ? chords.slice(0, 8) : [last!];
    last = symbols.at(-1);
    return symbols.join(" ");
  });
  return bars.join(" | ");
}
