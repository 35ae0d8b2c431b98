/**
 * An API server that is away for minutes, and every operator with it, since none holds a lease: what was placed stays
 * placed, and nothing is written when it is back. Ranks are reported by the test; that real ones answer meanwhile is what
 * test/e2e shows.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { ModelCase } from "../cluster/model-case.ts";
import { startModelWorld } from "../cluster/model-world.ts";
import { startOperator } from "../cluster/running-operator.ts";
import { untilFound } from "../until.ts";
import { atMost, rounded } from "./figures.ts";

const MODELS = 10;
/** After its return: longer than a look at everything takes, and than figures for people wait. */
const WATCHED_MS = 60_000;

export async function away(minutes: number) {
  const world = await startModelWorld();
  let operator = await startOperator(world.cluster, "before");
  try {
    const cases = Array.from({ length: MODELS }, (_, index) => new ModelCase(world, `away-${index}`));
    for (const each of cases) await each.create({ spares: 1, placement: { providers: { min: 2, maxShare: "50%" } } });
    for (const each of cases) await each.turned("Ready", "Serving");
    await sleep(10_000); // figures for people
    const standing = () => Promise.all(cases.map(async (each) => [await each.ranks(), (await each.plan())?.spec]));
    const before = JSON.stringify(await standing());
    const { apiServer } = world.cluster;
    await apiServer.stop();
    await sleep(minutes * 60_000);
    await operator.stop();
    await apiServer.start();
    const backMs = performance.now();
    operator = await startOperator(world.cluster, "after");
    await untilFound(
      "another leader",
      () => operator.events.some(({ event }) => event === "leads"),
      (leads) => leads,
    );
    const leadsMs = performance.now() - backMs;
    await sleep(WATCHED_MS);
    const { writes } = operator.client;
    const moved = JSON.stringify(await standing()) === before ? 0 : 1;
    const counts = new Map<string, number>();
    for (const write of writes) {
      const kind = write.replace(/\/namespaces\/[^/]+/, "").replace(/^(\S+) .*\/(\w+)\/[^/]+(\/status)?$/, "$1 $2$3");
      counts.set(kind, (counts.get(kind) ?? 0) + 1);
    }
    return {
      requirements: [
        atMost(`ranks or plans that are others after ${minutes} min`, moved, 0, ""),
        atMost(
          "pods and plans written after its return",
          writes.filter((each) => /pods|shardplans\/[^/]+$/.test(each)).length,
          0,
          "",
        ),
      ],
      table: [
        ["minutes without an API server", String(minutes)],
        ["models of two ranks and a spare", String(MODELS)],
        ["another leads after its return", `${rounded(leadsMs / 1000)} s`],
        ...[...counts].sort().map(([kind, count]) => [`written in the minute after: ${kind}`, String(count)]),
      ],
      notes: [`${writes.length} writes in the minute after its return, leases apart.`],
    };
  } finally {
    await operator.stop();
    await world.stop();
  }
}
