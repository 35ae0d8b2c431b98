/**
 * Whether a ShardNode counts: its provider has signed that it offers it, and its agent, where the chart runs one, answers.
 * One that does not count gets no new shard. Nothing is taken from it for that alone: what it holds goes on, as on a
 * machine that merely is not ready.
 */
import type { Provider } from "../../core/gen/crds/provider.ts";
import type { ShardNode } from "../../core/gen/crds/shardnode.ts";
import { parsePublicKey } from "../../core/keys.ts";
import { type OfferCode, checkOffer } from "../../core/offer.ts";
import { type Refusal, type Result, ok, refuse } from "../../core/result.ts";
import type { WallClock } from "../clock.ts";

export type OffersOptions = {
  readonly clock: WallClock;
  /** A node counts only when its provider has signed for it. */
  readonly required?: boolean | undefined;
  /** Of ranks on nodes that name none: `mtls:HOST:PORT` of the chart's node agents. */
  readonly signer?: string | undefined;
};

export type NodeCode = OfferCode | "NotSigned" | "AgentSilent";

/** An agent that has not answered for this long; three looks and some. */
export const SILENT_MS = 60_000;

export const machineOfNode = ({ metadata, spec }: ShardNode): string => spec.nodeName ?? metadata.name;

export class Offers {
  readonly signer: string | undefined;
  readonly #clock: WallClock;
  readonly #required: boolean;
  /** This installation, once it leads: see installationOf. */
  installation: string | undefined;
  readonly #heardAtMs = new Map<string, number>(); // by provider and machine: see agentKey
  readonly #checked = new Map<string, { readonly text: string; readonly until: string }>(); // by node

  constructor({ clock, required = false, signer }: OffersOptions) {
    this.#clock = clock;
    this.#required = required;
    this.signer = signer;
  }

  /** An agent answered, or is expected to from now on. */
  heard(agent: string): void {
    this.#heardAtMs.set(agent, this.#clock.monotonicMs());
  }

  expect(agents: ReadonlySet<string>): void {
    for (const agent of agents) if (!this.#heardAtMs.has(agent)) this.heard(agent);
    for (const agent of this.#heardAtMs.keys()) if (!agents.has(agent)) this.#heardAtMs.delete(agent);
  }

  /** Milliseconds since every agent that is expected answered last, by provider and machine. */
  silences(): ReadonlyMap<string, number> {
    const nowMs = this.#clock.monotonicMs();
    return new Map([...this.#heardAtMs].map(([agent, atMs]) => [agent, nowMs - atMs]));
  }

  /** Why the node does not count, or undefined where it does. `provider` is its own. */
  whyNot(node: ShardNode, provider: Provider | undefined): Refusal<NodeCode> | undefined {
    const name = node.metadata.name;
    const atMs = this.#heardAtMs.get(agentKey(node.spec.provider, machineOfNode(node)));
    if (atMs !== undefined && this.#clock.monotonicMs() - atMs > SILENT_MS)
      return refuse("AgentSilent", `the node agent on ${machineOfNode(node)} does not answer: look at its pod's log`);
    if (!this.#required || this.installation === undefined) return undefined;
    const checked = this.#check(node, provider, this.installation);
    if (checked.ok) return undefined;
    const remedy = `have ${node.spec.provider}'s node agent run on ${machineOfNode(node)}, or use \`tessellate node offer\``;
    return refuse(checked.code, `${checked.detail}: ${remedy} for ${name}`);
  }

  #check(
    node: ShardNode,
    provider: Provider | undefined,
    installation: string,
  ): Result<undefined, OfferCode | "NotSigned"> {
    const text = node.status?.offer;
    const { name } = node.metadata;
    const spki = provider?.spec.publicKey;
    if (text === undefined || spki === undefined)
      return refuse("NotSigned", `Provider ${node.spec.provider} has not signed that it offers this node`);
    const machine = machineOfNode(node);
    const now = new Date(this.#clock.wallMs()).toISOString();
    const all = [text, spki, machine, node.spec.provider, installation].join(" ");
    const known = this.#checked.get(name);
    if (known?.text === all && known.until > now) return ok(undefined); // a signature's check is 0.1 ms, of many nodes at every look
    const key = parsePublicKey(spki, `provider ${node.spec.provider}`);
    if (!key.ok) return refuse("NotSigned", key.detail);
    const offer = checkOffer(text, key.value, { provider: node.spec.provider, node: name, machine, installation }, now);
    if (!offer.ok) return offer;
    this.#checked.set(name, { text: all, until: offer.value.validUntil });
    return ok(undefined);
  }
}

/** By what an agent is known: a machine may be of two providers' in turn, and a provider has many. */
export const agentKey = (provider: string, machine: string): string => `${provider} ${machine}`;
