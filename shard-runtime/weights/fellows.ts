/**
 * Pieces from other ranks of the model. A fellow that sends what is not the piece is left alone for the rest of this
 * process and reported; one that does not answer rests for a while, the longer the more often.
 */
import type { Clock } from "../../core/clock.ts";
import type { Range } from "../../core/ranges.ts";
import { RefusalError } from "../../core/result.ts";
import { askingOrder } from "./asking-order.ts";
import type { Arrival } from "./intake.ts";
import { type Piece, isPiece, shownPiece } from "./piece.ts";
import type { Trouble } from "./source-list.ts";

/** The way to one other rank. */
export interface FellowDoor {
  readonly name: string; // <namespace>/<model>-<chain>-<segment>-<rank>
  /** False where it is known, at no cost, that it does not listen yet. */
  isThere(): Promise<boolean>;
  /**
   * What it has of the pieces (leaves of one file), each with its place in the list; `fetch`: it shall get what it has
   * not. Throws where it does not answer, or refuses.
   */
  ask(path: string, pieces: readonly Range[], fetch: boolean): Promise<readonly { index: number; bytes: Uint8Array }[]>;
}

export type FellowsOptions = {
  readonly own: string; // this rank's name
  readonly doors: readonly FellowDoor[];
  readonly clock: Clock;
  readonly onTrouble: Trouble;
};

const REST_MS = 500;
const REST_MS_MAX = 300_000;
/** Of one that is there and still opens the model: together they begin sooner than either could again after a failure. */
const STARTING_REST_MS = 50;
/** How many are asked whether they happen to have what this rank would fetch itself. */
const AFTER_MAX = 2;

type Standing = { failureCount: number; restsUntilMs: number; banned: boolean };

export class Fellows {
  readonly #options: FellowsOptions;
  readonly #standings = new Map<string, Standing>();
  #byteCount = 0;
  #garbageCount = 0;

  constructor(options: FellowsOptions) {
    this.#options = options;
  }

  /** Bytes of pieces that came from fellows and were right. */
  get byteCount(): number {
    return this.#byteCount;
  }

  /** Pieces that came from fellows and were wrong. */
  get garbageCount(): number {
    return this.#garbageCount;
  }

  /** What fellows have, checked, of pieces of one file. `stretch` names them alike on all ranks. */
  async take(pieces: readonly Piece[], stretch: string): Promise<readonly Arrival[]> {
    const { own, doors } = this.#options;
    const order = askingOrder(
      own,
      doors.map(({ name }) => name),
      stretch,
    );
    const asks = [
      ...order.before.map((name) => ({ name, fetch: true })),
      ...order.after.slice(0, AFTER_MAX).map((name) => ({ name, fetch: false })),
    ];
    const arrivals: Arrival[] = [];
    let missing = pieces;
    for (const { name, fetch } of asks) {
      const door = doors.find((each) => each.name === name);
      if (missing.length === 0 || door === undefined || !this.#mayAsk(name) || !(await door.isThere())) continue;
      const came = await this.#ask(door, missing, fetch);
      arrivals.push(...came);
      const had = new Set(came.map(({ piece }) => piece));
      missing = missing.filter((piece) => !had.has(piece));
    }
    return arrivals;
  }

  async #ask(door: FellowDoor, pieces: readonly Piece[], fetch: boolean): Promise<readonly Arrival[]> {
    const { path } = pieces[0]?.file ?? { path: "" };
    const standing = this.#standingOf(door.name);
    const right: Arrival[] = [];
    try {
      for (const { index, bytes } of await door.ask(
        path,
        pieces.map(({ leaves }) => leaves),
        fetch,
      )) {
        const piece = pieces[index];
        if (piece === undefined || !isPiece(piece, bytes)) {
          this.#ban(door.name, standing, piece === undefined ? "a piece not asked for" : shownPiece(piece));
          break;
        }
        this.#byteCount += bytes.length;
        right.push({ piece, bytes });
      }
      standing.failureCount = 0;
    } catch (error) {
      this.#rest(door.name, standing, error);
    }
    return right;
  }

  #mayAsk(name: string): boolean {
    const { banned, restsUntilMs } = this.#standingOf(name);
    return !banned && this.#options.clock.monotonicMs() >= restsUntilMs;
  }

  /** Attacker: a rank that sends garbage costs each of its fellows one piece, once. */
  #ban(name: string, standing: Standing, what: string): void {
    standing.banned = true;
    this.#garbageCount += 1;
    this.#options.onTrouble("fellow-garbage", { fellow: name, piece: what });
  }

  #rest(name: string, standing: Standing, error: unknown): void {
    const nowMs = this.#options.clock.monotonicMs();
    if (error instanceof RefusalError && error.code === "NotServing") {
      standing.restsUntilMs = nowMs + STARTING_REST_MS;
      return;
    }
    standing.failureCount += 1;
    standing.restsUntilMs = nowMs + Math.min(REST_MS_MAX, REST_MS * 2 ** (standing.failureCount - 1));
    if (standing.failureCount > 1) return; // said once
    this.#options.onTrouble("fellow-away", {
      fellow: name,
      detail: error instanceof Error ? error.message : String(error),
    });
  }

  #standingOf(name: string): Standing {
    const known = this.#standings.get(name);
    if (known !== undefined) return known;
    const fresh = { failureCount: 0, restsUntilMs: Number.NEGATIVE_INFINITY, banned: false };
    this.#standings.set(name, fresh);
    return fresh;
  }
}
