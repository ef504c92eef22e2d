import { appendFileSync, readFileSync } from "node:fs";
import { defineConfig, type Plugin } from "vite";

/** What is bundled but is no code: Vite lists the code's licences itself. */
const OTHERS = {
  ...Object.fromEntries(
    ["velocity5", "velocity10", "velocity13", "release", "pedals"].map((part) => [`The recordings of the piano: ${part}`, `@audio-samples/piano-mp3-${part}/README.md`]),
  ),
  "The letters of the text": "@fontsource-variable/inter/LICENSE",
  "The letters of the headings": "@fontsource-variable/fraunces/LICENSE",
};

const otherLicences: Plugin = {
  name: "other-licences",
  apply: "build",
  closeBundle() {
    for (const [title, file] of Object.entries(OTHERS)) {
      const text = readFileSync(`node_modules/${file}`, "utf8").split("\n## Total size")[0];
      appendFileSync("../src/plagal/serving/page/licences.txt", `\n## ${title}\n\n${text}\n`);
    }
  },
};

export default defineConfig({
  base: "./",
  plugins: [otherLicences],
  build: {
    outDir: "../src/plagal/serving/page",
    emptyOutDir: true,
    target: "es2022",
    chunkSizeWarningLimit: 9000, // Verovio, which is fetched when a sheet is asked for
    license: { fileName: "licences.txt" },
  },
  server: { proxy: { "/api": process.env["PLAGAL_SERVER"] ?? "http://127.0.0.1:8000" } },
});
