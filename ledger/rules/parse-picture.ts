/** The operator's State, narrowed to a Picture. The operator is trusted, and still a field that is not as agreed is refused. */
import { DIGEST_FORM, NAME_FORM, bigintOf, fits, integerOf, misfit, strictly, textOf } from "../../core/fields.ts";
import type { Model__Output } from "../../core/gen/proto/tessellate/control/v1/Model.ts";
import type { RankFacts__Output } from "../../core/gen/proto/tessellate/control/v1/RankFacts.ts";
import type { State__Output } from "../../core/gen/proto/tessellate/control/v1/State.ts";
import { parsePublicKey } from "../../core/keys.ts";
import { type Result, refuse } from "../../core/result.ts";
import { WHOLE_SHARE_MILLIONTHS } from "../../core/statement.ts";
import type { Kind, ModelFact, Picture, RankFact } from "./facts.ts";

const PRICE_MAX = 10n ** 18n;
const LAYERS_MAX = 4096;
const SECONDS_MAX = 2 ** 31 - 1;

/** `BadRequest` with the path of the field that does not fit. */
export function parsePicture(state: State__Output): Result<Picture, "BadRequest"> {
  const picture = strictly((): Picture => {
    const models = state.models.flatMap((model, index) =>
      formsOf(model).map((held) => readModel(held, `models[${index}]`)),
    );
    const named = new Set(models.map((model) => model.name));
    if (named.size !== state.models.length) misfit("models", "has the same namespace and name twice");
    return {
      fence: state.fence,
      providers: state.providers.map((provider, index) => ({
        ...readHolder(provider, `providers[${index}]`),
        admitted: provider.admitted,
      })),
      gateways: state.gateways.map((gateway, index) => readHolder(gateway, `gateways[${index}]`)),
      models,
      ranks: state.models.flatMap((model, index) =>
        model.chains.flatMap((chain, at) =>
          chain.ranks.map((rank, place) =>
            readRank(rank, heldOn(model, chain), `models[${index}].chains[${at}].ranks[${place}]`),
          ),
        ),
      ),
    };
  });
  return picture.ok ? picture : refuse("BadRequest", picture.detail);
}

type Held = Pick<Model__Output, "modelRoot" | "layerCount">;

/** The model as a chain holds it: of the revision before, or the next, while one is rolled out. */
const heldOn = <M extends Held>(model: M, { form = null }: { readonly form?: Held | null }): M =>
  form === null ? model : { ...model, modelRoot: form.modelRoot, layerCount: form.layerCount };

const formsOf = (model: Model__Output): readonly Model__Output[] => {
  const all = [model, ...model.chains.map((chain) => heldOn(model, chain))];
  const kinds = all.map(({ modelRoot, layerCount }) => `${modelRoot} ${layerCount}`);
  return all.filter((_, index) => kinds.indexOf(kinds[index] ?? "") === index);
};

function readHolder(
  holder: { readonly name: string; readonly publicKey: string },
  path: string,
): { readonly name: string; readonly publicKey: string } {
  const name = textOf(holder.name, `${path}.name`, NAME_FORM);
  return { name, publicKey: fits(parsePublicKey(holder.publicKey, name), `${path}.publicKey`).spki };
}

function readModel(model: Model__Output, path: string): ModelFact {
  return {
    name: fullNameOf(model, path),
    root: textOf(model.modelRoot, `${path}.modelRoot`, DIGEST_FORM),
    layerCount: integerOf(model.layerCount, `${path}.layerCount`, 1, LAYERS_MAX),
    price: bigintOf(
      model.priceMicroCreditsPerMillionTokens || "0",
      `${path}.priceMicroCreditsPerMillionTokens`,
      PRICE_MAX,
    ),
    epochSeconds: integerOf(model.epochSeconds, `${path}.epochSeconds`, 1, SECONDS_MAX),
  };
}

function readRank(rank: RankFacts__Output, model: Model__Output, path: string): RankFact {
  const rankCount = integerOf(rank.rankCount, `${path}.rankCount`, 1, LAYERS_MAX);
  const { layers } = rank;
  if (layers === null || layers.start >= layers.end)
    misfit(`${path}.layers`, "must be [start, end) with start below end");
  return {
    name: textOf(rank.name, `${path}.name`, NAME_FORM),
    model: fullNameOf(model, path),
    root: model.modelRoot,
    provider: textOf(rank.provider, `${path}.provider`, NAME_FORM),
    node: textOf(rank.node, `${path}.node`, NAME_FORM),
    layers: { start: layers.start, end: layers.end },
    rankIndex: integerOf(rank.rankIndex, `${path}.rankIndex`, 0, rankCount - 1),
    rankCount,
    shareMillionths: bigintOf(rank.shareMillionths, `${path}.shareMillionths`, WHOLE_SHARE_MILLIONTHS),
  };
}

const fullNameOf = (model: Model__Output, path: string): string =>
  `${textOf(model.namespace, `${path}.namespace`, NAME_FORM)}/${textOf(model.name, `${path}.name`, NAME_FORM)}`;

/** A stored fact, from the text that {@link bodyOf} made. Throws where the store holds something else: that is weather, not input. */
export function readBody(kind: Kind, body: string): unknown {
  const fact: unknown = JSON.parse(body);
  if (kind === "models") return reviveBigint(fact, "price");
  if (kind === "ranks") return reviveBigint(fact, "shareMillionths");
  return fact;
}

function reviveBigint(fact: unknown, field: string): unknown {
  if (typeof fact !== "object" || fact === null) return fact;
  const text: unknown = Reflect.get(fact, field);
  return typeof text === "string" ? { ...fact, [field]: BigInt(text) } : fact;
}
