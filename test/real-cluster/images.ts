/** Images of programs that need nothing beside them, made from scratch by buildah; nothing is fetched. */
import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { runLine } from "./sandbox.ts";

export const PAUSE_IMAGE = "tessellate.test/pause:1";
export const DNS_IMAGE = "tessellate.test/coredns:1";
/** Serves its pod's name on port 8080; fetches and prints what a URL says when given one. */
export const ECHO_IMAGE = "tessellate.test/echo:1";

/** Makes an archive that `ctr images import` takes: one static program, which is the image's entry point. */
export async function programImage(folder: string, name: string, program: string): Promise<string> {
  const storage = join(folder, "buildah");
  const archive = join(folder, `${name.replaceAll(/[/:]/g, "_")}.tar`);
  mkdirSync(folder, { recursive: true });
  const policy = join(folder, "policy.json");
  writeFileSync(policy, JSON.stringify({ default: [{ type: "insecureAcceptAnything" }] }));
  const buildah = async (command: string, ...args: readonly string[]) => {
    const where = ["--root", join(storage, "root"), "--runroot", join(storage, "run"), "--storage-driver", "vfs"];
    const environment = { PATH: "/usr/sbin:/usr/bin:/sbin:/bin", HOME: folder, BUILDAH_ISOLATION: "chroot" };
    return (await runLine(["/usr/bin/buildah", ...where, command, ...args], environment)).trim();
  };
  const container = await buildah("from", "scratch");
  await buildah("copy", container, program, "/program");
  await buildah("config", "--entrypoint", JSON.stringify(["/program"]), "--user", "65532:65532", container);
  await buildah("commit", "--quiet", "--signature-policy", policy, container, name);
  await buildah("push", "--quiet", "--signature-policy", policy, name, `docker-archive:${archive}:${name}`);
  rmSync(storage, { recursive: true, force: true });
  return archive;
}
