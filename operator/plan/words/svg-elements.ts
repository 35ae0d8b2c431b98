/** The few SVG elements that a plan is drawn with, their colours in light and dark, and how wide a text gets. */

/** Text is set in a monospaced font: only so can a drawing know without a screen whether two texts would touch. */
const FONT = "ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', 'Liberation Mono', monospace";
/** Of the font's size; the widest of the fonts above takes 0.61. */
const CHARACTER_WIDTH = 0.61;

export type Size = 11 | 12 | 13 | 15 | 20;

export const textWidth = (text: string, size: Size): number => [...text].length * size * CHARACTER_WIDTH;

/** Characters that fit. */
export const charactersIn = (width: number, size: Size): number => Math.floor(width / (size * CHARACTER_WIDTH));

/** Fills by provider, in light and dark: told apart by people who see colours differently, and text stays readable. */
const FILLS = [
  ["#a9ccf2", "#23507f"],
  ["#f6d190", "#7d5517"],
  ["#b2ddb4", "#2c6638"],
  ["#d6bff0", "#5a3c86"],
  ["#f4b9c9", "#863450"],
  ["#a6deda", "#1d6663"],
  ["#dcdf9f", "#5f6420"],
  ["#cfd6de", "#48525e"],
] as const;

/** The provider's class; from the ninth on colours come again, hatched. */
export const fillClass = (provider: number): string => `p${provider % FILLS.length}`;
export const isHatched = (provider: number): boolean => provider >= FILLS.length;

export function styleElement(): string {
  const light = FILLS.map(([fill], index) => `.p${index}{fill:${fill}}`).join("");
  const dark = FILLS.map(([, fill], index) => `.p${index}{fill:${fill}}`).join("");
  return [
    "<style>",
    `text{font-family:${FONT};fill:#1f2328}`,
    ".ground{fill:#ffffff}.quiet{fill:#59636e}.strong{font-weight:600}.alarm{fill:#c4182b;font-weight:600}",
    ".edge{fill:none;stroke:#59636e;stroke-width:1}.worst{fill:none;stroke:#c4182b;stroke-width:3}",
    ".guess{stroke-dasharray:5 3}.rule{stroke:#d1d9e0;stroke-width:1}.hatch{fill:url(#hatch)}.guest{fill-opacity:.35}",
    ".line{stroke:#59636e;stroke-width:1.5;stroke-opacity:.45}",
    light,
    "@media (prefers-color-scheme: dark){text{fill:#f0f6fc}.ground{fill:#0d1117}.quiet{fill:#9198a1}",
    ".alarm{fill:#ff8a80}.worst{stroke:#ff8a80}.edge{stroke:#9198a1}.rule{stroke:#3d444d}.line{stroke:#f0f6fc}",
    dark,
    "}</style>",
    '<defs><pattern id="hatch" width="8" height="8" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">',
    '<line class="line" x1="0" y1="0" x2="0" y2="8"/></pattern></defs>',
  ].join("");
}

export const escaped = (text: string): string =>
  text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;").replaceAll('"', "&quot;");

const round = (value: number): string => String(Math.round(value * 10) / 10);

export type TextStyle = { readonly size: Size; readonly class?: string; readonly anchor?: "start" | "middle" | "end" };

/** `y` is the baseline. */
export function textElement(x: number, y: number, text: string, { size, class: named, anchor }: TextStyle): string {
  const at = anchor === undefined || anchor === "start" ? "" : ` text-anchor="${anchor}"`;
  const style = named === undefined ? "" : ` class="${named}"`;
  return `<text x="${round(x)}" y="${round(y)}" font-size="${size}"${at}${style}>${escaped(text)}</text>`;
}

export type Box = { readonly x: number; readonly y: number; readonly width: number; readonly height: number };

export function rectElement({ x, y, width, height }: Box, named: string, title?: string): string {
  const shape = `<rect x="${round(x)}" y="${round(y)}" width="${round(width)}" height="${round(height)}" rx="3" class="${named}"`;
  return title === undefined ? `${shape}/>` : `${shape}><title>${escaped(title)}</title></rect>`;
}

export const lineElement = (x1: number, y1: number, x2: number, y2: number): string =>
  `<line class="rule" x1="${round(x1)}" y1="${round(y1)}" x2="${round(x2)}" y2="${round(y2)}"/>`;
