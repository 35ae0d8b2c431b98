/**
 * Loaded into the operator's process by `--import`, before anything else: notes when its copies learn of each version,
 * when the work on each key begins, and how late its loop is. Written to TESSELLATE_BENCH_PROBE as the process ends.
 * Times are the machine's monotonic clock, which is the same in all processes.
 */
import { writeFileSync } from "node:fs";
import { isMainThread } from "node:worker_threads";
import { ObjectsHeld } from "../../operator/kube/objects-held.ts";
import { type KubeObject, keyOf } from "../../operator/kube/objects.ts";
import { WorkQueue } from "../../operator/kube/queue.ts";
import type { Late } from "./lateness.ts";

export const SAMPLE_MS = 2;
/** A run of a few minutes at the sampler's pace, or of many events. */
const NOTED_COUNT_MAX = 1_000_000;

export type Probed = {
  /** By resource version, or `gone NAMESPACE/NAME`: when the copy had it. */
  readonly seen: readonly (readonly [string, number])[];
  /** By key of the work: when it began. */
  readonly begun: readonly (readonly [string, number])[];
  readonly late: readonly Late[];
};

/** Milliseconds by the machine's monotonic clock. */
export const machineMs = (): number => Number(process.hrtime.bigint() / 1_000n) / 1_000;

function probe(file: string): void {
  const seen: [string, number][] = [];
  const begun: [string, number][] = [];
  const late: Late[] = [];
  const note = (list: [string, number][], key: string) =>
    list.length < NOTED_COUNT_MAX && list.push([key, machineMs()]);

  const { take } = WorkQueue.prototype;
  WorkQueue.prototype.take = async function (this: WorkQueue) {
    const key = await take.call(this);
    if (key !== undefined) note(begun, key);
    return key;
  };
  const { put, remove } = ObjectsHeld.prototype;
  ObjectsHeld.prototype.put = function (this: ObjectsHeld, object: KubeObject) {
    note(seen, object.metadata.resourceVersion ?? "");
    put.call(this, object);
  };
  ObjectsHeld.prototype.remove = function (this: ObjectsHeld, key: string, last?: KubeObject) {
    note(seen, `gone ${last === undefined ? key : keyOf(last)}`);
    remove.call(this, key, last);
  };

  let dueMs = machineMs() + SAMPLE_MS;
  setInterval(() => {
    const atMs = machineMs();
    if (late.length < NOTED_COUNT_MAX) late.push({ atMs, lateMs: Math.max(0, atMs - dueMs) });
    dueMs = atMs + SAMPLE_MS;
  }, SAMPLE_MS).unref();
  process.on("exit", () => writeFileSync(file, JSON.stringify({ seen, begun, late } satisfies Probed)));
}

const file = process.env["TESSELLATE_BENCH_PROBE"];
if (file !== undefined && isMainThread) probe(file);
