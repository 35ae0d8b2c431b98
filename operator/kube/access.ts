/**
 * How to reach an API server, and as whom: kubeconfig, in-cluster service account, exec plug-ins and so on, all as
 * @kubernetes/client-node reads them. That is the only thing it is used for: its informers go blind on quiet resources
 * and its typed calls drop fields that they do not know, so everything else here speaks raw JSON.
 */
import { Agent as HttpAgent } from "node:http";
import { type AgentOptions, Agent as HttpsAgent, type RequestOptions } from "node:https";
import { KubeConfig } from "@kubernetes/client-node";
import { present } from "../../core/assert.ts";

export type Access = {
  readonly server: URL;
  /** Agent, credentials and headers of the next request; asked each time, since tokens rotate. */
  options(): Promise<RequestOptions>;
  close(): void;
};

/** Watches hold a socket each for minutes; everything else comes and goes on the rest. */
const SOCKET_COUNT_MAX = 64;

/** From `kubeconfigFile`, else KUBECONFIG, the service account, or ~/.kube/config. Throws weather where there is none. */
export function clusterAccess(kubeconfigFile?: string): Access {
  const config = new KubeConfig();
  if (kubeconfigFile === undefined) config.loadFromDefault();
  else config.loadFromFile(kubeconfigFile);
  const cluster = config.getCurrentCluster();
  if (cluster === null)
    throw new Error("no cluster is configured: set KUBECONFIG or run in a pod with a service account");
  let agent: { readonly key: string; readonly agent: HttpsAgent } | undefined;
  return {
    server: new URL(cluster.server),
    async options() {
      const options: RequestOptions = {};
      await config.applyToHTTPSOptions(options);
      if (cluster.proxyUrl !== undefined) return options; // the library's agent goes through the proxy
      // The library makes agents that open a connection for every request, and keeps the certificates of the first.
      const tls = tlsOf(options);
      const fingerprint = JSON.stringify(Object.entries(tls).map(([name, value]) => [name, String(value)]));
      if (agent?.key !== fingerprint) {
        agent?.agent.destroy();
        agent = { key: fingerprint, agent: new HttpsAgent({ ...tls, ...AGENT_OPTIONS }) };
      }
      return { ...options, agent: present(agent, "made above").agent };
    },
    close: () => agent?.agent.destroy(),
  };
}

function tlsOf(options: RequestOptions): AgentOptions {
  const { ca, cert, key, pfx, passphrase, rejectUnauthorized, servername } = options;
  const all = { ca, cert, key, pfx, passphrase, rejectUnauthorized, servername };
  return Object.fromEntries(Object.entries(all).filter(([, value]) => value !== undefined));
}

/** Without TLS and credentials: for servers that tests run. */
export function plainAccess(server: string): Access {
  const agent = new HttpAgent(AGENT_OPTIONS);
  return { server: new URL(server), options: async () => ({ agent }), close: () => agent.destroy() };
}

const AGENT_OPTIONS = {
  keepAlive: true,
  keepAliveMsecs: 15_000,
  maxSockets: SOCKET_COUNT_MAX,
  scheduling: "lifo",
} as const;
