import { expect } from "chai";
import { ApiError, type KubeClient } from "../kube/client.ts";
import type { KubeObject } from "../kube/objects.ts";
import { Leftovers } from "./clear-away.ts";
import { secretVolume } from "./rank-secrets.ts";

const owner = { apiVersion: "tessellate.dev/v1alpha1", kind: "ShardedModel", name: "m", uid: "gone" };
const pod = (name: string, rest: Partial<KubeObject["metadata"]> = {}): KubeObject => ({
  metadata: { namespace: "n", name, uid: `uid of ${name}`, resourceVersion: "7", ownerReferences: [owner], ...rest },
  spec: { volumes: [{ name: "config", ...secretVolume(`secret of ${name.slice(0, 1)}`, name) }] },
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
    const left = new Leftovers({ delete: remove, find: async () => model });
    await left.end("n/m", pods);
    const count = deleted.length;
    await left.end(
      "n/m",
      pods.filter(({ metadata }) => !failing.has(metadata.name)),
    );
    expect(deleted.slice(count), "though our copy has yet to show it").to.deep.equal([]);
    expect(
      deleted.filter((each) => each.startsWith("Secret")),
      "as long as pods are there",
    ).to.deep.equal([]);
    await left.clearSecrets("n/m");
    expect(left.has("n/m")).to.equal(false);
    return deleted.sort();
  }

  it("are deleted as they were seen, and their Secrets afterwards", async () => {
    expect(await cleared([pod("a1"), pod("a2"), pod("b")])).to.deep.equal([
      "Pod a1 uid of a1 7",
      "Pod a2 uid of a2 7",
      "Pod b uid of b 7",
      "Secret secret of a",
      "Secret secret of b",
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
    expect(await cleared([pod("a"), pod("b")], new Map([["a", 409]]))).to.deep.equal([
      "Pod b uid of b 7",
      "Secret secret of b",
    ]);
    const failed = await cleared([pod("a")], new Map([["a", 500]])).catch((error: unknown) => String(error));
    expect(failed).to.contain("not now");
  });
});
