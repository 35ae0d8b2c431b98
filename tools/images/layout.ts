/** The OCI layout that the images are in: what containerd needs to know in it, and what it says of sizes. */
import { existsSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";

export type BuiltImage = {
  readonly reference: string; // localhost/tessellate-operator:0.1.0
  readonly digest: string; // of the manifest, sha256:…
  /** Sum of its layers as they lie in the layout. */
  readonly bytes: number;
  /** Of its layers by digest, for those who count shared ones once. */
  readonly layers: readonly { readonly digest: string; readonly bytes: number }[];
};

type Descriptor = {
  readonly digest: string;
  readonly size: number;
  readonly annotations?: Readonly<Record<string, string>>;
};
type Index = { readonly manifests: readonly Descriptor[] };
type Manifest = { readonly layers: readonly Descriptor[] };

const REFERENCE = "org.opencontainers.image.ref.name";
/** What `ctr images import` takes for the image's whole name; the other it takes for a tag. */
const CONTAINERD_NAME = "io.containerd.image.name";

/** Adds containerd's names to a layout that buildah has written, in the order of their names. */
export function finishLayout(directory: string): void {
  const index: Index = readJson(join(directory, "index.json"));
  const manifests = index.manifests
    .map((each) => ({
      ...each,
      annotations: { ...each.annotations, [CONTAINERD_NAME]: each.annotations?.[REFERENCE] ?? "" },
    }))
    .sort((a, b) => (a.annotations[CONTAINERD_NAME] < b.annotations[CONTAINERD_NAME] ? -1 : 1));
  writeFileSync(join(directory, "index.json"), JSON.stringify({ ...index, manifests }));
}

export function readLayout(directory: string): readonly BuiltImage[] {
  const index: Index = readJson(join(directory, "index.json"));
  return index.manifests.map(({ digest, annotations }) => {
    const manifest: Manifest = readJson(join(directory, "blobs", digest.replace(":", "/")));
    const layers = manifest.layers.map((layer) => ({ digest: layer.digest, bytes: layer.size }));
    const bytes = layers.reduce((sum, layer) => sum + layer.bytes, 0);
    return { reference: annotations?.[REFERENCE] ?? "", digest, bytes, layers };
  });
}

function readJson<T>(file: string): T {
  if (!existsSync(file) || !statSync(file).isFile())
    throw new Error(`${file} is missing: remove its folder, build again`);
  return JSON.parse(readFileSync(file, "utf8"));
}
