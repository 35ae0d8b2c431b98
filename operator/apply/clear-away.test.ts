import { expect } from "chai";
import { ApiError, type KubeClient } from "../kube/client.ts";
import type { KubeObject } from "../kube/objects.ts";
import { SecretsLeft, clearAway } from "./clear-away.ts";

const owner = { apiVersion: "tessellate.dev/v1alpha1", kind: "ShardedModel", name: "m", uid: "gone" };
const pod = (name: string, rest: Partial<KubeObject["metadata"]> = {}): KubeObject => ({
  metadata: { namespace: "n", name, uid: `uid of ${name}`, resourceVersion: "7", ownerReferences: [owner], ...rest },
});

describe("ranks whose model is gone", () => {
  async function cleared(
    pods: readonly KubeObject[],
    failing: ReadonlyMap<string, number> = new Map(),
    model?: KubeObject,
  ) {
    const deleted: string[] = [];
    const remove: KubeClient["delete"] = async ({ kind }, { name = "" }, options = {}) => {
      const status = failing.get(name);
      if (status !== undefined) throw new ApiError(status, "Test", "not now");
      deleted.push([kind, name, options.uid, options.resourceVersion].filter(Boolean).join(" "));
    };
    const left = new SecretsLeft();
    const client = { delete: remove, find: async () => model };
    await clearAway(client, "n/m", pods, (name) => left.add("n/m", name));
    expect(
      deleted.filter((each) => each.startsWith("Secret")),
      "as long as pods are there",
    ).to.deep.equal([]);
    await left.clear(client, "n/m");
    expect(left.has("n/m")).to.equal(false);
    return deleted.sort();
  }

  it("are deleted as they were seen, and their Secrets afterwards", async () => {
    expect(await cleared([pod("a"), pod("b")])).to.deep.equal([
      "Pod a uid of a 7",
      "Pod b uid of b 7",
      "Secret a",
      "Secret b",
    ]);
  });

  it("are left alone where nobody owns them, or where they leave already", async () => {
    const leaving = { deletionTimestamp: "2026-01-01T00:00:00Z" };
    expect(await cleared([pod("a", { ownerReferences: [] }), pod("b", leaving)])).to.deep.equal([]);
  });

  it("are left alone where the server has the model after all", async () => {
    expect(await cleared([pod("a")], undefined, { metadata: { namespace: "n", name: "m" } })).to.deep.equal([]);
  });

  it("keep their Secret where they have changed meanwhile", async () => {
    expect(await cleared([pod("a"), pod("b")], new Map([["a", 409]]))).to.deep.equal(["Pod b uid of b 7", "Secret b"]);
    const failed = await cleared([pod("a")], new Map([["a", 500]])).catch((error: unknown) => String(error));
    expect(failed).to.contain("not now");
  });
});
