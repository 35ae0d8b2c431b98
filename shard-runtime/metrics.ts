/** What a rank counts. No labels but states: a rank is one time series of each, its name comes from the scrape. */
import { Counter, Gauge, Histogram, Registry, collectDefaultMetrics } from "prom-client";
import type { Meters } from "./transport/meters.ts";

const ROWS = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512];
const SECONDS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10];

export type Gauges = {
  readonly slots: () => { readonly free: number; readonly used: number };
  readonly fetchedBytes: () => number; // never falls
  readonly fromFellows: () => { readonly byteCount: number; readonly garbageCount: number }; // neither falls
  readonly serving: () => boolean;
};

export class Metrics implements Meters {
  readonly registry = new Registry();
  readonly #steps = new Counter({ name: "tessellate_steps_total", help: "Steps run.", registers: [this.registry] });
  readonly #rows = new Histogram({
    name: "tessellate_batch_rows",
    help: "Rows of a batch.",
    buckets: ROWS,
    registers: [this.registry],
  });
  readonly #seconds = new Histogram({
    name: "tessellate_step_seconds",
    help: "Time of one batch in the engine, exchanges with the segment's other ranks included.",
    buckets: SECONDS,
    registers: [this.registry],
  });

  /** `gauges`: asked at each scrape. */
  constructor(gauges: Gauges) {
    collectDefaultMetrics({ register: this.registry });
    new Gauge({
      name: "tessellate_kv_slots",
      help: "KV slots by state (free, used).",
      labelNames: ["state"],
      registers: [this.registry],
      collect() {
        const { free, used } = gauges.slots();
        this.set({ state: "free" }, free);
        this.set({ state: "used" }, used);
      },
    });
    new Gauge({
      name: "tessellate_rank_serving",
      help: "1 where the rank takes sessions.",
      registers: [this.registry],
      collect() {
        this.set(gauges.serving() ? 1 : 0);
      },
    });
    const counters = [
      [
        "tessellate_bytes_fetched_total",
        "Bytes of the model that came from its source, repeats included.",
        gauges.fetchedBytes,
      ],
      [
        "tessellate_bytes_from_fellows_total",
        "Bytes of the model that came from other ranks.",
        () => gauges.fromFellows().byteCount,
      ],
      [
        "tessellate_fellow_garbage_total",
        "Pieces from other ranks that were not the model's.",
        () => gauges.fromFellows().garbageCount,
      ],
    ] as const;
    for (const [name, help, read] of counters) this.#count(name, help, read);
  }

  /** A counter of something that is counted elsewhere. */
  #count(name: string, help: string, read: () => number): void {
    let seen = 0;
    new Counter({
      name,
      help,
      registers: [this.registry],
      collect() {
        const now = read();
        this.inc(Math.max(0, now - seen));
        seen = Math.max(now, seen);
      },
    });
  }

  batch(stepCount: number, rowCount: number, seconds: number): void {
    this.#steps.inc(stepCount);
    this.#rows.observe(rowCount);
    this.#seconds.observe(seconds);
  }
}
