/** What happens to an answer after its last token: sealed, spooled for the ledger, kept for whoever asked. */
import { mkdir } from "node:fs/promises";
import type { Result } from "../../core/result.ts";
import { writeWhole } from "../control/keeper.ts";
import type { Log } from "../doors.ts";
import type { Part } from "../generate/generation.ts";
import type { Picture } from "../route/picture.ts";
import { type Sealed, type Signer, sealPart } from "./seal.ts";
import type { Spool } from "./spool.ts";

export class Books {
  readonly #signer: Signer;
  readonly #log: Log;
  readonly #picture: () => Picture | undefined;
  readonly #spool: Spool | undefined;
  readonly #answersDirectory: string | undefined;
  readonly #underWay = new Set<Promise<unknown>>();

  /** `spool`: undefined where usage is kept nowhere (tests). `answersDirectory`: where every saved answer is written, if anywhere. */
  constructor(options: {
    readonly signer: Signer;
    readonly log: Log;
    readonly picture: () => Picture | undefined;
    readonly spool: Spool | undefined;
    readonly answersDirectory: string | undefined;
  }) {
    this.#signer = options.signer;
    this.#log = options.log;
    this.#picture = options.picture;
    this.#spool = options.spool;
    this.#answersDirectory = options.answersDirectory;
  }

  get signer(): Signer {
    return this.#signer;
  }

  /** Enters the last session of an answer: `text` is what the client got of it, `id` what the answer is called. Never rejects. */
  async enter(id: string, part: Part, text: string): Promise<Result<Sealed>> {
    const work = this.#enter(id, part, text);
    this.#underWay.add(work);
    return work.finally(() => this.#underWay.delete(work));
  }

  /** Keeps `work` (a session being closed) until {@link settled}; it must not reject. */
  watch(work: Promise<unknown>): void {
    this.#underWay.add(work);
    void work.finally(() => this.#underWay.delete(work));
  }

  /** Resolves once everything entered so far is on disk. */
  async settled(): Promise<void> {
    while (this.#underWay.size > 0) await Promise.all(this.#underWay);
  }

  async #enter(id: string, part: Part, text: string): Promise<Result<Sealed>> {
    const picture = this.#picture();
    if (picture === undefined) return { ok: false, code: "Unsigned", detail: "this gateway knows no providers' keys" };
    const sealed = sealPart(part, text, picture, this.#signer);
    if (!sealed.ok) {
      this.#log("usage-unsigned", { answer: id, session: part.request.id, detail: sealed.detail });
      return sealed;
    }
    for (const { code, detail } of sealed.value.problems)
      this.#log("receipts-differ", { answer: id, session: part.request.id, code, detail });
    try {
      await this.#spool?.add(sealed.value.session, sealed.value.submission);
      if (this.#answersDirectory !== undefined) {
        await mkdir(this.#answersDirectory, { recursive: true });
        await writeWhole(this.#answersDirectory, `${id}.json`, new TextDecoder().decode(sealed.value.file));
      }
    } catch (error) {
      this.#log("usage-unsaved", { answer: id, session: part.request.id, detail: String(error) });
    }
    return sealed;
  }
}
