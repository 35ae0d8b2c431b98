import { expect } from "chai";
import fc from "fast-check";
import { type Authority, createAuthority } from "../../core/wire/authority.ts";
import { StoppedClock } from "../clock.ts";
import { ApiError, type KubeClient } from "../kube/client.ts";
import type { KubeObject, Place, Resource } from "../kube/objects.ts";
import { FACTS, aModel, aNode } from "../plan/builders.ts";
import { rankName } from "../plan/names.ts";
import type { Assignment, NodeFacts } from "../plan/types.ts";
import { MODEL_LABEL } from "./labels.ts";
import { RankMaker, type RankWanted } from "./rank-maker.ts";
import { secretOf, secretsOf, sharedSecretName } from "./rank-secrets.ts";
import type { Stores } from "./stores.ts";

const MODEL = aModel();
const SELECTOR = `app.kubernetes.io/component=rank,app.kubernetes.io/managed-by=tessellate-operator,${MODEL_LABEL}=tiny`;

/** As much of an API server as ranks are made through. Ends whoever writes once `writesLeft` is used up. */
class FakeServer {
  readonly objects = new Map<string, KubeObject>();
  writesLeft = Number.POSITIVE_INFINITY;
  readonly written: string[] = [];
  readonly wrong: string[] = [];
  #count = 0;

  get client(): KubeClient {
    return this as unknown as KubeClient;
  }

  all(kind: string): readonly KubeObject[] {
    return [...this.objects].flatMap(([key, object]) => (key.startsWith(`${kind}/`) ? [object] : []));
  }

  async create({ kind }: Resource, object: KubeObject): Promise<KubeObject> {
    const { name } = object.metadata;
    if (this.objects.has(`${kind}/${name}`)) throw new ApiError(409, "AlreadyExists", `there is a ${kind} ${name}`);
    this.objects.set(`${kind}/${name}`, { ...object, metadata: { ...object.metadata, uid: `u${(this.#count += 1)}` } });
    return this.#took("create", kind, name);
  }

  async apply({ kind }: Resource, object: KubeObject): Promise<KubeObject> {
    this.objects.set(`${kind}/${object.metadata.name}`, object);
    return this.#took("apply", kind, object.metadata.name);
  }

  async patch({ kind }: Resource, { name = "" }: Place, patch: { readonly data: object }): Promise<KubeObject> {
    const object = this.objects.get(`${kind}/${name}`);
    if (object === undefined) throw new ApiError(404, "NotFound", `there is no ${kind} ${name}`);
    this.objects.set(`${kind}/${name}`, { ...object, data: { ...(object["data"] as object), ...patch.data } });
    return this.#took("patch", kind, name);
  }

  async delete({ kind }: Resource, { name = "" }: Place): Promise<void> {
    if (kind === "Secret" && this.mounted.has(name)) this.wrong.push(`${name} was deleted under a pod that mounts it`);
    this.objects.delete(`${kind}/${name}`);
    this.#took("delete", kind, name);
  }

  async request({ query }: { readonly query?: { readonly labelSelector?: string } }): Promise<unknown> {
    expect(query?.labelSelector).to.equal(SELECTOR);
    return { items: this.all("Pod") };
  }

  get mounted(): ReadonlySet<string> {
    return secretsOf(this.all("Pod"));
  }

  #took(what: string, kind: string, name: string): KubeObject {
    if (this.writesLeft <= 0) throw new Error("crashed");
    this.writesLeft -= 1;
    this.written.push(`${what} ${kind} ${name}`);
    if (this.writesLeft <= 0) throw new Error("crashed");
    return this.objects.get(`${kind}/${name}`) ?? { metadata: { name } };
  }
}

describe("ranks that are made", () => {
  let authority: Authority;
  before(async () => (authority = await createAuthority()));

  const PLACES = ["campus", "campus", "campus", "garage", "garage"].map(
    (provider, rank): Assignment => ({
      ...{ chain: 0, segment: 0, rank, node: `${provider}-${rank}`, provider },
      ...{ layers: { start: 0, end: 4 }, sliceWeights: [1], weightBytes: 1000, kvBytes: 24 },
    }),
  );
  const makerOf = (server: FakeServer) =>
    new RankMaker({
      ...{ client: server.client, clock: new StoppedClock(), authority, image: "tessellate:test" },
      stores: { pods: { get: (key: string) => server.objects.get(`Pod/${key.split("/")[1]}`) } } as unknown as Stores,
    });
  const wantedOf = (assignment: Assignment, node: Partial<NodeFacts> = {}): RankWanted => ({
    ...{ model: MODEL, facts: FACTS, placement: { assignments: PLACES }, revision: "r1", assignment },
    node: aNode(assignment.node, node),
  });
  const missing = (server: FakeServer) =>
    PLACES.filter((each) => !server.objects.has(`Pod/${rankName(MODEL, each)}`)).map((each) => wantedOf(each));
  const told = (server: FakeServer) =>
    Object.fromEntries(server.all("Pod").map((pod) => [pod.metadata.name.slice("tiny-0-0-".length), secretOf(pod)]));
  /** What is not as it should be once all ranks are there. */
  const amiss = (server: FakeServer): readonly string[] => {
    const secrets = server.all("Secret").map(({ metadata }) => metadata.name);
    const owners = Map.groupBy(server.all("Pod"), (pod) => secretOf(pod) ?? "");
    return [
      ...server.wrong,
      ...secrets.filter((name) => !server.mounted.has(name)).map((name) => `${name} is mounted by nobody`),
      ...[...owners].flatMap(([name, pods]) => {
        const providers = new Set(pods.map(({ metadata }) => metadata.labels?.["tessellate.dev/provider"]));
        return providers.size === 1 ? [] : [`${name} is of ${[...providers]}`];
      }),
      ...server.all("Pod").flatMap((pod) => {
        const { data = {} } = (server.objects.get(`Secret/${secretOf(pod)}`) ?? {}) as { data?: object };
        return ["json", "crt", "key"].every((end) => `${pod.metadata.name}.${end}` in data)
          ? []
          : [`${pod.metadata.name} is told nothing`];
      }),
    ];
  };

  it("are told by one Secret for each provider, which costs a write each", async () => {
    const server = new FakeServer();
    await makerOf(server).make(missing(server));
    expect(server.written.filter((each) => !each.includes("Pod"))).to.deep.equal([
      "create Service tiny",
      "create Secret tiny-0.campus",
      "create Secret tiny-0.garage",
    ]);
    expect(Object.values(told(server))).to.deep.equal([
      ...Array.from({ length: 3 }, () => "tiny-0.campus"),
      ...Array.from({ length: 2 }, () => "tiny-0.garage"),
    ]);
    expect(amiss(server)).to.deep.equal([]);
  });

  it("are told by themselves where others mount what they would share, and together again once nobody does", async () => {
    const server = new FakeServer();
    const maker = makerOf(server);
    await maker.make(missing(server));
    server.objects.delete("Pod/tiny-0-0-1");
    await maker.make(missing(server));
    expect(told(server)).to.include({ 0: "tiny-0.campus", 1: "tiny-0-0-1", 2: "tiny-0.campus" });
    for (const rank of [0, 1, 2]) server.objects.delete(`Pod/tiny-0-0-${rank}`);
    await makerOf(server).make(missing(server)); // another operator
    expect(told(server)).to.include({ 0: "tiny-0.campus", 1: "tiny-0.campus", 2: "tiny-0.campus" });
    expect(amiss(server)).to.deep.equal([]);
  });

  it("are told apart beyond what a Secret holds", async () => {
    const server = new FakeServer();
    const places = Array.from({ length: 66 }, (_, rank) => ({ ...PLACES[0], rank }) as Assignment);
    await makerOf(server).make(places.map((each) => wantedOf(each)));
    expect(server.all("Secret").map(({ metadata }) => metadata.name)).to.deep.equal([
      "tiny-0.campus",
      "tiny-0-0-64",
      "tiny-0-0-65",
    ]);
    expect(amiss(server)).to.deep.equal([]);
  }).timeout(20_000);

  it("leave behind no Secret of a pod that somebody deleted and nothing replaces", async () => {
    const server = new FakeServer();
    const maker = makerOf(server);
    await maker.make(missing(server));
    await maker.clearUnmounted(MODEL, server.all("Pod"));
    for (const rank of [3, 4]) server.objects.delete(`Pod/tiny-0-0-${rank}`);
    await maker.clearUnmounted(MODEL, server.all("Pod"));
    expect(server.all("Secret").map(({ metadata }) => metadata.name)).to.deep.equal(["tiny-0.campus"]);
    const { length } = server.written;
    await maker.clearUnmounted(MODEL, server.all("Pod"));
    expect(server.written, "at rest").to.have.lengthOf(length);
  });

  it("take their Secret along when the last of them goes", async () => {
    const server = new FakeServer();
    const maker = makerOf(server);
    await maker.make(missing(server));
    const pods = server.all("Pod"); // as a copy that lags has them
    expect(pods.map((pod) => maker.going("default/tiny", pod, pods))).to.deep.equal([
      ...[undefined, undefined, "tiny-0.campus"],
      ...[undefined, "tiny-0.garage"],
    ]);
  });

  it("are renewed alone, also in a Secret of the version before, which was one rank's", async () => {
    const server = new FakeServer();
    const maker = makerOf(server);
    await maker.make(missing(server));
    const dataOf = (name: string) => (server.objects.get(`Secret/${name}`) as { data?: Record<string, string> }).data;
    const before = dataOf("tiny-0.campus");
    const pod = server.all("Pod")[0] as KubeObject;
    await maker.renew(wantedOf(PLACES[0] as Assignment), pod);
    const after = dataOf("tiny-0.campus");
    const changed = Object.keys(after ?? {}).filter((key) => after?.[key] !== before?.[key]);
    expect(changed.sort()).to.deep.equal(["tiny-0-0-0.crt", "tiny-0-0-0.key"]);

    const old = { ...pod, spec: { volumes: [{ name: "config", secret: { secretName: "tiny-0-0-0" } }] } };
    await server.create({ kind: "Secret" } as Resource, {
      metadata: { name: "tiny-0-0-0" },
      data: { "tls.crt": "old" },
    });
    await maker.renew(wantedOf(PLACES[0] as Assignment), old);
    expect(Object.keys(dataOf("tiny-0-0-0") ?? {}).sort()).to.deep.equal(["ca.crt", "rank.json", "tls.crt", "tls.key"]);
    expect(dataOf("tiny-0-0-0")?.["tls.crt"]).not.to.equal("old");
  });

  it("come to the same end, whatever is deleted meanwhile and wherever operators end", async () => {
    const event = fc.oneof(
      fc.record({ lose: fc.array(fc.nat(PLACES.length - 1), { maxLength: 4 }) }),
      fc.record({ diesAfter: fc.integer({ min: 1, max: 9 }) }),
    );
    await fc.assert(
      fc.asyncProperty(fc.array(event, { maxLength: 8 }), fc.boolean(), async (events, endsWhole) => {
        const server = new FakeServer();
        let maker = makerOf(server);
        for (const each of events) {
          if ("lose" in each) for (const rank of each.lose) server.objects.delete(`Pod/tiny-0-0-${rank}`);
          else server.writesLeft = each.diesAfter;
          await maker.make(missing(server)).catch(() => undefined);
          if (server.writesLeft <= 0) maker = makerOf(server);
          server.writesLeft = Number.POSITIVE_INFINITY;
        }
        if (endsWhole) for (const rank of PLACES.keys()) server.objects.delete(`Pod/tiny-0-0-${rank}`);
        await maker.make(missing(server));
        await maker.clearUnmounted(MODEL, server.all("Pod"));
        expect(amiss(server)).to.deep.equal([]);
        expect(server.all("Pod")).to.have.lengthOf(PLACES.length);
      }),
      { numRuns: 150 },
    );
  }).timeout(60_000);
});

describe("a shared Secret's name", () => {
  it("says whose it is, and fits where the provider's does not", () => {
    expect(sharedSecretName(MODEL, { chain: 3, provider: "campus.example.org" })).to.equal("tiny-3.campus.example.org");
    const long = (end: string) => sharedSecretName(MODEL, { chain: 0, provider: `${"a".repeat(250)}${end}` });
    expect(long("b"))
      .to.match(/^tiny-0\.[0-9a-f]{40}$/)
      .and.not.to.equal(long("c"));
  });
});
