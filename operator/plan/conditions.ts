/** What is said of a plan: whether there is one, whether its ranks hold their shards, whether it serves. */
import { rankName } from "./names.ts";
import type { Assignment, Condition, ModelSpec, RankState, World } from "./types.ts";

export const hasPassed = ({ probes }: World, chain: number): boolean =>
  probes.some((probe) => probe.chain === chain && probe.passed);

export function weightsReady(model: ModelSpec, wanted: readonly Assignment[], ranks: readonly RankState[]): Condition {
  const byName = new Map(ranks.map((rank) => [rank.name, rank]));
  const waiting = wanted
    .map((assignment) => rankName(model, assignment))
    .filter((name) => byName.get(name)?.phase !== "Ready");
  if (waiting.length === 0)
    return {
      type: "WeightsReady",
      status: "True",
      reason: "Loaded",
      message: `${wanted.length} ranks hold their shards`,
    };
  const shown = waiting.slice(0, 3).map((name) => `${name}: ${byName.get(name)?.detail || "not started"}`);
  const more = waiting.length > shown.length ? `; and ${waiting.length - shown.length} more` : "";
  return {
    type: "WeightsReady",
    status: "False",
    reason: "Loading",
    message: `${wanted.length - waiting.length} of ${wanted.length} ranks; ${shown.join("; ")}${more}`,
  };
}

/** As a Deployment of no replicas is available: nothing that was asked for is missing, and nobody waits for more. */
export const scaledToZero = (): Condition => ({
  type: "Ready",
  status: "True",
  reason: "ScaledToZero",
  message: "spec.replicas is 0: nothing is to run, and requests are refused",
});

export function readiness({ model, probes }: World, ready: readonly number[], serving: readonly number[]): Condition {
  const no = (reason: string, message: string): Condition => ({ type: "Ready", status: "False", reason, message });
  if (serving.length > 0) {
    const message = `${serving.length} of ${model.replicas} chains serve`;
    return { type: "Ready", status: "True", reason: "Serving", message };
  }
  if (model.replicas === 0) return scaledToZero();
  if (ready.length === 0) return no("RanksStarting", "no chain is complete yet");
  const failed = probes.find(({ chain, passed }) => !passed && ready.includes(chain));
  if (failed !== undefined) return no("ProbeFailed", `chain ${failed.chain}: ${failed.detail}`);
  return no(
    "Probing",
    `${ready.length === 1 ? "chain" : "chains"} ${ready.join(", ")} complete; a request is going through`,
  );
}
