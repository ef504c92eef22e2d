/** The element with this id; the page's HTML and its code are built together, so a missing one is a mistake in the code. */
export function find<T extends HTMLElement = HTMLElement>(id: string): T {
  const element = document.getElementById(id);
  if (!element) throw new Error(`the page has no element #${id}`);
  return element as T;
}

export function make<Tag extends keyof HTMLElementTagNameMap>(
  tag: Tag,
  attributes: Record<string, string> = {},
  ...children: (Node | string)[]
): HTMLElementTagNameMap[Tag] {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/** Keeps what a person types in a field for their next visit, where the browser allows it. */
export function remembered(input: HTMLInputElement, name: string): void {
  try {
    input.value = localStorage.getItem(name) ?? "";
    input.addEventListener("change", () => localStorage.setItem(name, input.value));
  } catch {
    // Storage is switched off: the field starts empty.
  }
}

/** Downloads a file under a name. */
export function save(blob: Blob, name: string): void {
  const address = URL.createObjectURL(blob);
  make("a", { href: address, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
}

export async function base64(file: Blob): Promise<string> {
  const bytes = new Uint8Array(await file.arrayBuffer());
  let text = "";
  // Argument lists are bounded, so the bytes go over in pieces.
  for (let at = 0; at < bytes.length; at += 8192) text += String.fromCharCode(...bytes.subarray(at, at + 8192));
  return btoa(text);
}
