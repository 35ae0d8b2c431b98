/**
 * When a machine is measured: once each figure is missing or old, and only while nobody would feel it. Idle means that
 * nothing was signed for a minute, so that no session has just ended, and that few processors are busy, whoever with.
 */
import type { Clock } from "../../core/clock.ts";

/** What computes on a machine, as ShardNodes have it: those with the same are measured once. */
export type Part = { readonly device: string; readonly threadCount: number };

export type MachineFigures = {
  readonly memoryBytesPerSecond?: number;
  readonly layerTimes?: {
    readonly bytes: number;
    readonly oneMicros: number;
    readonly manyMicros: number;
    readonly manyRows: number;
  };
};
export type LinkFigures = { readonly roundTripMicros: number; readonly bytesPerSecond: number };
/** An agent that is not ours. */
export type Peer = { readonly address: string; readonly nodes: readonly string[] };

export type MeasuringDoors = {
  readonly clock: Clock;
  readonly machine: (part: Part) => Promise<MachineFigures>;
  readonly link: (address: string) => Promise<LinkFigures>;
  readonly busyShare: () => Promise<number>;
  /** When a signature was last given, by the clock; undefined: never. */
  readonly signedAtMs: () => number | undefined;
  readonly log: (event: string, fields?: Readonly<Record<string, unknown>>) => void;
};

type Kept<Figures> = { readonly figures: Figures | undefined; readonly atMs: number };

const MACHINE_AGE_MS = 7 * 86_400_000;
const LINK_AGE_MS = 86_400_000;
/** What failed is tried again after this. */
const FAILED_AGE_MS = 600_000;
const QUIET_MS = 60_000;
const BUSY_PAUSE_MS = 30_000;
const LOOK_PAUSE_MS = 1_000;

const keyOf = ({ device, threadCount }: Part): string => `${device}/${threadCount}`;

export class Measuring {
  readonly #doors: MeasuringDoors;
  readonly #busyShareMax: number;
  readonly #machine = new Map<string, Kept<MachineFigures>>();
  readonly #links = new Map<string, Kept<LinkFigures>>(); // by address
  #parts: readonly Part[] = [];
  #peers: readonly Peer[] = [];
  #busy = false;

  /** `busyShareMax`: of the processors' time, above which the machine counts as busy. */
  constructor(doors: MeasuringDoors, busyShareMax: number) {
    this.#doors = doors;
    this.#busyShareMax = busyShareMax;
  }

  /** What there is to measure now; figures of what is no longer there are forgotten. */
  told(parts: readonly Part[], peers: readonly Peer[]): void {
    this.#parts = parts;
    this.#peers = peers;
    const addresses = new Set(peers.map(({ address }) => address));
    for (const address of this.#links.keys()) if (!addresses.has(address)) this.#links.delete(address);
  }

  figuresOf(part: Part): MachineFigures | undefined {
    return this.#machine.get(keyOf(part))?.figures;
  }

  /** Since the oldest of what {@link figuresOf} and {@link links} give was measured. */
  ageMsOf(part: Part): number {
    const kept = [this.#machine.get(keyOf(part)), ...this.#links.values()].filter(
      (each) => each?.figures !== undefined,
    );
    const nowMs = this.#doors.clock.monotonicMs();
    return Math.max(0, ...kept.map((each) => nowMs - (each?.atMs ?? nowMs)));
  }

  /** The way to every node of every other machine that was measured. */
  links(): readonly (LinkFigures & { readonly to: string })[] {
    return this.#peers.flatMap(({ address, nodes }) => {
      const figures = this.#links.get(address)?.figures;
      return figures === undefined ? [] : nodes.map((to) => ({ to, ...figures }));
    });
  }

  /** Why something is still missing; empty where nothing is. */
  get doing(): string {
    if (this.#next() === undefined) return "";
    return this.#busy ? "waits until the machine is idle to measure it" : "measures";
  }

  /** Measures, one thing at a time, until `signal` aborts. */
  async run(signal: AbortSignal): Promise<void> {
    const { clock } = this.#doors;
    while (!signal.aborted) {
      const next = this.#next();
      this.#busy = next !== undefined && !(await this.#isIdle());
      if (next !== undefined && !this.#busy) await next();
      const pauseMs = this.#busy ? BUSY_PAUSE_MS : next === undefined ? LOOK_PAUSE_MS : 0;
      await clock.sleep(pauseMs, signal).catch(() => undefined);
    }
  }

  async #isIdle(): Promise<boolean> {
    const { clock, signedAtMs, busyShare } = this.#doors;
    const signedMs = signedAtMs();
    if (signedMs !== undefined && clock.monotonicMs() - signedMs < QUIET_MS) return false;
    return (await busyShare()) <= this.#busyShareMax;
  }

  #next(): (() => Promise<void>) | undefined {
    const { machine, link } = this.#doors;
    const part = this.#parts.find((each) => this.#isOld(this.#machine.get(keyOf(each)), MACHINE_AGE_MS));
    if (part !== undefined) {
      return () => this.#keep(this.#machine, keyOf(part), `the machine (${keyOf(part)})`, () => machine(part));
    }
    const peer = this.#peers.find(({ address }) => this.#isOld(this.#links.get(address), LINK_AGE_MS));
    if (peer === undefined) return undefined;
    const { address, nodes } = peer;
    return () => this.#keep(this.#links, address, `the way to ${nodes.join(", ")}`, () => link(address));
  }

  #isOld<Figures>(kept: Kept<Figures> | undefined, ageMsMax: number): boolean {
    if (kept === undefined) return true;
    const ageMs = this.#doors.clock.monotonicMs() - kept.atMs;
    return ageMs > (kept.figures === undefined ? FAILED_AGE_MS : ageMsMax);
  }

  async #keep<Figures>(
    map: Map<string, Kept<Figures>>,
    key: string,
    what: string,
    measure: () => Promise<Figures>,
  ): Promise<void> {
    const { clock, log } = this.#doors;
    const startMs = clock.monotonicMs();
    const before = map.get(key)?.figures;
    const figures = await measure().catch((error: unknown) => {
      log("measuring-trouble", { what, detail: error instanceof Error ? error.message : String(error) });
      return before;
    });
    const atMs = clock.monotonicMs();
    map.set(key, { figures, atMs });
    if (figures !== undefined && figures !== before) log("measured", { what, ...figures, tookMs: atMs - startMs });
  }
}
