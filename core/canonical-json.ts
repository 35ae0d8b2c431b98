/**
 * One byte form for each document that is signed or saved. What is not byte for byte the form that we would write is
 * refused, so that two readers never see two documents in the same bytes (twice the same key, 1.0 for 1, spare blanks).
 * It is a rule about documents, not a way to verify: signatures are checked over the bytes received, before any of this.
 */
import { firstDifference } from "./bytes.ts";
import { syntaxErrorAt } from "./json-place.ts";
import { type Refusal, ok, refuse } from "./result.ts";

/** Compact UTF-8 JSON with keys in the order in which they were set: the form of signed payloads and of envelopes. */
export const compactJson = (value: unknown): Uint8Array => new TextEncoder().encode(JSON.stringify(value));

/** One space of indentation and a newline at the end: the form of saved files, which people open and diff. */
export const indentedJson = (value: unknown): Uint8Array =>
  new TextEncoder().encode(`${JSON.stringify(value, null, 1)}\n`);

export type JsonRefusal = Refusal<"NotUtf8" | "NotJson"> & { readonly at: number }; // byte where reading ended

/** Parsed JSON of UTF-8 bytes; refused as `NotUtf8` or `NotJson`, with the byte at which reading ended. */
export function parseJsonBytes(bytes: Uint8Array): { readonly ok: true; readonly value: unknown } | JsonRefusal {
  let text: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    const at = firstBadUtf8(bytes);
    return { ...refuse("NotUtf8", `byte ${at} is part of no UTF-8 character`), at };
  }
  try {
    return ok(JSON.parse(text) as unknown);
  } catch {
    const at = new TextEncoder().encode(text.slice(0, syntaxErrorAt(text))).length;
    return { ...refuse("NotJson", `no JSON from byte ${at} on`), at };
  }
}

/** Index of the first byte that starts no well-formed character. */
export function firstBadUtf8(bytes: Uint8Array): number {
  // Replacing decoders keep going, so re-encoding shows where the first replacement stands.
  const replaced = new TextEncoder().encode(new TextDecoder("utf-8", { ignoreBOM: true }).decode(bytes));
  return Math.max(0, firstDifference(bytes, replaced));
}
