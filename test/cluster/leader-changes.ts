/** Leaders that follow one another on a real API server, quickly, some of which do not know that they are deposed. */
import { setImmediate as soon, setTimeout as after } from "node:timers/promises";
import { Agent } from "node:https";
import { type WallClock, systemClock } from "../../operator/clock.ts";
import type { Access } from "../../operator/kube/access.ts";
import { KubeClient, isStatus } from "../../operator/kube/client.ts";
import { fencePolicy, fenceRights, raiseFence } from "../../operator/kube/fence.ts";
import { type LeaseOptions, type Leadership, acquireLease } from "../../operator/kube/lease.ts";
import { type KubeObject, LEASES, SECRETS } from "../../operator/kube/objects.ts";
import { seededBy } from "../../operator/plan/seeded.ts";
import type { ControlPlane } from "./control-plane.ts";

export const FENCE = {
  namespace: "tessellate",
  lease: "tessellate-operator",
  user: "system:serviceaccount:tessellate:tessellate-operator",
};

/** The service account, what it may do, and the policy; resolves with its way to the API server. */
export async function installFence(cluster: ControlPlane): Promise<Access> {
  const { namespace } = FENCE;
  const account = "tessellate-operator";
  const rbac = { apiVersion: "rbac.authorization.k8s.io/v1" };
  const metadata = { name: account, namespace };
  const every = (group: string, resources: readonly string[]) => ({ apiGroups: [group], resources, verbs: ["*"] });
  const rules = [every("", ["secrets"]), every("coordination.k8s.io", ["leases"])];
  const subjects = [{ kind: "ServiceAccount", ...metadata }];
  const roleRef = { apiGroup: "rbac.authorization.k8s.io", kind: "Role", name: account };
  const objects = [
    { apiVersion: "v1", kind: "Namespace", metadata: { name: namespace } },
    { apiVersion: "v1", kind: "ServiceAccount", metadata },
    { ...rbac, kind: "Role", metadata, rules },
    { ...rbac, kind: "RoleBinding", metadata, roleRef, subjects },
    ...fenceRights(FENCE),
    ...fencePolicy(FENCE),
  ];
  await cluster.kubectl(["apply", "-f", "-"], objects.map((object) => JSON.stringify(object)).join("\n---\n"));
  const path = `/api/v1/namespaces/${namespace}/serviceaccounts/${account}/token`;
  const { status } = await cluster.api.request<{ status: { token: string } }>("POST", path, { spec: {} });
  const agent = new Agent({ ca: cluster.authority.certificate, keepAlive: true });
  const headers = { authorization: `Bearer ${status.token}` };
  return { server: new URL(cluster.url), options: async () => ({ agent, headers }), close: () => agent.destroy() };
}

/**
 * A clock on which looking again costs no time, and a leader sleeps between renewals until it is woken: that is a
 * process that was paused.
 */
class LeaderClock implements WallClock {
  #nowMs = 0;
  #sleepers: (() => void)[] = [];
  monotonicMs = () => this.#nowMs;
  wallMs = () => Date.now();
  async sleep(milliseconds: number, signal?: AbortSignal): Promise<void> {
    signal?.throwIfAborted();
    if (milliseconds === 250) return void (await after(5)); // the fence settles
    if (milliseconds < 1_000) return after(milliseconds, undefined, signal === undefined ? {} : { signal });
    if (milliseconds === 1_000) {
      this.#nowMs += milliseconds;
      return soon();
    }
    return new Promise((resolve, reject) => {
      this.#sleepers.push(resolve);
      signal?.addEventListener("abort", () => reject(signal.reason), { once: true });
    });
  }
  wake(): void {
    for (const wake of this.#sleepers.splice(0)) wake();
  }
}

type Leader = {
  readonly client: KubeClient;
  readonly clock: LeaderClock;
  readonly lease: Leadership;
  readonly made: string;
};

export type LeaderChanges = {
  readonly changeCount: number;
  readonly pausedCount: number;
  readonly deniedCount: number;
  /** In words; empty where nothing was wrong. */
  readonly wrong: readonly string[];
};

const secret = (name: string, data: Readonly<Record<string, string>>): KubeObject => ({
  metadata: { name, namespace: FENCE.namespace },
  stringData: data,
});

export async function changeLeaders(access: Access, changeCount: number, seed: number): Promise<LeaderChanges> {
  const { below } = seededBy(`leaders ${seed}`);
  const stop = new AbortController();
  const wrong: string[] = [];
  let [pausedCount, deniedCount, lastEpoch] = [0, 0, 0];

  const next = async (index: number): Promise<Leader> => {
    const client = new KubeClient(access);
    const clock = new LeaderClock();
    const { namespace, lease: name, user } = FENCE;
    const lease = await acquireLease({ client, clock, namespace, name, identity: `leader-${index}` }, stop.signal);
    const onTrouble = (detail: string) => void wrong.push(detail);
    await raiseFence({ client, clock, namespace, onTrouble }, { user, epoch: lease.fence }, stop.signal);
    if (lease.fence <= lastEpoch) wrong.push(`epoch ${lease.fence} came after ${lastEpoch}`);
    lastEpoch = lease.fence;
    return { client, clock, lease, made: `made-${index}` };
  };
  const act = async ({ client, lease, made }: Leader): Promise<void> => {
    await Promise.all([
      client.apply(SECRETS, secret("shared", { epoch: String(lease.fence) })),
      client.create(SECRETS, secret(made, {})),
    ]);
  };
  /** Everything that a leader does, by one who does not know. */
  const actDeposed = async (old: Leader, current: Leader, index: number): Promise<void> => {
    const { namespace } = FENCE;
    const attempts = {
      apply: () => old.client.apply(SECRETS, secret("shared", { epoch: String(old.lease.fence) })),
      patch: () =>
        old.client.patch(SECRETS, { namespace, name: current.made }, { metadata: { labels: { bad: "yes" } } }),
      create: () => old.client.create(SECRETS, secret(`bad-${index}`, {})),
      delete: () => old.client.delete(SECRETS, { namespace, name: current.made }),
    };
    await Promise.all(
      Object.entries(attempts).map(async ([name, attempt]) => {
        const said = await attempt().then(
          () => "done",
          (error: unknown) => error,
        );
        if (isStatus(said, 403) && String(said).includes("may not write any more")) deniedCount += 1;
        else wrong.push(`a deposed leader's ${name} was answered ${said}`);
      }),
    );
    old.clock.wake();
    if (!old.lease.lost.aborted)
      await new Promise((resolve) => old.lease.lost.addEventListener("abort", resolve, { once: true }));
  };

  let leader = await next(0);
  await act(leader);
  try {
    for (let index = 1; index <= changeCount; index++) {
      const before = leader;
      const end = ["released", "crashed", "paused"][below(3)];
      if (end === "released") await before.lease.release();
      leader = await next(index);
      await act(leader);
      if (end === "paused") {
        pausedCount += 1;
        await actDeposed(before, leader, index);
      }
      const { client, lease, made } = leader;
      const { namespace } = FENCE;
      const shared = await client.get(SECRETS, { namespace, name: "shared" });
      const epoch = Buffer.from(String((shared["data"] as Record<string, unknown>)["epoch"]), "base64").toString();
      if (epoch !== String(lease.fence)) wrong.push(`epoch ${epoch} is written, ${lease.fence} leads`);
      const kept = await client.get(SECRETS, { namespace, name: made });
      if (kept.metadata.labels !== undefined) wrong.push(`a deposed leader has changed ${made}`);
      await client.delete(SECRETS, { namespace, name: before.made });
    }
  } finally {
    stop.abort(new Error("the changes are over"));
  }
  const { items } = (await leader.client.request({
    method: "GET",
    path: `/api/v1/namespaces/${FENCE.namespace}/secrets`,
  })) as { items: KubeObject[] };
  const names = items.map(({ metadata }) => metadata.name).sort();
  if (String(names) !== String([leader.made, "shared"])) wrong.push(`what is there at the end: ${names}`);
  return { changeCount, pausedCount, deniedCount, wrong };
}

/** How long until another leads, in milliseconds: after the leader fell dead, and after it ended in good order. */
export async function takeOverTimes(access: Access): Promise<{ readonly crashMs: number; readonly releaseMs: number }> {
  const clock = systemClock();
  const client = new KubeClient(access);
  const stop = new AbortController();
  const { namespace, lease: name, user } = FENCE;
  await client.delete(LEASES, { namespace, name });
  const lead = async (identity: string, of: LeaseOptions["client"] = client) => {
    const lease = await acquireLease({ client: of, clock, namespace, name, identity }, stop.signal);
    const onTrouble = () => undefined;
    await raiseFence({ client, clock, namespace, onTrouble }, { user, epoch: lease.fence }, stop.signal);
    return lease;
  };
  let isDead = false;
  const alive = <T>(work: () => Promise<T>) => (isDead ? Promise.reject(new Error("crashed")) : work());
  const mortal: LeaseOptions["client"] = {
    find: (resource, place) => alive(() => client.find(resource, place)),
    get: (resource, place) => alive(() => client.get(resource, place)),
    create: (resource, object) => alive(() => client.create(resource, object)),
    replace: (resource, object) => alive(() => client.replace(resource, object)),
  };
  await lead("first", mortal);
  const second = lead("second");
  await clock.sleep(SEEN_MS);
  const crashedAtMs = clock.monotonicMs();
  isDead = true;
  const next = await second;
  const crashMs = clock.monotonicMs() - crashedAtMs;
  const third = lead("third");
  await clock.sleep(SEEN_MS);
  const releasedAtMs = clock.monotonicMs();
  await next.release();
  const last = await third;
  const releaseMs = clock.monotonicMs() - releasedAtMs;
  await last.release();
  return { crashMs, releaseMs };
}

/** By then whoever waits has seen the leader's last renewal. */
const SEEN_MS = 1_500;
