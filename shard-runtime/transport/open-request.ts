/** What an OpenRequest must say for this rank to take the session: its own place in the chain, and no other. */
import type { OpenRequest__Output } from "../../core/gen/proto/tessellate/shard/v1/OpenRequest.ts";
import type { RankRoute__Output } from "../../core/gen/proto/tessellate/shard/v1/RankRoute.ts";
import type { SegmentRoute__Output } from "../../core/gen/proto/tessellate/shard/v1/SegmentRoute.ts";
import { HAND_OFF_DTYPES, type HandOffDtype } from "../../core/rank-config.ts";
import { type Refusal, type Result, ok, refuse } from "../../core/result.ts";
import type { RankFacts } from "./rank-facts.ts";

export type Address = { readonly name: string; readonly address: string }; // host:port

export type SamplerPlan = {
  readonly temperature: number; // 0: greedy
  readonly topP: number; // (0, 1]
  readonly seed: Uint8Array; // 8 bytes
};

/** Everything that stays as it is for the life of a session. */
export type SessionPlan = {
  readonly id: string;
  readonly opener: string; // identity URI of the gateway; nobody else may close it or take its tokens
  readonly nonce: Uint8Array; // 32 bytes
  readonly segmentIndex: number;
  readonly segmentCount: number;
  readonly handOffDtype: HandOffDtype;
  readonly maxPositions: number;
  readonly epoch: number;
  readonly sampler: SamplerPlan | undefined; // the last segment's leader only
  readonly previous: string | undefined; // leader of the segment before; undefined: the gateway hands in
  readonly next: Address | undefined; // leader of the segment after
  readonly group: readonly Address[]; // own segment, in rank order
};

export type OpenCode = "BadRequest" | "ModelMismatch" | "RouteMismatch" | "NotMyNeighbour" | "TooLong";

const SEGMENTS_MAX = 4096;
const SESSION_ID = /^[A-Za-z0-9_-]{1,64}$/;
const ADDRESS = /^(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9.-]+):[0-9]{1,5}$/;

/** The session that a gateway asks for, held to what this rank is. Every refusal names the field. */
export function parseOpen(
  request: OpenRequest__Output,
  opener: string,
  facts: RankFacts,
): Result<SessionPlan, OpenCode> {
  const refused = refusedForm(request, facts) ?? refusedRoute(request, facts);
  if (refused !== undefined) return refused;
  const { chain, segmentIndex, sampler } = request;
  const last = segmentIndex === chain.length - 1;
  const samples = last && facts.rankIndex === 0 && sampler !== null;
  const dtype = HAND_OFF_DTYPES.find((known) => known === request.handOffDtype);
  if (dtype === undefined)
    return refuse(
      "BadRequest",
      `handOffDtype is ${JSON.stringify(request.handOffDtype.slice(0, 20))}, expected one of ${HAND_OFF_DTYPES.join(", ")}`,
    );
  return ok({
    id: request.session,
    opener,
    nonce: new Uint8Array(request.nonce),
    segmentIndex,
    segmentCount: chain.length,
    handOffDtype: dtype,
    maxPositions: request.maxPositions,
    epoch: request.epoch,
    sampler: samples
      ? { temperature: sampler.temperature, topP: sampler.topP, seed: new Uint8Array(sampler.seed) }
      : undefined,
    previous: chain[segmentIndex - 1]?.ranks?.[0]?.name,
    next: addressOf(chain[segmentIndex + 1]?.ranks?.[0]),
    group: (chain[segmentIndex]?.ranks ?? []).map(({ name, address }) => ({ name, address })),
  });
}

/** Two requests for the same session are the same request. */
export const samePlan = (one: SessionPlan, other: SessionPlan): boolean => textOf(one) === textOf(other);

const textOf = (plan: SessionPlan): string =>
  JSON.stringify(plan, (_key, value: unknown) =>
    value instanceof Uint8Array ? Buffer.from(value).toString("hex") : value,
  );

const addressOf = (route: RankRoute__Output | undefined): Address | undefined =>
  route === undefined ? undefined : { name: route.name, address: route.address };

function refusedForm(request: OpenRequest__Output, facts: RankFacts): Refusal<OpenCode> | undefined {
  const bad = (detail: string) => refuse("BadRequest", detail);
  if (!SESSION_ID.test(request.session)) return bad("session must be 1 to 64 letters, digits, '-' or '_'");
  if (request.nonce.length !== 32) return bad(`nonce has ${request.nonce.length} bytes, expected 32`);
  if (request.chain.length < 1 || request.chain.length > SEGMENTS_MAX)
    return bad(`chain has ${request.chain.length} segments`);
  if (request.modelRoot !== facts.model.root)
    return refuse(
      "ModelMismatch",
      `modelRoot is ${request.modelRoot.slice(0, 80)}, this rank holds ${facts.model.root}`,
    );
  if (request.maxPositions < 1) return bad("maxPositions is 0");
  if (request.maxPositions > facts.engine.contextLength)
    return refuse(
      "TooLong",
      `maxPositions is ${request.maxPositions}, a slot has ${facts.engine.contextLength}; shorten the prompt or max_tokens`,
    );
  const samples = request.segmentIndex === request.chain.length - 1 && facts.rankIndex === 0;
  return samples ? refusedSampler(request) : undefined;
}

function refusedSampler({ sampler }: OpenRequest__Output): Refusal<OpenCode> | undefined {
  if (sampler === null) return refuse("BadRequest", "sampler is missing; the last segment samples");
  const { temperature, topP, seed } = sampler;
  if (!(temperature >= 0 && temperature <= 100))
    return refuse("BadRequest", `sampler.temperature is ${temperature}, expected 0 to 100`);
  if (!(topP > 0 && topP <= 1)) return refuse("BadRequest", `sampler.topP is ${topP}, expected above 0, at most 1`);
  if (seed.length !== 8) return refuse("BadRequest", `sampler.seed has ${seed.length} bytes, expected 8`);
  return undefined;
}

function refusedRoute(
  { chain, segmentIndex, rankIndex }: OpenRequest__Output,
  facts: RankFacts,
): Refusal<OpenCode> | undefined {
  const wrong = (detail: string) => refuse("RouteMismatch", detail);
  const own = chain[segmentIndex];
  if (own === undefined) return wrong(`segmentIndex is ${segmentIndex}, the chain has ${chain.length} segments`);
  const unfit = unfitLayers(chain, facts);
  if (unfit !== undefined) return wrong(unfit);
  if (own.layers?.start !== facts.layers.start || own.layers.end !== facts.layers.end)
    return wrong(
      `chain[${segmentIndex}].layers is [${own.layers?.start},${own.layers?.end}), this rank holds [${facts.layers.start},${facts.layers.end})`,
    );
  const me = own.ranks[facts.rankIndex];
  if (own.ranks.length !== facts.rankCount || rankIndex !== facts.rankIndex || me === undefined)
    return wrong(
      `this is rank ${facts.rankIndex} of ${facts.rankCount}, the chain says ${rankIndex} of ${own.ranks.length}`,
    );
  if (me.name !== facts.name || me.provider !== facts.provider || me.node !== facts.node)
    return wrong(
      `the chain says ${me.name} of ${me.provider} on ${me.node}, this is ${facts.name} of ${facts.provider} on ${facts.node}`,
    );
  const beside = [
    chain[segmentIndex - 1]?.ranks[0],
    chain[segmentIndex + 1]?.ranks[0],
    ...own.ranks.filter((rank) => rank !== me),
  ];
  for (const route of beside) {
    if (route === undefined) continue;
    if (!facts.neighbours.has(route.name))
      return refuse("NotMyNeighbour", `${route.name} is none of this rank's neighbours; the plan has moved on`);
    // Attacker: an address is dialled by us; nothing but host:port gets as far as the dialler.
    if (!ADDRESS.test(route.address))
      return refuse(
        "BadRequest",
        `the address of ${route.name} is ${JSON.stringify(route.address.slice(0, 80))}, expected host:port`,
      );
  }
  return undefined;
}

/** Layers must follow on one another from the first to the model's last, with a leader for every segment. */
function unfitLayers(chain: readonly SegmentRoute__Output[], facts: RankFacts): string | undefined {
  let layer = 0;
  for (const [index, { layers, ranks }] of chain.entries()) {
    if (layers === null || layers.start !== layer || layers.end <= layer)
      return `chain[${index}].layers does not go on at layer ${layer}`;
    if (ranks.length === 0) return `chain[${index}].ranks is empty`;
    layer = layers.end;
  }
  return layer === facts.model.layerCount
    ? undefined
    : `the chain ends at layer ${layer}, the model has ${facts.model.layerCount}`;
}
