// Starts what the tests look at: the real service, with the real model where there is one, and a real Chromium.
import { spawn, spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { connect, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";

const root = new URL("../../", import.meta.url).pathname;
const require = createRequire(join(root, "web/package.json"));
const { chromium } = require("playwright-core");
const axeSource = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");
const python = join(root, ".venv/bin/python");

export function runPython(...args) {
  const { status, stdout, stderr } = spawnSync(python, args, { cwd: root, encoding: "utf8" });
  if (status !== 0) throw new Error(stderr);
  return stdout;
}

function modelFolder(scratch) {
  const fused = process.env.PLAGAL_MODEL ?? join(root, "models/fused");
  if (existsSync(join(fused, "model.safetensors"))) return fused;
  const tiny = join(scratch, "tiny");
  runPython(join(root, "tests/browser/tiny_model.py"), tiny);
  return tiny;
}

/** A running service: its address, its output folder, and how to stop it. */
export async function startService(environment = {}, withModel = true) {
  const scratch = mkdtempSync(join(tmpdir(), "plagal-page-"));
  const output = join(scratch, "out");
  const args = ["serve", "--port", "0", ...(withModel ? ["--model", modelFolder(scratch)] : []), "--output", output];
  // A folder without models/fused is a machine before any training.
  const child = spawn(join(root, ".venv/bin/plagal"), args, { cwd: withModel ? root : scratch, env: { ...process.env, ...environment } });
  let said = "";
  const address = await new Promise((resolve, reject) => {
    const listen = (chunk) => {
      said += chunk;
      const found = /http:\/\/\S+/.exec(said);
      if (found) resolve(found[0]);
    };
    child.stdout.on("data", listen);
    child.stderr.on("data", listen);
    child.on("exit", (code) => reject(new Error(`plagal serve ended with ${code}: ${said}`)));
  });
  const stop = async () => {
    const gone = new Promise((resolve) => child.once("exit", resolve));
    child.kill("SIGTERM");
    await gone;
    rmSync(scratch, { recursive: true, force: true });
  };
  return { address, output, stop };
}

/** A second address of the service, whose connections can all be cut at once. */
export async function startFragile(address) {
  const { hostname, port } = new URL(address);
  const open = new Set();
  const server = createServer((here) => {
    const there = connect(Number(port), hostname);
    for (const [one, other] of [[here, there], [there, here]]) {
      open.add(one);
      one.pipe(other);
      one.on("error", () => {});
      one.on("close", () => {
        open.delete(one);
        other.destroy();
      });
    }
  });
  await new Promise((resolve) => server.listen(0, hostname, resolve));
  const cut = () => open.forEach((socket) => socket.destroy());
  const stop = () => {
    server.close();
    cut();
  };
  return { address: `http://${hostname}:${server.address().port}`, cut, stop };
}

export function startBrowser() {
  const quiet = ["disable-gpu", "disable-quic", "no-first-run", "disable-background-networking", "disable-component-update", "disable-sync"];
  const sandbox = process.getuid?.() === 0 ? ["no-sandbox"] : [];
  return chromium.launch({ executablePath: process.env.CHROMIUM, args: [...quiet, ...sandbox].map((flag) => `--${flag}`) });
}

/** Listens at the loudspeakers: every node that is connected to them is connected to a meter of ours too. */
function listenAtTheSpeakers() {
  const connect = AudioNode.prototype.connect;
  const ears = [];
  AudioNode.prototype.connect = function (target, ...rest) {
    if (target instanceof AudioDestinationNode && target.context instanceof AudioContext) {
      const ear = this.context.createAnalyser();
      connect.call(this, ear);
      ears.push(ear);
    }
    return connect.call(this, target, ...rest);
  };
  // A click is over before a busy page can listen: its moment is written down instead [s of the audio clock].
  window.clicks = [];
  const begin = OscillatorNode.prototype.start;
  OscillatorNode.prototype.start = function (at) {
    window.clicks.push(at);
    return begin.call(this, at);
  };
  window.heard = () => {
    const samples = new Float32Array(2048);
    const peaks = ears.map((ear) => {
      ear.getFloatTimeDomainData(samples);
      return samples.reduce((peak, sample) => Math.max(peak, Math.abs(sample)), 0);
    });
    const clock = Math.max(0, ...ears.map((ear) => ear.context.currentTime));
    return { running: ears.some((ear) => ear.context.state === "running"), peak: Math.max(0, ...peaks), clock };
  };
}

const visits = [];

/** Ends all visits: pages that play on would slow down the tests behind them. */
export async function leave() {
  await Promise.all(visits.splice(0).map((context) => context.close()));
}

/** A new visit. `faults` collects what went wrong unseen: script errors, and calls to any other server. */
export async function visit(browser, address, options = {}, path = "/", prepare = async () => {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, ...options });
  visits.push(context);
  context.setDefaultTimeout(120_000); // a busy machine draws and answers late
  const page = await context.newPage();
  const faults = [];
  page.on("pageerror", (error) => faults.push(String(error)));
  page.on("request", (request) => {
    const { protocol, origin } = new URL(request.url());
    if (protocol.startsWith("http") && origin !== address) faults.push(`a call to ${request.url()}`);
  });
  await page.addInitScript(listenAtTheSpeakers);
  await prepare(page);
  await page.goto(address + path);
  await page.waitForFunction(() => document.querySelector("#key").options.length > 1);
  return { page, faults };
}

/** A keyboard on a cable: `window.keyboard(pitch, velocity)` presses a key, velocity 0 lets it go. */
export function plugIn(page) {
  return page.addInitScript(() => {
    const input = { name: "A piano on a cable", state: "connected", onmidimessage: null };
    navigator.requestMIDIAccess = async () => ({ inputs: new Map([["1", input]]), onstatechange: null });
    window.keyboard = (pitch, velocity = 80) => input.onmidimessage({ data: new Uint8Array([velocity ? 0x90 : 0x80, pitch, velocity]) });
  });
}

/** What axe-core finds serious or worse. */
export async function barriers(page) {
  await page.evaluate(axeSource);
  const { violations } = await page.evaluate(() => window.axe.run());
  return violations
    .filter(({ impact }) => impact === "serious" || impact === "critical")
    .map(({ id, nodes }) => `${id}: ${nodes.map((node) => node.html.slice(0, 120)).join(" ; ")}`);
}
