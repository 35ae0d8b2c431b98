/**
 * A kubelet that runs nothing: every rank pod is reported as ready as soon as it is there, by as many connections as
 * the loop has that it is compared with. It looks at names alone, so that what it costs is the server's answer.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { RANK_SELECTOR } from "../../operator/apply/labels.ts";
import type { KubeClient } from "../../operator/kube/client.ts";
import { type KubeObject, PODS, pathOf } from "../../operator/kube/objects.ts";
import { linesOf, parseEvent } from "../../operator/kube/watch-lines.ts";

export type ReadyPods = {
  /** Pods there are now, and how many were ever seen. */
  readonly count: number;
  readonly seenCount: number;
  /** Pods reported so far. */
  readonly reportedCount: number;
  stop(): Promise<void>;
};

const LINE_COUNT = 16;
const METADATA_ONLY = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";
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
  const query = { watch: true, labelSelector: RANK_SELECTOR, timeoutSeconds: 3_600 };
  const path = pathOf(PODS);
  const watch = await client.open({ method: "GET", path, query, accept: METADATA_ONLY, signal: stop.signal });
  const follow = async () => {
    for await (const text of linesOf(watch, () => undefined)) {
      const event = parseEvent(text);
      if (event.type === "DELETED") counts.count -= 1;
      if (event.type !== "ADDED") continue;
      counts.count += 1;
      counts.seenCount += 1;
      waiting.push(event.object);
      idle.shift()?.();
    }
  };
  const running = follow().catch((error: unknown) => {
    if (!stop.signal.aborted) throw error;
  });
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
  });
  for await (const _ of response); // what came of it is of no interest
}
