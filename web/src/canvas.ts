/** Colours come from the stylesheet, so that light, dark and forced colours need no second list here. */
export function palette<Name extends string>(names: readonly Name[]): Record<Name, string> {
  const style = getComputedStyle(document.documentElement);
  return Object.fromEntries(names.map((name) => [name, style.getPropertyValue(`--${name}`).trim()])) as Record<Name, string>;
}

/** Makes a canvas sharp on its screen and clears it; answers its size in CSS pixels. */
export function prepare(canvas: HTMLCanvasElement): { brush: CanvasRenderingContext2D; width: number; height: number } {
  const ratio = window.devicePixelRatio || 1;
  const width = canvas.clientWidth;
  const height = canvas.clientHeight;
  const [across, down] = [Math.round(width * ratio), Math.round(height * ratio)];
  if (canvas.width !== across) canvas.width = across;
  if (canvas.height !== down) canvas.height = down;
  const brush = canvas.getContext("2d")!;
  brush.setTransform(ratio, 0, 0, ratio, 0, 0);
  brush.clearRect(0, 0, width, height);
  return { brush, width, height };
}

export const calm = window.matchMedia("(prefers-reduced-motion: reduce)");
