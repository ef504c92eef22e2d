import { expect, test } from "vitest";
import type { PieceEvent } from "../src/contract";
import { Sequencer } from "../src/sequencer";
import { bar, note, pedal, pieceOf } from "./helpers";

/** "strike 60 at 0" and so on, played in steps of a given size. */
function played(events: PieceEvent[], step = 1000, from = 0): string[] {
  const sequencer = new Sequencer(pieceOf(...events));
  sequencer.seek(from);
  const said: string[] = [];
  for (let until = from + step; until <= 2000; until += step) {
    for (const command of sequencer.advance(until)) if (command.kind !== "pedal") said.push(`${command.kind} ${command.pitch} at ${command.tick}`);
  }
  return said;
}

test("without a pedal a string is damped when its key goes up", () => {
  expect(played([bar(1), note(0, 60)])).toEqual(["strike 60 at 0", "damp 60 at 24"]);
});

test("with the pedal down strings ring until it is lifted", () => {
  const events = [bar(1), pedal(0, "on"), note(0, 60), note(24, 64), pedal(96, "off")];
  expect(played(events)).toEqual(["strike 60 at 0", "strike 64 at 24", "damp 60 at 96", "damp 64 at 96"]);
});

test("a pedal pressed again lifts first, and does not swallow the note that starts there", () => {
  const events = [bar(1), pedal(0, "on"), note(0, 60, 96), pedal(96, "on"), note(96, 62, 48), pedal(192, "off")];
  expect(played(events)).toEqual(["strike 60 at 0", "damp 60 at 96", "strike 62 at 96", "damp 62 at 192"]);
});

test("a key struck again under the pedal damps its own string first", () => {
  const events = [bar(1), pedal(0, "on"), note(0, 60), note(48, 60), pedal(96, "off")];
  expect(played(events)).toEqual(["strike 60 at 0", "damp 60 at 48", "strike 60 at 48", "damp 60 at 96"]);
});

test("a half pedal lets a note ring on for a quarter", () => {
  expect(played([bar(1), pedal(0, "half"), note(0, 60)])).toEqual(["strike 60 at 0", "damp 60 at 48"]);
});

test("the size of the steps changes nothing", () => {
  const events = [bar(1), pedal(0, "on"), note(0, 60), note(0, 64, 96), note(48, 60), pedal(72, "half"), note(80, 67, 3), pedal(96, "off")];
  for (const step of [1, 5, 40, 96]) expect(played(events, step)).toEqual(played(events));
});

test("notes that come while it plays are played too", () => {
  const piece = pieceOf(bar(1), note(0, 60));
  const sequencer = new Sequencer(piece);
  sequencer.seek(0);
  expect(sequencer.advance(20)).toHaveLength(1);
  piece.apply(note(40, 65));
  expect(sequencer.advance(50)).toMatchObject([{ kind: "damp", pitch: 60 }, { kind: "strike", pitch: 65 }]);
});

test("from the middle on, the pedal is where it was, and earlier notes stay silent", () => {
  const events = [bar(1), pedal(0, "on"), note(0, 60), note(48, 64), pedal(96, "off")];
  expect(played(events, 1000, 40)).toEqual(["strike 64 at 48", "damp 64 at 96"]);
});

test("the pedal is heard to go down once and up once, and not where it is only changed to half", () => {
  const sequencer = new Sequencer(pieceOf(bar(1), pedal(0, "on"), note(0, 60), pedal(24, "half"), pedal(48, "off")));
  sequencer.seek(0);
  const noises = sequencer.advance(100).filter(({ kind }) => kind === "pedal");
  expect(noises).toEqual([{ kind: "pedal", tick: 0, down: true }, { kind: "pedal", tick: 48, down: false }]);
});

test("where a loop turns back, all that sounds is let go, and nothing else", () => {
  const sequencer = new Sequencer(pieceOf(bar(1), pedal(0, "on"), note(0, 60), note(48, 64, 96)));
  sequencer.seek(0);
  sequencer.advance(96);
  expect(sequencer.letGo(96)).toEqual([{ kind: "damp", tick: 96, pitch: 64 }, { kind: "damp", tick: 96, pitch: 60 }]);
});
