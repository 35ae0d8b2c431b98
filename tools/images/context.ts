/** Gathers what goes into one image into a folder, every file with the same mode and nothing of this machine in it. */
import { chmodSync, copyFileSync, globSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { type Contents, ENGINE_PACKAGE, isOurs, isShipped } from "./contents.ts";
import { type LockedPackage, packagesOf } from "./packages.ts";
import { sourcesOf } from "./sources.ts";

export type Gathered = { readonly packages: readonly LockedPackage[]; readonly imported: readonly string[] };

/**
 * Writes `app/`, `packages/` and, with an engine, `native/` into `folder`. `library` is the compiled operators' file.
 * `root` is the repository, with its packages installed.
 */
export function gather(root: string, contents: Contents, folder: string, library: string | undefined): Gathered {
  const { files, packages: imported } = sourcesOf(root, [contents.entry, ...(contents.otherEntries ?? [])]);
  const whole = contents.folders.flatMap((from) =>
    globSync("**/*", { cwd: join(root, from), withFileTypes: true })
      .filter((entry) => entry.isFile() && isOurs(entry.name))
      .map((entry) => join(entry.parentPath, entry.name).slice(root.length + 1)),
  );
  for (const file of new Set([...files, ...whole, ...contents.files]))
    copy(join(root, file), join(folder, "app", file));
  copy(join(root, "LICENSE"), join(folder, "app", "LICENSE"));
  const { name, version, type } = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));
  writeFileSync(join(folder, "app", "package.json"), `${JSON.stringify({ name, version, type, private: true })}\n`);

  const packages = packagesOf(root, imported);
  for (const { path } of packages) copyPackage(root, path, join(folder, "packages"));
  if (!contents.hasEngine) return { packages, imported };
  if (library === undefined) throw new Error(`${contents.name} has an engine, and no operators were compiled for it`);
  copy(library, join(folder, "native", library.slice(library.lastIndexOf("/") + 1)), 0o755);
  // Its own dependencies are of its JavaScript, which nothing here loads.
  const engine = packagesOf(root, [ENGINE_PACKAGE]).filter(({ name: each }) => each === ENGINE_PACKAGE);
  copyEngine(root, join(folder, "packages"));
  const all = [...packages, ...engine.map((each) => ({ ...each, dependsOn: [] }))];
  return { packages: all, imported: [...imported, ENGINE_PACKAGE] };
}

function copyPackage(root: string, path: string, into: string): void {
  const source = join(root, path);
  const target = join(into, path.slice("node_modules/".length));
  // Packages inside this one are on the list themselves, where they are needed.
  const entries = globSync("**/*", { cwd: source, withFileTypes: true, exclude: ["node_modules/**"] });
  for (const entry of entries) {
    const inside = join(entry.parentPath, entry.name).slice(source.length + 1);
    if (entry.isFile() && isShipped(inside)) copy(join(source, inside), join(target, inside));
  }
}

function copyEngine(root: string, into: string): void {
  const source = join(root, "node_modules", ENGINE_PACKAGE);
  const library = `bin/napi-v6/${process.platform}/${process.arch}/libonnxruntime.so.1`;
  for (const file of ["package.json", library]) copy(join(source, file), join(into, ENGINE_PACKAGE, file));
}

/** A copy of bytes alone: whose it was, when, and with which mode, is this machine's business. */
function copy(from: string, to: string, mode = 0o644): void {
  mkdirSync(dirname(to), { recursive: true });
  copyFileSync(from, to);
  chmodSync(to, mode);
}
