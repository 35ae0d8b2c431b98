import { expect } from "chai";
import type { ModelSource } from "./rank-config.ts";
import { headersOf, placeOf, shownFile, urlOf } from "./source.ts";

function httpPlace(source: ModelSource) {
  const place = placeOf(source);
  if (!place.ok) throw new Error(place.detail);
  if (place.value.kind !== "http") throw new Error("no URL");
  return place.value;
}

describe("model sources", () => {
  const urls: readonly { readonly source: ModelSource; readonly path: string; readonly url: string }[] = [
    { source: { url: "http://127.0.0.1:81/m/" }, path: "a/b c%.json", url: "http://127.0.0.1:81/m/a/b%20c%25.json" },
    {
      source: { url: "https://store.example/m?sig=abc" },
      path: "a#?.x",
      url: "https://store.example/m/a%23%3F.x?sig=abc",
    },
    {
      source: { huggingFace: { repo: "owner/name", revision: "main", endpoint: "http://127.0.0.1:9/hub" } },
      path: "model.safetensors",
      url: "http://127.0.0.1:9/hub/owner/name/resolve/main/model.safetensors",
    },
    {
      source: { huggingFace: { repo: "owner/na.me-1", revision: "refs/pr/1", endpoint: "http://127.0.0.1:9" } },
      path: "a/b",
      url: "http://127.0.0.1:9/owner/na.me-1/resolve/refs%2Fpr%2F1/a/b",
    },
  ];
  for (const { source, path, url } of urls)
    it(`puts ${path} of ${JSON.stringify(source)} at ${url}`, () =>
      expect(urlOf(httpPlace(source), path).href).to.equal(url));

  it("finds folders and claims", () => {
    expect(placeOf({ path: "models/demo/" })).to.deep.include({
      ok: true,
      value: { kind: "folder", directory: "models/demo/", shown: "models/demo" },
    });
    const claim = placeOf({ persistentVolumeClaim: { claimName: "c", path: "/llama" } });
    expect(claim.ok && claim.value.shown).to.equal("/var/lib/tessellate/model/llama");
  });

  it("shows no query, and gives a hub's token to hubs only", () => {
    const store = httpPlace({ url: "https://store.example/m?sig=abc" });
    expect(shownFile(store, "x")).to.equal("https://store.example/m/x");
    expect(headersOf(store, "secret")).to.not.have.property("authorization");
    const hub = httpPlace({ huggingFace: { repo: "a/b", revision: "main" } });
    expect(headersOf(hub, "secret")).to.deep.equal({ authorization: "Bearer secret" });
    expect(headersOf(hub)).to.not.have.property("authorization");
  });

  const refused: readonly { readonly source: ModelSource; readonly says: string }[] = [
    { source: { path: "" }, says: "path" },
    { source: { url: "ftp://x/y" }, says: "url" },
    { source: { url: "not a url" }, says: "url" },
    { source: { url: "https://me:secret@x/y" }, says: "password" },
    { source: { huggingFace: { repo: "../x", revision: "main" } }, says: "huggingFace.repo" },
    { source: { huggingFace: { repo: "a/b/c", revision: "main" } }, says: "huggingFace.repo" },
    { source: { huggingFace: { repo: "a/b", revision: "../../x" } }, says: "huggingFace.revision" },
    { source: { huggingFace: { repo: "a/b", revision: "main", endpoint: "x" } }, says: "huggingFace.endpoint" },
    { source: { persistentVolumeClaim: { claimName: "c", path: "a/../../etc" } }, says: "persistentVolumeClaim.path" },
  ];
  for (const { source, says } of refused)
    it(`refuses ${JSON.stringify(source)}`, () => {
      const place = placeOf(source);
      if (place.ok) throw new Error("was taken");
      expect(place.code).to.equal("MalformedSource");
      expect(place.detail).to.include(says).and.not.include("secret");
    });
});
