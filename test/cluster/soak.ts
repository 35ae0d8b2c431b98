/**
 * A reflector behind the faulty proxy, while others change what it watches: is every change seen, and how late? Changes
 * go past the proxy, so that what is written is known for sure.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { systemClock } from "../../operator/clock.ts";
import { clusterAccess } from "../../operator/kube/access.ts";
import { KubeClient } from "../../operator/kube/client.ts";
import { type KubeObject, type Resource, keyOf } from "../../operator/kube/objects.ts";
import { type Change, Reflector, blindMsMax } from "../../operator/kube/reflector.ts";
import { isOlder } from "../../operator/kube/versions.ts";
import { seededBy } from "../../operator/plan/seeded.ts";
import type { ControlPlane } from "./control-plane.ts";
import { FAULTS, type Fault, startFaultyProxy } from "./faulty-proxy.ts";

export const CONFIG_MAPS: Resource = {
  group: "",
  version: "v1",
  kind: "ConfigMap",
  plural: "configmaps",
  namespaced: true,
};

export type SoakOptions = {
  readonly seconds: number;
  readonly seed: number;
  readonly faultEveryMs: number;
  readonly checkMs: number;
  readonly graceMs: number;
  readonly silenceMs: number;
  readonly timeoutMs: number; // of a request
  readonly report?: (line: string) => void;
};

export type SoakOutcome = {
  readonly writeCount: number;
  /** From the end of a write until the copy had it, the worst. */
  readonly busyLateMs: number;
  readonly quietLateMs: number;
  /** What the reflector promises with these options. */
  readonly boundMs: number;
  /** In words; empty where nothing was wrong. */
  readonly wrong: readonly string[];
  readonly faultCounts: ReadonlyMap<Fault, number>;
  readonly counts: Reflector["counts"];
};

const BUSY_NAMES = 20;
const BUSY_PAUSE_MS = 60;
/** Past its time a soak goes on for what chance has kept from happening. */
const LONGER_MS = 60_000;
const QUIET_PAUSE_MS = 7_000; // longer than between two faults: most of them meet a watch at rest
const MERGE = "application/merge-patch+json";

type Written = { readonly version: string; readonly uid: string; readonly deleted: boolean; readonly atMs: number };

/** A namespace that is written to, and what a reflector made of it. */
class Watched {
  readonly reflector: Reflector;
  readonly wrong: string[] = [];
  writeCount = 0;
  lateMs = 0;
  readonly #cluster: ControlPlane;
  readonly #namespace: string;
  readonly #pending = new Map<string, Written[]>();
  readonly #mirror = new Map<string, KubeObject>(); // built from the changes told, and from nothing else
  readonly #existing = new Map<string, string>(); // uids

  constructor(cluster: ControlPlane, client: KubeClient, namespace: string, options: SoakOptions) {
    const { checkMs, graceMs, silenceMs } = options;
    this.#cluster = cluster;
    this.#namespace = namespace;
    this.reflector = new Reflector({
      client,
      clock: systemClock(),
      resource: CONFIG_MAPS,
      namespace,
      labelSelector: "soak=yes",
      pageCount: 7,
      checkMs,
      graceMs,
      silenceMs,
      backOff: { leastMs: 20, mostMs: 500 },
      onChange: (change) => this.#changed(change),
    });
  }

  async write(name: string, remove: boolean): Promise<void> {
    const { api } = this.#cluster;
    const path = `/api/v1/namespaces/${this.#namespace}/configmaps`;
    const uid = this.#existing.get(name);
    this.writeCount += 1;
    const data = { count: String(this.writeCount) };
    if (uid === undefined) {
      const labels = { soak: "yes" };
      this.#wrote(name, await api.request("POST", path, { metadata: { name, labels }, data }), false);
    } else if (remove) {
      await api.request("DELETE", `${path}/${name}`);
      this.#wrote(name, { metadata: { name, uid, resourceVersion: "" } }, true);
    } else this.#wrote(name, await api.request("PATCH", `${path}/${name}`, { data }, MERGE), false);
  }

  /** How many writes have not been seen. */
  get unseenCount(): number {
    return [...this.#pending.values()].reduce((sum, entries) => sum + entries.length, 0);
  }

  async compare(): Promise<void> {
    const path = `/api/v1/namespaces/${this.#namespace}/configmaps?labelSelector=soak%3Dyes`;
    const { items } = await this.#cluster.api.get<{ items: KubeObject[] }>(path);
    const shown = (objects: readonly KubeObject[]) =>
      objects.map((object) => `${keyOf(object)}@${object.metadata.resourceVersion}`).sort();
    const [are, held, told] = [items, this.reflector.all(), [...this.#mirror.values()]].map(shown);
    if (String(are) !== String(held)) this.wrong.push(`there are ${are}, held are ${held}`);
    if (String(held) !== String(told)) this.wrong.push(`held are ${held}, told were ${told}`);
  }

  #wrote(name: string, object: KubeObject, deleted: boolean): void {
    const { uid = "", resourceVersion: version = "" } = object.metadata;
    if (deleted) this.#existing.delete(name);
    else this.#existing.set(name, uid);
    const entries = this.#pending.get(name) ?? [];
    this.#pending.set(name, [...entries, { version, uid, deleted, atMs: performance.now() }]);
    this.#settle(name);
  }

  #changed(change: Change): void {
    const { object, type } = change;
    const key = keyOf(object);
    const before = this.#mirror.get(key);
    if ((type === "added") !== (before === undefined)) this.wrong.push(`${key} was told as ${type}`);
    if (type === "changed" && !isOlder(before?.metadata.resourceVersion, object.metadata.resourceVersion))
      this.wrong.push(`${key} went back in time`);
    if (type === "deleted") this.#mirror.delete(key);
    else this.#mirror.set(key, object);
    this.#settle(object.metadata.name);
  }

  /** Takes off what the copy shows, or what it shows the end of. */
  #settle(name: string): void {
    const entries = this.#pending.get(name) ?? [];
    const held = this.#mirror.get(`${this.#namespace}/${name}`);
    const isSeen = ({ version, uid, deleted }: Written, index: number) => {
      if (held === undefined) return deleted || entries.slice(index).some((later) => later.deleted);
      return held.metadata.uid !== uid
        ? isOlder(version, held.metadata.resourceVersion)
        : !deleted && !isOlder(held.metadata.resourceVersion, version);
    };
    const nowMs = performance.now();
    const open = entries.filter((entry, index) => {
      if (!isSeen(entry, index)) return true;
      this.lateMs = Math.max(this.lateMs, nowMs - entry.atMs);
      return false;
    });
    this.#pending.set(name, open);
  }
}

/**
 * Runs for `seconds`, and a minute longer at most until each fault has taken effect and a check has found what was missed;
 * then lets everything come to rest.
 */
export async function soak(cluster: ControlPlane, options: SoakOptions): Promise<SoakOutcome> {
  const { seconds, seed, faultEveryMs, timeoutMs, report } = options;
  const suffix = `soak-${seed}`;
  for (const name of [`busy-${suffix}`, `quiet-${suffix}`])
    await cluster.api.request("POST", "/api/v1/namespaces", { metadata: { name } });
  const proxy = await startFaultyProxy(cluster);
  const client = new KubeClient(clusterAccess(proxy.kubeconfig), { timeoutMs });
  const busy = new Watched(cluster, client, `busy-${suffix}`, options);
  const quiet = new Watched(cluster, client, `quiet-${suffix}`, options);
  const stop = new AbortController();
  const running = [busy, quiet].map(({ reflector }) => reflector.run(stop.signal));
  const { below: pick } = seededBy(`soak ${seed}`);
  const endMs = performance.now() + seconds * 1000;
  const isDue = () => performance.now() < endMs;
  /** A fault of events meets nobody where watches are frozen or away, which is a matter of moments: it comes again. */
  const untried = (): readonly Fault[] => {
    const { missed } = sumOf(busy.reflector.counts, quiet.reflector.counts);
    return FAULTS.filter((fault) => !proxy.counts.has(fault) || (fault === "half-open" && missed === 0));
  };
  const isOver = () => !isDue() && (untried().length === 0 || performance.now() >= endMs + LONGER_MS);
  const until = async (pauseMs: number, work: () => Promise<void>) => {
    for (; !isOver(); await sleep(pauseMs)) await work();
  };
  const deck: Fault[] = [];
  let round = 0;
  try {
    await Promise.all([busy.reflector.firstList, quiet.reflector.firstList]);
    await Promise.all([
      until(BUSY_PAUSE_MS, () => busy.write(`b${pick(BUSY_NAMES)}`, pick(4) === 0)),
      until(Math.min(QUIET_PAUSE_MS, (seconds * 1000) / 10), () => quiet.write(`q${pick(3)}`, pick(4) === 0)),
      until(faultEveryMs, async () => {
        if (!isDue()) deck.splice(0, deck.length, ...untried());
        else if (deck.length === 0) deck.push(...FAULTS); // each once, in any order, then each again
        const [fault] = deck.splice(pick(deck.length), 1);
        if (fault !== undefined) proxy.inject(fault);
        round += 1;
        if (round % 100 === 0) report?.(`${round} faults, ${busy.unseenCount + quiet.unseenCount} writes not seen yet`);
      }),
    ]);
    proxy.calm();
    const boundMs = blindMsMax(options, BUSY_NAMES, timeoutMs);
    const patienceMs = performance.now() + 2 * boundMs;
    while (busy.unseenCount + quiet.unseenCount > 0 && performance.now() < patienceMs) await sleep(20);
    const wrong = [busy, quiet].flatMap((each) => each.wrong);
    for (const each of [busy, quiet]) {
      if (each.unseenCount > 0) each.wrong.push(`${each.unseenCount} writes were never seen`);
      await each.compare();
    }
    const counts = sumOf(busy.reflector.counts, quiet.reflector.counts);
    return {
      writeCount: busy.writeCount + quiet.writeCount,
      busyLateMs: busy.lateMs,
      quietLateMs: quiet.lateMs,
      boundMs,
      wrong: [...wrong, ...busy.wrong, ...quiet.wrong],
      faultCounts: proxy.counts,
      counts,
    };
  } finally {
    stop.abort(new Error("the soak is over"));
    await Promise.all(running);
    client.close();
    await proxy.close();
  }
}

const sumOf = (a: Reflector["counts"], b: Reflector["counts"]): Reflector["counts"] => ({
  lists: a.lists + b.lists,
  watches: a.watches + b.watches,
  checks: a.checks + b.checks,
  missed: a.missed + b.missed,
});
