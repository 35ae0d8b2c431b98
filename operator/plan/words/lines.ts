/** Lines of coloured text, and text wrapped to a width. Colours are ANSI codes, added last: widths never count them. */

export type Span = {
  readonly text: string;
  readonly provider?: number; // its number among the view's providers: its colour
  readonly tone?: "dim" | "strong";
};
export type Line = readonly Span[];

export type Charset = {
  readonly fills: readonly string[]; // by provider, so that a picture without colours can be read
  readonly guest: string; // fill of a segment that is at home in another chain
  readonly bottleneck: string;
  readonly estimated: string;
  readonly shared: string;
  readonly trip: string;
  readonly dash: string; // between the ends of a range
};

export const UNICODE: Charset = {
  fills: ["▓", "░", "▒", "█", "▚", "▤", "▞", "▥"],
  guest: "·",
  bottleneck: "◆",
  estimated: "~",
  shared: "⇄",
  trip: "↔",
  dash: "–",
};
export const ASCII: Charset = {
  fills: ["#", "=", "+", "%", "@", "o", "x", "/"],
  guest: ".",
  bottleneck: "!",
  estimated: "~",
  shared: "&",
  trip: "<>",
  dash: "-",
};

/** The basic colours, which every terminal theme makes readable on its own background; red stays free for alarms. */
const PROVIDER_CODES = [36, 33, 35, 32, 34, 96, 93, 95, 92, 94] as const;

export const lineWidth = (line: Line): number => line.reduce((sum, { text }) => sum + [...text].length, 0);

/** The lines as one text. Without `colour` it holds no escape code at all. */
export function renderLines(lines: readonly Line[], colour: boolean): string {
  return lines
    .map((line) =>
      trimmed(line)
        .map((span) => (colour ? painted(span) : span.text))
        .join(""),
    )
    .join("\n");
}

function trimmed(line: Line): Line {
  const last = line.at(-1);
  if (last === undefined) return line;
  const text = last.text.trimEnd();
  return text === "" ? trimmed(line.slice(0, -1)) : [...line.slice(0, -1), { ...last, text }];
}

function painted({ text, provider, tone }: Span): string {
  const codes = [
    ...(tone === "strong" ? [1] : tone === "dim" ? [2] : []),
    ...(provider === undefined ? [] : [PROVIDER_CODES[provider % PROVIDER_CODES.length] ?? 39]),
  ];
  return codes.length === 0 || text === "" ? text : `\u001b[${codes.join(";")}m${text}\u001b[0m`;
}

/** Pieces joined by `separator`, broken between pieces where a line would get wider than `width`. */
export function wrapPieces(
  pieces: readonly Line[],
  { width, separator, first, rest }: { width: number; separator: string; first: Line; rest: string },
): readonly Line[] {
  const lines: Line[] = [];
  let line: Line = first;
  let isEmpty = true;
  for (const [index, piece] of pieces.entries()) {
    const joint = index === pieces.length - 1 ? separator.trimEnd() : separator;
    const between = isEmpty ? 0 : [...separator].length;
    const tail = index === pieces.length - 1 ? 0 : [...joint.trimEnd()].length;
    if (!isEmpty && lineWidth(line) + between + lineWidth(piece) + tail > width) {
      lines.push([...line, { text: separator.trimEnd() }]);
      line = [{ text: rest }];
      isEmpty = true;
    }
    line = [...line, ...(isEmpty ? [] : [{ text: separator }]), ...piece];
    isEmpty = false;
  }
  return [...lines, line];
}

/** The text whole where it fits, else cut at `joint` into as few parts as fit. */
export function cutAt(text: string, joint: string, width: number): readonly string[] {
  const parts: string[] = [];
  for (const word of text.split(joint)) {
    const grown = parts.length === 0 ? word : `${parts.at(-1)}${joint}${word}`;
    if (parts.length > 0 && [...grown].length <= width) parts[parts.length - 1] = grown;
    else parts.push(word);
  }
  return parts;
}

/** A sentence wrapped at blanks; a word longer than a line is cut. */
export function wrapText(text: string, width: number, first: Line = [], rest = ""): readonly Line[] {
  const room = Math.max(8, width - [...rest].length);
  const words = text.split(/\s+/).filter(Boolean);
  const cut = words.flatMap((word) => {
    const characters = [...word];
    return Array.from({ length: Math.ceil(characters.length / room) }, (_, index) =>
      characters.slice(index * room, (index + 1) * room).join(""),
    );
  });
  const pieces = cut.map((word) => [{ text: word }]);
  return wrapPieces(pieces, { width, separator: " ", first, rest });
}

/**
 * Whole columns for parts of these lengths, `total` in all: in proportion, but none less than its least. The least must
 * fit together.
 */
export function allot(lengths: readonly number[], leasts: readonly number[], total: number): readonly number[] {
  const widthsAt = (scale: number) => lengths.map((length, index) => Math.max(leasts[index] ?? 0, scale * length));
  const sum = (widths: readonly number[]) => widths.reduce((a, b) => a + b, 0);
  let low = 0;
  let high = total / Math.min(...lengths);
  for (let round = 0; round < 50; round++) {
    const middle = (low + high) / 2;
    if (sum(widthsAt(middle)) <= total) low = middle;
    else high = middle;
  }
  const exact = widthsAt(low);
  const whole = exact.map((width, index) => Math.max(Math.floor(width + 1e-6), leasts[index] ?? 0));
  const order = exact
    .map((width, index) => ({ index, remainder: width - (whole[index] ?? 0) }))
    .sort((a, b) => b.remainder - a.remainder || a.index - b.index);
  for (let left = total - sum(whole), at = 0; left > 0; left--, at++) {
    const { index } = order[at % order.length] ?? { index: 0 };
    whole[index] = (whole[index] ?? 0) + 1;
  }
  return whole;
}
