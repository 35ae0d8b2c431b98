/**
 * Usage on its way to the ledger. Each session is a file until the ledger has judged it, so neither a restart nor a
 * ledger that is away for hours loses anybody's pay; the ledger takes the same bytes twice for once.
 */
import { mkdir, readFile, readdir, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { base64Of, parseBase64 } from "../../core/base64.ts";
import { isJsonObject, parseJson } from "../../core/json.ts";
import { type Result, ok, refuse } from "../../core/result.ts";
import { writeWhole } from "../control/keeper.ts";
import type { Doors } from "../doors.ts";
import type { Submission } from "./seal.ts";

/** Judged by a ledger: how many receipts it accepted. Refusals are the ledger's, or weather on the way to it. */
export type Submit = (
  submission: Submission,
) => Promise<Result<{ readonly accepted: number; readonly rejected: readonly string[] }>>;

/** About 20 KiB each: some hundreds of megabytes, and hours of a busy gateway. */
export const SPOOL_COUNT_MAX = 20_000;
const ATTEMPTS_MAX = 8; // refused outright; a ledger that cannot be reached is tried for ever
const PAUSE_FIRST_MS = 250;
const PAUSE_MAX_MS = 30_000;
const AT_ONCE = 4;

/** The ledger could not be asked, as opposed to: it said no. */
const UNASKED: ReadonlySet<string> = new Set([
  "Unreachable",
  "TimedOut",
  "Cancelled",
  "Weather",
  "NotServing",
  "Draining",
  "Overloaded",
  "UnknownIdentity",
  "ExpiredCertificate",
  "NoLedger",
]);

export class Spool {
  readonly #directory: string;
  readonly #doors: Pick<Doors, "clock" | "log" | "unixMs">;
  readonly #submit: Submit;
  readonly #waiting: string[] = []; // file names, oldest first
  readonly #attempts = new Map<string, number>();
  readonly #end = new AbortController();
  #wake: (() => void) | undefined;
  #running: Promise<void> | undefined;
  #count = 0;

  constructor(directory: string, doors: Pick<Doors, "clock" | "log" | "unixMs">, submit: Submit) {
    this.#directory = directory;
    this.#doors = doors;
    this.#submit = submit;
  }

  /** Sessions not yet judged. */
  get waitingCount(): number {
    return this.#waiting.length;
  }

  /** Takes up what an earlier run left, and begins to submit. */
  async start(): Promise<void> {
    await mkdir(join(this.#directory, "refused"), { recursive: true, mode: 0o700 });
    const left = (await readdir(this.#directory)).filter((name) => /^[0-9a-z].*\.json$/.test(name)).toSorted();
    this.#waiting.push(...left);
    if (left.length > 0) this.#doors.log("usage-left-over", { count: left.length });
    this.#running = this.#run();
  }

  /** On disk when it resolves. Beyond the limit it is dropped, with a line in the log: serving goes on. */
  async add(session: string, submission: Submission): Promise<void> {
    if (this.#waiting.length >= SPOOL_COUNT_MAX) {
      this.#doors.log("usage-dropped", {
        session,
        waiting: this.#waiting.length,
        detail: "the ledger has been away for too long; see its log",
      });
      return;
    }
    // The name sorts by time; the count tells apart what came in the same millisecond.
    this.#count += 1;
    const name = `${this.#doors.unixMs().toString(36).padStart(9, "0")}-${this.#count.toString(36).padStart(5, "0")}-${session}.json`;
    const text = JSON.stringify({ usage: base64Of(submission.usage), receipts: submission.receipts.map(base64Of) });
    await writeWhole(this.#directory, name, text);
    this.#waiting.push(name);
    this.#wake?.();
  }

  /** Resolves once everything is judged, or after `milliseconds`. */
  async drain(milliseconds: number): Promise<void> {
    const endMs = this.#doors.clock.monotonicMs() + milliseconds;
    while (this.#waiting.length > 0 && this.#doors.clock.monotonicMs() < endMs) await this.#doors.clock.sleep(50);
  }

  /** Stops submitting; what waits stays on disk. */
  async close(): Promise<void> {
    this.#end.abort();
    this.#wake?.();
    await this.#running;
  }

  async #run(): Promise<void> {
    let pauseMs = PAUSE_FIRST_MS;
    while (!this.#end.signal.aborted) {
      if (this.#waiting.length === 0) {
        await new Promise<void>((resolve) => (this.#wake = resolve));
        continue;
      }
      const reached = await Promise.all(this.#waiting.slice(0, AT_ONCE).map((name) => this.#submitOne(name)));
      if (reached.every(Boolean)) {
        pauseMs = PAUSE_FIRST_MS;
        continue;
      }
      await this.#doors.clock.sleep(pauseMs, this.#end.signal).catch(() => {}); // ended while waiting: the loop sees it
      pauseMs = Math.min(PAUSE_MAX_MS, pauseMs * 2);
    }
  }

  /** Whether the next ones may follow at once. */
  async #submitOne(name: string): Promise<boolean> {
    const path = join(this.#directory, name);
    const submission = await readFile(path, "utf8").then(parseSubmission, (error: unknown) =>
      refuse("Unreadable", String(error)),
    );
    if (!submission.ok) {
      await this.#putAside(name, submission.detail);
      return true;
    }
    const judged = await this.#submit(submission.value).catch((error: unknown) => refuse("Weather", String(error)));
    if (judged.ok) {
      this.#forget(name);
      await rm(path, { force: true });
      for (const rejected of judged.value.rejected)
        this.#doors.log("receipt-rejected", { file: name, detail: rejected });
      return true;
    }
    if (UNASKED.has(judged.code)) return false;
    const attempts = (this.#attempts.get(name) ?? 0) + 1;
    this.#attempts.set(name, attempts);
    this.#doors.log("usage-refused", { file: name, code: judged.code, detail: judged.detail, attempts });
    if (attempts < ATTEMPTS_MAX) return false;
    await this.#putAside(name, judged.detail);
    return true;
  }

  async #putAside(name: string, why: string): Promise<void> {
    this.#forget(name);
    this.#doors.log("usage-put-aside", { file: join(this.#directory, "refused", name), detail: why });
    await rename(join(this.#directory, name), join(this.#directory, "refused", name)).catch(() => {}); // gone already
  }

  #forget(name: string): void {
    this.#attempts.delete(name);
    const at = this.#waiting.indexOf(name);
    if (at >= 0) this.#waiting.splice(at, 1);
  }
}

function parseSubmission(text: string): Result<Submission, "Unreadable"> {
  const json = parseJson(text);
  const fields = isJsonObject(json)
    ? [json["usage"], ...(Array.isArray(json["receipts"]) ? json["receipts"] : [])]
    : [];
  const bytes = fields.map((field) =>
    typeof field === "string" ? parseBase64(field) : refuse("MalformedBase64", "no text"),
  );
  const whole = bytes.flatMap((one) => (one.ok ? [one.value] : []));
  const [usage, ...receipts] = whole;
  if (usage === undefined || whole.length !== fields.length)
    return refuse("Unreadable", "not a submission as this gateway writes them");
  return ok({ usage, receipts });
}
