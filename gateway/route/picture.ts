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

/** What a chain holds where that is another revision than its model's: while one is rolled out, chains of two stand. */
export type Form = Pick<ModelFacts, "root" | "layerCount" | "contextLength" | "handOffDtype"> & {
  readonly revision: string;
};

export type ChainFacts = {
  readonly index: number;
  readonly ready: boolean; // every rank of it is Ready
  readonly draining?: true; // takes no new session
  readonly unproven?: true; // takes no session before a probe has gone through it
  readonly form?: Form; // left out: the model's
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
  readonly slotCount: number; // sessions of one chain; 0: not told
  readonly asleep: boolean; // its ranks are gone, or go once no session runs
  readonly wakeTimeoutMs: number; // how long a request waits for it to wake; 0: no request wakes it
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
    modelOn(model, chain).root,
    ...chain.segments.flatMap((segment) => segment.ranks.map((rank) => `${rank.name}@${rank.address}`)),
  ].join(" ");

/** The model as one of its chains holds it. */
export const modelOn = (model: ModelFacts, { form }: ChainFacts): ModelFacts => {
  if (form === undefined) return model;
  const { root, layerCount, contextLength, handOffDtype } = form;
  return { ...model, root, layerCount, contextLength, handOffDtype };
};

/** Every form that the model is held in: by its name alone, and by each chain. */
export const formsOf = (model: ModelFacts): readonly ModelFacts[] => [
  model,
  ...model.chains.map((chain) => modelOn(model, chain)),
];

/** Chains that sessions may run on. */
export const readyChains = (model: ModelFacts): readonly ChainFacts[] =>
  model.chains.filter((chain) => chain.ready && chain.unproven === undefined);

/** Chains that new sessions may begin on; of a model that sleeps, those that are there still drain. */
export const openChains = (model: ModelFacts): readonly ChainFacts[] =>
  readyChains(model).filter((chain) => chain.draining === undefined);

/** What a session needs of its chain. */
export type Fit = {
  readonly root: string; // whose tokenizer made its prompt
  readonly positionCount: number; // prompt and answer together
  readonly begun?: { readonly revision: string }; // its answer has begun, on a chain of this revision
};

export const revisionOn = ({ form }: ChainFacts): string => form?.revision ?? "";

/**
 * Chains that may take a session, all equally good. One that has begun goes on with the weights it began with wherever
 * such a chain is left, be it one that drains: other weights would go on with other words. Else any of the same
 * checkpoint will do, since its tokens mean the same there.
 */
export function chainsFor(model: ModelFacts, { root, positionCount, begun }: Fit): readonly ChainFacts[] {
  const fitting = readyChains(model).filter((chain) => {
    const held = modelOn(model, chain);
    return held.root === root && positionCount <= held.contextLength;
  });
  const open = fitting.filter((chain) => chain.draining === undefined);
  if (begun !== undefined) {
    const kin = fitting.filter((chain) => revisionOn(chain) === begun.revision);
    const openKin = kin.filter((chain) => chain.draining === undefined);
    return [openKin, kin, open].find((chains) => chains.length > 0) ?? fitting;
  }
  // A request that was made ready for chains that have begun to drain meanwhile fits nowhere else. Where all drain,
  // requests wait for what comes after: else the last chain would never be done.
  return open.length > 0 || openChains(model).length === 0 ? open : fitting;
}

/** Whether a chain of the model, ready or not, could take such a session. */
export const mayFit = (model: ModelFacts, { root, positionCount }: Fit): boolean =>
  formsOf(model).some((held) => held.root === root && positionCount <= held.contextLength);

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
