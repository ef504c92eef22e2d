declare module "verovio/wasm" {
  const createModule: () => Promise<object>;
  export default createModule;
}

declare module "verovio/esm" {
  export class VerovioToolkit {
    constructor(module: object);
    setOptions(options: Record<string, unknown>): void;
    loadData(data: string): boolean;
    getPageCount(): number;
    renderToSVG(page: number): string;
    renderToTimemap(): { qstamp: number; on?: string[]; off?: string[] }[];
    redoLayout(): void;
  }
}
