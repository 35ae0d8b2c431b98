/**
 * What the ledger knows about who holds what, and since when. The operator says what is; the ledger keeps what was, so
 * that a receipt is judged by the plan under which its session ran and not by the one that replaced it since.
 */
import type { Range } from "../../core/ranges.ts";

export type ProviderFact = { readonly name: string; readonly publicKey: string; readonly admitted: boolean };
export type GatewayFact = { readonly name: string; readonly publicKey: string };
export type ModelFact = {
  readonly name: string; // <namespace>/<name>
  readonly root: string; // sha256:…
  readonly layerCount: number;
  readonly price: bigint; // micro-credits per million tokens
  readonly epochSeconds: number;
};
export type RankFact = {
  readonly name: string; // <namespace>/<model>-<chain>-<segment>-<rank>
  readonly model: string; // <namespace>/<name>
  readonly root: string;
  readonly provider: string;
  readonly node: string;
  readonly layers: Range;
  readonly rankIndex: number;
  readonly rankCount: number;
  readonly shareMillionths: bigint;
};

/** One whole telling of the operator. */
export type Picture = {
  readonly fence: number; // how often the operator's lease changed hands
  readonly providers: readonly ProviderFact[];
  readonly gateways: readonly GatewayFact[];
  readonly models: readonly ModelFact[];
  readonly ranks: readonly RankFact[];
};

/** A fact and the time for which it stood in the operator's picture; Unix seconds. */
export type Sighting<T> = { readonly fact: T; readonly firstSeconds: number; readonly goneSeconds: number | undefined };

/** Everything ever told, by name. */
export type Facts = {
  readonly providers: readonly Sighting<ProviderFact>[];
  readonly gateways: readonly Sighting<GatewayFact>[];
  readonly models: readonly Sighting<ModelFact>[];
  readonly ranks: readonly Sighting<RankFact>[];
};

export const KINDS = ["providers", "gateways", "models", "ranks"] as const;
export type Kind = (typeof KINDS)[number];

export const NO_FACTS: Facts = { providers: [], gateways: [], models: [], ranks: [] };

/** How far the clocks and the tellings of operator, gateways and ledger may lie apart. */
export const SLACK_SECONDS = 300;

export type Period = { readonly startSeconds: number; readonly endSeconds: number };

/** The half-open time of an epoch. */
export const periodOf = (epoch: number, epochSeconds: number): Period => ({
  startSeconds: epoch * epochSeconds,
  endSeconds: (epoch + 1) * epochSeconds,
});

/** The facts that stood at some time of the period, give or take the slack. */
export function during<T>(sightings: readonly Sighting<T>[], period: Period): readonly T[] {
  return sightings
    .filter(({ firstSeconds, goneSeconds }) => {
      const begun = firstSeconds - SLACK_SECONDS < period.endSeconds;
      return begun && (goneSeconds === undefined || goneSeconds + SLACK_SECONDS > period.startSeconds);
    })
    .map(({ fact }) => fact);
}

/** What a picture changes: sightings that begin and sightings that end. */
export type Change = {
  readonly kind: Kind;
  readonly body: string;
  readonly seconds: number;
  readonly what: "begins" | "ends";
};

/** The facts after a picture was told at `seconds`, and the changes to write down. The same picture again changes nothing. */
export function absorb(
  facts: Facts,
  picture: Picture,
  seconds: number,
): { readonly facts: Facts; readonly changes: readonly Change[] } {
  const changes: Change[] = [];
  const merged = <T>(kind: Kind, known: readonly Sighting<T>[], told: readonly T[]): readonly Sighting<T>[] => {
    const now = new Map(told.map((fact) => [bodyOf(fact), fact]));
    const kept = known.map((sighting) => {
      const body = bodyOf(sighting.fact);
      if (sighting.goneSeconds !== undefined || now.delete(body)) return sighting;
      changes.push({ kind, body, seconds, what: "ends" });
      return { ...sighting, goneSeconds: seconds };
    });
    const begun = [...now].map(([body, fact]) => {
      changes.push({ kind, body, seconds, what: "begins" });
      return { fact, firstSeconds: seconds, goneSeconds: undefined };
    });
    return [...kept, ...begun];
  };
  const after = {
    providers: merged("providers", facts.providers, picture.providers),
    gateways: merged("gateways", facts.gateways, picture.gateways),
    models: merged("models", facts.models, picture.models),
    ranks: merged("ranks", facts.ranks, picture.ranks),
  };
  return { facts: after, changes };
}

/** A fact as one line of text, the same for the same fact. */
export const bodyOf = (fact: unknown): string =>
  JSON.stringify(fact, (_, value: unknown) => (typeof value === "bigint" ? value.toString() : value));
