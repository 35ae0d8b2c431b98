/** The key that settlements are signed with: read from its file, made there if absent. */
import { generateKeyPairSync } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import { type SigningKey, parseSigningKey } from "../core/keys.ts";
import type { Result } from "../core/result.ts";

/** Ed25519, PKCS #8 PEM. A file that holds something else is refused and never overwritten. */
export function openKeyFile(file: string): Result<SigningKey, "MalformedKey"> {
  if (!existsSync(file)) {
    mkdirSync(dirname(file), { recursive: true, mode: 0o700 });
    writeFileSync(file, generateKeyPairSync("ed25519").privateKey.export({ format: "pem", type: "pkcs8" }), {
      mode: 0o600,
      flag: "wx",
    });
  }
  return parseSigningKey(readFileSync(file, "utf8"), `the ledger (${file})`);
}
