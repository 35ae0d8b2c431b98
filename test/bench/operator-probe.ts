/**
 * Loaded into the operator's process by `--import`, before anything else: notes when its copies learn of each version,
 * when the work on each key begins, and how late its loop is. Written to TESSELLATE_BENCH_PROBE as the process ends.
 * Times are the machine's monotonic clock, which is the same in all processes.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { PerformanceObserver } from "node:perf_hooks";
import { isMainThread } from "node:worker_threads";
import { KubeCluster } from "../../operator/apply/kube-cluster.ts";
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
  /** By key of the work: when somebody took it up. */
  readonly taken: readonly (readonly [string, number])[];
  /** By key of the work: when it began. Who took up a model waits for a turn of the loop first. */
  readonly begun: readonly (readonly [string, number])[];
  readonly late: readonly Late[];
  /** Pauses of the garbage collector: when each began, and milliseconds. */
  readonly collected: readonly (readonly [number, number])[];
};

/** Milliseconds by the machine's monotonic clock. */
export const machineMs = (): number => Number(process.hrtime.bigint() / 1_000n) / 1_000;

/** For how long this thread was ready to run and other processes had the cores. */
function coreWaitMs(): number {
  const [, waitNanos] = readFileSync("/proc/thread-self/schedstat", "utf8").split(" ");
  return Number(waitNanos) / 1e6;
}

function probe(file: string): void {
  const seen: [string, number][] = [];
  const taken: [string, number][] = [];
  const begun: [string, number][] = [];
  const late: Late[] = [];
  const note = (list: [string, number][], key: string) =>
    list.length < NOTED_COUNT_MAX && list.push([key, machineMs()]);

  const { take } = WorkQueue.prototype;
  WorkQueue.prototype.take = async function (this: WorkQueue) {
    const key = await take.call(this);
    if (key !== undefined) note(taken, key);
    if (key?.startsWith("model/") === false) note(begun, key);
    return key;
  };
  const { observe } = KubeCluster.prototype;
  KubeCluster.prototype.observe = function (this: KubeCluster, key: string) {
    note(begun, `model/${key}`);
    return observe.call(this, key);
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

  const collected: [number, number][] = [];
  const sinceMs = machineMs() - performance.now();
  new PerformanceObserver((list) => {
    for (const { startTime, duration } of list.getEntries()) collected.push([sinceMs + startTime, duration]);
  }).observe({ entryTypes: ["gc"] });
  let dueMs = machineMs() + SAMPLE_MS;
  let waitedMs = coreWaitMs();
  setInterval(() => {
    const atMs = machineMs();
    const lateMs = Math.max(0, atMs - dueMs);
    const waitMs = coreWaitMs() - waitedMs;
    if (late.length < NOTED_COUNT_MAX) late.push({ atMs, lateMs, ownMs: Math.max(0, lateMs - waitMs) });
    waitedMs += waitMs;
    dueMs = atMs + SAMPLE_MS;
  }, SAMPLE_MS).unref();
  process.on("exit", () =>
    writeFileSync(file, JSON.stringify({ seen, taken, begun, late, collected } satisfies Probed)),
  );
}

const file = process.env["TESSELLATE_BENCH_PROBE"];
if (file !== undefined && isMainThread) probe(file);
