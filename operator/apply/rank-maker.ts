/**
 * Makes ranks: the model's Service, a Secret and a Pod for each. They are created, not applied: that costs the API server
 * half, and what is there already, made by an operator before this one, is looked at and not made so.
 */
import { nodeDnsName } from "../../core/identity.ts";
import type { RankConfig } from "../../core/rank-config.ts";
import type { Authority } from "../../core/wire/authority.ts";
import type { WallClock } from "../clock.ts";
import { type KubeClient, isStatus } from "../kube/client.ts";
import { CLAIM_TEMPLATES, type KubeObject, PODS, type Resource, SECRETS, SERVICES, keyOf } from "../kube/objects.ts";
import { Recent } from "../kube/recent.ts";
import { fullRankName } from "../plan/names.ts";
import type { Routed } from "../plan/routes.ts";
import { rankConfigOf } from "../plan/told.ts";
import type { Assignment, ModelFacts, ModelSpec, NodeFacts } from "../plan/types.ts";
import { modelKey } from "./labels.ts";
import { claimTemplate, hostOf, modelService, rankPod, rankSecret } from "./rank-objects.ts";
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
  readonly #services = new Map<string, { readonly uid: string; readonly making: Promise<unknown> }>(); // by model
  /** What was made since somebody asked, in words, by model. */
  readonly #words = new Map<string, string[]>();

  constructor(options: RankMakerOptions) {
    this.#options = options;
  }

  async make(wanted: RankWanted): Promise<void> {
    const { client, clock, imagePullPolicy } = this.#options;
    const { model, assignment, node, revision, image = this.#options.image } = wanted;
    await this.#makeService(model);
    if (node.deviceClass !== undefined) await client.apply(CLAIM_TEMPLATES, claimTemplate(node.deviceClass, model));
    const config = configOf(wanted);
    const secret = await this.#secretOf(wanted, config);
    // Hardly ever is there one already; then the new certificate is what counts.
    if ((await this.#created(SECRETS, secret)) === undefined) await client.apply(SECRETS, secret);
    const pod = rankPod({
      ...{ model, assignment, node, revision, image },
      neighbours: config.neighbours,
      renewAfter: this.#renewAfter(),
      ...(imagePullPolicy === undefined ? {} : { imagePullPolicy }),
    });
    const { namespace, name } = pod.metadata;
    const answer = await this.#created(PODS, pod);
    // One that is there, of whatever plan, is for the next look to judge.
    const made = answer === undefined ? await client.get(PODS, { namespace, name }) : { ...pod, ...answer };
    const key = modelKey(model);
    const pods = this.#pods.get(key) ?? new Recent(clock);
    pods.set(keyOf(made), made);
    this.#pods.set(key, pods);
    const { start, end } = assignment.layers;
    const words = `${made.metadata.name} on ${node.name} of ${node.provider}, layers ${start} to ${end}`;
    this.#words.set(key, [...(this.#words.get(key) ?? []), words]);
  }

  /** A fresh certificate for a rank that runs. Returns when that one is to be made anew. */
  async renew(wanted: Omit<RankWanted, "revision">): Promise<string> {
    await this.#options.client.apply(SECRETS, await this.#secretOf(wanted, configOf(wanted)));
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

  forget(key: string): void {
    this.#pods.delete(key);
    this.#words.delete(key);
    this.#services.delete(key);
  }

  /** Once for each model and operator; whoever comes second waits for the first. */
  async #makeService(model: ModelSpec): Promise<void> {
    const { uid } = model;
    const key = modelKey(model);
    const known = this.#services.get(key);
    const service = modelService(model);
    const making =
      known?.uid === uid
        ? known.making
        : this.#created(SERVICES, service).then((made) => made ?? this.#options.client.apply(SERVICES, service));
    this.#services.set(key, { uid, making });
    try {
      await making;
    } catch (error) {
      this.#services.delete(key);
      throw error;
    }
  }

  async #secretOf({ model, assignment }: Pick<RankWanted, "model" | "assignment">, config: RankConfig) {
    const identity = { kind: "rank", name: fullRankName(model, assignment) } as const;
    const issued = await this.#options.authority.issue(identity, {
      days: CERTIFICATE_DAYS,
      dns: [nodeDnsName(assignment.node)],
    });
    return rankSecret(model, assignment, config, issued);
  }

  #renewAfter(): string {
    return new Date(this.#options.clock.wallMs() + RENEW_AFTER_DAYS * DAY_MS).toISOString();
  }

  /** What the server knows of it now, by its metadata alone; undefined where there was one of that name. */
  async #created(resource: Resource, object: KubeObject): Promise<Pick<KubeObject, "metadata"> | undefined> {
    try {
      const { metadata } = await this.#options.client.create(resource, object, "metadata");
      return { metadata };
    } catch (error) {
      if (isStatus(error, 409)) return undefined;
      throw error;
    }
  }
}

const configOf = ({ model, facts, assignment, placement, node }: Omit<RankWanted, "revision">): RankConfig =>
  rankConfigOf(model, facts, assignment, placement, node, hostOf(model, node));
