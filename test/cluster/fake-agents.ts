/**
 * Node agents without machines: doors on loopback addresses that answer the operator as agents do, with signed offers and
 * figures that a test makes up. Real mTLS, real pods' objects; one process for however many.
 */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Server } from "@grpc/grpc-js";
import { IN_TOTO_PAYLOAD_TYPE, envelopeBytes, signEnvelope } from "../../core/dsse.ts";
import type { LookReply } from "../../core/gen/proto/tessellate/agent/v1/LookReply.ts";
import type { LookRequest__Output } from "../../core/gen/proto/tessellate/agent/v1/LookRequest.ts";
import { AGENT } from "../../core/identity.ts";
import type { SigningKey } from "../../core/keys.ts";
import { offerStatement } from "../../core/offer.ts";
import { ok, refuse, valueOrThrow } from "../../core/result.ts";
import { type Authority, writeCertificate } from "../../core/wire/authority.ts";
import { type Door, openDoor } from "../../core/wire/door.ts";
import { answer } from "../../core/wire/peer.ts";
import { loadService } from "../../core/wire/proto.ts";
import { installationOf, openTls, serverCredentials } from "../../core/wire/tls.ts";
import type { ControlPlane } from "./control-plane.ts";

export type FakeAgent = { readonly machine: string; readonly provider: string; readonly key: SigningKey };

export type FakeAgents = {
  /** How often the operator has looked at any of them. */
  readonly lookCount: number;
  /** Machines whose agents do not answer. */
  readonly silent: Set<string>;
  close(): Promise<void>;
};

const VALID_UNTIL = "2099-01-01T00:00:00Z";

/** Agents' doors, each on an address of its own as a pod's would be, and their pods in the namespace `tessellate`. */
export async function startFakeAgents(
  cluster: ControlPlane,
  authority: Authority,
  agents: readonly FakeAgent[],
): Promise<FakeAgents> {
  const directory = await mkdtemp(join(tmpdir(), "tessellate-agents-"));
  await writeCertificate(directory, await authority.issue(AGENT));
  const tls = valueOrThrow(openTls(directory));
  const installation = installationOf(authority.certificatePem);
  const byMachine = new Map(agents.map((agent) => [agent.machine, agent]));
  const offers = new Map<string, Buffer>();
  const state = { lookCount: 0, silent: new Set<string>() };
  const look = (request: LookRequest__Output) => {
    state.lookCount += 1;
    // All are one process, so whom this is for is known by the nodes that it names.
    const agent = byMachine.get(request.nodes[0]?.name ?? "");
    if (agent === undefined || state.silent.has(agent.machine)) return refuse("Weather", "nobody answers here");
    const { machine, provider, key } = agent;
    const offer = offers.get(machine) ?? offerOf({ machine, provider, key }, installation);
    offers.set(machine, offer);
    return ok(replyOf(agent, offer, request));
  };
  let server: Server | undefined;
  const credentials = serverCredentials(tls);
  const door: Door = await openDoor({
    host: hostOf(0),
    port: 0,
    credentials,
    services: ["NodeAgent"],
    add: (made) => {
      server = made;
      const operatorOnly = ({ kind }: { readonly kind: string }) => kind === "operator";
      made.addService(loadService("NodeAgent").service, {
        Look: answer<LookRequest__Output, LookReply>(operatorOnly, look),
        Echo: answer(operatorOnly, () => refuse("NotMine", "nobody measures here")),
      });
    },
  });
  for (let index = 1; index < agents.length; index += 1)
    await new Promise<void>((resolve, reject) => {
      server?.bindAsync(`${hostOf(index)}:${door.port}`, credentials, (error) =>
        error === null ? resolve() : reject(error),
      );
    });
  await makePods(cluster, agents, door.port);
  return {
    silent: state.silent,
    get lookCount() {
      return state.lookCount;
    },
    async close() {
      await door.close(0);
      tls.close();
      await rm(directory, { recursive: true, force: true });
    },
  };
}

const hostOf = (index: number): string => `127.76.${Math.floor(index / 250)}.${1 + (index % 250)}`;

function offerOf({ machine, provider, key }: FakeAgent, installation: string): Buffer {
  const payload = offerStatement({ provider, node: machine, machine, installation, validUntil: VALID_UNTIL });
  return Buffer.from(envelopeBytes(signEnvelope(IN_TOTO_PAYLOAD_TYPE, payload, key)));
}

/** Everything measured, the way to every peer too. */
function replyOf({ machine, provider }: FakeAgent, offer: Buffer, { nodes, peers }: LookRequest__Output): LookReply {
  const links = peers.flatMap((peer) =>
    peer.nodes.map((to) => ({ to, roundTripMicros: 400, bytesPerSecond: 125_000_000 })),
  );
  const measured = {
    time: "2026-01-01T00:00:00Z",
    memoryBytesPerSecond: 28e9,
    layerTimes: { bytes: 24_100_864, oneMicros: 900, manyMicros: 9_000, manyRows: 64 },
    links,
  };
  return {
    machine,
    provider,
    nodes: nodes.map(({ name }) => ({ name, offer, measured })),
    devices: [{ kind: "cpu", name: "a processor, 8 threads", memoryBytes: 2 ** 36 }],
    doing: "",
  };
}

const AT_ONCE = 16;

async function makePods({ api }: ControlPlane, agents: readonly FakeAgent[], port: number): Promise<void> {
  const left = agents.entries();
  const make = async () => {
    for (const [index, { machine, provider }] of left) {
      const labels = {
        "app.kubernetes.io/part-of": "tessellate",
        "app.kubernetes.io/component": "agent",
        "tessellate.dev/provider": provider,
      };
      const metadata = { name: `agent-${machine}`, labels };
      const containers = [{ name: "agent", image: "none", ports: [{ name: "agent", containerPort: port }] }];
      const path = "/api/v1/namespaces/tessellate/pods";
      await api.request("POST", path, { metadata, spec: { nodeName: machine, containers } });
      const status = { phase: "Running", podIP: hostOf(index), podIPs: [{ ip: hostOf(index) }] };
      const merge = "application/merge-patch+json";
      await api.request("PATCH", `${path}/agent-${machine}/status`, { status }, merge);
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, make));
}
