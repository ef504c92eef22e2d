/** A keyboard on a cable, by Web MIDI: its keys go down and up here. */

export interface KeyEvents {
  down(pitch: number, velocity: number): void;
  up(pitch: number): void;
  /** Which keyboards are there; none where the last was pulled out. */
  devices(names: string[]): void;
}

export function hasMidi(): boolean {
  return "requestMIDIAccess" in navigator;
}

/** Asks for the keyboards; rejects, in words, where the browser or the person does not allow it. */
export async function connectMidi(on: KeyEvents): Promise<void> {
  let access: MIDIAccess;
  try {
    access = await navigator.requestMIDIAccess();
  } catch {
    throw new Error("The browser does not let this page listen to MIDI keyboards; allow it in the address bar, then connect again.");
  }
  const listen = () => {
    const inputs = [...access.inputs.values()].filter((input) => input.state !== "disconnected");
    for (const input of inputs) input.onmidimessage = (event) => hear(event.data, on);
    on.devices(inputs.map((input) => input.name ?? "MIDI keyboard"));
  };
  access.onstatechange = listen;
  listen();
}

function hear(data: Uint8Array | null, on: KeyEvents): void {
  if (!data || data.length < 3) return;
  const [status, pitch, velocity] = data as unknown as [number, number, number];
  const kind = status & 0xf0;
  // A note on with velocity 0 is a note off.
  if (kind === 0x90 && velocity > 0) on.down(pitch, velocity);
  else if (kind === 0x80 || kind === 0x90) on.up(pitch);
}
