import { expect, test } from "vitest";
import { engraved, keyName, spoken } from "../src/names";

test("chords are shown as engraved", () => {
  expect(["Dbmaj9", "Bbm7b5/Eb", "F#7", "Bb", "Absus"].map(engraved)).toEqual(["D♭maj9", "B♭m7♭5/E♭", "F♯7", "B♭", "A♭sus"]);
});

test("chords are said in words", () => {
  expect(["Dbmaj9/F", "Bbm7", "Gb13", "Ehalfdim7", "C7b9"].map(spoken)).toEqual([
    "D flat major 9 over F", "B flat minor 7", "G flat 13", "E half diminished 7", "C7 flat 9",
  ]);
});

test("keys have a tonic and a mode", () => {
  expect(["Db", "Bbm", "F# minor", "C major", "Am"].map(keyName)).toEqual(["D♭ major", "B♭ minor", "F♯ minor", "C major", "A minor"]);
});
