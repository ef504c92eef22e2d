import assert from "node:assert/strict";
import { mkdtempSync, readFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, afterEach, before, test } from "node:test";
import { barriers, leave, plugIn, runPython, startBrowser, startService, visit } from "./service.mjs";

let service;
let browser;
const scratch = mkdtempSync(join(tmpdir(), "plagal-practice-"));
const playing = join(scratch, "playing.mid");

before(async () => {
  service = await startService();
  browser = await startBrowser();
  runPython(join(import.meta.dirname, "playing.py"), playing);
});

afterEach(leave);

after(async () => {
  await browser?.close();
  await service?.stop();
});

/** A visit with a take of the arranger's on the stage; its JSON as the server has it. */
async function practise({ asked = {}, options = {}, keyboard = false } = {}) {
  const { page, faults } = await visit(browser, service.address, options, "/", async (fresh) => keyboard && plugIn(fresh));
  const fields = { prompt: "slow worship ballad in Db", bars: "4", seed: "3", ...asked };
  await page.click("#more summary");
  await page.selectOption("#writer", "arranger");
  for (const [id, value] of Object.entries(fields)) await page.fill(`#${id}`, value);
  await page.click("#compose");
  const piece = await done(page);
  return { page, faults, piece };
}

/** Waits until a take is done and can be practised; answers its piece. */
async function done(page, take = 1) {
  await page.waitForFunction(
    (number) =>
      document.querySelector("#piece-title").textContent.startsWith(`Take ${number} `) &&
      document.querySelector("#roll").dataset.status === "done" &&
      !document.querySelector("#practice").hidden,
    take,
    { timeout: 240_000 },
  );
  return (await fetch(`${service.address}/api/pieces/${await page.getAttribute("#roll", "data-piece")}`)).json();
}

const position = (page) => page.$eval("#position", ({ value }) => Number(value));
const keysDown = (page) => page.$eval("#keys", ({ dataset }) => (dataset.down ?? "").split(" ").filter(Boolean));
const sounds = (page) => page.waitForFunction(() => window.heard().peak > 0.005);

async function saved(page, button) {
  const [download] = await Promise.all([page.waitForEvent("download"), page.click(button)]);
  return { name: download.suggestedFilename(), data: readFileSync(await download.path()) };
}

test("the engraver is fetched when a sheet is asked for, engraves every bar, and lights what sounds", async () => {
  const fetched = [];
  const { page, faults } = await practise();
  page.on("request", (request) => fetched.push(request.url()));
  assert.equal(await page.isVisible("#sheet"), false);
  await page.click("label[for=view-both]");
  await page.waitForSelector("#sheet svg");
  assert.ok(fetched.some((url) => url.includes("verovio")) && fetched.some((url) => url.includes(".musicxml")));
  assert.equal(await page.locator("#sheet g.measure").count(), 4);
  assert.ok((await page.locator("#sheet g.note").count()) > 20);
  assert.equal(await page.isVisible("#roll"), true);
  await page.click("#play");
  await page.waitForSelector("#sheet .sounding", { state: "attached" });
  await page.click("label[for=view-sheet]");
  assert.deepEqual([await page.isVisible("#roll"), await page.isVisible("#sheet")], [false, true]);
  assert.deepEqual(faults, []);
});

test("at half the speed the music goes half as far by the audio clock", async () => {
  const { page } = await practise();
  await page.locator("#speed").fill("50");
  assert.equal(await page.textContent("#speed-value"), "50 %");
  await page.click("#play");
  await sounds(page);
  const at = () => page.evaluate(() => [Number(document.querySelector("#position").value), window.heard().clock]);
  const [from, begun] = await at();
  await page.waitForFunction((second) => window.heard().clock > second + 3, begun);
  const [to, ended] = await at();
  const speed = (to - from) / (ended - begun);
  assert.ok(speed > 0.4 && speed < 0.6, `${speed} of the written tempo`);
});

test("chosen bars come round and round", async () => {
  const { page } = await practise();
  await page.locator("#bar-2").click();
  assert.equal(await page.textContent("#loop-label"), "Loop bar 2");
  await page.check("#loop");
  await page.locator("#speed").fill("125");
  await page.click("#play");
  const bars = await page.evaluate(
    () =>
      new Promise((resolve) => {
        const seen = new Set();
        let last = 0;
        let turns = 0;
        const look = () => {
          const slider = document.querySelector("#position");
          if (Number(slider.value) > 0) seen.add(/^bar (\d+)/.exec(slider.getAttribute("aria-valuetext"))[1]);
          if (Number(slider.value) < last - 0.5) turns++;
          last = Number(slider.value);
          if (turns === 2) resolve([...seen]);
          else requestAnimationFrame(look);
        };
        look();
      }),
  );
  assert.deepEqual(bars, ["2"]);
});

test("of the hand that is practised alone every key lights up, the other is dimmed, and silent where it is to be", async () => {
  const { page, piece } = await practise();
  const pitches = (hand) => new Set(piece.notes.filter((_, at) => piece.hands[at] === hand).map(([, pitch]) => pitch));
  /** How many strong violet points there are; whether fewer than `most`, where that is given. */
  const violet = (most) => {
    const canvas = document.querySelector("#roll-canvas");
    const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    let strong = 0;
    for (let at = 0; at < data.length; at += 4) if (data[at + 2] > data[at + 1] + 80) strong++;
    return most === null ? strong : strong < most;
  };
  assert.equal(await page.isDisabled("#other-hand"), true);
  const bright = await page.evaluate(violet, null);
  await page.click("label[for=hand-left]");
  await page.waitForFunction(violet, bright / 4);
  await page.selectOption("#other-hand", "silent");
  await page.click("#play");
  const lit = new Set();
  while (lit.size < 3) for (const key of await keysDown(page)) lit.add(Number(key.split(":")[0]));
  for (const pitch of lit) assert.ok(pitches(0).has(pitch), `${pitch} is no key of the left hand`);
});

test("a take in another key is spelled, shown and downloaded there", async () => {
  const { page, piece } = await practise();
  await page.selectOption("#transpose", "2");
  await page.waitForFunction(() => document.querySelector("#piece-title").textContent === "Take 1 in E♭ major");
  const chords = await page.locator(".bar .chord").allTextContents();
  assert.ok(chords.length > 0 && chords.every((chord) => !/♯/.test(chord)), chords.join(" "));
  const { data } = await saved(page, "#download-midi");
  const file = join(scratch, "up.mid");
  (await import("node:fs")).writeFileSync(file, data);
  const count = "import sys, mido; print(sorted(m.note for m in mido.MidiFile(sys.argv[1]) if m.type == 'note_on' and m.velocity))";
  assert.deepEqual(JSON.parse(runPython("-c", count, file)), piece.notes.map(([, pitch]) => pitch + 2).sort((one, other) => one - other));
});

test("chords are names, Nashville numbers, or none, in the roll and on the sheet", async () => {
  const { page } = await practise();
  assert.match((await page.locator(".bar .chord").allTextContents()).join(" "), /D♭/);
  await page.selectOption("#chord-style", "numbers");
  const numbers = await page.locator(".bar .chord").allTextContents();
  assert.ok(numbers.length && numbers.every((number) => /^[♭♯]?[1-7]/.test(number)), numbers.join(" "));
  await page.click("label[for=view-both]");
  await page.waitForSelector("#sheet svg");
  assert.match((await page.locator("#sheet g.dir").allTextContents()).join(" ").replace(/\s+/g, ""), /^[♭♯]?[1-7]/);
  assert.equal(await page.locator("#sheet g.harm").count(), 0);
  await page.selectOption("#chord-style", "none");
  await page.waitForSelector("#sheet g.harm", { state: "attached" });
  assert.equal(await page.locator(".bar .chord").count(), 0);
  assert.equal(await page.locator("#sheet g.harm").first().isVisible(), false);
});

test("notes fall on the keys that they are played with", async () => {
  const { page, piece } = await practise();
  await page.click("label[for=view-falling]");
  assert.equal(await page.isVisible("#roll"), false);
  // In the lowest rows stand the notes of the first onset, each over its key.
  const columns = await page.waitForFunction(() => {
    const canvas = document.querySelector("#falling");
    const { data } = canvas.getContext("2d").getImageData(0, canvas.height - 6, canvas.width, 1);
    const found = [];
    for (let x = 0; x < canvas.width; x++) if (Math.abs(data[4 * x] - data[4 * x + 1]) + Math.abs(data[4 * x + 1] - data[4 * x + 2]) > 90) found.push(x / canvas.width);
    return found.length ? found : null;
  });
  const white = (pitch) => Math.floor(pitch / 12) * 7 + [0, 0.5, 1, 1.5, 2, 3, 3.5, 4, 4.5, 5, 5.5, 6][pitch % 12];
  const first = piece.notes.filter(([onset]) => onset === piece.notes[0][0]).map(([, pitch]) => (white(pitch) - white(21) + 0.5) / 52);
  for (const column of await columns.jsonValue()) assert.ok(first.some((key) => Math.abs(key - column) < 0.02), `something falls at ${column}, no key of ${first}`);
});

test("a count-in clicks a bar before the music moves, and the metronome goes on where both hands are silent", async () => {
  const { page, piece } = await practise({ keyboard: true });
  await page.check("#count-in");
  await page.check("#metronome");
  await page.click("#midi-connect");
  await page.waitForFunction(() => !document.querySelector("#mine").disabled);
  await page.check("#mine");
  await page.click("#play");
  // A tempo counts dotted quarters in 12/8: 24 ticks a quarter, 36 a beat.
  const beat = piece.metre === "12/8" ? 36 : 24;
  const bar = piece.bar_lines[1] / beat;
  await page.waitForFunction((count) => window.clicks.length >= count, bar + 3);
  assert.deepEqual(await keysDown(page), []);
  const clicks = (await page.evaluate(() => window.clicks)).filter((at) => at > 0);
  const seconds = (60 / piece.tempo) * (beat / 24);
  for (let at = 1; at < bar; at++) assert.ok(Math.abs(clicks[at] - clicks[at - 1] - seconds) < 0.02, `${clicks}`);
});

test("the music waits until the right keys are down, wrong ones are told, and each bar gets a result", async () => {
  const { page, piece, faults } = await practise({ keyboard: true, asked: { bars: "2" } });
  await page.click("#midi-connect");
  await page.waitForFunction(() => document.querySelector("#midi-status").textContent.includes("A piano on a cable"));
  await page.evaluate(() => window.keyboard(30));
  await page.waitForFunction(() => document.querySelector("#keys").dataset.down === "30:held");
  await page.evaluate(() => window.keyboard(30, 0));
  await page.click("label[for=hand-right]");
  await page.check("#wait");
  await page.locator("#speed").fill("125");
  await page.click("#play");
  const wanted = async () => {
    await page.waitForFunction(() => document.querySelector("#keys").dataset.down?.includes(":wanted"));
    return (await keysDown(page)).filter((key) => key.endsWith(":wanted")).map((key) => Number(key.split(":")[0]));
  };
  const mine = piece.notes.filter((_, at) => piece.hands[at] === 1);
  const firstBar = mine.filter(([onset]) => onset < piece.bar_lines[1]);
  assert.deepEqual(new Set(await wanted()), new Set(mine.filter(([onset]) => onset === mine[0][0]).map(([, pitch]) => pitch)));
  const stopped = await position(page);
  await page.evaluate(() => window.keyboard(22));
  await page.waitForFunction(() => document.querySelector("#keys").dataset.down.includes("22:wrong"));
  await page.evaluate(() => window.keyboard(22, 0));
  assert.equal(await position(page), stopped);
  for (let left = firstBar.length; left > 0; ) {
    const keys = await wanted();
    left -= keys.length;
    await page.evaluate((pitches) => pitches.forEach((pitch) => window.keyboard(pitch)), keys);
    await page.waitForFunction((pitches) => pitches.every((pitch) => !document.querySelector("#keys").dataset.down.includes(`${pitch}:wanted`)), keys);
    await page.evaluate((pitches) => pitches.forEach((pitch) => window.keyboard(pitch, 0)), keys);
    // A key that is held is not shown as wanted: where the next chord has it again, it is once the page has drawn it let go.
    await page.waitForFunction(() => !document.querySelector("#keys").dataset.down.includes(":held"));
  }
  assert.equal(await page.textContent("#result-1"), `Bar 1: ${firstBar.length} right, 1 wrong`);
  assert.match(await page.textContent("#bar-1 .unseen"), /; you: \d+ right, 1 wrong$/);
  assert.deepEqual(faults, []);
});

test("played along, what never comes is missed, and said bar by bar", async () => {
  const { page } = await practise({ keyboard: true });
  await page.click("#midi-connect");
  await page.waitForFunction(() => !document.querySelector("#sound-keys").disabled);
  await page.check("#sound-keys");
  await page.click("#play");
  await page.waitForFunction(() => /missed/.test(document.querySelector("#results").textContent));
  assert.match(await page.textContent("#results li"), /^Bar \d: .*\d+ missed$/);
});

test("a piece is saved as MusicXML, PDF and sound", async () => {
  const { page, piece } = await practise({ asked: { bars: "2" } });
  const xml = await saved(page, "#download-musicxml");
  assert.match(xml.name, /^plagal-.*\.musicxml$/);
  assert.equal(xml.data.toString().match(/<measure /g).length, 2);
  const pdf = await saved(page, "#download-pdf");
  assert.equal(pdf.data.subarray(0, 5).toString(), "%PDF-");
  const wav = await saved(page, "#download-wav");
  const samples = new Int16Array(wav.data.buffer.slice(wav.data.byteOffset + 44));
  const seconds = samples.length / 2 / wav.data.readUInt32LE(24);
  const peak = samples.reduce((most, sample) => Math.max(most, Math.abs(sample)), 0);
  assert.equal(wav.data.subarray(0, 4).toString() + wav.data.subarray(8, 12).toString(), "RIFFWAVE");
  assert.ok(seconds > piece.end / 24 / (piece.tempo / 60) - 1 && peak > 1000 && peak <= 32767, `${seconds} s, peak ${peak}`);
});

test("what was understood can be changed, left out and said in another way, and is asked for anew", async () => {
  const { page } = await practise({ asked: { prompt: "slow worship ballad in Db, with xylophones", seed: "" } });
  assert.match(await page.textContent("#chips"), /worship.*D♭ major.*♩ = 66.*4 bars.*not understood: .*xylophones/);
  await page.click("[data-chip=key]");
  await page.selectOption("#chip-key", "G");
  const second = await done(page, 2);
  assert.deepEqual([second.key, second.bars, second.writer], ["G major", 4, "arranger"]);
  await page.click("[aria-label='Leave out tempo: ♩ = 66']");
  const third = await done(page, 3);
  assert.deepEqual([third.key, third.request.tempo], ["G major", undefined]);
  await page.locator(".take").first().click();
  await page.click(".lost button");
  const marked = await page.$eval("#prompt", (field) => field.value.slice(field.selectionStart, field.selectionEnd));
  assert.match(marked, /xylophones/);
});

test("a playing is said to be heard as what it is, and hints correct it", async () => {
  const { page } = await practise();
  await page.fill("#prompt", "");
  await page.selectOption("#writer", "");
  await page.fill("#bars", "1");
  await page.setInputFiles("#continue-file", playing);
  await page.click("#compose");
  await done(page, 2);
  assert.match(await page.textContent("#chip-heard"), /^heard as 12\/8, about 6\d$/);
  await page.click("#chip-heard");
  await page.selectOption("#hint-metre", "3/4");
  await page.fill("#hint-bpm", "99");
  await page.fill("#hint-downbeat", "1");
  await page.click("#hints button");
  const again = await done(page, 3);
  assert.equal(again.heard.metre, "3/4");
  assert.match(await page.textContent("#chip-heard"), /^heard as 3\/4/);
});

test("takes are there after a reload, with their hands, and can be gone on from", async () => {
  const { page, piece } = await practise();
  await page.click("#again");
  await done(page, 2);
  await page.reload();
  await page.waitForSelector("#practice:not([hidden])");
  assert.deepEqual(await page.locator(".take").allTextContents(), ["Take 1 in D♭ major", "Take 2 in D♭ major: take 1's request again"]);
  await page.locator(".take").first().click();
  assert.equal(Number(await page.getAttribute("#roll", "data-notes")), piece.notes.length);
  assert.equal(await page.isDisabled("#hand-left"), false);
  await page.click("#play");
  await sounds(page);
  await page.click("#again");
  const third = await done(page, 3);
  assert.equal(third.key, "Db major");
});

test("the boxes of bars do not swap while one types, and the other follows", async () => {
  const { page } = await practise();
  await page.fill("#refill-first", "3");
  await page.keyboard.press("Tab");
  assert.deepEqual([await page.inputValue("#refill-first"), await page.inputValue("#refill-last")], ["3", "3"]);
  await page.fill("#refill-last", "2");
  await page.keyboard.press("Tab");
  assert.deepEqual([await page.inputValue("#refill-first"), await page.inputValue("#refill-last")], ["2", "2"]);
});

test("space plays and pauses wherever it means nothing else", async () => {
  const { page } = await practise();
  const label = (name) => page.waitForFunction((wanted) => document.querySelector("#play").getAttribute("aria-label") === wanted, name);
  await page.click("#piece-title");
  await page.keyboard.press("Space");
  await label("Pause");
  await sounds(page);
  await page.click("#piece-title");
  await page.keyboard.press("Space");
  await label("Play");
  await page.focus("#loop");
  await page.keyboard.press("Space");
  assert.equal(await page.isChecked("#loop"), true);
  assert.equal(await page.getAttribute("#play", "aria-label"), "Play");
});

test("every control of practice is reached and worked by keyboard", async () => {
  const { page } = await practise();
  const reached = new Set();
  await page.focus("#view-roll");
  for (let presses = 0; presses < 40; presses++) {
    reached.add(await page.evaluate(() => document.activeElement.id));
    await page.keyboard.press("Tab");
  }
  for (const id of ["play", "speed", "hand-both", "transpose", "chord-style", "loop", "count-in", "metronome", "midi-connect"]) assert.ok(reached.has(id), `Tab never came to #${id}`);
  await page.focus("#view-roll");
  await page.keyboard.press("ArrowRight");
  await page.waitForSelector("#sheet svg");
  await page.focus("#hand-both");
  await page.keyboard.press("ArrowRight");
  assert.equal(await page.isChecked("#hand-right"), true);
  await page.focus("#speed");
  await page.keyboard.press("ArrowLeft");
  assert.equal(await page.textContent("#speed-value"), "95 %");
});

test("axe finds no serious barrier in any view, in light and in dark", async () => {
  for (const colorScheme of ["light", "dark"]) {
    const { page } = await practise({ options: { colorScheme }, keyboard: true });
    await page.click("#midi-connect");
    for (const view of ["roll", "both", "falling"]) {
      await page.click(`label[for=view-${view}]`);
      if (view === "both") await page.waitForSelector("#sheet svg");
      assert.deepEqual(await barriers(page), [], `${colorScheme}, ${view}`);
    }
  }
});

test("at 360 pixels no view makes the page scroll sideways", async () => {
  const { page } = await practise({ options: { viewport: { width: 360, height: 740 }, hasTouch: true, isMobile: true } });
  for (const view of ["roll", "sheet", "both", "falling"]) {
    await page.click(`label[for=view-${view}]`);
    if (view === "sheet") await page.waitForSelector("#sheet svg");
    assert.ok((await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth)) <= 0, view);
  }
});

test("before any training the page plays what the arranger writes", async () => {
  const untrained = await startService({}, false);
  try {
    const { page, faults } = await visit(browser, untrained.address);
    assert.equal(await page.inputValue("#writer"), "arranger");
    assert.equal(await page.isVisible("#no-model"), true);
    await page.fill("#prompt", "shout in Ab, 4 bars");
    await page.click("#compose");
    await page.waitForFunction(() => document.querySelector("#roll").dataset.status === "done");
    await page.click("#play");
    await sounds(page);
    assert.deepEqual(faults, []);
  } finally {
    await untrained.stop();
  }
});
