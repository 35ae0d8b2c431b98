/** SHA-256, and digests as they are written everywhere: `sha256:` and 64 lower-case hexadecimal digits. */
import { createHash } from "node:crypto";
import { shown } from "./json.ts";
import { type Result, ok, refuse } from "./result.ts";

/** SHA-256 over the parts, one after the other; 32 bytes. */
export function sha256(...parts: readonly Uint8Array[]): Uint8Array {
  const hash = createHash("sha256");
  for (const part of parts) hash.update(part);
  return hash.digest();
}

/** `sha256:…` of 32 bytes that already are a SHA-256. */
export const digestText = (hash: Uint8Array): string => `sha256:${Buffer.from(hash).toString("hex")}`;

/** `sha256:…` over the parts, one after the other. */
export const digestOf = (...parts: readonly Uint8Array[]): string => digestText(sha256(...parts));

const DIGEST = /^sha256:[0-9a-f]{64}$/;

export const isDigest = (text: string): boolean => DIGEST.test(text);

/** The 32 bytes of a `sha256:…` text. Anything else is refused as `MalformedDigest`, named by `field`. */
export function parseDigest(text: string, field: string): Result<Uint8Array, "MalformedDigest"> {
  if (!isDigest(text)) {
    return refuse(
      "MalformedDigest",
      `${field} must be sha256: and 64 lower-case hexadecimal digits, not ${shown(text)}`,
    );
  }
  return ok(new Uint8Array(Buffer.from(text.slice("sha256:".length), "hex")));
}
