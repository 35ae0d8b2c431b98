/**
 * Who a certificate says its holder is. One URI in the subject alternative name, checked against the plan: a rank talks
 * only to the ranks of its own chain, to gateways, to the operator and to auditors; about the bytes of the model's files
 * also to the ranks of its other chains.
 */
import { type Result, ok, refuse } from "./result.ts";

export type Identity =
  | { readonly kind: "operator" | "gateway" | "ledger" | "agent"; readonly name: string }
  | { readonly kind: "rank"; readonly name: string };

const PATTERN = /^spiffe:\/\/tessellate\.dev\/(operator|gateway|ledger|agent|rank)\/([a-z0-9]([-a-z0-9./]*[a-z0-9])?)$/;

/** `spiffe://tessellate.dev/rank/default/assistant-0-1-0`; a rank's name is `<namespace>/<model>-<chain>-<segment>-<rank>`. */
export const identityUri = (identity: Identity): string => `spiffe://tessellate.dev/${identity.kind}/${identity.name}`;

/** Exact match of the whole URI; anything else is refused as `UnknownIdentity`. */
export function parseIdentity(uri: string): Result<Identity, "UnknownIdentity"> {
  const found = PATTERN.exec(uri);
  const kind = found?.[1];
  const name = found?.[2];
  if (name === undefined)
    return refuse("UnknownIdentity", `certificate names ${JSON.stringify(uri)}, which is no tessellate identity`);
  if (isKind(kind)) return ok({ kind, name });
  return refuse("UnknownIdentity", `certificate names the unknown kind ${JSON.stringify(kind)}`);
}

const KINDS: readonly Identity["kind"][] = ["operator", "gateway", "ledger", "agent", "rank"];
const isKind = (text: string | undefined): text is Identity["kind"] => KINDS.some((kind) => kind === text);

/** One authority is one installation, with one operator, one ledger and any number of gateways that are all alike. */
export const OPERATOR: Identity = { kind: "operator", name: "operator" };
export const GATEWAY: Identity = { kind: "gateway", name: "gateway" };
export const LEDGER: Identity = { kind: "ledger", name: "ledger" };
/** Node agents are all alike to each other: what a provider says is signed with its key, not with this certificate. */
export const AGENT: Identity = { kind: "agent", name: "agent" };

const NODE_SUFFIX = ".node.tessellate";

/** A name in a rank's certificate, beside its URI: the ShardNode that it runs on, which the node's agent signs for. */
export const nodeDnsName = (node: string): string => `${node}${NODE_SUFFIX}`;

/** The ShardNode in a certificate's alternative names as Node prints them; undefined where there is none, or several. */
export function nodeIn(alternativeNames: string | undefined): string | undefined {
  if (alternativeNames === undefined || alternativeNames.includes('"')) return undefined;
  const names = alternativeNames.split(", ").filter((name) => name.startsWith("DNS:") && name.endsWith(NODE_SUFFIX));
  return names.length === 1 ? names[0]?.slice("DNS:".length, -NODE_SUFFIX.length) : undefined;
}
