import { TICKS_PER_QUARTER, type TempoMark } from "./contract";

interface Stretch {
  tick: number;
  second: number;
  secondsPerTick: number;
}

/** Turns ticks into seconds and back over changes of tempo. Marks come in order of time. */
export class TempoMap {
  private readonly stretches: Stretch[];

  constructor(tempo: number) {
    this.stretches = [{ tick: 0, second: 0, secondsPerTick: 60 / tempo / TICKS_PER_QUARTER }];
  }

  add({ onset, tempo }: TempoMark): void {
    const secondsPerTick = 60 / tempo / TICKS_PER_QUARTER;
    const second = this.seconds(onset);
    const last = this.stretches.at(-1)!;
    if (last.tick === onset) last.secondsPerTick = secondsPerTick;
    else this.stretches.push({ tick: onset, second, secondsPerTick });
  }

  seconds(tick: number): number {
    const at = this.stretches.findLast((stretch) => stretch.tick <= tick) ?? this.stretches[0]!;
    return at.second + (tick - at.tick) * at.secondsPerTick;
  }

  tick(second: number): number {
    const at = this.stretches.findLast((stretch) => stretch.second <= second) ?? this.stretches[0]!;
    return at.tick + (second - at.second) / at.secondsPerTick;
  }
}

/** 65.4 seconds as "1:05". */
export function clockTime(seconds: number): string {
  const whole = Math.max(0, Math.floor(seconds));
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`;
}
