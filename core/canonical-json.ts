/**
 * One byte form for each document that is signed or saved. What is not byte for byte the form that we would write is
 * refused, so that two readers never see two documents in the same bytes (twice the same key, 1.0 for 1, spare blanks).
 * It is a rule about documents, not a way to verify: signatures are checked over the bytes received, before any of this.
 */
import { type Result, ok, refuse } from "./result.ts";

/** Compact UTF-8 JSON with keys in the order in which they were set: the form of signed payloads and of envelopes. */
export const compactJson = (value: unknown): Uint8Array => new TextEncoder().encode(JSON.stringify(value));

/** One space of indentation and a newline at the end: the form of saved files, which people open and diff. */
export const indentedJson = (value: unknown): Uint8Array => new TextEncoder().encode(`${JSON.stringify(value, null, 1)}\n`);

/** Parsed JSON of UTF-8 bytes; refused as `NotUtf8` or `NotJson`, with the place in the latter's detail where it is known. */
export function parseJsonBytes(bytes: Uint8Array): Result<unknown, "NotUtf8" | "NotJson"> {
  let text: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    return refuse("NotUtf8", `byte ${firstBadUtf8(bytes)} begins no UTF-8 character`);
  }
  try {
    return ok(JSON.parse(text) as unknown);
  } catch (error) {
    return refuse("NotJson", error instanceof SyntaxError ? error.message : "no JSON");
  }
}

/** Index of the first byte in which the two differ; the shorter one's length where one begins the other; -1 if equal. */
export function firstDifference(left: Uint8Array, right: Uint8Array): number {
  const shorter = Math.min(left.length, right.length);
  for (let index = 0; index < shorter; index += 1) if (left[index] !== right[index]) return index;
  return left.length === right.length ? -1 : shorter;
}

/** Index of the first byte that starts no well-formed character. */
export function firstBadUtf8(bytes: Uint8Array): number {
  // Replacing decoders keep going, so re-encoding shows where the first replacement stands.
  const replaced = new TextEncoder().encode(new TextDecoder("utf-8", { ignoreBOM: true }).decode(bytes));
  return Math.max(0, firstDifference(bytes, replaced));
}
