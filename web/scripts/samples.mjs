// Lays the grand piano's recordings where Vite serves and copies them from: three touches, strings let go, the pedal.
// "#" cannot stand in an address, so "D#4" becomes "Ds4".
import { copyFileSync, mkdirSync, readdirSync, rmSync } from "node:fs";

const FOLDERS = { velocity10: "medium", velocity5: "soft", velocity13: "hard", release: "release", pedals: "pedals" };

rmSync(new URL("../public/samples/", import.meta.url), { recursive: true, force: true });
for (const [name, folder] of Object.entries(FOLDERS)) {
  const from = new URL(`../node_modules/@audio-samples/piano-mp3-${name}/audio/`, import.meta.url);
  const to = new URL(`../public/samples/${folder}/`, import.meta.url);
  mkdirSync(to, { recursive: true });
  for (const file of readdirSync(from)) copyFileSync(new URL(encodeURIComponent(file), from), new URL(file.replace("#", "s").replace(/v\d+(?=\.)/, ""), to));
}
