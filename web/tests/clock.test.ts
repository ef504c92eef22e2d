import { expect, test } from "vitest";
import { clockTime, TempoMap } from "../src/clock";

test("ticks become seconds over changes of tempo, and back", () => {
  const clock = new TempoMap(60);
  clock.add({ onset: 48, tempo: 120 });
  clock.add({ onset: 96, tempo: 30 });
  expect(clock.seconds(48)).toBeCloseTo(2);
  expect(clock.seconds(96)).toBeCloseTo(3);
  expect(clock.seconds(120)).toBeCloseTo(5);
  for (const tick of [0, 10, 48, 60, 96, 200]) expect(clock.tick(clock.seconds(tick))).toBeCloseTo(tick);
});

test("a second tempo at the same tick replaces the first", () => {
  const clock = new TempoMap(60);
  clock.add({ onset: 0, tempo: 120 });
  expect(clock.seconds(24)).toBeCloseTo(0.5);
});

test("times read as minutes and seconds", () => {
  expect([0, 9.9, 65.4, 600].map(clockTime)).toEqual(["0:00", "0:09", "1:05", "10:00"]);
});
