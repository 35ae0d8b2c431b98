/**
 * A machine room inside the machine: namespaces of its own for network, mounts and processes, in which the test cluster
 * runs, and a network for each of its nodes. Whatever it makes there (bridges, firewall tables, mounts, processes of containers) is seen nowhere else and
 * goes when the namespaces do, even when the test run is killed; control groups alone have to be swept.
 */
import { execFile } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { type AddressInfo, connect, createServer, type Server } from "node:net";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { type Child, removeFolder, startChild, temporaryFolder } from "../cluster/child.ts";
import { CommandFailed } from "../cluster/control-plane.ts";
import { until } from "../until.ts";
import { controlGroupName, removeControlGroups, sweepControlGroups } from "./control-groups.ts";

const SCRIPT = fileURLToPath(new URL("sandbox.sh", import.meta.url));
const RELAY = fileURLToPath(new URL("relay-body.ts", import.meta.url));
const NAMESPACES = ["--net", "--mount", "--pid", "--ipc"];
const PATH = "/usr/sbin:/usr/bin:/sbin:/bin";

/** A machine of its own in there, as the network sees it. */
export interface SandboxNode {
  /** The name of its namespaces, of network and mounts. */
  readonly namespace: string;
  readonly address: string;
  /** Addresses of its pods. */
  readonly subnet: string;
}

export interface SandboxOptions {
  /** A program that reaps orphans until it is told to end. */
  readonly init: string;
  /** Where what runs on no node is found by the nodes. */
  readonly address: string;
  /** At least one. */
  readonly nodes: readonly SandboxNode[];
}

export interface Sandbox {
  /** On this machine's disk, seen under the same name on both sides; but what is in `stores` is seen inside only. */
  readonly folder: string;
  /** Where the control groups of everything in there are, below each hierarchy's mount point. */
  readonly controlGroup: string;
  /** As the real machine numbers it. */
  readonly process1: number;
  /**
   * The line that runs `line` inside, in a node's namespaces or beside them all. All see the same files, but each has a
   * `/run` of its own, and what it writes below `/var` the others do not see.
   */
  inside(line: readonly string[], node?: string): readonly string[];
  /** Starts a process inside, which logs to `NAME.log` in the folder. */
  start(name: string, line: readonly string[], node?: string): Child;
  /** Runs a command inside; resolves with its standard output, throws CommandFailed for any exit but 0. */
  run(line: readonly string[]): Promise<string>;
  /** A port on this machine's loopback that leads to one inside, as the first node reaches it: Services too. */
  forward(host: string, port: number): Promise<number>;
  logOf(name: string): string;
  /** Ends all that runs in there and removes the folder. May be called more than once. */
  stop(): Promise<void>;
}

/** Resolves when commands can be run inside. Sweeps first what killed runs have left. */
export async function startSandbox(options: SandboxOptions): Promise<Sandbox> {
  await sweepControlGroups();
  const folder = await temporaryFolder();
  const logOf = (name: string) => readFileSync(join(folder, `${name}.log`), "utf8");
  const { init, process1 } = await startInit(folder, options);
  // A process in the namespaces of each node, as it is numbered inside.
  const holders = new Map(
    options.nodes.map(({ namespace }) => [namespace, readFileSync(join(folder, `nodes.${namespace}`), "utf8").trim()]),
  );
  const inside = (line: readonly string[], node?: string) => [
    ...["/usr/bin/nsenter", "--target", String(process1), ...NAMESPACES, "--"],
    ...(node === undefined ? [] : ["/usr/bin/nsenter", "--target", holders.get(node) ?? "", "--net", "--mount", "--"]),
    ...line,
  ];
  const servers: Server[] = [];
  const controlGroup = controlGroupName(process.pid);
  let stopped: Promise<void> | undefined;
  const sandbox: Sandbox = {
    folder,
    controlGroup,
    inside,
    logOf,
    process1,
    start: (name, line, node) => {
      const [path = "", ...args] = inside(line, node);
      return startChild({
        path,
        args,
        environment: { PATH, HOME: folder },
        logFile: join(folder, `${name}.log`),
        folder,
      });
    },
    run: (line) => runLine(inside(line), { PATH, HOME: folder }),
    forward: (host, port) => openDoor(servers, join(folder, "relay.sock"), host, port),
    stop: () => {
      stopped ??= (async () => {
        for (const server of servers) server.close();
        // The kernel ends what is left in a process namespace before its process 1 is seen to have ended.
        init.signal("SIGKILL");
        await init.exited;
        await removeControlGroups(controlGroup);
        removeFolder(folder);
      })();
      return stopped;
    },
  };
  try {
    const firstNode = options.nodes[0]?.namespace;
    const relay = sandbox.start("relay", [process.execPath, RELAY, join(folder, "relay.sock")], firstNode);
    await until("the relay into the cluster's network", async () => {
      if (!relay.running) throw new Error(`the relay ended: ${logOf("relay")}`);
      return await canConnect(join(folder, "relay.sock"));
    });
    return sandbox;
  } catch (error) {
    await sandbox.stop();
    throw error;
  }
}

async function startInit(
  folder: string,
  { init, address, nodes }: SandboxOptions,
): Promise<{ readonly init: Child; readonly process1: number }> {
  const logFile = join(folder, "sandbox.log");
  const nodesFile = join(folder, "nodes");
  writeFileSync(
    nodesFile,
    nodes.map(({ namespace, address, subnet }) => `${namespace} ${address} ${subnet}\n`).join(""),
  );
  let onReady = () => {};
  const ready = new Promise<void>((resolve) => {
    onReady = resolve;
  });
  const child = startChild({
    path: "/usr/bin/unshare",
    args: [...NAMESPACES, "--fork", "--kill-child=KILL", "/bin/sh", SCRIPT, init, address, nodesFile],
    environment: { PATH },
    logFile,
    folder,
    onPipeWritten: () => onReady(),
  });
  await Promise.race([ready, child.exited]);
  const process1 = Number(readChildren(child.pid).split(" ")[0]);
  if (!child.running || !(process1 > 0)) {
    const log = readFileSync(logFile, "utf8");
    removeFolder(folder);
    throw new Error(`no namespaces for the test cluster: ${log}`);
  }
  return { init: child, process1 };
}

const readChildren = (pid: number): string => {
  try {
    return readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").trim();
  } catch {
    return ""; // it has ended; its log says why
  }
};

/** Listens on a free port of this machine's loopback and passes what comes through the relay. */
async function openDoor(servers: Server[], relay: string, host: string, port: number): Promise<number> {
  const server = createServer({ allowHalfOpen: true }, (client) => {
    const through = connect({ path: relay, allowHalfOpen: true });
    through.write(`${host} ${port}\n`); // before anything of the client's
    client.pipe(through);
    through.pipe(client);
    client.on("error", () => through.destroy());
    through.on("error", () => client.destroy());
    client.on("close", () => through.destroy());
    through.on("close", () => client.destroy());
  });
  servers.push(server);
  server.unref();
  await new Promise<void>((resolve, reject) => server.once("error", reject).listen(0, "127.0.0.1", resolve));
  const address: AddressInfo | string | null = server.address();
  if (address === null || typeof address === "string") throw new Error("a listening server has a port");
  return address.port;
}

function canConnect(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ path }, () => {
      socket.destroy();
      resolve(true);
    });
    socket.once("error", () => resolve(false));
  });
}

export function runLine(line: readonly string[], environment: Readonly<Record<string, string>>): Promise<string> {
  const [path = "", ...args] = line;
  return new Promise((resolve, reject) => {
    execFile(path, args, { env: environment, maxBuffer: 2 ** 26 }, (error, stdout, stderr) => {
      if (error === null) return resolve(stdout);
      const exitCode = typeof error.code === "number" ? error.code : 127;
      reject(new CommandFailed(line.join(" "), exitCode, stdout, stderr || error.message));
    });
  });
}
