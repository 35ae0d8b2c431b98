/** The operator's client against a real API server: what a fake one would let pass. */
import { expect } from "chai";
import { systemClock } from "../../operator/clock.ts";
import { clusterAccess } from "../../operator/kube/access.ts";
import { KubeClient, isStatus } from "../../operator/kube/client.ts";
import { EventRecorder } from "../../operator/kube/events.ts";
import { acquireLease } from "../../operator/kube/lease.ts";
import { EVENTS, LEASES, type KubeObject, type Resource } from "../../operator/kube/objects.ts";
import { type Change, Reflector } from "../../operator/kube/reflector.ts";
import { type ControlPlane, startControlPlane } from "../cluster/control-plane.ts";

const CONFIG_MAPS: Resource = { group: "", version: "v1", kind: "ConfigMap", plural: "configmaps", namespaced: true };
const configMap = (name: string, data: Readonly<Record<string, string>>): KubeObject => ({
  metadata: { name, namespace: "default", labels: { test: "yes" } },
  data,
});

describe("the operator's client on a real API server", function () {
  this.timeout(600_000);
  let cluster: ControlPlane;
  let client: KubeClient;
  const clock = systemClock();
  const stop = new AbortController();

  before(async () => {
    cluster = await startControlPlane();
    client = new KubeClient(clusterAccess(cluster.kubeconfig));
  });
  after(async () => {
    stop.abort(new Error("the test is over"));
    client?.close();
    await cluster?.stop();
  });

  it("applies: makes, changes, takes back its own fields, leaves others'", async () => {
    const place = { namespace: "default", name: "applied" };
    await client.apply(CONFIG_MAPS, configMap("applied", { a: "1", b: "1" }));
    await cluster.kubectl(["patch", "configmap", "applied", "--type=merge", "-p", '{"data":{"theirs":"1"}}']);
    await client.apply(CONFIG_MAPS, configMap("applied", { a: "2" }));
    expect((await client.get(CONFIG_MAPS, place))["data"]).to.deep.equal({ a: "2", theirs: "1" });
    const again = await client.apply(CONFIG_MAPS, configMap("applied", { a: "2" }));
    const once = await client.apply(CONFIG_MAPS, configMap("applied", { a: "2" }));
    expect(once.metadata.resourceVersion, "the same again changes nothing").to.equal(again.metadata.resourceVersion);
  });

  it("says what the server says", async () => {
    expect(await client.find(CONFIG_MAPS, { namespace: "default", name: "none" })).to.equal(undefined);
    await client.delete(CONFIG_MAPS, { namespace: "default", name: "none" });
    const made = await client.create(CONFIG_MAPS, configMap("twice", {}));
    const second = await client.create(CONFIG_MAPS, configMap("twice", {})).catch((error: unknown) => error);
    expect(isStatus(second, 409)).to.equal(true);
    await client.replace(CONFIG_MAPS, { ...made, data: { x: "1" } });
    const stale = await client.replace(CONFIG_MAPS, { ...made, data: { x: "2" } }).catch((error: unknown) => error);
    expect(isStatus(stale, 409)).to.equal(true);
    const other = await client
      .delete(CONFIG_MAPS, { namespace: "default", name: "twice" }, { uid: "another" })
      .catch((error: unknown) => error);
    expect(isStatus(other, 409), "only that very object").to.equal(true);
  });

  it("watches through a restart of the server, and misses nothing", async () => {
    const changes: string[] = [];
    let look = () => {};
    const until = (condition: () => boolean) =>
      new Promise<void>((resolve) => {
        look = () => condition() && resolve();
        look();
      });
    const onChange = ({ type, object }: Change) => {
      changes.push(`${type} ${object.metadata.name}`);
      look();
    };
    const watch = new AbortController();
    const options = {
      client,
      clock,
      resource: CONFIG_MAPS,
      namespace: "default",
      labelSelector: "watched=yes",
      pageCount: 2,
    };
    const reflector = new Reflector({ ...options, onChange, backOff: { leastMs: 20, mostMs: 200 } });
    const make = (name: string) =>
      client.apply(CONFIG_MAPS, { metadata: { name, namespace: "default", labels: { watched: "yes" } } });
    for (const name of ["w1", "w2", "w3"]) await make(name);
    const running = reflector.run(watch.signal);
    await reflector.firstList;
    expect(changes).to.deep.equal(["added w1", "added w2", "added w3"]);
    await make("w4");
    await client.delete(CONFIG_MAPS, { namespace: "default", name: "w1" });
    await until(() => changes.includes("deleted w1"));

    await cluster.apiServer.stop();
    await cluster.apiServer.start();
    await client.delete(CONFIG_MAPS, { namespace: "default", name: "w2" });
    await make("w5");
    await until(() => changes.includes("added w5") && changes.includes("deleted w2"));
    expect(
      reflector
        .all()
        .map(({ metadata }) => metadata.name)
        .sort(),
    ).to.deep.equal(["w3", "w4", "w5"]);
    watch.abort();
    await running;
  });

  it("leads, hands over, and is fenced by the count of hand-overs", async () => {
    const lease = { client, clock, namespace: "default", name: "contract", retryMs: 100 };
    const first = await acquireLease({ ...lease, identity: "a" }, stop.signal);
    const second = acquireLease({ ...lease, identity: "b" }, stop.signal);
    const stored = await client.get(LEASES, { namespace: "default", name: "contract" });
    expect((stored["spec"] as { holderIdentity: string }).holderIdentity).to.equal("a");
    await clock.sleep(500); // a few renewals
    expect(first.lost.aborted).to.equal(false);
    await first.release();
    const next = await second;
    expect(next.fence).to.equal(first.fence + 1);
    await next.release();
  });

  it("loses a lease that somebody else was given", async () => {
    const lease = { client, clock, namespace: "default", name: "taken", retryMs: 100 };
    const first = await acquireLease({ ...lease, identity: "a" }, stop.signal);
    await cluster.kubectl(["patch", "lease", "taken", "--type=merge", "-p", '{"spec":{"holderIdentity":"b"}}']);
    await new Promise<void>((resolve) => first.lost.addEventListener("abort", () => resolve(), { once: true }));
    expect(String(first.lost.reason)).to.contain("held by b");
  });

  it("writes events that kubectl shows, and counts the same one up", async () => {
    const object = await client.create(CONFIG_MAPS, configMap("noted", {}));
    const troubles: string[] = [];
    const recorder = new EventRecorder({
      client,
      clock,
      instance: "contract-test",
      onTrouble: (detail) => troubles.push(detail),
    });
    const happening = { type: "Warning", reason: "Tested", action: "Test", note: "something to see" } as const;
    for (let time = 0; time < 3; time++) recorder.record(CONFIG_MAPS, object, happening);
    await recorder.written();
    expect(troubles).to.deep.equal([]);
    const { items } = (await client.request({
      method: "GET",
      path: `/apis/${EVENTS.group}/v1/namespaces/default/events`,
    })) as { items: KubeObject[] };
    const ours = items.filter((event) => event["reason"] === "Tested");
    expect(ours).to.have.lengthOf(1);
    expect(ours[0]?.["series"]).to.include({ count: 3 });
    expect(await cluster.kubectl(["events", "--for", "configmap/noted"])).to.contain("something to see");
  });
});
