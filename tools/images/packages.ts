/** Which npm packages some imports come to, by the lock file: dependencies of dependencies included, nothing for tests. */
import { readFileSync, statSync } from "node:fs";
import { join } from "node:path";

export type LockedPackage = {
  readonly path: string; // node_modules/…, relative to the repository
  readonly name: string;
  readonly version: string;
  readonly integrity?: string; // sha512-BASE64
  readonly licence?: string;
  readonly dependsOn: readonly string[]; // paths
};

type Names = Readonly<Record<string, string>>;
type Entry = {
  readonly version: string;
  readonly integrity?: string;
  readonly license?: string;
  readonly dependencies?: Names;
  readonly optionalDependencies?: Names;
  readonly peerDependencies?: Names;
  readonly peerDependenciesMeta?: Readonly<Record<string, { readonly optional?: boolean }>>;
};
type Lock = { readonly packages: Readonly<Record<string, Entry>> };

/**
 * The closure of `names` as installed in `root`, sorted by path. Packages of types alone are left out. Throws where a
 * needed one is neither locked nor installed.
 */
export function packagesOf(root: string, names: readonly string[]): readonly LockedPackage[] {
  const lock: Lock = JSON.parse(readFileSync(join(root, "package-lock.json"), "utf8"));
  const isInstalled = (path: string) => statSync(join(root, path, "package.json"), { throwIfNoEntry: false })?.isFile();
  /** As Node looks: in the folder of the one who asks, then in those above it. */
  const resolve = (name: string, from: string): string | undefined =>
    foldersAbove(from)
      .map((folder) => `${folder}node_modules/${name}`)
      .find((path) => path in lock.packages && isInstalled(path));
  const found = new Map<string, LockedPackage>();
  const add = (path: string): void => {
    if (found.has(path)) return;
    const entry = lock.packages[path];
    if (entry === undefined) throw new Error(`${path} is not in package-lock.json`);
    const dependsOn: string[] = [];
    const { version, integrity, license: licence } = entry;
    const name = path.slice(path.lastIndexOf("node_modules/") + "node_modules/".length);
    found.set(path, { path, name, version, dependsOn, ...(integrity && { integrity }), ...(licence && { licence }) });
    for (const { wanted, isOptional } of wantedBy(entry)) {
      const resolved = resolve(wanted, path);
      if (resolved === undefined && isOptional) continue;
      if (resolved === undefined) throw new Error(`${path} needs ${wanted}, which is not installed: run npm ci`);
      dependsOn.push(resolved);
      add(resolved);
    }
  };
  for (const name of names) add(resolve(name, "") ?? `node_modules/${name}`);
  return [...found.values()].sort((a, b) => (a.path < b.path ? -1 : 1));
}

/** `node_modules/a/node_modules/b` → itself, `node_modules/a/`, and the repository's own. */
const foldersAbove = (path: string): readonly string[] => {
  const parts = path.split(/(?:^|\/)node_modules\//).slice(1);
  return [...parts.keys(), parts.length].reverse().map((count) =>
    parts
      .slice(0, count)
      .map((part) => `node_modules/${part}/`)
      .join(""),
  );
};

function wantedBy(entry: Entry): readonly { readonly wanted: string; readonly isOptional: boolean }[] {
  const optional = Object.keys(entry.optionalDependencies ?? {});
  const peers = Object.keys(entry.peerDependencies ?? {});
  const required = Object.keys(entry.dependencies ?? {}).filter((name) => !optional.includes(name));
  return [
    ...required.map((wanted) => ({ wanted, isOptional: false })),
    ...optional.map((wanted) => ({ wanted, isOptional: true })),
    ...peers.map((wanted) => ({ wanted, isOptional: entry.peerDependenciesMeta?.[wanted]?.optional === true })),
  ].filter(({ wanted }) => !wanted.startsWith("@types/"));
}
