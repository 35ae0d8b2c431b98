/** Models that nobody touches: processor time by the minute, memory, and what is written. */
import { setTimeout as sleep } from "node:timers/promises";
import { installOperatorAccount } from "../cluster/operator-account.ts";
import { startOperatorProcess } from "../cluster/operator-process.ts";
import { startReadyPods } from "../cluster/ready-pods.ts";
import { RANK_COUNT, startScaleWorld, writesBetween } from "../cluster/scale-world.ts";
import { until } from "../until.ts";
import { type BenchResult, atMost, rounded } from "./figures.ts";
import { memoryOf } from "./machine.ts";
import { atRest } from "./operator-at-rest.ts";

const MODEL_COUNT = 300;
const NODE_COUNT = 1_000;
const MIB = 2 ** 20;
const PATIENCE_MS = 240_000;
/** Looks at what is settled come at moments of chance: minutes differ, and do not grow. */
const GROWTH_MAX = 1.5;
const CPU_SECONDS_MAX = 3; // a minute: a twentieth of a core

type Minute = { readonly cpuSeconds: number; readonly rssMib: number };

export async function rested(minutes = 6): Promise<Pick<BenchResult, "requirements" | "table" | "notes">> {
  const world = await startScaleWorld(NODE_COUNT);
  const kubelet = await startReadyPods(world.client);
  const account = await installOperatorAccount(world.cluster);
  const operator = await startOperatorProcess(world.cluster, "rest", { account });
  try {
    await world.createModels(MODEL_COUNT);
    const isThere = () => kubelet.reportedCount >= MODEL_COUNT * RANK_COUNT;
    await until("every rank is there", isThere, { timeoutMs: PATIENCE_MS });
    await atRest(operator);
    const writesBefore = await world.writes();
    const passed: Minute[] = [];
    for (let minute = 0; minute < minutes; minute++) {
      const before = operator.cpuSeconds();
      await sleep(60_000);
      passed.push({ cpuSeconds: operator.cpuSeconds() - before, rssMib: memoryOf(operator.pid, "VmRSS") / MIB });
      console.error(JSON.stringify(passed.at(-1)));
    }
    return foundOf(passed, writesBetween(writesBefore, await world.writes()));
  } finally {
    await operator.stop();
    await kubelet.stop();
    await world.stop();
  }
}

function foundOf(
  passed: readonly Minute[],
  written: ReadonlyMap<string, number>,
): Pick<BenchResult, "requirements" | "table" | "notes"> {
  const [first, last] = [passed[0]?.cpuSeconds ?? 0, passed.at(-1)?.cpuSeconds ?? 0];
  const shown = (values: readonly number[]) => values.map((value) => String(rounded(value))).join(", ");
  return {
    requirements: [
      atMost("processor time of the last minute over the first's", last / first, GROWTH_MAX, ""),
      atMost(
        "processor time of the dearest minute",
        Math.max(...passed.map((each) => each.cpuSeconds)),
        CPU_SECONDS_MAX,
        "s",
      ),
      atMost(
        "writes",
        [...written.values()].reduce((sum, count) => sum + count, 0),
        0,
        "",
      ),
    ],
    table: [
      ["processor time of each minute", `${shown(passed.map((each) => each.cpuSeconds))} s`],
      ["memory after each", `${shown(passed.map((each) => each.rssMib))} MiB`],
    ],
    notes: [`${MODEL_COUNT} models of ${RANK_COUNT} ranks on ${NODE_COUNT} nodes, fenced, with the chart's rights.`],
  };
}
