import { expect, test } from "vitest";
import { nashville } from "../src/numbers";

test.each([
  ["Db", "Db major", "1"],
  ["Bbm7", "Db major", "6-⁷"],
  ["Gb13", "Db major", "4¹³"],
  ["Ab7/C", "Db major", "5⁷/7"],
  ["Dbmaj9", "Db major", "1maj⁹"],
  ["F#dim7", "C major", "♯4dim⁷"],
  ["Bb9", "C major", "♭7⁹"],
  ["Em7b5", "G major", "6-⁷♭⁵"],
])("%s in %s is %s", (symbol, key, number) => {
  expect(nashville(symbol, key)).toBe(number);
});
