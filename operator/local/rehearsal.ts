/**
 * Annotations of a ShardNode that let this machine play a slower or more distant one. Local mode only: in a cluster they
 * mean nothing.
 */
import type { ShardNode } from "../../core/gen/crds/shardnode.ts";
import { parseQuantity } from "../../core/quantity.ts";
import type { Rehearsal } from "../../core/rank-config.ts";
import { RefusalError, refuse } from "../../core/result.ts";

const PREFIX = "rehearsal.tessellate.dev/";
export const BANDWIDTH_ANNOTATION = `${PREFIX}bytes-per-second`;
export const ARITHMETIC_ANNOTATION = `${PREFIX}row-bytes-per-second`;
export const DELAY_ANNOTATION = `${PREFIX}send-delay-ms`;

/** Faster than any machine: what is not asked for holds nothing up. */
const UNBOUNDED = 1e18;
const DELAY_MS_MAX = 10_000;

/** Undefined where the node plays nobody but itself. Throws a RefusalError (BadRehearsal) that names the annotation. */
export function rehearsalOf({ metadata }: ShardNode): Rehearsal | undefined {
  const annotations = metadata.annotations ?? {};
  if (!Object.keys(annotations).some((name) => name.startsWith(PREFIX))) return undefined;
  const refused = (name: string, wanted: string): RefusalError => {
    const detail = `ShardNode ${metadata.name}: annotation ${name} is "${annotations[name]}", give ${wanted}`;
    return new RefusalError(refuse("BadRehearsal", detail));
  };
  const rate = (name: string): number => {
    const text = annotations[name];
    if (text === undefined) return UNBOUNDED;
    const parsed = parseQuantity(text);
    if (!parsed.ok || parsed.value <= 0) throw refused(name, "a quantity of bytes above 0, such as 800M");
    return parsed.value;
  };
  const delayMs = Number(annotations[DELAY_ANNOTATION] ?? "0");
  if (!(Number.isInteger(delayMs) && delayMs >= 0 && delayMs <= DELAY_MS_MAX))
    throw refused(DELAY_ANNOTATION, `whole milliseconds up to ${DELAY_MS_MAX}`);
  return {
    bytesPerSecond: rate(BANDWIDTH_ANNOTATION),
    rowBytesPerSecond: rate(ARITHMETIC_ANNOTATION),
    sendDelayMs: delayMs,
  };
}
