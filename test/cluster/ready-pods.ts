/**
 * A kubelet that runs nothing: every rank pod is reported as ready as soon as it is there, by as many connections as
 * the loop has that it is compared with. It looks at names alone, so that what it costs is the server's answer.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { RANK_SELECTOR } from "../../operator/apply/labels.ts";
import { systemClock } from "../../operator/clock.ts";
import type { KubeClient } from "../../operator/kube/client.ts";
import { type KubeObject, PODS, pathOf } from "../../operator/kube/objects.ts";
import { Reflector } from "../../operator/kube/reflector.ts";

export type ReadyPods = {
  /** Pods there are now, and how many were ever seen. */
  readonly count: number;
  readonly seenCount: number;
  /** Pods reported so far. */
  readonly reportedCount: number;
  stop(): Promise<void>;
};

const LINE_COUNT = 16;
const TIMEOUT_MS = 30_000;
const now = () => new Date().toISOString().replace(/\.\d+Z/, "Z");

export async function startReadyPods(client: KubeClient): Promise<ReadyPods> {
  const waiting: KubeObject[] = [];
  const stop = new AbortController();
  const idle: (() => void)[] = [];
  const counts = { count: 0, seenCount: 0, reportedCount: 0 };
  const line = async () => {
    while (!stop.signal.aborted) {
      const pod = waiting.shift();
      if (pod === undefined) {
        await new Promise<void>((resolve) => idle.push(resolve));
        continue;
      }
      await report(client, pod, counts.reportedCount).catch(() => sleep(50)); // it is gone already
      counts.reportedCount += 1;
    }
  };
  const reflector = new Reflector({
    ...{ client, clock: systemClock(), resource: PODS, labelSelector: RANK_SELECTOR, isMetadataOnly: true },
    onChange: ({ type, object }) => {
      if (type === "deleted") counts.count -= 1;
      if (type !== "added") return;
      counts.count += 1;
      counts.seenCount += 1;
      waiting.push(object);
      idle.shift()?.();
    },
  });
  const running = reflector.run(stop.signal);
  await reflector.firstList;
  const lines = Array.from({ length: LINE_COUNT }, line);
  return Object.assign(counts, {
    async stop() {
      stop.abort(new Error("the bench is over"));
      for (const wake of idle.splice(0)) wake();
      await Promise.all([running, ...lines]);
    },
  });
}

async function report(client: KubeClient, { metadata }: KubeObject, index: number): Promise<void> {
  const podIP = `127.77.${Math.floor(index / 250) % 250}.${1 + (index % 250)}`;
  const conditions = ["PodScheduled", "ContainersReady", "Ready"].map((type) => ({ type, status: "True" }));
  const state = { running: { startedAt: now() } };
  const containers = [{ name: "rank", image: "none", imageID: "", ready: true, restartCount: 0, state, lastState: {} }];
  const status = { phase: "Running", podIP, podIPs: [{ ip: podIP }], conditions, containerStatuses: containers };
  const { namespace, name } = metadata;
  const response = await client.open({
    method: "PATCH",
    path: pathOf(PODS, { namespace, name, subresource: "status" }),
    body: { status },
    contentType: "application/merge-patch+json",
    signal: AbortSignal.timeout(TIMEOUT_MS),
  });
  for await (const _ of response); // what came of it is of no interest
}
