/** A model in a namespace of its own, as a test of the operator looks at it. */
import type { ShardedModel } from "../../core/gen/crds/shardedmodel.ts";
import type { ShardPlan } from "../../core/gen/crds/shardplan.ts";
import { untilFound } from "../until.ts";
import type { Pod } from "./kube-types.ts";
import type { ModelWorld } from "./model-world.ts";

const GROUP = "/apis/tessellate.dev/v1alpha1";
const MERGE = "application/merge-patch+json";

/** A model in a namespace of its own, and what there is of it. */
export class ModelCase {
  readonly #world: ModelWorld;
  readonly #namespace: string;

  constructor(world: ModelWorld, namespace: string) {
    this.#world = world;
    this.#namespace = namespace;
  }

  get path(): string {
    return `${GROUP}/namespaces/${this.#namespace}/shardedmodels`;
  }

  async create(spec: object): Promise<void> {
    await this.#world.createNamespace(this.#namespace);
    await this.#world.cluster.api.request("POST", this.path, {
      apiVersion: "tessellate.dev/v1alpha1",
      kind: "ShardedModel",
      metadata: { name: "tiny" },
      spec: { model: { source: { path: this.#world.modelDirectory } }, slots: 2, ...spec },
    });
  }

  change(spec: object): Promise<unknown> {
    return this.#world.cluster.api.request("PATCH", `${this.path}/tiny`, { spec }, MERGE);
  }

  kubectl(...args: readonly string[]): Promise<string> {
    return this.#world.cluster.kubectl(["-n", this.#namespace, ...args]);
  }

  async condition(type: string) {
    const { status } = await this.#world.cluster.api.get<ShardedModel>(`${this.path}/tiny`);
    return status?.conditions?.find((each) => each.type === type);
  }

  turned(type: string, reason: string) {
    return untilFound(
      `${type} ${reason}`,
      () => this.condition(type),
      (found) => found?.reason === reason,
    );
  }

  plan(name = "tiny"): Promise<ShardPlan | undefined> {
    return this.#world.cluster.api.find(`${GROUP}/namespaces/${this.#namespace}/shardplans/${name}`);
  }

  /** By name: node and uid. */
  async ranks(): Promise<Readonly<Record<string, readonly [string, string]>>> {
    const path = `/api/v1/namespaces/${this.#namespace}/pods`;
    const { items } = await this.#world.cluster.api.get<{ items: readonly Pod[] }>(path);
    return Object.fromEntries(
      items.map(({ metadata, spec }) => [metadata.name, [spec.nodeName ?? "", metadata.uid ?? ""]]),
    );
  }

  /** Waits until a rank has been reported for the first time: what is reported of it from now on comes after that. */
  async runs(name: string): Promise<void> {
    await untilFound(
      `${name} to run`,
      () => this.kubectl("get", "pod", name, "-o", "jsonpath={.status.podIP}"),
      (address) => address !== "",
    );
  }

  /** Waits until `kubectl events` says all of it: they are written in the background, what is normal once there is time. */
  async told(...words: readonly RegExp[]): Promise<void> {
    await untilFound(
      `events that say ${words.join(" and ")}`,
      () => this.kubectl("events", "--for", "shardedmodel/tiny"),
      (text) => words.every((each) => each.test(text)),
    );
  }

  async end(): Promise<void> {
    await this.kubectl("delete", "sm", "tiny");
    await untilFound(
      "no ranks",
      () => this.ranks(),
      (found) => Object.keys(found).length === 0,
    );
  }
}
