/** A private PostgreSQL server (Debian's) for one test: its files in a temporary directory, on loopback only. */
import { spawnSync } from "node:child_process";
import { chownSync, existsSync, globSync, mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";

export type Postgres = {
  readonly url: string; // postgres://…
  /** As if its machine had lost power, until it is resumed with all that it had kept. */
  halt(): void;
  resume(): void;
  stop(): void;
};

const START_TIMEOUT_SECONDS = 60;

/** The newest installed version's programs, or undefined. */
const binaries = (): string | undefined =>
  globSync("/usr/lib/postgresql/*/bin")
    .filter((directory) => existsSync(join(directory, "pg_ctl")))
    .sort((a, b) => Number(a.split("/")[4]) - Number(b.split("/")[4]))
    .at(-1);

/** Why PostgreSQL cannot run here, or undefined where it can. */
export const whyNoPostgres = (): string | undefined =>
  binaries() === undefined ? "PostgreSQL is not installed (on Debian: apt-get install postgresql)" : undefined;

/** Makes a database cluster and starts a server on it. As root it runs as the user `postgres`, since it refuses to be root. */
export async function startPostgres(): Promise<Postgres> {
  const bin = binaries();
  if (bin === undefined) throw new Error("PostgreSQL is not installed");
  const directory = mkdtempSync(join(tmpdir(), "tessellate-postgres-"));
  const owner = process.getuid?.() === 0 ? userOf("postgres") : undefined;
  if (owner !== undefined) chownSync(directory, owner.uid, owner.gid);
  const run = (program: string, ...options: readonly string[]) => {
    // pg_ctl leaves the server behind, which must not hold our pipes open.
    const done = spawnSync(join(bin, program), options, {
      cwd: directory,
      stdio: ["ignore", "ignore", "pipe"],
      encoding: "utf8",
      ...owner,
    });
    if (done.status !== 0) throw new Error(`${program} failed: ${done.stderr ?? ""}`, { cause: done.error });
  };
  const data = join(directory, "data");
  const port = await freePort();
  run("initdb", "-D", data, "-U", "tessellate", "-A", "trust", "--no-sync", "-E", "UTF8", "--locale=C");
  const settings = `-c listen_addresses=127.0.0.1 -c port=${port} -c unix_socket_directories= -c fsync=off`;
  const log = ["-l", join(directory, "log"), "-t", String(START_TIMEOUT_SECONDS)];
  const startServer = () => run("pg_ctl", "-D", data, ...log, "-w", "-o", settings, "start");
  const halt = () => run("pg_ctl", "-D", data, "-m", "immediate", "-w", "stop");
  startServer();
  return {
    url: `postgres://tessellate@127.0.0.1:${port}/postgres`,
    halt,
    resume: startServer,
    stop: () => {
      halt();
      rmSync(directory, { recursive: true, force: true });
    },
  };
}

function userOf(name: string): { readonly uid: number; readonly gid: number } {
  const idOf = (flag: string) => Number(spawnSync("id", [flag, name], { encoding: "utf8" }).stdout);
  return { uid: idOf("-u"), gid: idOf("-g") };
}

function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once("error", reject);
    server.listen(0, "127.0.0.1", () => {
      const address = server.address();
      const port = typeof address === "object" && address !== null ? address.port : 0;
      server.close(() => resolve(port));
    });
  });
}
