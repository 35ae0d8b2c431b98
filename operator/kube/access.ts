/**
 * How to reach an API server, and as whom: kubeconfig, in-cluster service account, exec plug-ins and so on, all as
 * @kubernetes/client-node reads them. That is the only thing it is used for: its informers go blind on quiet resources
 * and its typed calls drop fields that they do not know, so everything else here speaks raw JSON.
 */
import { Agent as HttpAgent } from "node:http";
import { type AgentOptions, Agent as HttpsAgent, type RequestOptions } from "node:https";
import { KubeConfig } from "@kubernetes/client-node";

/**
 * Which connections a request may take. A rush of work waits for one of a limited number; a lease that is to be renewed
 * and a watch that is to go on do not wait behind it.
 */
export type Lane = "work" | "apart";

export type Access = {
  readonly server: URL;
  /** Agent, credentials and headers of the next request; asked each time, since tokens rotate. */
  options(lane: Lane): Promise<RequestOptions>;
  close(): void;
};

/** A handshake costs either side milliseconds; an API server answers a write in a few, so more would wait there. */
export const SOCKET_COUNT_MAX = 24;
/** Tokens rotate by the hour: asking for each of hundreds of requests a second would cost a tenth of each. */
const ASKED_MS = 1_000;
/**
 * An idle connection is closed by us before anybody between does so unsaid: API servers keep one for 90 s, balancers from
 * a minute on. A write on one that is gone would fail, or hang.
 */
const IDLE_MS = 45_000;

/** From `kubeconfigFile`, else KUBECONFIG, the service account, or ~/.kube/config. Throws weather where there is none. */
export function clusterAccess(kubeconfigFile?: string): Access {
  const config = new KubeConfig();
  if (kubeconfigFile === undefined) config.loadFromDefault();
  else config.loadFromFile(kubeconfigFile);
  const cluster = config.getCurrentCluster();
  if (cluster === null)
    throw new Error("no cluster is configured: set KUBECONFIG or run in a pod with a service account");
  let known: { readonly tls: AgentOptions; readonly agents: Readonly<Record<Lane, HttpsAgent>> } | undefined;
  let asked: { readonly untilMs: number; readonly options: RequestOptions } | undefined;
  return {
    server: new URL(cluster.server),
    async options(lane) {
      if (known !== undefined && asked !== undefined && performance.now() < asked.untilMs)
        return { ...asked.options, agent: known.agents[lane] };
      const options: RequestOptions = {};
      await config.applyToHTTPSOptions(options);
      if (cluster.proxyUrl !== undefined) return options; // the library's agent goes through the proxy
      // The library makes agents that open a connection for every request, and keeps the certificates of the first.
      const tls = tlsOf(options);
      if (known === undefined || !isSameTls(known.tls, tls)) {
        for (const agent of Object.values(known?.agents ?? {})) agent.destroy();
        const make = (of: Lane) => new OneServerAgent({ ...tls, ...agentOptions(of) });
        known = { tls, agents: { work: make("work"), apart: make("apart") } };
      }
      const { headers, auth } = options; // what else there is the agent has
      const own = { ...(headers === undefined ? {} : { headers }), ...(auth === undefined ? {} : { auth }) };
      asked = { untilMs: performance.now() + ASKED_MS, options: own };
      return { ...own, agent: known.agents[lane] };
    },
    close: () => {
      for (const agent of Object.values(known?.agents ?? {})) agent.destroy();
    },
  };
}

/** Node tells connections apart by all certificates in one string, for each request; here every one is to one server. */
class OneServerAgent extends HttpsAgent {
  override getName(): string {
    return "";
  }
}

function isSameTls(a: AgentOptions, b: AgentOptions): boolean {
  const entries = Object.entries(b);
  if (Object.keys(a).length !== entries.length) return false;
  const known = new Map<string, unknown>(Object.entries(a));
  return entries.every(([name, value]: readonly [string, unknown]) => {
    const before = known.get(name);
    return Buffer.isBuffer(value) && Buffer.isBuffer(before) ? value.equals(before) : String(value) === String(before);
  });
}

function tlsOf(options: RequestOptions): AgentOptions {
  const { ca, cert, key, pfx, passphrase, rejectUnauthorized, servername } = options;
  const all = { ca, cert, key, pfx, passphrase, rejectUnauthorized, servername };
  return Object.fromEntries(Object.entries(all).filter(([, value]) => value !== undefined));
}

/** Without TLS and credentials: for servers that tests run. */
export function plainAccess(server: string, idleMs = IDLE_MS): Access {
  const agents = {
    work: new HttpAgent(agentOptions("work", idleMs)),
    apart: new HttpAgent(agentOptions("apart", idleMs)),
  };
  return {
    server: new URL(server),
    options: async (lane) => ({ agent: agents[lane] }),
    close: () => {
      for (const agent of Object.values(agents)) agent.destroy();
    },
  };
}

const agentOptions = (lane: Lane, idleMs = IDLE_MS): AgentOptions => ({
  keepAlive: true,
  keepAliveMsecs: 15_000,
  timeout: idleMs, // of idle connections alone
  scheduling: "lifo",
  ...(lane === "work" ? { maxSockets: SOCKET_COUNT_MAX } : {}),
});
