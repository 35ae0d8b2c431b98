/** Who may ask: bearer keys from a file, one a line. Kept and compared as digests, so that time tells nothing about a key. */
import { createHash, timingSafeEqual } from "node:crypto";
import { readFileSync, statSync } from "node:fs";
import { type Result, ok, refuse } from "../../core/result.ts";
import type { Log } from "../doors.ts";

const LOOK_EVERY_MS = 5_000;
const KEY_LENGTH_MIN = 8;

const digest = (text: string): Buffer => createHash("sha256").update(text).digest();

export class ApiKeys {
  readonly #file: string;
  readonly #log: Log;
  readonly #timer: NodeJS.Timeout;
  #digests: readonly Buffer[];
  #version: string;

  private constructor(file: string, digests: readonly Buffer[], log: Log) {
    this.#file = file;
    this.#digests = digests;
    this.#version = versionOf(file);
    this.#log = log;
    this.#timer = setInterval(() => this.look(), LOOK_EVERY_MS).unref();
  }

  /** The keys in `file`: one a line, `#` begins a comment. `BadKeyFile` names the line. */
  static open(file: string, log: Log): Result<ApiKeys, "BadKeyFile"> {
    const digests = readDigests(file);
    return digests.ok ? ok(new ApiKeys(file, digests.value, log)) : digests;
  }

  /** Reads the file again if it changed; a broken one is reported and the old keys stay. */
  look(): void {
    const version = versionOf(this.#file);
    if (version === this.#version) return;
    this.#version = version;
    const digests = readDigests(this.#file);
    if (digests.ok) this.#digests = digests.value;
    else this.#log("api-keys-unreadable", { file: this.#file, detail: digests.detail });
  }

  /** `authorization`: the header as it came. */
  allow(authorization: string | undefined): Result<undefined, "InvalidApiKey"> {
    const given = /^Bearer +(\S+) *$/i.exec(authorization ?? "")?.[1];
    if (given === undefined)
      return refuse("InvalidApiKey", 'no API key was given; send it in the header "Authorization: Bearer KEY"');
    const found = digest(given);
    // All keys are looked at, whichever fits.
    const allowed = this.#digests.filter((known) => timingSafeEqual(known, found)).length > 0;
    return allowed ? ok(undefined) : refuse("InvalidApiKey", "the API key given is not one of this gateway's");
  }

  close(): void {
    clearInterval(this.#timer);
  }
}

function readDigests(file: string): Result<readonly Buffer[], "BadKeyFile"> {
  let text: string;
  try {
    text = readFileSync(file, "utf8");
  } catch (error) {
    return refuse("BadKeyFile", `cannot read ${file}: ${error instanceof Error ? error.message : String(error)}`);
  }
  const lines = text.split("\n").map((line) => line.trim());
  for (const [index, line] of lines.entries()) {
    if (line === "" || line.startsWith("#")) continue;
    // The line itself is left out: it is a secret, or nearly one.
    if (/\s/.test(line)) return refuse("BadKeyFile", `${file}, line ${index + 1}: a key has no blanks in it`);
    if (line.length < KEY_LENGTH_MIN)
      return refuse("BadKeyFile", `${file}, line ${index + 1}: a key has at least ${KEY_LENGTH_MIN} characters`);
  }
  const keys = lines.filter((line) => line !== "" && !line.startsWith("#"));
  if (keys.length === 0) return refuse("BadKeyFile", `${file} holds no key; nobody could ask anything`);
  return ok(keys.map(digest));
}

function versionOf(file: string): string {
  const found = statSync(file, { throwIfNoEntry: false });
  return found === undefined ? "absent" : `${found.ino}:${found.mtimeMs}:${found.size}`;
}
