/** Steps that wait for the engine, in order of arrival, and the parts of them that a batch takes. */
import { assert } from "../../core/assert.ts";
import { type Budget, nextBatch } from "../schedule/next-batch.ts";
import type { Session } from "./session.ts";

/** A step, or the part of one that runs in one batch. */
export type Part = {
  readonly session: Session;
  readonly position: number; // of the first row
  readonly rowCount: number;
  readonly sample: boolean;
  readonly divisible: boolean;
  readonly values: Uint32Array | Float32Array; // as the engine takes them
  readonly data: Uint8Array; // as they came on the wire
};

export class WaitingSteps {
  #parts: Part[] = [];
  #byteCount = 0;

  /** Bytes of all that waits, as on the wire. */
  get byteCount(): number {
    return this.#byteCount;
  }

  get isEmpty(): boolean {
    return this.#parts.length === 0;
  }

  /** Sessions that have something to run. */
  get sessionCount(): number {
    return new Set(this.#parts.map(({ session }) => session)).size;
  }

  add(part: Part): void {
    part.session.pendingCount += 1;
    this.#parts.push(part);
    this.#byteCount += part.data.length;
  }

  /** Takes the next batch out of what waits; sessions whose way on is full wait longer. */
  take(budget: Budget): readonly Part[] {
    const ready = this.#parts.filter((part) => part.session.link?.congested !== true);
    const waiting = ready.map(({ session, rowCount, divisible }) => ({
      session: session.plan.id,
      rowCount,
      divisible,
    }));
    return nextBatch(waiting, budget).map(({ index, rowCount }) => {
      const part = ready[index];
      assert(part !== undefined, "the schedule takes from what it was shown");
      return this.#cut(part, rowCount);
    });
  }

  /** Forgets what waits of a session. */
  drop(session: Session): void {
    const dropped = this.#parts.filter((part) => part.session === session);
    if (dropped.length === 0) return;
    session.pendingCount -= dropped.length;
    this.#byteCount -= dropped.reduce((sum, part) => sum + part.data.length, 0);
    this.#parts = this.#parts.filter((part) => part.session !== session);
  }

  /** Takes the first rows of a part; the rest keeps its place. */
  #cut(part: Part, rowCount: number): Part {
    const at = this.#parts.indexOf(part);
    const bytes = (part.data.length / part.rowCount) * rowCount;
    this.#byteCount -= bytes;
    if (rowCount === part.rowCount) {
      this.#parts.splice(at, 1);
      return part;
    }
    part.session.pendingCount += 1; // one step is two now
    this.#parts[at] = {
      ...part,
      position: part.position + rowCount,
      rowCount: part.rowCount - rowCount,
      values: part.values.subarray(rowCount),
      data: part.data.subarray(bytes),
    };
    return {
      ...part,
      rowCount,
      sample: false,
      values: part.values.subarray(0, rowCount),
      data: part.data.subarray(0, bytes),
    };
  }
}
