/** An operator that has come to rest: nothing waits, and it has used next to nothing for a while. */
import { setTimeout as sleep } from "node:timers/promises";
import type { OperatorProcess } from "../cluster/operator-process.ts";
import { until } from "../until.ts";

const QUIET_MS = 1_500;
const PATIENCE_MS = 240_000;
const SHARE = 0.1; // of a core

/** Throws where that does not come within four minutes. */
export async function atRest(operator: OperatorProcess): Promise<void> {
  let before = operator.cpuSeconds();
  const rests = async () => {
    await sleep(QUIET_MS);
    const used = operator.cpuSeconds() - before;
    before += used;
    const nothingWaits = /^tessellate_work_queue_depth 0$/m.test(await operator.scrape());
    return nothingWaits && used < (SHARE * QUIET_MS) / 1_000;
  };
  await until("the operator comes to rest", rests, { timeoutMs: PATIENCE_MS });
}
