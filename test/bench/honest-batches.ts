/** What each rank's engine did in a while, from its metrics, beside what was simulated: where a promise fails. */
import type { Outcome } from "../../operator/plan/simulate/house.ts";
import { rounded } from "./figures.ts";

/** Since the rank began. */
type Count = {
  readonly steps: number;
  readonly batches: number;
  readonly seconds: number;
  readonly cpuSeconds: number;
};

/** Of each rank, in the order of `addresses` (host:port of their metrics). */
export const countBatches = (addresses: readonly string[]): Promise<readonly Count[]> =>
  Promise.all(
    addresses.map(async (address) => {
      const text = await (await fetch(`http://${address}/metrics`)).text();
      const value = (name: string): number => Number(new RegExp(`^${name} (\\S+)$`, "m").exec(text)?.[1] ?? "0");
      return {
        steps: value("tessellate_steps_total"),
        batches: value("tessellate_step_seconds_count"),
        seconds: value("tessellate_step_seconds_sum"),
        cpuSeconds: value("process_cpu_seconds_total"),
      };
    }),
  );

/** One line a rank: sessions of a batch, milliseconds of a batch, share of the time in the engine; then the CPU's. */
export function measuredBatches(before: readonly Count[], after: readonly Count[], seconds: number): readonly string[] {
  return after.map((now, index) => {
    const { steps = 0, batches = 0, seconds: busy = 0, cpuSeconds = 0 } = before[index] ?? {};
    const count = Math.max(1, now.batches - batches);
    const cpu = `CPU ${rounded((now.cpuSeconds - cpuSeconds) / seconds)}`;
    return `${lineOf((now.steps - steps) / count, (now.seconds - busy) / count, (now.seconds - busy) / seconds)}, ${cpu}`;
  });
}

/** The same of what was simulated, a line a segment. */
export const simulatedBatches = ({ stations, seconds }: Outcome): readonly string[] =>
  stations.map(({ sessionsPerBatch, utilisation, batchCount }) =>
    lineOf(sessionsPerBatch, (utilisation * seconds) / Math.max(1, batchCount), utilisation),
  );

const lineOf = (sessions: number, seconds: number, busy: number): string =>
  `${rounded(sessions)} sessions in ${rounded(1000 * seconds)} ms, busy ${rounded(busy)}`;
