/**
 * How late the operator's event loop is while it plans: in its own loop, as it once did, and in the planner's thread.
 * Each world is planned afresh, then once more with the plan in force, as at every look at a settled model.
 */
import { monitorEventLoopDelay } from "node:perf_hooks";
import { setTimeout as sleep } from "node:timers/promises";
import { type Planner, planInPlace } from "../../operator/apply/planner.ts";
import { PlannerThread } from "../../operator/apply/planner-thread.ts";
import { systemClock } from "../../operator/clock.ts";
import { inForce } from "../../operator/plan/standing-world.ts";
import { type BenchResult, atMost, rounded } from "./figures.ts";
import { anUnlikeWorld } from "./plan-nodes.ts";

const NODE_COUNTS = [40, 200, 1_000] as const;
const TIMES = 3;
const LIMIT_MS = 50;

export async function plannedBeside(): Promise<Pick<BenchResult, "requirements" | "table" | "notes">> {
  const thread = new PlannerThread({ clock: systemClock() });
  try {
    await lagOf(thread, 100); // it starts with the first world
    const requirements = [];
    const table: string[][] = [];
    for (const count of NODE_COUNTS) {
      const [inLoop, beside] = [await lagOf(planInPlace, count), await lagOf(thread, count)];
      requirements.push(
        atMost(`event loop late, p99, while ${count} nodes are planned with`, beside.p99, LIMIT_MS, "ms"),
      );
      table.push(
        [`${count} nodes: p99 and the latest, planned in the loop`, `${inLoop.p99} and ${inLoop.latest} ms`],
        [`${count} nodes: p99 and the latest, planned in a thread`, `${beside.p99} and ${beside.latest} ms`],
        [`${count} nodes: a fresh plan, in the loop and in a thread`, `${inLoop.freshMs} and ${beside.freshMs} ms`],
        [`${count} nodes: the same world again`, `${inLoop.againMs} and ${beside.againMs} ms`],
      );
    }
    return { requirements, table, notes: [`Each world was planned ${TIMES} times over, with a change each time.`] };
  } finally {
    await thread.close();
  }
}

type Lag = { readonly p99: number; readonly latest: number; readonly freshMs: number; readonly againMs: number };

async function lagOf(planner: Planner, nodeCount: number): Promise<Lag> {
  const world = anUnlikeWorld(nodeCount, 1);
  const delay = monitorEventLoopDelay({ resolution: 1 });
  const fresh: number[] = [];
  const again: number[] = [];
  delay.enable();
  for (let time = 0; time < TIMES; time++) {
    const asked = { ...world, model: { ...world.model, generation: 100 * nodeCount + time } };
    const [decided, freshMs] = await timed(() => planner.plan(asked));
    delay.disable();
    const standing = inForce(asked, decided);
    await sleep(5);
    delay.enable();
    await planner.plan(standing);
    const [, againMs] = await timed(() => planner.plan(standing));
    fresh.push(freshMs);
    again.push(againMs);
    await sleep(10);
  }
  delay.disable();
  return {
    p99: rounded(delay.percentile(99) / 1e6),
    latest: rounded(delay.max / 1e6),
    freshMs: rounded(Math.min(...fresh)),
    againMs: rounded(Math.min(...again)),
  };
}

async function timed<T>(work: () => Promise<T>): Promise<readonly [T, number]> {
  const startMs = performance.now();
  const found = await work();
  return [found, performance.now() - startMs];
}
