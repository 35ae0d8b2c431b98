/**
 * Builds the images with buildah, into one OCI layout whose layers they share. Nothing runs inside an image while it is
 * built, so it takes neither a network nor a shell in the base; what a build is made of is gathered here beforehand.
 * The result is kept outside the tree under a digest of all that went in.
 */
import { createHash } from "node:crypto";
import {
  chmodSync,
  copyFileSync,
  cpSync,
  existsSync,
  globSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { homedir, tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { runStep } from "../run.ts";
import { type DebianPackage, debianBase } from "./base.ts";
import { billOfMaterials } from "./bill.ts";
import { CONTENTS, IMAGE_NAMES, type ImageName } from "./contents.ts";
import { gather } from "./context.ts";
import { type BuiltImage, finishLayout, readLayout } from "./layout.ts";

const ROOT = dirname(dirname(dirname(fileURLToPath(import.meta.url))));
const ARCHIVE = "images.tar";
const KEPT_LAYOUT_COUNT = 4;
/** Bases, compiled operators, and the layouts built last. */
export const IMAGE_CACHE = join(homedir(), ".cache", "tessellate", "images");

export type BuildOptions = {
  /** Reference of an image with glibc and libstdc++ that buildah can fetch. Left out, one made of Debian packages. */
  readonly base?: string | undefined;
  /** In front of `tessellate-operator` and the others. Default: localhost. */
  readonly registry?: string | undefined;
  /** Default: the version in package.json. */
  readonly tag?: string | undefined;
  readonly names?: readonly ImageName[];
  readonly cacheDirectory?: string;
  readonly report?: (line: string) => void;
};

export type BuiltImages = {
  /** An OCI layout, each image under its full reference; beside it `tessellate-NAME.cdx.json`, the bills of materials. */
  readonly directory: string;
  /** The layout as one file, for `ctr images import`. */
  readonly archive: string;
  readonly images: readonly BuiltImage[];
};

/** Why images cannot be built here, or undefined where they can. */
export async function whyNoImages(base?: string): Promise<string | undefined> {
  if (process.platform !== "linux") return `images are built with buildah on Linux, and this is ${process.platform}`;
  if (process.getuid?.() !== 0) return "buildah's storage is set up for root here (try sudo)";
  const tools = [
    ["buildah", "--version"] as const,
    ...(base === undefined ? [["mmdebstrap", "--version"] as const] : []),
  ];
  for (const command of tools) {
    const { code } = await runStep({ name: command[0], command });
    if (code !== 0) return `${command[0]} was not found: install Debian's package of that name`;
  }
  return undefined;
}

/** Builds what is not there yet. Throws, with what buildah said, where it fails. */
export async function buildImages(options: BuildOptions = {}): Promise<BuiltImages> {
  const why = await whyNoImages(options.base);
  if (why !== undefined) throw new Error(why);
  const scratch = mkdtempSync(join(tmpdir(), "tessellate-images-"));
  try {
    return await new Build(options, scratch).run();
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}

class Build {
  readonly #options: BuildOptions;
  readonly #scratch: string;
  readonly #cache: string;
  readonly #report: (line: string) => void;
  readonly #tag: string;

  constructor(options: BuildOptions, scratch: string) {
    this.#options = options;
    this.#scratch = scratch;
    this.#cache = options.cacheDirectory ?? IMAGE_CACHE;
    this.#report = options.report ?? (() => {});
    this.#tag = options.tag ?? JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8")).version;
  }

  async run(): Promise<BuiltImages> {
    process.umask(0o022); // folders of an image must be open to its user
    const chosen = CONTENTS.filter(({ name }) => (this.#options.names ?? IMAGE_NAMES).includes(name));
    const debian = await this.#base();
    const library = chosen.some(({ hasEngine }) => hasEngine) ? await this.#operators() : undefined;
    this.#gatherRuntime();
    for (const contents of chosen) {
      const folder = this.#context(contents.name);
      const { packages, imported } = gather(ROOT, contents, folder, library);
      const bill = billOfMaterials({
        image: `tessellate-${contents.name}`,
        description: contents.description,
        version: this.#tag,
        nodeVersion: process.versions.node,
        packages,
        imported,
        debian,
        ...(this.#options.base === undefined ? {} : { foreignBase: this.#options.base }),
      });
      writeFileSync(join(folder, "bill.cdx.json"), bill, { mode: 0o644 });
    }
    const digest = this.#digestOfContexts();
    const directory = join(this.#cache, `layout-${digest}`);
    const result = () => ({ directory, archive: join(directory, ARCHIVE), images: readLayout(directory) });
    if (existsSync(directory)) {
      this.#report(`found, as built before: ${directory}`);
      return result();
    }
    const layout = join(this.#scratch, "layout");
    await this.#buildRuntime();
    for (const { name, description } of chosen) await this.#buildImage(name, description, layout);
    finishLayout(layout);
    await this.#writeArchive(layout);
    for (const { name } of chosen)
      copyFileSync(join(this.#context(name), "bill.cdx.json"), join(layout, `tessellate-${name}.cdx.json`));
    // Whole or not at all: another build may look for it, and temporary folders may be on another disk.
    mkdirSync(this.#cache, { recursive: true });
    const partial = `${directory}.${process.pid}.partial`;
    cpSync(layout, partial, { recursive: true });
    if (existsSync(directory)) rmSync(partial, { recursive: true });
    else renameSync(partial, directory);
    this.#forgetOld();
    return result();
  }

  /** What was built of earlier sources. Some stay, since another process may be reading them. */
  #forgetOld(): void {
    const layouts = globSync(join(this.#cache, "layout-*")).map((path) => ({ path, madeMs: statSync(path).mtimeMs }));
    for (const { path } of layouts.sort((a, b) => b.madeMs - a.madeMs).slice(KEPT_LAYOUT_COUNT))
      rmSync(path, { recursive: true, force: true });
  }

  async #writeArchive(layout: string): Promise<void> {
    const file = join(layout, ARCHIVE);
    const command = ["tar", "-C", layout, "-cf", file, "oci-layout", "index.json", "blobs"] as const;
    const { code, output } = await runStep({ name: "tar", command });
    if (code !== 0) throw new Error(`${file} could not be written:\n${output}`);
  }

  #context(name: string): string {
    const folder = join(this.#scratch, "context", name);
    mkdirSync(folder, { recursive: true });
    return folder;
  }

  async #base(): Promise<readonly DebianPackage[]> {
    if (this.#options.base !== undefined) return [];
    const { tar, packages } = await this.#timed("a base of Debian packages", () => debianBase(this.#cache, Date.now()));
    copyFileSync(tar, join(this.#context("debian"), "base.tar"));
    return packages;
  }

  /** The engine's own operators, by the same command as everywhere; compiled once. */
  async #operators(): Promise<string> {
    const env = { TESSELLATE_NATIVE: join(this.#cache, "native"), TESSELLATE_PRODUCTS: "" };
    const command = [process.execPath, join(ROOT, "tools/build-operators.ts")] as const;
    const step = { name: "operators", command, env };
    const { code, output } = await this.#timed("the engine's operators", () => runStep(step));
    const path = output.trim().split("\n").at(-1) ?? "";
    if (code !== 0) throw new Error(`the engine's operators could not be compiled:\n${output}`);
    return path;
  }

  #gatherRuntime(): void {
    const node = join(this.#context("runtime"), "node");
    copyFileSync(process.execPath, node);
    chmodSync(node, 0o755);
  }

  /** Of every byte that the images are made from, and of how they are called. */
  #digestOfContexts(): string {
    const hash = createHash("sha256");
    const { base = "", registry = "" } = this.#options;
    hash.update(JSON.stringify([base, registry, this.#tag]));
    const add = (root: string, pattern: string) => {
      const entries = globSync(pattern, { cwd: root, withFileTypes: true }).filter((entry) => entry.isFile());
      for (const path of entries.map((entry) => join(entry.parentPath, entry.name)).sort())
        hash.update(`${path.slice(root.length)}\0`).update(createHash("sha256").update(readFileSync(path)).digest());
    };
    add(join(this.#scratch, "context"), "**/*");
    add(join(ROOT, "images"), "*.Containerfile");
    return hash.digest("hex").slice(0, 16);
  }

  async #buildRuntime(): Promise<void> {
    const { base } = this.#options;
    if (base === undefined) await this.#buildah("debian", "localhost/tessellate-debian", []);
    const from = base ?? "localhost/tessellate-debian";
    await this.#buildah("runtime", "localhost/tessellate-runtime", [`--build-arg=BASE=${from}`]);
  }

  async #buildImage(name: ImageName, description: string, layout: string): Promise<void> {
    const reference = `${this.#options.registry ?? "localhost"}/tessellate-${name}:${this.#tag}`;
    const labels = {
      title: `tessellate-${name}`,
      description,
      version: this.#tag,
      licenses: "Apache-2.0",
    };
    await this.#buildah(name, reference, [
      "--build-arg=RUNTIME=localhost/tessellate-runtime",
      ...Object.entries(labels).map(([key, value]) => `--label=org.opencontainers.image.${key}=${value}`),
    ]);
    await this.#run(["push", reference, `oci:${layout}:${reference}`]);
  }

  /** One Containerfile, each of its instructions a layer, so that images share what they have in common. */
  async #buildah(name: string, reference: string, parameters: readonly string[]): Promise<void> {
    const file = join(ROOT, "images", `${name}.Containerfile`);
    const fixed = ["--layers", "--timestamp=0", "--identity-label=false", "--format=oci", `--file=${file}`];
    await this.#timed(reference, () =>
      this.#run(["build", ...fixed, ...parameters, `--tag=${reference}`, this.#context(name)]),
    );
  }

  async #run(parameters: readonly [string, ...string[]]): Promise<void> {
    const storage = ["--root", join(this.#scratch, "storage"), "--runroot", join(this.#scratch, "run")];
    const command = ["buildah", ...storage, "--storage-driver=overlay", ...parameters] as const;
    const { code, output } = await runStep({ name: "buildah", command, env: { BUILDAH_ISOLATION: "chroot" } });
    if (code !== 0) throw new Error(`buildah ${parameters.join(" ")} failed:\n${output}`);
  }

  async #timed<T>(what: string, work: () => Promise<T>): Promise<T> {
    const startedAt = performance.now();
    const result = await work();
    this.#report(`${what} (${((performance.now() - startedAt) / 1000).toFixed(1)} s)`);
    return result;
  }
}
