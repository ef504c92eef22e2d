import type { Meter, Sampler, Volume } from "tone";

/** The recorded keys: every minor third from A0 to C8, as scripts/samples.mjs lays them out. */
const RECORDED = ["A0", "C8"].concat(
  [1, 2, 3, 4, 5, 6, 7].flatMap((octave) => ["C", "D#", "F#", "A"].map((name) => `${name}${octave}`)),
);

/** How long a damped string takes to fall silent [s]. */
const DAMPING = 0.35;
/** The recordings are quiet: full chords peak near -12 dB. The limiter behind catches what this makes too loud. */
const MAKE_UP_DB = 6;
const LOAD_LIMIT_MS = 30_000;

interface Instrument {
  tone: typeof import("tone");
  sampler: Sampler;
  volume: Volume;
  meter: Meter;
}

/** The sampled grand. Tone.js and the recordings (5 MB) are fetched when music is first wanted, not with the page. */
export class Piano {
  private instrument: Instrument | null = null;
  private loading: Promise<Instrument> | null = null;
  private decibels = MAKE_UP_DB;

  /** Fetches the recordings; rejects, in words, where they do not come. */
  load(): Promise<Instrument> {
    this.loading ??= this.fetch().catch((error: unknown) => {
      this.loading = null;
      throw error;
    });
    return this.loading;
  }

  /** To be called from a click or key: browsers keep audio silent until then. */
  async start(): Promise<void> {
    const { tone } = await this.load();
    await tone.start();
  }

  private async fetch(): Promise<Instrument> {
    const tone = await import("tone");
    const meter = new tone.Meter({ smoothing: 0.8 });
    const volume = new tone.Volume(this.decibels).connect(new tone.Limiter(-1).connect(meter).toDestination());
    const sampler = await new Promise<Sampler>((resolve, reject) => {
      const failed = () => reject(new Error("The recordings of the piano could not be loaded, so there is no sound."));
      const timer = setTimeout(failed, LOAD_LIMIT_MS);
      const made: Sampler = new tone.Sampler({
        urls: Object.fromEntries(RECORDED.map((key) => [key, `${key.replace("#", "s")}.mp3`])),
        baseUrl: `${import.meta.env.BASE_URL}samples/`,
        release: DAMPING,
        onload: () => {
          clearTimeout(timer);
          resolve(made);
        },
        onerror: failed,
      }).connect(volume);
    });
    this.instrument = { tone, sampler, volume, meter };
    return this.instrument;
  }

  /** The audio clock [s]; 0 before the piano is loaded. */
  get now(): number {
    return this.instrument ? this.instrument.tone.getContext().currentTime : 0;
  }

  /** How much later than the audio clock a sound is heard [s]. */
  get latency(): number {
    const context = this.instrument?.tone.getContext().rawContext as AudioContext | undefined;
    return context?.outputLatency ?? 0;
  }

  /** 0 (silent) to 1. */
  set loudness(share: number) {
    this.decibels = share > 0 ? MAKE_UP_DB + 30 * Math.log10(share) : -Infinity;
    if (this.instrument) this.instrument.volume.volume.rampTo(this.decibels, 0.05);
  }

  /** What sounds now [dB, full scale is 0]. */
  get level(): number {
    const value = this.instrument?.meter.getValue() ?? -Infinity;
    return value as number;
  }

  strike(pitch: number, velocity: number, at: number): void {
    const { sampler, tone } = this.instrument!;
    // The recordings are of one touch; a power curve keeps soft notes soft without losing them.
    sampler.triggerAttack(tone.Frequency(pitch, "midi").toFrequency(), at, (velocity / 127) ** 1.4);
  }

  damp(pitch: number, at: number): void {
    const { sampler, tone } = this.instrument!;
    sampler.triggerRelease(tone.Frequency(pitch, "midi").toFrequency(), at);
  }

  hush(): void {
    this.instrument?.sampler.releaseAll();
  }
}
