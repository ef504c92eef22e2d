import type { PieceRequest } from "./contract";
import type { Span } from "./geometry";
import { progression } from "./harmony";
import type { Take } from "./take";

/** Requests that grow out of a take. What the person asked for in words stays with it. */

function kept({ request }: Take): PieceRequest {
  const { prompt, style, temperature } = request;
  return { ...(prompt && { prompt }), ...(style && { style }), ...(temperature !== undefined && { temperature }) };
}

/** The same request with another seed. */
export function again(take: Take): PieceRequest {
  return { vary: { piece: take.created.id } };
}

/** Other notes over the same harmony: the take's key, metre, tempo, length and chords. */
export function variation(take: Take): PieceRequest {
  const { key, metre, tempo, bars } = take.piece;
  const chords = progression(take.piece);
  const { writer } = take.request;
  return { ...kept(take), ...(key && { key }), ...(chords && { chords }), ...(writer && { writer }), metre, tempo, beat: "quarter", bars: bars.length };
}

export function continuation(take: Take, bar: number, more?: number): PieceRequest {
  return { ...kept(take), ...(more && { bars: more }), continue: { piece: take.created.id, from_bar: bar } };
}

export function refilling(take: Take, { first, last }: Span): PieceRequest {
  return { ...kept(take), refill: { piece: take.created.id, first_bar: first, last_bar: last } };
}
