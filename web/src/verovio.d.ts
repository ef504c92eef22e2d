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
    renderToTimemap(options: { includeMeasures: boolean }): { qstamp: number; on?: string[]; off?: string[]; measureOn?: string }[];
    redoLayout(): void;
  }
}
