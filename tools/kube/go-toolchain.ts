/**
 * Finds a Go that can build the pinned modules, and installs Debian's where that is possible.
 *
 * Any Go from 1.21 on will do: with GOTOOLCHAIN=auto it fetches the release that go.mod asks for by itself.
 * Nothing older can, so an old Go is treated as none.
 */
import { execFile } from "node:child_process";
import { readdir } from "node:fs/promises";
import { promisify } from "node:util";

const run = promisify(execFile);

/** The first release that can fetch another release of itself. */
const OLDEST_USABLE_MINOR = 21;

/** What go.mod's `go` line asks for; older ones get GOTOOLCHAIN=auto. */
const WANTED_MINOR = 26;

export interface GoToolchain {
  readonly path: string;
  /** To be laid over the environment of every `go` command. */
  readonly environment: Readonly<Record<string, string>>;
}

/**
 * A usable Go; installed from Debian's packages if there is none and we are root on a system with apt-get.
 * Throws with what to do where there is none to be had.
 */
export async function goToolchain(report: (line: string) => void): Promise<GoToolchain> {
  const found = (await newestInstalledGo()) ?? (await installDebianGo(report));
  if (found === undefined) {
    throw new Error(
      "Go is missing, and the test API server is built with it: install golang ≥ 1.26 (any from 1.21 on can fetch " +
        "1.26 itself) from https://go.dev/dl or from your distribution (Debian 13's golang-go, or Debian 12's " +
        "golang-go from bookworm-backports), or set KUBEBUILDER_ASSETS to a folder with etcd, kube-apiserver, " +
        "kube-controller-manager, kube-scheduler, kubectl and helm.",
    );
  }
  return {
    path: found.path,
    environment: { CGO_ENABLED: "0", GOFLAGS: "", ...(found.minor < WANTED_MINOR ? { GOTOOLCHAIN: "auto" } : {}) },
  };
}

interface InstalledGo {
  readonly path: string;
  readonly minor: number;
}

async function newestInstalledGo(): Promise<InstalledGo | undefined> {
  const debianFolders = (await readdir("/usr/lib").catch(() => [])).filter((name) => /^go-1\.\d+$/.test(name));
  const candidates = ["go", "/usr/local/go/bin/go", ...debianFolders.map((name) => `/usr/lib/${name}/bin/go`)];
  const installed = (await Promise.all(candidates.map(goAt))).filter((go) => go !== undefined);
  return installed.filter(({ minor }) => minor >= OLDEST_USABLE_MINOR).sort((one, other) => other.minor - one.minor)[0];
}

async function goAt(path: string): Promise<InstalledGo | undefined> {
  const version = await run(path, ["version"], { env: { ...process.env, GOTOOLCHAIN: "local" } }).catch(
    () => undefined,
  );
  const minor = /go version go1\.(\d+)/.exec(version?.stdout ?? "")?.[1];
  return minor === undefined ? undefined : { path, minor: Number(minor) };
}

async function installDebianGo(report: (line: string) => void): Promise<InstalledGo | undefined> {
  if (process.platform !== "linux" || process.getuid?.() !== 0) return undefined;
  // A fresh container has no package lists; without the network the old ones have to do.
  await run("apt-get", ["update"]).catch(() => undefined);
  const listed = await run("apt-cache", ["search", "--names-only", "^golang-1\\.[0-9]+-go$"]).catch(() => undefined);
  const minors = [...(listed?.stdout ?? "").matchAll(/^golang-1\.(\d+)-go /gm)].map(([, minor]) => Number(minor));
  const newest = Math.max(0, ...minors);
  if (newest < OLDEST_USABLE_MINOR) return undefined;
  report(`Go is missing: installing Debian's golang-1.${newest}-go`);
  await run("apt-get", ["install", "-y", "--no-install-recommends", `golang-1.${newest}-go`], {
    env: { ...process.env, DEBIAN_FRONTEND: "noninteractive" },
  });
  return goAt(`/usr/lib/go-1.${newest}/bin/go`);
}
