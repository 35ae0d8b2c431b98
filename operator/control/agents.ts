/**
 * Looking at node agents: each is asked every 15 s what its provider offers and what it measured. That it answers is the
 * node's heartbeat, and stays here: an answer that says nothing new is no write. Agents have no rights in the cluster, and
 * are asked by address, like gateways and the ledger.
 */
import { closeClient } from "@grpc/grpc-js";
import type { LookReply__Output } from "../../core/gen/proto/tessellate/agent/v1/LookReply.ts";
import type { LookRequest } from "../../core/gen/proto/tessellate/agent/v1/LookRequest.ts";
import type { ShardNode } from "../../core/gen/crds/shardnode.ts";
import type { Clock } from "../../core/clock.ts";
import type { Peer } from "../../core/gen/proto/tessellate/agent/v1/Peer.ts";
import { AGENT } from "../../core/identity.ts";
import { ask, dial } from "../../core/wire/door.ts";
import type { Client } from "../../core/wire/proto.ts";
import type { Tls } from "../../core/wire/tls.ts";
import { type Offers, SILENT_MS, agentKey, machineOfNode } from "../apply/offers.ts";
import { turns } from "../turns.ts";
import { type NodeFindings, findingsOf, isNews, withBefore } from "./findings.ts";

/** A node agent's pod. */
export type AgentPod = {
  readonly name: string;
  readonly provider: string;
  readonly machine: string;
  readonly address: string | undefined; // undefined: it does not run yet
};

export type AgentsOptions = {
  readonly clock: Clock;
  readonly tls: Tls;
  readonly offers: Offers;
  readonly pods: () => readonly AgentPod[];
  readonly nodes: () => readonly ShardNode[];
  /** Writes what was found into the node's status; what is left out stays. */
  readonly write: (node: string, found: NodeFindings) => Promise<void>;
  /** Nodes of which it may have changed whether they count. */
  readonly onTurned: (nodes: readonly string[]) => void;
  readonly log: (event: string, fields?: Readonly<Record<string, unknown>>) => void;
};

const TICK_MS = 1_000;
const LOOK_MS = 15_000;
/** While something is being measured, or has just failed. */
const SOON_MS = 3_000;
const TIMEOUT_MS = 5_000;
/** New ones begin once a tick: enough for some thousand agents to be asked within their time. */
const LOOKS_AT_ONCE_MAX = 256;
/** Others to measure the way to: all of a small installation; of a large one, those nearest by name around. */
const PEER_COUNT_MAX = 64;

type Known = { dueAtMs: number; readonly client: Client<"NodeAgent">; trouble: string; looking: boolean };

export class Agents {
  readonly #options: AgentsOptions;
  readonly #known = new Map<string, Known>(); // by address
  #silent: ReadonlySet<string> = new Set();

  constructor(options: AgentsOptions) {
    this.#options = options;
  }

  /** Looks, again and again, until `signal` aborts. */
  async run(signal: AbortSignal): Promise<void> {
    const { clock } = this.#options;
    while (!signal.aborted) {
      await this.#tick();
      await clock.sleep(TICK_MS, signal).catch(() => undefined);
    }
    for (const { client } of this.#known.values()) closeClient(client);
    this.#known.clear();
  }

  async #tick(): Promise<void> {
    const { clock, pods, offers } = this.#options;
    const all = pods();
    offers.expect(new Set(all.map(({ provider, machine }) => agentKey(provider, machine))));
    this.#turned();
    const addresses = new Set(all.map(({ address }) => address));
    for (const [address, { client }] of this.#known) {
      if (addresses.has(address)) continue;
      closeClient(client);
      this.#known.delete(address);
    }
    const nowMs = clock.monotonicMs();
    const rest = turns(clock);
    let survey: Survey | undefined;
    let free = LOOKS_AT_ONCE_MAX - [...this.#known.values()].filter(({ looking }) => looking).length;
    for (const pod of all) {
      if (pod.address === undefined || free <= 0) continue;
      const known = this.#at(pod.address, nowMs);
      if (known.looking || known.dueAtMs > nowMs) continue;
      free -= 1;
      survey ??= new Survey(all, this.#options.nodes());
      void this.#look(pod, known, survey);
      // Hundreds of new connections at a stretch kept the loop from renewing the lease.
      const turn = rest();
      if (turn !== undefined) await turn;
    }
  }

  #at(address: string, nowMs: number): Known {
    const { tls } = this.#options;
    const known = this.#known.get(address);
    if (known !== undefined) return known;
    const fresh: Known = {
      dueAtMs: nowMs,
      client: dial("NodeAgent", address, tls, AGENT),
      trouble: "",
      looking: false,
    };
    this.#known.set(address, fresh);
    return fresh;
  }

  async #look(agent: AgentPod, known: Known, survey: Survey): Promise<void> {
    const { clock, offers } = this.#options;
    known.looking = true;
    const here = survey.nodesOn(agent.machine);
    const request: LookRequest = {
      nodes: here.map(({ metadata, spec }) => ({
        name: metadata.name,
        provider: spec.provider,
        device: spec.device,
        threads: spec.threads,
      })),
      peers: survey.peersOf(agent),
    };
    const reply = await ask<LookReply__Output>(`agent ${agent.name}`, TIMEOUT_MS, (options, callback) =>
      known.client.Look(request, options, callback),
    );
    if (reply.ok) offers.heard(agentKey(agent.provider, agent.machine));
    const trouble = reply.ok
      ? await this.#take(agent, here, survey.names, reply.value)
      : `${reply.code}: ${reply.detail}`;
    const isSettled = reply.ok && trouble === "" && reply.value.doing === "";
    known.dueAtMs = clock.monotonicMs() + (isSettled ? LOOK_MS : SOON_MS) * (0.9 + Math.random() / 5);
    known.looking = false;
    // Asked every few seconds, it says the same: once is enough.
    if (trouble !== "" && trouble !== known.trouble)
      this.#options.log("agent-trouble", { agent: agent.name, machine: agent.machine, detail: trouble });
    known.trouble = trouble;
  }

  /** Writes what is news; gives what went wrong, in words. */
  async #take(
    agent: AgentPod,
    here: readonly ShardNode[],
    names: ReadonlySet<string>,
    reply: LookReply__Output,
  ): Promise<string> {
    // Attacker: an agent speaks of its own provider's nodes on its own machine, or of nothing.
    if (reply.provider !== agent.provider || reply.machine !== agent.machine)
      return `it says that it is ${reply.provider}'s on ${reply.machine}`;
    const troubles: string[] = [];
    for (const report of reply.nodes) {
      const node = here.find(({ metadata }) => metadata.name === report.name);
      if (node === undefined || node.spec.provider !== agent.provider) continue;
      if (report.code !== "") troubles.push(`${report.name}: ${report.code}: ${report.detail}`);
      const found = withBefore(findingsOf(report, reply.devices), node, names);
      if (!isNews(node, found)) continue;
      await this.#options.write(report.name, found).catch((error: unknown) => {
        troubles.push(`${report.name}: ${error instanceof Error ? error.message : String(error)}`);
      });
    }
    return troubles.join("; ");
  }

  /** Says which nodes' agents have fallen silent, or speak again. */
  #turned(): void {
    const { offers, nodes, onTurned, log } = this.#options;
    const silent = new Set([...offers.silences()].flatMap(([agent, ms]) => (ms > SILENT_MS ? [agent] : [])));
    const turned = [...silent.symmetricDifference(this.#silent)];
    this.#silent = silent;
    if (turned.length === 0) return;
    log("agents-turned", { silent: [...silent], turned });
    onTurned(
      nodes()
        .filter((node) => turned.includes(agentKey(node.spec.provider, machineOfNode(node))))
        .map(({ metadata }) => metadata.name),
    );
  }
}

/** Agents and nodes as they are at one tick: grouped once, for all looks that begin then. */
class Survey {
  readonly names: ReadonlySet<string>;
  readonly #byAgent: ReadonlyMap<string, readonly ShardNode[]>;
  readonly #byMachine: ReadonlyMap<string, readonly ShardNode[]>;
  readonly #agents: readonly AgentPod[]; // by machine

  constructor(agents: readonly AgentPod[], nodes: readonly ShardNode[]) {
    this.names = new Set(nodes.map(({ metadata }) => metadata.name));
    this.#byAgent = Map.groupBy(nodes, (node) => agentKey(node.spec.provider, machineOfNode(node)));
    this.#byMachine = Map.groupBy(nodes, machineOfNode);
    this.#agents = agents.toSorted((a, b) => (a.machine < b.machine ? -1 : 1));
  }

  nodesOn(machine: string): readonly ShardNode[] {
    return this.#byMachine.get(machine) ?? [];
  }

  peersOf(own: AgentPod): Peer[] {
    const at = Math.max(
      0,
      this.#agents.findIndex(({ name }) => name === own.name),
    );
    // From our own place on, and round: with more than there is time for, no two agents all measure the same few.
    const around = [...this.#agents.slice(at, at + PEER_COUNT_MAX), ...this.#agents.slice(0, at)];
    return around.slice(0, PEER_COUNT_MAX).flatMap((agent) => {
      const nodes = (this.#byAgent.get(agentKey(agent.provider, agent.machine)) ?? []).map(
        ({ metadata }) => metadata.name,
      );
      const isOwn = agent.name === own.name;
      if (agent.address === undefined || nodes.length === 0 || (isOwn && nodes.length === 1)) return [];
      return [{ address: agent.address, nodes }];
    });
  }
}
