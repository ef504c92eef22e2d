import { expect, test } from "vitest";
import { Coach } from "../src/coach";
import { bar, note, pieceOf } from "./helpers";

/** At 60 a minute a tick is 1/24 s: a bar of 4/4 with two chords, and one with a single note. */
function piece() {
  const made = pieceOf(bar(1), note(0, 60), note(0, 64), note(48, 62), bar(2), note(96, 65));
  made.notes.forEach((each, at) => (each.hand = at === 0 ? 0 : 1));
  return made;
}
const all = () => true;

test("a key on its moment is right, one before it early, one behind it late, another one wrong", () => {
  const coach = new Coach(piece(), all);
  expect(coach.strike(60, 1, 1)).toBe("right");
  expect(coach.strike(64, 8, 1)).toBe("late");
  expect(coach.strike(62, 42, 1)).toBe("early");
  expect(coach.strike(61, 50, 1)).toBe("wrong");
  expect(coach.result(1)).toBe("1 right, 1 early, 1 late, 1 wrong");
});

test("what is early at full speed is right where everything is four times as slow by ticks, and late stays late by the clock", () => {
  const coach = new Coach(piece(), all);
  // Two ticks are a third of a second at a quarter of the speed.
  expect(coach.strike(60, 2, 0.25)).toBe("late");
  expect(coach.strike(64, 0.5, 0.25)).toBe("right");
});

test("a note that nobody plays is missed once the music is well past it, not before", () => {
  const coach = new Coach(piece(), all);
  coach.pass(11, 1);
  expect(coach.result(1)).toBe("");
  coach.pass(13, 1);
  expect(coach.result(1)).toBe("2 missed");
  expect(coach.strike(60, 13, 1)).toBe("wrong");
});

test("while the music waits, a chord's keys may come in any order, and only then the next is wanted", () => {
  const coach = new Coach(piece(), all);
  expect(coach.press(64)).toBe("right");
  expect(coach.press(62)).toBe("wrong");
  expect(coach.next.map(({ pitch }) => pitch)).toEqual([60]);
  expect(coach.press(60)).toBe("right");
  expect(coach.next.map(({ pitch }) => pitch)).toEqual([62]);
  expect(coach.perfect(1)).toBe(false);
});

test("only the practised hand is wanted", () => {
  const coach = new Coach(piece(), ({ hand }) => hand === 1);
  expect(coach.next.map(({ pitch }) => pitch)).toEqual([64]);
});

test("a loop that turns back judges its bars anew, and leaves those before it", () => {
  const coach = new Coach(piece(), all);
  for (const pitch of [60, 64, 62, 65]) coach.press(pitch);
  expect(coach.next).toEqual([]);
  coach.restart(96);
  expect(coach.result(1)).toBe("3 right");
  expect(coach.result(2)).toBe("");
  expect(coach.next.map(({ pitch }) => pitch)).toEqual([65]);
});
