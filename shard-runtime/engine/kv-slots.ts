/** Which session holds which KV slot, and how far it is. The lowest free slot goes first, so that batches stay dense. */
import { present } from "../../core/assert.ts";
import { type Result, ok, refuse } from "../../core/result.ts";
import type { EngineCode } from "./engine.ts";

type Held = { readonly slot: number; position: number };

export class KvSlots {
  readonly #sessions = new Map<string, Held>();
  readonly #free: number[];
  readonly slotCount: number;

  constructor(slotCount: number) {
    this.slotCount = slotCount;
    this.#free = Array.from({ length: slotCount }, (_, slot) => slot);
  }

  get freeCount(): number {
    return this.#free.length;
  }

  acquire(session: string): Result<undefined, EngineCode> {
    if (this.#sessions.has(session)) return ok(undefined);
    const slot = this.#free.shift();
    if (slot === undefined)
      return refuse("NoFreeSlot", `all ${this.slotCount} KV slots are taken; try again, or raise the model's slots`);
    this.#sessions.set(session, { slot, position: 0 });
    return ok(undefined);
  }

  release(session: string): void {
    const held = this.#sessions.get(session);
    if (held === undefined) return;
    this.#sessions.delete(session);
    this.#free.push(held.slot);
    this.#free.sort((a, b) => a - b);
  }

  /** Slot and next position, or undefined where the session has none. */
  find(session: string): Readonly<Held> | undefined {
    return this.#sessions.get(session);
  }

  advance(session: string, rowCount: number): void {
    present(this.#sessions.get(session), "only sessions with a slot advance").position += rowCount;
  }

  /** Next position of every slot, 0 where it is free. */
  nextPositions(): number[] {
    const positions = new Array<number>(this.slotCount).fill(0);
    for (const { slot, position } of this.#sessions.values()) positions[slot] = position;
    return positions;
  }
}
