import { expect, test } from "vitest";
import { pitchRange, scale, span } from "../src/geometry";
import { progression } from "../src/harmony";
import { bar, chord, done, note, pieceOf } from "./helpers";

test("a piece knows how long it will be from the bars that were asked for", () => {
  const piece = pieceOf(bar(1), bar(2));
  expect([piece.end, piece.expectedEnd]).toEqual([192, 384]);
  piece.apply(done(192));
  expect([piece.status, piece.expectedEnd]).toEqual(["done", 192]);
});

test("what is known ends at the newest onset until the piece is done", () => {
  const piece = pieceOf(bar(1), note(0, 60), note(36, 62));
  expect(piece.horizon).toBe(36);
  piece.apply(done(96));
  expect(piece.horizon).toBe(96);
});

test("a problem ends a piece as failed, with its words", () => {
  const piece = pieceOf(bar(1), { type: "problem", title: "Too slow", status: 504, detail: "It took over a minute." });
  expect([piece.status, piece.over, piece.problem?.detail]).toEqual(["failed", true, "It took over a minute."]);
});

test("keys are down from their onset to their end, that end not included", () => {
  const piece = pieceOf(bar(1), note(0, 60), note(24, 62));
  expect([0, 23, 24, 48].map((tick) => piece.heldAt(tick).map((held) => held.pitch))).toEqual([[60], [60], [62], []]);
});

test("the progression repeats a chord in bars that have none of their own", () => {
  const piece = pieceOf(bar(1), chord(0, "Dbmaj9"), bar(2), bar(3), chord(192, "Ab13sus"), chord(240, "Ab7"));
  expect(progression(piece)).toBe("Dbmaj9 | Dbmaj9 | Ab13sus Ab7");
});

test("the roll shows two octaves at least, and never more than a piano has", () => {
  expect(pitchRange(pieceOf(bar(1)))).toEqual({ low: 48, high: 72 });
  expect(pitchRange(pieceOf(bar(1), note(0, 22), note(0, 107)))).toEqual({ low: 21, high: 108 });
});

test("bars stay readable: a long piece scrolls, a short one fills at most a third of the view a bar", () => {
  expect(scale(pieceOf(bar(1), done(96)), 900, 84) * 96).toBeCloseTo(300);
  const long = pieceOf(...Array.from({ length: 32 }, (_, index) => bar(index + 1)), done(32 * 96));
  expect(scale(long, 900, 84) * 96).toBeCloseTo(84);
});

test("bars are widened so that the names of close chords have room", () => {
  const close = pieceOf(bar(1), chord(0, "Db"), chord(24, "Eb"), ...Array.from({ length: 7 }, (_, index) => bar(index + 2)));
  expect(scale(close, 400, 84) * 24).toBeGreaterThanOrEqual(52);
});

test("a span runs from the lower bar to the higher", () => {
  expect(span(5, 2)).toEqual({ first: 2, last: 5 });
});
