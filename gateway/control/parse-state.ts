/** The operator's State, narrowed to a Picture. The operator is trusted, and still a field that is not as agreed is refused. */
import type { Chain__Output } from "../../core/gen/proto/tessellate/control/v1/Chain.ts";
import type { Form__Output } from "../../core/gen/proto/tessellate/control/v1/Form.ts";
import type { Model__Output } from "../../core/gen/proto/tessellate/control/v1/Model.ts";
import type { RankFacts__Output } from "../../core/gen/proto/tessellate/control/v1/RankFacts.ts";
import type { State__Output } from "../../core/gen/proto/tessellate/control/v1/State.ts";
import type { SegmentRoute__Output } from "../../core/gen/proto/tessellate/shard/v1/SegmentRoute.ts";
import { DIGEST_FORM, NAME_FORM, bigintOf, fits, integerOf, misfit, strictly, textOf } from "../../core/fields.ts";
import { parsePublicKey } from "../../core/keys.ts";
import { type Result, refuse } from "../../core/result.ts";
import {
  type ChainFacts,
  type Form,
  type ModelFacts,
  type Picture,
  type RankFacts,
  modelKey,
} from "../route/picture.ts";
import type { ChainSegment } from "../session/types.ts";

const PRICE_MAX = 10n ** 18n;
const POSITIONS_MAX = 2 ** 31 - 1;
const WAKE_SECONDS_MAX = 86_400;
const WHOLE_SHARE = 1_000_000n;

/** `BadRequest` with the path of the field that does not fit. */
export function parseState(state: State__Output): Result<Picture, "BadRequest"> {
  const picture = strictly((): Picture => {
    const models = state.models.map((model, index) => readModel(model, `models[${index}]`));
    const twice = models.find(
      (model, index) => models.findIndex((other) => modelKey(other) === modelKey(model)) !== index,
    );
    if (twice !== undefined) misfit("models", `has ${modelKey(twice)} twice`);
    const providers = state.providers.map((provider, index) => {
      const path = `providers[${index}]`;
      const name = textOf(provider.name, `${path}.name`, NAME_FORM);
      return {
        name,
        publicKey: fits(parsePublicKey(provider.publicKey, `provider ${name}`), `${path}.publicKey`).spki,
        admitted: provider.admitted,
      };
    });
    return { fence: state.fence, models, providers, ledgerAddress: state.ledgerAddress };
  });
  return picture.ok ? picture : refuse("BadRequest", picture.detail);
}

type Held = Pick<Form__Output, "modelRoot" | "layerCount" | "contextLength" | "handOffDtype">;

function readHeld(held: Held, path: string): Omit<Form, "revision"> {
  const dtype = held.handOffDtype;
  if (dtype !== "f32" && dtype !== "f16")
    misfit(`${path}.handOffDtype`, `must be f32 or f16, not ${JSON.stringify(dtype)}`);
  return {
    root: textOf(held.modelRoot, `${path}.modelRoot`, DIGEST_FORM),
    layerCount: integerOf(held.layerCount, `${path}.layerCount`, 1, 4096),
    contextLength: integerOf(held.contextLength, `${path}.contextLength`, 2, POSITIONS_MAX),
    handOffDtype: dtype,
  };
}

function readModel(model: Model__Output, path: string): ModelFacts {
  return {
    namespace: textOf(model.namespace, `${path}.namespace`, NAME_FORM),
    name: textOf(model.name, `${path}.name`, NAME_FORM),
    ...readHeld(model, path),
    pricePerMillionTokens: bigintOf(
      model.priceMicroCreditsPerMillionTokens || "0",
      `${path}.priceMicroCreditsPerMillionTokens`,
      PRICE_MAX,
    ),
    epochSeconds: integerOf(model.epochSeconds, `${path}.epochSeconds`, 1, POSITIONS_MAX),
    maxQueue: integerOf(model.maxQueue, `${path}.maxQueue`, 0, 1_000_000),
    // A picture kept on disk by an older gateway lacks these.
    slotCount: integerOf(model.slotCount ?? 0, `${path}.slotCount`, 0, 1_000_000),
    asleep: model.asleep === true,
    wakeTimeoutMs: 1000 * integerOf(model.wakeTimeoutSeconds ?? 0, `${path}.wakeTimeoutSeconds`, 0, WAKE_SECONDS_MAX),
    chains: model.chains
      .map((chain, index) => readChain(chain, `${path}.chains[${index}]`))
      .map((chain) => (model.asleep ? { ...chain, draining: true } : chain)),
  };
}

function readChain(chain: Chain__Output, path: string): ChainFacts {
  const segments = chain.segments.map((segment, index) => readSegment(segment, `${path}.segments[${index}]`));
  const ranks = chain.ranks.map((rank, index) => readRank(rank, `${path}.ranks[${index}]`));
  const routed = segments.flatMap((segment) => segment.ranks.map((rank) => rank.name));
  if (chain.ready && (routed.length === 0 || routed.join() !== ranks.map((rank) => rank.name).join())) {
    misfit(`${path}.ranks`, "must be the ranks of the segments, in order, for a chain that is ready");
  }
  // A picture that an older version left on disk has none of these fields.
  const { form = null } = chain;
  return {
    index: chain.index,
    ready: chain.ready,
    ...(chain.draining ? { draining: true } : {}),
    ...(chain.unproven ? { unproven: true } : {}),
    ...(form === null ? {} : { form: { ...readHeld(form, `${path}.form`), revision: form.revision } }),
    segments,
    ranks,
  };
}

function readSegment(segment: SegmentRoute__Output, path: string): ChainSegment {
  return {
    layers: readLayers(segment.layers, `${path}.layers`),
    ranks: segment.ranks.map((rank, index) => ({
      name: textOf(rank.name, `${path}.ranks[${index}].name`, NAME_FORM),
      address: textOf(rank.address, `${path}.ranks[${index}].address`),
      provider: textOf(rank.provider, `${path}.ranks[${index}].provider`, NAME_FORM),
      node: textOf(rank.node, `${path}.ranks[${index}].node`, NAME_FORM),
    })),
  };
}

function readRank(rank: RankFacts__Output, path: string): RankFacts {
  const rankCount = integerOf(rank.rankCount, `${path}.rankCount`, 1, 1024);
  return {
    name: textOf(rank.name, `${path}.name`, NAME_FORM),
    provider: textOf(rank.provider, `${path}.provider`, NAME_FORM),
    node: textOf(rank.node, `${path}.node`, NAME_FORM),
    layers: readLayers(rank.layers, `${path}.layers`),
    rankIndex: integerOf(rank.rankIndex, `${path}.rankIndex`, 0, rankCount - 1),
    rankCount,
    shareMillionths: bigintOf(rank.shareMillionths, `${path}.shareMillionths`, WHOLE_SHARE),
  };
}

function readLayers(
  layers: { readonly start: number; readonly end: number } | null,
  path: string,
): { readonly start: number; readonly end: number } {
  if (layers === null || layers.start >= layers.end)
    misfit(path, `must be [start, end) with start below end, not ${JSON.stringify(layers)}`);
  return { start: layers.start, end: layers.end };
}
