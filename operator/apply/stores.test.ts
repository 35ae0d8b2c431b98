/** What changes lead to which work, and how urgent it is. */
import { type Server, type ServerResponse, createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { expect } from "chai";
import { systemClock } from "../clock.ts";
import { plainAccess } from "../kube/access.ts";
import { KubeClient } from "../kube/client.ts";
import type { KubeObject } from "../kube/objects.ts";
import { CHAIN_LABEL, MODEL_LABEL, NODE_LABEL, PROVIDER_LABEL } from "./labels.ts";
import { Offers } from "./offers.ts";
import { Stores } from "./stores.ts";

/** Lists what there is of each kind and tells watches what a test says. */
class FakeServer {
  readonly #lists: Readonly<Record<string, readonly KubeObject[]>>;
  readonly #watches = new Map<string, ServerResponse[]>();
  #server: Server | undefined;
  #version = 100;

  constructor(lists: Readonly<Record<string, readonly KubeObject[]>>) {
    this.#lists = lists;
  }

  async start(): Promise<string> {
    this.#server = createServer((request, response) => {
      const { pathname, searchParams } = new URL(request.url ?? "", "http://fake");
      const plural = pathname.split("/").at(-1) ?? "";
      // Pods of ranks and those of gateways and the ledger are listed apart.
      const kind = searchParams.get("labelSelector")?.includes("gateway") === true ? "components" : plural;
      if (searchParams.get("watch") !== "true")
        response.end(JSON.stringify({ metadata: { resourceVersion: "100" }, items: this.#lists[kind] ?? [] }));
      else {
        this.#watches.set(kind, [...(this.#watches.get(kind) ?? []), response]);
        response.flushHeaders();
      }
    });
    await new Promise<void>((resolve) => this.#server?.listen(0, "127.0.0.1", resolve));
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  async tell(kind: string, type: string, object: KubeObject): Promise<void> {
    while (!this.#watches.has(kind)) await new Promise((resolve) => setImmediate(resolve));
    this.#version += 1;
    const metadata = { ...object.metadata, resourceVersion: String(this.#version) };
    for (const watch of this.#watches.get(kind) ?? [])
      watch.write(`${JSON.stringify({ type, object: { ...object, metadata } })}\n`);
  }

  stop(): void {
    this.#server?.closeAllConnections();
    this.#server?.close();
  }
}

const metadata = (name: string, set: object = {}) => ({ name, uid: name, resourceVersion: "1", generation: 1, ...set });
const node = (id: number, pool: string, set: object = {}): KubeObject => ({
  metadata: metadata(`n${String(id).padStart(2, "0")}`, { labels: { pool } }),
  spec: { provider: pool, ...set },
});
const model = (name: string, set: object = {}): KubeObject => ({
  metadata: metadata(name, { namespace: "models", ...set }),
});
const labels = { [MODEL_LABEL]: "a", [NODE_LABEL]: "n00", [PROVIDER_LABEL]: "a", [CHAIN_LABEL]: "0" };
const rank = (phase: string, name = "a-0-0-0", isReady = false): KubeObject => ({
  metadata: metadata(name, { namespace: "models", labels }),
  status: { phase, ...(isReady ? { conditions: [{ type: "Ready", status: "True" }] } : {}) },
});
/** Of two ranks, of which a-0-0-0 starts and a-0-0-1 is ready. */
const PLAN: KubeObject = {
  metadata: metadata("a", { namespace: "models" }),
  spec: { chains: [{ index: 0, segments: [{ layers: { start: 0, end: 2 }, ranks: [{}, {}] }] }] },
};
const NODES = Array.from({ length: 60 }, (_, id) => node(id, id < 4 ? "a" : id < 52 ? "x" : "b"));
const DELETED = { deletionTimestamp: "2026-01-01T00:00:00Z" };

const CASES: readonly {
  readonly name: string;
  readonly told: readonly [string, string, KubeObject];
  readonly work: object;
}[] = [
  {
    name: "a model that is edited goes before all that are new",
    told: ["shardedmodels", "MODIFIED", model("a", { generation: 2 })],
    work: { "model/models/a": "first" },
  },
  { name: "a new one does not", told: ["shardedmodels", "ADDED", model("c")], work: { "model/models/c": "now" } },
  {
    name: "a rank that has failed is looked at first",
    told: ["pods", "MODIFIED", rank("Failed")],
    work: { "model/models/a": "first" },
  },
  {
    name: "one that is deleted too",
    told: ["pods", "MODIFIED", { ...rank("Running"), metadata: { ...rank("Running").metadata, ...DELETED } }],
    work: { "model/models/a": "first" },
  },
  {
    name: "one that comes up is looked at with those beside it",
    told: ["pods", "MODIFIED", rank("Running")],
    work: { "model/models/a": "soon" },
  },
  {
    name: "one that is the last of its chain to be ready leads to a look",
    told: ["pods", "MODIFIED", rank("Running", "a-0-0-0", true)],
    work: { "model/models/a": "soon" },
  },
  {
    name: "one that is ready no more, too",
    told: ["pods", "MODIFIED", rank("Running", "a-0-0-1")],
    work: { "model/models/a": "soon" },
  },
  {
    name: "one that was made waits until it comes up",
    told: ["pods", "ADDED", rank("Pending", "a-0-0-2")],
    work: { "model/models/a": "starting", "node/n00": "idle", "provider/a": "idle" },
  },
  {
    name: "a new plan does not: whoever made it knows it",
    told: ["shardplans", "ADDED", { ...PLAN, metadata: metadata("b", { namespace: "models" }) }],
    work: { "model/models/b": "starting" },
  },
  {
    name: "a node that changes is of interest to the models that may be on it",
    told: [
      "shardnodes",
      "MODIFIED",
      { ...node(55, "b", { cpu: 2 }), metadata: { ...node(55, "b").metadata, generation: 2 } },
    ],
    work: { "node/n55": "first", "provider/b": "first", "model/models/b": "later" },
  },
  {
    name: "one that their ShardPlans only name is for when there is less to do",
    told: [
      "shardnodes",
      "MODIFIED",
      { ...node(5, "x", { cpu: 2 }), metadata: { ...node(5, "x").metadata, generation: 2 } },
    ],
    work: { "node/n05": "first", "provider/x": "first", "model/models/a": "idle", "model/models/b": "idle" },
  },
  {
    name: "and one that no model can be on, to nobody",
    told: [
      "shardnodes",
      "MODIFIED",
      { ...node(51, "x", { cpu: 2 }), metadata: { ...node(51, "x").metadata, generation: 2 } },
    ],
    work: { "node/n51": "first", "provider/x": "first" },
  },
  {
    name: "a machine that is cordoned, to those that may be on its node",
    told: ["nodes", "MODIFIED", { metadata: metadata("n55"), spec: { unschedulable: true } }],
    work: { "node/n55": "now", "model/models/b": "later" },
  },
];

describe("what changes lead to", () => {
  for (const { name, told, work } of CASES)
    it(name, async () => {
      const machines = NODES.map(({ metadata: { name } }) => ({ metadata: metadata(name), spec: {} }));
      const lists = { shardedmodels: [model("a"), model("b")], shardnodes: NODES, nodes: machines };
      const pods = [rank("Pending"), rank("Running", "a-0-0-1", true)];
      const server = new FakeServer({ ...lists, pods, shardplans: [PLAN] });
      const client = new KubeClient(plainAccess(await server.start()));
      const found = new Map<string, string>();
      let heard = Promise.withResolvers<void>();
      const clock = systemClock();
      const stores = new Stores({
        ...{ client, clock, namespace: "tessellate", offers: new Offers({ clock }) },
        onWork: (key, urgency = "now") => {
          found.set(key, urgency);
          heard.resolve();
        },
        onPicture: () => undefined,
        onComponents: () => undefined,
        onTrouble: () => undefined,
      });
      const stop = new AbortController();
      const running = stores.run(stop.signal);
      try {
        await stores.firstLists();
        for (const pool of ["a", "b"]) {
          const seen = stores.nodeIndex.concerned({ pool }, []);
          stores.seen.note(`models/${pool}`, { pool }, [], seen);
        }
        found.clear();
        heard = Promise.withResolvers();
        await server.tell(...told);
        await heard.promise;
        expect(Object.fromEntries(found)).to.deep.equal(work);
      } finally {
        stop.abort();
        server.stop();
        await running;
        client.close();
      }
    });
});
