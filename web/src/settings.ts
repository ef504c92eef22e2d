/** How a person practises; every control writes here, everything that plays or draws reads from here. */

export type HandChoice = "both" | "right" | "left";
export type ChordStyle = "names" | "numbers" | "none";

export const LEFT = 0;
export const RIGHT = 1;

export class Settings {
  /** share of the written tempo */
  speed = 1;
  loop = false;
  countIn = false;
  metronome = false;
  hand: HandChoice = "both";
  /** whether the hand that is not practised is heard */
  otherHeard = true;
  /** the music stops until the right keys are down */
  wait = false;
  /** the practised hand is silent: the person plays it */
  mineSilent = false;
  chords: ChordStyle = "names";
  onChange: () => void = () => {};

  set(changes: Partial<Omit<Settings, "onChange" | "set" | "isMine" | "isHeard">>): void {
    Object.assign(this, changes);
    this.onChange();
  }

  /** Whether a note belongs to the hand that is practised. */
  isMine({ hand }: { hand?: number }): boolean {
    return this.hand === "both" || hand === (this.hand === "right" ? RIGHT : LEFT);
  }

  isHeard(note: { hand?: number }): boolean {
    return this.isMine(note) ? !this.mineSilent && !this.wait : this.otherHeard;
  }
}
