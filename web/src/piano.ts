import type { Meter, Sampler, ToneAudioBuffer, Volume } from "tone";

/** The recorded keys: every minor third from A0 to C8, as scripts/samples.mjs lays them out. */
const RECORDED = ["A0", "C8"].concat(
  [1, 2, 3, 4, 5, 6, 7].flatMap((octave) => ["C", "D#", "F#", "A"].map((name) => `${name}${octave}`)),
);

/**
 * The three touches, each for velocities up to `most`. `louder`: what brings a recording to the level of the medium one,
 * by the mean of C2, C4 and C6 over their first second.
 */
const TOUCHES = {
  soft: { most: 54, louder: 1.8 },
  medium: { most: 94, louder: 1 },
  hard: { most: 127, louder: 0.74 },
} as const;
type Touch = keyof typeof TOUCHES;

/** How long a damped string takes to fall silent [s]. */
const DAMPING = 0.35;
/** The recordings are quiet: full chords peak near -12 dB. The limiter behind catches what this makes too loud. */
const MAKE_UP_DB = 6;
/** How loud dampers and pedal are: noises beside the music. The recordings peak at 0.76 and 0.09 of full scale. */
const RELEASE_GAIN = 0.025;
const PEDAL_GAIN = 0.25;
const LOAD_LIMIT_MS = 30_000;
const LOWEST = 21;

interface Instrument {
  tone: typeof import("tone");
  /** The medium touch first; the others and the noises as they come. */
  touches: Partial<Record<Touch, Sampler>>;
  noises: Map<string, ToneAudioBuffer>;
  volume: Volume;
  meter: Meter;
}

/**
 * The sampled grand. Tone.js and the recordings of a medium touch (5 MB) are fetched when music is first wanted, not with
 * the page; soft and hard touch, dampers and pedal (12 MB) once a note has sounded.
 */
export class Piano {
  private instrument: Instrument | null = null;
  private loading: Promise<Instrument> | null = null;
  private decibels = MAKE_UP_DB;
  private enriched = false;
  /** Which recording sounds on a key. */
  private readonly sounding = new Map<number, Sampler>();

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
    const medium = (await touch(tone, "medium")).connect(volume);
    this.instrument = { tone, touches: { medium }, noises: new Map(), volume, meter };
    return this.instrument;
  }

  /** The other touches and the noises, one after the other; without them it sounds with what is there. */
  private async enrich(): Promise<void> {
    if (this.enriched) return;
    this.enriched = true;
    const { tone, touches, noises, volume } = this.instrument!;
    try {
      for (const name of ["soft", "hard"] as const) touches[name] = (await touch(tone, name)).connect(volume);
      const names = ["pedals/pedalD1", "pedals/pedalU1"];
      for (let key = 1; key <= 88; key++) names.push(`release/rel${key}`);
      for (const name of names) {
        noises.set(name, await tone.ToneAudioBuffer.fromUrl(`${import.meta.env.BASE_URL}samples/${name}.mp3`));
      }
    } catch {
      // A server that is gone meanwhile: the medium touch plays on.
    }
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
    const { tone, touches } = this.instrument!;
    const name = touchOf(velocity, touches);
    const sampler = touches[name]!;
    const before = this.sounding.get(pitch);
    const key = tone.Frequency(pitch, "midi").toFrequency();
    if (before && before !== sampler) before.triggerRelease(key, at);
    sampler.triggerAttack(key, at, gain(velocity, name));
    this.sounding.set(pitch, sampler);
    void this.enrich();
  }

  damp(pitch: number, at: number): void {
    const { tone, touches } = this.instrument!;
    const sampler = this.sounding.get(pitch) ?? touches.medium!;
    this.sounding.delete(pitch);
    sampler.triggerRelease(tone.Frequency(pitch, "midi").toFrequency(), at);
    this.noise(`release/rel${pitch - LOWEST + 1}`, at, RELEASE_GAIN);
  }

  /** The pedal's own noise. */
  pedal(down: boolean, at: number): void {
    this.noise(down ? "pedals/pedalD1" : "pedals/pedalU1", at, PEDAL_GAIN);
  }

  private noise(name: string, at: number, loudness: number): void {
    const { tone, noises, volume } = this.instrument!;
    const buffer = noises.get(name)?.get();
    if (!buffer) return;
    const context = tone.getContext();
    const source = context.createBufferSource();
    const amount = context.createGain();
    source.buffer = buffer;
    amount.gain.value = loudness;
    source.connect(amount);
    tone.connect(amount, volume);
    source.start(at);
  }

  /** A metronome's click, brighter on the first beat of a bar. */
  click(at: number, first: boolean): void {
    const { tone, meter } = this.instrument!;
    const context = tone.getContext();
    const envelope = context.createGain();
    const wave = context.createOscillator();
    wave.frequency.value = first ? 1760 : 1175;
    envelope.gain.setValueAtTime(first ? 0.35 : 0.22, at);
    envelope.gain.exponentialRampToValueAtTime(0.001, at + 0.06);
    wave.connect(envelope);
    tone.connect(envelope, meter);
    wave.start(at);
    wave.stop(at + 0.08);
  }

  hush(): void {
    for (const sampler of Object.values(this.instrument?.touches ?? {})) sampler.releaseAll();
    this.sounding.clear();
  }

  /** What `play` plays, rendered faster than it sounds: a buffer of so many seconds, two channels. */
  async render(seconds: number, play: (piano: Pick<Piano, "strike" | "damp" | "pedal">) => void): Promise<AudioBuffer> {
    const { tone } = await this.load();
    const live = this.instrument!;
    const buffer = await tone.Offline(async () => {
      const volume = new tone.Volume(MAKE_UP_DB).connect(new tone.Limiter(-1).toDestination());
      const touches: Partial<Record<Touch, Sampler>> = {};
      for (const name of Object.keys(live.touches) as Touch[]) touches[name] = (await touch(tone, name)).connect(volume);
      const copy = new Piano();
      copy.enriched = true;
      copy.instrument = { ...live, touches, volume };
      play(copy);
    }, seconds);
    return buffer.get()!;
  }
}

function touchOf(velocity: number, there: Partial<Record<Touch, Sampler>>): Touch {
  const wanted = velocity <= TOUCHES.soft.most ? "soft" : velocity <= TOUCHES.medium.most ? "medium" : "hard";
  return there[wanted] ? wanted : "medium";
}

/** A power curve keeps soft notes soft without losing them. */
function gain(velocity: number, name: Touch): number {
  return Math.min(1, (velocity / 127) ** 1.4 * TOUCHES[name].louder);
}

/** The recordings of one touch, in the audio context of the moment. */
function touch(tone: typeof import("tone"), name: Touch): Promise<Sampler> {
  return new Promise((resolve, reject) => {
    const failed = () => reject(new Error("The recordings of the piano could not be loaded, so there is no sound."));
    const timer = setTimeout(failed, LOAD_LIMIT_MS);
    const made: Sampler = new tone.Sampler({
      urls: Object.fromEntries(RECORDED.map((key) => [key, `${key.replace("#", "s")}.mp3`])),
      baseUrl: `${import.meta.env.BASE_URL}samples/${name}/`,
      release: DAMPING,
      onload: () => {
        clearTimeout(timer);
        resolve(made);
      },
      onerror: failed,
    });
  });
}
