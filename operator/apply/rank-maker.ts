/**
 * Makes ranks: the model's Service, a Pod for each, and what these are told, in Secrets (see rank-secrets.ts). They are
 * created, not applied: that costs the API server half, and what is there already, made by an operator before this one,
 * is looked at and not made so.
 *
 * Whoever makes the Service is the first to make anything of the model. Everybody else asks the server which of its
 * Secrets are mounted, and takes away those that would be made again and are not: an operator that ended between a Secret
 * and its pods leaves nothing behind, and none is changed under a pod that mounts it.
 */
import { nodeDnsName } from "../../core/identity.ts";
import { isJsonObject, shown } from "../../core/json.ts";
import type { Authority } from "../../core/wire/authority.ts";
import type { WallClock } from "../clock.ts";
import { type KubeClient, isStatus } from "../kube/client.ts";
import {
  CLAIM_TEMPLATES,
  type KubeObject,
  PODS,
  SECRETS,
  SERVICES,
  asKubeObject,
  keyOf,
  pathOf,
} from "../kube/objects.ts";
import { Recent } from "../kube/recent.ts";
import { fullRankName, rankName } from "../plan/names.ts";
import type { Routed } from "../plan/routes.ts";
import { rankConfigOf } from "../plan/told.ts";
import type { Assignment, ModelFacts, ModelSpec, NodeFacts } from "../plan/types.ts";
import { MODEL_LABEL, RANK_SELECTOR, modelKey } from "./labels.ts";
import { claimTemplate, hostOf, modelService, rankPod } from "./rank-objects.ts";
import {
  SHARED_COUNT_MAX,
  type Told,
  ownSecretName,
  rankSecret,
  renewed,
  secretOf,
  secretsOf,
  sharedSecretName,
} from "./rank-secrets.ts";
import type { Stores } from "./stores.ts";

export type RankMakerOptions = {
  readonly client: KubeClient;
  readonly clock: WallClock;
  readonly stores: Stores;
  readonly authority: Authority;
  readonly image: string;
  readonly imagePullPolicy?: string | undefined;
};

/** A rank to be made, and what it is made from. `model`: with what the planner chose for it. */
export type RankWanted = {
  readonly model: ModelSpec;
  readonly facts: ModelFacts;
  readonly placement: Routed;
  readonly image?: string; // of its revision; left out: what ranks run now
  readonly revision: string;
  readonly assignment: Assignment;
  readonly node: NodeFacts;
};

const CERTIFICATE_DAYS = 365;
const RENEW_AFTER_DAYS = 240;
const DAY_MS = 86_400_000;

export class RankMaker {
  readonly #options: RankMakerOptions;
  /** Pods that we made and whose copies may lag behind a little, by model. */
  readonly #pods = new Map<string, Recent>();
  /** By model; resolves to whether it was made now, or found. */
  readonly #services = new Map<string, { readonly uid: string; readonly making: Promise<"made" | "found"> }>();
  /** Secrets that ranks mounted when last looked at, or were made for some since; by model. */
  readonly #secrets = new Map<string, Set<string>>();
  /** Pods that are being deleted and whose copies may not show it yet: their uids, by model. */
  readonly #going = new Map<string, ReadonlySet<string>>();
  /** What was made since somebody asked, in words, by model. */
  readonly #words = new Map<string, string[]>();

  constructor(options: RankMakerOptions) {
    this.#options = options;
  }

  /** `wanted`: ranks of one model. All are tried, also where one fails; throws the first failure. */
  async make(wanted: readonly RankWanted[]): Promise<void> {
    const { client } = this.#options;
    const [first] = wanted;
    if (first === undefined) return;
    const { model } = first;
    const service = await this.#makeService(model);
    const classes = new Set(wanted.flatMap(({ node }) => node.deviceClass ?? []));
    for (const each of classes) await client.apply(CLAIM_TEMPLATES, claimTemplate(each, model));
    const there = service === "made" ? undefined : await this.#podsThere(model);
    const due: RankWanted[] = [];
    for (const each of wanted) {
      const pod = there?.find(({ metadata }) => metadata.name === rankName(model, each.assignment));
      if (pod === undefined) due.push(each);
      else this.#noteMade(model, pod); // of whatever plan: for the next look to judge
    }
    const groups = Map.groupBy(due, ({ assignment }) => sharedSecretName(model, assignment));
    const making = [...groups].map(
      ([name, ranks]) =>
        () =>
          this.#makeTogether(model, name, ranks, there && secretsOf(there)),
    );
    if (service === "made") return allOf(making.map((make) => make()));
    // One after the other: an operator that ends again and again makes some at each time, and not a Secret of each.
    let before: Promise<void> = Promise.resolve();
    await allOf(making.map((make) => (before = before.catch(() => undefined).then(make))));
    if (service === "found") await client.apply(SERVICES, modelService(model)); // by a version before, maybe
  }

  /** A fresh certificate for a rank that runs. Returns when that one is to be made anew. */
  async renew(wanted: Omit<RankWanted, "revision">, pod: KubeObject): Promise<string> {
    const { client } = this.#options;
    const { model } = wanted;
    const told = await this.#toldTo(wanted);
    const name = secretOf(pod) ?? ownSecretName(model, wanted.assignment);
    await client.patch(SECRETS, { namespace: model.namespace, name }, renewed(pod, told)).catch((error: unknown) => {
      if (!isStatus(error, 404)) throw error;
      return client.create(SECRETS, rankSecret(model, name, [told]));
    });
    return this.#renewAfter();
  }

  /** Pods of the model that we made and that no copy has shown yet. */
  unseen(key: string): ReadonlyMap<string, KubeObject> {
    const pods = this.#pods.get(key);
    // Once the copy has shown it, the copy alone says whether it is still there.
    for (const [name, pod] of pods?.all() ?? []) {
      if (this.#options.stores.pods.get(name)?.metadata.uid === pod.metadata.uid) pods?.delete(name);
    }
    if (pods?.size === 0) this.#pods.delete(key);
    return pods?.all() ?? new Map();
  }

  /** `pod`, of `pods`, is about to be deleted. The Secret that is to go with it, unless another that stays mounts it. */
  going(key: string, pod: KubeObject, pods: readonly KubeObject[]): string | undefined {
    const before = this.#going.get(key);
    const uids = new Set(pods.flatMap(({ metadata: { uid } }) => (uid !== undefined && before?.has(uid) ? [uid] : [])));
    if (pod.metadata.uid !== undefined) uids.add(pod.metadata.uid);
    this.#going.set(key, uids);
    const secret = secretOf(pod);
    const stays = ({ metadata: { uid = "", deletionTimestamp } }: KubeObject) =>
      deletionTimestamp === undefined && !uids.has(uid);
    return pods.some((each) => stays(each) && secretOf(each) === secret) ? undefined : secret;
  }

  /** A pod that we deleted. */
  deleted(key: string, podKey: string): void {
    this.#pods.get(key)?.delete(podKey);
  }

  /** What was made of the model since this was asked last, in words. */
  takeWords(key: string): readonly string[] {
    const words = this.#words.get(key) ?? [];
    this.#words.delete(key);
    return words.sort();
  }

  /**
   * Deletes Secrets that nobody mounts any more: somebody has deleted or evicted the pods that did. `pods`: the model's,
   * as far as we know; the server is asked before anything is deleted.
   */
  async clearUnmounted(model: ModelSpec, pods: readonly KubeObject[]): Promise<void> {
    const key = modelKey(model);
    const mounted = new Set(secretsOf(pods));
    const left = [...(this.#secrets.get(key) ?? [])].filter((name) => !mounted.has(name));
    if (left.length > 0) await this.#deleteBut(model, left, secretsOf(await this.#podsThere(model)));
    this.#secrets.set(key, mounted);
  }

  forget(key: string): void {
    this.#pods.delete(key);
    this.#secrets.delete(key);
    this.#going.delete(key);
    this.#words.delete(key);
    this.#services.delete(key);
  }

  /** Ranks of one chain and one provider. `mounted`: Secrets that pods mount; undefined: nothing of the model is there. */
  async #makeTogether(
    model: ModelSpec,
    name: string,
    ranks: readonly RankWanted[],
    mounted: ReadonlySet<string> | undefined,
  ): Promise<void> {
    const told = await Promise.all(ranks.map(async (each) => ({ ...each, ...(await this.#toldTo(each)) })));
    const [shared, own] = mounted?.has(name)
      ? [[], told]
      : [told.slice(0, SHARED_COUNT_MAX), told.slice(SHARED_COUNT_MAX)];
    const owns = ranks.map(({ assignment }) => ownSecretName(model, assignment));
    if (mounted !== undefined) await this.#deleteBut(model, [name, ...owns], mounted);
    await allOf([
      this.#makeWith(model, name, shared),
      ...own.map((each) => this.#makeWith(model, ownSecretName(model, each.assignment), [each])),
    ]);
  }

  /** The Secret, and then the pods that mount it. */
  async #makeWith(model: ModelSpec, secretName: string, ranks: readonly (RankWanted & Told)[]): Promise<void> {
    const [first, ...others] = ranks;
    if (first === undefined) return;
    const key = modelKey(model);
    this.#secrets.set(key, (this.#secrets.get(key) ?? new Set()).add(secretName));
    await this.#options.client.create(SECRETS, rankSecret(model, secretName, [first, ...others]), "metadata");
    await allOf(ranks.map((each) => this.#makePod(each, secretName)));
  }

  async #makePod(rank: RankWanted & Told, secretName: string): Promise<void> {
    const { client, imagePullPolicy } = this.#options;
    const { model, assignment, node, revision, config, image = this.#options.image } = rank;
    const pod = rankPod({
      ...{ model, assignment, node, revision, image, secretName },
      neighbours: config.neighbours,
      renewAfter: this.#renewAfter(),
      ...(imagePullPolicy === undefined ? {} : { imagePullPolicy }),
    });
    // One that is there after all has come meanwhile: the next look finds it, and that nobody mounts this Secret.
    const { metadata } = await client.create(PODS, pod, "metadata");
    this.#noteMade(model, { ...pod, metadata });
    const key = modelKey(model);
    const { start, end } = assignment.layers;
    const words = `${pod.metadata.name} on ${node.name} of ${node.provider}, layers ${start} to ${end}`;
    this.#words.set(key, [...(this.#words.get(key) ?? []), words]);
  }

  #noteMade(model: ModelSpec, pod: KubeObject): void {
    const key = modelKey(model);
    const pods = this.#pods.get(key) ?? new Recent(this.#options.clock);
    pods.set(keyOf(pod), pod);
    this.#pods.set(key, pods);
  }

  /** As the server has them, and no copy that may lag: what nobody mounts is about to be deleted. */
  async #podsThere({ namespace, name }: Pick<ModelSpec, "namespace" | "name">): Promise<readonly KubeObject[]> {
    const query = { labelSelector: `${RANK_SELECTOR},${MODEL_LABEL}=${name}` };
    const list = await this.#options.client.request({ method: "GET", path: pathOf(PODS, { namespace }), query });
    const items = isJsonObject(list) ? list["items"] : undefined;
    if (!Array.isArray(items))
      throw new Error(`the API server listed the ranks of ${namespace}/${name} as ${shown(list)}`);
    return items.map(asKubeObject);
  }

  async #deleteBut(
    { namespace }: Pick<ModelSpec, "namespace">,
    names: Iterable<string>,
    mounted: ReadonlySet<string>,
  ): Promise<void> {
    const unmounted = [...names].filter((name) => !mounted.has(name));
    await allOf(unmounted.map((name) => this.#options.client.delete(SECRETS, { namespace, name })));
  }

  /** Once for each model and operator; whoever comes second waits for the first, and knows it. */
  async #makeService(model: ModelSpec): Promise<"made" | "found" | "known"> {
    const { client } = this.#options;
    const { uid } = model;
    const key = modelKey(model);
    const known = this.#services.get(key);
    if (known?.uid === uid) {
      await known.making;
      return "known";
    }
    const making = client.create(SERVICES, modelService(model), "metadata").then(
      () => "made" as const,
      (error: unknown) => {
        if (!isStatus(error, 409)) throw error;
        return "found" as const;
      },
    );
    this.#services.set(key, { uid, making });
    try {
      return await making;
    } catch (error) {
      this.#services.delete(key);
      throw error;
    }
  }

  async #toldTo(wanted: Omit<RankWanted, "revision">): Promise<Told> {
    const { model, facts, assignment, placement, node } = wanted;
    const identity = { kind: "rank", name: fullRankName(model, assignment) } as const;
    const issued = await this.#options.authority.issue(identity, {
      days: CERTIFICATE_DAYS,
      dns: [nodeDnsName(assignment.node)],
    });
    const config = rankConfigOf(model, facts, assignment, placement, node, hostOf(model, node));
    return { assignment, config, issued };
  }

  #renewAfter(): string {
    return new Date(this.#options.clock.wallMs() + RENEW_AFTER_DAYS * DAY_MS).toISOString();
  }
}

/** Waits for all, also where one fails: nothing of it is under way any more. Throws the first failure. */
async function allOf(works: readonly Promise<unknown>[]): Promise<void> {
  for (const result of await Promise.allSettled(works)) if (result.status === "rejected") throw result.reason;
}
