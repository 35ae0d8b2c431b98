/** Where in a JSON document a byte stands, and in which bytes common programs write one and the same document. */
import { firstDifference } from "./bytes.ts";

type Level = { readonly list: boolean; key: string | undefined; index: number; expectsKey: boolean };

/**
 * The path of the value that byte `at` belongs to, `receipts[1].payload`, even where the JSON is broken from there on:
 * what stands before `at` is enough. `the document` for its outermost level.
 */
export function placeIn(bytes: Uint8Array, at: number): string {
  const text = new TextDecoder("utf-8", { ignoreBOM: true }).decode(bytes.subarray(0, at + 1));
  const levels: Level[] = [];
  let stringStart = -1;
  for (let index = 0; index < text.length; index += 1) {
    const character = text[index];
    const level = levels.at(-1);
    if (stringStart >= 0) {
      if (character === "\\") index += 1;
      else if (character === '"') {
        if (level?.expectsKey) level.key = text.slice(stringStart + 1, index);
        stringStart = -1;
      }
    } else if (character === '"') stringStart = index;
    else if (character === "{" || character === "[")
      levels.push({ list: character === "[", key: undefined, index: 0, expectsKey: character === "{" });
    else if (character === "}" || character === "]") levels.pop();
    else if (character === ":" && level) level.expectsKey = false;
    else if (character === "," && level) {
      level.index += 1;
      level.expectsKey = !level.list;
    }
  }
  const path = levels
    .map((level) => (level.list ? `[${level.index}]` : level.key === undefined ? "" : `.${level.key}`))
    .join("");
  return path === "" ? "the document" : path.replace(/^\./, "").slice(0, 200);
}

const BLANKS = /[ \t\r\n]*/y;
const TOKEN = tokenPattern();

function tokenPattern(): RegExp {
  const plain = '[^"\\\\\\x00-\\x1f]*';
  const escaped = '\\\\(?:["\\\\/bfnrt]|u[0-9a-fA-F]{4})';
  const number = "-?(?:0|[1-9][0-9]*)(?:\\.[0-9]+)?(?:[eE][+-]?[0-9]+)?";
  return new RegExp(`"${plain}(?:${escaped}${plain})*"|${number}|true|false|null|[{}[\\],:]`, "y");
}

/**
 * Index (in UTF-16 units) of the token with which a text stops being JSON; its length where it only ends too early.
 * JSON.parse knows, but its messages do not always say.
 */
export function syntaxErrorAt(text: string): number {
  const closers: ("}" | "]")[] = [];
  let state: "value" | "valueOrClose" | "key" | "keyOrClose" | "colon" | "after" = "value";
  let index = 0;
  while (true) {
    index = endOf(BLANKS, text, index);
    const end = endOf(TOKEN, text, index);
    if (end === index) return index;
    const token = text.slice(index, end);
    const wantsValue = state === "value" || state === "valueOrClose";
    const mayClose = state === "after" || state === "valueOrClose" || state === "keyOrClose";
    if (mayClose && token === closers.at(-1)) {
      closers.pop();
      state = "after";
    } else if (wantsValue && (token === "{" || token === "[")) {
      closers.push(token === "{" ? "}" : "]");
      state = token === "{" ? "keyOrClose" : "valueOrClose";
    } else if (wantsValue && !/^[}\],:]/.test(token)) state = "after";
    else if ((state === "key" || state === "keyOrClose") && token.startsWith('"')) state = "colon";
    else if (state === "colon" && token === ":") state = "value";
    else if (state === "after" && token === "," && closers.length > 0) state = closers.at(-1) === "}" ? "key" : "value";
    else return index;
    index = end;
  }
}

/** Where the sticky `pattern` stops matching from `index` on; `index` where it does not match. */
function endOf(pattern: RegExp, text: string, index: number): number {
  pattern.lastIndex = index;
  return index + (pattern.exec(text)?.[0].length ?? 0);
}

/**
 * -1 where `bytes` are `document` as JSON.stringify, jq or Python's json print it with their usual settings, byte for
 * byte; otherwise the index up to which they follow the nearest of these spellings. Any two spellings differ in many
 * places, so no change of one byte leads from one to another.
 */
export function departure(bytes: Uint8Array, document: unknown): number {
  const encoder = new TextEncoder();
  let nearest = 0;
  for (const text of spellings(document)) {
    for (const form of [encoder.encode(`${text}\n`), encoder.encode(text)]) {
      const at = firstDifference(bytes, form);
      if (at < 0) return -1;
      nearest = Math.max(nearest, at);
    }
  }
  return nearest;
}

/** Ours first, so that a file nobody touched is compared once. */
function* spellings(document: unknown): Generator<string> {
  for (const ascii of [false, true]) {
    const escaped = (text: string) =>
      ascii
        ? text.replace(/[\u007f-\uffff]/g, (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`)
        : text;
    for (const indent of [1, 2, 4, "\t", 0] as const) yield escaped(JSON.stringify(document, null, indent));
    yield escaped(pythonCompact(document));
  }
}

/** `{"a": 1, "b": [1, 2]}`: a blank after every colon and comma. */
function pythonCompact(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(pythonCompact).join(", ")}]`;
  if (typeof value !== "object" || value === null) return JSON.stringify(value);
  return `{${Object.entries(value)
    .map(([key, inner]) => `${JSON.stringify(key)}: ${pythonCompact(inner)}`)
    .join(", ")}}`;
}
