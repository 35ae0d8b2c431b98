/**
 * What the operator told this gateway last: models, their chains, who owns what. Plain data; the gateway serves from it
 * for as long as nobody tells it anything newer, so an absent operator stops nothing.
 */
import { type Result, ok, refuse } from "../../core/result.ts";
import type { ChainSegment } from "../session/types.ts";

/** What the plan says a rank holds; a receipt that says otherwise is rejected. */
export type RankFacts = {
  readonly name: string;
  readonly provider: string;
  readonly node: string;
  readonly layers: { readonly start: number; readonly end: number };
  readonly rankIndex: number;
  readonly rankCount: number;
  readonly shareMillionths: bigint; // of its segment's work
};

export type ChainFacts = {
  readonly index: number;
  readonly ready: boolean; // every rank of it is Ready
  readonly segments: readonly ChainSegment[];
  readonly ranks: readonly RankFacts[]; // segments in order, ranks in order
};

export type ModelFacts = {
  readonly namespace: string;
  readonly name: string; // what clients put into "model"
  readonly root: string; // sha256:… of the manifest
  readonly layerCount: number;
  readonly contextLength: number; // positions a session may take
  readonly pricePerMillionTokens: bigint; // micro-credits
  readonly epochSeconds: number;
  readonly handOffDtype: "f32" | "f16";
  readonly maxQueue: number; // requests that may wait for a slot
  readonly chains: readonly ChainFacts[];
};

export type ProviderFacts = { readonly name: string; readonly publicKey: string; readonly admitted: boolean };

export type Picture = {
  readonly fence: number; // the operator's lease transitions; only ever grows
  readonly models: readonly ModelFacts[];
  readonly providers: readonly ProviderFacts[];
  readonly ledgerAddress: string; // host:port, "" where there is none
};

/** `<namespace>/<name>`: unique in a picture. */
export const modelKey = (model: { readonly namespace: string; readonly name: string }): string =>
  `${model.namespace}/${model.name}`;

/**
 * The same for as long as the same ranks stand at the same addresses with the same weights: once a rank is replaced,
 * what was learned about the chain (its failures, its fullness) no longer counts.
 */
export const chainKey = (model: ModelFacts, chain: ChainFacts): string =>
  [
    model.root,
    ...chain.segments.flatMap((segment) => segment.ranks.map((rank) => `${rank.name}@${rank.address}`)),
  ].join(" ");

export const readyChains = (model: ModelFacts): readonly ChainFacts[] => model.chains.filter((chain) => chain.ready);

/**
 * The model that a client's "model" names: by its name where only one namespace has it, else by `<namespace>/<name>`.
 * `ModelNotFound` tells what there is, `AmbiguousModel` which full names to choose from.
 */
export function findModel(picture: Picture, asked: string): Result<ModelFacts, "ModelNotFound" | "AmbiguousModel"> {
  const exact = picture.models.find((model) => modelKey(model) === asked);
  if (exact !== undefined) return ok(exact);
  const named = picture.models.filter((model) => model.name === asked);
  const [only] = named;
  if (only !== undefined && named.length === 1) return ok(only);
  if (named.length > 1) {
    return refuse(
      "AmbiguousModel",
      `the name ${JSON.stringify(asked)} is in ${named.length} namespaces; ask for ${named.map(modelKey).join(" or ")}`,
    );
  }
  const names = picture.models.slice(0, 10).map((model) => model.name);
  const known = names.length === 0 ? "this gateway serves no model yet" : `this gateway serves ${names.join(", ")}`;
  return refuse("ModelNotFound", `the model ${JSON.stringify(asked.slice(0, 100))} does not exist; ${known}`);
}
