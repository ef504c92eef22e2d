const STEPS: Record<string, number> = { C: 0, D: 2, E: 4, F: 5, G: 7, A: 9, B: 11 };
const DEGREES = ["1", "♭2", "2", "♭3", "3", "4", "♯4", "5", "♭6", "6", "♭7", "7"];

function pitchClass(name: string): number {
  return (STEPS[name[0]!]! + (name[1] === "b" ? 11 : name[1] === "#" ? 1 : 0)) % 12;
}

/** A chord as Nashville numbers write it: "Bbm7" in D flat is "6-⁷"; in a minor key degrees count from its relative major. */
export function nashville(symbol: string, key: string): string {
  const tonic = /^([A-G][b#]?)\s*(m$|min)?/.exec(key);
  const chord = /^([A-G][b#]?)(.*?)(?:\/([A-G][b#]?))?$/.exec(symbol);
  if (!tonic || !chord) return symbol;
  const home = pitchClass(tonic[1]!) + (tonic[2] ? 3 : 0);
  const degree = (name: string) => DEGREES[(pitchClass(name) - home + 24) % 12]!;
  // Degrees stand on the line, what is added to them above it: 5⁷, not 57.
  const quality = chord[2]!.replace(/^m(?!aj)(in)?/, "-").replace(/b(?=\d)/g, "♭").replace(/#/g, "♯").replace(/\d/g, (digit) => "⁰¹²³⁴⁵⁶⁷⁸⁹"[Number(digit)]!);
  return degree(chord[1]!) + quality + (chord[3] ? `/${degree(chord[3])}` : "");
}
