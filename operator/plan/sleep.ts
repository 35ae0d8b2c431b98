/**
 * When a model sleeps. Its plan stands while its ranks are gone, so that it wakes where the nodes' caches hold it still.
 * It falls asleep only by the word of every gateway, and its ranks end only once every gateway has stopped opening
 * sessions: a request that comes in between finds it asleep, says so, and wakes it before anything was lost. Whoever
 * sets replicas to 0 has turned it off: then no request wakes it.
 */
import { scaledToZero } from "./conditions.ts";
import type { Action, Condition, Demand, ModelSpec, Plan, Sleep, StandingPlan, World } from "./types.ts";

/** What one gateway said last of one model. */
export type GatewayReport = {
  readonly waitingCount: number;
  readonly sessionCount: number;
  readonly idleSeconds: number;
  readonly asleep: boolean; // as it was told
};

/**
 * What all gateways say together. `reports`: one for every gateway that there is; undefined for one that does not answer
 * or does not know the model, which may be serving somebody: then nothing falls asleep and nothing is let go.
 */
export function demandIn(reports: readonly (GatewayReport | undefined)[], { idle }: Pick<ModelSpec, "idle">): Demand {
  const known = reports.filter((report) => report !== undefined);
  const isComplete = known.length === reports.length;
  return {
    isAsked: known.some(({ waitingCount }) => waitingCount > 0),
    isIdle:
      isComplete &&
      known.length > 0 && // without a gateway nobody has had the chance to ask
      idle !== undefined &&
      known.every((report) => isAtRest(report) && report.idleSeconds >= idle.afterSeconds),
    isLetGo: isComplete && known.every((report) => report.asleep && isAtRest(report)),
  };
}

const isAtRest = ({ waitingCount, sessionCount }: GatewayReport): boolean => waitingCount + sessionCount === 0;

/** Why the model is to sleep now; undefined: it is to run. */
export function sleepOf({ model, demand, previous }: World): Sleep | undefined {
  if (model.replicas === 0) return "TurnedOff";
  if (model.idle === undefined) return undefined;
  if (previous?.asleep === "Idle") return demand?.isAsked === true ? undefined : "Idle";
  return previous !== undefined && demand?.isIdle === true ? "Idle" : undefined;
}

/** What is to be done and said of a model that sleeps. `kept`: its plan in force. */
export function sleeping({ model, ranks, demand }: World, kept: StandingPlan, asleep: Sleep): Plan {
  // Until the plan says so, gateways do not know; and nobody to be asked is nobody to be cut off.
  const mayEnd = kept.asleep !== undefined && (demand === undefined || demand.isLetGo);
  const running = ranks.filter(({ phase }) => phase !== "Leaving");
  const due = mayEnd ? running : running.filter(({ phase }) => phase === "Failed" || phase === "Lost");
  const actions = due.map(({ name }): Action => ({ do: "delete-rank", name, why: "the model sleeps" }));
  const chainCount = new Set(kept.assignments.map(({ chain }) => chain)).size;
  return {
    revision: kept.revision,
    placement: undefined,
    asleep,
    actions,
    conditions: [
      {
        type: "Planned",
        status: "True",
        reason: "Placed",
        message: `the plan stands for when it wakes: ${chainCount === 1 ? "1 chain" : `${chainCount} chains`}`,
      },
      {
        type: "WeightsReady",
        status: "False",
        reason: ranks.length === 0 ? "Asleep" : "Leaving",
        message: ranks.length === 0 ? "no rank runs" : "ranks end once no session runs on them",
      },
      readinessOf(model, asleep),
    ],
    readyChainCount: 0,
  };
}

/** Ready says whether what is asked for is there: the request of a model that sleeps is answered, only later. */
function readinessOf({ idle }: ModelSpec, asleep: Sleep): Condition {
  return asleep === "TurnedOff"
    ? scaledToZero()
    : {
        type: "Ready",
        status: "True",
        reason: "Asleep",
        message: `nobody asked for ${idle?.afterSeconds} s; the next request wakes it, waits meanwhile and is answered`,
      };
}
