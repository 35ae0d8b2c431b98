/** What is said of a model while chains of several revisions stand. */
import { readiness, weightsReady } from "./conditions.ts";
import type { NotWanted } from "./decide.ts";
import { saidOfBetter } from "./moving.ts";
import { EMPTY, type Walk, isMove } from "./rolling-room.ts";
import type { Views } from "./rolling-views.ts";
import type { RollStep } from "./rollout.ts";
import { routesOf } from "./routes.ts";
import { plannedSentence } from "./words/plan-words.ts";
import type { Condition, ModelSpec, Plan } from "./types.ts";

export type Go = Extract<RollStep, { readonly do: "go" }>;

export type Said = {
  readonly views: Views;
  readonly draining: readonly number[];
  readonly unproven: readonly number[];
  readonly note: string | undefined;
};

export function saidOf(
  walk: Walk,
  model: ModelSpec,
  { views, draining, note }: Said,
): Pick<Plan, "conditions" | "readyChainCount"> {
  const { world, target, outgoing } = walk;
  const next = views.next.filter(({ isReady }) => isReady);
  const old = views.old.filter(({ state }) => state === "Ready");
  const numbers = (chains: readonly { readonly chain: number }[]) => chains.map(({ chain }) => chain);
  const serving = [...numbers(next.filter(({ isProven }) => isProven)), ...numbers(old)];
  const open = serving.filter((chain) => !draining.includes(chain));
  const all = [target, ...outgoing].flatMap(({ plan }) => plan.assignments);
  const sentence = routesOf(target.plan).length === 0 ? "" : plannedSentence({ ...EMPTY, ...target.plan });
  return {
    conditions: [
      saidOfBetter(
        { type: "Planned", status: "True", reason: "Placed", message: sentence || "the next revision is to be placed" },
        target.plan.better,
      ),
      weightsReady(model, all, world.ranks),
      readiness({ ...world, model }, [...numbers(next), ...numbers(old)], serving),
      upToDate(walk, next.filter(({ isProven }) => isProven).length, note),
    ],
    readyChainCount: Math.min(open.length, Math.max(world.model.replicas, 0)),
  };
}

export const waitsAs = (note: string): Condition => ({
  type: "UpToDate",
  status: "False",
  reason: note.startsWith("a plan waits") ? "AwaitsApproval" : "NoRoomToRoll",
  message: note,
});

export function upToDate(
  { world, target, outgoing, refused }: Walk,
  updatedCount: number,
  note: string | undefined,
): Condition {
  const no = (reason: string, message: string): Condition => ({ type: "UpToDate", status: "False", reason, message });
  const { revision } = target.plan;
  const count = `${updatedCount} of ${world.model.replicas} chains serve revision ${revision}`;
  if (note !== undefined) return waitsAs(note);
  const left = outgoing.reduce((sum, { plan }) => sum + routesOf(plan).length, 0);
  if (refused !== undefined) {
    const words = `revision ${refused.revision} was taken back: ${refused.why}; it is tried again once the spec asks for something else`;
    return no(left > 0 ? "RollingBack" : "RolledBack", left > 0 ? `${words}; ${count}` : words);
  }
  if (outgoing.length > 0 && !isMove({ target, outgoing }))
    return no("RollingOut", `${count}; ${left} of an earlier one are still there`);
  return {
    type: "UpToDate",
    status: "True",
    reason: "AsAsked",
    message: "all chains are of the revision that is asked for",
  };
}

/** Why a rollout stands still, and what would let it go on. */
export function blockedWords({ maxUnavailable }: NonNullable<Go["blocked"]>, refusal: NotWanted | undefined): string {
  const why = `no chain of the next revision finds room beside those that serve: ${refusal?.detail ?? "all places are taken"}`;
  if (maxUnavailable === undefined) return `${why}; nor would it if they were gone`;
  return `${why}; spec.update.maxUnavailable: ${maxUnavailable} would let it be done, with fewer chains for a while`;
}
