/** Plans on a real API server: asked about, taken over by spares, refused and made possible; and what is said meanwhile. */
import { setTimeout as sleep } from "node:timers/promises";
import { expect } from "chai";
import type { ShardedModel } from "../../core/gen/crds/shardedmodel.ts";
import type { ShardPlan } from "../../core/gen/crds/shardplan.ts";
import type { Pod } from "./kube-types.ts";
import { type ModelWorld, startModelWorld } from "./model-world.ts";
import { type Operator, startOperator } from "./running-operator.ts";

const GROUP = "/apis/tessellate.dev/v1alpha1";
/** The chain that the first spare is named after. */
const SPARES = 256;
const MERGE = "application/merge-patch+json";

describe("plans on a real API server", function () {
  this.timeout(300_000);
  let world: ModelWorld;
  let operator: Operator;
  before(async () => {
    world = await startModelWorld();
    operator = await startOperator(world.cluster, "planning");
  });
  after(async () => {
    await operator?.stop();
    await world?.stop();
  });

  const until = async <T>(look: () => Promise<T>, holds: (found: T) => boolean, what: string): Promise<T> => {
    let found = await look();
    for (let attempt = 0; attempt < 300 && !holds(found); attempt++) {
      await sleep(100);
      found = await look();
    }
    if (!holds(found)) throw new Error(`${what}: still not so after 30 s: ${JSON.stringify(found)}`);
    return found;
  };

  /** A model in a namespace of its own, and what there is of it. */
  class Case {
    readonly #namespace: string;
    constructor(namespace: string) {
      this.#namespace = namespace;
    }

    get path(): string {
      return `${GROUP}/namespaces/${this.#namespace}/shardedmodels`;
    }

    async create(spec: object): Promise<void> {
      await world.createNamespace(this.#namespace);
      await world.cluster.api.request("POST", this.path, {
        apiVersion: "tessellate.dev/v1alpha1",
        kind: "ShardedModel",
        metadata: { name: "tiny" },
        spec: { model: { source: { path: world.modelDirectory } }, slots: 2, ...spec },
      });
    }

    change(spec: object): Promise<unknown> {
      return world.cluster.api.request("PATCH", `${this.path}/tiny`, { spec }, MERGE);
    }

    kubectl(...args: readonly string[]): Promise<string> {
      return world.cluster.kubectl(["-n", this.#namespace, ...args]);
    }

    async condition(type: string) {
      const { status } = await world.cluster.api.get<ShardedModel>(`${this.path}/tiny`);
      return status?.conditions?.find((each) => each.type === type);
    }

    turned(type: string, reason: string) {
      return until(
        () => this.condition(type),
        (found) => found?.reason === reason,
        `${type} ${reason}`,
      );
    }

    plan(name = "tiny"): Promise<ShardPlan | undefined> {
      return world.cluster.api.find(`${GROUP}/namespaces/${this.#namespace}/shardplans/${name}`);
    }

    /** By name: node and uid. */
    async ranks(): Promise<Readonly<Record<string, readonly [string, string]>>> {
      const path = `/api/v1/namespaces/${this.#namespace}/pods`;
      const { items } = await world.cluster.api.get<{ items: readonly Pod[] }>(path);
      return Object.fromEntries(
        items.map(({ metadata, spec }) => [metadata.name, [spec.nodeName ?? "", metadata.uid ?? ""]]),
      );
    }

    events(): Promise<string> {
      return this.kubectl("events", "--for", "shardedmodel/tiny");
    }

    async end(): Promise<void> {
      await this.kubectl("delete", "sm", "tiny");
      await until(
        () => this.ranks(),
        (found) => Object.keys(found).length === 0,
        "no ranks",
      );
    }
  }

  it("moves nothing by a plan that nobody has let through, and everything by the one that somebody has", async () => {
    const asked = new Case("asked");
    await asked.create({ planPolicy: "Manual", placement: { providers: { min: 2 } } });
    const waits = await asked.turned("Planned", "AwaitsApproval");
    const proposed = await until(
      () => asked.plan("tiny.proposed"),
      (found) => found !== undefined,
      "a proposal",
    );
    const approval = proposed?.spec.approval ?? "";
    expect(waits?.message)
      .to.contain(`tessellate.dev/approved=${approval}`)
      .and.to.match(/tok\/s.*load/);
    expect(await asked.ranks()).to.deep.equal({});
    expect(await asked.events())
      .to.contain("PlanProposed")
      .and.to.contain(`approved=${approval}`);

    await asked.kubectl("annotate", "shardplan", "tiny.proposed", "tessellate.dev/approved=000000000000");
    await sleep(1_000);
    expect(await asked.ranks(), "another plan's approval").to.deep.equal({});
    await asked.kubectl("annotate", "shardplan", "tiny.proposed", `tessellate.dev/approved=${approval}`, "--overwrite");
    await asked.turned("Ready", "Serving");
    const before = await asked.ranks();
    expect((await asked.plan())?.spec.chains).to.deep.equal(proposed?.spec.chains);
    await until(
      () => asked.plan("tiny.proposed"),
      (found) => found === undefined,
      "no proposal left",
    );

    const [refused = ""] =
      (await asked.plan())?.spec.chains[0]?.segments[0]?.ranks.map(({ provider }) => provider) ?? [];
    await asked.change({ placement: { providers: { deny: [refused] } } });
    await asked.turned("Planned", "AwaitsApproval");
    await sleep(1_000);
    expect(await asked.ranks(), "what serves goes on").to.deep.equal(before);
    expect(await asked.condition("Ready")).to.include({ status: "True" });
    const next = (await asked.plan("tiny.proposed"))?.spec;
    expect(JSON.stringify(next?.chains)).to.not.contain(`"${refused}"`);
    await asked.kubectl("annotate", "shardplan", "tiny.proposed", `tessellate.dev/approved=${next?.approval}`);
    await until(
      async () => (await asked.plan())?.spec.chains,
      (chains) => JSON.stringify(chains) === JSON.stringify(next?.chains),
      "the plan that was let through",
    );
    await asked.turned("Ready", "Serving");
    await asked.end();
  });

  it("puts a spare in a lost node's place, and touches no other rank", async () => {
    const spared = new Case("spared");
    await spared.create({ spares: 1, placement: { providers: { min: 3 } } });
    await spared.turned("Ready", "Serving");
    const segmentsOf = (plan: ShardPlan | undefined, chain: number) =>
      plan?.spec.chains.find(({ index }) => index === chain)?.segments ?? [];
    const isLoaded = (plan: ShardPlan | undefined) =>
      segmentsOf(plan, SPARES).length > 0 && /^(\d+)\/\1$/.test(plan?.status?.ranks ?? "");
    const plan = await until(() => spared.plan(), isLoaded, "a spare, and all ranks ready");
    const [spare] = segmentsOf(plan, SPARES);
    const covered = segmentsOf(plan, 0).find(({ layers }) => layers.start === spare?.layers.start);
    const lost = covered?.ranks[0];
    const { [lost?.name ?? ""]: gone, ...others } = await spared.ranks();
    expect(gone, "the lost rank").to.not.equal(undefined);
    await world.machines.remove(lost?.node ?? "");
    const after = await until(
      () => spared.plan(),
      (found) => isLoaded(found) && found?.spec.routes?.[0]?.segments.some(({ chain }) => chain === SPARES) === true,
      "the spare on the route",
    );
    expect(JSON.stringify(after?.spec.chains)).to.not.contain(`"${lost?.node}"`);
    expect(await spared.ranks()).to.deep.include(others);
    await spared.turned("Ready", "Serving");
    expect(await spared.events())
      .to.contain("Replanned")
      .and.to.contain("tok/s");
    await world.machines.add(lost?.node ?? "");
    await spared.end();
  });

  it("says what would make a model fit, and plans as soon as it is so", async () => {
    const large = new Case("large");
    await large.create({ quantization: "f32", slots: 256, contextLength: 16384 });
    const refused = await large.turned("Planned", "NotEnoughRoom");
    const [, need = ""] = /add a node with ≥ ([\d.]+ GiB) free/.exec(refused?.message ?? "") ?? [];
    expect(refused?.message).to.match(/^[\d.]+ [GM]iB short: /);
    expect(need, refused?.message).to.not.equal("");
    expect(await large.events())
      .to.contain("NotEnoughRoom")
      .and.to.contain(`≥ ${need}`);
    await world.machines.add("large-1");
    await world.cluster.kubectl(
      ["apply", "-f", "-"],
      JSON.stringify({
        apiVersion: "tessellate.dev/v1alpha1",
        kind: "ShardNode",
        metadata: { name: "large-1" },
        spec: {
          provider: "campus",
          memory: { freeBytes: need.replace(" GiB", "Gi") },
          memoryBytesPerSecond: "20G",
          signer: { target: "signer.example.org:7300" },
        },
      }),
    );
    await large.turned("Planned", "Placed");
    expect(JSON.stringify((await large.plan())?.spec.chains)).to.contain('"large-1"');
    expect(await large.events())
      .to.contain("Planned")
      .and.to.contain("tok/s");
    await large.end();
  });

  it("had no trouble on the way", () => {
    expect(operator.events.filter(({ event }) => /trouble|crashed|failed/.test(event))).to.deep.equal([]);
  });
});
