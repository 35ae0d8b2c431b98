/** A provider's key as a file on the provider's own machine: read, or made where there is none. */
import { generateKeyPairSync } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import { type SigningKey, parseSigningKey } from "../core/keys.ts";
import { valueOrThrow } from "../core/result.ts";

/** Throws the refusal (`MalformedKey`) where the file holds something else, and weather where it cannot be made. */
export function readOrMakeKey(file: string): SigningKey {
  if (!existsSync(file)) {
    mkdirSync(dirname(file), { recursive: true });
    const { privateKey } = generateKeyPairSync("ed25519");
    // "wx": two that start at once must not each make a key and one of them lose its own.
    writeFileSync(file, privateKey.export({ format: "pem", type: "pkcs8" }), { mode: 0o600, flag: "wx" });
  }
  return valueOrThrow(parseSigningKey(readFileSync(file, "utf8"), file));
}
