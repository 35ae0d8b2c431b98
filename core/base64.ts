/** Base64 with one spelling per value: standard alphabet, padding, no spare bits, no blanks (RFC 4648 §4 and §3.5). */
import { type Result, ok, refuse } from "./result.ts";

export const base64Of = (bytes: Uint8Array): string =>
  Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("base64");

/** Attacker: lenient decoders map many texts to the same bytes, so a flipped letter could pass unseen. */
export function parseBase64(text: string): Result<Uint8Array, "MalformedBase64"> {
  const bytes = Buffer.from(text, "base64");
  const canonical = bytes.toString("base64");
  if (canonical === text) return ok(new Uint8Array(bytes));
  let at = 0;
  while (at < text.length && text[at] === canonical[at]) at += 1;
  return refuse("MalformedBase64", `character ${at} of ${text.length} is not as base64 writes it`);
}
