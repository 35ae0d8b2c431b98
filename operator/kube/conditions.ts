/** Conditions as Kubernetes has them: what a status says now, with the moment at which each last turned. */
import { isJsonObject } from "../../core/json.ts";

export type NewCondition = {
  readonly type: string;
  readonly status: "True" | "False" | "Unknown";
  readonly reason: string;
  readonly message: string;
};

export type StoredCondition = NewCondition & {
  readonly observedGeneration: number;
  readonly lastTransitionTime: string;
};

const MESSAGE_LENGTH_MAX = 4_000;

/** `now` where the status turned; where it did not, the time it had. */
export function withTimes(
  before: unknown,
  conditions: readonly NewCondition[],
  observedGeneration: number,
  nowMs: number,
): readonly StoredCondition[] {
  const known = new Map(
    (Array.isArray(before) ? before : []).filter(isJsonObject).map((condition) => [condition["type"], condition]),
  );
  const now = new Date(Math.floor(nowMs / 1000) * 1000).toISOString().replace(".000Z", "Z");
  return conditions.map(({ type, status, reason, message }) => {
    const old = known.get(type);
    const time = old?.["status"] === status ? old["lastTransitionTime"] : undefined;
    return {
      type,
      status,
      reason,
      message: message.slice(0, MESSAGE_LENGTH_MAX),
      observedGeneration,
      lastTransitionTime: typeof time === "string" ? time : now,
    };
  });
}

/** Conditions whose status or reason is another than before: what deserves an event. */
export function turned(before: unknown, conditions: readonly NewCondition[]): readonly NewCondition[] {
  const known = Array.isArray(before) ? before.filter(isJsonObject) : [];
  return conditions.filter(({ type, status, reason }) => {
    const old = known.find((condition) => condition["type"] === type);
    return old?.["status"] !== status || old["reason"] !== reason;
  });
}
