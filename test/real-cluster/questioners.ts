/** People who ask one question after the other while something else happens, and note what they got. */
import { setTimeout as sleep } from "node:timers/promises";

const PAUSE_AFTER_FAILURE_MS = 250;

export class Questioners {
  readonly failures: string[] = [];
  #answeredCount = 0;
  #stopped = false;
  readonly #asking: readonly Promise<void>[];

  /** `askOne` throws where the answer does not come or is wrong; it is called by `count` people at once. */
  constructor(count: number, askOne: (turn: number) => Promise<void>) {
    this.#asking = Array.from({ length: count }, (_, person) => this.#askOn(person, askOne));
  }

  get answeredCount(): number {
    return this.#answeredCount;
  }

  /** Resolves when the last answer has come. */
  async stop(): Promise<void> {
    this.#stopped = true;
    await Promise.all(this.#asking);
  }

  async #askOn(person: number, askOne: (turn: number) => Promise<void>): Promise<void> {
    for (let turn = person; !this.#stopped; turn += 1) {
      try {
        await askOne(turn);
        this.#answeredCount += 1;
      } catch (error) {
        this.failures.push(`${new Date().toISOString()} ${error instanceof Error ? error.message : String(error)}`);
        await sleep(PAUSE_AFTER_FAILURE_MS);
      }
    }
  }
}
