/**
 * A real Kubernetes control plane for tests: etcd, API server, controller manager and scheduler, on loopback and in one
 * temporary folder. Ready about seven seconds after the start on two cores.
 *
 * Its nodes are somebody else's business: see process-kubelet.ts.
 */
import { execFile } from "node:child_process";
import { generateKeyPairSync } from "node:crypto";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { dirname, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { type KubeBinaries, kubeBinaries } from "../../tools/kube/build.ts";
import { type ApiClient, createApiClient } from "./api-client.ts";
import { type Authority, createAuthority, type KeyPair } from "./certificates.ts";
import { type Child, removeFolder, startChild, temporaryFolder } from "./child.ts";

const READY_TIMEOUT_MS = 120_000;
const POLL_MS = 100;
const STOP_GRACE_MS = 5_000;

export interface ControlPlaneOptions {
  /** Added to the server's own flags, e.g. `--feature-gates=…`. */
  readonly apiServerArgs?: readonly string[];
  readonly controllerManagerArgs?: readonly string[];
  readonly schedulerArgs?: readonly string[];
  /** Nobody binds pods to nodes. */
  readonly withoutScheduler?: boolean;
  /** Receives progress, line by line: building the binaries takes minutes the first time. Default: standard error. */
  readonly report?: (line: string) => void;
  /** Left out, it runs on this machine's loopback. */
  readonly place?: ControlPlanePlace;
}

/** Another network than this machine's for a control plane to run in. */
export interface ControlPlanePlace {
  /** The line that runs `line` there, with the same files. */
  inside(line: readonly string[]): readonly string[];
  /** Of the API server, for nodes and pods. */
  readonly address: string;
  /** A port on this machine's loopback that leads to one there. */
  forward(host: string, port: number): Promise<number>;
}

export interface ControlPlane {
  /** Holds everything of this cluster: etcd's data, certificates, kubeconfigs, and logs as `*.log`. */
  readonly directory: string;
  /** `https://127.0.0.1:PORT` */
  readonly url: string;
  readonly port: number;
  /** A kubeconfig file of cluster-admin's. */
  readonly kubeconfig: string;
  /** The API server's URL for nodes. */
  readonly innerUrl: string;
  readonly binaries: KubeBinaries;
  readonly authority: Authority;
  /** As cluster-admin. */
  readonly api: ApiClient;
  /** Runs kubectl as cluster-admin; resolves with its standard output, throws {@link CommandFailed} for any exit but 0. */
  kubectl(args: readonly string[], stdin?: string): Promise<string>;
  /** The same for helm, whose caches and settings stay in `directory`. */
  helm(args: readonly string[], stdin?: string): Promise<string>;
  /** For tests of what goes on while the API server is away. */
  readonly apiServer: { stop(): Promise<void>; start(): Promise<void> };
  /** `work` is done first of all when the control plane is stopped; what was registered last is done first. */
  onStop(work: () => Promise<void>): void;
  /** Ends every process and removes `directory`. May be called more than once. */
  stop(): Promise<void>;
}

/** A command ended with another exit code than 0; the message has its command line and standard error. */
export class CommandFailed extends Error {
  override name = "CommandFailed";
  readonly exitCode: number;
  readonly stdout: string;
  readonly stderr: string;
  constructor(line: string, exitCode: number, stdout: string, stderr: string) {
    super(`${line} ended with ${exitCode}: ${stderr.trim() || stdout.trim()}`);
    this.exitCode = exitCode;
    this.stdout = stdout;
    this.stderr = stderr;
  }
}

/** Throws with the end of the log where a part does not come up, and leaves nothing running then. */
export async function startControlPlane(options: ControlPlaneOptions = {}): Promise<ControlPlane> {
  const binaries = await kubeBinaries(options.report);
  const directory = await temporaryFolder();
  const children: Child[] = [];
  const stop = async () => {
    // Nothing is worth a graceful end here: the data goes too.
    for (const child of children) child.signal("SIGKILL");
    await Promise.all(children.map((child) => child.exited));
    removeFolder(directory);
  };
  try {
    return await start(options, { binaries, directory, children, stop });
  } catch (error) {
    await stop();
    throw error;
  }
}

interface Parts {
  readonly binaries: KubeBinaries;
  readonly directory: string;
  /** Whatever was started, in order. */
  readonly children: Child[];
  readonly stop: () => Promise<void>;
}

async function start(options: ControlPlaneOptions, parts: Parts): Promise<ControlPlane> {
  const { binaries, directory, children } = parts;
  const { place } = options;
  const [etcdPort, etcdPeerPort, innerPort] = await freePorts();
  const innerUrl = `https://${place?.address ?? "127.0.0.1"}:${innerPort}`;
  const port = (await place?.forward(place.address, innerPort)) ?? innerPort;
  const url = `https://127.0.0.1:${port}`;
  const credentials = await writeCredentials(directory, { url, innerUrl, address: place?.address });
  const api = createApiClient({ url, authority: credentials.authority.certificate, ...credentials.admin });
  const run = (name: string, path: string, args: readonly string[]) => {
    const logFile = join(directory, `${name}.log`);
    const line = [path, ...args];
    const [program = path, ...rest] = place?.inside(line) ?? line;
    const environment = { HOME: directory };
    const child = startChild({ path: program, args: rest, environment, logFile, folder: directory });
    children.push(child);
    return { child, logFile, name };
  };

  run("etcd", binaries.etcd, etcdArgs(directory, etcdPort, etcdPeerPort));
  const startApiServer = async () => {
    const server = run("kube-apiserver", binaries.apiserver, [
      ...apiServerArgs(directory, innerPort, etcdPort),
      ...addressArgs(place?.address),
      ...(options.apiServerArgs ?? []),
    ]);
    await until(server, async () => (await api.get<string>("/readyz")) === "ok");
    return server.child;
  };
  let apiServer = await startApiServer();
  const manager = run("kube-controller-manager", binaries.controllerManager, [
    ...controllerManagerArgs(directory),
    ...(options.controllerManagerArgs ?? []),
  ]);
  if (options.withoutScheduler !== true)
    run("kube-scheduler", binaries.scheduler, [...schedulerArgs(directory), ...(options.schedulerArgs ?? [])]);
  // Pods need both; a test that creates one at once would otherwise be refused.
  await until(
    manager,
    async () => (await api.find("/api/v1/namespaces/default/serviceaccounts/default")) !== undefined,
  );
  await until(
    manager,
    async () => (await api.find("/api/v1/namespaces/default/configmaps/kube-root-ca.crt")) !== undefined,
  );

  const beforeStop: (() => Promise<void>)[] = [];
  const kubeconfig = join(directory, "admin.kubeconfig");
  const environment = { HOME: directory, KUBECONFIG: kubeconfig, PATH: `${dirname(binaries.kubectl)}:/usr/bin:/bin` };
  return {
    directory,
    url,
    port,
    innerUrl,
    kubeconfig,
    binaries,
    authority: credentials.authority,
    api,
    kubectl: (args, stdin) => runCommand(binaries.kubectl, args, environment, stdin),
    helm: (args, stdin) => runCommand(binaries.helm, args, environment, stdin),
    apiServer: {
      stop: async () => void (await apiServer.stop(STOP_GRACE_MS)),
      start: async () => {
        apiServer = await startApiServer();
      },
    },
    onStop: (work) => void beforeStop.unshift(work),
    stop: async () => {
      for (const work of beforeStop.splice(0)) await work();
      api.close();
      await parts.stop();
    },
  };
}

interface ClusterCredentials {
  readonly authority: Authority;
  readonly admin: KeyPair;
}

async function writeCredentials(
  directory: string,
  { url, innerUrl, address }: { readonly url: string; readonly innerUrl: string; readonly address: string | undefined },
): Promise<ClusterCredentials> {
  const authority = await createAuthority("tessellate-test-cluster");
  const [server, kubeletClient, admin, manager, scheduler] = await Promise.all([
    authority.issue({
      commonName: "kube-apiserver",
      dnsNames: ["localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"],
      addresses: ["127.0.0.1", "10.96.0.1", ...(address === undefined ? [] : [address])],
    }),
    authority.issue({ commonName: "kube-apiserver-kubelet-client", organizations: ["system:masters"] }),
    authority.issue({ commonName: "admin", organizations: ["system:masters"] }),
    authority.issue({ commonName: "system:kube-controller-manager" }),
    authority.issue({ commonName: "system:kube-scheduler" }),
  ]);
  const serviceAccounts = generateKeyPairSync("ec", {
    namedCurve: "P-256",
    publicKeyEncoding: { type: "spki", format: "pem" },
    privateKeyEncoding: { type: "pkcs8", format: "pem" },
  });
  const write = (name: string, text: string) => writeFileSync(join(directory, name), text, { mode: 0o600 });
  write("ca.crt", authority.certificate);
  write("ca.key", authority.key);
  write("service-accounts.pub", serviceAccounts.publicKey);
  write("service-accounts.key", serviceAccounts.privateKey);
  for (const [name, pair] of Object.entries({ server, "kubelet-client": kubeletClient })) {
    write(`${name}.crt`, pair.certificate);
    write(`${name}.key`, pair.key);
  }
  write("admin.kubeconfig", kubeconfigText(url, authority.certificate, admin));
  for (const [name, pair] of Object.entries({ manager, scheduler })) {
    write(`${name}.kubeconfig`, kubeconfigText(innerUrl, authority.certificate, pair));
  }
  return { authority, admin };
}

/** A kubeconfig file's text for whoever `pair` says. */
export function kubeconfigText(url: string, authority: string, pair: KeyPair): string {
  const base64 = (text: string) => Buffer.from(text).toString("base64");
  // JSON is YAML.
  return JSON.stringify({
    apiVersion: "v1",
    kind: "Config",
    "current-context": "test",
    clusters: [{ name: "test", cluster: { server: url, "certificate-authority-data": base64(authority) } }],
    users: [
      {
        name: "test",
        user: { "client-certificate-data": base64(pair.certificate), "client-key-data": base64(pair.key) },
      },
    ],
    contexts: [{ name: "test", context: { cluster: "test", user: "test" } }],
  });
}

function etcdArgs(directory: string, port: number, peerPort: number): readonly string[] {
  const data = join(directory, "etcd");
  mkdirSync(data, { mode: 0o700 });
  return [
    `--data-dir=${data}`,
    "--unsafe-no-fsync",
    `--listen-client-urls=http://127.0.0.1:${port}`,
    `--advertise-client-urls=http://127.0.0.1:${port}`,
    `--listen-peer-urls=http://127.0.0.1:${peerPort}`,
    `--initial-advertise-peer-urls=http://127.0.0.1:${peerPort}`,
    `--initial-cluster=default=http://127.0.0.1:${peerPort}`,
  ];
}

function apiServerArgs(directory: string, port: number, etcdPort: number): readonly string[] {
  const file = (name: string) => join(directory, name);
  return [
    `--etcd-servers=http://127.0.0.1:${etcdPort}`,
    `--secure-port=${port}`,
    `--tls-cert-file=${file("server.crt")}`,
    `--tls-private-key-file=${file("server.key")}`,
    `--client-ca-file=${file("ca.crt")}`,
    `--kubelet-client-certificate=${file("kubelet-client.crt")}`,
    `--kubelet-client-key=${file("kubelet-client.key")}`,
    `--kubelet-certificate-authority=${file("ca.crt")}`,
    "--kubelet-preferred-address-types=InternalIP",
    "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
    `--service-account-key-file=${file("service-accounts.pub")}`,
    `--service-account-signing-key-file=${file("service-accounts.key")}`,
    "--service-cluster-ip-range=10.96.0.0/16",
    "--authorization-mode=Node,RBAC",
    "--allow-privileged=true",
  ];
}

function addressArgs(address: string | undefined): readonly string[] {
  if (address !== undefined) return ["--bind-address=0.0.0.0", `--advertise-address=${address}`];
  return [
    "--bind-address=127.0.0.1",
    "--advertise-address=127.0.0.1",
    // The Service `kubernetes` cannot have a loopback address as its endpoint, and nobody here goes through it.
    "--endpoint-reconciler-type=none",
  ];
}

function controllerManagerArgs(directory: string): readonly string[] {
  return [
    `--kubeconfig=${join(directory, "manager.kubeconfig")}`,
    `--service-account-private-key-file=${join(directory, "service-accounts.key")}`,
    `--root-ca-file=${join(directory, "ca.crt")}`,
    `--cluster-signing-cert-file=${join(directory, "ca.crt")}`,
    `--cluster-signing-key-file=${join(directory, "ca.key")}`,
    "--use-service-account-credentials",
    "--allocate-node-cidrs=false",
    "--leader-elect=false",
    "--secure-port=0",
  ];
}

function schedulerArgs(directory: string): readonly string[] {
  return [`--kubeconfig=${join(directory, "scheduler.kubeconfig")}`, "--leader-elect=false", "--secure-port=0"];
}

/** Polls until `condition` holds; throws at once, with the end of the log, when the process has ended instead. */
async function until(
  part: { readonly child: Child; readonly logFile: string; readonly name: string },
  condition: () => Promise<boolean>,
): Promise<void> {
  const startedMs = performance.now();
  let last: unknown = "not ready";
  while (part.child.running && performance.now() - startedMs < READY_TIMEOUT_MS) {
    const holds = await condition().catch((error: unknown) => {
      last = error;
      return false;
    });
    if (holds) return;
    await sleep(POLL_MS);
  }
  const state = part.child.running ? `did not come up in ${READY_TIMEOUT_MS / 1000} s (${last})` : "ended";
  throw new Error(`${part.name} ${state}; its log ends with:\n${readFileSync(part.logFile, "utf8").slice(-3000)}`);
}

/** Ports that were free a moment ago: none of the servers can be told to choose and then be asked. */
async function freePorts(): Promise<readonly [number, number, number]> {
  const servers = [createServer(), createServer(), createServer()];
  const [one = 0, two = 0, three = 0] = await Promise.all(
    servers.map(
      (server) =>
        new Promise<number>((resolve, reject) => {
          server.once("error", reject).listen(0, "127.0.0.1", () => {
            const address = server.address();
            resolve(typeof address === "object" && address !== null ? address.port : 0);
          });
        }),
    ),
  );
  await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))));
  return [one, two, three];
}

function runCommand(
  path: string,
  args: readonly string[],
  environment: Readonly<Record<string, string>>,
  stdin: string | undefined,
): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = execFile(path, args, { env: environment, maxBuffer: 2 ** 26 }, (error, stdout, stderr) => {
      if (error === null) return resolve(stdout);
      const exitCode = typeof error.code === "number" ? error.code : 127;
      reject(new CommandFailed(`${path} ${args.join(" ")}`, exitCode, stdout, stderr || error.message));
    });
    child.stdin?.end(stdin ?? "");
  });
}
