/** What becomes of one ShardedModel and its ranks, as a person with kubectl would see it. */
import type { ControlPlane } from "../cluster/control-plane.ts";
import type { Condition, KubeList, KubeObject, Pod } from "../cluster/kube-types.ts";
import { until } from "../until.ts";

interface ModelObject extends KubeObject {
  readonly status?: { readonly conditions?: readonly Condition[] };
}

export type RankPod = {
  readonly name: string;
  readonly uid: string;
  /** The ShardNode's name, which is the Node's too. */
  readonly node: string;
  readonly podIP: string;
  readonly restartCount: number;
};

const MODELS = "/apis/tessellate.dev/v1alpha1/namespaces/default/shardedmodels";
const RANKS = "/api/v1/namespaces/default/pods?labelSelector=app.kubernetes.io/component=rank";

export class ModelWatch {
  readonly #api: ControlPlane["api"];
  readonly #name: string;
  /** Every status that Ready had, in order, neighbours unlike. */
  readonly #turns: string[] = [];
  readonly #stopped = new AbortController();
  readonly #following: Promise<void>;

  /** Watches from now on; the model need not be there yet. */
  constructor({ api }: ControlPlane, name: string) {
    this.#api = api;
    this.#name = name;
    this.#following = api.follow<ModelObject>(MODELS, (event) => this.#note(event.object), this.#stopped.signal);
  }

  /** Give it to {@link readyAgainSince}: what has been seen up to now. */
  get mark(): number {
    return this.#turns.length;
  }

  /** Resolves when Ready has been false after `mark`, and is true now. */
  async readyAgainSince(mark: number): Promise<void> {
    await until(`${this.#name} to lose Ready and to be Ready again`, () => {
      const turns = this.#turns.slice(mark);
      return turns.includes("False") && turns.at(-1) === "True";
    });
  }

  async ranks(): Promise<readonly RankPod[]> {
    const { items } = await this.#api.get<KubeList<Pod>>(RANKS);
    return items.map(({ metadata, spec, status }) => ({
      name: metadata.name,
      uid: metadata.uid ?? "",
      node: spec.nodeName ?? "",
      podIP: status?.podIP ?? "",
      restartCount: status?.containerStatuses?.[0]?.restartCount ?? 0,
    }));
  }

  async stop(): Promise<void> {
    this.#stopped.abort();
    await this.#following;
  }

  #note({ metadata, status }: ModelObject): void {
    if (metadata.name !== this.#name) return;
    const ready = status?.conditions?.find(({ type }) => type === "Ready")?.status;
    if (ready !== undefined && ready !== this.#turns.at(-1)) this.#turns.push(ready);
  }
}
