import { nashville } from "./numbers";
import type { ChordStyle } from "./settings";

/** "Db" as engraved, "D♭"; also in chords such as "Bbm7b5/Eb". */
export function engraved(symbol: string): string {
  return symbol.replace(/([A-G])b/g, "$1♭").replace(/#/g, "♯").replace(/b(?=\d)/g, "♭");
}

/** A chord as a person wants it: its name, or its Nashville number. */
export function chordText(symbol: string, key: string, style: ChordStyle): string {
  return style === "numbers" ? nashville(symbol, key) : style === "names" ? engraved(symbol) : "";
}

const WORDS: Record<string, string> = {
  maj: "major", min: "minor", m: "minor", halfdim: "half diminished", dim: "diminished", dom: "dominant",
  aug: "augmented", sus: "suspended", add: "add",
};

/** "Dbmaj9/F" as a screen reader should say it: "D flat major 9 over F". */
export function spoken(symbol: string): string {
  return symbol
    .replace(/\/(?=[A-G])/, " over ")
    .replace(/([A-G])b|b(?=\d)/g, "$1 flat ")
    .replace(/#/g, " sharp ")
    .replace(/halfdim|maj|min|dim|dom|aug|sus|add|m/g, (word) => ` ${WORDS[word]} `)
    .replace(/\s+/g, " ")
    .trim();
}

/** "Bbm" or "Bb minor" as a heading has it: "B♭ minor"; a lone "Db" is major. */
export function keyName(key: string): string {
  const match = /^([A-G][b#]?)\s*(m|min|minor|maj|major)?$/.exec(key);
  if (!match) return engraved(key);
  return `${engraved(match[1]!)} ${match[2]?.startsWith("m") && !match[2].startsWith("maj") ? "minor" : "major"}`;
}

export function plural(count: number, one: string): string {
  return `${count} ${one}${count === 1 ? "" : "s"}`;
}
