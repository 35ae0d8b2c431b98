/**
 * Keeps the picture: what the operator told last, on disk too, so that a gateway that restarts while the operator is
 * away serves at once what it served before.
 */
import { mkdir, open, readFile, rename } from "node:fs/promises";
import { join } from "node:path";
import type { State__Output } from "../../core/gen/proto/tessellate/control/v1/State.ts";
import { isJsonObject, parseJson } from "../../core/json.ts";
import { type Result, refuse } from "../../core/result.ts";
import type { Log } from "../doors.ts";
import type { Picture } from "../route/picture.ts";
import { parseState } from "./parse-state.ts";

const FILE = "picture.json";

export class PictureKeeper {
  readonly #directory: string | undefined;
  readonly #log: Log;
  readonly #listeners: ((picture: Picture) => void)[] = [];
  #picture: Picture | undefined;
  #written = "";
  #writing: Promise<void> = Promise.resolve();

  /** `directory`: where the picture is kept; undefined keeps it in memory only. */
  constructor(directory: string | undefined, log: Log) {
    this.#directory = directory;
    this.#log = log;
  }

  /** Undefined until somebody told us anything. */
  get picture(): Picture | undefined {
    return this.#picture;
  }

  onChange(listener: (picture: Picture) => void): void {
    this.#listeners.push(listener);
  }

  /** `StaleFence`: an operator with a later lease has spoken since. `BadRequest`: a field does not fit; nothing changes. */
  put(state: State__Output): Result<Picture, "StaleFence" | "BadRequest"> {
    const known = this.#picture?.fence ?? 0;
    if (state.fence < known) {
      return refuse("StaleFence", `fence ${state.fence} is older than ${known}: another operator leads now; step down`);
    }
    const picture = parseState(state);
    if (!picture.ok) return picture;
    this.#take(picture.value);
    this.#save(state);
    return picture;
  }

  /** What was kept on disk, if anything; a file that cannot be read is reported and passed over. */
  async restore(): Promise<void> {
    if (this.#directory === undefined) return;
    const text = await readFile(join(this.#directory, FILE), "utf8").catch(() => undefined);
    if (text === undefined) return;
    const json = parseJson(text);
    const read = isJsonObject(json)
      ? restored(json as unknown as State__Output)
      : refuse("BadRequest", "no JSON object");
    if (!read.ok) return this.#log("picture-unreadable", { file: join(this.#directory, FILE), detail: read.detail });
    this.#written = text;
    this.#take(read.value);
    this.#log("picture-restored", { fence: read.value.fence, models: read.value.models.length });
  }

  /** Resolves once everything that was told is on disk. */
  async flush(): Promise<void> {
    await this.#writing;
  }

  #take(picture: Picture): void {
    this.#picture = picture;
    for (const listener of this.#listeners) listener(picture);
  }

  #save(state: State__Output): void {
    const directory = this.#directory;
    const text = JSON.stringify(state);
    // The operator repeats itself every few seconds; only news is written.
    if (directory === undefined || text === this.#written) return;
    this.#written = text;
    this.#writing = this.#writing
      .then(() => writeWhole(directory, FILE, text))
      .catch((error: unknown) => {
        this.#written = "";
        this.#log("picture-unsaved", { directory, detail: String(error) });
      });
  }
}

/** A file of an older version may lack fields that parsing expects: that is a picture we cannot read, not a crash. */
function restored(state: State__Output): Result<Picture> {
  try {
    return parseState(state);
  } catch (error) {
    if (error instanceof TypeError) return refuse("BadRequest", `of another version: ${error.message}`);
    throw error;
  }
}

/** Writes a file so that after a crash it is there whole or not at all. */
export async function writeWhole(directory: string, name: string, text: string): Promise<void> {
  await mkdir(directory, { recursive: true, mode: 0o700 });
  const unfinished = join(directory, `.${name}.new`);
  const file = await open(unfinished, "w", 0o600);
  try {
    await file.writeFile(text);
    await file.sync();
  } finally {
    await file.close();
  }
  await rename(unfinished, join(directory, name));
}
