/**
 * An image run as a kubelet would have it run, without containerd: its layers unpacked, its root read-only, /tmp in memory,
 * user 65532, and no way to get more rights. For what an image can do by itself; whole pods are the cluster's tests.
 */
import { execFile } from "node:child_process";
import { mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";

const run = promisify(execFile);

export type ImageConfig = {
  readonly User: string;
  readonly Env: readonly string[];
  readonly Entrypoint: readonly string[];
  readonly Cmd: readonly string[];
  readonly WorkingDir: string;
  readonly Labels: Readonly<Record<string, string>>;
};
export type Ended = { readonly code: number; readonly stdout: string; readonly stderr: string };
export type UnpackedImage = {
  readonly root: string;
  readonly config: ImageConfig;
  /** Runs the image's entrypoint with these arguments, its own where there are none. */
  start(parameters?: readonly string[]): Promise<Ended>;
};

const ENTER = `
root=$1 folder=$2 user=$3; shift 3
mount --bind "$root" "$root" && mount -o remount,bind,ro "$root"
mount -t tmpfs none "$root/tmp" && mount -t proc proc "$root/proc"
exec setpriv --no-new-privs unshare --root="$root" --wd="$folder" --setgid="$user" --setuid="$user" "$@"
`;

/** Unpacks an image of the layout, by its manifest's digest, into `root`. */
export async function unpackImage(layout: string, digest: string, root: string): Promise<UnpackedImage> {
  const blob = (of: string) => join(layout, "blobs", of.replace(":", "/"));
  const manifest = JSON.parse(readFileSync(blob(digest), "utf8"));
  mkdirSync(root, { recursive: true });
  for (const { digest: layer } of manifest.layers) await run("tar", ["-xf", blob(layer), "-C", root]);
  for (const folder of ["tmp", "proc"]) mkdirSync(join(root, folder), { recursive: true });
  const { config }: { config: ImageConfig } = JSON.parse(readFileSync(blob(manifest.config.digest), "utf8"));
  return {
    root,
    config,
    start: (parameters = config.Cmd) => enter(root, config, [...config.Entrypoint, ...parameters]),
  };
}

async function enter(root: string, config: ImageConfig, command: readonly string[]): Promise<Ended> {
  const environment = Object.fromEntries(config.Env.map((each) => /^([^=]+)=(.*)$/s.exec(each)?.slice(1) ?? []));
  const [user = ""] = config.User.split(":");
  // Its own path finds its own programs; ours finds unshare's and mount's, which are looked for before.
  const path = `${environment["PATH"]}:/usr/sbin:/sbin`;
  return new Promise((resolve) => {
    execFile(
      "unshare",
      ["--mount", "--pid", "--net", "--fork", "sh", "-euc", ENTER, "sh", root, config.WorkingDir, user, ...command],
      { env: { ...environment, PATH: path }, timeout: 60_000 },
      (error, stdout, stderr) => resolve({ code: typeof error?.code === "number" ? error.code : 0, stdout, stderr }),
    );
  });
}
