/** The gateway's own Ed25519 key, with which it countersigns usage: read from its file, or made there on the first start. */
import { generateKeyPairSync } from "node:crypto";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import { type SigningKey, parseSigningKey } from "../core/keys.ts";
import { type Result, refuse } from "../core/result.ts";

/** `BadKeyFile` names the file; an existing file is never written over. */
export function openKeyFile(file: string): Result<SigningKey, "BadKeyFile"> {
  try {
    mkdirSync(dirname(file), { recursive: true, mode: 0o700 });
    const pem = generateKeyPairSync("ed25519").privateKey.export({ format: "pem", type: "pkcs8" });
    writeFileSync(file, pem, { mode: 0o600, flag: "wx" });
  } catch {
    // It is there already, or stands where nothing can be written: reading tells which.
  }
  let pem: string;
  try {
    pem = readFileSync(file, "utf8");
  } catch (error) {
    return refuse(
      "BadKeyFile",
      `cannot read or make ${file}: ${error instanceof Error ? error.message : String(error)}`,
    );
  }
  const key = parseSigningKey(pem, file);
  return key.ok ? key : refuse("BadKeyFile", `${key.detail}; remove ${file} to have a new one made`);
}
