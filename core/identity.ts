/**
 * Who a certificate says its holder is. One URI in the subject alternative name, checked against the plan: a rank talks
 * only to the ranks of its own chain, to gateways, to the operator and to auditors; about the bytes of the model's files
 * also to the ranks of its other chains.
 */
import { type Result, ok, refuse } from "./result.ts";

export type Identity =
  | { readonly kind: "operator" | "gateway" | "ledger"; readonly name: string }
  | { readonly kind: "rank"; readonly name: string };

const PATTERN = /^spiffe:\/\/tessellate\.dev\/(operator|gateway|ledger|rank)\/([a-z0-9]([-a-z0-9./]*[a-z0-9])?)$/;

/** `spiffe://tessellate.dev/rank/default/assistant-0-1-0`; a rank's name is `<namespace>/<model>-<chain>-<segment>-<rank>`. */
export const identityUri = (identity: Identity): string => `spiffe://tessellate.dev/${identity.kind}/${identity.name}`;

/** Exact match of the whole URI; anything else is refused as `UnknownIdentity`. */
export function parseIdentity(uri: string): Result<Identity, "UnknownIdentity"> {
  const found = PATTERN.exec(uri);
  const kind = found?.[1];
  const name = found?.[2];
  if (name === undefined)
    return refuse("UnknownIdentity", `certificate names ${JSON.stringify(uri)}, which is no tessellate identity`);
  if (kind === "operator" || kind === "gateway" || kind === "ledger" || kind === "rank") return ok({ kind, name });
  return refuse("UnknownIdentity", `certificate names the unknown kind ${JSON.stringify(kind)}`);
}

/** One authority is one installation, with one operator, one ledger and any number of gateways that are all alike. */
export const OPERATOR: Identity = { kind: "operator", name: "operator" };
export const GATEWAY: Identity = { kind: "gateway", name: "gateway" };
export const LEDGER: Identity = { kind: "ledger", name: "ledger" };
