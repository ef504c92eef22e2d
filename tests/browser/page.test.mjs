import assert from "node:assert/strict";
import { mkdtempSync, readFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, afterEach, before, test } from "node:test";
import { barriers, leave, runPython, startBrowser, startFragile, startService, visit } from "./service.mjs";

let service;
let browser;
const scratch = mkdtempSync(join(tmpdir(), "plagal-browser-"));

before(async () => {
  service = await startService();
  browser = await startBrowser();
});

afterEach(leave);

after(async () => {
  await browser?.close();
  await service?.stop();
});

async function open(options, path) {
  return visit(browser, service.address, options, path);
}

const status = (page) => page.locator("#roll").getAttribute("data-status");

async function compose(page, fields = {}) {
  for (const [id, value] of Object.entries({ prompt: "slow worship ballad in Db", bars: "4", ...fields })) {
    const field = page.locator(`#${id}`);
    if ((await field.evaluate((element) => element.tagName)) === "SELECT") await field.selectOption(value);
    else await field.fill(value);
  }
  await page.click("#compose");
  return done(page);
}

/** Waits until the take on the stage is done; answers its piece as the server has it. */
async function done(page, take = 1) {
  await page.waitForFunction(
    (number) =>
      document.querySelector("#piece-title").textContent.startsWith(`Take ${number} `) &&
      document.querySelector("#roll").dataset.status === "done",
    take,
    { timeout: 240_000 },
  );
  return (await fetch(`${service.address}/api/pieces/${await page.getAttribute("#roll", "data-piece")}`)).json();
}

/** How many notes the server tells of a piece from its beginning. */
async function notesTold(page) {
  const told = await (await fetch(`${service.address}/api/pieces/${await page.getAttribute("#roll", "data-piece")}/events`)).text();
  return told.split("\n").filter((line) => line === "event: note").length;
}

/** A piece's words, bar by bar. */
async function barsOf({ id }) {
  const { words } = await (await fetch(`${service.address}/api/pieces/${id}/words`)).json();
  return words.slice(0, -1).join(" ").split(" BAR_START ").slice(1);
}

const ratings = () => readFileSync(join(service.output, "ratings.jsonl"), "utf8").trim().split("\n").map((line) => JSON.parse(line));

test("the roll draws notes, chords and bars before the piece is done", async () => {
  const { page, faults } = await open();
  /** How many violet points there are; whether more than `least`, where that is given. */
  const drawn = (least) => {
    const canvas = document.querySelector("#roll-canvas");
    const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    let violet = 0;
    for (let at = 0; at < data.length; at += 4) if (data[at + 2] > data[at] + 40) violet++;
    return least === null ? violet : violet > least;
  };
  const empty = await page.evaluate(drawn, null);
  await page.fill("#bars", "64"); // with 32 a busy machine drew its first frame after the last bar
  await page.fill("#prompt", "slow worship ballad in Db");
  await page.click("#compose");
  const seen = await page.waitForFunction(
    () => document.querySelector("#roll").dataset.status === "writing" && document.querySelectorAll(".bar").length >= 3 && Number(document.querySelector("#roll").dataset.notes) > 10,
  );
  assert.ok(seen);
  await page.waitForFunction(drawn, 200); // a busy machine draws its frames late
  assert.equal(await status(page), "writing");
  assert.equal(empty, 0);
  assert.match(await page.textContent("#status"), /Writing 64 bars/);
  await page.click("#cancel");
  assert.match(await page.textContent("#status"), /Stopped after/);
  assert.deepEqual(faults, []);
});

test("a prompt becomes sound at a moving cursor", async () => {
  const { page, faults } = await open();
  await compose(page);
  await page.click("#play");
  await page.waitForFunction(() => window.heard().running && window.heard().peak > 0.01);
  assert.equal(await page.getAttribute("#play", "aria-label"), "Pause");
  await page.waitForFunction(() => Number(document.querySelector("#position").value) > 1);
  await page.click("#play");
  await page.waitForFunction(() => window.heard().peak < 0.001);
  assert.equal(await page.getAttribute("#play", "aria-label"), "Play");
  assert.deepEqual(faults, []);
});

test("the downloaded MIDI parses, with the notes of the roll", async () => {
  const { page } = await open();
  const piece = await compose(page);
  const [download] = await Promise.all([page.waitForEvent("download"), page.click("#download-midi")]);
  const file = join(scratch, download.suggestedFilename());
  await download.saveAs(file);
  assert.match(file, /plagal-.*\.mid$/);
  const count = runPython("-c", "import sys, mido; print(sum(m.type == 'note_on' and m.velocity > 0 for m in mido.MidiFile(sys.argv[1])))", file);
  assert.equal(Number(count), piece.notes.length);
  assert.equal(Number(await page.getAttribute("#roll", "data-notes")), await notesTold(page));
});

test("errors are shown in words, and go away", async () => {
  const { page } = await open();
  const told = async () => {
    await page.waitForSelector("#alert:not([hidden])");
    const words = await page.textContent("#alert");
    await page.click("#alert-close");
    assert.equal(await page.isHidden("#alert"), true);
    return words;
  };
  await page.click("#compose");
  assert.match(await told(), /nothing is asked for/);
  await page.fill("#chords", "Dbmaj9 | xyz");
  await page.click("#compose");
  assert.match(await told(), /xyz/);
  await page.fill("#chords", "");
  await page.setInputFiles("#continue-file", { name: "broken.mid", mimeType: "audio/midi", buffer: Buffer.from("no music") });
  await page.click("#compose");
  assert.match(await told(), /continue\.midi/);
  await page.context().setOffline(true);
  await page.click("#compose");
  assert.match(await told(), /does not answer/);
});

test("a connection that breaks is taken up where it broke", async (t) => {
  const fragile = await startFragile(service.address);
  t.after(() => fragile.stop());
  const { page } = await visit(browser, fragile.address);
  const taken = [];
  page.on("request", (request) => {
    if (request.url().endsWith("/events")) taken.push(request.headers()["last-event-id"]);
  });
  await page.fill("#bars", "64"); // a fast machine wrote 24 before the cut
  await page.fill("#prompt", "worship in C");
  await page.click("#compose");
  await page.waitForFunction(() => Number(document.querySelector("#roll").dataset.notes) > 10);
  fragile.cut();
  await done(page);
  assert.ok(taken.length > 1 && Number(taken.at(-1)) > 10, `connections were taken up at ${taken}`);
  assert.equal(Number(await page.getAttribute("#roll", "data-notes")), await notesTold(page));
  assert.equal(await page.isHidden("#alert"), true);
});

test("every control reaches the server, which takes them", async () => {
  const { page } = await open();
  await page.click("#more summary");
  await page.fill("#melody-abc", "X:1\nM:3/4\nL:1/4\nK:G\nD|G2B|A2G|E2D|G3|");
  await page.locator("#temperature").fill("1.1");
  const sent = page.waitForRequest((request) => request.method() === "POST");
  await compose(page, { style: "worship", key: "G", metre: "3/4", tempo: "72", bars: "5", density: "medium", seed: "7" });
  assert.deepEqual((await sent).postDataJSON(), {
    prompt: "slow worship ballad in Db", style: "worship", key: "G", metre: "3/4", density: "medium", tempo: 72, bars: 5, seed: 7,
    temperature: 1.1, melody: { abc: "X:1\nM:3/4\nL:1/4\nK:G\nD|G2B|A2G|E2D|G3|" },
  });
});

test("by keyboard alone: a prompt, bars chosen and refilled, playing from a bar", async () => {
  const { page } = await open();
  const tabTo = async (id) => {
    for (let presses = 0; presses < 60; presses++) {
      if ((await page.evaluate(() => document.activeElement.id)) === id) return;
      await page.keyboard.press("Tab");
    }
    assert.fail(`Tab never came to #${id}`);
  };
  await tabTo("prompt");
  await page.keyboard.type("gospel waltz in F");
  await tabTo("bars");
  await page.keyboard.type("6");
  await tabTo("compose");
  await page.keyboard.press("Enter");
  const first = await done(page);
  await tabTo("ruler");
  await page.keyboard.press("ArrowRight");
  await page.keyboard.press("ArrowRight");
  await page.keyboard.press("Shift+ArrowRight");
  const chosen = await page.locator("[role=option][aria-selected=true] .unseen").allTextContents();
  assert.equal(chosen.length, 2);
  assert.match(chosen[0], /^Bar 3: .*notes?$/);
  await tabTo("refill");
  assert.equal(await page.textContent("#refill"), "Refill bars 3 to 4");
  await page.keyboard.press("Enter");
  const second = await done(page, 2);
  const [before, now] = [await barsOf(first), await barsOf(second)];
  // After bars that end in another tempo a bar says its own again, and so sounds as it did.
  const played = (bar) => bar.replaceAll(/TEMPO_\S+ /g, "");
  for (const bar of [0, 1, 4, 5]) assert.equal(played(now[bar]), played(before[bar]), `bar ${bar + 1} has changed`);
  assert.notDeepEqual(now.slice(2, 4), before.slice(2, 4));
  await page.evaluate(() => document.querySelector("#compose").focus());
  await tabTo("ruler");
  await page.keyboard.press("End");
  await page.keyboard.press("Enter");
  await page.waitForFunction(() => window.heard().peak > 0.005);
  assert.match(await page.getAttribute("#position", "aria-valuetext"), /^bar 6 of 6/);
});

test("bars are chosen with the mouse; again, vary and continue give new takes", async () => {
  const { page } = await open();
  const first = await compose(page);
  const roll = await page.locator("#roll-canvas").boundingBox();
  await page.mouse.move(roll.x + 20, roll.y + 60);
  await page.mouse.down();
  await page.mouse.move(roll.x + roll.width * 0.3, roll.y + 80, { steps: 4 });
  await page.mouse.up();
  assert.equal(await page.getAttribute("#bar-1", "aria-selected"), "true");
  await page.keyboard.press("Escape");
  await page.locator("#bar-2").click();
  assert.equal(await page.textContent("#continue"), "Continue after bar 2");
  await page.click("#continue");
  const second = await done(page, 2);
  assert.deepEqual((await barsOf(second)).slice(0, 2), (await barsOf(first)).slice(0, 2));
  assert.equal(second.bar_lines.length, 6);
  await page.locator(".take").first().click();
  await page.click("#vary");
  const third = await done(page, 3);
  assert.equal(third.bar_lines.length, first.bar_lines.length);
  assert.notDeepEqual(third.notes, first.notes);
  await page.click("#again");
  await done(page, 4);
  assert.equal(await page.locator(".take").count(), 4);
});

test("a MIDI file dropped on the page is continued", async () => {
  const { page } = await open();
  const [download] = await Promise.all([page.waitForEvent("download"), compose(page).then(() => page.click("#download-midi"))]);
  const data = readFileSync(await download.path()).toString("base64");
  await page.evaluate((text) => {
    const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    const files = new DataTransfer();
    files.items.add(new File([bytes], "mine.mid", { type: "audio/midi" }));
    const stage = document.querySelector("#stage");
    for (const type of ["dragover", "drop"]) stage.dispatchEvent(new DragEvent(type, { dataTransfer: files, bubbles: true, cancelable: true }));
  }, data);
  await page.fill("#prompt", "");
  await page.click("#compose");
  const piece = await done(page, 2);
  assert.equal(piece.bar_lines.length, 8);
});

test("a rating lands in the file of ratings", async () => {
  const { page } = await open();
  const piece = await compose(page);
  await page.click("#rating button");
  assert.match(await page.textContent("#rating-status"), /Choose a rating/);
  await page.click("label[for=mark-8]");
  await page.fill("#rater", "Ann");
  await page.click("#rating button");
  await page.waitForFunction(() => document.querySelector("#rating-status").textContent.startsWith("Thank you"));
  const row = ratings().at(-1);
  assert.deepEqual([row.kind, row.rater, row.rating], ["rating", "Ann", 8]);
  assert.ok(JSON.stringify(row).includes(piece.id));
});

test("a blind verdict needs both pieces heard, lands in the file, and is followed by the truth", async () => {
  const { page, faults } = await open({}, "/#/listen");
  await page.fill("#listener", "Ann");
  await page.click("#pair-start");
  await page.waitForSelector("#pair:not([hidden])");
  assert.doesNotMatch(await page.textContent("main:not([hidden])"), /arranger|model/);
  assert.equal(await page.locator("[data-choice=a]").isDisabled(), true);
  for (const side of ["a", "b"]) {
    await page.click(`#play-${side}`);
    await page.waitForFunction((name) => document.querySelector(`#facts-${name}`).textContent.includes("✓"), side);
  }
  assert.deepEqual(await barriers(page), []);
  await page.click("[data-choice=b]");
  await page.waitForFunction(() => document.querySelector("#pair-status").textContent.startsWith("Saved."));
  assert.match(await page.textContent("#pair-status"), /the model.*the arranger|the arranger.*the model/);
  assert.equal(ratings().at(-1).kind, "ab");
  assert.deepEqual(faults, []);
});

test("axe finds no serious barrier: empty, done, with an error, in light and in dark", async () => {
  for (const colorScheme of ["light", "dark"]) {
    const { page } = await open({ colorScheme });
    assert.deepEqual(await barriers(page), [], `${colorScheme}, empty`);
    await page.click("#more summary");
    await compose(page);
    await page.locator("#bar-2").click();
    await page.fill("#chords", "xyz");
    await page.click("#compose");
    await page.waitForSelector("#alert:not([hidden])");
    assert.deepEqual(await barriers(page), [], `${colorScheme}, done`);
  }
});

test("at 360 pixels nothing scrolls sideways but the roll", async () => {
  const { page } = await open({ viewport: { width: 360, height: 740 }, hasTouch: true, isMobile: true });
  const overflow = () => page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
  await page.click("#more summary");
  await compose(page, { bars: "8" });
  await page.fill("#chords", "x".repeat(300));
  await page.click("#compose");
  await page.waitForSelector("#alert:not([hidden])");
  assert.ok((await overflow()) <= 0);
  assert.ok(await page.evaluate(() => document.querySelector("#scroller").scrollWidth > document.querySelector("#scroller").clientWidth));
  await page.click("[data-view=listen]");
  assert.ok((await overflow()) <= 0);
});

test("a server with a token is asked for it, and a wrong one is told", async () => {
  const guarded = await startService({ PLAGAL_TOKEN: "amen" });
  try {
    const context = await browser.newContext();
    const page = await context.newPage();
    await page.goto(guarded.address);
    for (const [token, title] of [["wrong", /asks for a token/], ["amen", /not the server's/]]) {
      await page.waitForFunction((source) => document.querySelector("#token-dialog").open && new RegExp(source).test(document.querySelector("#token-title").textContent), title.source);
      await page.fill("#token", token);
      await page.keyboard.press("Enter");
    }
    await page.waitForFunction(() => document.querySelector("#key").options.length > 1);
    await page.fill("#prompt", "worship in C");
    await page.fill("#bars", "2");
    await page.click("#compose");
    await page.waitForFunction(() => document.querySelector("#roll").dataset.status === "done", null);
  } finally {
    await guarded.stop();
  }
});
