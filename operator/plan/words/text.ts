/** Texts kept to the length that the API server takes. */
import { countOf } from "./figures.ts";

/** Cut at a blank, and said so. */
export function shortened(text: string, lengthMax: number): string {
  if (text.length <= lengthMax) return text;
  const kept = text.slice(0, lengthMax - 2);
  return `${kept.slice(0, Math.max(kept.lastIndexOf(" "), lengthMax - 80))} …`;
}

/** Whole lines up to so many bytes of UTF-8, and how many more there were. */
export function shortenedLines(text: string, byteCountMax: number): string {
  const lines = text.split("\n");
  let byteCount = 0;
  for (const [index, line] of lines.entries()) {
    byteCount += utf8Length(line) + 1;
    const rest = `… and ${countOf(lines.length - index, "more line")}: tessellate plan shows all`;
    if (byteCount + utf8Length(rest) > byteCountMax && index < lines.length - 1)
      return [...lines.slice(0, index), rest].join("\n");
  }
  return text;
}

function utf8Length(text: string): number {
  let byteCount = 0;
  for (const character of text) {
    const point = character.codePointAt(0) ?? 0;
    byteCount += point < 0x80 ? 1 : point < 0x800 ? 2 : point < 0x10000 ? 3 : 4;
  }
  return byteCount;
}
