/** One image with every process of the house in it, as chart 0.1.0 wants it: that of the ranks, and the others' files laid over it. */
import { execFile } from "node:child_process";
import { existsSync, mkdirSync, rmSync, symlinkSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import type { BuiltImages } from "../../tools/images/build.ts";
import { type Contents, CONTENTS } from "../../tools/images/contents.ts";
import { gather } from "../../tools/images/context.ts";
import { REPOSITORY } from "../cluster/container-process.ts";

const run = promisify(execFile);

/**
 * Makes an archive that `ctr images import` takes. `folder` holds it, and what is needed on the way. `root`: whose sources
 * go in, with packages installed; another checkout of this repository, for instance.
 */
export async function wholeImage(
  folder: string,
  built: BuiltImages,
  reference: string,
  root = REPOSITORY,
): Promise<string> {
  const parts = CONTENTS.filter(({ name }) => name !== "cli");
  const ranks = built.images.find((image) => image.reference.includes("shard-runtime"));
  const [first] = parts;
  if (first === undefined || ranks === undefined) throw new Error("no image of the operator, or none of the ranks");
  const context = join(folder, "context");
  const all = (pick: (contents: Contents) => readonly string[]) =>
    [...new Set(parts.flatMap(pick))].filter((path) => existsSync(join(root, path)));
  const contents: Contents = {
    ...first,
    otherEntries: all(({ entry, otherEntries = [] }) => [entry, ...otherEntries]),
    folders: all(({ folders }) => folders),
    files: all(({ files }) => files),
  };
  gather(root, contents, context, undefined);
  const storage = join(folder, "storage");
  const archive = join(folder, "whole.tar");
  mkdirSync(storage, { recursive: true });
  symlinkSync(built.directory, join(folder, "layout")); // buildah makes a name of the path, which must be in small letters
  const buildah = async (...args: readonly string[]) => {
    const where = ["--root", join(storage, "root"), "--runroot", join(storage, "run"), "--storage-driver=overlay"];
    const environment = { PATH: "/usr/sbin:/usr/bin:/sbin:/bin", HOME: folder, BUILDAH_ISOLATION: "chroot" };
    return (await run("/usr/bin/buildah", [...where, ...args], { env: environment, cwd: folder })).stdout.trim();
  };
  const container = await buildah("from", `oci:layout:${ranks.reference}`);
  await buildah("copy", container, join(context, "packages"), "/app/node_modules");
  await buildah("copy", container, join(context, "app"), "/app");
  await buildah("commit", "--quiet", container, reference);
  await buildah("push", "--quiet", reference, `docker-archive:${archive}:${reference}`);
  await buildah("rm", container);
  rmSync(storage, { recursive: true, force: true });
  return archive;
}
