/** For tests: what the operator would have told about sessions of core/session-fixture.ts. */
import type { State__Output } from "../../core/gen/proto/tessellate/control/v1/State.ts";
import { THREE_PROVIDERS, type SegmentFixture, ROOT, keyNamed } from "../../core/session-fixture.ts";
import { type Facts, NO_FACTS, type Picture, absorb } from "./facts.ts";

export const EPOCH_SECONDS = 3600;
/** In the middle of epoch 411. */
export const NOW_SECONDS = 411 * EPOCH_SECONDS + 1800;

export type PictureOptions = {
  readonly fence?: number;
  readonly model?: string;
  readonly price?: bigint;
  readonly segments?: readonly SegmentFixture[];
  readonly notAdmitted?: readonly string[];
  readonly gateways?: readonly string[];
  readonly epochSeconds?: number;
};

export function aPicture(options: PictureOptions = {}): Picture {
  const {
    model = "default/assistant",
    segments = THREE_PROVIDERS,
    gateways = ["gateway-0"],
    notAdmitted = [],
  } = options;
  const providers = [...new Set(segments.flatMap(({ ranks }) => ranks.map(({ provider }) => provider)))];
  return {
    fence: options.fence ?? 1,
    providers: providers.map((name) => ({
      name,
      publicKey: keyNamed(`provider/${name}`).publicKey.spki,
      admitted: !notAdmitted.includes(name),
    })),
    gateways: gateways.map((name) => ({ name, publicKey: keyNamed(`gateway/${name}`).publicKey.spki })),
    models: [
      {
        name: model,
        root: ROOT,
        layerCount: segments.at(-1)?.layers[1] ?? 0,
        price: options.price ?? 150_000n,
        epochSeconds: options.epochSeconds ?? EPOCH_SECONDS,
      },
    ],
    ranks: segments.flatMap(({ layers, ranks }, segment) =>
      ranks.map(({ provider, shareMillionths }, rankIndex) => ({
        name: `${model}-0-${segment}-${rankIndex}`,
        model,
        root: ROOT,
        provider,
        node: `${provider}-1`,
        layers: { start: layers[0], end: layers[1] },
        rankIndex,
        rankCount: ranks.length,
        shareMillionths: shareMillionths ?? 1_000_000n / BigInt(ranks.length),
      })),
    ),
  };
}

/** The facts after these pictures were told, each at its time. */
export const factsOf = (...told: readonly (readonly [number, Picture])[]): Facts =>
  told.reduce((facts, [seconds, picture]) => absorb(facts, picture, seconds).facts, NO_FACTS);

/** The same picture as the operator's message. */
export function stateOf(picture: Picture): State__Output {
  return {
    fence: picture.fence,
    ledgerAddress: "",
    providers: picture.providers.map((provider) => ({ ...provider })),
    gateways: picture.gateways.map((gateway) => ({ ...gateway })),
    models: picture.models.map(({ name, root, layerCount, price, epochSeconds }) => ({
      name: name.slice(name.indexOf("/") + 1),
      namespace: name.slice(0, name.indexOf("/")),
      modelRoot: root,
      layerCount,
      contextLength: 512,
      priceMicroCreditsPerMillionTokens: price.toString(),
      epochSeconds,
      handOffDtype: "f32",
      maxQueue: 16,
      slotCount: 4,
      asleep: false,
      wakeTimeoutSeconds: 0,
      chains: [
        {
          index: 0,
          ready: true,
          draining: false,
          unproven: false,
          form: null,
          segments: [],
          ranks: picture.ranks
            .filter(({ model }) => model === name)
            .map(({ name: rank, provider, node, layers, rankIndex, rankCount, shareMillionths }) => ({
              name: rank,
              provider,
              node,
              layers: { ...layers },
              rankIndex,
              rankCount,
              shareMillionths: shareMillionths.toString(),
            })),
        },
      ],
    })),
  };
}
